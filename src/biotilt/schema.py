"""What options and files of ours may hold: typed fields with bounds, and one line about the first that does not fit.

A dataclass of options says by its annotations what each may be; `build` is the one way from a table of a file to such
an object. Sizes have upper bounds that no real design or network comes near, so that a damaged or hostile file is
refused before memory is taken for it.
"""

from __future__ import annotations

import functools
import reprlib
from dataclasses import MISSING, fields
from typing import Annotated, Any, ClassVar, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from biotilt.errors import BiotiltError, ConfigError, suggest

SHOWN = 80  # characters of a wrong value that a message shows


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


Symbols = Annotated[int, Field(ge=1, le=127)]  # tokens, the mask after them, are stored in 8 bits
Length = Annotated[int, Field(ge=1, le=1_000_000)]  # letters of a design
Width = Annotated[int, Field(ge=1, le=65_536)]  # channels, hidden units
Layers = Annotated[int, Field(ge=1, le=500)]
Depth = Annotated[int, Field(ge=0, le=500)]  # of hidden layers
Kernel = Annotated[int, Field(ge=1, le=1_001), AfterValidator(_odd)]
Dilations = Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(min_length=1, max_length=1_000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]  # of a chain
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=1_000)]
Structure = Annotated[str, Field(min_length=1, max_length=100_000)]  # in dot-bracket notation


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


def build(kind: type, options: Any, where: str) -> Any:
    """Build a dataclass from a table of options: its fields are the valid keys, their annotations the valid values.

    Fields of types that no file can hold, such as tensors, are passed on as they are.

    Raises:
        ConfigError: an unknown or missing key, or a value of another type or out of bounds; it begins with `where`.
    """
    if not isinstance(options, dict):
        raise ConfigError(f"{where}: a table of options is needed, got {shown(options)}")
    valid = [field.name for field in fields(kind)]
    for key in options:
        if key not in valid:
            raise ConfigError(f'{where} has no option "{one_line(key)}"{suggest(str(key)[:SHOWN], valid)}')
    found = checked(options, _model_of(kind), where, ConfigError)
    return kind(**{name: getattr(found, name) for name in found.model_fields_set})


@functools.cache
def _model_of(kind: type) -> type[BaseModel]:
    hints = get_type_hints(kind, include_extras=True)
    typed: dict[str, Any] = {}
    for field in fields(kind):
        required = field.default is MISSING and field.default_factory is MISSING
        typed[field.name] = (hints[field.name], ... if required else None)
    config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(kind.__name__, __config__=config, **typed)


def checked(content: Any, schema: Any, where: object, error: type[BiotiltError]) -> Any:
    """Return `content` as `schema`, a pydantic model or any type; raises `error` with one line about the first fault.

    >>> checked({"a": "1"}, dict[str, int], "x.json", ConfigError)
    {'a': 1}
    >>> checked({"a": "b"}, dict[str, bool], "x.json", ConfigError)
    Traceback (most recent call last):
    biotilt.errors.ConfigError: x.json: a: input should be a valid boolean, unable to interpret input, got 'b'
    """
    try:
        return _adapter(schema).validate_python(content)
    except ValidationError as fault:
        raise error(f"{where}: {first_fault(fault)}") from fault


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def first_fault(error: ValidationError) -> str:
    """Say in one line what the first fault is: the key, what is wrong with it, and what was given, cut short."""
    fault = error.errors(include_url=False)[0]
    key = ".".join(one_line(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{key}: this key is missing"
    given = f"{message[:1].lower()}{message[1:]}, got {shown(fault['input'])}"
    return f"{key}: {given}" if key else given


def shown(value: Any) -> str:
    """Return a value as a message shows it: on one line, at most about 80 characters.

    >>> shown([1] * 1000)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    try:
        text = _SHORT.repr(value)
    except Exception:  # an object of somebody else, or an integer of more digits than Python writes
        text = f"a value of type {type(value).__name__}"
    return one_line(text)


def one_line(value: object) -> str:
    """Return text without line ends and control characters, cut to 200 characters."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value)[:200])
    return text + ("…" if len(str(value)) > 200 else "")


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = SHOWN
