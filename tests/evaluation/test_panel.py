from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from biotilt.core import Policy
from biotilt.errors import DataError
from biotilt.evaluation import Judged, Reference, kmer_counts, likelihood, panel
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder
from biotilt.spaces import RNA, Letters

NAN, INF = math.nan, math.inf
KEYS = {
    *("name", "n", "unscored", "infeasible", "optimised", "held_out", "gap", "beyond_measured", "unique"),
    *(
        "distance",
        "closest",
        "nearest",
        "length",
        "kmer3",
        "loglik_base",
        "kl_policy_base",
        "kl_base_policy",
        "calls",
        "seconds",
    ),
}


def make(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "designs": ["AAC", "ACC", "AAC", "GGU"],
        "optimised": [3.0, 9.0, 5.0, 4.0],
        "held_out": [1.0, 2.0, 9.5, 4.0],
        "reference": Reference(kmer_counts(["AACC", "GGU"], 3, "ACGU"), 8.0, letters="ACGU"),
        "loglik_base": [-1.0, -2.0, -3.0, -6.0],
        "kl_policy_base": 1.5,
        "kl_base_policy": 2.5,
        "calls": 10,
        "seconds": 1.25,
        "space": Letters(RNA),
    }
    return panel("tuned", Judged(**(arguments | changes)))


def test_a_row_by_hand() -> None:
    row = make()
    assert set(row) == KEYS
    assert row["optimised"]["median"] == 4.5 and row["held_out"]["mean"] == 4.125
    assert row["gap"] == 1.5  # 4.5 - 3.0
    assert row["beyond_measured"] == 0.5  # the second by the optimised oracle, the third by the held-out one
    assert row["unique"] == 0.75
    assert row["distance"] == pytest.approx((1 + 0 + 3 + 1 + 3 + 3) / 6)
    # nearest others: AAC and ACC 0 or 1 away, GGU three; lengths are all 3
    assert (row["closest"], row["nearest"], row["length"]) == (0, 0.5, 3.0)
    assert row["loglik_base"] == -3.0
    assert (row["kl_policy_base"], row["kl_base_policy"], row["calls"], row["seconds"]) == (
        1.5,
        2.5,
        10,
        1.25,
    )
    # of 64 words: AAC, ACC, GGU once each in the reference; AAC twice, ACC and GGU once in the designs
    a, b = np.zeros(64), np.zeros(64)
    a[:3], b[:3] = (1, 1, 1), (2, 1, 1)
    assert row["kmer3"] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_unscored_and_infeasible_designs_are_counted_and_hidden_nowhere() -> None:
    row = make(optimised=[NAN, 9.0, -INF, 4.0], held_out=[9.0, NAN, NAN, 1.0])
    assert (row["n"], row["unscored"], row["infeasible"]) == (4, 1, 1)
    assert row["optimised"]["mean"] == 6.5 and row["optimised"]["p5"] is None
    assert row["beyond_measured"] == 0.5  # each judged by the oracle that could score it


@pytest.mark.parametrize(
    "changes",
    [
        {"optimised": [NAN] * 4, "held_out": [-INF] * 4, "loglik_base": [NAN] * 4},
        {"held_out": None, "loglik_base": None, "kl_policy_base": None, "kl_base_policy": INF},
        {"reference": Reference(None, None), "kl_policy_base": NAN, "seconds": NAN},
        {"designs": [], "optimised": [], "held_out": [], "loglik_base": []},
        {"optimised": np.float32([1, 2, 3, 4]), "held_out": torch.ones(4), "calls": np.int64(3)},
    ],
)
def test_a_row_is_strict_json(changes: dict[str, Any]) -> None:
    text = json.dumps(make(**changes), allow_nan=False)
    assert set(json.loads(text)) == KEYS


def test_what_is_not_known_is_none() -> None:
    row = make(held_out=None, reference=Reference(None, None), loglik_base=None)
    assert [row[key] for key in ("held_out", "gap", "beyond_measured", "kmer3", "loglik_base")] == [None] * 5


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match=r"4 designs but 3 values of held_out"):
        make(held_out=[1.0, 2.0, 3.0])


def test_a_reference_of_another_alphabet_is_refused() -> None:
    with pytest.raises(DataError, match=r"3-mers of the letters ACGT need \(64,\)"):
        Reference(np.zeros(16), None)


class _Uneven:
    """A process whose loss is the design's sum plus noise of standard deviation 1."""

    def denoising_loss(self, net: Any, design: Tensor, generator: Generator) -> Tensor:
        return design.sum(-1).double() + torch.randn(len(design), generator=generator)


def test_likelihood_is_minus_the_mean_loss_whatever_the_chunk() -> None:
    policy = Policy(_Uneven(), nn.Identity())  # type: ignore[arg-type]
    designs = torch.tensor([[1, 2], [0, 0], [3, 4]])
    found = likelihood(policy, designs, Generator().manual_seed(0), draws=400, chunk=2)
    assert found.shape == (3,)
    # standard error 1/20
    torch.testing.assert_close(found, torch.tensor([-3.0, 0.0, -7.0], dtype=torch.float64), atol=0.2, rtol=0)


@pytest.mark.parametrize("draws", [None, 1, 7])
def test_the_likelihood_of_letters_is_the_bound_of_the_chain_that_is_drawn(draws: int | None) -> None:
    # two of three letters are revealed in the first step, where nothing is known, and the third given both
    net = StateTable(2, 3, torch.randn(27, 3, 2, generator=Generator().manual_seed(4)))
    policy = Policy(AnyOrder(3, 2, per_step=2), net)
    design, mask = [1, 0, 0], 2

    def log_p(state: list[int], place: int) -> float:
        output = policy.outputs(torch.tensor([state]), torch.zeros(1))
        return output.log_softmax(-1)[0, place, design[place]].item()

    others = [[mask if j == i else design[j] for j in range(3)] for i in range(3)]
    bound = sum(2 / 3 * log_p([mask] * 3, i) + 1 / 3 * log_p(others[i], i) for i in range(3))
    found = likelihood(policy, torch.tensor([design] * 8000), Generator().manual_seed(0), draws=draws, chunk=900)
    assert found.shape == (8000,)
    assert found.mean().item() == pytest.approx(bound, abs=4 * found.std().item() / 8000**0.5)
