"""What every sampler asks of its networks, as formulas: the row that values a state is the one that goes on from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from biotilt.core import Context, Policy, Replay, Roles, Target
from biotilt.networks import MLP, MLPConfig
from biotilt.processes import AnyOrder
from biotilt.samplers import SAMPLERS
from biotilt.testing import RowCounter, Rows
from biotilt.values import MonteCarlo, PosteriorMean

L, V, K, N, M = 5, 3, 5, 7, 4
WEIGHTS = torch.linspace(-1, 1, L * V).view(L, V)
VALUES = {"posterior_mean": PosteriorMean(), "monte_carlo": MonteCarlo(3)}


class Sum:
    """A reward of letters, complete or relaxed."""

    def __call__(self, designs: torch.Tensor) -> torch.Tensor:
        return WEIGHTS.gather(1, designs.long().T).sum(0)

    def relaxed(self, designs: torch.Tensor) -> torch.Tensor:
        return (designs * WEIGHTS).sum((1, 2))


def counted(name: str, options: dict[str, Any], tuned: bool) -> dict[str, Rows]:
    """Return the rows of `N` designs, of the base's weights or of others that are weighed against them."""
    torch.manual_seed(0)
    process = AnyOrder(L, V)
    roles = Roles.start(Policy(process, MLP(MLPConfig(V, L, 8, 1))))
    if tuned:
        roles.proposal = Policy(process, MLP(MLPConfig(V, L, 8, 1))).frozen_copy()
    sampler = SAMPLERS.build(name, options, "sampler")
    value = VALUES[sampler.value_name] if sampler.value_name is not None else None
    context = Context(roles, Target(Sum(), 0.5), torch.Generator().manual_seed(0), Replay(None), value)
    with RowCounter.of(context) as rows:
        sampler.draw(context, N)
    return {key: count for key, count in rows.items() if count.total}


def chains(n: int) -> int:
    """Rows of `n` chains: the noise, from which they all start, is one."""
    return n * (K - 1) + 1


LEFT = K * (K - 1) // 2  # steps left after the steps 1 … K−1, summed
PM: dict[str, Any] = {"value": "posterior_mean"}
CASES: list[tuple[str, dict[str, Any], int, int]] = [  # rows of the proposal, and those that weigh its steps
    ("ancestral", {}, chains(N), 0),
    ("best_of_n", {"factor": 3}, chains(3 * N), chains(3 * N)),
    ("importance", {}, chains(N), chains(N)),
    # the children of a step are asked once: to value them, and to go on from the chosen one
    ("svdd", PM | {"children": M}, 1 + M * N * (K - 1), chains(N)),
    ("smc", PM, chains(N), chains(N)),
    ("smc", {"value": "none"}, chains(N), chains(N)),
    ("refinement", PM | {"rounds": 2, "share": 0.4, "children": M}, 1 + 2 * N + M * N * (K - 1 + 2), chains(N) + N * 4),
    ("refinement", PM | {"rounds": 2, "share": 0.4, "children": 1}, chains(N) + N * 4, chains(N) + N * 4),
    ("logit_guidance", {"guesses": M}, N * K, N * K),
    ("guidance", {}, N * K, N * K),
    ("tree_search", {"iterations": 1, "children": M + 4}, 1 + (M + 4) * (K - 1), 1 + (M + 4) * (K - 1)),
]


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize(("name", "options", "proposed", "weighed"), CASES)
def test_rows_of_a_sampler(name, options, proposed, weighed, tuned):
    """The base is asked only where the proposal is another, and the chains have weights."""
    expected = {"proposal": Rows(proposed)} | ({"base": Rows(weighed)} if tuned and weighed else {})
    assert counted(name, options, tuned) == expected


def test_completions_are_the_bases():
    rows = counted("svdd", {"value": "monte_carlo", "children": M}, tuned=False)
    assert rows == {"proposal": Rows(chains(N)), "base": Rows(N * M * 3 * LEFT)}


def test_rows_of_metropolis_hastings():
    """Chains of the proposal to start with, then the last steps of the base: two of five in each round here."""
    options = {"rounds": 3, "least": 0.4, "most": 0.4}
    assert counted("mcmc", options, tuned=True) == {"proposal": Rows(chains(N)), "base": Rows(3 * N * 2)}
    options = {"rounds": 3, "least": 1.0, "most": 1.0, "renoise": "path"}
    assert counted("mcmc", options, tuned=True) == {"proposal": Rows(4 * chains(N)), "base": Rows(4 * chains(N))}


def test_rows_of_split_gibbs():
    """A chain of the proposal, then of the base what is left of the steps after as few hidden letters as there are."""
    rows = counted("split_gibbs", {"rounds": 3, "moves": 2}, tuned=False)
    assert rows["proposal"] == Rows(chains(N))
    assert rows["base"].graph == 0 and 3 * N <= rows["base"].plain <= 3 * N * K


def test_rows_of_evolve():
    """Half of the calls are chains; of a child two letters of five are drawn anew, each a row, and again if known."""
    rows = counted("evolve", {"factor": 2, "least": 0.4, "most": 0.4, "fresh": 0.0, "batch": N}, tuned=False)
    assert rows["base"] == Rows(chains(N))
    assert rows["proposal"].graph == 0 and 2 * N <= rows["proposal"].plain <= 4 * N


def test_every_sampler_has_its_formula():
    assert set(SAMPLERS) == {name for name, *_ in CASES} | {"mcmc", "split_gibbs", "evolve"}
