"""ESM2, DPLM and other masked language models: against transformers, on random weights of reduced size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import acceptance
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import biotilt
from biotilt.core import precision
from biotilt.core.activations import blockwise
from biotilt.errors import BiotiltError, CheckpointError, ConfigError
from biotilt.model import Model
from biotilt.models.convert import convert
from biotilt.models.esm import MaskedLM
from biotilt.networks.esm import ESM
from biotilt.spaces import DNA, PROTEIN, RNA, Alphabet

transformers = pytest.importorskip("transformers")
VOCABULARY = transformers.models.esm.configuration_esm.get_default_vocab_list()
LENGTH = 12
KINDS = {
    "esm2": {"position_embedding_type": "rotary", "token_dropout": True},
    "dplm": {"position_embedding_type": "rotary", "tie_word_embeddings": False},
    "esm1b": {"token_dropout": True, "emb_layer_norm_before": True, "max_position_embeddings": 30},
}


def scattered(net: Any) -> Any:
    """A network whose every weight says something: as it is made, all its logits are about 0."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def theirs(kind: str) -> Any:
    config = transformers.EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=40, layer_norm_eps=1e-5, **KINDS[kind],
    )  # fmt: skip
    return scattered(transformers.EsmForMaskedLM(config))


def stored(net: Any, folder: Path, vocabulary: list[str] | None = None) -> Path:
    """A folder as it comes from the hub."""
    net.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary or VOCABULARY))
    names = {role: f"<{role}>" for role in ("cls", "pad", "eos", "unk", "mask")}
    (folder / "special_tokens_map.json").write_text(json.dumps({f"{role}_token": name for role, name in names.items()}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stored(theirs("esm2"), tmp_path / "esm2")


def states(alphabet: Alphabet = PROTEIN) -> Tensor:
    """Nothing hidden, some of it, all but one letter, and everything."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(len(alphabet.letters), (4, LENGTH), generator=generator)
    hidden = torch.rand(4, LENGTH, generator=generator) < torch.tensor([0.0, 0.4, 1.0, 1.0]).unsqueeze(-1)
    hidden[2, 7] = False
    return x.masked_fill(hidden, alphabet.mask_token)


@torch.no_grad()
def asked(net: Any, x: Tensor, tokens: list[int], first: list[int], last: list[int]) -> Tensor:
    """What their network says of our states, `tokens` being those of our letters and the mask."""
    ids = torch.tensor(tokens)[x]
    ends = [torch.tensor(end).expand(len(x), -1) for end in (first, last)]
    ids = torch.cat([ends[0], ids, ends[1]], 1).long()
    logits = net(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits[:, len(first) : ids.shape[1] - len(last), tokens[:-1]]


def network(model: Model) -> ESM:
    net = model.policy.net
    assert isinstance(net, ESM)
    return net


@torch.no_grad()
def ours(model: Model, x: Tensor) -> Tensor:
    return model.policy.net(x, torch.zeros(len(x)))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    net = theirs(kind)
    model = MaskedLM(str(stored(net, tmp_path)), LENGTH).build()
    network(model)  # is ours
    tokens = [VOCABULARY.index(letter) for letter in PROTEIN.letters] + [32]
    wanted = asked(net, states(), tokens, [0], [2])
    assert wanted.std() > 0.3
    torch.testing.assert_close(ours(model, states()), wanted, atol=1e-5, rtol=0)
    half = MaskedLM(str(tmp_path), LENGTH, temperature=0.5).build()
    torch.testing.assert_close(ours(half, states()), 2 * wanted, atol=2e-5, rtol=0)


def test_the_tokens_are_those_of_their_tokenizer(folder: Path) -> None:
    net = network(MaskedLM(str(folder), 4).build())
    tokenizer = transformers.EsmTokenizer(str(folder / "vocab.txt"))
    wanted = tokenizer("W <mask> A C")["input_ids"]
    assert [*net.first.tolist(), *net.tokens[[18, 20, 0, 1]].tolist(), *net.last.tolist()] == wanted


def test_files_of_older_versions(tmp_path: Path) -> None:
    """Rotations of each layer, in half precision; norms by other names; weights that nothing reads; two files."""
    net = theirs("esm2")
    tensors = {name: tensor.half() for name, tensor in net.state_dict().items() if "rotary" not in name}
    frequency = (1e4 ** -(torch.arange(4) / 4)).half()  # heads of 8 channels
    for layer in range(2):
        tensors[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = frequency.clone()
        for kind, old in (("weight", "gamma"), ("bias", "beta")):
            name = f"esm.encoder.layer.{layer}.LayerNorm"
            tensors[f"{name}.{old}"] = tensors.pop(f"{name}.{kind}")
    tensors["esm.embeddings.position_ids"] = torch.arange(30).unsqueeze(0)
    tensors["esm.embeddings.position_embeddings.weight"] = torch.zeros(30, 24)
    tensors["lm_head.decoder.weight"] = tensors["lm_head.decoder.weight"].clone()
    stored(net, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for number in range(2):
        part = dict(list(tensors.items())[number::2])
        save_file(part, tmp_path / f"model-0000{number + 1}-of-00002.safetensors")
    again = net.half().float()
    again.esm.rotary_embeddings.inv_freq = frequency.float()
    tokens = [VOCABULARY.index(letter) for letter in PROTEIN.letters] + [32]
    found = ours(MaskedLM(str(tmp_path), LENGTH).build(), states())
    torch.testing.assert_close(found, asked(again, states(), tokens, [0], [2]), atol=1e-5, rtol=0)


def test_relaxed_states_are_read_as_tokens_are(folder: Path) -> None:
    net = network(MaskedLM(str(folder), LENGTH).build())
    x, t = states(), torch.zeros(4)
    relaxed = torch.nn.functional.one_hot(x, 21).float().requires_grad_(True)
    found = net(relaxed, t)
    torch.testing.assert_close(found, net(x, t), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(found[:, 3, 4].sum(), relaxed)
    assert bool((gradient != 0).flatten(1).any(1).all())
    assert net.features(x, t).shape == (4, LENGTH, 24)


def test_nothing_but_letters_is_drawn(folder: Path) -> None:
    """However likely X, the pad or the mask are."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for token in ("X", "<pad>", "<mask>", "<eos>", "B"):
        tensors["lm_head.bias"][VOCABULARY.index(token)] = 50.0
    save_file(tensors, path)
    model = MaskedLM(str(folder), LENGTH).build().with_process(per_step=4)
    designs = model.sample(20, seed=1)
    assert {len(design) for design in designs} == {LENGTH} and len(set(designs)) == 20
    assert set("".join(designs)) <= set(PROTEIN.letters)
    masked = MaskedLM(str(folder), LENGTH, process="masked").build().with_process(num_steps=5)
    assert masked.policy.process.steps == 5 and len(masked.sample(2)[0]) == LENGTH
    sure = MaskedLM(str(folder), LENGTH, process="confidence").build().with_process(per_step=4, by="drawn")
    assert set("".join(sure.sample(20, seed=1))) <= set(PROTEIN.letters)
    assert sure.policy.process.steps == model.policy.process.steps and sure.sample(20, seed=1) != designs


def nucleotides(letters: str = "ACGT", **tokens: int) -> tuple[Any, list[str]]:
    """A BERT with random weights and its vocabulary."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters[::-1], "N"]
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=20,
    )  # fmt: skip
    return scattered(transformers.BertForMaskedLM(config)), vocabulary


@pytest.mark.parametrize("alphabet", [DNA, RNA], ids=lambda alphabet: alphabet.name)
def test_other_models_are_built_by_transformers(tmp_path: Path, alphabet: Alphabet) -> None:
    net, vocabulary = nucleotides(alphabet.letters)
    net.save_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizer(vocab={token: n for n, token in enumerate(vocabulary)}, do_lower_case=False)
    tokenizer.save_pretrained(tmp_path)
    model = MaskedLM(str(tmp_path), LENGTH).build()
    assert model.space.name == alphabet.name
    tokens = [vocabulary.index(letter) for letter in alphabet.letters] + [4]
    wanted = asked(net, states(alphabet), tokens, [2], [3])
    torch.testing.assert_close(ours(model, states(alphabet)), wanted, atol=1e-5, rtol=0)
    said = tokenizer("A [MASK] C")["input_ids"]
    assert said == [2, vocabulary.index("A"), 4, vocabulary.index("C"), 3]


def test_ends_by_the_rule_of_a_tokenizer_file(tmp_path: Path) -> None:
    """Nothing stands after a sequence here, though the vocabulary has a token that could."""
    stored(theirs("esm2"), tmp_path)
    (tmp_path / "vocab.txt").unlink()
    parts = [{"SpecialToken": {"id": "<cls>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    words = {token: number for number, token in enumerate(VOCABULARY[:-1])}
    content = {
        "model": {"type": "WordLevel", "vocab": words},
        "added_tokens": [{"id": 32, "content": "<mask>"}],
        "post_processor": {"type": "TemplateProcessing", "single": parts},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    net = network(MaskedLM(str(tmp_path), LENGTH).build())
    assert (net.first.tolist(), net.last.tolist(), net.tokens[-1].item()) == ([0], [], 32)


def test_the_whole_way_of_a_user(folder: Path, tmp_path: Path) -> None:
    keys = f'source = "esm"\npath = "esm2"\noptions = {{ length = {LENGTH} }}\nprocess = {{ per_step = 3 }}'
    designs = acceptance.check(keys, tmp_path, "K")
    assert {len(design) for design in designs} == {LENGTH}


def test_the_whole_way_of_a_model_of_transformers(tmp_path: Path) -> None:
    net, vocabulary = nucleotides()
    stored(net, tmp_path / "bert", vocabulary)
    (tmp_path / "bert/special_tokens_map.json").unlink()
    keys = 'source = "esm"\npath = "bert"\noptions = { length = 8, process = "masked" }\nprocess = { num_steps = 3 }'
    assert {len(design) for design in acceptance.check(keys, tmp_path, "G")} == {8}


def test_a_pickle_is_refused_with_what_to_do(folder: Path) -> None:
    path = folder / "model.safetensors"
    wanted = ours(MaskedLM(str(folder), LENGTH).build(), states())
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()
    with pytest.raises(ConfigError, match=r"biotilt convert esm .*pytorch_model\.bin .*/model\.safetensors"):
        MaskedLM(str(folder), LENGTH).build()
    convert("esm", folder / "pytorch_model.bin", path)
    assert torch.equal(ours(MaskedLM(str(folder), LENGTH).build(), states()), wanted)


def test_a_tuned_model_needs_its_folder(folder: Path, tmp_path: Path) -> None:
    model = MaskedLM(str(folder), LENGTH).build().with_lora(rank=2)
    model.save(tmp_path / "m.safetensors")
    assert biotilt.load_model(tmp_path / "m.safetensors").sample(2) == model.sample(2)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.dense.bias"] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BiotiltError, match="frozen weights"):
        biotilt.load_model(tmp_path / "m.safetensors")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(BiotiltError, match='esm2" is not a folder'):
        biotilt.load_model(tmp_path / "m.safetensors")


def test_a_repository_of_the_hub_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str] = []

    def fetched(said: str) -> Path:
        asked_for.append(said)
        return folder

    monkeypatch.setattr("biotilt.models.hub.fetched", fetched)
    assert len(MaskedLM("hub:somebody/esm2@v1", 4).build().sample(1)[0]) == 4
    assert asked_for == ["hub:somebody/esm2@v1"]


def without(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({key: tensor for key, tensor in tensors.items() if name not in key}, folder / "model.safetensors")


def rewritten(folder: Path, **changes: Any) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | changes))


def lengthened(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, *(a + b for a in "ACGT" for b in "ACDEFGH")]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\*\.safetensors is not there"),
        (lambda folder: (folder / "vocab.txt").unlink(), r"no vocabulary: vocab\.txt"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "must be a table"),
        (lambda folder: without(folder, "layer.1.intermediate"), "lack .*1.intermediate.dense.bias\" and 1 more"),
        (lambda folder: without(folder, "lm_head"), "lack \"lm_head"),
        (lambda folder: rewritten(folder, num_hidden_layers=1), "weights \"esm.encoder.layer.1"),
        (lambda folder: rewritten(folder, intermediate_size=41), "is .40., and config.json describes .41."),
        (lambda folder: rewritten(folder, hidden_size="wide"), "hidden_size"),
        (lambda folder: rewritten(folder, vocab_size=20), "a token is none of 20"),
        (lambda folder: rewritten(folder, model_type="roberta"), "lack|cannot build"),
        (lambda folder: rewritten(folder, model_type="nobody's"), "transformers cannot build"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x02" + bytes(20)), "pickle"),
        (lambda folder: (folder / "vocab.txt").write_text("<cls>\nA\nC\nG\n<mask>"), "no single letters"),
        (lambda folder: (folder / "vocab.txt").write_text("A\nC\nG\nT\nU\n<mask>"), 'alphabet = "dna" or "rna"'),
        (lambda folder: (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:-1])) and rewritten(
            folder, mask_token_id=None), "has no mask"),
        (lengthened, r"pieces of several letters \(AA, AC, AD and 25 more\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(folder: Path, change: Any, said: str) -> None:
    change(folder)
    with pytest.raises((ConfigError, CheckpointError), match=said):
        MaskedLM(str(folder), LENGTH).build()


def test_options_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'no token for "U" of rna: give alphabet = "protein"'):
        vocabulary = [token for token in VOCABULARY if token != "U"]
        (folder / "vocab.txt").write_text("\n".join(vocabulary))
        MaskedLM(str(folder), LENGTH, "rna").build()
    with pytest.raises(ConfigError, match='did you mean "protein"'):
        MaskedLM(str(folder), LENGTH, "proteins").build()
    with pytest.raises(ConfigError, match='"nowhere" is not a folder'):
        MaskedLM("nowhere", LENGTH).build()
    net, vocabulary = nucleotides()
    with pytest.raises(ConfigError, match=r"shortest: .* of the type bert, and only"):
        MaskedLM(str(stored(net, tmp_path / "bert", vocabulary)), 8, shortest=4).build()
    long = stored(theirs("esm1b"), tmp_path / "long")
    with pytest.raises(ConfigError, match="knows 26 positions, and designs have 27"):
        MaskedLM(str(long), 27).build()
    assert len(MaskedLM(str(long), 26).build().with_process(per_step=13).sample(1)[0]) == 26


def padded_states() -> Tensor:
    """Of 3 to 6 letters, the pad being 20 and the mask 21: a pad is known, nothing is, and only the second letter."""
    return torch.tensor([[10, 21, 17, 21, 20, 20], [21] * 6, [21, 3, 21, 21, 21, 21]])


def test_a_pad_ends_the_sequence_that_the_network_sees(folder: Path) -> None:
    net = network(MaskedLM(str(folder), 6, shortest=3).build())
    x, tokens = padded_states(), [VOCABULARY.index(letter) for letter in PROTEIN.letters] + [1, 32]
    with torch.no_grad():
        found = net(x, torch.zeros(3)).log_softmax(-1).exp()
    four = asked(theirs("esm2"), x[:1, :4], tokens, [0], [2])[..., :20].softmax(-1)[0]
    rest = asked(theirs("esm2"), x[1:], tokens, [0], [2])[..., :20].softmax(-1)
    # of 3 or 4 letters, as V is the third: the second is a letter, the fourth a pad half the time
    assert found[0, 1, 20] < 1e-9 and found[0, 3, 20].item() == pytest.approx(0.5)
    torch.testing.assert_close(found[0, 1, :20], four[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0, 3, :20], four[3] / 2, atol=1e-5, rtol=0)
    pads = torch.tensor([0.0, 0.0, 0.0, 1 / 4, 2 / 4, 3 / 4])  # of 3, 4, 5 or 6 letters
    for row in (0, 1):
        torch.testing.assert_close(found[row + 1, :, 20], pads, atol=1e-6, rtol=0)
        torch.testing.assert_close(found[row + 1, :, :20], rest[row] * (1 - pads)[:, None], atol=1e-5, rtol=0)
    relaxed = torch.nn.functional.one_hot(x, 22).float()
    torch.testing.assert_close(net(relaxed, torch.zeros(3)), net(x, torch.zeros(3)), atol=1e-5, rtol=0)


def test_all_lengths_are_alike_until_they_are_learned(folder: Path, tmp_path: Path) -> None:
    model = MaskedLM(str(folder), 6, shortest=3).build()
    counts = torch.tensor([len(design) for design in model.sample(400, seed=3)]).bincount(minlength=7)
    assert counts[:3].sum() == 0
    assert (counts[3:] - 100).abs().max() < 4 * (400 * 0.25 * 0.75) ** 0.5
    before = model.policy.net(padded_states(), torch.zeros(3))
    with torch.no_grad():
        network(model).get_parameter("ends.bias").fill_(3.0)
    assert (model.policy.net(padded_states(), torch.zeros(3)) - before)[..., 20].allclose(torch.tensor(3.0))
    shorter = torch.tensor([float(len(design)) for design in model.sample(100, seed=3)])
    assert shorter.mean() < 4
    model.with_lora(rank=2).save(tmp_path / "m.safetensors")  # what was learned of lengths is not in the folder
    with pytest.raises(BiotiltError, match="frozen weights"):
        biotilt.load_model(tmp_path / "m.safetensors")


def test_the_whole_way_of_designs_of_several_lengths(folder: Path, tmp_path: Path) -> None:
    keys = 'source = "esm"\npath = "esm2"\noptions = { length = 8, shortest = 5 }'
    assert {len(design) for design in acceptance.check(keys, tmp_path, "K")} <= {5, 6, 7, 8}


def test_blocks_made_again_have_the_same_gradient(folder: Path) -> None:
    net, x = network(MaskedLM(str(folder), 6, shortest=3).build()), padded_states()

    def gradient() -> list[Tensor]:
        net.zero_grad()
        net(x, torch.zeros(3)).log_softmax(-1)[..., 3].sum().backward()
        return [p.grad.clone() for p in net.parameters() if p.grad is not None]

    kept = gradient()
    with blockwise() as blocks:
        again = gradient()
    assert blocks.called == 2 and len(kept) == len(again) > 20
    for one, other in zip(kept, again):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_half_the_bits_are_near(folder: Path) -> None:
    net, x, t = network(MaskedLM(str(folder), 6, shortest=3).build()), padded_states(), torch.zeros(3)
    with torch.no_grad(), precision.computed_in("bfloat16"):
        found = precision.asked(net, x, t)
    assert found.dtype == torch.float32
    with torch.no_grad():
        wanted = net(x, t)
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found.softmax(-1), wanted.softmax(-1), atol=0.02, rtol=0)
