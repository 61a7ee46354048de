"""Graphs by gaussian noise on nodes and edges, each with its own schedule (GDSS, Jo et al. 2022, arXiv 2202.02514)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Generator, Tensor

from biotilt.core.capabilities import Kernel, Relaxable
from biotilt.core.fixed import Fixed
from biotilt.core.graphs import GraphLayout
from biotilt.core.protocols import Net, NetInput
from biotilt.errors import ConfigError
from biotilt.formulas.categorical import stratified_uniform
from biotilt.options import Flag, Inside, NotNegative, Positive, Whole, check_options
from biotilt.options import Steps as StepCount
from biotilt.processes.gaussian_kernel import GaussianKernel
from biotilt.processes.graph_levels import Bridge, Chain, Noising, Steps

Law = Literal["ve", "vp"]


@dataclass(frozen=True)
class Graph(Relaxable):
    """Graphs of at most N = `nodes` nodes with F = `features` numbers each, as points `(B, D)` (`core.graphs`).

    A graph has n nodes, drawn with x[0] by the weights `counts` of n = 1 … N (none: always N), and never changed.
    Features and edges of nodes that are not there are 0 in every state, and no kernel touches them. Adjacencies are
    symmetric by construction: of each pair of nodes there is one number.

    Nodes and edges are noised by laws of their own, x_t = a(t) x_0 + s(t) ε: "ve", s(t) = low (high/low)^t with a = 1,
    or "vp", a(t) = exp(−½ ∫β) with β from low to high; `node_range` and `edge_range` are (low, high). The chain has K =
    `num_steps` levels of noise, t = 1, 1 − 1/K, …, 1/K, and then that of designs, whose noise is `remainder` times the
    last one. So every step is a gaussian of positive width, and a design has a density. x[0] is N(0, s(1)²) for "ve"
    and N(0, 1) for "vp".

    `predictor`: "ancestral", the posterior of the path with x̂_0 in the place of x_0, or "reverse", the published step,
    x + (1 − a_t/a_s) x + g² score with as much noise, g² = s_t² − (a_t/a_s)² s_s², as the noising adds; for "ve" their
    means agree. The step that makes the design is ancestral in both.

    With `snr` > 0 a corrector comes at each level, a step of the chain like the others, with a density of its own:

        x + h score + √(2 h) `loudness` ε,  h = 2 (a_t/a_s)² (`snr` · s_t)².

    The published h has ‖ε‖/‖score‖, averaged over the batch, in the place of s_t, which it is for scores −ε/s_t; so
    here a chain does not depend on its neighbours.

    No policy chooses x[0]. With `memoryless` the first step reads nothing of it (the network is given 0 for all
    coordinates but n), is drawn with the std of x[1], and designs of n nodes owe x[0] nothing: the optimal policy has
    the law p_pre exp(r/α)/Z over designs of each n. Without, as published, x[0] is read, and that holds for each x[0].

    `prediction` says what the network returns for states `(B, D)` and times `(B,)`: "eps", "x0", "score", or "gdss",
    the score for "ve" and ε for "vp", as published networks do. What it says of n is not read. `fixed` holds
    coordinates at given values, in every state; the graphs must have the nodes that these are of.

    Raises:
        ConfigError: an option outside its range, or `fixed` of another size or of nodes that may not be there.

    >>> process = Graph(nodes=3, features=2, counts=(0, 1, 0))
    >>> x = process.noise(2, torch.Generator().manual_seed(0))
    >>> x.shape, x[:, -1].tolist()
    (torch.Size([2, 10]), [2.0, 2.0])
    """

    nodes: Annotated[Whole, Field(ge=1, le=1_000)]
    features: Annotated[Whole, Field(ge=1, le=1_000)]
    counts: Annotated[tuple[NotNegative, ...], Field(max_length=1_000)] = ()
    fixed: Fixed | None = None
    num_steps: StepCount = 50
    node_law: Law = "ve"
    node_range: tuple[Positive, Positive] = (0.1, 1.0)
    edge_law: Law = "ve"
    edge_range: tuple[Positive, Positive] = (0.1, 1.0)
    predictor: Literal["ancestral", "reverse"] = "ancestral"
    snr: NotNegative = 0.0
    loudness: Positive = 1.0
    memoryless: Flag = True
    prediction: Literal["eps", "x0", "score", "gdss"] = "eps"
    remainder: Inside = 0.5

    name: ClassVar[str] = "graph"
    kernel_type: ClassVar[type[Kernel]] = GaussianKernel

    def __post_init__(self) -> None:
        check_options(self, 'process "graph"')
        for key, (low, high) in (("node_range", self.node_range), ("edge_range", self.edge_range)):
            if low > high:
                raise ConfigError(f'process "graph": {key} must rise, from the clean end to noise, got {low}, {high}')
        if self.counts and (len(self.counts) != self.nodes or sum(self.counts) == 0):
            raise ConfigError(
                f'process "graph": counts must be the weights of 1 … {self.nodes} nodes, not all 0, '
                f"got {len(self.counts)} numbers"
            )
        if self.fixed is not None:
            self._check_fixed(self.fixed)

    @property
    def steps(self) -> int:
        return self._order.count

    @property
    def size(self) -> int:
        """The number of coordinates of a state, D."""
        return self.layout.size

    @property
    def coordinates(self) -> int:
        return self.size

    @property
    def layout(self) -> GraphLayout:
        return GraphLayout(self.nodes, self.features)

    def holding(self, fixed: Fixed | None) -> Self:
        return replace(self, fixed=fixed)

    def split(self, output: Tensor, x: Tensor, k: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return x̂_0 and ε̂ `(B, D)` that a network's output `(B, D)` at states `x` of the steps `k` stands for."""
        a, s = self._at(self._chain.signal, k, x), self._at(self._chain.spread, k, x)
        if self.prediction == "x0":
            return output, (x - a * output) / s
        eps = output * self._sign(x, s)
        return (x - s * eps) / a, eps

    def output_of(self, x0: Tensor, x: Tensor, k: int | Tensor) -> Tensor:
        """Return the output `(B, D)` of a network that believes in `x0` `(B, D)`: the inverse of `split`."""
        if self.prediction == "x0":
            return x0
        a, s = self._at(self._chain.signal, k, x), self._at(self._chain.spread, k, x)
        return (x - a * x0) / s / self._sign(x, s)

    def noise(self, batch: int, generator: Generator) -> Tensor:
        """Return states `(batch, D)` of n nodes, n by `counts`, that are normal."""
        count = torch.full((batch,), self.nodes, device=generator.device)
        if self.counts:
            weights = torch.tensor(self.counts, dtype=torch.float, device=generator.device)
            count = torch.multinomial(weights, batch, replacement=True, generator=generator) + 1
        z = torch.randn(batch, self.size, generator=generator, device=generator.device)
        x = torch.where(self.layout.free(count), self._part(self._chain.start, z) * z, 0.0)
        x[:, -1] = count.to(x.dtype)
        return x if self.fixed is None else torch.where(self.fixed.mask.to(x.device), self.fixed.letters.to(x), x)

    def held(self, x: Tensor) -> Tensor:
        """Return which coordinates of states `(B, D)` no kernel touches, bool `(B, D)`."""
        held = ~self.layout.free(self.layout.counts(x))
        return held if self.fixed is None else held | self.fixed.mask.to(x.device)

    def inputs(self, x: Tensor, k: int | Tensor) -> NetInput:
        """Return the states, 0 in place of x[0] where it is not read, and times of the path, 0 for designs."""
        k = torch.as_tensor(k, device=x.device).expand(len(x))
        seen = x.masked_fill((k == 0).unsqueeze(-1) & ~self.held(x), 0.0) if self.memoryless else x
        return NetInput(seen, self._chain.time.to(x.device)[k].to(x.dtype))

    def kernel_of(self, output: Tensor, x: Tensor, k: int | Tensor) -> GaussianKernel:
        chain, held = self._chain, self.held(x)
        x0, eps = self.split(output, self.inputs(x, k).x, k)
        mean = self._at(chain.of_x0, k, x) * x0 + self._at(chain.of_eps, k, x) * eps
        design = self._at(chain.signal, self.steps, x) * x0 + self._at(chain.recall, k, x) * eps
        mean, design = torch.where(held, x, mean), torch.where(held, x, design)
        return GaussianKernel(x, mean, self._at(chain.std, k, x), design, held)

    def corrupt(self, design: Tensor, k: int | Tensor, generator: Generator) -> Tensor:
        """Draw x[k] `(B, D)` given x[K] = `design`: noise is added from its level up to that of step k.

        The last k gives the design itself; 0 gives x[0] as `noise` draws it, where the chain does not read it.
        """
        a, s = self._at(self._bridge.signal, k, design), self._at(self._bridge.spread, k, design)
        z = torch.randn(design.shape, generator=generator, device=generator.device).to(design.dtype)
        return torch.where(self.held(design), design, a * design + s * z)

    def denoising_loss(self, net: Net, design: Tensor, generator: Generator) -> Tensor:
        """Return a bound on −log p(x[K] = design) of the chain, −log p(n) with it, in nats, `(B,)`.

        As that of gaussian (`processes/gaussian_path.py`), with coefficients of their own for nodes and edges: the
        design is observed in the place of x[K], the noising starts from it, and all but ‖mean of q − mean of p‖²/2σ² is
        known without the network; one step a design stands for the sum of these. Correctors are steps like the others,
        undone by the Langevin step of the noising itself, x ↦ ã y + γ (x − ã y) + s̃ √(1 − γ²) ε with γ = 1 − h/s̃².

        Raises:
            ConfigError: a design has a number of nodes that `counts` gives no chance.
        """
        bridge = self._bridge
        cumulative = bridge.chance.cumsum(0).to(design.device)
        u = stratified_uniform(len(design), generator).to(cumulative)
        k = torch.searchsorted(cumulative, u, right=True).clamp(max=self.steps - 1)
        x = self.corrupt(design, k, generator)
        kernel = self.kernel_of(net(*self.inputs(x, k)), x, k)
        a, s, carry = (self._at(table, k, x) for table in (bridge.signal, bridge.spread, bridge.carry))
        # at the last step carry is 0 and the next signal 1, exactly: the target is the design
        target = self._at(bridge.signal, k + 1, x) * design + carry * (x - a * design) / s
        error = kernel.free(((target - kernel.mean) / kernel.std).square() / 2).sum(-1)
        a0, s0 = (self._at(table, 0, x) for table in (bridge.signal, bridge.spread))
        wide = self._part(self._chain.start, x)
        prior = ((a0 * design / wide).square() + (s0 / wide).square() - 1) / 2 - (s0 / wide).log()
        known = kernel.free(prior + self._part(bridge.constant, x)).sum(-1)
        return error / bridge.chance.to(x.device)[k].to(x.dtype) + known - self._log_chance(design)

    def relaxed(self, x: Tensor) -> Tensor:
        """Return the states themselves: points are differentiable as they are."""
        return x

    def relaxed_design(self, x: Tensor) -> Tensor:
        """Return the designs themselves, the points that a reward reads."""
        return x

    @cached_property
    def _order(self) -> Steps:
        parts = Noising(self.node_law, *self.node_range), Noising(self.edge_law, *self.edge_range)
        reverse = self.predictor == "reverse"
        return Steps(parts, self.num_steps, self.remainder, self.memoryless, reverse, self.snr, self.loudness)

    @cached_property
    def _chain(self) -> Chain:
        return self._order.chain()

    @cached_property
    def _bridge(self) -> Bridge:
        layout = self.layout
        of_nodes = layout.nodes * layout.features
        shares = torch.tensor([of_nodes, layout.edges], dtype=torch.float64) / (of_nodes + layout.edges)
        return self._order.bridge(self._chain, shares)

    def _at(self, table: Tensor, k: int | Tensor, like: Tensor) -> Tensor:
        """Return the entries `(B, D)` of a table of nodes and edges at steps `k`, as `like`; those of n are nodes'."""
        rows = table.to(like.device)[torch.as_tensor(k, device=like.device)]
        return self._part(rows, like).expand(like.shape)

    def _part(self, of_parts: Tensor, like: Tensor) -> Tensor:
        """Return numbers `(…, 2)` of nodes and edges as `(…, D)`, in the type and on the device of `like`."""
        sizes = torch.tensor([self.nodes * self.features, self.layout.edges, 1], device=like.device)
        each = torch.cat([of_parts, of_parts[..., :1]], -1).to(like)
        return each.repeat_interleave(sizes, -1, output_size=self.size)

    def _sign(self, x: Tensor, s: Tensor) -> Tensor:
        """Return what a network's output is multiplied by to be ε̂, `(B, D)`."""
        if self.prediction == "eps":
            return torch.ones_like(s)
        laws = [self.prediction == "score" or law == "ve" for law in (self.node_law, self.edge_law)]
        return torch.where(self._part(torch.tensor(laws, device=x.device), x) > 0, -s, 1.0)

    def _log_chance(self, design: Tensor) -> Tensor:
        """Return log p(n) of designs `(B,)`."""
        count, weights = self.layout.counts(design), self.counts or (0.0,) * (self.nodes - 1) + (1.0,)
        shares = torch.tensor(weights, dtype=design.dtype, device=design.device)
        at = (count - 1).clamp(0, self.nodes - 1)
        log_chance = (shares / shares.sum()).log()[at]
        odd = (at != count - 1) | log_chance.isinf()
        if bool(odd.any()):
            raise ConfigError(
                f'process "graph": a design has {int(count[odd][0])} nodes, which `counts` gives no chance (without '
                f"`counts`, graphs have {self.nodes} nodes)"
            )
        return log_chance

    def _check_fixed(self, fixed: Fixed) -> None:
        if len(fixed.mask) != self.size:
            raise ConfigError(f"fixed covers {len(fixed.mask)} coordinates, states of these graphs have {self.size}")
        if not fixed.letters.is_floating_point():
            raise ConfigError("graph: fixed coordinates need floating-point values, not letters")
        if bool(fixed.mask[-1]):
            raise ConfigError("graph: how many nodes there are is said by `counts` of the process, not held")
        likely = [n for n, weight in enumerate(self.counts, 1) if weight > 0] or [self.nodes]
        if bool((fixed.mask & ~self.layout.free(torch.tensor(likely[:1]))[0])[:-1].any()):
            raise ConfigError(
                f"graph: something of a node is held that graphs of {likely[0]} nodes have not; "
                "give these a weight of 0 in `counts`"
            )
