"""Masked and any-order kernels against their definitions, by enumerating every y."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy, kernel_at
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Masked
from biotilt.processes.revealing import RevealingProcess
from biotilt.processes.schedules import SCHEDULES
from biotilt.testing import all_designs, all_states, law, push, space, transition_matrices

V, L = 2, 4
STATES = all_states(V, L)
PROCESSES = [
    *(Masked(L, V, num_steps=4, schedule=schedule) for schedule in SCHEDULES),
    *(AnyOrder(L, V, per_step=m) for m in (1, 2, 3)),  # m = 3 leaves one letter for the last step
    *(AnyOrder(L, V, per_step=m, order="left_to_right") for m in (1, 3)),
]
IDS = [*SCHEDULES, "m=1", "m=2", "m=3", "m=1 from left", "m=3 from left"]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=IDS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_policy(process: RevealingProcess, seed: int) -> Policy:
    shape = ((process.letters + 1) ** process.length, process.length, process.letters)
    logits = 1.5 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)
    return Policy(process, StateTable(process.letters, process.length, logits))


def revealed_sets(x: Tensor) -> Tensor:
    """For each of STATES as y, a number for the set of positions that x hides and y shows."""
    shown = (x == V) & (STATES != V)
    return (shown * 2 ** torch.arange(L)).sum(-1)


@each_process
def test_kernels_are_normalised_at_every_state_and_step(process):
    matrices = transition_matrices(random_policy(process, 1), STATES)
    torch.testing.assert_close(matrices.sum(-1), torch.ones(process.steps, len(STATES)).double(), atol=1e-6, rtol=0)


@each_process
def test_samples_follow_log_prob(process):
    policy, draws = random_policy(process, 2), 20_000
    x = torch.tensor([2, 0, 2, 2], dtype=torch.int8).expand(draws, L)
    for k in (0, process.steps - 1):
        kernel = policy.kernel(x, k)
        y = kernel.sample(generator(3))
        assert y.dtype == torch.int8
        expected = draws * policy.kernel(x[: len(STATES)], k).log_prob(STATES).exp()
        observed = (y[:, None] == STATES).all(-1).sum(0)
        assert observed[expected == 0].sum() == 0
        cells = expected > 5
        chi2 = ((observed - expected).square() / expected)[cells].sum().item()
        dof = int(cells.sum()) - 1
        # a chi-square has mean dof and variance 2 dof: six deviations up is rarer than one in a million
        assert chi2 < dof + 6 * math.sqrt(2 * dof)


@each_process
def test_kl_equals_the_enumerated_kl(process):
    p, q = random_policy(process, 4), random_policy(process, 5)
    ours, theirs = transition_matrices(p, STATES), transition_matrices(q, STATES)
    enumerated = (torch.xlogy(ours, ours) - torch.xlogy(ours, theirs)).sum(-1)
    for k in range(process.steps):
        computed = p.kernel(STATES, k).kl(q.kernel(STATES, k))
        torch.testing.assert_close(computed.detach(), enumerated[k], atol=1e-5, rtol=1e-6)


@each_process
def test_tilted_and_mix_reweight_letters_given_which_positions_are_revealed(process):
    """Within each set of revealed positions, p(y|x) times exp(Σ q), or to a power; P(set) is kept."""
    p, other = random_policy(process, 6), random_policy(process, 7)
    q = torch.randn(L, V, generator=generator(8), dtype=torch.float64)
    weight, k = 0.3, process.steps - 2
    for x in (STATES[-1], torch.tensor([2, 0, 2, 1], dtype=torch.int8)):
        many = x.expand(len(STATES), L)
        plain, second = p.kernel(many, k), other.kernel(many, k)
        before, after = plain.log_prob(STATES).exp(), second.log_prob(STATES).exp()
        shown = (x == V) & (STATES != V)
        gain = (q.gather(1, STATES.clamp(max=V - 1).long().T).T * shown).sum(-1).exp()
        tilted, mixed = before * gain, before ** (1 - weight) * after**weight
        sets = revealed_sets(x)
        for which in sets.unique():
            same = sets == which
            tilted[same] *= before[same].sum() / tilted[same].sum().clamp(min=1e-300)
            mixed[same] *= before[same].sum() / mixed[same].sum().clamp(min=1e-300)
        torch.testing.assert_close(plain.tilted(q.expand(len(STATES), L, V)).log_prob(STATES).exp(), tilted)
        torch.testing.assert_close(plain.mix(second, weight).log_prob(STATES).exp(), mixed)


@each_process
def test_terms_carry_what_the_choice_of_positions_does_not(process):
    policy = random_policy(process, 9)
    x = process.noise(64, generator())
    for k in range(process.steps):
        kernel = policy.kernel(x, k)
        y = kernel.sample(generator(10 + k))
        revealed = (x == V) & (y != V)
        letters = policy.net(x, torch.zeros(64)).softmax(-1)
        for b in range(3):
            for i in range(L):
                wanted = letters[b, i, y[b, i].long()].log() if revealed[b, i] else torch.tensor(0.0).double()
                torch.testing.assert_close(kernel.terms(y)[b, i], wanted)
        total = kernel.log_prob(y) - kernel.choice_log_prob(revealed)
        torch.testing.assert_close(kernel.terms(y).sum(-1), total, atol=1e-6, rtol=1e-6)
        x = y


def test_log_prob_by_hand():
    """Two of three hidden positions, letters with known probabilities."""
    letters = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]], dtype=torch.float64).log()

    def net(x: Tensor, t: Tensor) -> Tensor:
        return letters.expand(len(x), 3, 2)

    x, y = torch.tensor([[2, 1, 2]]), torch.tensor([[1, 1, 2]])
    # loglinear, K = 4, from a = 1/4 to 1/2: revealed with probability (1/4)/(3/4); one of two is
    masked = kernel_at(Masked(3, 2, num_steps=4), net, x, 1)
    assert masked.log_prob(y).exp().item() == pytest.approx(1 / 3 * 2 / 3 * 0.1)
    one = kernel_at(AnyOrder(3, 2, per_step=1), net, x, 1)
    assert one.log_prob(y).exp().item() == pytest.approx(1 / 2 * 0.1)
    two = kernel_at(AnyOrder(3, 2, per_step=2), net, torch.tensor([[2, 2, 2]]), 0)
    assert two.log_prob(torch.tensor([[1, 2, 0]])).exp().item() == pytest.approx(1 / 3 * 0.1 * 0.2)
    assert two.log_prob(torch.tensor([[1, 2, 2]])).item() == -math.inf, "one letter where two must be revealed"
    assert masked.log_prob(torch.tensor([[1, 0, 2]])).item() == -math.inf, "a shown letter changed"


def test_from_left_to_right_the_law_is_the_product_of_its_conditionals():
    """p(x_1) p(x_2 | x_1) … by reading the table at each prefix; the second position is held."""
    held = Fixed(torch.tensor([False, True, False, False]), torch.tensor([0, 1, 0, 0], dtype=torch.int8))
    process = AnyOrder(L, V, held, order="left_to_right")
    policy = random_policy(process, 5)
    for design, mass in zip(all_designs(V, L), law(policy)):
        expected, x = float(design[1] == 1), torch.tensor([[V, 1, V, V]], dtype=torch.int8)
        for place in (0, 2, 3):
            expected *= policy.net(x, torch.zeros(1)).softmax(-1)[0, place, int(design[place])].item()
            x[0, place] = design[place]
        assert mass.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("per_step", [1, 3])
def test_noising_from_left_to_right_goes_back_along_the_chain(per_step):
    process = AnyOrder(L, V, per_step=per_step, order="left_to_right")
    design = torch.tensor([[1, 0, 1, 1]], dtype=torch.int8)
    for k in range(process.steps + 1):
        shown = min(k * per_step, L)
        found = process.corrupt(design, k, generator()).tolist()[0]
        assert found == [*design[0, :shown].tolist(), *[V] * (L - shown)]


@pytest.mark.parametrize(
    ("schedule", "reveal"),
    [
        ("loglinear", 1 / 3),
        ("polynomial", 5 / 9),
        ("cosine", 1 - math.cos(math.pi / 4) / math.cos(math.pi / 8)),
    ],
)
def test_reveal_probability_of_each_schedule(schedule, reveal):
    """(a[2] − a[1]) / (1 − a[1]) with K = 4, worked out by hand from a(3/4) and a(1/2)."""
    process = Masked(L, V, num_steps=4, schedule=schedule)
    kernel = random_policy(process, 0).kernel(STATES[-1:], torch.tensor([1]))
    assert kernel.reveal.item() == pytest.approx(reveal, rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 7, 49, 1000])
def test_only_the_last_step_reveals_everything(schedule, steps):
    """Exactly 1, whatever the rounding of 1/K: a position left hidden would be no design."""
    policy = random_policy(Masked(L, V, num_steps=steps, schedule=schedule), 0)
    x = STATES[-1:].expand(2, L)
    last, before = policy.kernel(x, torch.tensor([steps - 1, steps - 2])).reveal.tolist()
    assert last == 1 and 0 < before < 0.95


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_ends_and_rate(schedule):
    law_of_time = SCHEDULES[schedule]
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    clean = law_of_time.clean(t)
    (slope,) = torch.autograd.grad(clean.sum(), t)
    torch.testing.assert_close(law_of_time.rate(t).detach(), (-slope / (1 - clean)).detach())
    assert law_of_time.clean(torch.tensor([0.0, 1.0]).double()).tolist() == pytest.approx([1, 0], abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_position_is_hidden_after_k_steps_with_probability_one_minus_a(schedule):
    process = Masked(L, V, num_steps=4, schedule=schedule)
    laws = push(transition_matrices(random_policy(process, 11), STATES), space(process).start)
    hidden = (laws.unsqueeze(-1) * (STATES == V)).sum(1)
    clean = SCHEDULES[schedule].clean(1 - torch.arange(5).double() / 4)
    torch.testing.assert_close(hidden, (1 - clean).unsqueeze(-1).expand(5, L), atol=1e-6, rtol=0)


def test_masked_network_is_told_the_time():
    process, told = Masked(L, V, num_steps=4), []

    def net(x: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        return torch.zeros(len(x), L, V)

    kernel_at(process, net, STATES[:3], 1)
    kernel_at(process, net, STATES[:3], torch.tensor([0, 2, 3]))
    assert [t.tolist() for t in told] == [[0.75] * 3, [1.0, 0.5, 0.25]]


@each_process
def test_steps_given_one_by_one_agree_with_a_tensor_of_steps(process):
    policy, y = random_policy(process, 12), STATES[:2]
    x = STATES[-1].expand(2, L)
    both = policy.kernel(x, torch.tensor([process.steps - 1, 0])).log_prob(y)
    alone = [policy.kernel(x[:1], k).log_prob(y[i : i + 1]) for i, k in enumerate((process.steps - 1, 0))]
    torch.testing.assert_close(both, torch.cat(alone))


@each_process
def test_draws_are_reproduced_by_the_generator(process):
    policy = random_policy(process, 13)
    x = process.noise(256, generator())

    def draws(seed: int) -> Tensor:
        g = generator(seed)
        design = torch.zeros_like(x)
        count = torch.full((256,), 2)
        return torch.stack(
            [policy.kernel(x, 0).sample(g), process.corrupt(design, 1, g), process.hide(design, count, g)]
        )

    assert torch.equal(draws(1), draws(1))
    drawn = [(a != b).any().item() for a, b in zip(draws(1), draws(2))]
    assert drawn == [True, not process.one_chain, True]


@each_process
def test_corrupt_gives_the_law_of_the_forward_noising(process):
    """Hidden positions of step k: the binomial or the count that the chain itself has after k steps."""
    policy, draws, k = random_policy(process, 14), 4000, 1
    design = torch.tensor([1, 0, 0, 1], dtype=torch.int8).expand(draws, L)
    x = process.corrupt(design, k, generator(15))
    assert torch.equal(torch.where(x == V, design, x), design)
    by_chain = push(transition_matrices(policy, STATES), space(process).start)[k]
    for count in range(L + 1):
        wanted = by_chain[(STATES == V).sum(-1) == count].sum().item()
        seen = ((x == V).sum(-1) == count).double().mean().item()
        assert abs(seen - wanted) <= 4 * math.sqrt(wanted * (1 - wanted) / draws) + 1e-6
    assert torch.equal(process.corrupt(design, process.steps, generator()), design)
    assert (process.corrupt(design, 0, generator()) == V).all()


def test_hide_chooses_every_subset_equally_often():
    process, draws = AnyOrder(L, V), 12_000
    x = process.hide(torch.zeros(draws, L, dtype=torch.int8), torch.full((draws,), 2), generator(16))
    sets = ((x == V) * 2 ** torch.arange(L)).sum(-1)
    observed = sets.bincount(minlength=16)[[3, 5, 6, 9, 10, 12]]
    assert observed.sum() == draws
    assert ((observed - 2000).square() / 2000).sum() < 5 + 6 * math.sqrt(10)


def test_step_of_finds_the_step_of_a_state():
    for m in (1, 2, 3):
        process = AnyOrder(L, V, per_step=m)
        for k in range(process.steps):
            x = process.corrupt(torch.zeros(5, L, dtype=torch.int8), torch.full((5,), k), generator())
            assert process.step_of(x).tolist() == [k] * 5
    masked = Masked(L, V, num_steps=4)
    some = torch.tensor([[2, 2, 2, 2], [0, 2, 2, 2], [0, 2, 1, 2], [0, 1, 1, 2]])
    assert masked.step_of(some).tolist() == [0, 1, 2, 3]


def test_forbidden_letters_give_no_nan():
    """A letter of probability 0 stays forbidden under tilt and mixture, and no gradient becomes NaN."""
    logits = torch.tensor([[[0.3, -torch.inf], [0.5, 0.1]]], requires_grad=True)
    process, x = AnyOrder(2, 2), torch.tensor([[2, 2]])
    kernel = kernel_at(process, lambda x, t: logits, x, 0)
    other = kernel_at(process, lambda x, t: torch.zeros(1, 2, 2), x, 0)
    assert kernel.tilted(torch.ones(1, 2, 2)).x0[0, 0].exp().tolist() == pytest.approx([1, 0])
    for weight, wanted in ((0.0, [0.5, 0.5]), (0.5, [1.0, 0.0]), (1.0, [1.0, 0.0])):
        assert other.mix(kernel, weight).x0[0, 0].exp().tolist() == pytest.approx(wanted)
    kernel.kl(other).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


HELD = Fixed(torch.tensor([False, True, False, False]), torch.tensor([0, 1, 0, 0], dtype=torch.int8))
FIXED_PROCESSES = [
    Masked(L, V, HELD, num_steps=3),
    AnyOrder(L, V, HELD, per_step=1),
    AnyOrder(L, V, HELD, per_step=2),
]


@pytest.mark.parametrize("process", FIXED_PROCESSES, ids=["masked", "m=1", "m=2"])
def test_fixed_positions_never_move(process):
    policy, g = random_policy(process, 17), generator(18)
    x = process.noise(200, g)
    assert (x == torch.tensor([2, 1, 2, 2])).all() and x.dtype == torch.int8
    for k in range(process.steps):
        x = policy.kernel(x, k).sample(g)
        assert (x[:, 1] == 1).all()
    assert not process.hidden(x).any()
    for k in range(process.steps + 1):
        assert (process.corrupt(x, k, g)[:, 1] == 1).all()
    for count in range(process.free + 1):
        hidden = process.hidden(process.hide(x, torch.full((200,), count), g))
        assert (hidden.sum(-1) == count).all() and not hidden[:, 1].any()
    designs = space(process).states[space(process).designs]
    mass = law(policy)
    assert mass.sum().item() == pytest.approx(1, abs=1e-6) and (mass[designs[:, 1] != 1] == 0).all()


@pytest.mark.parametrize("process", FIXED_PROCESSES, ids=["masked", "m=1", "m=2"])
def test_the_loss_ignores_fixed_positions(process):
    logits = torch.zeros(L, V, requires_grad=True)
    design = torch.tensor([1, 1, 0, 1], dtype=torch.int8).expand(64, L)
    process.denoising_loss(lambda x, t: logits.expand(len(x), L, V), design, generator(19)).mean().backward()
    assert logits.grad is not None
    assert (logits.grad[1] == 0).all() and (logits.grad[[0, 2, 3]] != 0).all()


def test_steps_count_free_positions():
    assert [p.steps for p in FIXED_PROCESSES] == [3, 3, 2]
    assert [AnyOrder(L, V, per_step=m).steps for m in (1, 2, 3)] == [4, 2, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AnyOrder(3, 4, per_step=4), r"per_step must be in \[1, 3\], got 4"),
        (lambda: Masked(3, 4, num_steps=0), "num_steps must be ≥ 1, got 0"),
        (lambda: Masked(3, 4, schedule="cosin"), 'did you mean "cosine"'),
        (lambda: AnyOrder(3, 1), "letters must be ≥ 2, got 1"),
        (lambda: AnyOrder(3, 2, HELD), "fixed covers 4 positions, designs have 3"),
    ],
)
def test_impossible_processes_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
