"""Values by refills: against the enumerated soft values, through VIDD to p*, and what the process is told and tells."""

from __future__ import annotations

import warnings

import pytest
import torch
from joint_problem import ALPHA, JOINT, P_STAR, REWARD, L, V, policy_of
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, RollIn, Target, View
from biotilt.errors import ConfigError
from biotilt.objectives import VIDD
from biotilt.processes import Finite
from biotilt.spaces import DNA, Letters
from biotilt.testing import ExactValue, TableScorer, all_states, reveal_law, total_variation
from biotilt.testing.exact import lexicographic_index
from biotilt.training import TrainConfig, Trainer
from biotilt.values import Refills, RefillsConfig


class Known(Refills):
    """One that knows every reward."""

    def predict(self, designs: Tensor) -> Tensor:
        return REWARD[lexicographic_index(designs, V)]

    def see(self, view: View) -> None:
        raise AssertionError("nobody asked")

    def _learn(self, designs: Tensor, rewards: Tensor) -> dict[str, float]:
        self.fitted = True  # type: ignore[assignment]
        return {}


class Saved(TableScorer):
    def state_dict(self) -> dict[str, int]:
        return {}


def context_with(value: Refills, scorer: object = None) -> Context:
    base = policy_of(JOINT)
    scorer = scorer or Saved(base.process, REWARD.float())
    return Context(Roles.start(base), Target(scorer, ALPHA), torch.Generator().manual_seed(0), Replay(4096), value)


def test_many_refills_give_the_soft_value_of_every_letter():
    """Q up to a constant a state: log E_pre[exp(r/α) | x, x_i = a] by enumeration, at all states with a mask."""
    base = policy_of(JOINT)
    value = Known(base.process, RefillsConfig(refills=6000, prior=0.0))
    states = all_states(V, L)
    x = states[base.process.hidden(states).any(-1)]
    k = base.process.step_of(x)
    exact = ExactValue(base, REWARD, ALPHA).action_value(None, x, k)
    v = ExactValue(base, REWARD, ALPHA).state_value(None, x, k) / ALPHA
    hidden = base.process.hidden(x)
    found = value.action_value(context_with(value), x, k)
    assert found[~hidden].abs().max() < 1e-3
    error = (found - (exact - v.view(-1, 1, 1)))[hidden]
    assert error.abs().max() < 0.2 and error.abs().mean() < 0.03 < exact[hidden].std()


def test_a_prior_holds_letters_that_were_not_drawn_to_the_base():
    base = policy_of(JOINT)
    x = base.process.noise(5, torch.Generator().manual_seed(0))
    k = torch.zeros(5, dtype=torch.int64)
    few = Known(base.process, RefillsConfig(refills=2, prior=3.0))
    q = few.action_value(context_with(few), x, k)
    assert (q == 0).sum() >= 5 * L * (V - 2)  # two refills draw two letters at most
    assert q.max() <= torch.tensor((3 + 2.0) / (3 + 1)).log() + 1e-6  # one of two takes all the weight
    none = Known(base.process, RefillsConfig(refills=2, prior=0.0))
    assert none.action_value(context_with(none), x, k).isfinite().all()


def test_vidd_with_it_reaches_p_star():
    value = Known(policy_of(JOINT).process, RefillsConfig(states=256, refills=64, keep=512))
    objective = VIDD(value="refills", updates=20, states=256, refresh=20)
    context = context_with(value)
    options = TrainConfig(max_calls=5120, batch=256, lr=0.05, warmup=5, clip=10.0)
    net = Trainer(context, objective, options, context.target.scorer).run()  # type: ignore[arg-type]
    law = reveal_law(Policy(context.roles.base.process, net))  # type: ignore[arg-type]
    assert total_variation(JOINT, P_STAR) > 0.3
    assert total_variation(law, P_STAR) < 0.04


class Share:
    """Scores the share of C, or nothing that letters tell."""

    def __init__(self, chance: bool = False):
        self.asked, self.chance = 0, chance

    def __call__(self, designs: Tensor) -> Tensor:
        self.asked += len(designs)
        if self.chance:
            return torch.randn(len(designs), generator=torch.Generator().manual_seed(self.asked))
        return (designs == 1).float().mean(-1)


def of_letters(chance: bool = False) -> tuple[Refills, Context]:
    from biotilt.networks.table import StateTable
    from biotilt.processes import AnyOrder

    process, space = AnyOrder(5, 4), Letters(DNA)
    value = Refills(process, RefillsConfig(states=8, refills=4, keep=16, rows=200))
    value.see(View(space, space.decode))
    context = context_with(value, Share(chance))
    context.roles = Roles.start(Policy(process, StateTable(4, 5)))
    return value, context


def test_refills_cost_no_call_and_the_newest_states_are_kept():
    value, context = of_letters()
    found = value.gather(context, RollIn(), 24)
    assert context.target.scorer.asked == 24 and len(found.rows["designs"]) == 24
    assert (value.x[:8] == -1).all() and (value.x[8:] >= 0).all()
    first = value.q[8:].clone()
    value.gather(context, RollIn(), 24)
    assert torch.equal(value.q[:8], first) and context.target.scorer.asked == 48
    lesson = value.lesson(context, found.rows)
    assert lesson.x.shape == (24, 5) and lesson.loss == 0 and not lesson.q.requires_grad
    # a state is taught with what was found at it
    place = (value.x.unsqueeze(0) == lesson.x.unsqueeze(1)).all(-1) & (value.k == lesson.k.unsqueeze(1))
    assert all(any(torch.equal(q, value.q[i]) for i in row.nonzero()[:, 0]) for q, row in zip(lesson.q, place))


def test_what_it_learned_prefers_the_letter_that_scores():
    value, context = of_letters()
    for _ in range(3):
        figures = value.gather(context, RollIn(), 60).metrics
    assert figures["value_held_out"] < 0.3
    hidden = context.roles.base.process.hidden(value.x)
    mean = value.q[hidden].mean(0)
    assert mean.argmax() == 1


def test_one_that_knows_nothing_says_so_once():
    value, context = of_letters(chance=True)
    with pytest.warns(UserWarning, match="the learned value knows nothing"):
        for _ in range(4):
            figures = value.gather(context, RollIn(), 48).metrics
    assert figures["value_held_out"] > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value.gather(context, RollIn(), 48)


def test_it_goes_on_bit_for_bit_from_what_is_stored():
    value, context = of_letters()
    value.gather(context, RollIn(), 40)
    again, other = of_letters()
    again.load_state_dict({key: tensor.clone() for key, tensor in value.state_dict().items()})
    other.generator.set_state(context.generator.get_state())
    a, b = value.gather(context, RollIn(), 40), again.gather(other, RollIn(), 40)
    assert torch.equal(value.q, again.q) and a.metrics == b.metrics


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="needs a process that reveals hidden letters"):
        Refills(Finite(3, 2))
    with pytest.raises(ConfigError, match=r"value\.refills must be ≥ 2"):
        RefillsConfig(refills=1)
    space = Letters(DNA)
    with pytest.raises(ConfigError, match=r"value\.kernel: .*features.*do not have"):
        Refills(policy_of(JOINT).process, RefillsConfig(kernel="features")).see(View(space, space.decode))
