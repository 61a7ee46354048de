"""What an algorithm asks of its networks, counted in rows: the cost of a run that no machine's speed enters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from biotilt.core.objective import Context
from biotilt.core.values import ActionValue


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
        own = _networks("value", value) if isinstance(value, nn.Module) else {}
        return cls(policy=roles.policy.net, base=roles.base.net, proposal=roles.proposal.net, **own)

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
            self._hooks.append(net.register_forward_pre_hook(self._hook(name), with_kwargs=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def count(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            # before the call: a graph that is made again ends where its last tensor is known
            shown = [each for each in (*inputs, *named.values()) if isinstance(each, Tensor) and each.dim()]
            if not shown:
                return
            learns = torch.is_grad_enabled() and any(
                each.requires_grad for each in itertools.chain(shown, module.parameters())
            )
            rows = len(shown[0])
            self._counts[name] += Rows(graph=rows) if learns else Rows(plain=rows)

        return count


def _networks(name: str, value: nn.Module) -> dict[str, nn.Module]:
    """Return the networks of a value, those of a value inside it among them: it is asked by its methods, not called."""
    found: dict[str, nn.Module] = {}
    for part, net in value.named_children():
        if isinstance(net, ActionValue):
            found |= _networks(f"{name}.{part}", net)
        elif any(True for _ in net.parameters()):  # what has none computes from what the others said
            found[f"{name}.{part}"] = net
    return found
