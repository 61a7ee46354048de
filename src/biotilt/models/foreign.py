"""Somebody else's network, as the network of one of our processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.errors import ConfigError

TIMES = ("t", "time", "times", "timestep", "timesteps")
"""Names of an argument that is taken for the time in [0, 1], 1 = noise."""


class Foreign(nn.Module):
    """A network with its own tokens, between what a process shows `(B, ...)` and what it expects.

    `ids` `(V+1,)`: the network's token for each of ours, the mask last, or None where states are handed on as they are;
    `prefix`, `suffix`: its tokens before and after a design, whose outputs are cut off again. Logits of other tokens
    than the V letters are left out.
    """

    def __init__(
        self,
        net: nn.Module,
        call: Callable[[nn.Module, Tensor, Tensor], Any] | None = None,
        ids: Sequence[int] | None = None,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
    ):
        super().__init__()
        self.net = net
        self._call = call or calling(net)
        self._around = (len(prefix), len(suffix))
        for name, values in (("ids", ids), ("prefix", prefix), ("suffix", suffix)):
            tokens = None if values is None else torch.tensor(list(values), dtype=torch.long)
            self.register_buffer(name, tokens, persistent=False)

    ids: Tensor | None
    prefix: Tensor
    suffix: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return what the process reads: logits `(B, L, V)`, or the network's output as it is for points."""
        if self.ids is None:
            return tensor_of(self._call(self.net, x, t))
        if x.is_floating_point():
            raise ConfigError(
                "this network reads tokens, so nothing can be differentiated through its states: use an objective or "
                "a sampler that only asks for scores, such as vidd, ppo or smc"
            )
        ids = self.ids[x.long()]
        ends = [end.expand(len(x), -1) for end in (self.prefix, self.suffix)]
        output = tensor_of(self._call(self.net, torch.cat([ends[0], ids, ends[1]], 1), t))
        before, after = self._around
        return output[:, before : output.shape[1] - after].index_select(-1, self.ids[:-1])


def calling(net: nn.Module) -> Callable[[nn.Module, Tensor, Tensor], Any]:
    """Return how to call a network, by the names of its arguments: with the states, or with states and time.

    Raises ConfigError where a second argument is needed that is not called like a time.
    """
    arguments = list(inspect.signature(net.forward).parameters.values())
    named = [a.name for a in arguments[1:] if a.name in TIMES]
    needed = [a.name for a in arguments[1:] if a.default is a.empty and a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    if [name for name in needed if name not in TIMES] or not arguments:
        raise ConfigError(
            f"{type(net).__name__}.forward takes ({', '.join(a.name for a in arguments)}), and it is not clear what to "
            "hand it: give wrap a function, call=lambda net, x, t: net(…), with t in [0, 1], 1 = noise"
        )
    if named:
        return lambda net, x, t: net(x, **{named[0]: t})
    return lambda net, x, t: net(x)


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
