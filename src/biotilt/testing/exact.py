"""Exact answers for processes small enough to write out every transition: float64, on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from biotilt.core.capabilities import Density
from biotilt.core.policy import Policy
from biotilt.core.protocols import Process
from biotilt.errors import ConfigError
from biotilt.processes.conditioned import Conditioned
from biotilt.processes.finite import Finite
from biotilt.processes.insertion import Insertion
from biotilt.processes.revealing import HidingProcess
from biotilt.processes.uniform import Uniform


class Space(NamedTuple):
    """The N states of a process `(N, ...)`, the law of `x[0]` `(N,)`, and the indices of the D designs `(D,)`."""

    states: Tensor
    start: Tensor
    designs: Tensor


def all_designs(letters: int, length: int) -> Tensor:
    """Return every design, int8 `(V^L, L)`, in lexicographic order.

    >>> all_designs(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return lexicographic(torch.arange(letters**length), letters, length)


def all_states(letters: int, length: int) -> Tensor:
    """Return every design with any positions hidden (token V), int8 `((V+1)^L, L)`, lexicographic."""
    return all_designs(letters + 1, length)


def lexicographic(index: Tensor, letters: int, length: int) -> Tensor:
    """Return the words `(..., L)`, int8, at these places `(...)` of the lexicographic order."""
    return (index.unsqueeze(-1) // place_values(letters, length) % letters).to(torch.int8)


def lexicographic_index(x: Tensor, letters: int) -> Tensor:
    """Return the places `(...)` of words `(..., L)` in the order: the inverse of `lexicographic`."""
    return (x.long() * place_values(letters, x.shape[-1])).sum(-1)


def place_values(letters: int, length: int) -> Tensor:
    """Return V^(L−1), …, V, 1: how far one letter more at each position moves a word in the order."""
    return letters ** torch.arange(length - 1, -1, -1)


def space(process: Process) -> Space:
    """Return the states and designs of a process; also those that fixed positions keep it from.

    Raises:
        ConfigError: the states of this process cannot be listed.
    """
    if isinstance(process, Conditioned):
        return _of_conditions(process, space(process.inner))
    first = process.noise(1, torch.Generator())
    if isinstance(process, Finite):
        states = torch.arange(process.states, dtype=first.dtype)
        return Space(states, (states == 0).double(), states.long())
    if isinstance(process, HidingProcess):
        states = all_states(process.letters, process.length)
        designs = (~process.hidden(states).any(-1)).nonzero().squeeze(-1)
        return Space(states, (states == first).all(-1).double(), designs)
    if isinstance(process, Insertion):
        states, complete = process.listed()
        return Space(states, (states == first).all(-1).double(), complete.nonzero().squeeze(-1))
    if isinstance(process, Uniform):
        states, fixed = all_designs(process.letters, process.length), process.fixed
        possible = torch.ones(len(states), dtype=torch.float64)
        if fixed is not None:
            possible = (states == fixed.letters)[:, fixed.mask].all(-1).double()
        return Space(states, possible / possible.sum(), torch.arange(len(states)))
    raise ConfigError(f'the states of the process "{process.name}" cannot be listed; exact answers need finite ones')


def _of_conditions(process: Conditioned, inner: Space) -> Space:
    """Return the states of a process for each condition in turn: designs of c are those of `inner` from c · D on."""
    states, places = [], []
    for condition in range(process.targets):
        states.append(process.mark.write(inner.states, torch.full((len(inner.states),), condition)))
        places.append(inner.designs + condition * len(inner.states))
    shares = torch.tensor(process.weights, dtype=torch.float64)
    return Space(torch.cat(states), (shares.unsqueeze(-1) * inner.start.double()).flatten(), torch.cat(places))


@torch.no_grad()
def transition_matrices(policy: Policy, states: Tensor) -> Tensor:
    """Return P[k, x, y] = p(x[k+1] = y | x[k] = x) `(K, N, N)` over all pairs of the states `(N, ...)`.

    Network and kernel are called on N² rows a step: for N up to a few hundred.
    """
    count = len(states)
    x, y = states.repeat_interleave(count, 0), states.repeat(count, *[1] * (states.dim() - 1))
    steps = [policy.kernel_as(Density, x, k).log_prob(y).double().exp() for k in range(policy.process.steps)]
    return torch.stack(steps).unflatten(-1, (count, count))


def push(matrices: Tensor, start: Tensor) -> Tensor:
    """Return the laws of x[0] … x[K] `(K+1, N)` of the chain whose x[0] has the law `start` `(N,)`."""
    laws = [start.to(matrices.dtype)]
    for matrix in matrices:
        laws.append(laws[-1] @ matrix)
    return torch.stack(laws)


def law(policy: Policy) -> Tensor:
    """Return the law of the policy over designs `(D,)`, by pushing mass through every state.

    Designs are in the order of `space(process)`: states of a finite chain, lexicographic for sequences.
    """
    states, start, designs = space(policy.process)
    return push(transition_matrices(policy, states), start)[-1, designs]


def soft_values(base: Policy, reward: Tensor, alpha: float) -> Tensor:
    """Return v_k(x) = α log E_base[exp(r/α) | x[k] = x] in units of reward, `(K+1, N)` over `space(process)`.

    `reward` `(D,)` of the designs; `alpha` > 0. −inf where no feasible design can be reached.
    """
    states, _, designs = space(base.process)
    matrices = transition_matrices(base, states)
    values = [torch.full((len(states),), -torch.inf, dtype=torch.float64)]
    values[0][designs] = reward.double()
    for matrix in matrices.flip(0):
        values.append(alpha * (matrix.log() + values[-1] / alpha).logsumexp(-1))
    return torch.stack(values[::-1])


def optimal_kernel(base: Policy, reward: Tensor, alpha: float) -> Tensor:
    """Return p*(y|x) = p_base(y|x) exp((v_{k+1}(y) − v_k(x))/α) `(K, N, N)`; p_base if v_k(x) = −inf."""
    matrices = transition_matrices(base, space(base.process).states)
    values = soft_values(base, reward, alpha)
    hopeless = values[:-1] == -torch.inf
    change = values[1:].unsqueeze(1) - values[:-1].masked_fill(hopeless, 0).unsqueeze(-1)
    return torch.where(hopeless.unsqueeze(-1), matrices, (matrices.log() + change / alpha).exp())


def tilted_law(p_base: Tensor, reward: Tensor, alpha: float) -> tuple[Tensor, float]:
    """Return p* ∝ p_base exp(r/α) over designs `(D,)`, and log Z, from `p_base` and `reward` `(D,)`.

    >>> p_star, log_z = tilted_law(torch.tensor([0.75, 0.25]), torch.tensor([1.0, 3.0]).log(), alpha=0.5)
    >>> p_star.numpy().round(6), round(log_z, 4)
    (array([0.25, 0.75]), 1.0986)
    """
    log_weight = p_base.double().log() + reward.double() / alpha
    log_z = log_weight.logsumexp(-1)
    return (log_weight - log_z).exp(), log_z.item()


def total_variation(p: Tensor, q: Tensor) -> float:
    """Return ½ Σ |p − q| of two laws `(D,)`, in [0, 1]."""
    return (p - q).abs().sum().item() / 2


def kl(p: Tensor, q: Tensor) -> float:
    """Return KL(p ‖ q) of two laws `(D,)` in nats: inf where p has mass and q has none."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum().item()


def expected_reward(p: Tensor, reward: Tensor) -> float:
    """Return Σ p r of a law and rewards `(D,)`; −inf only where an infeasible design has mass."""
    has_mass = p > 0
    return (p[has_mass].double() * reward[has_mass].double()).sum().item()


def path_kl_exact(p: Policy, q: Policy) -> float:
    """Return the KL of whole paths, Σ_k E_{x[k] ∼ p} KL(p(·|x[k]) ‖ q(·|x[k])), in nats."""
    states, start, _ = space(p.process)
    ours, theirs = transition_matrices(p, states), transition_matrices(q, states)
    per_state = (torch.xlogy(ours, ours) - torch.xlogy(ours, theirs)).sum(-1)
    reached = push(ours, start)[:-1]
    return torch.where(reached > 0, reached * per_state, 0).sum().item()
