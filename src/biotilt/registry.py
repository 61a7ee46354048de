"""Parts by name: ours, those that a user registers, and those that other packages bring by entry points.

A package registers, say, a sampler by two lines of its `pyproject.toml`:

    [project.entry-points."biotilt.samplers"]
    my_sampler = "my_package.sampling:MySampler"

The object is a class with the `name` it is registered by: a dataclass of its options, or one made of another dataclass
of options, its `Options`. It is loaded when an experiment names it, or when parts are listed. What it should keep to is
in `biotilt.testing.contracts`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, overload

from biotilt.errors import ConfigError, one_line, suggest
from biotilt.options import build_options, shown

T = TypeVar("T")
C = TypeVar("C")


class Registry(MutableMapping[str, type[T]], Generic[T]):
    """The classes of one kind of part, by the `name` that each of them has.

    `kind` names the kind ("samplers") and its entry-point group (`biotilt.samplers`), `one` a part of it in messages
    ("sampler"). `own_files`: each part has a file to itself, whose first line says what it is; else its docstring does.
    `key`: the attribute, and the key of tables, that holds the name; `make` makes a part of its `Options`.
    `lazy`: parts of ours by name, "module:class", which are imported when they are named, as a plug-in's are.

    >>> registry: Registry[Any] = Registry("shapes", "shape")
    >>> @registry.register
    ... class Square:
    ...     name = "square"
    >>> registry.find("sqare", "shape.name")
    Traceback (most recent call last):
    biotilt.errors.ConfigError: shape.name: unknown shape "sqare"; did you mean "square"?
    """

    def __init__(
        self, kind: str, one: str, parts: Iterable[type[Any]] = (), *,
        lazy: Mapping[str, str] | None = None, own_files: bool = False, key: str = "name",
        make: Callable[[Any, Any], T] = lambda part, options: part(options),
    ) -> None:  # fmt: skip
        self.kind, self.one, self.own_files, self.key, self._make = kind, one, own_files, key, make
        self._lazy = {name: EntryPoint(name, place, f"biotilt.{kind}") for name, place in (lazy or {}).items()}
        self._parts: dict[str, type[T]] = {}
        self._points: dict[str, list[EntryPoint]] | None = None  # of plug-ins that are not loaded yet
        for part in parts:
            self.register(part)

    @overload
    def register(self, part: type[C]) -> type[C]: ...
    @overload
    def register(self, part: str) -> Callable[[type[C]], type[C]]: ...
    def register(self, part: Any) -> Any:
        """Register a class by its `name`, as a decorator: `@SAMPLERS.register`, or `@SAMPLERS.register("name")`.

        Raises ConfigError when another class has the name.
        """
        if isinstance(part, str):

            def named(kind: type[C]) -> type[C]:
                self._add(part, kind)
                return kind

            return named
        self._add(self._name(part), part)
        return part

    def __setitem__(self, name: str, part: type[T]) -> None:
        """Register a class; one that is defined again, as in a notebook, replaces itself."""
        self._add(name, part)

    def _add(self, name: str, part: type[Any]) -> None:
        """Register a class; that it is a T, the contracts test."""
        if not isinstance(part, type):
            raise ConfigError(f'{self.kind}: "{one_line(name)}" must be a class, got {shown(part)}')
        if self._name(part) != name:
            raise ConfigError(
                f'{self.kind}: {_place(part)} is registered as "{one_line(name)}" but calls itself '
                f'{self._called(part)}; give it {self.key} = "{one_line(name)}"'
            )
        there = self._parts.get(name)
        if there is not None and _place(there) != _place(part):
            raise ConfigError(f'{self.kind}: "{name}" is {_place(there)}; give {_place(part)} another name')
        self._parts[name] = part

    def __getitem__(self, name: str) -> type[T]:
        """Return a part, a plug-in's loaded first; KeyError when there is none of this name."""
        if name in self._found():
            self._load(name, self._found()[name])
        if name not in self._parts:
            raise KeyError(self._unknown(name))
        return self._parts[name]

    def __delitem__(self, name: str) -> None:
        del self._parts[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._parts, *sorted(self._found())])

    def __len__(self) -> int:
        return len(self._parts.keys() | self._found().keys())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._parts or name in self._found())

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self)})"

    @property
    def loaded(self) -> list[type[T]]:
        """The classes that are there without importing anybody's package now."""
        return list(self._parts.values())

    def find(self, name: Any, key: str = "") -> type[T]:
        """Return a part; ConfigError with the nearest name when there is none, after the `key` that named it.

        Raises ConfigError that says which package is at fault when a plug-in cannot be loaded or takes a name.
        """
        if name not in self:
            raise ConfigError(f"{key}: {self._unknown(name)}" if key else self._unknown(name))
        return self[name]

    def build(self, name: Any, options: Any, where: str = "", key: str = "") -> T:
        """Build a part from its options; errors name the `key` of its name, `where` its options are.

        Raises ConfigError for an unknown name, key or value.
        """
        part, kind = self.find(name, key), self.options_of(name, key)
        built = build_options(kind, options, where or f'{self.one} "{name}"')
        return built if kind is part else self._make(part, built)

    def options_of(self, name: Any, key: str = "") -> type:
        """Return the dataclass of a part's options: its `Options`, or itself; ConfigError when there is none."""
        part = self.find(name, key)
        return getattr(part, "Options", None) or part  # of whatever a stranger registers

    def of_table(self, table: Mapping[str, Any], where: str = "", default: str | None = None) -> T:
        """Build a part from a table that holds its name, if not the default one, beside its options."""
        options = dict(table)
        name = options.pop(self.key, default)
        return self.build(name, options, where, f"{where}.{self.key}" if where else "")

    def name_of(self, part: object) -> str | None:
        """Return the name of an object's own class; None where only a class that it derives from is registered."""
        name = self._name(type(part))
        return name if isinstance(name, str) and self.get(name) is type(part) else None

    def is_ours(self, name: str) -> bool:
        """Whether a name is that of a lazy part of ours, whose code is a part of biotilt and not somebody else's."""
        return name in self._lazy

    def summaries(self) -> dict[str, str]:
        """Return a line about each part, by name: what its file or its docstring says first."""
        return {name: self._about(part) for name, part in self.items()}

    def _about(self, part: type[T]) -> str:
        text = sys.modules[part.__module__].__doc__ if self.own_files else part.__doc__
        return next(iter((text or "").strip().splitlines()), "").strip()

    def _name(self, part: type) -> Any:
        return getattr(part, self.key, None)  # whatever a stranger registers

    def _called(self, part: type) -> str:
        name = self._name(part)
        return f'"{one_line(name)}"' if isinstance(name, str) else "nothing"

    def _unknown(self, name: Any) -> str:
        said = name if isinstance(name, str) else shown(name)
        return f'unknown {self.one} "{one_line(said)}"{suggest(said, self)}'

    def _found(self) -> dict[str, list[EntryPoint]]:
        """Return the entry points of plug-ins that are not loaded yet, by name; the disk is searched once."""
        if self._points is None:
            self._points = {name: [point] for name, point in self._lazy.items()}
            for point in entry_points(group=f"biotilt.{self.kind}"):
                self._points.setdefault(point.name, []).append(point)
        return self._points

    def _load(self, name: str, points: list[EntryPoint]) -> None:
        point, *others = points
        if others:
            both = " and ".join(_package(each) for each in points)
            raise ConfigError(f'{both} both register "{name}" among the {self.kind}; uninstall one')
        where = f"plug-in {point.value} of {_package(point)}"
        try:
            part = point.load()
        except Exception as error:  # whatever a stranger's import raises
            raise ConfigError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); mend or uninstall it"
            ) from error
        if self._parts.get(name, part) is not part:
            raise ConfigError(f'{where} registers "{name}" among the {self.kind}, but that name is taken')
        try:
            self[name] = part
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        del self._found()[name]


def _place(part: type) -> str:
    return f"{part.__module__}.{part.__qualname__}"


def _package(point: EntryPoint) -> str:
    if point.dist is None:
        return "biotilt" if point.value.startswith("biotilt.") else "a package"
    return point.dist.name
