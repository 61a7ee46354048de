"""A reward of one's own: 5′UTRs that are translated well and have no hairpin.

Run it with the experiment beside it: biotilt tune examples/my_reward.toml
"""

from __future__ import annotations

from biotilt.rewards.generic.learned import LearnedReward
from biotilt.tasks import find_task

PAIRS = str.maketrans("ACGT", "TGCA")

# The task's own predictor, so that it can be one part of a sum.
ribosome_load = LearnedReward.load(find_task("utr").folder / "optimised.safetensors")


def unpaired(designs: list[str]) -> list[float]:
    """Minus the length of the longest stretch that could pair with a later one of the same design.

    A ribosome has to open such a hairpin on its way to the start codon. Its loop has at least three letters.
    """
    return [-float(longest_stem(design)) for design in designs]


def longest_stem(design: str) -> int:
    longest = 0
    for start in range(len(design)):
        # a longer stem from a later start is all that can still raise the maximum
        while design[start : start + longest + 1].translate(PAIRS)[::-1] in design[start + longest + 4 :]:
            longest += 1
    return longest
