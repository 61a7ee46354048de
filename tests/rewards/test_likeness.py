"""Likeness to a reference ligand, by pharmacophores and laid over it, against closed forms and counted bits."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

from biotilt.errors import ConfigError
from biotilt.rewards import NotScored
from biotilt.rewards.molecule.likeness import Overlay, Pharmacophore
from biotilt.rewards.molecule.properties import Substructure

PHENETHYLAMINE, DOPAMINE, TRYPTAMINE = "NCCc1ccccc1", "NCCc1ccc(O)c(O)c1", "NCCc1c[nH]c2ccccc12"


def test_pharmacophores_are_counted_bits() -> None:
    def bits(smiles: str) -> set[int]:
        return set(Generate.Gen2DFingerprint(Chem.MolFromSmiles(smiles), Gobbi_Pharm2D.factory).GetOnBits())

    target = bits(DOPAMINE)
    designs = [PHENETHYLAMINE, TRYPTAMINE, DOPAMINE]
    expected = [len(bits(d) & target) / len(bits(d) | target) for d in designs]
    assert 0 < expected[0] < expected[1] < 1  # the indole's NH stands for a phenol's OH
    assert Pharmacophore(reference=DOPAMINE)(designs) == pytest.approx(expected)
    assert Pharmacophore(reference=DOPAMINE, low=0.6)(designs) == pytest.approx(
        [min(0.0, value - 0.6) for value in expected]
    )


def test_single_atoms_overlay_as_two_gaussians() -> None:
    # volumes of gaussians exp(−κ r²/R²) at one place; radii 1.7 Å of carbon and 1.52 Å of oxygen, without hydrogens
    kappa = math.pi * (3 * 2.7 / (4 * math.pi)) ** (2 / 3)

    def volume(a: float, b: float) -> float:
        return (math.pi / (kappa / a**2 + kappa / b**2)) ** 1.5

    carbon, oxygen, both = volume(1.7, 1.7), volume(1.52, 1.52), volume(1.7, 1.52)
    shape = both / (carbon + oxygen - both)
    # methane has no feature, so the half that features count for is 0
    assert Overlay(reference="C")(["C", "O"]) == [pytest.approx(0.5), pytest.approx(shape / 2, abs=1e-6)]


def test_the_overlay_of_a_molecule_with_itself_is_whole_and_repeats() -> None:
    overlay = Overlay(reference=DOPAMINE, conformers=3)
    scores = overlay([DOPAMINE, PHENETHYLAMINE, "CCO"])
    assert scores[0] == 1.0 > scores[1] > scores[2]
    assert overlay(["CCO", PHENETHYLAMINE])[::-1] == scores[1:]  # in any order
    assert Overlay(reference=DOPAMINE, conformers=3, seed=2).version != overlay.version


def test_what_has_no_conformer_says_so() -> None:
    ring, hydrogen, empty, fine = Overlay(reference="CCO")(["C1#CC#CC#CC#C1", "[H][H]", "", "CCN"])
    assert isinstance(ring, NotScored) and ring.reason == "no conformer of the molecule can be made"
    assert isinstance(hydrogen, NotScored) and hydrogen.reason.startswith("there is no heavy atom")
    assert isinstance(empty, NotScored) and 0.5 < fine < 1.0
    for impossible in ("C1#CC#CC#CC#C1", "[H][H]"):
        with pytest.raises(ConfigError, match="no conformer of the reference"):
            Overlay(reference=impossible)
    for kind in (Pharmacophore, Overlay):
        with pytest.raises(ConfigError, match='reference = "C1CC" is not valid SMILES'):
            kind(reference="C1CC")


def test_a_reason_stays_with_its_score() -> None:
    (score,) = Substructure("c1ccncc1")(["CCO"])
    assert score == -math.inf and score.reason == "without the substructure c1ccncc1"
