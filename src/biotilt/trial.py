"""What a round of tuning takes, found without paying for it: networks are counted, and timed on a few rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from biotilt.constraints import unpriced
from biotilt.core import Context, Target, draw_loss, needed
from biotilt.core.bounded import bounded
from biotilt.core.precision import asked, computed_in
from biotilt.oracle import Oracle
from biotilt.training import Trainer

ROWS = 64  # of a network that are timed
LONG = 1.0  # seconds after which an update is not timed again

clock = time.perf_counter


class Unpaid:
    """Networks that are not computed while it is entered: each says of all rows what it said of the first it saw.

    How many rows each was given is in `rows`. For what reads a network without a gradient and whose course does not
    hang on what it reads, as when a roll-in draws.
    """

    def __init__(self, networks: Iterable[nn.Module]):
        # a compiled module cannot be given another forward: it is computed
        self._networks = [net for net in networks if not isinstance(net, torch.jit.ScriptModule)]
        self._said: dict[nn.Module, Tensor] = {}
        self._shown: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.rows: dict[nn.Module, int] = dict.fromkeys(self._networks, 0)

    def __enter__(self) -> Self:
        for net in self._networks:
            vars(net)["forward"] = self._standing_in(net, net.forward)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for net in self._networks:
            del vars(net)["forward"]

    def seconds(self) -> float:
        """Return what the rows would have taken, by the time of a few of them."""
        total = 0.0
        for net, (shown, named) in self._shown.items():
            with torch.no_grad():
                ask = partial(asked, partial(net, **named), *shown)
                ask()  # the first call of a shape takes longer
                some = _seconds(ask)
            total += some * self.rows[net] / len(shown[0])
        return total

    def _standing_in(self, net: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def stand_in(*shown: Any, **named: Any) -> Tensor:
            rows = len(shown[0])
            self.rows[net] += rows
            some = min(rows, ROWS)
            if net not in self._shown or some > len(self._shown[net][0][0]):
                self._shown[net] = _first(shown, named, some)
            if net not in self._said:
                one, told = _first(shown, named, 1)
                with torch.no_grad():
                    self._said[net] = forward(*one, **told)
            said = self._said[net]
            return said.expand(rows, *said.shape[1:])

        return stand_in


class Guessed:
    """A scorer that asks nobody: random scores, as finite as most."""

    def __init__(self, generator: torch.Generator):
        self._generator = generator

    def __call__(self, designs: Tensor) -> Tensor:
        return torch.randn(len(designs), generator=self._generator, device=self._generator.device)

    def relaxed(self, designs: Tensor) -> Tensor:
        return designs.flatten(1).mean(1)


def seconds_of_round(trainer: Trainer) -> float:
    """Return the seconds of one round of a run that has not begun, but for the scoring.

    Its designs are drawn with networks that are counted and not computed, and scored by guessing. The update is a real
    one, on the rows that came of it, but for the step of the optimiser, which is small beside it. Raises whatever would
    stop the run there.
    """
    context, objective = trainer.context, trainer.objective
    networks = [context.roles.policy.net, context.roles.base.net, context.roles.proposal.net]
    if isinstance(context.value, nn.Module):
        networks += context.value.children()
    guessing = replace(context, target=Target(Guessed(context.generator), context.target.alpha))
    with computed_in(trainer.precision):
        with Unpaid(networks) as unpaid:
            started = clock()
            collected = objective.collect(guessing, trainer.config.batch)
            drawing = clock() - started
        context.memory.add(collected.rows)
        return drawing + unpaid.seconds() + objective.updates * _update(trainer)


def _update(trainer: Trainer) -> float:
    """Return the seconds of one update; 0 where nothing was collected."""
    context: Context = trainer.context
    if not len(context.memory):
        return 0.0
    needed(unpriced(trainer.oracle), Oracle).max_calls = None  # a loss may score designs itself

    def learn() -> None:
        with bounded(trainer.config.memory), torch.enable_grad():
            draw_loss(trainer.objective, context)[0].backward()

    first = _seconds(learn)
    return first if first > LONG else min(first, _seconds(learn))


def _seconds(work: Callable[[], Any]) -> float:
    started = clock()
    work()
    return clock() - started


def _first(shown: tuple[Any, ...], named: dict[str, Any], count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the first rows of what a network is shown; what is of no row as it is."""
    rows = len(shown[0])

    def some(each: Any) -> Any:
        return each[:count] if isinstance(each, Tensor) and each.dim() and len(each) == rows else each

    return tuple(map(some, shown)), {key: some(each) for key, each in named.items()}
