"""Folding rewards against sums over every structure that a short RNA can form."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import pytest
from rna_structures import CANONICAL, every_structure

from biotilt.errors import ConfigError
from biotilt.rewards.rna.folding import (
    EnsembleDefect,
    FreeEnergy,
    MFEMatch,
    TargetProbability,
    agreement,
    fold_compound,
)

RNA = pytest.importorskip("RNA", reason="ViennaRNA is an optional package")

TARGET = "((.((...)).)).."
LOADERS = {
    "turner2004": "params_load_RNA_Turner2004",
    "turner1999": "params_load_RNA_Turner1999",
    "andronescu2007": "params_load_RNA_Andronescu2007",
}


def pair_list(structure: str) -> list[int]:
    """Partners by ViennaRNA's own table, from 1; 0 = none."""
    return list(RNA.ptable(structure))[1:]


class Enumerated:
    """Boltzmann averages over every structure, with energies of ViennaRNA's global parameters."""

    def __init__(self, rna: str, parameters: str, temperature: float, dangles: int):
        model = RNA.md()
        model.temperature, model.dangles = temperature, dangles
        try:
            getattr(RNA, LOADERS[parameters])()
            RNA.fold_compound("A", RNA.md(temperature=-50.0))  # or the energies of the model before are used again
            compound = RNA.fold_compound(rna, model)
            self.structures = every_structure(rna)
            self.energies = [compound.eval_structure(structure) for structure in self.structures]
        finally:
            RNA.params_load_RNA_Turner2004()
        self.kt = 1.98717e-3 * (273.15 + temperature)
        weights = [math.exp(-energy / self.kt) for energy in self.energies]
        self.z = sum(weights)
        self.probabilities = [weight / self.z for weight in weights]

    def defect(self, target: str) -> float:
        goal = pair_list(target)
        wrong = [sum(a != b for a, b in zip(pair_list(s), goal)) / len(goal) for s in self.structures]
        return sum(p * w for p, w in zip(self.probabilities, wrong))


def rnas_of_target(count: int, seed: int) -> list[str]:
    """RNAs that can form TARGET."""
    draws = random.Random(seed)
    found = []
    for _ in range(count):
        letters = [draws.choice("ACGU") for _ in TARGET]
        for i, j in ((0, 12), (1, 11), (3, 9), (4, 8)):
            letters[i], letters[j] = draws.choice(sorted(CANONICAL))
        found.append("".join(letters))
    return found


SETTINGS = [("turner2004", 37.0, 2), ("turner1999", 37.0, 0), ("andronescu2007", 55.0, 2), ("turner2004", 20.0, 0)]


@pytest.mark.parametrize(("parameters", "temperature", "dangles"), SETTINGS)
def test_ensemble_rewards_agree_with_enumeration(parameters, temperature, dangles):
    options = {"parameters": parameters, "temperature": temperature, "dangles": dangles}
    rnas = rnas_of_target(6, seed=len(parameters) + dangles)
    exact = [Enumerated(rna, parameters, temperature, dangles) for rna in rnas]
    assert min(len(e.structures) for e in exact) > 5  # the sums are sums
    # at other temperatures than 37 °C energies are rounded to 0.01 kcal/mol in structures and not in the ensemble
    near = 1e-4 if temperature == 37.0 else 4e-3
    assert EnsembleDefect(target=TARGET, **options)(rnas) == pytest.approx([-e.defect(TARGET) for e in exact], abs=near)
    assert TargetProbability(target=TARGET, **options)(rnas) == pytest.approx(
        [math.log(e.probabilities[e.structures.index(TARGET)]) for e in exact], abs=20 * near
    )
    assert FreeEnergy(of="ensemble", **options)(rnas) == pytest.approx(
        [-e.kt * math.log(e.z) for e in exact], abs=20 * near
    )
    assert FreeEnergy(**options)(rnas) == pytest.approx([min(e.energies) for e in exact], abs=1e-4)


@pytest.mark.parametrize(("parameters", "temperature", "dangles"), [*SETTINGS, ("turner1999", 37.0, 1)])
def test_mfe_match_agrees_with_enumeration(parameters, temperature, dangles):
    options = {"parameters": parameters, "temperature": temperature, "dangles": dangles}
    checked = 0
    for rna in rnas_of_target(12, seed=3):
        exact = Enumerated(rna, parameters, temperature, dangles)
        lowest = min(exact.energies)
        ties = [s for s, e in zip(exact.structures, exact.energies) if e < lowest + 1e-4]
        if len(ties) > 1:
            continue
        a, b = pair_list(ties[0]), pair_list(TARGET)
        share = sum(x == y for x, y in zip(a, b)) / len(TARGET)
        assert MFEMatch(target=TARGET, **options)([rna]) == [pytest.approx(share)]
        checked += 1
    assert checked >= 5


def own_energies(rna: str, method: str) -> dict[str, float]:
    """The energies that fresh processes find by `mfe` or `pf`, each of which loads one set and folds once."""
    code = "import RNA; RNA.params_load_RNA_{}(); print(RNA.fold_compound({!r}).{}()[1])"
    return {
        parameters: float(
            subprocess.check_output([sys.executable, "-c", code.format(parameters.capitalize(), rna, method)])
        )
        for parameters in ("turner1999", "andronescu2007", "langdon2018")
    }


def test_sets_of_parameters_differ_and_do_not_leak():
    rna = "GGGAAUCCGUAACGAUACCAAGCUC"
    fresh = RNA.fold_compound(rna).mfe()[1]
    scores = {p: FreeEnergy(parameters=p)([rna])[0] for p in ("turner1999", "andronescu2007", "langdon2018")}
    ensemble = {p: FreeEnergy(parameters=p, of="ensemble")([rna])[0] for p in scores}
    assert scores == pytest.approx(own_energies(rna, "mfe"), abs=1e-5)
    assert ensemble == pytest.approx(own_energies(rna, "pf"), abs=1e-3)
    assert len({round(energy, 2) for energy in (fresh, *scores.values(), *ensemble.values())}) == 7
    assert RNA.fold_compound(rna).mfe()[1] == fresh  # a user of ViennaRNA beside us sees its defaults
    RNA.params_load_RNA_Andronescu2007()
    try:
        assert FreeEnergy()([rna])[0] == pytest.approx(fresh)  # whatever is loaded, we fold as we say
        assert FreeEnergy(parameters="turner1999")([rna])[0] == scores["turner1999"]
    finally:
        RNA.params_load_RNA_Turner2004()


def test_agreement_counts_positions_by_hand():
    # the pair 2-8 is missing, and 3-7 is there in its place
    assert agreement("(.(...).)", "((.....))") == pytest.approx(5 / 9)
    assert agreement("((...).)", "((...).)") == 1.0


def test_a_long_rna_has_a_finite_ensemble():
    rna = "GGGGAAAACCCC" * 60
    energy = FreeEnergy(of="ensemble")([rna])[0]
    assert math.isfinite(energy)
    assert energy <= FreeEnergy()([rna])[0]


def test_windows_fold_the_ends():
    rna = "GGGGAAAACCCC" + "A" * 9 + "GCGCUUCGGCGC"
    left, right = FreeEnergy()(["GGGGAAAACCCC", "GCGCUUCGGCGC"])
    assert left != right
    assert FreeEnergy(first=12)([rna, "GGGGAAAACCCC"]) == [left, left]
    assert FreeEnergy(last=12)([rna]) == [right]
    assert FreeEnergy(last=99)([rna]) == FreeEnergy()([rna])


def test_letters_are_forgiving_and_other_designs_are_not_scored():
    reward = EnsembleDefect(target="((((....))))")
    same = reward(["GCGCGAAAGCGC", "gcgcgaaagcgc"])
    assert same[0] == same[1]
    assert FreeEnergy()(["GCGCUUUUGCGC"]) == FreeEnergy()(["GCGCTTTTGCGC"])
    short, strange, empty = reward(["GCGC", "GCGCGANAGCGC", ""])
    assert all(math.isnan(score) for score in (short, strange, empty))
    assert getattr(short, "reason", "") == "the design has 4 letters and the target 12"
    assert "GCGCGANAGCGC" in getattr(strange, "reason", "")
    assert getattr(FreeEnergy()([""])[0], "reason", "") == "the design is empty"


def test_a_design_that_cannot_form_the_target_has_no_chance():
    assert TargetProbability(target="(...)")(["GAAAA"]) == [-math.inf]


@pytest.mark.parametrize("target", ["", "((...)", "(...))", "(..x)", "(..)", "()"])
@pytest.mark.parametrize("kind", [EnsembleDefect, TargetProbability, MFEMatch])
def test_targets_are_checked(kind, target):
    with pytest.raises(ConfigError, match=f'"{kind.name}": target'):
        kind(target=target)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"parameters": "turner204"}, "turner2004"),
        ({"temperature": 101}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"dangles": 4}, "dangles"),
        ({"of": "ensemble", "dangles": 1}, "dangles"),
        ({"of": "mean"}, "mean"),
        ({"first": 0}, "first"),
        ({"last": 2.5}, "last"),
        ({"first": 3, "last": 3}, "not both"),
    ],
)
def test_options_are_checked(options, named):
    with pytest.raises(ConfigError, match=named):
        FreeEnergy(**options)


def test_versions_follow_every_option():
    changes = [
        {},
        {"parameters": "turner1999"},
        {"temperature": 30},
        {"dangles": 0},
        {"of": "ensemble"},
        {"first": 9},
        {"last": 9},
    ]
    assert len({FreeEnergy(**options).version for options in changes}) == len(changes)
    assert FreeEnergy(temperature=37).version == FreeEnergy().version
    assert MFEMatch(target="(...)").version != MFEMatch(target="(....)").version


def test_designs_are_scored_one_by_one():
    for reward in (EnsembleDefect(target="(...)"), FreeEnergy()):
        assert reward.batched is False
        assert reward.differentiable is False


def test_a_compound_is_of_the_parameters_asked_for():
    rna = "GGGAAUCCGUAAGGAUACCAAGCCC"
    assert fold_compound(rna, "turner1999").mfe()[1] == pytest.approx(FreeEnergy(parameters="turner1999")([rna])[0])
