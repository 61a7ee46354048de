"""Designs with labels: what a network is told of them while a generator is trained, and what it then knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from biotilt.core import Policy
from biotilt.core.marks import Mark
from biotilt.errors import DataError
from biotilt.models.conditions import Conditions, Given, label
from biotilt.networks.conditional import Conditional
from biotilt.options import Inside, check_option
from biotilt.processes.conditioned import conditioned


@dataclass(frozen=True, eq=False)
class Labelled:
    """The label of each of N designs, `index` `(N,)` into `names`; `dropout`: how often a network is told none.

    `table`: what the network is told for each name and, last, for none, so that it also learns designs of any label,
    and can be guided (Ho & Salimans 2022, 2207.12598): a new network of n classes the class n. One that is there may
    know nothing for none, and is then always told the label.
    """

    names: tuple[str, ...]
    index: Tensor
    dropout: float
    table: Tensor

    @classmethod
    def of(cls, labels: Sequence[Given], count: int, dropout: float, known: Conditions | None = None) -> Labelled:
        """Return the labels of `count` designs, for a new network, or one that has `known` conditions.

        Raises DataError where there are fewer, or all are the same and nothing is known, ConfigError when `dropout` is
        not inside (0, 1) or a label is not known.
        """
        check_option(Inside, dropout, "pretrain", "label_dropout")
        if len(labels) != count:
            raise DataError(f"{count} designs have {len(labels)} labels: give one each")
        said = [label(one).strip() for one in labels]
        if "" in said:
            raise DataError(f"design {said.index('') + 1} has no label")
        names = sorted(set(said))
        if known is None and len(names) < 2:
            raise DataError(f'all designs have the label "{names[0]}": there is nothing to tell apart')
        places = {name: place for place, name in enumerate(names)}
        told = Conditions.of(names, unconditional=len(names)) if known is None else known
        table = told.table(names)
        if told.unconditional is not None:
            table = torch.cat([table, told.unconditional.unsqueeze(0)])
        return cls(tuple(names), torch.tensor([places[one] for one in said]), dropout, table)

    @property
    def conditions(self) -> Conditions:
        """What a new network can be told afterwards."""
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

    def telling(self, policy: Policy, states: Tensor) -> Telling:
        """Return the policy whose network is told labels, `states` `(N, ...)` with theirs, and how these are forgotten.

        Its process is that of designs with any label or none; the network is the policy's own.
        """
        shares = torch.bincount(self.index, minlength=len(self.names)).double() / len(self.index)
        dropout = self.dropout if len(self.table) > len(self.names) else 0.0
        weights = ((1 - dropout) * shares).tolist() + [dropout] * (dropout > 0)
        told = conditioned(policy.process, tuple(weights))
        net = Conditional(policy.net, self.table, mark=told.mark)
        forgotten = partial(self.forgetting, told.mark) if dropout else _kept
        return Telling(Policy(told, net), told.mark.write(states, self.index), forgotten)

    def forgetting(self, mark: Mark, states: Tensor, generator: Generator) -> Tensor:
        """Return marked states `(B, ...)` of which a share `dropout` says that there is no label."""
        bare, index = mark.read(states)
        none = torch.rand(len(bare), generator=generator, device=generator.device) < self.dropout
        return mark.write(bare, index.masked_fill(none, len(self.names)))


class Telling(NamedTuple):
    """A policy of labelled designs, their states, and what is done to those of each batch."""

    policy: Policy
    states: Tensor
    change: Callable[[Tensor, Generator], Tensor]


def teaching(labelled: Labelled | None, policy: Policy, states: Tensor, train: Tensor) -> Telling:
    """Return what is trained on designs of which rows `train` are the training part: without labels, what is there.

    Raises DataError as `Labelled.check` does.
    """
    if labelled is None:
        return Telling(policy, states, _kept)
    labelled.check(train)
    return labelled.telling(policy, states)


def _kept(states: Tensor, generator: Generator) -> Tensor:
    return states
