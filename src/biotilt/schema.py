"""What files of ours may hold: models of their content, and one line about the first value that does not fit.

Sizes have upper bounds that no real design or network comes near (`options.py`), so that a damaged or hostile file is
refused before memory is taken for it.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from biotilt.errors import BiotiltError
from biotilt.options import Name, explain


class Stored(BaseModel):
    """The content of a file of ours. Keys that it does not name are passed over: newer versions may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class StoredTensors(Stored):
    """The metadata of a safetensors file: `kind` is the value of its key of that name, `called` is for messages."""

    kind: ClassVar[str]
    called: ClassVar[str]


class Named(BaseModel):
    """A part by its name, with its options beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: Name


def checked(content: Any, schema: Any, where: object, error: type[BiotiltError]) -> Any:
    """Return `content` as `schema`, a pydantic model or any type; raises `error` with one line about the first fault.

    >>> checked({"a": "1"}, dict[str, int], "x.json", ConfigError)
    {'a': 1}
    >>> checked({"a": "b"}, dict[str, bool], "x.json", ConfigError)
    Traceback (most recent call last):
    biotilt.errors.ConfigError: x.json: a: must be true or false, got 'b'
    """
    try:
        return _adapter(schema).validate_python(content)
    except ValidationError as fault:
        raise error(f"{where}: {explain(fault, content)}") from fault


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)
