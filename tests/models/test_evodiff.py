"""EvoDiff: against its equations, written out in `oadm`, on random weights of reduced size."""

from __future__ import annotations

from pathlib import Path

import acceptance
import numpy as np
import oadm
import pytest
import torch
from torch import Tensor

from biotilt.errors import CheckpointError, ConfigError, DataError
from biotilt.models.convert import convert
from biotilt.models.evodiff import EvoDiff
from biotilt.spaces import PROTEIN
from biotilt.tensors import load_tensors, save_tensors

LENGTH = 20


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """The public file: a pickle, with an optimiser beside the weights."""
    content = {"model_state_dict": oadm.weights(), "optimizer_state_dict": {"state": {}}, "step": 3, "epoch": 1}
    torch.save(content, tmp_path / "oaar-38M.tar")
    return tmp_path / "oaar-38M.tar"


@pytest.fixture
def file(public: Path) -> Path:
    convert("evodiff", public, public.with_name("evodiff.safetensors"))
    return public.with_name("evodiff.safetensors")


def by_hand(text: str) -> np.ndarray:
    return oadm.logits(oadm.weights(), text)


TEXTS = ("#" * LENGTH, "MKV#TAYI####SFVKSHFS", "ACDEFGHIKLMNPQRSTVWY")


def states() -> Tensor:
    return torch.tensor([[(PROTEIN.letters + "#").index(sign) for sign in text] for text in TEXTS])


def test_logits_are_those_of_the_equations(file: Path) -> None:
    net = EvoDiff(str(file), LENGTH).build().policy.net
    letters = [oadm.TOKENS.index(letter) for letter in PROTEIN.letters]
    wanted = torch.tensor(np.stack([by_hand(text)[:, letters] for text in TEXTS])).float()
    assert wanted.std() > 0.3
    with torch.no_grad():
        torch.testing.assert_close(net(states(), torch.zeros(3)), wanted, atol=1e-5, rtol=0)
        cold = EvoDiff(str(file), LENGTH, 0.5).build().policy.net
        torch.testing.assert_close(cold(states(), torch.zeros(3)), 2 * wanted, atol=2e-5, rtol=0)


def test_the_dilation_starts_again_after_eight_blocks() -> None:
    from biotilt.networks.bytenet import ByteNet, ByteNetConfig

    net = ByteNet(ByteNetConfig((0, 1, 2), 3, 2, 4, 4, 10))
    assert [m.dilation[0] for m in net.modules() if isinstance(m, torch.nn.Conv1d)] == [
        1, 2, 4, 8, 16, 32, 64, 128, 1, 2,
    ]  # fmt: skip


def test_relaxed_states_are_read_as_tokens_are(file: Path) -> None:
    net = EvoDiff(str(file), LENGTH).build().policy.net
    relaxed = torch.nn.functional.one_hot(states(), 21).float().requires_grad_(True)
    found = net(relaxed, torch.zeros(3))
    torch.testing.assert_close(found, net(states(), torch.zeros(3)), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(found[:, 3, 4].sum(), relaxed)
    assert bool((gradient != 0).flatten(1).any(1).all())


def test_only_residues_are_drawn(file: Path) -> None:
    """However likely B is, which their own sampler draws."""
    tensors, about = load_tensors(file)
    tensors["decoder.conv.bias"][[20, 22, 26, 28]] = 50.0
    save_tensors(file, tensors, about)
    designs = EvoDiff(str(file), LENGTH).build().with_process(per_step=5).sample(20, seed=2)
    assert len(set(designs)) == 20 and set("".join(designs)) <= set(PROTEIN.letters)


def test_the_whole_way_of_a_user(file: Path, tmp_path: Path) -> None:
    keys = f'source = "evodiff"\npath = "{file.name}"\noptions = {{ length = 8 }}\nprocess = {{ per_step = 2 }}'
    assert {len(design) for design in acceptance.check(keys, tmp_path, "K")} == {8}


def test_the_public_file_is_refused_with_what_to_do(public: Path) -> None:
    with pytest.raises(ConfigError, match=r"biotilt convert evodiff oaar-38M\.tar"):
        EvoDiff(str(public), LENGTH).build()
    with pytest.raises(ConfigError, match=r"nowhere\.safetensors\" is not a file"):
        EvoDiff("nowhere.safetensors", LENGTH).build()
    torch.save({"state_dict": oadm.weights()}, public)
    with pytest.raises(DataError, match='no file of EvoDiff: it has no "model_state_dict"'):
        convert("evodiff", public, public.with_suffix(".safetensors"))


def changed(tensors: dict[str, Tensor], name: str, tensor: Tensor | None) -> dict[str, Tensor]:
    rest = {key: value for key, value in tensors.items() if key != name}
    return rest if tensor is None else rest | {name: tensor}


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("embedder.layers.1.conv.bias", None, r'lack "embedder\.layers\.1\.conv\.bias"'),
        ("embedder.layers.1.conv.bias", torch.zeros(7), r'conv\.bias" is \[7\], not \[6\]'),
        ("embedder.embedder.weight", torch.zeros(30, 8), "which has 31 tokens"),
        ("embedder.up_embedder.conv.weight", None, "which has 31 tokens"),
        ("contact_head.weight", torch.zeros(2), 'weights "contact_head.weight", which an OADM does not have'),
    ],
)
def test_weights_of_another_model(file: Path, name: str, tensor: Tensor | None, said: str) -> None:
    tensors, about = load_tensors(file)
    save_tensors(file, changed(tensors, name, tensor), about)
    with pytest.raises(CheckpointError, match=said):
        EvoDiff(str(file), LENGTH).build()


def test_a_file_of_another_family(tmp_path: Path) -> None:
    save_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(2)}, {"kind": "weights of esm"})
    with pytest.raises(CheckpointError, match='not weights of EvoDiff, such as "biotilt convert evodiff" writes'):
        EvoDiff(str(tmp_path / "w.safetensors"), LENGTH).build()


def test_a_pad_ends_the_sequence_that_the_network_sees(file: Path) -> None:
    net = EvoDiff(str(file), 20, shortest=5).build().policy.net
    text = "MKV#TAYI##--"
    x = torch.tensor([[(PROTEIN.letters + "-#").index(sign) for sign in text + "-" * 8]])
    letters = [oadm.TOKENS.index(letter) for letter in PROTEIN.letters]
    wanted = torch.tensor(by_hand(text.rstrip("-"))[:, letters]).float().softmax(-1)
    with torch.no_grad():
        found = net(x, torch.zeros(1)).log_softmax(-1).exp()[0]
    torch.testing.assert_close(found[3, :20], wanted[3], atol=1e-5, rtol=0)
    # of 8, 9 or 10 residues, as I is the eighth
    for place, pad in ((8, 1 / 3), (9, 2 / 3)):
        torch.testing.assert_close(found[place, :20], wanted[place] * (1 - pad), atol=1e-5, rtol=0)
        assert found[place, 20].item() == pytest.approx(pad, abs=1e-6)
    sizes = {len(design) for design in EvoDiff(str(file), 7, shortest=5).build().sample(40, seed=1)}
    assert sizes == {5, 6, 7}
    with pytest.raises(ConfigError, match="shortest: must be below length = 5, got 5"):
        EvoDiff(str(file), 5, shortest=5)
