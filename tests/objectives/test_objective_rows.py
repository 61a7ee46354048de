"""What every objective asks of its networks in a round, as formulas: no row is computed that nothing uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss
from biotilt.networks import MLP, MLPConfig, ValueSize, VectorMLP, VectorMLPConfig, value_network
from biotilt.objectives import OBJECTIVES
from biotilt.processes import AnyOrder, Flow
from biotilt.testing import FunctionScorer, RowCounter, Rows
from biotilt.values import VALUES

L, V, K = 5, 3, 5
WEIGHTS = torch.linspace(-1, 1, L * V).view(L, V)


class Sum:
    """A reward of letters, complete or relaxed."""

    def __call__(self, designs: torch.Tensor) -> torch.Tensor:
        return WEIGHTS.gather(1, designs.long().T).sum(0)

    def relaxed(self, designs: torch.Tensor) -> torch.Tensor:
        return (designs * WEIGHTS).sum((1, 2))


def counted(
    name: str, calls: int, options: dict[str, Any], value: dict[str, Any] | None = None, points: bool = False
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Return the rows of a round's collection, and of one update: those of networks that were asked."""
    torch.manual_seed(0)
    if points:
        base = Policy(Flow(L, num_steps=K), VectorMLP(VectorMLPConfig(L, 8, 1)))
    else:
        base = Policy(AnyOrder(L, V), MLP(MLPConfig(V, L, 8, 1)))
    objective = OBJECTIVES.build(name, options, "objective")
    built = None
    if objective.value_name is not None:
        given = VALUES.options_of(objective.value_name)(**(value or {}))
        built = VALUES[objective.value_name].build(
            given, base.process, lambda *size: value_network(base, ValueSize(*size))
        )
    scorer = FunctionScorer(lambda x: x.sum(-1)) if points else Sum()
    context = Context(Roles.start(base), Target(scorer, 0.5), torch.Generator().manual_seed(0), Replay(None), built)
    with RowCounter.of(context) as collecting:
        context.memory.add(objective.collect(context, calls).rows)
    with RowCounter.of(context) as updating:
        draw_loss(objective, context)[0].backward()
    return tuple({key: rows for key, rows in each.items() if rows.total} for each in (collecting, updating))  # type: ignore[return-value]


N, S = 12, 7  # calls of a round, states of an update


def chains(n: int) -> int:
    """Rows of `n` chains: the noise, from which they all start, is one."""
    return n * (K - 1) + 1


@pytest.mark.parametrize("anchor", ["pretrained", "rollout"])
def test_vidd_in_the_form_of_the_paper(anchor):
    """Every transition of calls/(K + 1) chains; values are read off the row that draws the next state."""
    options = {"anchor": anchor, "value": "posterior_mean", "teacher": "sampled", "states": S}
    collecting, updating = counted("vidd", 3 * (K + 1), options)
    expected = {"proposal": Rows(chains(3))} | ({"base": Rows(3 * K)} if anchor == "pretrained" else {})
    assert collecting == expected
    assert updating == {"policy": Rows(graph=S)}


def test_vidd_in_the_form_of_the_paper_from_states_of_the_base():
    """Steps of p_out at states of p_pre: the chain, the state itself, and the next one where it is no design."""
    options = {"anchor": "rollout", "value": "posterior_mean", "teacher": "sampled", "states": S, "beta": 0.0}
    collecting, _ = counted("vidd", 3 * 2 * K, options)
    assert collecting == {"base": Rows(chains(3)), "proposal": Rows(3 * K + 3 * (K - 1))}


def test_vidd_with_completions_of_the_base():
    """A chain's K states are completed by `draws` chains of what steps are left; those of the noise start alike."""
    options = {"anchor": "rollout", "value": "monte_carlo", "teacher": "sampled", "states": S}
    collecting, _ = counted("vidd", 2 * (4 * K + 1), options, {"draws": 4})
    assert collecting == {"proposal": Rows(chains(2)), "base": Rows(2 * 4 * K * (K + 1) // 2 - (2 * 4 - 1))}


@pytest.mark.parametrize("mirror", [0.5, 1.0])
@pytest.mark.parametrize("run", ["return", "bootstrapped", "mixed"])
def test_vidd_with_learned_values(run, mirror):
    """One letter at a time charges no log-ratio, so the roll-in needs no base; futures need it in the lesson."""
    options = {"value": run, "states": S, "mirror": mirror}
    collecting, updating = counted("vidd", N, options)
    assert collecting == {"proposal": Rows(chains(N))} | ({} if run == "bootstrapped" else {"base": Rows(chains(N))})
    ahead = {} if run == "return" else {"value.target": Rows(S)}
    expected = {"policy": Rows(graph=S), "value.net": Rows(graph=S), "base": Rows(S + S * bool(ahead))} | ahead
    assert updating == expected | ({"proposal": Rows(S)} if mirror < 1 else {})


@pytest.mark.parametrize(("imagine", "hidings"), [(20, 1), (20, 2), (N - 1, 2)])
def test_vidd_with_the_surrogate(imagine, hidings):
    """What is scored is imagined too; all states of an update teach Q, of each design one teaches the policy."""
    options = {"value": "surrogate", "states": S, "mirror": 0.5}
    collecting, updating = counted("vidd", N, options, {"imagine": imagine, "keep": 20, "hidings": hidings})
    drawn, designs = Rows(chains(max(N, imagine))), -(-S // hidings)
    assert collecting == {"proposal": drawn, "base": drawn}
    assert updating == {
        "policy": Rows(graph=designs), "value.net": Rows(graph=designs * hidings),
        "value.surrogate": Rows(plain=designs, graph=designs), "base": Rows(designs), "proposal": Rows(designs),
    }  # fmt: skip


CASES: list[tuple[str, dict[str, Any], dict[str, Rows], dict[str, Rows]]] = [
    ("ppo", {"states": S}, {"proposal": Rows(chains(N)), "base": Rows(chains(N))}, {"policy": Rows(graph=S)}),
    ("ppo", {"states": S, "base_every": K}, {"proposal": Rows(chains(N)), "base": Rows(N)}, {"policy": Rows(graph=S)}),
    (
        "path_consistency", {"chains": 4}, {"proposal": Rows(chains(N)), "base": Rows(chains(N))},
        {"policy": Rows(graph=4 * K), "value.net": Rows(graph=4 * K)},
    ),
    (
        "trajectory_balance", {"chains": 4}, {"proposal": Rows(chains(N)), "base": Rows(chains(N))},
        {"policy": Rows(graph=4 * K)},
    ),
    # a quarter of the chains is the base's, which is not asked twice
    (
        "trajectory_balance", {"chains": 4, "beta": 0.75},
        {"proposal": Rows(chains(9)), "base": Rows(chains(9) + chains(3))},
        {"policy": Rows(graph=4 * K)},
    ),
    # chains are drawn back from designs at each update, and the base is asked about them
    (
        "trajectory_balance", {"chains": 4, "draws": "search"}, {"base": Rows(chains(N))},
        {"policy": Rows(graph=4 * K), "base": Rows(4 * K)},
    ),
    ("backprop", {}, {}, {"policy": Rows(graph=N * K), "base": Rows(plain=N, graph=N * (K - 1))}),
    (
        "backprop", {"steps": 2, "updates": 3}, {"proposal": Rows(chains(N) - 2 * N)},
        {"policy": Rows(graph=8), "base": Rows(plain=4, graph=4)},
    ),
    (
        "reward_weighted", {"states": S, "unscored": 4},
        {"base": Rows(chains(N)), "proposal": Rows(chains(N) + chains(4 * N))},
        {"policy": Rows(graph=S)},
    ),
    ("reward_weighted", {"states": S, "unscored": 0}, {"base": Rows(chains(N))}, {"policy": Rows(graph=S)}),
    # the first designs are the base's; the noised elites of the anchor are others than those of the bound
    ("evolve", {"states": S}, {"base": Rows(chains(N))}, {"policy": Rows(graph=2 * S), "base": Rows(S)}),
    ("evolve", {"states": S, "anchor": 0.0}, {"base": Rows(chains(N))}, {"policy": Rows(graph=S)}),
    ("score_climbing", {"states": S}, {"base": Rows(chains(N))}, {"policy": Rows(graph=S)}),
    (
        "wdce", {"states": S, "unscored": 1, "beta": 0.75},
        {"base": Rows(chains(9) + chains(3)), "proposal": Rows(chains(9) + chains(3) + chains(N))},
        {"policy": Rows(graph=S)},
    ),
    (
        "ddpp", {"states": S, "beta": 0.5}, {"base": Rows(chains(N // 2)), "proposal": Rows(chains(N // 2))},
        {"policy": Rows(graph=S), "base": Rows(S), "value.net": Rows(graph=S)},
    ),
    ("sdpo", {"states": S, "group": S}, {"base": Rows(chains(N))}, {"policy": Rows(graph=S), "base": Rows(S)}),
    (
        "spg", {"states": S, "draws": 3}, {"proposal": Rows(chains(N)), "base": Rows(chains(N))},
        {"policy": Rows(graph=3 * S)},
    ),
    (
        "spg", {"states": S, "draws": 3, "returns": "reward"}, {"proposal": Rows(chains(N))},
        {"policy": Rows(graph=3 * S)},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "collecting", "updating"), CASES)
def test_rows_of_a_round(name, options, collecting, updating):
    assert counted(name, N, options) == (collecting, updating)


def test_every_objective_has_its_formula():
    here = {name for name, *_ in CASES} | {"vidd", "adjoint_matching", "discrete_adjoint_matching"}
    assert set(OBJECTIVES) == here


def test_rows_of_adjoint_matching():
    """Chains of the proposal, which is shown 0 for the noise; the base's means with a graph but for those of it."""
    collecting, updating = counted("adjoint_matching", N, {"states": S}, points=True)
    assert collecting == {"proposal": Rows(chains(N)), "base": Rows(graph=N * (K - 1))}
    assert updating == {"policy": Rows(graph=S), "base": Rows(S)}


def test_rows_of_discrete_adjoint_matching():
    """Starts are drawn as far as they are needed; completions are drawn on from there, by both."""
    collecting, updating = counted("discrete_adjoint_matching", N, {"group": 4, "states": S})
    base, proposal = collecting["base"].plain, collecting["proposal"].plain
    left, odd = divmod(base, 4)  # Σ (K − k) over the three starts
    assert odd == 0 and 3 <= left <= 3 * K
    assert proposal == base + (3 * K - left)
    assert updating == {"policy": Rows(graph=S)}
