"""Confidence-ordered unmasking against its definition: sets by their orders, chains by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Density, Policy, Replay, Roles, Target, check_parts, has, sample
from biotilt.core.parts import Parts, check_capabilities
from biotilt.errors import ConfigError
from biotilt.evaluation.likelihood import kind_for, log_likelihood
from biotilt.formulas.plackett_luce import log_prob_of_set
from biotilt.networks.table import StateTable
from biotilt.objectives import PPO, VIDD, TrajectoryBalance
from biotilt.processes import AnyOrder, Confidence, Masked
from biotilt.processes.confidence import SureKernel
from biotilt.processes.schedules import MASKED_SCHEDULES
from biotilt.samplers import SMC, BestOfN
from biotilt.testing import TableScorer, all_designs, all_states, law, tilted_law, total_variation
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.training import TrainConfig, Trainer

V, L = 2, 4
STATES = all_states(V, L)
SURE = {
    "largest": lambda p: math.log(max(p)),
    "entropy": lambda p: sum(a * math.log(a) for a in p),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_policy(process: Confidence, seed: int) -> Policy:
    shape = ((process.letters + 1) ** process.length, process.length, process.letters)
    logits = 1.5 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)
    return Policy(process, StateTable(process.letters, process.length, logits))


def letters_of(policy: Policy, x: tuple[int, ...]) -> list[list[float]]:
    """p(a | x) at the temperature of the process, a row a position."""
    logits = policy.net(torch.tensor([x], dtype=torch.int8), torch.zeros(1))[0].detach()
    return (logits / policy.process.temperature).softmax(-1).tolist()  # type: ignore[attr-defined]


def set_chances(weights: dict[int, float], m: int) -> dict[frozenset[int], float]:
    """The chance of every set of m, drawn one by one without putting back: order by order."""
    found: dict[frozenset[int], float] = {}
    for order in itertools.permutations(weights, m):
        chance, left = 1.0, sum(weights.values())
        for i in order:
            chance, left = chance * weights[i] / left, left - weights[i]
        found[frozenset(order)] = found.get(frozenset(order), 0) + chance
    return found


def next_states(policy: Policy, x: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """p(y | x) for every y that has a chance, from the definition in the docstring of the process."""
    process, p = policy.process, letters_of(policy, x)
    assert isinstance(process, Confidence)
    hidden = [i for i, token in enumerate(x) if token == process.letters]
    m = min(process.per_step, len(hidden))
    noise = process.randomness * (len(hidden) - process.per_step) / max(1, process.free - process.per_step)
    found: dict[tuple[int, ...], float] = {}
    for drawn in itertools.product(range(process.letters), repeat=len(hidden)):
        letter = dict(zip(hidden, drawn))
        chance = math.prod(p[i][a] for i, a in letter.items())
        sure = {i: math.log(p[i][letter[i]]) if process.by == "drawn" else SURE[process.by](p[i]) for i in hidden}
        if m == len(hidden):
            sets = {frozenset(hidden): 1.0}
        elif noise > 0:
            sets = set_chances({i: math.exp(c / noise) for i, c in sure.items()}, m)
        else:
            sets = {frozenset(sorted(hidden, key=lambda i: -sure[i])[:m]): 1.0}
        for shown, of_set in sets.items():
            y = tuple(letter[i] if i in shown else token for i, token in enumerate(x))
            found[y] = found.get(y, 0) + chance * of_set
    return found


def enumerated_law(policy: Policy) -> Tensor:
    """The law of designs, by following every chain."""
    process = policy.process
    mass = {tuple(process.noise(1, generator())[0].tolist()): 1.0}
    for _ in range(process.steps):
        after: dict[tuple[int, ...], float] = {}
        for x, chance in mass.items():
            for y, step in next_states(policy, x).items():
                after[y] = after.get(y, 0) + chance * step
        mass = after
    designs = all_designs(process.letters, process.length).tolist()  # type: ignore[attr-defined]
    return torch.tensor([mass.get(tuple(design), 0.0) for design in designs], dtype=torch.float64)


WITH_DENSITY = [
    Confidence(L, V),
    Confidence(L, V, by="entropy", randomness=0.4, temperature=1.6),
    Confidence(L, V, per_step=2, randomness=0.5),
    Confidence(L, V, per_step=3, by="entropy", randomness=2.0, temperature=0.7),
]
each_density = pytest.mark.parametrize("process", WITH_DENSITY, ids=lambda p: f"{p.by}-{p.per_step}")


@each_density
def test_the_density_is_the_definition_and_sums_to_one(process):
    policy = random_policy(process, 1)
    for x in STATES:
        many = x.expand(len(STATES), L)
        k = int(process.step_of(x.unsqueeze(0)))
        computed = policy.kernel_as(Density, many, k).log_prob(STATES).exp().detach()
        wanted = next_states(policy, tuple(x.tolist()))
        assert computed.sum().item() == pytest.approx(1, abs=1e-6)
        torch.testing.assert_close(
            computed, torch.tensor([wanted.get(tuple(y), 0.0) for y in STATES.tolist()]).double(), atol=1e-6, rtol=0
        )


def test_a_set_by_hand_and_what_is_none():
    """w = 1, 2, 3, 4 of which the last is not there: {0, 1} is 1/6·2/5 + 2/6·1/4."""
    log_weight = torch.tensor([1.0, 2, 3, 4]).log().expand(4, 4)
    among = torch.tensor([True, True, True, False]).expand(4, 4)
    rows = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 0]]
    found = log_prob_of_set(log_weight, among, torch.tensor(rows).bool(), torch.tensor([2, 2, 2, 3])).exp()
    torch.testing.assert_close(found, torch.tensor([1 / 6 * 2 / 5 + 2 / 6 * 1 / 4, 0, 0, 1]))


@pytest.mark.parametrize(
    "process",
    [*WITH_DENSITY[1:3], Confidence(3, 3, by="drawn", per_step=2, randomness=0.7),
     Confidence(3, 3, by="drawn", randomness=0), Confidence(3, 3, randomness=0)],
    ids=["entropy", "two", "drawn-two", "drawn-certain", "certain"],
)  # fmt: skip
def test_chains_have_the_law_of_designs_that_enumeration_gives(process):
    policy, draws = random_policy(process, 2), 20_000
    wanted = enumerated_law(policy)
    if has(process, Density):
        torch.testing.assert_close(law(policy), wanted, atol=1e-6, rtol=0)
    x = sample(policy, draws, generator(3), chunk=draws)
    designs = all_designs(process.letters, process.length)
    seen = (x.unsqueeze(1) == designs).all(-1).double().mean(0)
    error = (wanted * (1 - wanted) / draws).sqrt()
    assert ((seen - wanted).abs() <= 5 * error + 1e-9).all()
    # what was found is this order's and no other's
    if process.randomness != 2:
        other = law(Policy(AnyOrder(process.length, process.letters, per_step=process.per_step), policy.net))
        assert total_variation(wanted, other) > 0.02


def test_the_limits_of_the_noise_are_the_surest_first_and_any_order():
    certain, little, much = (Confidence(3, 3, randomness=r) for r in (0, 1e-3, 1e5))
    net = random_policy(certain, 4).net
    torch.testing.assert_close(law(Policy(little, net)), enumerated_law(Policy(certain, net)), atol=1e-6, rtol=0)
    torch.testing.assert_close(law(Policy(much, net)), law(Policy(AnyOrder(3, 3), net)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("process", [Confidence(3, 3, randomness=0.5), Confidence(3, 3, by="entropy", randomness=0)])
def test_exact_conditionals_one_a_step_keep_the_law_of_designs_in_whatever_order(process):
    """A choice that looks at what is shown, and not at the letter that comes, leaves a joint law alone."""
    joint = torch.randn(27, generator=generator(5), dtype=torch.float64).exp()
    found = enumerated_law(Policy(process, StateTable.of_joint(joint, 3, 3)))
    torch.testing.assert_close(found, joint / joint.sum(), atol=1e-6, rtol=0)
    drawn = enumerated_law(Policy(Confidence(3, 3, by="drawn", randomness=0), StateTable.of_joint(joint, 3, 3)))
    assert total_variation(drawn, joint / joint.sum()) > 0.05


def test_tilts_reweigh_letters_and_keep_the_choice():
    policy, other = random_policy(WITH_DENSITY[0], 9), random_policy(WITH_DENSITY[0], 10)
    x = torch.tensor([[2, 0, 2, 2]], dtype=torch.int8)
    kernel, second = (p.kernel(x.expand(81, L), 1) for p in (policy, other))
    q = torch.randn(L, V, generator=generator(11), dtype=torch.float64)
    shown = (x == V) & (STATES != V)
    tilted = kernel.tilted(q).log_prob(STATES).exp()
    mixed = kernel.mix(second, 0.3).log_prob(STATES).exp()
    torch.testing.assert_close([tilted.sum().item(), mixed.sum().item()], [1.0, 1.0])
    for i in (0, 2, 3):
        one = shown[:, i] & (shown.sum(-1) == 1)
        torch.testing.assert_close(tilted[one].sum(), kernel.log_prob(STATES)[one].exp().sum())
        p, r = kernel.log_letters[0, i].exp(), second.log_letters[0, i].exp()
        for weights, found in ((p * q[i].exp(), tilted), (p**0.7 * r**0.3, mixed)):
            of_letters = torch.stack([found[one & (STATES[:, i] == a)].sum() for a in range(V)])
            torch.testing.assert_close(of_letters / of_letters.sum(), weights / weights.sum())


def test_what_has_no_density_says_what_to_change():
    for changes, remedy in [({"by": "drawn"}, 'by = "largest"'), ({"randomness": 0}, "randomness above 0"),
                            ({"per_step": 9}, "per_step to 8 or less")]:  # fmt: skip
        process = Confidence(12, V, **changes)
        kernel = process.kernel_of(torch.zeros(1, 12, V), process.noise(1, generator()), 0)
        assert type(kernel) is SureKernel and not has(process, Density)
        with pytest.raises(ConfigError, match=remedy):
            check_parts(PPO(), Parts(process))
        with pytest.raises(ConfigError, match=remedy):
            kind_for(Policy(process, StateTable(2, 2)), "exact")
        check_parts(BestOfN(), Parts(process))
    several = Confidence(12, V, per_step=2)
    check_parts(TrajectoryBalance(), Parts(several))
    with pytest.raises(ConfigError, match="set per_step = 1"):
        check_capabilities(several, VIDD(teacher="sampled", value="posterior_mean").needs, "vidd", ())


def test_likelihoods_are_exact_pseudo_or_refused():
    process = Confidence(3, 3, per_step=2, randomness=0.5)
    policy = random_policy(process, 12)
    designs = all_designs(3, 3)
    exact = log_likelihood(policy, designs, "exact").values.exp().double()
    torch.testing.assert_close(exact, enumerated_law(policy), atol=1e-6, rtol=0)
    alone = random_policy(Confidence(3, 3, temperature=2.0), 12)
    wanted = sum(
        math.log(letters_of(alone, tuple(3 if j == i else a for j, a in enumerate((2, 0, 1))))[i][(2, 0, 1)[i]])
        for i in range(3)
    )
    found = log_likelihood(alone, torch.tensor([[2, 0, 1]], dtype=torch.int8), "pseudo").values.item()
    assert found == pytest.approx(wanted, abs=1e-5)
    for asked in ("auto", "bound"):
        with pytest.raises(ConfigError, match=r"no bound.*any_order"):
            kind_for(policy, asked)


@pytest.mark.parametrize("schedule", MASKED_SCHEDULES)
def test_the_network_is_told_the_time_of_its_own_schedule(schedule):
    process = Confidence(L, V, schedule=schedule)
    x = torch.tensor([[2, 2, 0, 2], [2, 0, 0, 1], [2, 2, 2, 2]], dtype=torch.int8)
    told = process.inputs(x, 0).t
    torch.testing.assert_close(1 - MASKED_SCHEDULES[schedule].clean(told), torch.tensor([0.75, 0.25, 1.0]))


def test_smc_is_unbiased_and_trajectory_balance_comes_near_the_tilted_law():
    reward = torch.randn(27, generator=generator(13))
    joint = torch.randn(27, generator=generator(14)).exp()
    base = Policy(Confidence(3, 3), StateTable.of_joint(joint, 3, 3))
    scorer = TableScorer(base.process, reward)
    context = Context(Roles.start(base), Target(scorer, 0.8), generator(15))
    context.roles.proposal = Policy(base.process, random_policy(Confidence(3, 3), 16).net.float())
    check_sampler(SMC(value="none"), context, enumerated_answer(base, reward, 0.8), count=16, repeats=100)
    p_star, _ = tilted_law(law(base), reward, 0.8)
    objective = TrajectoryBalance(form="log_variance", updates=10, chains=128, buffer=4096)
    context = Context(Roles.start(base), Target(scorer, 0.8), generator(17), Replay(objective.capacity))
    config = TrainConfig(max_calls=128 * 20, batch=128, lr=0.08, warmup=5, clip=10.0, ema=0.95)
    tuned = Trainer(context, objective, config, scorer).run()
    assert total_variation(law(base), p_star) > 0.25
    assert total_variation(law(Policy(base.process, tuned)), p_star) < 0.05  # its own order keeps it from 0


def test_masked_and_confidence_agree_on_what_a_network_is_shown():
    x = torch.tensor([[2, 2, 0, 2]], dtype=torch.int8)
    shown = Masked(L, V, num_steps=4).inputs(x, 1)
    assert torch.equal(shown.t, Confidence(L, V).inputs(x, 0).t) and torch.equal(shown.x, x)
