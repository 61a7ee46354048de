"""Inverse folding against every structure of short RNAs, and against folds of the whole molecule."""

from __future__ import annotations

import random

import pytest
from rna_structures import every_structure

from biotilt.errors import ConfigError, DataError
from biotilt.rewards.rna.folding import MFEMatch, energies_of, fold_compound
from biotilt.rewards.rna.inverse import InverseFolding
from biotilt.rewards.rna.rewriting import Rewriting, false_strand
from biotilt.rewards.rna.windows import CAP, Fault, Folded, Windows
from biotilt.spaces.loops import OUTSIDE, Loops
from biotilt.spaces.paired import PAIRS, Paired, partners_of

pytest.importorskip("RNA", reason="ViennaRNA is an optional package")

TARGET = "((.((...)).)).."
LONGER = ".((((....)))).((.((...((((....))))...)).))"


def windows_of(target: str) -> Windows:
    return Windows(Loops(target), "turner1999", 37.0, 1)


def random_rna(target: str, draws: random.Random) -> list[str]:
    letters = [draws.choice("ACGU") for _ in target]
    for i, j in enumerate(partners_of(target)):
        if j > i:
            letters[i], letters[j] = draws.choice(PAIRS)
    return letters


def test_a_fold_says_how_far_the_target_is_from_the_least_of_every_structure():
    draws, windows = random.Random(3), windows_of(TARGET)
    target = partners_of(TARGET)
    wrong_at_all = 0
    for _ in range(12):
        letters = random_rna(TARGET, draws)
        folded = windows.fold(letters, windows.whole)
        compound = fold_compound("".join(letters), "turner1999", dangles=1)
        energies = {s: compound.eval_structure(s) for s in every_structure("".join(letters))}
        assert folded.gap == pytest.approx(energies[TARGET] - min(energies.values()), abs=1e-4)
        assert folded.wrong == tuple(i for i, j in folded.partners.items() if j != target[i])
        wrong_at_all += bool(folded.wrong)
    assert wrong_at_all > 3


def test_the_bound_of_a_gap_is_never_above_it_and_rules_out_what_is_known():
    draws, windows = random.Random(5), windows_of(LONGER)
    window = windows.around(Fault(18, (19, 36)), reach=2)
    assert window.structure == "(.((...((((....))))...)).)"
    below = 0
    for _ in range(40):
        letters = random_rna(LONGER, draws)
        bound = windows.least_gap(letters, window, enough=1e9)
        gap = windows.fold(letters, window).gap
        assert 0 <= bound <= gap + 1e-4
        below += 0 < bound < gap - 0.01
        # what was just folded is remembered, so that its own bound is tight
        assert windows.least_gap(letters, window, enough=1e9) == pytest.approx(gap, abs=1e-4)
    assert below > 0


def test_energies_without_folds_are_those_of_folds():
    rna = "GGCGAAAGCAGCC" + "AA"
    for structure in every_structure(rna)[::7]:
        light = energies_of(rna, "turner1999", dangles=1).eval_structure(structure)
        assert light == fold_compound(rna, "turner1999", dangles=1).eval_structure(structure)


#            1         2         3         4
#  01234567890123456789012345678901234567890123456
PARTS = "((..((((((...(((((((((....)))))))))..))))))..))"


def test_a_window_leaves_out_what_hangs_on_its_loops():
    # the fault is between the pairs 8-38 and 13-34; two stacks are kept on either side
    window = windows_of(PARTS).around(Fault(8, (10, 36)), reach=2)
    assert window.places == (*range(6, 16), -1, -1, -1, -1, *range(32, 41))
    assert window.structure == "((((...(((....)))..))))"
    assert window.forced == ((0, 22), (9, 14))
    assert window.free == {7, 8, 9, 10, 11, 12, 13, 14, 33, 34, 35, 36, 37, 38, 39}
    assert window.design("C" * len(PARTS)) == "C" * 10 + CAP + "C" * 9


def test_forced_pairs_are_there_whatever_the_letters():
    windows = windows_of(PARTS)
    window = windows.around(Fault(8, (10, 36)), reach=1)
    draws = random.Random(7)
    for _ in range(20):
        rna = random_rna(PARTS, draws)
        folded = windows.fold(rna, window)
        for a, b in window.forced:
            assert folded.partners[window.places[a]] == window.places[b]


def test_the_gap_of_a_window_is_that_of_the_molecule_where_all_else_is_as_in_the_target():
    windows, draws, met = windows_of(PARTS), random.Random(11), 0
    for _ in range(60):
        rna = random_rna(PARTS, draws)
        for i, j in ((0, 46), (1, 45), (17, 29), (18, 28), (19, 27), (20, 26), (16, 30), (21, 25)):
            rna[i], rna[j] = "GC" if i % 2 else "CG"
        whole = windows.fold(rna, windows.whole)
        faults = windows.faults(whole)
        if len(faults) != 1 or faults[0].under == OUTSIDE:
            continue
        window = windows.around(faults[0], reach=1)
        if len(window.places) < len(PARTS):
            assert windows.fold(rna, window).gap == pytest.approx(whole.gap, abs=1e-4)
            met += 1
    assert met > 3


def test_faults_are_told_apart_by_the_pairs_around_them():
    #         012345678901234567890123456
    target = "(((...)).(((...))).((...)))"
    found = "(........(((...))).(.....))"
    goal, partners = Loops(target), partners_of(found)
    wrong = tuple(i for i, (a, b) in enumerate(zip(partners, goal.partners)) if a != b)
    windows = windows_of(target)
    folded = Folded(windows.whole, 1.0, dict(enumerate(partners)), wrong)
    assert windows.faults(folded) == [Fault(0, (1, 2, 6, 7)), Fault(19, (20, 24))]


def test_a_fault_under_no_common_pair_is_outside():
    windows = windows_of("((...))")
    folded = Folded(windows.whole, 1.0, dict.fromkeys(range(7), -1), (0, 1, 5, 6))
    assert windows.faults(folded) == [Fault(OUTSIDE, (0, 1, 5, 6))]


def test_parts_are_around_every_loop_that_is_no_stack():
    windows = windows_of(PARTS)
    # loops: 1 (two and two letters to 4), 9 (three and two to 13), 21 (the hairpin), and the outside
    parts = windows.parts(windows.whole, reach=1)
    assert all(part.inside < windows.whole.inside for part in parts)
    assert [min(part.inside) for part in parts] == [20, 8, 0, 0]
    assert {10, 11, 12, 35, 36} < parts[1].inside
    assert windows.parts(parts[0], reach=1) == []


def test_moves_of_a_long_window_undo_a_false_stem():
    target = "." * 8 + "((((....))))" + "." * 108
    windows = windows_of(target)
    # the strand 8-11 pairs with 103-100 and not with 19-16
    partners = (
        dict.fromkeys(range(len(target)), -1) | {8 + k: 103 - k for k in range(4)} | {103 - k: 8 + k for k in range(4)}
    )
    wrong = tuple(i for i, j in partners.items() if j != partners_of(target)[i])
    folded = Folded(windows.whole, 1.0, partners, wrong)
    assert false_strand(9, folded) == {8, 9, 10, 11}
    assert false_strand(101, folded) == {100, 101, 102, 103}
    assert false_strand(17, folded) == {17}  # it lost its partner and has no false one


def test_moves_keep_pairs_and_reach_every_rna():
    target = "((...))"
    moves = Rewriting(Loops(target), random.Random(0))
    folded = Folded(windows_of(target).whole, 1.0, dict.fromkeys(range(7), -1), (0, 1, 5, 6))
    space, here, met = Paired(target), list("GGAAACC"), set()
    for _ in range(4000):
        here = moves.rewritten(here, folded)
        space.encode(["".join(here)])  # or it raises: letters that do not pair
        met.add("".join(here))
    assert {rna[0] + rna[6] for rna in met} == {rna[1] + rna[5] for rna in met} == set(PAIRS)
    assert {rna[3] for rna in met} == set("ACGU")


def test_moves_change_what_is_about_the_fault_only():
    loops = Loops(LONGER)
    windows = windows_of(LONGER)
    moves, letters = Rewriting(loops, random.Random(2)), random_rna(LONGER, random.Random(9))
    wrong = (3, 10)  # a pair of the first stem that is lost
    partners = {i: -1 if i in wrong else j for i, j in enumerate(loops.partners)}
    folded = Folded(windows.whole, 1.0, partners, wrong)
    for _ in range(300):
        new = moves.rewritten(letters, folded)
        changed = {i for i, (a, b) in enumerate(zip(letters, new)) if a != b}
        assert changed <= set(range(1, 13))


def test_letters_of_the_scaffold_stay():
    scaffold = "." + "AU" + "." * 8 + "AU" + "." * (len(LONGER) - 13)
    found = InverseFolding(LONGER, scaffold=scaffold, seed=4).search(folds=300)
    assert found.solved
    assert found.rna[1:3] + found.rna[11:13] == "AUAU"


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_solved_folds_into_its_target(seed):
    search = InverseFolding(LONGER, "turner1999", dangles=1, seed=seed)
    found = search.search(folds=500)
    assert found.solved and found.stopped == "solved" and found.mispaired == 0
    assert MFEMatch("turner1999", dangles=1, target=LONGER)([found.rna]) == [1.0]
    again = search.search(folds=500)
    assert (again.rna, again.folds) == (found.rna, found.folds)


def test_a_search_ends_with_its_folds_or_its_time():
    impossible = "(.(.(.(.(...).).).).)"  # a tower of single pairs
    found = InverseFolding(impossible).search(folds=30)
    assert (found.solved, found.stopped, found.folds) == (False, "folds", 30)
    assert found.mispaired > 0
    assert InverseFolding(impossible).search(seconds=0).stopped == "time"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": "((..))"}, "too close"),
        ({"target": "((...)"}, "not closed"),
        ({"target": "(...)", "scaffold": "G...."}, "give both or none"),
        ({"target": "(...)", "scaffold": "G...G"}, "do not pair"),
        ({"target": "(...)", "dangles": 7}, "dangles"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises((ConfigError, DataError), match=said):
        InverseFolding(**options)
