"""Path consistency and trajectory balance on every path of a small chain, written out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Target, draw_loss
from biotilt.errors import ConfigError
from biotilt.networks.table import Table, ValueTable
from biotilt.objectives import PathConsistency, TrajectoryBalance
from biotilt.processes import Finite
from biotilt.testing import optimal_kernel, soft_values, tilted_law
from biotilt.testing.contracts import check_gradients
from biotilt.testing.exact import law
from biotilt.values import LogZ, StateNet

S, K, ALPHA = 3, 3, 0.4
ALL = 10_000  # more than there are paths: every row is drawn

pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def table(logits: Tensor) -> Policy:
    return Policy(Finite(S, K), Table(S, K, logits))


BASE = table(normal(K, S, S, seed=1))
REWARD = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64)
PATHS = torch.tensor([(0, *rest) for rest in itertools.product(range(S), repeat=K)])  # (S^K, K+1)
OPTIMUM = optimal_kernel(BASE, REWARD, ALPHA).log()
SOFT = soft_values(BASE, REWARD, ALPHA) / ALPHA
LOG_Z = tilted_law(law(BASE), REWARD, ALPHA)[1]

VARIANCE = TrajectoryBalance(form="log_variance", chains=ALL)
LEARNED = TrajectoryBalance(form="learned", chains=ALL)
SPANS = [PathConsistency(span=span, chains=ALL) for span in (1, 2, K, None)]
EVERY = [VARIANCE, LEARNED, *SPANS]
IDS = ["log_variance", "learned", "span 1", "span 2", "span K", "whole"]
each = pytest.mark.parametrize("objective", EVERY, ids=IDS)


def step_log_probs(logits: Tensor, paths: Tensor = PATHS) -> Tensor:
    """log p(x[k+1]|x[k]) of every path, `(paths, K)`."""
    return torch.stack([logits[k].log_softmax(-1)[paths[:, k], paths[:, k + 1]] for k in range(K)], -1)


def base_logits() -> Tensor:
    logits = BASE.net.logits
    assert isinstance(logits, Tensor)
    return logits.detach()


def every_path(rewards: Tensor = REWARD) -> dict[str, Tensor]:
    return {
        "chain": PATHS.to(torch.int8), "log_base": step_log_probs(base_logits()), "rewards": rewards[PATHS[:, -1]],
    }  # fmt: skip


def value_of(objective: Any, soft: Tensor = SOFT) -> StateNet | LogZ | None:
    """The value that the objective names, at the given soft values in units of α, `(K+1, S)`; units are fixed."""
    if objective.value is None:
        return None
    if objective.value == "log_z":
        value: StateNet | LogZ = LogZ()
        value.offset.data.fill_(soft[0, 0])
    else:
        net = ValueTable(S, K)
        net.values.data.copy_(soft[:K])
        value = StateNet(net, BASE.process)
    value.centre.zero_()
    return value


def context_of(objective: Any, logits: Tensor, soft: Tensor = SOFT, scorer: Any = None) -> Context:
    policy = table(logits)
    roles = Roles(policy, BASE.frozen_copy(), policy.frozen_copy())
    scorer = scorer or (lambda designs: REWARD[designs.long()])
    return Context(
        roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(None), value_of(objective, soft)
    )


def loss_and_gradient(objective: Any, context: Context, rows: dict[str, Tensor]) -> tuple[float, Tensor]:
    context.memory.rows = rows
    context.roles.policy.net.zero_grad()
    loss, _ = draw_loss(objective, context)
    loss.backward()
    return loss.item(), context.roles.policy.net.logits.grad.clone()


def longhand(objective: Any, logits: Tensor, soft: Tensor, rows: dict[str, Tensor]) -> Tensor:
    """The equations of the docstrings, one path and one piece at a time, with gradient to `logits`."""
    ratio = step_log_probs(logits, rows["chain"].long()) - rows["log_base"]
    squares = []
    for b in range(len(ratio)):
        complete = rows["rewards"][b] / ALPHA
        if isinstance(objective, TrajectoryBalance):
            squares.append((soft[0, 0] + ratio[b].sum() - complete) ** 2)
            continue
        value = [soft[k, rows["chain"][b, k].long()] for k in range(K)] + [complete]
        for k in range(K):
            m = K if objective.span is None else min(k + objective.span, K)
            squares.append((value[m] - value[k] - sum(ratio[b, i] for i in range(k, m))) ** 2)
    return torch.stack(squares).mean()


@each
def test_loss_and_gradient_vanish_at_p_star_on_every_transition(objective):
    context = context_of(objective, OPTIMUM)
    rows = every_path()
    loss, gradient = loss_and_gradient(objective, context, rows)
    assert loss < 1e-20 and gradient.abs().max() < 1e-10
    for weight in context.value.parameters() if context.value is not None else []:
        assert weight.grad.abs().max() < 1e-10
    # term by term, not only on average: any two paths alone are at rest too
    for pair in ([0, 1], [5, 20], [13, 26]):
        loss, gradient = loss_and_gradient(objective, context, {k: v[pair] for k, v in rows.items()})
        assert loss < 1e-20 and gradient.abs().max() < 1e-10


def test_log_z_is_the_optimum_of_the_objective():
    assert SOFT[0, 0].item() == pytest.approx(LOG_Z)
    for objective in EVERY:
        context = context_of(objective, OPTIMUM)
        context.memory.rows = every_path()
        assert draw_loss(objective, context)[1]["log_z"] == pytest.approx(LOG_Z)


@each
def test_loss_and_gradient_by_longhand(objective):
    logits = normal(K, S, S, seed=2)
    soft = SOFT + normal(K + 1, S, seed=3)
    rows = every_path()
    got, gradient = loss_and_gradient(objective, context_of(objective, logits, soft), rows)
    if objective is VARIANCE:  # the best log Z for the batch
        best = (rows["rewards"] / ALPHA - (step_log_probs(logits) - rows["log_base"]).sum(-1)).mean()
        soft = soft.clone().fill_(best)
    leaf = logits.clone().requires_grad_(True)
    expected = longhand(objective, leaf, soft, rows)
    expected.backward()
    assert leaf.grad is not None and expected.item() > 0.1
    assert got == pytest.approx(expected.item())
    torch.testing.assert_close(gradient, leaf.grad, atol=1e-12, rtol=0)


@each
@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_a_step_too_likely_is_pushed_back(objective, shift):
    """One logit away from p*: the gradient there has the sign of the error, and is the largest of all."""
    logits = OPTIMUM.clone()
    logits[1, 2, 0] += shift
    _, gradient = loss_and_gradient(objective, context_of(objective, logits), every_path())
    assert gradient[1, 2, 0] * shift > 1e-3
    assert gradient.abs().max() == gradient[1, 2, 0].abs()


@each
def test_a_constant_added_to_the_reward_changes_nothing_but_log_z(objective):
    logits, constant = normal(K, S, S, seed=4), 2.7
    loss, gradient = loss_and_gradient(objective, context_of(objective, logits), every_path())
    moved = context_of(objective, logits, SOFT + constant / ALPHA)
    shifted, same = loss_and_gradient(objective, moved, every_path(REWARD + constant))
    assert shifted == pytest.approx(loss)
    torch.testing.assert_close(same, gradient)


@each
def test_order_and_chunks_of_the_batch_do_not_matter(objective):
    logits = normal(K, S, S, seed=5)
    context = context_of(objective, logits)
    rows = every_path()
    loss, gradient = loss_and_gradient(objective, context, rows)
    order = torch.randperm(len(PATHS), generator=torch.Generator().manual_seed(6))
    permuted, same = loss_and_gradient(objective, context, {k: v[order] for k, v in rows.items()})
    assert permuted == pytest.approx(loss)
    torch.testing.assert_close(same, gradient)
    if objective is VARIANCE:  # its log Z belongs to the batch
        return
    parts = [loss_and_gradient(objective, context, {k: v[i::3] for k, v in rows.items()}) for i in range(3)]
    assert sum(part for part, _ in parts) / 3 == pytest.approx(loss)
    torch.testing.assert_close(sum(part for _, part in parts) / 3, gradient)


def test_log_variance_is_the_learned_form_at_the_best_log_z_of_the_batch():
    logits = normal(K, S, S, seed=7)
    rows = {k: v[:11] for k, v in every_path().items()}
    context = context_of(LEARNED, logits)
    assert isinstance(context.value, LogZ)
    optimiser = torch.optim.LBFGS(context.value.parameters(), line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = draw_loss(LEARNED, context)[0]
        loss.backward()
        return loss

    context.memory.rows = rows
    optimiser.step(closure)  # the best number, found without knowing that it is the mean
    learned, gradient = loss_and_gradient(LEARNED, context, rows)
    variance, same = loss_and_gradient(VARIANCE, context_of(VARIANCE, logits), rows)
    assert variance == pytest.approx(learned) and variance > 0.1
    torch.testing.assert_close(same, gradient)


def test_units_of_the_value_are_those_of_the_first_rewards():
    for objective in (LEARNED, SPANS[0]):
        context = context_of(objective, OPTIMUM)
        context.value.centre.fill_(torch.nan)
        context.memory.rows = every_path()
        draw_loss(objective, context)
        first = REWARD[PATHS[:, -1]] / ALPHA
        assert context.value.centre.item() == pytest.approx(first.mean().item())
        assert context.value.spread.item() == pytest.approx(first.std(correction=0).item())


@each
def test_rows_of_a_round(objective):
    """Chains with their base's log-probabilities, the last of them from the base itself; unscored ones are dropped."""
    objective = replace(objective, beta=0.75)
    logits = normal(K, S, S, seed=8)
    context = context_of(objective, logits, scorer=lambda d: torch.where(d == 1, torch.nan, REWARD[d.long()]))
    collected = objective.collect(context, 400)
    scored = collected.designs != 1
    rows, chain = collected.rows, collected.rows["chain"].long()
    assert len(chain) == int(scored.sum()) < 400 == len(collected.designs)
    assert torch.equal(chain[:, -1], collected.designs[scored].long()) and not chain[:, 0].any()
    torch.testing.assert_close(rows["log_base"], step_log_probs(base_logits(), chain))
    torch.testing.assert_close(rows["rewards"], REWARD[chain[:, -1]])
    assert collected.metrics["reward"] == pytest.approx(rows["rewards"].mean().item())


@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0])
def test_the_share_of_chains_from_the_base(beta):
    """The policy always goes to state 2, the base never does."""
    always = torch.zeros(K, S, S)
    always[..., 2] = 60
    objective = TrajectoryBalance(beta=beta)
    context = context_of(objective, always)
    never = torch.zeros(K, S, S)
    never[..., 2] = -60
    context.roles.base = table(never).frozen_copy()
    collected = objective.collect(context, 50)
    assert (collected.designs == 2).sum() == round(50 * beta)


@each
def test_proposal_is_refreshed_after_a_round(objective):
    objective = replace(objective, updates=3, chains=5, buffer=77)
    assert (objective.refresh_every, objective.batch_size, objective.capacity) == (3, 5, 77)


@each
def test_gradients_reach_the_policy_and_its_value_only(objective):
    context = context_of(objective, normal(K, S, S, seed=10), SOFT + normal(K + 1, S, seed=11))
    context.memory.add(objective.collect(context, 64).rows)
    check_gradients(objective, context)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TrajectoryBalance, {"form": "learnd"}, r'objective\.form.*did you mean "learned"'),
        (TrajectoryBalance, {"chains": 1}, r"objective\.chains: must be ≥ 2"),
        (TrajectoryBalance, {"beta": 1.5}, r"objective\.beta"),
        (PathConsistency, {"span": 0}, r"objective\.span: must be ≥ 1"),
        (PathConsistency, {"updates": 0}, r"objective\.updates"),
        (PathConsistency, {"beta": -0.1}, r"objective\.beta"),
        (PathConsistency, {"buffer": 0}, r"objective\.buffer"),
    ],
)
def test_impossible_options_are_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**options)
