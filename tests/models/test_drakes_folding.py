"""Inverse folding of DRAKES: its network against the equations in `drakes`, its files, and the way of a user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import acceptance
import backbones
import drakes
import numpy as np
import pytest
import torch
from torch import Tensor

from biotilt.core import needed
from biotilt.errors import BiotiltError, ConfigError, DataError
from biotilt.model import Model
from biotilt.models.convert import convert
from biotilt.models.likelihood import BackboneLikelihood
from biotilt.models.proteinmpnn import ProteinMPNN
from biotilt.networks.proteinmpnn import BackboneDecoder
from biotilt.processes import Masked
from biotilt.processes.masked import MaskedKernel
from biotilt.rewards.protein.backbone import read_backbone
from biotilt.spaces import PROTEIN
from biotilt.spaces.residues import Residues
from biotilt.tensors import load_tensors, save_tensors

NEIGHBOURS, V = 12, 20
LETTERS = "ACDEFGHIKLMNPQRSTVWYMLKIHGFEDCAYWVTSRQPN"


def structure(folder: Path) -> Path:
    """Two chains of 25 and 15 residues, the second from number 101 on, with a gap."""
    first, second = backbones.wandering(25, 3), backbones.wandering(15, 4) + np.array([8.0, 5.0, 3.0])
    numbers = [*range(101, 108), *range(111, 119)]
    return backbones.write(
        folder / "s.pdb", backbones.lines(LETTERS[:25], first), backbones.lines(LETTERS[25:], second, "B", numbers)
    )


def converted(folder: Path, named: dict[str, Tensor], **more: Any) -> str:
    content = {"model_state_dict": named, "num_edges": NEIGHBOURS, "noise_level": 0.1, "epoch": 3, "step": 9} | more
    torch.save(content, folder / "w.pt")
    convert("proteinmpnn", folder / "w.pt", folder / "w.safetensors")
    return str(folder / "w.safetensors")


def theirs(named: dict[str, Tensor], path: Path, s: Tensor, k: int = NEIGHBOURS) -> Tensor:
    whole = read_backbone(path)
    return drakes.log_probs(named, whole.atoms, whole.place, whole.chain_index, s, k)


def shown(x: Tensor) -> Tensor:
    """A state `(L,)` as the original has it: 21 is the mask."""
    return torch.where(x == V, drakes.MASK, x.long())


def native_of(model: Model) -> Tensor:
    return model.space.encode([needed(model.space, Residues).native])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], Path, str]:
    folder = tmp_path_factory.mktemp("drakes")
    named = drakes.weights(0)
    return named, structure(folder), converted(folder, named)


def test_logits_are_those_of_the_equations(pair: tuple[dict[str, Tensor], Path, str]) -> None:
    named, path, weights = pair
    model = ProteinMPNN(str(path), weights, temperature=1.0).build()
    net = needed(model.policy.net, BackboneDecoder)
    native, generator = native_of(model), torch.Generator().manual_seed(1)
    for share in (0.0, 0.4, 1.0):
        x = native.masked_fill(torch.rand(native.shape, generator=generator) >= share, V)
        with torch.no_grad():
            found = net.logits(net.placed(x)).log_softmax(-1)[0].double()
        torch.testing.assert_close(found, theirs(named, path, shown(x[0])), atol=1e-5, rtol=1e-5)


def test_a_step_is_that_of_the_original(pair: tuple[dict[str, Tensor], Path, str]) -> None:
    """From time t1 to t2 a hidden residue is shown by (t2 − t1)/(1 − t1), with letters ∝ p^(1/T); X is none here."""
    named, path, weights = pair
    model = ProteinMPNN(str(path), weights, temperature=0.5).build()
    assert model.policy.process.steps == 49
    times = torch.linspace(0.01, 1, 50).double()
    x = torch.randint(V + 1, (1, 40), generator=torch.Generator().manual_seed(2)).to(torch.int8)
    x[0, :5] = V
    law = (theirs(named, path, shown(x[0]))[:, :V] / 0.5).log_softmax(-1)
    for k in (0, 20, 48):
        with torch.no_grad():
            kernel = needed(model.policy.kernel(x, k), MaskedKernel)
        hidden = x[0] == V
        torch.testing.assert_close(kernel.log_letters[0].double()[hidden], law[hidden], atol=2e-5, rtol=1e-5)
        wanted = (times[k + 1] - times[k]) / (1 - times[k])
        assert kernel.reveal.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_chains_that_are_not_designed_are_seen_without_their_letters(
    pair: tuple[dict[str, Tensor], Path, str],
) -> None:
    named, path, weights = pair
    model = ProteinMPNN(str(path), weights, chains=("B",), fixed=("B101-103",), temperature=1.0).build()
    x = native_of(model)
    x[0, 4:] = V
    s = torch.cat([torch.full((25,), drakes.MASK), shown(x[0])])
    with torch.no_grad():
        found = model.policy.net(x, torch.ones(1))[0].double().log_softmax(-1)
    wanted = theirs(named, path, s)[25:, :V].log_softmax(-1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    designs = model.with_process(num_steps=5).sample(8)
    assert len(set(designs)) == 8 and all(design.startswith(LETTERS[25:28]) for design in designs)


def test_relaxed_states_and_many_rows(pair: tuple[dict[str, Tensor], Path, str]) -> None:
    _, path, weights = pair
    model = ProteinMPNN(str(path), weights, chains=("A",), temperature=1.0).build()
    x = torch.randint(V + 1, (300, 25), generator=torch.Generator().manual_seed(3)).to(torch.int8)
    t = torch.zeros(300)
    with torch.no_grad():
        found = model.policy.net(x, t)
    few = needed(model.policy.process, Masked).relaxed(x[290:]).requires_grad_(True)
    again = model.policy.net(few, t[290:])
    torch.testing.assert_close(again, found[290:], atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(again[3, 7, 2], few)
    assert bool(gradient[3].any()) and not bool(gradient[:3].any())


def test_a_tuned_model_of_the_original_is_a_table_of_weights(tmp_path: Path) -> None:
    """Its embedding is in it twice, and the neighbours are those of the scripts."""
    named, path = drakes.weights(4), structure(tmp_path)
    torch.save(named | {"W_s_ft.weight": named["W_s.weight"].T.contiguous()}, tmp_path / "tuned.ckpt")
    said = convert("proteinmpnn", tmp_path / "tuned.ckpt", tmp_path / "t.safetensors")
    assert said.about["neighbours"] == 30 and "the file does not say" in said.note
    model = ProteinMPNN(str(path), str(tmp_path / "t.safetensors"), temperature=1.0).build()
    x = torch.full((1, 40), V)
    with torch.no_grad():
        found = model.policy.net(x, torch.ones(1))[0].double().log_softmax(-1)
    wanted = theirs(named, path, shown(x[0]), 30)[:, :V].log_softmax(-1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder_layers.1.W2.bias": None}, r'"decoder_layers\.1\.W2\.bias" is missing'),
        ({"encoder_layers.0.W13.weight": None}, r'"encoder_layers\.0\.W13\.weight" is missing'),
        ({"decoder_layers.0.W1.weight": None}, r'"decoder_layers\.0\.W1\.weight" is missing'),
        ({"features.norm_edges.bias": None}, r'"features\.norm_edges\.bias" is missing'),
        ({"W_e.bias": torch.ones(5)}, r'"W_e\.bias" has the shape \[5\], not \[16\]'),
        ({"W_out.weight": torch.ones(33, 16)}, "22 kinds of letters are read and 33 said"),
        ({"cls_embedder.weight": torch.ones(3, 16)}, "told classes, which is not read here"),
        ({"W_s.weight": None}, "layers are missing"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, change: dict[str, Tensor | None], said: str) -> None:
    named = {name: value for name, value in (drakes.weights(5) | change).items() if value is not None}
    with pytest.raises(DataError, match=said):
        ProteinMPNN(str(structure(tmp_path)), converted(tmp_path, named)).build()


def test_what_it_is_not_for(pair: tuple[dict[str, Tensor], Path, str]) -> None:
    _, path, weights = pair
    with pytest.raises(ConfigError, match="gives no likelihood in an order of decoding"):
        BackboneLikelihood(str(path), weights)
    with pytest.raises(BiotiltError, match="biotilt convert proteinmpnn FILE"):
        ProteinMPNN(str(path), "pretrained_if_model.pt").build()


TOML = """
alpha = 0.05

[model]
source = "proteinmpnn"
lora = { rank = 2 }
process = { num_steps = 6 }
options = { backbone = "s.pdb", weights = "w.safetensors", chains = ["A"], fixed = ["A1"], temperature = 1.0 }

[reward]
kind = "python"
function = "mine.py:share"

[objective]
updates = 4
states = 8

[train]
max_calls = 32
batch = 8
lr = 0.02

[output]
samples = 8
"""


def test_the_way_of_a_user(tmp_path: Path) -> None:
    """Check, tune with adapters, killed in the middle and resumed; the file gives the same designs elsewhere."""
    structure(tmp_path)
    converted(tmp_path, drakes.weights(6))
    (tmp_path / "mine.py").write_text("def share(designs):\n    return [d.count('K') / len(d) for d in designs]\n")
    (tmp_path / "mine.toml").write_text(TOML)
    acceptance.check_whole(tmp_path / "mine.toml", "w.safetensors", "s.pdb")


def test_files_from_before_are_read(pair: tuple[dict[str, Tensor], Path, str], tmp_path: Path) -> None:
    """A stored decoder that says nothing of masks has an order."""
    named, path, _ = pair
    ordered = {
        name: value[:21] if name in ("W_s.weight", "W_out.weight", "W_out.bias") else value
        for name, value in named.items()
    }
    model = ProteinMPNN(str(path), converted(tmp_path, ordered)).build()
    model.save(tmp_path / "m.safetensors")
    tensors, about = load_tensors(tmp_path / "m.safetensors")
    assert about["network"].pop("masks") is False
    save_tensors(tmp_path / "old.safetensors", tensors, about)
    again = Model.load(tmp_path / "old.safetensors").with_process(per_step=20)
    assert again.sample(2, seed=1) == model.with_process(per_step=20).sample(2, seed=1)
    assert PROTEIN.encode(again.sample(1)[0]).shape == (40,)
