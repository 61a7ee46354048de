from __future__ import annotations

from biotilt.spaces.loops import OUTSIDE, Loops

#             0123456789012345678901
STRUCTURE = ".(((...).((....)).))."


def test_loops_by_hand():
    loops = Loops(STRUCTURE)
    assert loops.members == {
        OUTSIDE: (0, 1, 19, 20),
        1: (1, 2, 18, 19),
        2: (2, 3, 7, 8, 9, 16, 17, 18),
        3: (3, 4, 5, 6, 7),
        9: (9, 10, 15, 16),
        10: (10, 11, 12, 13, 14, 15),
    }
    assert loops.touching(5) == (3,)
    assert loops.touching(16) == (2, 9)


def test_what_is_unpaired_beside_pairs_and_what_is_within_stems():
    beside = {i for i, is_so in enumerate(Loops(STRUCTURE).beside_pairs) if is_so}
    assert beside == {0, 4, 6, 8, 11, 14, 17, 20}
    stem = Loops("((((...))))")
    assert [i for i, is_so in enumerate(stem.in_stems) if is_so] == [1, 2, 8, 9]
    assert not any(Loops(STRUCTURE).in_stems)


def test_neighbours_share_a_pair():
    assert Loops(STRUCTURE).neighbours == {OUTSIDE: (1,), 1: (OUTSIDE, 2), 2: (1, 3, 9), 3: (2,), 9: (2, 10), 10: (9,)}


def test_two_branches_that_touch_are_no_stack():
    loops = Loops("((...)(...))")
    assert loops.members[0] == (0, 1, 5, 6, 10, 11)
    assert not any(loops.in_stems)
