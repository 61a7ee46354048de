"""What an algorithm asks of its networks, counted in rows: the cost of a run that no machine's speed enters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from biotilt.core import Context


@dataclass(frozen=True)
class Rows:
    """States that a network was given: `plain`, whose outputs carried no gradient, and with a `graph` to go back by."""

    plain: int = 0
    graph: int = 0

    @property
    def total(self) -> int:
        return self.plain + self.graph

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.plain + other.plain, self.graph + other.graph)


class RowCounter(Mapping[str, Rows]):
    """Counts the rows of networks by name, while it is entered.

    A part whose graph is made again in the backward pass counts as often as it is computed.

    >>> net = nn.Linear(2, 3)
    >>> with RowCounter(policy=net) as rows, torch.no_grad():
    ...     _ = net(torch.zeros(5, 2))
    >>> rows["policy"], rows.total
    (Rows(plain=5, graph=0), Rows(plain=5, graph=0))
    """

    def __init__(self, **networks: nn.Module):
        self._networks = networks
        self._counts = dict.fromkeys(networks, Rows())
        self._hooks: list[RemovableHandle] = []

    @classmethod
    def of(cls, context: Context) -> RowCounter:
        """Count `policy`, `base` and `proposal` of a context, and the networks of its value, as `value.NAME`."""
        roles, value = context.roles, context.value
        own = dict(value.named_children()) if isinstance(value, nn.Module) else {}
        return cls(
            policy=roles.policy.net, base=roles.base.net, proposal=roles.proposal.net,
            **{f"value.{name}": net for name, net in own.items()},
        )  # fmt: skip

    @property
    def total(self) -> Rows:
        """The rows of all networks."""
        return sum(self._counts.values(), Rows())

    def __getitem__(self, name: str) -> Rows:
        return self._counts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __enter__(self) -> Self:
        for name, net in self._networks.items():
            self._hooks.append(net.register_forward_pre_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # before the call: a graph that is made again ends where its last tensor is known
            learns = torch.is_grad_enabled() and any(p.requires_grad for p in (*inputs, *module.parameters()))
            rows = len(inputs[0])
            self._counts[name] += Rows(graph=rows) if learns else Rows(plain=rows)

        return count
