"""Options of parts: typed fields with bounds, checked in this one place whether a file or Python code gave them.

A part is a dataclass whose fields are its options. Its `__post_init__` calls `check_options(self, where)`; the
annotation of a field says what it takes, so that a bound is written once:

    updates: Count = 10                                  # a whole number in [1, 10^9]
    mix: Share = 0.5                                     # a number in [0, 1]
    power: Annotated[Number, Field(ge=1)] = 1.5
"""

from __future__ import annotations

import math
import numbers
import operator
import re
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from inspect import isfunction, signature
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, InstanceOf, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from biotilt.errors import ConfigError, suggest

MOST = 10**9  # of anything that is counted
WHOLE = 2**63  # what TOML, SQLite and torch's seeds hold
DEEPEST, LONGEST, LARGEST = 32, 100_000, 1_000_000  # levels, letters of a text, values of a document


def _whole(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1e4 is how people write 10000
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise PydanticCustomError("option", "must be a whole number")
    value = operator.index(value)
    if not -WHOLE <= value < WHOLE:
        raise PydanticCustomError("option", "must be a whole number of at most 64 bits")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise PydanticCustomError("option", "must be a number")
    if isinstance(value, numbers.Integral):
        return _whole(value)
    if not math.isfinite(value):
        raise PydanticCustomError("option", "must be a finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("option", "must be text")
    if fault := text_fault(value):
        raise PydanticCustomError("option", "{fault}", {"fault": fault})
    return value


def _path(value: Any) -> str:
    longest = max((len(part.encode()) for part in _text(value).split("/")), default=0)
    if longest > 255 or len(value.encode()) > 2000:  # 4095 with the folder that it starts at
        raise PydanticCustomError("option", "is too long for the path of a file")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise PydanticCustomError("option", "must be true or false")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise PydanticCustomError("option", "must be odd")
    return value


def text_fault(text: str) -> str:
    """Return what makes a text unfit for files and programs, or "": NUL, lone surrogates, a length beyond reason."""
    if len(text) > LONGEST:
        return f"must be text of at most {LONGEST:,} characters"
    if "\0" in text:
        return "must not contain the character NUL"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "must be valid Unicode, and holds half a character"
    return ""


def _end(value: Any) -> float:
    return value if isinstance(value, float) else _number(value)


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
End = Annotated[float, BeforeValidator(_end)]  # of a range, which may be infinite
Text = Annotated[str, BeforeValidator(_text)]
PathText = Annotated[str, BeforeValidator(_path)]
Flag = Annotated[bool, BeforeValidator(_flag)]

Count = Annotated[Whole, Field(ge=1, le=MOST)]
CountFrom0 = Annotated[Whole, Field(ge=0, le=MOST)]
Pair = Annotated[Whole, Field(ge=2, le=MOST)]  # of what is compared
Few = Annotated[Whole, Field(ge=1, le=10_000)]  # of what is held in memory for every design or state
FewFrom0 = Annotated[Whole, Field(ge=0, le=10_000)]
FewPair = Annotated[Whole, Field(ge=2, le=10_000)]
Steps = Annotated[Whole, Field(ge=1, le=1_000_000)]  # of a chain, each a call of the network
BatchSize = Annotated[Whole, Field(ge=1, le=1_000_000)]  # designs whose states are held at once
Symbols = Annotated[Whole, Field(ge=1, le=10_000_000)]  # kinds of tokens, without the mask
Length = Annotated[Whole, Field(ge=1, le=1_000_000)]  # letters of a design
Width = Annotated[Whole, Field(ge=1, le=65_536)]  # channels, hidden units
Layers = Annotated[Whole, Field(ge=1, le=500)]
Depth = Annotated[Whole, Field(ge=0, le=500)]  # of hidden layers
Kernel = Annotated[Whole, Field(ge=1, le=1_001), AfterValidator(_odd)]
Dilations = Annotated[tuple[Few, ...], Field(min_length=1, max_length=1_000)]
Name = Annotated[Text, Field(max_length=1_000)]
Word = Annotated[str, Field(max_length=100)]  # of a vocabulary
Vocabulary = Annotated[list[Word], Field(max_length=1_000_000)]
Structure = Annotated[Text, Field(min_length=1)]  # in dot-bracket notation
Seed = Annotated[Whole, Field(ge=0)]  # below 2^63: a TOML integer, and half of what torch takes, so that seeds add up
Share = Annotated[Number, Field(ge=0, le=1)]
Rate = Annotated[Number, Field(gt=0, le=1)]
Below1 = Annotated[Number, Field(ge=0, lt=1)]
Inside = Annotated[Number, Field(gt=0, lt=1)]
NotNegative = Annotated[Number, Field(ge=0, le=1e30)]
Positive = Annotated[Number, Field(gt=0), Field(ge=1e-30, le=1e30)]  # what float32 still divides by

_BARE: dict[Any, Any] = {int: Whole, float: Number, str: Text, bool: Flag}


def check_options(part: Any, where: str) -> None:
    """Check the fields of a frozen dataclass against their annotations; numbers are stored as the types they stand for.

    Raises ConfigError naming `where` (a section such as "objective", or `reward "gc"`) and the field.
    """
    given = {field.name: getattr(part, field.name) for field in fields(part) if field.init}
    for name, value in _validated(type(part), given, where).items():
        if type(value) in (int, float, tuple) and type(given[name]) is not type(value):
            object.__setattr__(part, name, value)  # 1 and 1.0 give one version of a reward, and 1e4 counts as 10000


def build_options(kind: Any, options: Any, where: str) -> Any:
    """Build a dataclass from options of a file; its fields are the valid keys.

    Raises ConfigError that names `where`, the key, and the nearest valid one when it is unknown.
    """
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where}: must be a table of options, got {shown(options)}")
    options = dict(options)
    typed = isinstance(kind, type) and is_dataclass(kind)
    if typed:
        _validated(kind, options, where)
    try:
        part = kind(**options)
    except TypeError as error:  # a part of a plug-in that is no dataclass
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:  # options that do not go together
        told = str(error)
        raise ConfigError(told if told.startswith(where.split(".")[0]) else f"{where}: {told}") from error
    if typed:
        check_options(part, where)  # plug-ins need not do it themselves
    return part


def check_option(kind: Any, value: Any, where: str, key: str) -> Any:
    """Return one option as the type `kind` takes it, such as `Share`, where there is no dataclass of options.

    Raises ConfigError naming `where` and `key` as `check_options` does.
    """
    try:
        return _single(kind).validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ConfigError(_sentence(fault, where, [key, *map(str, fault["loc"])], lambda path: [])) from error


@cache
def _single(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def anchored(kind: Callable[..., Any], options: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return options of a dataclass or a function with those that are typed `PathText` started at the folder `base`.

    Only where there is such a file or folder: some also take a name, and what is missing is the part's to say.
    """
    found = dict(options)
    for name in paths_of(kind) & found.keys():
        with suppress(OSError, ValueError):  # it is no path
            if found[name] and (base / str(found[name])).exists():
                found[name] = str(base / str(found[name]))
    return found


@cache
def paths_of(kind: Callable[..., Any]) -> frozenset[str]:
    """Return what is typed `PathText`, a file or a folder, among fields of a dataclass or parameters of a function."""
    if not is_dataclass(kind) and not isfunction(kind):
        return frozenset()
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(signature(kind).parameters)
    try:
        hints = get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):  # a stranger's, which cannot be read
        return frozenset()
    return frozenset(name for name in names if _is_path(hints.get(name)))


def _is_path(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return any(isinstance(part, BeforeValidator) and part.func is _path for part in hint.__metadata__)
    return any(_is_path(part) for part in get_args(hint))


def _validated(kind: type, options: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        return _adapter(kind).validate_python(options)
    except ValidationError as error:
        raise ConfigError(explain(error, options, where, lambda path: _keys(kind, path))) from error


def _keys(kind: Any, path: Sequence[str]) -> list[str]:
    return [] if path else [field.name for field in fields(kind) if field.init]


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return the validator of a dataclass's options: a table of its fields, each as its annotation says."""
    hints = get_type_hints(kind, include_extras=True)
    table = {}
    for field in fields(kind):
        if field.init:
            required = field.default is MISSING and field.default_factory is MISSING
            table[field.name] = (Required if required else NotRequired)[_strict(hints[field.name])]
    options: Any = TypedDict(kind.__name__, table)  # type: ignore[operator]
    options.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return TypeAdapter(options)


def _strict(hint: Any) -> Any:
    """Return the type that a field takes: plain numbers, texts and flags as above, objects as they are."""
    if hint in _BARE:
        return _BARE[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal or hint is None or hint is type(None):
        return hint
    if origin is Annotated:
        metadata = hint.__metadata__
        inner = _strict(args[0])
        bounded: Any = Annotated
        return bounded[(inner, *metadata)] if not any(isinstance(m, BeforeValidator) for m in metadata) else hint
    if origin in (Union, types.UnionType):
        return Union[tuple(_strict(arg) for arg in args)]  # noqa: UP007
    if origin is not None and args:
        inner = tuple(arg if arg is Ellipsis else _strict(arg) for arg in args)
        known: Any = origin
        return known[inner] if isinstance(origin, type) and issubclass(origin, Iterable) else Any
    return InstanceOf[hint] if is_dataclass(hint) else Any


def explain(error: ValidationError, data: Any, where: str = "", keys: Any = lambda path: []) -> str:
    """Say what the first fault is: the key, what is wrong with it, and what was given.

    `keys(path)` returns the valid keys of the table at a path.
    """
    fault = error.errors(include_url=False)[0]
    path: list[str] = []
    at: Any = data
    for part in fault["loc"]:  # without the branches of a union, which pydantic names too
        if isinstance(at, Mapping):
            there = part in at
            if not there and fault["type"] != "missing":
                break
        elif isinstance(at, list | tuple) and isinstance(part, int):
            there = part < len(at)
        else:
            break
        path.append(str(part))
        inner: Any = at
        at = inner[part] if there else None
    return _sentence(fault, where, path, keys)


_BOUNDS = {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}
_KINDS = {
    "list_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "sequence_str": "must be a list",
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "is_instance_of": "has the wrong type",
    "too_long": "has too many values",
    "too_short": "has too few values",
}


def _sentence(fault: Any, where: str, path: list[str], keys: Any) -> str:
    """Return "section.key: what is wrong"; of a part that is named, `reward "gc": what is wrong`."""
    kind, context, section = fault["type"], fault.get("ctx", {}), re.fullmatch(r"[\w.]*", where)
    key, name = ".".join(path), ".".join([*([where] if where else []), *path])
    if kind == "extra_forbidden":
        hint = suggest(path[-1], keys(path[:-1]))
        return f"{name}: unknown key{hint}" if section else f'{where}: unknown option "{key}"{hint}'
    if kind == "missing" and path[-1].isdigit():  # of a list
        return _sentence({**fault, "type": "too_short"}, where, path[:-1], keys)
    if kind == "missing":
        return f"{name}: this key is missing" if section else f'{where}: option "{key}" is missing'
    if kind == "literal_error":
        given = fault["input"]
        choice = given[:100] if isinstance(given, str) else shown(given)
        hint = suggest(choice, _choices(context["expected"]))
        return f'{name if section else f"{where}: {key}"}: unknown choice "{choice}"{hint}'
    if kind in _BOUNDS:
        says = f"must be {_BOUNDS[kind]} {next(iter(context.values())):g}"
    elif kind == "option":
        says = fault["msg"]
    else:
        says = _KINDS.get(kind, f"{fault['msg'][:1].lower()}{fault['msg'][1:]}")
    return f"{f'{name}:' if section else f'{where}: {key}'} {says}, got {shown(fault['input'])}"


def _choices(expected: str) -> list[str]:
    return [part.strip("'\"") for part in expected.replace(" or ", ", ").split(", ")]


def shown(value: Any) -> str:
    """Return a value as a message shows it, in about 80 characters, whatever it is.

    >>> shown([1] * 1000)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    try:
        return _SHORT.repr(value)
    except Exception:  # a stranger's __repr__, or a whole number of more digits than Python prints
        return f"a value of type {type(value).__name__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def plain(value: Any, key: str = "") -> Any:
    """Return a document of tables, lists, texts, numbers and flags as plain Python, checked against bounds.

    Tuples become lists, and numbers of NumPy Python's. At most 32 levels deep, 1,000,000 values; whole numbers of 64
    bits, finite numbers, texts without NUL. Raises ConfigError that names the key.
    """
    return _Reader().read(value, key, 0)


class _Reader:
    def __init__(self) -> None:
        self.count = 0

    def read(self, value: Any, key: str, depth: int) -> Any:
        self.count += 1
        if depth > DEEPEST:
            raise ConfigError(f"{'.'.join(key.split('.')[:4])}: tables and lists are more than {DEEPEST} levels deep")
        if self.count > LARGEST:
            raise ConfigError(f"{key}: more than {LARGEST:,} values in one document")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Mapping):
            for name in value:
                if not isinstance(name, str) or text_fault(name):
                    raise ConfigError(f"{key or 'a key'} must be text, got {shown(name)}")
            return {name: self.read(item, f"{key}.{name}" if key else name, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.read(item, f"{key}.{i}" if key else str(i), depth + 1) for i, item in enumerate(value)]
        return self.scalar(value, key)

    def scalar(self, value: Any, key: str) -> Any:
        try:
            if isinstance(value, str):
                return _text(value)
            return _number(value)
        except PydanticCustomError as error:
            says = (
                error.message()
                if isinstance(value, str | numbers.Real)
                else "must be text, a number, a list or a table"
            )
            raise ConfigError(f"{key or 'a key'}: {says}, got {shown(value)}") from None
