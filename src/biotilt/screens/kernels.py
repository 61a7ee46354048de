"""How alike two designs are: kernels with k(x, x) = 1, on features that the space or the generator declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from biotilt.core import View
from biotilt.core.space import Aligned, Counted
from biotilt.errors import ConfigError

Features = tuple[Tensor, ...]
Setting = tuple[float, ...]


class Similarity(ABC):
    """A kernel: what it reads of states, how far apart that is, and how alike that makes them in a `setting`."""

    name: ClassVar[str]
    reads: ClassVar[str]

    def __init__(self, view: View):
        self.view = view

    @classmethod
    @abstractmethod
    def fits(cls, view: View) -> bool:
        """Return whether the designs of a view have what it reads."""

    @abstractmethod
    def read(self, states: Tensor) -> Features:
        """Return what it compares of states `(N, ...)`: tensors with one row a state."""

    @abstractmethod
    def compare(self, a: Features, b: Features) -> Features:
        """Return float64 matrices `(N, M)` of which, in every setting, the kernel is a function."""

    @abstractmethod
    def settings(self, known: Features) -> list[Setting]:
        """Return the settings to try for designs that compare like this with each other."""

    @abstractmethod
    def alike(self, compared: Features, setting: Setting) -> Tensor:
        """Return k `(N, M)`, 1 for designs that it cannot tell apart."""

    def between(self, a: Features, b: Features, setting: Setting) -> Tensor:
        """Return k `(N, M)` of designs with these features."""
        return self.alike(self.compare(a, b), setting)


class Tanimoto(Similarity):
    """Σ min(a, b) / Σ max(a, b) of counts of parts (Ralaivola et al. 2005); two designs without any part are alike."""

    name: ClassVar[str] = "tanimoto"
    reads: ClassVar[str] = "counts of parts"

    @classmethod
    def fits(cls, view: View) -> bool:
        return isinstance(view.space, Counted)

    def read(self, states: Tensor) -> Features:
        return (_counts(self.view, states),)

    def compare(self, a: Features, b: Features) -> Features:
        return (tanimoto(a[0], b[0]),)

    def settings(self, known: Features) -> list[Setting]:
        return [()]

    def alike(self, compared: Features, setting: Setting) -> Tensor:
        return compared[0]


class Counts(Tanimoto):
    """w Tanimoto + (1 − w) exp(−|a − b|²/2ℓ²) of counts of parts: the second knows how many parts there are in all."""

    name: ClassVar[str] = "counts"

    def compare(self, a: Features, b: Features) -> Features:
        return tanimoto(a[0], b[0]), _squares(a[0], b[0])

    def settings(self, known: Features) -> list[Setting]:
        length = _median(known[1]) ** 0.5
        return [(1.0, length), *((0.0, scale * length) for scale in (0.5, 1.0, 2.0)), (0.5, 0.5 * length)]

    def alike(self, compared: Features, setting: Setting) -> Tensor:
        share, length = setting
        return share * compared[0] + (1 - share) * _bell(compared[1], length)


class Kmers(Similarity):
    """w exp(−|√a − √b|²/2ℓ²) + (1 − w) exp(−h/m): counts a, b of parts, and the share h of positions that differ.

    w = 1 where designs have no positions in common.
    """

    name: ClassVar[str] = "kmer"
    reads: ClassVar[str] = "counts of parts"

    @classmethod
    def fits(cls, view: View) -> bool:
        return isinstance(view.space, Counted)

    def read(self, states: Tensor) -> Features:
        counts, space = _counts(self.view, states).sqrt(), self.view.space
        return (counts, space.columns(self.view.decode(states))) if isinstance(space, Aligned) else (counts,)

    def compare(self, a: Features, b: Features) -> Features:
        return (_squares(a[0], b[0]), *(_differing(*both) for both in zip(a[1:], b[1:])))

    def settings(self, known: Features) -> list[Setting]:
        length, apart = _median(known[0]) ** 0.5, [_median(each) for each in known[1:]]
        found: list[Setting] = [(1.0, scale * length, 1.0) for scale in (0.5, 1.0, 2.0, 4.0)]
        return found + [(share, length, scale * m) for m in apart for share in (0.0, 0.5) for scale in (0.5, 1.0)]

    def alike(self, compared: Features, setting: Setting) -> Tensor:
        share, length, apart = setting
        found = share * _bell(compared[0], length)
        return found + (1 - share) * (compared[1] / -apart).exp() if share < 1 else found


class Gaussian(Similarity):
    """exp(−|a − b|²/2ℓ²) of features."""

    def compare(self, a: Features, b: Features) -> Features:
        return (_squares(a[0], b[0]),)

    def settings(self, known: Features) -> list[Setting]:
        return [(scale * _median(known[0]) ** 0.5,) for scale in (0.25, 0.5, 1.0, 2.0, 4.0)]

    def alike(self, compared: Features, setting: Setting) -> Tensor:
        return _bell(compared[0], setting[0])


class Pooled(Gaussian):
    """The same of what the last layers of the generator's network read, averaged over positions."""

    name: ClassVar[str] = "features"
    reads: ClassVar[str] = "features of the generator's network"

    @classmethod
    def fits(cls, view: View) -> bool:
        return view.embed is not None

    def read(self, states: Tensor) -> Features:
        assert self.view.embed is not None
        return (self.view.embed(states).double().cpu(),)


class Coordinates(Gaussian):
    """The same of the numbers of points and images."""

    name: ClassVar[str] = "values"
    reads: ClassVar[str] = "numbers"

    @classmethod
    def fits(cls, view: View) -> bool:
        return view.space.medium != "text"

    def read(self, states: Tensor) -> Features:
        return (self.view.space.encode(self.view.decode(states)).double().flatten(1),)


KERNELS: dict[str, type[Similarity]] = {
    kernel.name: kernel for kernel in (Kmers, Counts, Tanimoto, Coordinates, Pooled)
}


def similarity(name: str | None, view: View, key: str = "screen.kernel") -> Similarity:
    """Return the kernel of a name, or the first that suits the space; ConfigError where designs lack what it reads.

    By default k-mers for what is compared position by position, counts for other texts and molecules, numbers for
    points and images, and else the generator's features.
    """
    fit = [other for other, kernel in KERNELS.items() if kernel.fits(view)]
    if name is None and fit:
        name = fit[0] if isinstance(view.space, Aligned) or fit[0] != Kmers.name else Counts.name
    if name not in fit:
        kernel = f'"{name}" compares {KERNELS[name].reads}, which' if name else "there is nothing by which"
        raise ConfigError(
            f'{key}: {kernel} designs of "{view.space.name}" {"do not have" if name else "are compared"}; '
            f"kernels that fit: {', '.join(fit) or 'none, so there is no such process'}"
        )
    return KERNELS[name](view)


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """Return Σ min / Σ max `(N, M)` of counts `(N, F)` and `(M, F)`, whole numbers ≥ 0; 1 where both are all 0.

    min(a, b) = Σ_t [a ≥ t][b ≥ t], so that it is a few products of matrices.

    >>> tanimoto(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 4.0]]))
    tensor([[0.5000, 0.0000]], dtype=torch.float64)
    """
    shared, level = torch.zeros(len(a), len(b)), 1
    while bool((columns := (a >= level).any(0) & (b >= level).any(0)).any()):
        shared += (a[:, columns] >= level).float() @ (b[:, columns] >= level).float().T
        level += 1
    shared = shared.double()
    either = a.sum(1, dtype=torch.float64).unsqueeze(1) + b.sum(1, dtype=torch.float64) - shared
    return torch.where(either > 0, shared / either.clamp(min=1), 1.0)


def _counts(view: View, states: Tensor) -> Tensor:
    assert isinstance(view.space, Counted)
    return view.space.counts(view.decode(states)).double()


def _bell(squares: Tensor, length: float) -> Tensor:
    return (squares / (-2 * length**2)).exp()


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Return squared distances `(N, M)`."""
    found = a.square().sum(1).unsqueeze(1) + b.square().sum(1) - 2 * a @ b.T
    return found.clamp(min=0)


def _differing(a: Tensor, b: Tensor) -> Tensor:
    """Return the share of positions that differ, `(N, M)`; one position after another, which takes little memory."""
    found = torch.zeros(len(a), len(b), dtype=torch.float64)
    for place in range(a.shape[1]):
        found += a[:, place].unsqueeze(1) != b[:, place]
    return found / a.shape[1]


def _median(distances: Tensor) -> float:
    """Return the median of distances that are no zero; 1 where all are."""
    found = distances[distances > 1e-9]
    return found.median().item() if len(found) else 1.0
