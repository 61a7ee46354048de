"""Remasking against its definition: marginals by exact propagation, kernels and bounds by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Policy, Replay, Roles, Target, rollout, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.evaluation.likelihood import kind_for, log_likelihood
from biotilt.model import Model
from biotilt.networks.mlp import MLP, MLPConfig
from biotilt.networks.table import StateTable
from biotilt.objectives import WDCE
from biotilt.processes import Masked, Remasking
from biotilt.samplers import SMC
from biotilt.spaces import DNA, Letters
from biotilt.testing import (
    RowCounter,
    TableScorer,
    all_designs,
    all_states,
    law,
    push,
    space,
    tilted_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.contracts import check_sampler, enumerated_answer
from biotilt.training import TrainConfig, Trainer

V, L, K = 2, 3, 5
STATES = all_states(V, L)
HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8))
KINDS = {
    "rescale": Remasking(L, V, num_steps=K, eta=0.7),
    "most": Remasking(L, V, num_steps=K, eta=1.0, schedule="cosine"),
    "cap": Remasking(L, V, num_steps=K, strategy="cap", eta=0.3, schedule="mdlm_cosine"),
    "window": Remasking(L, V, num_steps=K, strategy="cap", eta=0.4, first=0.4, last=0.8),
    "loop": Remasking(L, V, num_steps=K, strategy="cap", eta=0.3, first=0.4, last=0.8, hold=0.75),
}
each_kind = pytest.mark.parametrize("process", KINDS.values(), ids=list(KINDS))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_policy(process, seed: int) -> Policy:
    shape = ((process.letters + 1) ** process.length, process.length, process.letters)
    logits = 1.5 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)
    return Policy(process, StateTable(process.letters, process.length, logits))


def clean_shares(process: Remasking) -> list[float]:
    """a[0] … a[K] by hand: of the schedules that the kinds above have, and of the loop."""
    if process.hold:
        return [0, 0.375, 0.75, 0.75, 0.75, 1]
    at = {
        "loglinear": lambda s: s,
        "cosine": lambda s: 1 - math.cos(math.pi * s / 2),
        "mdlm_cosine": lambda s: math.cos(math.pi * (1 - s) / 2),
    }
    return [at[process.schedule](k / K) for k in range(K)] + [1]


def noised(design: Tensor, share: float) -> Tensor:
    """q(x[k] | design) `(N,)` over STATES: each letter is clean with this probability."""
    each = torch.where(STATES == V, 1 - share, torch.where(design == STATES, share, 0.0).double())
    return each.prod(-1)


def remask_chances(process: Remasking) -> list[float]:
    """σ by hand, step by step."""
    a, found = clean_shares(process), []
    for k in range(K):
        most = min(1.0, (1 - a[k + 1]) / a[k]) if a[k] else 1.0
        sigma = min(process.eta, most) if process.strategy == "cap" else process.eta * most
        found.append(sigma if process.first <= k / K < process.last else 0.0)
    return found


@each_kind
def test_the_kernel_is_its_definition_and_sums_to_one(process):
    policy, a, sigma = random_policy(process, 1), clean_shares(process), remask_chances(process)
    found = transition_matrices(policy, STATES)
    torch.testing.assert_close(found.sum(-1), torch.ones(K, len(STATES)).double(), atol=1e-5, rtol=0)
    for k in range(K):
        reveal = (a[k + 1] - (1 - sigma[k]) * a[k]) / (1 - a[k])
        letters = policy.net(STATES, torch.zeros(len(STATES))).softmax(-1).detach()
        for s, x in enumerate(STATES.tolist()):
            each = [
                [reveal * letters[s, i, b].item() for b in range(V)] + [1 - reveal]
                if token == V
                else [(1 - sigma[k]) * (b == token) for b in range(V)] + [sigma[k]]
                for i, token in enumerate(x)
            ]
            wanted = torch.tensor([math.prod(row) for row in itertools.product(*each)], dtype=torch.float64)
            torch.testing.assert_close(found[k, s], wanted, atol=1e-6, rtol=0)


@each_kind
def test_with_the_exact_posterior_every_step_has_the_law_of_the_noising(process):
    """An asymmetric law of dependent letters: p(y|x) = Σ_x0 p(x0|x) p(y|x, x0), the kernel of a network that knows x0.

    Step by step, from noise to designs, without a draw: the law of x[k] is q_k whatever is hidden again.
    """
    designs, a = all_designs(V, L), clean_shares(process)
    data = torch.randn(len(designs), generator=generator(2), dtype=torch.float64).softmax(0)
    given = torch.stack(
        [
            transition_matrices(Policy(process, Knows(design)), STATES)  # type: ignore[arg-type]
            for design in designs
        ]
    )
    mass = noised(designs[0], 0.0)
    for k in range(K):
        joint = data.unsqueeze(-1) * torch.stack([noised(design, a[k]) for design in designs])
        torch.testing.assert_close(mass, joint.sum(0), atol=1e-6, rtol=0)
        posterior = joint / joint.sum(0).clamp(min=1e-300)
        kernel = torch.einsum("ds,dsy->sy", posterior, given[:, k])
        mass = mass @ kernel
    torch.testing.assert_close(mass[space(process).designs], data, atol=1e-6, rtol=0)


class Knows(torch.nn.Module):
    """A network that is sure of one design."""

    def __init__(self, design: Tensor):
        super().__init__()
        self.logits = torch.where(torch.arange(V) == design.unsqueeze(-1), 0.0, -1e4).double()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.logits.expand(len(x), L, V)


@each_kind
def test_independent_letters_are_drawn_exactly(process):
    """The conditionals of a product law: here the factorised kernel is the exact one."""
    letters = torch.tensor([[0.7, 0.3], [0.15, 0.85], [0.45, 0.55]], dtype=torch.float64)
    joint = torch.einsum("a,b,c->abc", *letters).flatten()
    policy = Policy(process, StateTable.of_joint(joint, V, L))
    laws = push(transition_matrices(policy, STATES), space(process).start)
    for k, share in enumerate(clean_shares(process)):
        wanted = sum(p * noised(d, share) for p, d in zip(joint, all_designs(V, L)))
        torch.testing.assert_close(laws[k], wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fixed", [None, HELD])
def test_nothing_hidden_again_is_masked(fixed):
    ours, masked = (kind(L, V, fixed, num_steps=K, **options) for kind, options in
                    ((Remasking, {"eta": 0.0, "schedule": "cosine"}), (Masked, {"schedule": "cosine"})))  # fmt: skip
    net = random_policy(ours, 3).net
    torch.testing.assert_close(*(transition_matrices(Policy(p, net), STATES) for p in (ours, masked)))
    x = torch.tensor([[2, 1, 0], [2, 1, 2]], dtype=torch.int8)
    for k in range(K):
        assert torch.equal(ours.inputs(x, k).t, masked.inputs(x, k).t)


def test_the_floor_of_independent_letters_falls_with_the_number_of_steps():
    """Dependent letters, of which a network says the conditionals one by one: what a step draws apart, costs."""
    joint = torch.tensor([5, 1, 1, 1, 1, 1, 1, 8], dtype=torch.float64)
    net, data = StateTable.of_joint(joint, V, L), joint / joint.sum()
    floors = [
        total_variation(law(Policy(Remasking(L, V, num_steps=steps, eta=0.3), net)), data) for steps in (1, 6, 24, 96)
    ]
    assert floors[0] > 0.2 and floors[3] < 0.015
    assert all(late < 0.7 * early for early, late in itertools.pairwise(floors))


@each_kind
def test_kl_by_enumeration_and_corruptions_of_the_right_share(process):
    p, q = random_policy(process, 4), random_policy(process, 5)
    ours, theirs = transition_matrices(p, STATES), transition_matrices(q, STATES)
    enumerated = torch.where(ours > 0, ours * (ours.log() - theirs.log()), 0).sum(-1)
    for k in range(K):
        computed = p.kernel(STATES, k).kl(q.kernel(STATES, k)).detach()  # type: ignore[attr-defined]
        torch.testing.assert_close(computed, enumerated[k], atol=1e-5, rtol=1e-5)
    design = torch.tensor([1, 0, 1], dtype=torch.int8).expand(20_000, L)
    for k, share in enumerate(clean_shares(process)):
        seen = (process.corrupt(design, k, generator(k)) != V).double().mean()
        assert abs(seen - share) < 5 * math.sqrt(share * (1 - share) / design.numel()) + 1e-9


def test_the_bounds_are_those_of_this_chain():
    process = KINDS["rescale"]
    policy, designs = random_policy(process, 6), all_designs(V, L)
    exact = law(policy).log()
    found = log_likelihood(policy, designs, "bound", draws=20_000)
    assert found.error is not None
    assert (found.values < exact + 4 * found.error).all() and (exact - found.values).mean() > 0.005
    for d in (2, 5):  # Σ_k E_q KL(q(y|x, x0) ‖ p(y|x)), over all states, by hand
        true = transition_matrices(Policy(process, Knows(designs[d])), STATES)  # type: ignore[arg-type]
        model, total = transition_matrices(policy, STATES), 0.0
        for k, share in enumerate(clean_shares(process)[:-1]):
            per_state = torch.where(true[k] > 0, true[k] * (true[k].log() - model[k].log()), 0).sum(-1)
            total += (noised(designs[d], share) * per_state).sum().item()
        assert abs(found.values[d].item() + total) < 4 * found.error[d].item()
        loss = process.denoising_loss(policy.net, designs[d].expand(20_000, L), generator(7))
        assert abs(loss.mean().item() - total) < 4 * loss.std().item() / math.sqrt(len(loss))
    for asked, message in (("exact", "takes 5 steps"), ("pseudo", 'the process "remasking"')):
        with pytest.raises(ConfigError, match=message):
            kind_for(policy, asked)


def test_held_letters_are_never_hidden():
    process = Remasking(L, V, HELD, num_steps=6, eta=1.0)
    chain = rollout(random_policy(process, 8), 200, generator(9)).states
    assert (chain[..., 1] == 1).all()
    assert ((chain[:-1] != V) & (chain[1:] == V)).any(), "others are"
    assert (process.corrupt(chain[-1], 0, generator(10))[:, 1] == 1).all()


def test_steps_that_change_nothing_cost_no_row_and_draws_have_the_law():
    process = Remasking(L, V, num_steps=40, eta=0.1)
    policy = random_policy(process, 11)
    with RowCounter(net=policy.net) as rows:
        x = sample(policy, 4000, generator(12), chunk=4000)
    assert rows["net"].total < 0.6 * 40 * 4000
    wanted = law(policy)
    seen = (x.unsqueeze(1) == all_designs(V, L)).all(-1).double().mean(0)
    assert ((seen - wanted).abs() < 5 * (wanted * (1 - wanted) / 4000).sqrt()).all()


def test_a_draw_that_is_differentiable_is_a_draw():
    process = KINDS["most"]
    policy = random_policy(process, 13)
    x = torch.tensor([[2, 0, 2]], dtype=torch.int8).expand(20_000, L)
    kernel = policy.kernel(x, 2)
    drawn = kernel.rsample(generator(14))  # type: ignore[attr-defined]
    wanted = policy.kernel(x[: len(STATES)], 2).log_prob(STATES).exp().detach()  # type: ignore[attr-defined]
    seen = (drawn.detach().argmax(-1).unsqueeze(1) == STATES).all(-1).double().mean(0)
    assert ((seen - wanted).abs() < 5 * (wanted * (1 - wanted) / len(x)).sqrt() + 1e-9).all()
    assert (drawn.sum(-1) == 1).all() and torch.autograd.grad(drawn[..., 0].sum(), policy.net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0.5, "last": 0.5}, "first must be below last"),
        ({"hold": 0.5}, "steps before first and after last"),
        ({"hold": 1.0, "first": 0.3, "last": 0.6}, "must be below 1"),
        ({"eta": 1.5}, "eta must be"),
        ({"strategy": "conf"}, "strategy"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Remasking(L, V, **options)


def test_a_network_of_masked_serves():
    masked = Model(
        Policy(Masked(6, 4, num_steps=7, schedule="cosine"), MLP(MLPConfig(4, 6, width=8)).eval()), Letters(DNA)
    )
    found = masked.with_process(name="remasking", eta=0.4)
    assert found.policy.process == Remasking(6, 4, num_steps=7, schedule="cosine", eta=0.4)
    assert len(found.sample(3)[0]) == 6


def test_smc_is_unbiased_and_designs_that_are_weighted_teach_the_tilted_law():
    """The optimal kernel would hide bad letters more often, which no network decides: paths have another law."""
    process = Remasking(3, 2, num_steps=6, eta=0.3)
    reward = torch.randn(8, generator=generator(13))
    base = Policy(process, StateTable.of_joint(torch.randn(8, generator=generator(14)).exp(), 2, 3))
    scorer = TableScorer(process, reward)
    context = Context(Roles.start(base), Target(scorer, 0.8), generator(15))
    context.roles.proposal = Policy(process, random_policy(process, 16).net.float())
    check_sampler(SMC(value="none"), context, enumerated_answer(base, reward, 0.8), count=16, repeats=60)
    p_star, _ = tilted_law(law(base), reward, 0.8)
    objective = WDCE()
    context = Context(Roles.start(base), Target(scorer, 0.8), generator(17), Replay(objective.capacity))
    config = TrainConfig(max_calls=128 * 14, batch=128, lr=0.08, warmup=5, clip=10.0, ema=0.95)
    net = Trainer(context, objective, config, scorer).run()
    assert total_variation(law(base), p_star) > 0.4
    assert total_variation(law(Policy(process, net)), p_star) < 0.12
