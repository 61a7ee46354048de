"""Somebody else's network, as the network of one of our processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.errors import ConfigError
from biotilt.models.conditions import Conditions

TIMES = ("t", "time", "times")
"""Names of an argument that is taken for the time in [0, 1], 1 = noise; a `timestep` may count to 1,000."""
CONDITIONS = ("condition", "conditions", "cond", "c", "y", "label", "labels", "class_labels")
"""Names of an argument that is taken for the condition."""


class Foreign(nn.Module):
    """A network with its own tokens, between what a process shows `(B, ...)` and what it expects.

    `ids` `(V+1,)`: the network's token for each of ours, the mask last, or None where states are handed on as they are;
    `prefix`, `suffix`: its tokens before and after a design, whose outputs are cut off again. Logits of other tokens
    than the V letters are left out. `conditions`: what it can be told besides; without a condition it is told the
    unconditional one.
    """

    def __init__(
        self,
        net: nn.Module,
        call: Callable[..., Any] | None = None,
        ids: Sequence[int] | None = None,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
        conditions: Conditions | None = None,
    ):
        super().__init__()
        self.net = net
        self._call = call or calling(net, conditional=conditions is not None)
        self._conditional = conditions is not None
        self.register_buffer("nothing", None if conditions is None else conditions.unconditional, persistent=False)
        self._around = (len(prefix), len(suffix))
        for name, values in (("ids", ids), ("prefix", prefix), ("suffix", suffix)):
            tokens = None if values is None else torch.tensor(list(values), dtype=torch.long)
            self.register_buffer(name, tokens, persistent=False)

    ids: Tensor | None
    prefix: Tensor
    suffix: Tensor
    nothing: Tensor | None

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what the process reads: logits `(B, L, V)`, or the network's output as it is for points."""
        more = self._more(len(x), condition)
        if self.ids is None:
            return tensor_of(self._call(self.net, x, t, *more))
        if x.is_floating_point():
            raise ConfigError(
                "this network reads tokens, so nothing can be differentiated through its states: use an objective or "
                "a sampler that only asks for scores, such as vidd, ppo or smc"
            )
        ids = self.ids[x.long()]
        ends = [end.expand(len(x), -1) for end in (self.prefix, self.suffix)]
        output = tensor_of(self._call(self.net, torch.cat([ends[0], ids, ends[1]], 1), t, *more))
        before, after = self._around
        return output[:, before : output.shape[1] - after].index_select(-1, self.ids[:-1])

    def _more(self, batch: int, condition: Tensor | None) -> tuple[Tensor, ...]:
        """Return the condition as one more argument, where the network takes one."""
        if not self._conditional:
            return ()
        if condition is not None:
            return (condition,)
        if self.nothing is None:
            raise ConfigError(
                "this network needs a condition: condition = … under [model], or model.with_condition(…) in Python"
            )
        return (self.nothing.expand(batch, *self.nothing.shape),)


def calling(net: nn.Module, *, conditional: bool = False) -> Callable[..., Any]:
    """Return how to call a network, by the names of its arguments: with the states, a time, and a condition.

    Raises ConfigError where an argument is needed that is not called like one of these, or none like the condition.
    """
    arguments = list(inspect.signature(net.forward).parameters.values())
    names = [a.name for a in arguments[1:]]
    time = next((name for name in names if name in TIMES), None)
    condition = next((name for name in names if name in CONDITIONS), None) if conditional else None
    needed = [a.name for a in arguments[1:] if a.default is a.empty and a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    lost = [name for name in needed if name not in (time, condition)] or (conditional and condition is None)
    if lost or not arguments:
        also = ", c" if conditional else ""
        raise ConfigError(
            f"{type(net).__name__}.forward takes ({', '.join(a.name for a in arguments)}), and it is not clear what to "
            f"hand it: give wrap a function, call=lambda net, x, t{also}: net(…), with t in [0, 1], 1 = noise"
        )

    def call(net: nn.Module, x: Tensor, t: Tensor, *told: Tensor) -> Any:
        named = ({} if time is None else {time: t}) | ({} if condition is None else {condition: told[0]})
        return net(x, **named)

    return call


def tensor_of(output: Any) -> Tensor:
    """Return the tensor of what a network returned: itself, its `logits` or `sample`, or the first of several.

    Raises ConfigError when there is none.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        for key in ("logits", "sample"):
            if isinstance(output.get(key), Tensor):
                return output[key]
    if isinstance(output, Sequence) and output and isinstance(output[0], Tensor):
        return output[0]
    raise ConfigError(
        f"the network returns {type(output).__name__}, in which no tensor is called logits or sample: give wrap a "
        "function, call=lambda net, x, t: …, that returns the tensor"
    )
