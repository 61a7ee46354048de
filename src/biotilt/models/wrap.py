"""Any network as a model: `wrap`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import nn

from biotilt.core import Policy, Process
from biotilt.errors import ConfigError, suggest
from biotilt.model import Model
from biotilt.models.conditions import Conditions
from biotilt.models.foreign import Foreign
from biotilt.models.origin import FactoryOrigin
from biotilt.options import shown
from biotilt.processes import PROCESSES
from biotilt.spaces import Space, Text, as_space, as_text
from biotilt.spaces.arrays import Arrays


def wrap(
    net: nn.Module,
    *,
    space: Space[Any] | str,
    length: int | None = None,
    process: str | dict[str, Any] | Process = "masked",
    ids: Mapping[str, int] | Sequence[int] | None = None,
    mask_id: int | None = None,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
    call: Callable[..., Any] | None = None,
    conditions: Sequence[str] | Mapping[str, Any] | Literal["numbers"] | None = None,
    unconditional: Any = None,
    factory: str | None = None,
) -> Model:
    """Return a model of any network: what it is shown are states of the process, in its own tokens.

    `space`: what is designed, or the name of an alphabet; `length`: letters of a design. `process`: a name, a table
    of a name with options, or the object. `ids`: the network's token of each letter, by letter or in the order of the
    space (default 0 … V−1); `mask_id`: its mask (default V); `prefix`, `suffix`: its tokens around a design, whose
    outputs are cut off. `call(net, x, t)` where the network is to be called otherwise than with its tokens, and the
    time by the name t or time; t in [0, 1], 1 = noise. `conditions`, for a network that takes one as a third argument
    (`call(net, x, t, c)`): labels, told by their place in the list; a table of what it is told for each label, tensors
    of one shape; or "numbers". `unconditional`: what it is told for none, which guidance needs. `factory`:
    "module:function" or "file.py:function", which returns this model: with it a tuned model can be loaded again, and
    runs resumed.

    Weights whose `requires_grad` is false stay as they are. The network is put into evaluation mode.

    Raises ConfigError when the parts do not fit, `ids` misses a letter, or it is not clear how to call the network.

    >>> import torch
    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.embed, self.out = torch.nn.Embedding(30, 8), torch.nn.Linear(8, 30)
    ...     def forward(self, tokens):
    ...         return self.out(self.embed(tokens))
    >>> model = wrap(Net(), space="dna", length=6, ids={"A": 5, "C": 23, "G": 13, "T": 11}, mask_id=29)
    >>> [len(design) for design in model.sample(2)]
    [6, 6]
    """
    space = as_space(space)
    built = process if isinstance(process, Process) else _process(process, space, length)
    tokens = None
    if ids is not None or mask_id is not None:
        letters = _ids_of(as_text(space), ids)
        tokens = [*letters, len(letters) if mask_id is None else mask_id]
        if len(set(tokens)) < len(tokens):
            raise ConfigError(f"ids: two letters, or a letter and the mask, have one token: {shown(tokens)}")
    elif prefix or suffix:
        tokens = list(range(len(as_text(space).symbols) + 1))
    told = None if conditions is None else Conditions.of(conditions, unconditional)
    if told is None and unconditional is not None:
        raise ConfigError("unconditional: say which conditions the network takes")
    shown_net = Foreign(net, call, tokens, prefix, suffix, told).eval()
    return Model(Policy(built, shown_net), space, FactoryOrigin.of(factory) if factory else None, conditions=told)


def _process(given: str | dict[str, Any], space: Space[Any], length: int | None) -> Process:
    options = {"name": given} if isinstance(given, str) else dict(given)
    if "name" not in options:
        raise ConfigError('process: a table needs a name, such as {"name": "masked", "num_steps": 64}')
    size: dict[str, Any] = {} if length is None else {"length": length}
    known = {"letters": len(space.symbols)} if isinstance(space, Text) else {}
    if isinstance(space, Arrays):
        known = {"size": space.size}
    options = known | size | options
    return PROCESSES.of_table(options)


def _ids_of(space: Text, ids: Mapping[str, int] | Sequence[int] | None) -> list[int]:
    """Return the network's token of each letter, in the order of the space."""
    if ids is None:
        return list(range(len(space.symbols)))
    if isinstance(ids, Mapping):
        if missing := [letter for letter in space.symbols if letter not in ids]:
            raise ConfigError(f'ids: no token for "{missing[0]}"{suggest(missing[0], list(ids))}')
        return [ids[letter] for letter in space.symbols]
    if len(ids) != len(space.symbols):
        raise ConfigError(f"ids: {len(ids)} tokens for {len(space.symbols)} letters, {' '.join(space.symbols)}")
    return list(ids)
