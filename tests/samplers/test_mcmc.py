"""MCMC against its transition matrix, written out over every design and every path of small chains."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from biotilt.core import Context, Density, Policy, Roles, Target
from biotilt.errors import ConfigError
from biotilt.networks.table import StateTable, Table
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.processes import AnyOrder, Finite
from biotilt.processes.gaussian import Gaussian
from biotilt.samplers.mcmc import MCMC
from biotilt.testing import FunctionScorer, TableScorer, all_states, law, space, tilted_law, transition_matrices
from biotilt.testing.gaussian import Mixture, MixtureDenoiser, affine_law

pytestmark = pytest.mark.usefixtures("double")

V, L, ALPHA = 2, 3, 0.6


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REWARD = normal(V**L, seed=2)
JOINT = normal(V**L, seed=1).exp()


def any_order(per_step: int) -> Policy:
    return Policy(AnyOrder(L, V, per_step=per_step), StateTable.of_joint(JOINT, V, L))


def context_of(base: Policy, scorer: Any, proposal: Policy | None = None, seed: int = 0) -> Context:
    roles = Roles.start(base)
    if proposal is not None:
        roles.proposal = proposal.frozen_copy()
    return Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(seed))


def accepting(propose: Tensor, log_target_ratio: Tensor) -> Tensor:
    """The Metropolis–Hastings matrix of a proposal matrix `(N, N)` and log ratios `(N, N)` from row to column."""
    moved = propose * log_target_ratio.exp().clamp(max=1)
    return moved + torch.diag(1 - moved.sum(-1))


def renoise_matrix(base: Policy, k: int) -> Tensor:
    """Over designs, with acceptance: hide free − k·m letters, every set equally likely, then denoise from step k."""
    process, states = base.process, all_states(V, L)
    designs = space(process).designs
    hidden = L - k * process.per_step
    agrees = ((states == V) | (states == states[designs][:, None])).all(-1)
    done = (agrees & ((states == V).sum(-1) == hidden)).double() / math.comb(L, hidden)
    torch.testing.assert_close(done.sum(-1), torch.ones(V**L))
    for matrix in transition_matrices(base, states)[k:]:
        done = done @ matrix
    return accepting(done[:, designs], (REWARD[None] - REWARD[:, None]) / ALPHA)


def paths_of(policy: Policy, steps: int) -> tuple[Tensor, Tensor]:
    """Every path of states' indices `(N, K+1)`, and log p(x[k+1]|x[k]) `(N, K)`."""
    matrices = transition_matrices(policy, space(policy.process).states)
    paths = [(int(space(policy.process).start.argmax()),)]
    for k in range(steps):
        paths = [(*p, y) for p in paths for y in matrices[k, p[-1]].nonzero().flatten().tolist()]
    table = torch.tensor(paths)
    logs = torch.stack([matrices[k, table[:, k], table[:, k + 1]].log() for k in range(steps)], -1)
    return table, logs


def path_matrices(base: Policy, proposal: Policy) -> tuple[Tensor, Tensor, Tensor]:
    """Over paths: the matrices of each k `(K, N, N)`, the tilted law of paths, and the design of each."""
    steps = base.process.steps
    paths, log_base = paths_of(base, steps)
    same, log_out = paths_of(proposal, steps)
    assert torch.equal(paths, same)
    designs = torch.full((len(space(base.process).states),), -1)
    designs[space(base.process).designs] = torch.arange(len(REWARD))
    end = designs[paths[:, -1]]
    log_target = log_base.sum(-1) + REWARD[end] / ALPHA
    matrices = []
    for k in range(steps):
        shared = (paths[:, None, : k + 1] == paths[None, :, : k + 1]).all(-1)
        log_new = log_out[:, k:].sum(-1)
        propose = torch.where(shared, log_new.exp(), 0.0)
        log_ratio = (log_target - log_new)[None] - (log_target - log_new)[:, None]
        matrices.append(accepting(propose, log_ratio))
    return torch.stack(matrices), log_target.softmax(-1), end


class Prescribed(MCMC):
    """Redoes 1 step, then 2, then all, so that the law after three rounds is a product of known matrices."""

    def _redone(self, context: Context) -> int:
        turn = context.memory.rows.setdefault("turn", torch.zeros(1))
        turn += 1
        return int(turn)


def test_corrupt_leaves_p_star_invariant_where_letters_are_conditionals():
    base = any_order(1)
    p_star, _ = tilted_law(JOINT / JOINT.sum(), REWARD, ALPHA)
    for k in range(L):
        matrix = renoise_matrix(base, k)
        flow = p_star[:, None] * matrix
        assert (flow - flow.T).abs().max() < 1e-12
        assert (p_star @ matrix - p_star).abs().max() < 1e-12
        # and it is the only law left alone: the second eigenvalue is well below 1
        assert torch.linalg.eigvals(matrix).abs().sort().values[-2] < 0.95


def test_corrupt_is_approximate_for_two_letters_a_step():
    base = any_order(2)
    p_star, _ = tilted_law(law(base), REWARD, ALPHA)
    assert 1e-4 < (p_star @ renoise_matrix(base, 1) - p_star).abs().max() < 0.05


@pytest.mark.parametrize("tuned", [False, True])
def test_path_leaves_p_star_invariant_for_any_base(tuned):
    base = any_order(2)
    proposal = Policy(base.process, StateTable(V, L, normal((V + 1) ** L, L, V, seed=5))) if tuned else base
    matrices, p_paths, end = path_matrices(base, proposal)
    assert (p_paths @ matrices - p_paths).abs().max() < 1e-12
    p_star, _ = tilted_law(law(base), REWARD, ALPHA)
    torch.testing.assert_close(torch.zeros(V**L).index_add(0, end, p_paths), p_star, atol=1e-12, rtol=0)


def chi_square(index: Tensor, expected_law: Tensor) -> tuple[float, float]:
    """The statistic of draws against a law, and a bound that one in a million honest draws exceeds."""
    expected = len(index) * expected_law
    cells = expected > 5
    observed = torch.bincount(index, minlength=len(expected)).double()
    assert observed[expected_law == 0].sum() == 0
    dof = int(cells.sum()) - 1
    return ((observed - expected).square() / expected)[cells].sum().item(), dof + 6 * math.sqrt(2 * dof)


def index_of(designs: Tensor) -> Tensor:
    return (designs.long() * torch.tensor([4, 2, 1])).sum(-1)


def test_a_few_rounds_of_corrupt_have_the_law_of_the_matrices():
    base = any_order(1)
    drawn = Prescribed(rounds=3).draw(context_of(base, TableScorer(base.process, REWARD)), 20_000)
    after = law(base) @ renoise_matrix(base, 2) @ renoise_matrix(base, 1) @ renoise_matrix(base, 0)
    statistic, bound = chi_square(index_of(drawn.designs), after)
    assert statistic < bound
    torch.testing.assert_close(drawn.rewards, REWARD[index_of(drawn.designs)])
    assert (drawn.log_weight == 0).all() and drawn.log_z is None


def test_a_few_rounds_of_path_have_the_law_of_the_matrices():
    base = any_order(2)
    proposal = Policy(base.process, StateTable(V, L, normal((V + 1) ** L, L, V, seed=5)))
    matrices, _, end = path_matrices(base, proposal)
    _, log_out = paths_of(proposal, base.process.steps)
    after = log_out.sum(-1).exp() @ matrices[1] @ matrices[0]
    context = context_of(base, TableScorer(base.process, REWARD), proposal)
    drawn = Prescribed("path", rounds=2).draw(context, 20_000)
    statistic, bound = chi_square(index_of(drawn.designs), torch.zeros(V**L).index_add(0, end, after))
    assert statistic < bound


@pytest.mark.parametrize(("renoise", "tuned"), [("corrupt", False), ("path", False), ("path", True)])
def test_many_rounds_reach_p_star(renoise, tuned):
    base = any_order(1)
    proposal = Policy(base.process, StateTable(V, L, normal((V + 1) ** L, L, V, seed=5))) if tuned else None
    p_star, _ = tilted_law(law(base), REWARD, ALPHA)
    # this proposal is far from p*: the second eigenvalue of its moves is 0.97
    rounds, count = (120, 4000) if tuned else (40, 8000)
    drawn = MCMC(renoise, rounds).draw(context_of(base, TableScorer(base.process, REWARD), proposal), count)
    statistic, bound = chi_square(index_of(drawn.designs), p_star)
    assert statistic < bound
    # law(base) itself is told apart by the same test
    assert chi_square(index_of(drawn.designs), law(base))[0] > 3 * bound


class Scattered(Finite):
    """A chain that starts anywhere, so that the noise decides a part of the design."""

    def noise(self, batch: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.states, (batch,), generator=generator, dtype=torch.int8)


def test_path_draws_the_noise_anew_too():
    logits = normal(1, 3, 3, seed=7) + 3 * torch.eye(3)
    base = Policy(Scattered(3, 1), Table(3, 1, logits))
    reward = torch.tensor([0.1, 1.2, -0.7])
    p_star, _ = tilted_law(logits[0].softmax(-1).mean(0), reward, ALPHA)
    drawn = MCMC("path", rounds=25).draw(context_of(base, TableScorer(base.process, reward)), 8000)
    statistic, bound = chi_square(drawn.designs.long(), p_star)
    assert statistic < bound


def test_path_is_exact_on_a_finite_chain():
    """The noising of `Finite` does not undo this base; the path form does not ask it to."""
    states, horizon = 3, 3
    base = Policy(Finite(states, horizon), Table(states, horizon, normal(horizon, states, states, seed=7)))
    reward = torch.tensor([0.1, 1.2, -0.7])
    p_star, _ = tilted_law(law(base), reward, ALPHA)
    drawn = MCMC("path", rounds=25).draw(context_of(base, TableScorer(base.process, reward)), 8000)
    statistic, bound = chi_square(drawn.designs.long(), p_star)
    assert statistic < bound


@pytest.mark.parametrize("renoise", ["corrupt", "path"])
def test_points_are_moved_to_p_star(renoise):
    """A gaussian and a linear reward, in closed form: exact for paths, and for noise and back nearly so."""
    process = Gaussian(2, num_steps=6 if renoise == "path" else 20)
    prior = Mixture(torch.ones(1), torch.tensor([[0.5, -1.0]]), torch.tensor([[[0.7, 0.3], [0.3, 0.5]]]))
    base = Policy(process, MixtureDenoiser(prior, process, VectorMLP(VectorMLPConfig(2, 4, 1)).double()))
    slope = torch.tensor([0.6, -0.9])
    p_star, _ = affine_law(base).tilted(slope, torch.zeros(2, 2), ALPHA)
    mean, covariance = p_star.moments()
    drawn = MCMC(renoise, rounds=25).draw(context_of(base, FunctionScorer(lambda x: x @ slope)), 1500)
    error = (covariance.diagonal() / 1500).sqrt()
    # in widths of p*, for how far 20 steps of noising and of denoising disagree
    drift = 0.0 if renoise == "path" else 0.05
    assert ((drawn.designs.mean(0) - mean).abs() < 4.5 * error + drift * covariance.diagonal().sqrt()).all()
    assert ((affine_law(base).means[0] - mean).abs() > 10 * error).any()


def test_unscored_and_infeasible_proposals_are_rejected():
    base = any_order(1)
    reward = REWARD.clone()
    reward[3], reward[5] = torch.nan, -torch.inf
    drawn = MCMC(rounds=30).draw(context_of(base, TableScorer(base.process, reward)), 4000)
    allowed = torch.where(reward.isfinite(), reward, -torch.inf)
    p_star, _ = tilted_law(law(base), allowed, ALPHA)
    statistic, bound = chi_square(index_of(drawn.designs), p_star)
    assert statistic < bound


def test_a_chain_that_was_never_scored_counts_nothing():
    base = any_order(1)
    scorer = TableScorer(base.process, torch.full((V**L,), torch.nan))
    drawn = MCMC(rounds=2).draw(context_of(base, scorer), 5)
    assert drawn.rewards.isnan().all() and (drawn.log_weight == -torch.inf).all()


def test_only_new_designs_are_scored():
    """The base can only draw one design, so that every proposal is the design itself: one call a chain."""
    logits = torch.zeros((V + 1) ** L, L, V)
    logits[..., 1] = 200.0
    base = Policy(AnyOrder(L, V), StateTable(V, L, logits))
    scorer = TableScorer(base.process, REWARD)
    drawn = MCMC(rounds=5).draw(context_of(base, scorer), 7)
    assert scorer.calls == 7 and drawn.metrics["accepted"] == pytest.approx(1)
    # where letters do vary, a round costs a call a chain at most
    free = any_order(1)
    counted = TableScorer(free.process, REWARD)
    MCMC(rounds=5).draw(context_of(free, counted), 7)
    assert 7 < counted.calls <= 7 * 6


def test_shares_bound_how_much_is_redone():
    """With the last third only, a move changes at most one of the three letters."""
    base = any_order(1)
    seen: list[Tensor] = []

    def constant(designs: Tensor) -> Tensor:
        seen.append(designs.clone())
        return torch.zeros(len(designs))

    # r is constant, so every move is accepted; the first request holds the designs that the chains start at
    ends = MCMC(rounds=1, most=1 / 3).draw(context_of(base, constant), 200).designs
    assert (ends != seen[0]).sum(-1).max() == 1
    ends = MCMC(rounds=1, least=1.0).draw(context_of(base, constant), 200).designs
    assert (ends != seen[2]).sum(-1).max() == 3


def test_same_seed_same_designs():
    base = any_order(1)
    draws = [MCMC(rounds=4).draw(context_of(base, TableScorer(base.process, REWARD), seed=s), 50) for s in (3, 3, 4)]
    assert torch.equal(draws[0].designs, draws[1].designs) and not torch.equal(draws[0].designs, draws[2].designs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, r"sampler\.rounds"),
        ({"least": 0.6, "most": 0.5}, r"sampler\.least"),
        ({"most": 1.5}, r"sampler\.most: must be ≤ 1"),
        ({"renoise": "corupt"}, 'did you mean "corrupt"'),
        ({"renoise": "path", "most": 0.5}, "never changes the first steps"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        MCMC(**options)


def test_needs_log_prob_for_paths_only():
    assert MCMC().needs == () and MCMC("path").needs == (Density,)
