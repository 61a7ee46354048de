"""Designs with labels: what a network is told of them while a generator is trained, and what it then knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn

from biotilt.core import Policy
from biotilt.core.marks import Mark
from biotilt.core.protocols import Process
from biotilt.errors import DataError
from biotilt.models.conditions import Conditions, Given, label
from biotilt.networks.conditional import Conditional
from biotilt.options import Inside, check_option
from biotilt.processes.conditioned import conditioned


@dataclass(frozen=True, eq=False)
class Labelled:
    """The label of each of N designs, `index` `(N,)` into `names`; `dropout`: how often a network is told none.

    A network of n classes is told the class n for none, so that it also learns designs of any label, and can be guided
    (Ho & Salimans 2022, 2207.12598).
    """

    names: tuple[str, ...]
    index: Tensor
    dropout: float

    @classmethod
    def of(cls, labels: Sequence[Given], count: int, dropout: float) -> Labelled:
        """Return the labels of `count` designs; DataError where there are fewer, or all are the same.

        Raises ConfigError when `dropout` is not inside (0, 1).
        """
        check_option(Inside, dropout, "pretrain", "label_dropout")
        if len(labels) != count:
            raise DataError(f"{count} designs have {len(labels)} labels: give one each")
        said = [label(one).strip() for one in labels]
        if "" in said:
            raise DataError(f"design {said.index('') + 1} has no label")
        names = sorted(set(said))
        if len(names) < 2:
            raise DataError(f'all designs have the label "{names[0]}": there is nothing to tell apart')
        places = {name: place for place, name in enumerate(names)}
        return cls(tuple(names), torch.tensor([places[one] for one in said]), dropout)

    @property
    def conditions(self) -> Conditions:
        """What the network can be told afterwards."""
        return Conditions.of(self.names, unconditional=len(self.names))

    def check(self, train: Tensor) -> None:
        """Raise DataError when no design of the training part, rows `train` of all, has one of the labels."""
        counts = torch.bincount(self.index[train], minlength=len(self.names)).tolist()
        for name, found, there in zip(self.names, counts, torch.bincount(self.index).tolist()):
            if not found:
                raise DataError(
                    f'no design of the training part has the label "{name}", of {there} in all: they are too few or '
                    "too alike; leave them out, or split by a higher identity"
                )

    def taught(
        self, learn: Callable[..., float], policy: Policy, states: Tensor, train: Tensor, validation: Tensor
    ) -> tuple[Policy, Tensor, float]:
        """Have a policy learn states `(N, ...)` with their labels, by `learn(policy, training, validation, change=…)`.

        Returns the policy of labelled states, these, and what `learn` returns. Raises DataError like `check`.
        """
        self.check(train)
        learned, mark = self.telling(policy.process, policy.net)
        states = mark.write(states, self.index)
        return learned, states, learn(learned, states[train], states[validation], change=partial(self.forgetting, mark))

    def telling(self, process: Process, net: nn.Module) -> tuple[Policy, Mark]:
        """Return the process of designs with any label or none, its network told which, and how states say it."""
        shares = torch.bincount(self.index, minlength=len(self.names)).double() / len(self.index)
        weights = (*((1 - self.dropout) * shares).tolist(), self.dropout)
        told = conditioned(process, weights)
        return Policy(told, Conditional(net, torch.arange(len(weights)), mark=told.mark)), told.mark

    def forgetting(self, mark: Mark, states: Tensor, generator: Generator) -> Tensor:
        """Return marked states `(B, ...)` of which a share `dropout` says that there is no label."""
        bare, index = mark.read(states)
        none = torch.rand(len(bare), generator=generator, device=generator.device) < self.dropout
        return mark.write(bare, index.masked_fill(none, len(self.names)))
