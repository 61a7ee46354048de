"""Where residues are along a chain, by hand."""

from __future__ import annotations

import backbones
import torch

from biotilt.rewards.protein.backbone import Backbone


def test_a_chain_goes_on_in_the_order_of_its_bonds() -> None:
    """What is inserted is lettered up or down, or before its number; scattered residues go by their numbers."""
    places = torch.from_numpy(backbones.wandering(6, 8)).float()

    def place(numbers: list[tuple[int, str]], order: list[int]) -> list[int]:
        return Backbone(places[order], "AAAAAA", ("A",) * 6, tuple(numbers)).place.tolist()

    along = list(range(6))
    assert place([(7, ""), (8, ""), (8, "A"), (8, "B"), (9, ""), (12, "")], along) == [7, 8, 9, 10, 11, 14]
    assert place([(7, ""), (8, "B"), (8, "A"), (8, ""), (9, ""), (12, "")], along) == [7, 8, 9, 10, 11, 14]
    assert place([(1, "X"), (2, "X"), (3, "X"), (2, ""), (3, ""), (4, "")], along) == [1, 2, 3, 4, 5, 6]
    scattered = [(1, ""), (2, ""), (4, ""), (5, ""), (6, ""), (3, "")]
    assert place(scattered, [0, 1, 3, 4, 5, 2]) == [1, 2, 4, 5, 6, 3]
