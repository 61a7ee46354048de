"""The learned value: its targets by longhand loops, and its fixed points against the exact soft Q."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, RollIn, Target, rollout
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.testing import ExactValue, RowCounter, Rows, all_designs, all_states
from biotilt.testing.exact import lexicographic_index
from biotilt.values import LearnedQ, LearnedValueConfig

ALPHA = 0.4
RUNS = ["return", "bootstrapped", "mixed"]


pytestmark = pytest.mark.usefixtures("double")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def context_of(base: Policy, value: LearnedQ, seed: int = 0) -> Context:
    return Context(Roles.start(base), Target(lambda d: d.double().sum(-1), ALPHA), generator(seed), Replay(None), value)


def learned(run: str, logits: Tensor, process: AnyOrder | Masked, rate: float = 0.1) -> LearnedQ:
    net = StateTable(process.letters, process.length, logits)
    return LearnedQ(net, process, run, LearnedValueConfig(lr=1e-2, target_rate=rate))


def of_q(run: str, q: Tensor, process: AnyOrder, centre: float, spread: float) -> LearnedQ:
    """A value whose Q is a given table, less the centre: the network holds it in units of the spread."""
    value = learned(run, (q - centre) / spread, process)
    value.centre.fill_(centre)
    value.spread.fill_(spread)
    return value


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", ["any_order", "masked"])
def test_the_loss_by_longhand(run, kind):
    """Σ over the run of (Q(x)[i, x0_i] − target)², letter by letter; the target network is another.

    Q is the network times the spread of the first rewards, and the error is counted in that unit.
    """
    process = AnyOrder(3, 2) if kind == "any_order" else Masked(3, 2, num_steps=4)
    base = Policy(process, StateTable(2, 3, normal(27, 3, 2, seed=1)))
    value = learned(run, normal(27, 3, 2, seed=2), process)
    with torch.no_grad():
        value.target.logits.copy_(normal(27, 3, 2, seed=3))
    designs = all_designs(2, 3)[torch.arange(40) % 8]
    rows = {"designs": designs, "rewards": normal(40, seed=4), "terms": normal(40, 3, seed=5)}
    context = context_of(base, value)
    with torch.no_grad():  # the prior is the base's, not that of the policies
        context.roles.policy.net.logits += normal(27, 3, 2, seed=6)
        context.roles.proposal.net.logits += normal(27, 3, 2, seed=7)
    x, after, chosen = value._hide_and_reveal(designs, generator(0))
    lesson = value.lesson(context, rows)
    assert torch.equal(lesson.x, x)

    index = lexicographic_index
    rewards = rows["rewards"].tolist()
    centre = sum(rewards) / 40 / ALPHA
    spread = math.sqrt(sum((r / ALPHA - centre) ** 2 for r in rewards) / 40)
    log_p = base.net.logits.detach().log_softmax(-1)
    total, count, kinds = 0.0, 0, Counter()
    for b in range(40):
        if (after[b] == 2).any() and run != "return":
            row, soft = int(index(after[b], 3)), []
            for j in range(3):
                if after[b, j] == 2:
                    terms = [log_p[row, j, a] + spread * value.target.logits[row, j, a] for a in range(2)]
                    soft.append(math.log(sum(math.exp(t.item()) for t in terms)))
            future = sum(soft) / len(soft)
            kinds["bootstrapped"] += 1
        else:
            future = rows["rewards"][b].item() / ALPHA - centre
            kinds["complete"] += 1
        places = [i for i in range(3) if chosen[b, i]]
        for i in places:
            others = sum(rows["terms"][b, j].item() for j in places if j != i)
            q = value.net.logits[int(index(x[b], 3)), i, int(designs[b, i])].item()
            total, count = total + (q - (future - others) / spread) ** 2, count + 1
    assert lesson.loss.item() == pytest.approx(total / count)
    assert set(kinds) == ({"complete"} if run == "return" else {"complete", "bootstrapped"})
    assert not lesson.q.requires_grad
    torch.testing.assert_close(lesson.q, spread * value.net.logits.detach()[index(x, 3)])
    assert torch.equal(lesson.k, process.step_of(x))


@pytest.mark.parametrize("run", RUNS)
def test_what_is_hidden_and_revealed(run):
    """n uniform in 1…free; the run lies in it, with n, 1, or uniformly 1…n places; all places alike."""
    fixed = Fixed(torch.tensor([False, True, False, False, False]), torch.tensor([0, 1, 0, 0, 0], dtype=torch.int8))
    process = AnyOrder(5, 2, fixed)
    value = learned(run, normal(243, 5, 2, seed=1), process)
    designs = all_designs(2, 5)
    designs = designs[designs[:, 1] == 1].repeat(1500, 1)
    x, after, chosen = value._hide_and_reveal(designs, generator())
    hidden, n = x == 2, len(designs)
    assert (x[:, 1] == 1).all() and not chosen[:, 1].any()
    assert torch.equal(x[~hidden], designs[~hidden])
    assert (hidden | ~chosen).all()
    assert torch.equal(after == 2, hidden & ~chosen)
    assert torch.equal(after[chosen], designs[chosen])
    number, length = hidden.sum(-1), chosen.sum(-1)
    assert ((torch.bincount(number, minlength=6) / n)[1:5] - 0.25).abs().max() < 0.015
    assert number.min() == 1 and number.max() == 4
    if run == "return":
        assert torch.equal(length, number)
    elif run == "bootstrapped":
        assert (length == 1).all()
    else:
        for count in range(1, 5):
            share = torch.bincount(length[number == count], minlength=6) / (number == count).sum()
            assert (share[1 : count + 1] - 1 / count).abs().max() < 0.03 and share[count + 1 :].sum() == 0
    per_place = chosen.float().mean(0)[[0, 2, 3, 4]]
    assert per_place.max() - per_place.min() < 0.02


def exact_q(base: Policy, reward: Tensor) -> Tensor:
    """v(x with letter a at i)/α at every state, `(N, L, V)`."""
    return ExactValue(base, reward, ALPHA).action_value(None, all_states(2, 3), 0)


def test_the_exact_q_has_no_bootstrapped_error():
    """Base letters are conditionals of one joint: every target equals Q itself, whatever the rewards."""
    base = Policy(AnyOrder(3, 2), StateTable.of_joint(normal(8, seed=1).softmax(0), 2, 3))
    reward = normal(8, seed=2)
    q = exact_q(base, reward)
    value = of_q("bootstrapped", q, base.process, centre=0.7, spread=2.5)  # type: ignore[arg-type]
    designs = all_designs(2, 3).repeat(20, 1)
    rows = {"designs": designs, "rewards": reward.repeat(20), "terms": normal(160, 3, seed=3)}
    assert value.lesson(context_of(base, value), rows).loss < 1e-20
    with torch.no_grad():
        value.net.logits += 0.1
    assert value.lesson(context_of(base, value), rows).loss.item() == pytest.approx(0.01)  # in units of the spread


@pytest.mark.parametrize("run", RUNS)
def test_the_exact_q_has_no_error_at_the_optimum_of_an_additive_reward(run):
    """Positions independent: ℓ_j = r_j/α − log Z_j does not depend on the order, so no run is approximate."""
    letters = normal(3, 2, seed=4).log_softmax(-1)
    additive = normal(3, 2, seed=5)
    designs = all_designs(2, 3).long()
    joint = sum(letters[i, designs[:, i]] for i in range(3)).exp()
    reward = sum(additive[i, designs[:, i]] for i in range(3))
    log_z = (letters + additive / ALPHA).logsumexp(-1)
    ell = torch.stack([additive[i, designs[:, i]] / ALPHA - log_z[i] for i in range(3)], -1)
    base = Policy(AnyOrder(3, 2), StateTable.of_joint(joint, 2, 3))
    value = of_q(run, exact_q(base, reward), base.process, centre=-0.3, spread=1.5)  # type: ignore[arg-type]
    rows = {
        "designs": all_designs(2, 3).repeat(20, 1),
        "rewards": reward.repeat(20),
        "terms": ell.repeat(20, 1),
    }
    assert value.lesson(context_of(base, value), rows).loss < 1e-20
    # and ℓ recorded from the optimal policy's own rollout is that ℓ
    optimal = base.net.logits.detach() + exact_q(base, reward)
    chain = rollout(Policy(base.process, StateTable(2, 3, optimal)), 30, generator(), base=base, terms=True)
    torch.testing.assert_close(chain.terms, ell[lexicographic_index(chain.designs, 2)])
    # without charging the KL to come, return and mixed would be wrong
    loss = value.lesson(context_of(base, value), rows | {"terms": torch.zeros_like(rows["terms"])}).loss
    assert loss < 1e-20 if run == "bootstrapped" else loss > 0.05


def test_bootstrapping_finds_the_exact_q():
    """A table fitted from zero, two letters at two places; up to a constant, so compared with its centre."""
    base = Policy(AnyOrder(2, 2), StateTable.of_joint(torch.tensor([0.1, 0.2, 0.4, 0.3]), 2, 2))
    reward = torch.tensor([1.0, -0.3, 0.2, 0.9])
    value = LearnedQ(StateTable(2, 2), base.process, "bootstrapped", LearnedValueConfig(0.05, 0.2))
    context = context_of(base, value)
    rows = {
        "designs": all_designs(2, 2).repeat(16, 1),
        "rewards": reward.repeat(16),
        "terms": torch.zeros(64, 2),
    }
    optimiser = torch.optim.Adam(value.net.parameters(), 0.05)
    for _ in range(300):
        loss = value.lesson(context, rows).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        value.follow()
    states = all_states(2, 2)
    exact = ExactValue(base, reward, ALPHA).action_value(None, states, 0) - reward.mean() / ALPHA
    hidden = states == 2
    got = value.action_value(context, states, 0).detach()
    assert (got - exact)[hidden].abs().max() < 1e-3
    assert exact[hidden].abs().max() > 0.5


def test_values_are_centred_and_scaled_once_and_for_all():
    process = AnyOrder(3, 2)
    base = Policy(process, StateTable(2, 3))
    value = learned("return", torch.zeros(27, 3, 2), process)
    context = context_of(base, value)
    rows = {"designs": all_designs(2, 3), "rewards": torch.arange(8.0), "terms": torch.zeros(8, 3)}
    value.lesson(context, rows)
    # 0 … 7 has mean 3.5 and variance (8² − 1)/12
    expected = [3.5 / ALPHA, math.sqrt(63 / 12) / ALPHA]
    assert [value.centre.item(), value.spread.item()] == pytest.approx(expected)
    value.lesson(context, rows | {"rewards": torch.full((8,), 100.0)})
    assert [value.centre.item(), value.spread.item()] == pytest.approx(expected)
    other = learned("return", torch.ones(27, 3, 2), process)
    other.load_state_dict(value.state_dict())
    assert [other.centre.item(), other.spread.item()] == pytest.approx(expected)


def test_a_reward_that_does_not_vary_gives_finite_values():
    process = AnyOrder(3, 2)
    value = learned("mixed", normal(27, 3, 2, seed=1), process)
    context = context_of(Policy(process, StateTable(2, 3)), value)
    rows = {"designs": all_designs(2, 3), "rewards": torch.full((8,), 2.0), "terms": torch.zeros(8, 3)}
    lesson = value.lesson(context, rows)
    assert lesson.loss.isfinite() and lesson.q.isfinite().all()


def test_the_target_follows_slowly():
    value = learned("bootstrapped", torch.zeros(27, 3, 2), AnyOrder(3, 2), rate=0.25)
    with torch.no_grad():
        value.net.logits += 1
    for expected in (0.25, 0.4375):
        value.follow()
        torch.testing.assert_close(value.target.logits, torch.full((27, 3, 2), expected))
    assert not value.target.logits.requires_grad and value.net.logits.requires_grad


def test_action_values_are_the_network():
    process = AnyOrder(3, 2)
    logits = normal(27, 3, 2, seed=6)
    value = of_q("mixed", logits, process, centre=0.0, spread=3.0)
    x = all_states(2, 3)[[26, 5, 13]]
    got = value.action_value(context_of(Policy(process, StateTable(2, 3)), value), x, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(got, logits[[26, 5, 13]])


def test_gather_scores_the_designs_of_the_roll_in():
    process = AnyOrder(3, 2)
    value = learned("return", torch.zeros(27, 3, 2), process)
    context = context_of(Policy(process, StateTable(2, 3, normal(27, 3, 2, seed=7))), value)
    context.roles.proposal = Policy(process, StateTable(2, 3, normal(27, 3, 2, seed=8)))
    state = context.generator.get_state()
    collected = value.gather(context, RollIn(), 6)
    rows = collected.rows
    context.generator.set_state(state)
    chain = rollout(context.roles.proposal, 6, context.generator, base=context.roles.base, terms=True)
    assert torch.equal(rows["designs"], chain.designs) and torch.equal(collected.designs, chain.designs)
    assert rows["rewards"].tolist() == [float(sum(d)) for d in chain.designs.tolist()]
    assert collected.metrics["reward"] == pytest.approx(rows["rewards"].mean().item())
    assert chain.terms is not None and torch.equal(rows["terms"], chain.terms)


def test_a_run_of_one_letter_charges_nothing_and_does_not_ask_the_base():
    process = AnyOrder(3, 2)
    value = learned("bootstrapped", torch.zeros(27, 3, 2), process)
    context = context_of(Policy(process, StateTable(2, 3, normal(27, 3, 2, seed=7))), value)
    with RowCounter.of(context) as asked:
        rows = value.gather(context, RollIn(), 6).rows
    assert not rows["terms"].any() and asked["base"] == Rows()


def test_impossible_parts_are_refused():
    with pytest.raises(ConfigError, match=r'"returns".*return, bootstrapped, mixed'):
        LearnedQ(StateTable(2, 3), AnyOrder(3, 2), "returns")
    with pytest.raises(ConfigError, match=r'any_order, masked.*"finite"'):
        LearnedQ(StateTable(2, 3), Finite(3, 2), "return")
