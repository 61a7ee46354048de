"""Tree search over the denoising chain (TR2-D2, Tang et al. 2025, arXiv 2509.25171)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core import Batch, Capability, Context, Density, Draws, Sampler, Value
from biotilt.core.selection import first_of_each, unique_share
from biotilt.errors import ConfigError
from biotilt.options import Count, FewPair, NotNegative, check_options
from biotilt.samplers.proposal import Proposal, equal_weights, need_a_weight


@dataclass
class Node:
    """A state `(1, ...)` of step `depth`, and what the designs completed below it scored.

    `log_ratio`: Σ log p_pre/p_out of the steps that led here. `visits`: how many designs; `value` of these.
    `closed`: nothing below is left to expand.
    """

    state: Tensor
    depth: int
    log_ratio: float
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    visits: int = 0
    value: float = -math.inf
    closed: bool = False


@dataclass(frozen=True)
class TreeSearch(Sampler):
    """Monte Carlo tree search: nodes are states, a child of a node is a draw of p_out's next step.

    An iteration goes down from the noise, each time to the child of the largest

        (V − V_min) / (V_max − V_min) + `exploration` · P √N_parent / (1 + N),     P = 1/M

    among its siblings', to a node without children; draws M = `children` children of it, completes each to a design
    by the rest of the chain, scores these, M calls, and tells every node above. P is equal because the children are
    draws of p_out already. The exploration term is positive and falls with the visits N: the published code
    multiplies it by a log-probability, which is negative, so that it keeps to what was visited.

    `backup="soft"`: V = log mean exp(r/α + Σ log p_pre/p_out of the steps below) over all N designs below a node, in
    the way of the soft value; `"max"`: the largest r/α.

    `keep="best"` returns the best designs scored, each once while there are enough; `"resampled"` draws them
    ∝ exp(r/α + log p_pre/p_out of the path), with replacement. Neither samples p*: the tree chose where to look, which
    no weight here undoes. It maximises. `unique` in the metrics: the share of different designs.

    A screen chooses the M children among more, by the designs that complete them. With `backup="soft"` the mean over
    the designs below a node is then one over those that were chosen.

    `replay` returns all `iterations` · `children` scored designs as rows that wdce trains on. A tree that is exhausted
    is followed by another.
    """

    iterations: Count = 64
    children: FewPair = 8
    exploration: NotNegative = 0.5
    backup: Literal["soft", "max"] = "soft"
    keep: Literal["best", "resampled"] = "best"

    name: ClassVar[str] = "tree_search"
    needs: ClassVar[tuple[type[Capability], ...]] = (Density,)

    def __post_init__(self) -> None:
        check_options(self, "sampler")

    def unscreened(self, value: Value | None) -> str:
        """Nothing: it looks for the best."""
        return ""

    def draw(self, context: Context, count: int) -> Draws:
        """Return `count` of the designs scored, as `keep` says; raises ConfigError when it scores fewer.

        Raises RewardError when they are to be resampled and none has a weight.
        """
        if count > self.iterations * self.children:
            raise ConfigError(
                f"{count} designs are wanted, but the search scores {self.iterations} · {self.children}; raise "
                "sampler.iterations"
            )
        rows = self.search(context)
        designs, rewards = rows["designs"], rows["rewards"]
        log_weight = context.target.log_weight(rewards)
        keys = context.reading.keys(designs)
        again = (~first_of_each(keys)).to(torch.int8)  # found by another path: after all that are not
        order = log_weight.argsort(descending=True, stable=True)
        order = order[again[order].argsort(dim=0, stable=True)][:count]
        if self.keep == "resampled":
            log_weight = log_weight + rows["log_ratio"]
            need_a_weight(log_weight, "designs")
            order = torch.multinomial(log_weight.softmax(0), count, replacement=True, generator=context.generator)
        metrics = {"unique": unique_share(keys[order])}
        return Draws(designs[order], rewards[order], equal_weights(rewards[order]), metrics=metrics)

    @torch.no_grad()
    def search(self, context: Context) -> Batch:
        """Return rows `designs` `(N, ...)`, `rewards` `(N,)`, NaN where not scored, `log_ratio` `(N,)` of the paths."""
        proposal, found = Proposal(context.roles), []
        root = self._root(context)
        for _ in range(self.iterations):
            if root.closed:
                root = self._root(context)
            found.append(self._expand(context, proposal, self.select(root)))
        return {key: torch.cat([rows[key] for rows in found]) for key in found[0]}

    def replay(self, context: Context) -> Batch:
        """Return what a search scored as rows of the objective wdce, for `context.memory.add`.

        The log-weights are r/α + Σ log p_pre/p_out of the paths, as TR2-D2 has them: right for paths that p_out drew,
        while the tree drew more of them where they scored well. Designs without a score are left out.
        """
        rows = self.search(context)
        scored = (context.target.log_weight(rows["rewards"]) + rows["log_ratio"]).isfinite()
        rewards = rows["rewards"][scored]
        return {
            "designs": rows["designs"][scored],
            "rewards": rewards,
            "log_mix": -rows["log_ratio"][scored],
            "log_control": torch.zeros_like(rewards),
            "scored": torch.ones_like(rewards).bool(),
        }

    def select(self, node: Node) -> Node:
        """Return the node without children that the scores lead to; the `node` itself must not be closed."""
        while node.children:
            siblings = [child.value for child in node.children if math.isfinite(child.value)]
            low, high = (min(siblings), max(siblings)) if siblings else (0.0, 0.0)
            open_children = [child for child in node.children if not child.closed]
            node = max(open_children, key=lambda child: self._score(child, low, high))
        return node

    def _score(self, node: Node, low: float, high: float) -> float:
        assert node.parent is not None
        share = (max(node.value, low) - low) / (high - low) if high > low else 0.0
        return share + self.exploration / self.children * math.sqrt(node.parent.visits) / (1 + node.visits)

    def _root(self, context: Context) -> Node:
        return Node(context.roles.proposal.process.noise(1, context.generator), 0, 0.0)

    def _expand(self, context: Context, proposal: Proposal, node: Node) -> Batch:
        """Give a node children, complete them, score the designs, and tell the nodes above."""
        steps, wanted = context.roles.proposal.process.steps, context.proposals(self.children)
        states, log_ratio = (
            drawn.squeeze(1) for drawn in proposal.children(context, proposal.policy.at(node.state, node.depth), wanted)
        )
        at_child = log_ratio + node.log_ratio
        designs, total = states, at_child
        for k in range(node.depth + 1, steps):
            (designs,), (log_ratio,) = proposal.children(context, proposal.policy.at(designs, k), 1)
            total = total + log_ratio
        if wanted > self.children:
            picked = context.chosen(designs, self.children)
            states, at_child, designs, total = (each[picked] for each in (states, at_child, designs, total))
        rewards = context.scores(designs)
        scaled = context.target.log_weight(rewards).tolist()
        node.children = [
            Node(states[i : i + 1], node.depth + 1, at_child[i].item(), node, closed=node.depth + 1 == steps)
            for i in range(self.children)
        ]
        for child, score, path in zip(node.children, scaled, total.tolist()):
            self._back_up(child, score, path)
        _close(node)
        return {"designs": designs, "rewards": rewards, "log_ratio": total}

    def _back_up(self, node: Node | None, scaled: float, log_ratio: float) -> None:
        """Add a design of reward `scaled` · α, whose path has the log-ratio, to a node and all above it."""
        while node is not None:
            node.visits += 1
            if self.backup == "max":
                node.value = max(node.value, scaled)
            else:
                node.value = _join(node.value, scaled + log_ratio - node.log_ratio, node.visits)
            node = node.parent


def _join(value: float, new: float, count: int) -> float:
    """Return the log-mean-exp of `count` numbers from that of all but the last, and the last."""
    high = max(value, new)
    if high == -math.inf:
        return high
    return high + math.log(((count - 1) * math.exp(value - high) + math.exp(new - high)) / count)


def _close(node: Node | None) -> None:
    while node is not None and all(child.closed for child in node.children):
        node.closed = True
        node = node.parent
