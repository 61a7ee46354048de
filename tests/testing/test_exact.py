"""The exact answers against longhand sums, and against each other by a second route."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from biotilt.core import Policy, path_kl, rollout, sample
from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite, Masked, Uniform
from biotilt.testing import (
    ExactValue,
    all_designs,
    all_states,
    expected_reward,
    kl,
    law,
    optimal_kernel,
    path_kl_exact,
    push,
    reveal_law,
    reveal_soft_values,
    soft_values,
    space,
    tilted_law,
    total_variation,
    transition_matrices,
)
from biotilt.testing.exact import lexicographic, lexicographic_index

ALPHA = 0.4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def random_policy(process: Finite | AnyOrder | Masked | Uniform, seed: int) -> Policy:
    if isinstance(process, Finite):
        s, k = process.states, process.horizon
        return Policy(process, Table(s, k, 1.5 * normal(k, s, s, seed=seed)))
    v, n = process.letters, process.length
    return Policy(process, StateTable(v, n, 1.5 * normal((v + 1) ** n, n, v, seed=seed)))


HELD = Fixed(torch.tensor([False, True, False]), torch.tensor([0, 1, 0], dtype=torch.int8))
CHAINS = {
    "finite": Finite(4, 3),
    "m=1": AnyOrder(3, 2),
    "m=2": AnyOrder(3, 2, per_step=2),
    "masked": Masked(3, 2, num_steps=4, schedule="cosine"),
    "held": AnyOrder(3, 2, HELD),
    "uniform": Uniform(3, 2, num_steps=3, schedule="cosine"),
    "uniform held": Uniform(3, 2, HELD, num_steps=3),
}
each_chain = pytest.mark.parametrize("process", CHAINS.values(), ids=CHAINS.keys())


def reward_of(process: Finite | AnyOrder | Masked | Uniform, seed: int = 50) -> Tensor:
    return normal(len(space(process).designs), seed=seed)


def test_words_are_listed_in_lexicographic_order():
    assert all_designs(3, 2).tolist() == [list(w) for w in itertools.product(range(3), repeat=2)]
    assert all_states(2, 3).tolist() == [list(w) for w in itertools.product(range(3), repeat=3)]
    assert all_states(2, 3).dtype == torch.int8
    assert torch.equal(lexicographic_index(all_states(4, 3), 5), torch.arange(125))
    assert lexicographic(torch.tensor([[5]]), 3, 2).tolist() == [[[1, 2]]]


def test_law_by_summing_paths():
    """Finite: every path written out."""
    policy = random_policy(Finite(3, 3), 1)
    p = policy.net.logits.detach().softmax(-1)
    by_hand = torch.zeros(3, dtype=torch.float64)
    for a, b, c in itertools.product(range(3), repeat=3):
        by_hand[c] += p[0, 0, a] * p[1, a, b] * p[2, b, c]
    torch.testing.assert_close(law(policy), by_hand)


def test_the_start_of_the_uniform_process_is_every_word_that_held_letters_allow():
    states, start, designs = space(Uniform(3, 2, HELD))
    assert states[start > 0].tolist() == [[a, 1, b] for a in (0, 1) for b in (0, 1)]
    assert start[start > 0].tolist() == [0.25] * 4
    assert torch.equal(states[designs], all_designs(2, 3))


def test_law_of_the_uniform_process_by_summing_paths():
    """From every start, path by path, with the transitions that the kernel gives one at a time."""
    policy = random_policy(Uniform(2, 2, num_steps=2, schedule="polynomial"), 30)
    words = all_designs(2, 2)

    def step(x: Tensor, y: Tensor, k: int) -> float:
        return policy.kernel(x.unsqueeze(0), k).log_prob(y.unsqueeze(0)).exp().item()

    by_hand = torch.zeros(4, dtype=torch.float64)
    for a, b, (c, design) in itertools.product(words, words, enumerate(words)):
        by_hand[c] += step(a, b, 0) * step(b, design, 1) / 4
    torch.testing.assert_close(law(policy), by_hand)


def test_reveal_law_by_summing_orders():
    """One letter a step: the mean over all orders of the product of the letters' probabilities."""
    policy = random_policy(AnyOrder(3, 3), 2)
    by_hand = []
    for design in all_designs(3, 3):
        total = 0.0
        for order in itertools.permutations(range(3)):
            x, p = torch.full((1, 3), 3, dtype=torch.int8), 1 / math.factorial(3)
            for i in order:
                p *= policy.net(x, torch.zeros(1)).softmax(-1)[0, i, int(design[i])].item()
                x[0, i] = design[i]
            total += p
        by_hand.append(total)
    torch.testing.assert_close(reveal_law(policy), torch.tensor(by_hand, dtype=torch.float64))


@pytest.mark.parametrize("name", ["m=1", "held"])
def test_fast_route_agrees_with_the_generic_route(name):
    process = CHAINS[name]
    policy, reward = random_policy(process, 3), reward_of(process)
    torch.testing.assert_close(reveal_law(policy), law(policy), atol=1e-6, rtol=0)
    generic, fast = soft_values(policy, reward, ALPHA), reveal_soft_values(policy, reward, ALPHA)
    states = space(process).states
    reached = push(transition_matrices(policy, states), space(process).start) > 0
    assert reached.any(-1).all()
    for k in range(process.steps + 1):
        torch.testing.assert_close(fast[reached[k]], generic[k][reached[k]], atol=1e-5, rtol=1e-6)


def test_reveal_law_of_a_consistent_base_is_its_joint():
    joint = normal(27, seed=4).softmax(0)
    torch.testing.assert_close(reveal_law(Policy(AnyOrder(3, 3), StateTable.of_joint(joint, 3, 3))), joint)


def test_reveal_route_refuses_other_chains():
    for process in (AnyOrder(3, 2, per_step=2), Masked(3, 2)):
        with pytest.raises(ConfigError, match="per_step = 1"):
            reveal_law(random_policy(process, 0))
        with pytest.raises(ConfigError, match="per_step = 1"):
            ExactValue(random_policy(process, 0), reward_of(process), ALPHA)


@each_chain
def test_soft_values_satisfy_the_bellman_equation_and_give_log_z(process):
    policy, reward = random_policy(process, 5), reward_of(process)
    states, start, designs = space(process)
    values, matrices = soft_values(policy, reward, ALPHA), transition_matrices(policy, states)
    assert torch.equal(values[-1][designs], reward)
    desirability = (values / ALPHA).exp()
    for k in range(process.steps):
        torch.testing.assert_close(desirability[k], matrices[k] @ desirability[k + 1])
    _, log_z = tilted_law(law(policy), reward, ALPHA)
    assert ((values[0, start > 0] / ALPHA - log_z).abs() < 1e-5).all(), "v_0 must not depend on the start"
    assert log_z == pytest.approx((law(policy) * (reward / ALPHA).exp()).sum().log().item())


@each_chain
def test_p_star_is_the_law_of_the_optimal_kernel(process):
    policy, reward = random_policy(process, 6), reward_of(process)
    _, start, designs = space(process)
    optimal = optimal_kernel(policy, reward, ALPHA)
    weights = law(policy) * (reward / ALPHA).exp()
    p_star, _ = tilted_law(law(policy), reward, ALPHA)
    torch.testing.assert_close(p_star, weights / weights.sum())
    pushed = push(optimal, start)
    torch.testing.assert_close(pushed[-1, designs], p_star, atol=1e-6, rtol=0)
    reached = pushed[:-1] > 0
    torch.testing.assert_close(optimal.sum(-1)[reached], torch.ones(int(reached.sum())).double(), atol=1e-6, rtol=0)


def test_the_optimal_policy_attains_the_optimum_of_the_objective():
    """J* = E_{p*}[r] − α KL(paths) = α log Z, and any other policy has less."""
    process = Finite(4, 3)
    base, reward = random_policy(process, 7), reward_of(process)
    optimum = Policy(process, Table(4, 3, optimal_kernel(base, reward, ALPHA).log()))
    _, log_z = tilted_law(law(base), reward, ALPHA)

    def objective(policy: Policy) -> float:
        return expected_reward(law(policy), reward) - ALPHA * path_kl_exact(policy, base)

    assert objective(optimum) == pytest.approx(ALPHA * log_z)
    assert objective(base) < ALPHA * log_z - 0.05
    assert objective(random_policy(process, 8)) < ALPHA * log_z - 0.05


def test_infeasible_designs_and_hopeless_states():
    """Design 0 follows only from state 1 at the last step; nothing else is feasible."""
    logits = torch.zeros(2, 3, 3, dtype=torch.float64)
    logits[1] = torch.tensor([[-torch.inf, 0, 0], [0, 0, 0], [-torch.inf, 0, 0]])
    base = Policy(Finite(3, 2), Table(3, 2, logits))
    reward = torch.tensor([1.0, -torch.inf, -torch.inf], dtype=torch.float64)
    values = soft_values(base, reward, ALPHA)
    # state 1 goes to design 0 with probability 1/3, and is reached with probability 1/3
    assert values[1].tolist() == pytest.approx([-math.inf, 1 - ALPHA * math.log(3), -math.inf])
    assert values[0, 0].item() == pytest.approx(1 - ALPHA * math.log(9))
    pushed = push(optimal_kernel(base, reward, ALPHA), torch.tensor([1.0, 0, 0]))
    assert pushed.tolist() == [[1, 0, 0], [0, pytest.approx(1), 0], [pytest.approx(1), 0, 0]]
    exact = ExactValue(base, reward, ALPHA)
    x = torch.arange(3)
    assert exact.action_value(None, x, 1)[2].tolist() == [pytest.approx(1 / ALPHA), -math.inf, -math.inf]
    assert not base.kernel(x, 0).tilted(exact.action_value(None, x, 0)).x0.isnan().any()
    assert expected_reward(pushed[-1], reward) == pytest.approx(1)


def test_an_impossible_chain_stays_the_base():
    base = random_policy(Finite(3, 2), 9)
    exact = ExactValue(base, torch.full((3,), -torch.inf), ALPHA)
    assert (exact.action_value(None, torch.arange(3), 0) == 0).all()


@pytest.mark.parametrize("name", ["finite", "consistent", "held"])
def test_tilting_the_base_by_the_exact_value_gives_p_star(name):
    """The kernels `base.tilted(Q)`, whose law is pushed: tilted p(y|x), normalised again, state by state."""
    if name == "finite":
        base = random_policy(Finite(4, 3), 10)
    else:
        fixed = HELD if name == "held" else None
        base = Policy(AnyOrder(3, 3, fixed), StateTable.of_joint(normal(27, seed=11).softmax(0), 3, 3))
    process = base.process
    reward = reward_of(process)
    exact, places = ExactValue(base, reward, ALPHA), space(process)

    class Tilted(Policy):
        def kernel(self, x: Tensor, k: int | Tensor):
            return base.kernel(x, k).tilted(exact.action_value(None, x, k))

    p_star, log_z = tilted_law(law(base), reward, ALPHA)
    torch.testing.assert_close(law(Tilted(process, base.net)), p_star, atol=1e-6, rtol=0)
    first = places.states[places.start > 0]
    assert exact.state_value(None, first, 0).item() == pytest.approx(ALPHA * log_z, abs=1e-6)
    assert exact.state_value(None, places.states[places.designs], process.steps).tolist() == pytest.approx(
        reward.tolist(), abs=1e-6
    )


@pytest.mark.parametrize("name", ["finite", "consistent"])
def test_action_values_are_the_values_after_each_choice(name):
    """With a tensor of steps; and α log Σ p exp Q over choices is the state's value."""
    if name == "finite":
        base, x, k = random_policy(Finite(4, 3), 12), torch.tensor([3, 0, 1]), torch.tensor([1, 0, 2])
    else:
        base = Policy(AnyOrder(3, 2), StateTable.of_joint(normal(8, seed=13).softmax(0), 2, 3))
        x, k = torch.tensor([[2, 0, 2], [2, 2, 2], [2, 1, 0]], dtype=torch.int8), torch.tensor([1, 0, 2])
    exact = ExactValue(base, reward_of(base.process), ALPHA)
    q, kernel = exact.action_value(None, x, k), base.kernel(x, k)
    assert q.shape == kernel.x0.shape and q.dtype == torch.get_default_dtype()
    total = ALPHA * (kernel.x0 + q).logsumexp(-1)
    value = exact.state_value(None, x, k)
    if name == "finite":
        for b in range(3):
            one = exact.state_value(None, torch.arange(4), int(k[b]) + 1)
            torch.testing.assert_close(q[b], one / ALPHA)
        torch.testing.assert_close(total, value.double(), atol=1e-5, rtol=1e-5)
        return
    for b, i in itertools.product(range(3), range(3)):
        for a in range(2):
            y = x[b : b + 1].clone()
            if y[0, i] == 2:
                y[0, i] = a
            torch.testing.assert_close(q[b, i, a], exact.state_value(None, y, int(k[b]) + 1)[0] / ALPHA)
        if x[b, i] == 2:
            torch.testing.assert_close(total[b, i], value[b].double(), atol=1e-5, rtol=1e-5)


def test_distances_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.25, 0.5, 0.25]).double()
    assert total_variation(p, q) == pytest.approx(0.25)
    assert kl(p, q) == pytest.approx(0.5 * math.log(2))
    assert kl(q, p) == math.inf
    assert expected_reward(q, torch.tensor([1.0, -2.0, 4.0])) == pytest.approx(0.25)
    assert expected_reward(p, torch.tensor([1.0, -2.0, -torch.inf])) == pytest.approx(-0.5)
    assert expected_reward(q, torch.tensor([1.0, -2.0, -torch.inf])) == -math.inf


def path_probabilities(matrices: Tensor, start: Tensor) -> Tensor:
    paths = start
    for matrix in matrices:
        paths = paths.unsqueeze(-1) * matrix
    return paths


@each_chain
def test_path_kl_is_the_kl_of_laws_over_paths(process):
    p, q = random_policy(process, 14), random_policy(process, 15)
    if not isinstance(process, Finite):
        steps = {} if isinstance(process, AnyOrder) else {"num_steps": 3}
        process = type(process)(2, 2, **steps)  # at most 9 states: 9^K paths are few
        p, q = random_policy(process, 14), random_policy(process, 15)
    states, start, _ = space(process)
    ours, theirs = (path_probabilities(transition_matrices(policy, states), start).flatten() for policy in (p, q))
    assert path_kl_exact(p, q) == pytest.approx(kl(ours, theirs), rel=1e-5)
    assert path_kl_exact(q, p) == pytest.approx(kl(theirs, ours), rel=1e-5)
    assert path_kl_exact(p, q) != pytest.approx(path_kl_exact(q, p), rel=1e-3)


@each_chain
def test_drawn_chains_agree_with_the_exact_answers(process):
    """core.path_kl, rollout and sample: means and frequencies within about four standard errors."""
    p, q, draws = random_policy(process, 16), random_policy(process, 17), 4000
    terms = path_kl(p, q, draws, generator(18)).double()
    exact = path_kl_exact(p, q)
    error = (terms.std() / math.sqrt(draws)).item()
    assert abs(terms.mean().item() - exact) < 4 * error + 1e-6
    chain = rollout(p, draws, generator(19), base=q, terms=True)
    assert chain.log_ratio is not None and chain.log_prob is not None and chain.terms is not None
    total = chain.log_ratio.sum(0)
    assert abs(total.mean().item() - exact) < 4 * (total.std() / math.sqrt(draws)).item()
    states, _, designs = space(process)
    masses = law(p)
    for drawn in (chain.designs, sample(p, draws, generator(20), chunk=1500)):
        assert drawn.dtype == torch.int8 and len(drawn) == draws
        same = drawn[:, None] == states[designs]
        seen = (same.all(-1) if same.dim() == 3 else same).double().mean(0)
        assert ((seen - masses).abs() <= 4.5 * (masses * (1 - masses) / draws).sqrt() + 1e-9).all()


@each_chain
def test_rollout_records_what_can_be_computed_again(process):
    p, q = random_policy(process, 21), random_policy(process, 22)
    chain = rollout(p, 64, generator(23), base=q, terms=True)
    assert chain.steps == process.steps
    assert chain.log_ratio is not None and chain.log_prob is not None and chain.terms is not None
    for k in range(chain.steps):
        ours, theirs = (policy.kernel(chain.states[k], k).log_prob(chain.states[k + 1]) for policy in (p, q))
        torch.testing.assert_close(chain.log_prob[k], ours.detach())
        torch.testing.assert_close(chain.log_ratio[k], (ours - theirs).detach())
    torch.testing.assert_close(chain.terms.sum(-1), chain.log_ratio.sum(0), atol=1e-5, rtol=1e-5)
    plain = rollout(p, 64, generator(23))
    assert torch.equal(plain.states, chain.states), "what is recorded must not change what is drawn"
    assert not torch.equal(rollout(p, 64, generator(24)).states, chain.states)
    rest = rollout(p, 64, generator(25), start=(chain.states[1], 1))
    assert rest.steps == chain.steps - 1 and torch.equal(rest.states[0], chain.states[1])
