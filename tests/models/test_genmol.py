"""GenMol: against the BERT of transformers and the byte-pair encoding of tokenizers, on small random weights."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import acceptance
import pytest
import torch
from torch import Tensor

import biotilt
from biotilt.core import needed
from biotilt.errors import BiotiltError, ConfigError
from biotilt.models.convert import convert
from biotilt.models.genmol import GenMol
from biotilt.networks.esm import ESM
from biotilt.processes import Masked
from biotilt.spaces.fragments import PIECE
from biotilt.spaces.safe import Safe

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
Chem = pytest.importorskip("rdkit.Chem")

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
MERGES = [
    ("n", "H"),
    ("[", "nH"),
    ("[nH", "]"),
    ("C", "l"),
    ("%", "1"),
    ("%1", "0"),
    ("@", "@"),
    ("[", "C"),
    ("1", "0"),
]
SIGNS = [*"C(1=2.3cNOS)nFH[]4@%05-#\\/+l8", *("".join(merge) for merge in MERGES)]
VOCABULARY = {piece: number for number, piece in enumerate([*SPECIAL, *SIGNS])}
LENGTH = 14


def tokenizer_file(folder: Path, pieces: list[str] | None = None, merges: bool = True) -> Path:
    """A tokenizer.json as the package safe-mol writes it."""
    table = VOCABULARY if pieces is None else {piece: number for number, piece in enumerate([*SPECIAL, *pieces])}
    single = [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}]
    said = {
        "added_tokens": [{"id": table[token], "content": token, "special": True} for token in SPECIAL],
        "post_processor": {"type": "TemplateProcessing", "single": single},
        "model": {"type": "BPE", "vocab": table, "merges": [" ".join(pair) for pair in MERGES] if merges else []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def bert(size: int = len(VOCABULARY), seed: int = 3) -> Any:
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=32, pad_token_id=3,
    )  # fmt: skip
    net, generator = transformers.BertForMaskedLM(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def checkpoint(net: Any, folder: Path, average: Any = None, config: Any = None) -> Path:
    """What Lightning keeps of GenMol: names, tied weights twice, and moving averages as a list."""
    found: dict[str, Any] = {"state_dict": {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}}
    found["state_dict"]["backbone.bert.embeddings.position_ids"] = torch.arange(32).unsqueeze(0)
    if average is not None:
        found["ema"] = {"decay": 0.9999, "num_updates": 7, "shadow_params": [p.detach() for p in average.parameters()]}
    if config is not None:
        found["hyper_parameters"] = {"config": config}
    torch.save(found, folder / "model.ckpt")
    convert("genmol", folder / "model.ckpt", folder / "genmol.safetensors")
    return folder / "genmol.safetensors"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("biotilt.models.genmol.HEAD", 8)  # three heads of 24 channels
    return lambda net, **options: GenMol(str(checkpoint(net, tokenizer_file(tmp_path))), **options).build()


@torch.no_grad()
def theirs(net: Any, ids: list[int]) -> Tensor:
    """log p of pieces by their network, of tokens with those around them."""
    x = torch.tensor([[1, *ids, 2]])
    logits = net(input_ids=x, attention_mask=torch.ones_like(x)).logits[0, 1:-1]
    return logits[:, len(SPECIAL) :].log_softmax(-1)


def test_letters_are_those_of_transformers(built: Any) -> None:
    net = bert()
    model = built(net, length=LENGTH)
    generator, pieces = torch.Generator().manual_seed(5), len(SIGNS)
    x = torch.randint(pieces, (3, LENGTH), generator=generator)
    x[1, torch.rand(LENGTH, generator=generator) < 0.5] = pieces + 1  # masks come after the pad
    x[2] = pieces + 1
    found = model.policy.net(x, torch.zeros(3)).log_softmax(-1)
    assert found.shape == (3, LENGTH, pieces + 1) and bool((found[..., pieces] < -20).all())
    for row, state in enumerate(x):
        ids = [4 if token > pieces else int(token) + len(SPECIAL) for token in state]
        wanted = theirs(net, ids)
        assert wanted.std() > 0.3
        torch.testing.assert_close(found[row, :, :pieces], wanted, atol=1e-5, rtol=0)
    relaxed = torch.nn.functional.one_hot(x, pieces + 2).float()
    torch.testing.assert_close(model.policy.net(relaxed, torch.zeros(3)).log_softmax(-1), found, atol=1e-5, rtol=1e-5)


def test_shorter_molecules_are_seen_without_what_comes_after(built: Any) -> None:
    net, pieces = bert(), len(SIGNS)
    model = built(net, length=6, shortest=3)
    x = torch.tensor([[2, pieces + 1, 0, pieces + 1, pieces, pieces]])  # of at most four pieces
    found = model.policy.net(x, torch.zeros(1)).softmax(-1)[0]
    wanted = theirs(net, [7, 4, 5, 4]).exp()
    torch.testing.assert_close(found[1, :pieces], wanted[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[3, :pieces], wanted[3] / 2, atol=1e-5, rtol=0)  # of three or four
    states = model.draw(200, seed=1)
    counts = (states != pieces).sum(1).bincount(minlength=7)
    assert int(counts[:3].sum()) == 0 and bool(((counts[3:] - 50).abs() < 25).all())


def test_pieces_are_those_of_the_tokenizer(built: Any, tmp_path: Path) -> None:
    model = built(bert(), length=30)
    space = needed(model.space, Safe)
    whole = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=VOCABULARY, merges=MERGES))
    for text in ("c1c[nH]cc1Cl", "N%10C%10", "[C@@](F)(O)N", "C[nH+]"):
        wanted = [id for piece in PIECE.findall(text) for id in whole.encode(piece).ids]
        found = [VOCABULARY[part] for piece in PIECE.findall(text) for part in space.split(piece)]
        assert found == wanted
    assert space.split("%10") == ["%10"] and space.split("[C@@]") == ["[C", "@@", "]"]
    tokens = space.encode(["Clc1cc[nH]c1"])
    assert space.decode(tokens) == [Chem.CanonSmiles("Clc1cc[nH]c1")]
    assert biotilt.spaces.build_space(json.loads(json.dumps(space.spec()))) == space


def test_the_moving_averages_are_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biotilt.models.genmol.HEAD", 8)
    net, average = bert(), bert(seed=4)
    path = str(checkpoint(net, tokenizer_file(tmp_path), average))
    x = torch.full((1, LENGTH), len(SIGNS) + 1)
    for ema, wanted in ((True, average), (False, net)):
        found = GenMol(path, LENGTH, ema=ema, temperature=2.0).build().policy.net(x, torch.zeros(1)).log_softmax(-1)
        logits = theirs(wanted, [4] * LENGTH) / 2
        torch.testing.assert_close(found[0, :, :-1], logits.log_softmax(-1), atol=1e-5, rtol=0)


def test_what_the_file_says_of_its_network_is_read(tmp_path: Path, omegaconf: Any) -> None:
    settings = {"model": {"num_attention_heads": 4, "layer_norm_eps": 1e-3}, "training": {"use_bracket_safe": False}}
    net = bert()
    path = str(checkpoint(net, tokenizer_file(tmp_path), config=omegaconf(settings)))
    for layer in net.bert.encoder.layer:
        attention = layer.attention.self
        attention.num_attention_heads, attention.attention_head_size, attention.scaling = 4, 6, 6**-0.5
    for module in net.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-3
    model = GenMol(path, LENGTH).build()
    assert needed(model.policy.net, ESM).config.heads == 4
    found = model.policy.net(torch.full((1, LENGTH), len(SIGNS) + 1), torch.zeros(1)).log_softmax(-1)
    torch.testing.assert_close(found[0, :, :-1], theirs(net, [4] * LENGTH), atol=1e-5, rtol=0)
    settings["training"]["use_bracket_safe"] = True
    with pytest.raises(ConfigError, match="is a second version of GenMol"):
        GenMol(str(checkpoint(net, tmp_path, config=omegaconf(settings))), LENGTH).build()


def test_a_large_vocabulary_is_held_in_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biotilt.models.genmol.HEAD", 8)
    words = [*"CNOS", *(f"[{mass}C]" for mass in range(1, 1872))]
    folder = tokenizer_file(tmp_path, words, merges=False)
    path = checkpoint(bert(1880), folder)
    model = GenMol(str(path), 6, process="masked").build().with_process(num_steps=3)
    assert needed(model.policy.process, Masked).letters == 1876
    states = model.draw(4, seed=1)
    assert states.dtype == torch.int16 and int(states.max()) > 127
    assert all(model.decode(states))  # a chain of atoms is a molecule


def test_a_fragment_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biotilt.models.genmol.HEAD", 8)
    tokenizer_file(tmp_path, [*"cnCNO12.()"], merges=False)
    checkpoint(bert(15), tmp_path)
    keys = {
        "alpha": 1.0, "reward": {"kind": "qed"}, "design": {"scaffold": "*c1ccncc1"},
        "model": {"source": "genmol", "options": {"weights": "genmol.safetensors", "length": 14, "shortest": 12}},
    }  # fmt: skip
    model = biotilt.Experiment.from_dict(keys, tmp_path).model
    states, space = model.draw(60, seed=2), needed(model.space, Safe)
    texts = ["".join(space.symbols[token] for token in row if token != space.pad) for row in states.tolist()]
    assert all(text.startswith("c12ccncc1.") for text in texts)
    assert {len(text) for text in texts} == {12, 13, 14}
    states[0, 10:] = torch.tensor([space.symbols.index(piece) for piece in ["C", "2", "_", "_"]])
    assert model.decode(states[:1]) == [Chem.CanonSmiles("Cc1ccncc1")]


def test_it_samples_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise the piece that was drawn with the largest chance is shown first; with much, any may be."""
    monkeypatch.setattr("biotilt.models.genmol.HEAD", 8)
    tokenizer_file(tmp_path, [*"CNOS"], merges=False)
    net = bert(9)
    path = str(checkpoint(net, tmp_path))
    model = GenMol(path, 5, process="confidence").build()
    surest = model.with_process(by="drawn", randomness=0.0, temperature=0.5)
    x = surest.policy.process.noise(400, torch.Generator())
    assert int(x[0, 0]) == 5  # four pieces, the pad, and then the mask
    y = surest.policy.kernel(x, 0).sample(torch.Generator().manual_seed(1))
    place = (y != 5).nonzero()[:, 1]
    law = (theirs(net, [4] * 5) / 0.5).softmax(-1)  # of every position, by their network
    chance = torch.zeros(5)
    for drawn in itertools.product(range(4), repeat=5):  # the chance that a position has the surest of what was drawn
        each = law[range(5), list(drawn)]
        chance[int(each.argmax())] += each.prod()
    assert (place.bincount(minlength=5) / 400 - chance).abs().max() < 4 * 0.5 / 400**0.5
    loud = model.with_process(by="drawn", randomness=1e4)
    place = (loud.policy.kernel(x, 0).sample(torch.Generator().manual_seed(1)) != 5).nonzero()[:, 1]
    assert (place.bincount(minlength=5) / 400 - 0.2).abs().max() < 0.08
    assert len(set(surest.sample(6, seed=1))) > 1


def test_the_whole_way_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer_file(tmp_path, [*"CNOS"], merges=False)
    net = bert(9)
    checkpoint(net, tmp_path)
    keys = 'source = "genmol"\noptions = { weights = "genmol.safetensors", length = 8 }\nprocess = { per_step = 4 }'
    designs = acceptance.check(keys, tmp_path, "N")
    assert all(Chem.MolFromSmiles(design).GetNumHeavyAtoms() == 8 for design in designs)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("tokenizer.json", {}, "GenMol's vocabulary is the tokenizer.json of huggingface.co/datamol-io/safe-gpt"),
        ("", {"length": 31}, "model.options.length: .* knows 30 positions, and designs have 31"),
        ("", {"shortest": LENGTH}, "model.options.shortest: must be below length"),
        ("", {"weights": "model.ckpt"}, "is a pickle, biotilt convert genmol model.ckpt model.safetensors makes one"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, change: str, options: dict[str, Any], message: str) -> None:
    path = checkpoint(bert(), tokenizer_file(tmp_path))
    if change:
        (tmp_path / change).unlink()
    with pytest.raises(ConfigError, match=message):
        GenMol(**({"weights": str(path), "length": LENGTH} | options)).build()


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"net.a": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(BiotiltError, match=r"nothing in it is called \"backbone\.…\""):
        convert("genmol", tmp_path / "other.ckpt", tmp_path / "o.safetensors")
    tokenizer_file(tmp_path, [*"CN"], merges=False)
    path = checkpoint(bert(6), tmp_path)
    with pytest.raises(ConfigError, match=r"it has a token 6, and the network in .* knows 6"):
        GenMol(str(path), LENGTH).build()
    net = bert(7)
    del net.bert.encoder.layer[1].output.dense.bias
    net.bert.encoder.layer[1].output.dense.register_parameter("bias", None)
    with pytest.raises(BiotiltError, match=r'it lacks "blocks\.1\.down\.bias"'):
        GenMol(str(checkpoint(net, tmp_path)), LENGTH).build()
