"""Transition laws of the Jacobi diffusions of stick-breaking (Avdeyev et al. 2023, DDSM, arXiv 2305.10699), in tables.

Stick i of a letter out of V, i = 0 … V−2, moves on [0, 1] by

    dv = (s/2) [(1 − v) − b v] dt + √(s v (1 − v)) dW,    b = V − 1 − i,    s = 2/(1 + b),

stationary at Beta(1, b); with this s every mean relaxes at rate 1. Started at 1 or at 0, its law at time t is a mixture
of Beta(1 + m, b) or Beta(1, b + m) over the number m of lineages that are left at t of a pure death process, which
loses one of m at rate s m (m + b)/2 and starts from infinitely many (Griffiths 1979; Tavaré 1984). So

    v (1 − v) ∂ log q_t(v | 1) = v(1−v) ∂ log Beta(v; 1, b) + E[m | v, 1] (1 − v),
    v (1 − v) ∂ log q_t(v | 0) = v(1−v) ∂ log Beta(v; 1, b) − E[m | v, 0] v,

and the two expected numbers of lineages are all that a score needs. They are tabulated once for each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

EPS = 1e-5
"""Sticks are read as if in [EPS, 1 − EPS], as in DDSM: a gaussian step may leave [0, 1]."""

_MAX_TIME = 6.0
_MIN_TIME = 0.02
_NODES = 256

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JacobiTables:
    """Laws of the V−1 sticks at times t_0 > … > t_K > 0: `times` `(K+1,)`.

    `lineages` `(K+1, V−1, M)`: cumulative law of their number. `pulls` `(K+1, V−1, G, 4)`: E[m | v] and its slope in
    nodes evenly spaced in arcsin √v, for a start at 1 and at 0. `prior` `(V,)`: the KL from the stationary law of all
    sticks of a letter at t_0.
    """

    times: Tensor
    lineages: Tensor
    pulls: Tensor
    prior: Tensor

    @property
    def sticks(self) -> int:
        return self.pulls.shape[1]

    @property
    def beta(self) -> Tensor:
        """The parameters b `(V−1,)`."""
        return torch.arange(self.sticks, 0, -1, dtype=self.times.dtype, device=self.times.device)

    @property
    def speed(self) -> Tensor:
        """The speeds s `(V−1,)`."""
        return 2 / (1 + self.beta)

    def expected_lineages(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[m | v] for a start at 1 and for one at 0, `(B, L, V−1)` each, at sticks in [EPS, 1 − EPS].

        `k` broadcasts to `v`. By cubic interpolation, so the result is differentiable in `v`.
        """
        first, last = _ends()
        place = (v.sqrt().asin() - first) * ((_NODES - 1) / (last - first))
        node = place.detach().floor().clamp(0, _NODES - 2).long()
        stick = torch.arange(self.sticks, device=v.device)
        left, right = self.pulls[k, stick, node], self.pulls[k, stick, node + 1]
        f = (place - node).unsqueeze(-1)
        g = 1 - f
        value = (
            g.square() * ((1 + 2 * f) * left[..., ::2] + f * left[..., 1::2])
            + f.square() * ((1 + 2 * g) * right[..., ::2] - g * right[..., 1::2])
        )  # fmt: skip
        return value[..., 0], value[..., 1]

    def draw(self, letters: Tensor, k: Tensor, generator: Generator) -> Tensor:
        """Draw sticks `(B, L, V−1)` at times `k` `(B,)`, exactly, that started at the letters `(B, L)`."""
        stick = torch.arange(self.sticks, device=letters.device)
        place = letters.long().unsqueeze(-1)
        shape = (3, *letters.shape, self.sticks)
        u = torch.rand(shape, generator=generator, dtype=self.times.dtype, device=letters.device)
        m = torch.searchsorted(self.lineages[k], u[0].movedim(1, 2).contiguous(), right=True).movedim(1, 2)
        # the sticks after the letter's started anywhere: they are stationary, which is no lineage
        m = m.clamp(max=self.lineages.shape[-1] - 1).masked_fill(stick > place, 0)
        low = -torch.expm1(torch.log1p(-u[1]) / (self.beta + m))  # Beta(1, b + m), by inversion
        # Beta(1 + m, b) is the product of b independent Beta(1 + m + l, 1), 0 ≤ l < b: one for each stick from i on
        hit = m.gather(-1, place.clamp(max=self.sticks - 1))
        factors = torch.log1p(-u[2]) / (1 + hit + (stick - place).clamp(min=0))
        high = factors.masked_fill(stick < place, 0).sum(-1, keepdim=True).exp()
        return torch.where(stick == place, high, low)

    def draw_stationary(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """Draw sticks `(*shape, V−1)` from Beta(1, b)."""
        beta = self.beta
        u = torch.rand((*shape, self.sticks), generator=generator, dtype=beta.dtype, device=beta.device)
        return -torch.expm1(torch.log1p(-u) / beta)


@lru_cache(maxsize=16)
def jacobi_tables(letters: int, steps: int, dtype: torch.dtype, device: torch.device) -> JacobiTables:
    """Return the tables of letters out of V = `letters` ≥ 2 for a chain of K = `steps` ≥ 1."""
    times, law = lineage_law(letters, steps)
    arrays = (times, law.cumsum(-1), _pulls(times, law), _prior(law[0]))
    return JacobiTables(*(torch.from_numpy(a).to(device, dtype) for a in arrays))


def chain_times(steps: int) -> Array:
    """Return t_0 > … > t_K, evenly spaced in log(e^t − 1): steps are even at first, and at the end ∝ what is left."""
    first, last = np.log(np.expm1([_MAX_TIME, _MIN_TIME]))
    return np.logaddexp(0, np.linspace(first, last, steps + 1))


def _ends() -> tuple[float, float]:
    low = float(np.arcsin(np.sqrt(EPS)))
    return low, np.pi / 2 - low


@lru_cache(maxsize=4)
def lineage_law(letters: int, steps: int) -> tuple[Array, Array]:
    """Return times `(K+1,)` and the law of the number of lineages `(K+1, V−1, M)` of each stick at these.

    `letters` = V ≥ 2, `steps` = K ≥ 1.
    """
    times = chain_times(steps)
    laws = [_lineages(b, times) for b in range(letters - 1, 0, -1)]
    width = max(len(law) for stick in laws for law in stick)
    return times, np.stack([[np.pad(law, (0, width - len(law))) for law in stick] for stick in laws], 1)


def _lineages(b: float, times: Array) -> list[Array]:
    """Return the law of the number of lineages of one stick at falling times; trailing zeros are left out."""
    from scipy.special import digamma

    # four times as many as are left at the last time. Coming down to these from infinity takes Σ_{m > most} 1/rate on
    # average; how many are left then scatters by a third of their number (Griffiths 1984)
    most = max(int(4 * (1 + b) / times[-1]), 64)
    m = np.arange(most + int(8 * np.sqrt(most / 3)))
    rates = m * (m + b) / (1 + b)
    now = float((1 + b) / b * (digamma(most + 1 + b) - digamma(most + 1)))
    law = np.exp(-((m - most - 1 / 3) ** 2) / (2 * most / 3))
    law /= law.sum()
    laws = []
    for time in times[::-1]:
        # short stretches, so that few lineages are lost in each
        stops = np.geomspace(now, time, int(np.ceil(np.log(time / now) / 0.06)) + 1)
        for stretch in np.diff(stops):
            law = _advance(law, rates[: len(law)] * stretch)
        now = time
        laws.append(law)
    return laws[::-1]


def _advance(law: Array, losses: Array) -> Array:
    """Return the law after a stretch in which a state m loses one at rate `losses`, by uniformisation.

    All terms are positive, so that the smallest chances too are right to many digits: a score is a ratio of them. To
    that end the sum goes far beyond the mean number of jumps.
    """
    clock = losses[-1]
    move = losses / clock
    weight = np.exp(-clock)
    total = law * weight
    for n in range(1, int(3 * clock) + 30):
        lost = law * move
        law = law - lost
        law[:-1] += lost[1:]
        weight *= clock / n
        total = total + weight * law
    return total[: np.flatnonzero(total > 1e-30)[-1] + 1]


def _log_weights(law: Array, b: float, v: Array) -> tuple[Array, Array]:
    """Return log of chance(m) · Beta(v; law given m) / Beta(v; 1, b), `(G, M)` each, for a start at 1 and at 0."""
    from scipy.special import betaln, xlogy

    m = np.arange(len(law))
    with np.errstate(divide="ignore"):
        log_law = np.log(law) + betaln(1, b)
    return (
        log_law - betaln(1 + m, b) + xlogy(m, v[:, None]),
        log_law - betaln(1, b + m) + xlogy(m, 1 - v[:, None]),
    )


def _pulls(times: Array, laws: Array) -> Array:
    """Return E[m | v] and its slope per node at the nodes, `(K+1, V−1, G, 4)`."""
    angle = np.linspace(*_ends(), _NODES)
    v = np.sin(angle) ** 2
    # E[m | v] when time is short, for a start at 1 and at 0: how far the start is, over s t. It is an upper bound, and
    # takes over where chances of so few lineages are too small for a float
    reach = np.stack([2 * np.tan(angle) * (np.pi / 2 - angle), 2 * angle / np.tan(angle)])
    pulls = np.empty((*laws.shape[:2], _NODES, 4))
    for k, i in np.ndindex(*laws.shape[:2]):
        law, b = np.trim_zeros(laws[k, i], "b"), laws.shape[1] - i
        m = np.arange(len(law))
        for j, log_weight in enumerate(_log_weights(law, b, v)):
            weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
            mean = np.minimum(weight @ m / weight.sum(1), reach[j] * (1 + b) / 2 / times[k])
            pulls[k, i, :, 2 * j : 2 * j + 2] = np.stack([mean, np.gradient(mean, edge_order=2)], -1)
    return pulls


def _prior(law: Array) -> Array:
    """Return Σ_i KL(q(v_i | letter) ‖ Beta(1, b_i)) `(V,)` for a law `(V−1, M)` of lineages, by quadrature."""
    from scipy.special import xlogy

    nodes, weights = np.polynomial.legendre.leggauss(400)
    v, weights = (nodes + 1) / 2, weights / 2
    kl = np.empty((len(law), 2))
    for i in range(len(law)):
        b = len(law) - i
        for j, log_weight in enumerate(_log_weights(np.trim_zeros(law[i], "b"), b, v)):
            ratio = np.exp(log_weight).sum(1)
            kl[i, j] = (weights * b * (1 - v) ** (b - 1) * (xlogy(ratio, ratio) - ratio + 1)).sum()
    before = np.concatenate([[0.0], kl[:, 1].cumsum()])
    return before + np.append(kl[:, 0], 0.0)
