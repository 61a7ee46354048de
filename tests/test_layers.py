"""Which part may import which, and that none imports itself by a detour. Imports are read from the source, not run."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import biotilt
from biotilt import folder

ROOT = Path(biotilt.__file__).parent
EVERYTHING = "everything"
FOR_ALL = {
    *("atomic", "declared", "digits", "errors", "files", "folder", "loading", "options", "ranks", "registry", "schema"),
    *("supervise", "tensors"),
}
ALLOWED: dict[str, set[str] | str] = {
    "core": set(),
    "formulas": set(),
    "spaces": {"core"},
    "processes": {"core", "formulas"},
    "values": {"core", "formulas", "screens"},
    "networks": {"core"},
    "objectives": {"core", "formulas"},
    "samplers": {"core", "formulas"},
    "screens": {"core", "formulas"},
    "rewards": {"spaces"},
    "oracle": {"core", "spaces"},
    "training": {"core", "spaces", "oracle", "evaluation"},
    "constraints": {"core", "formulas"},
    "evaluation": {"core", "spaces", "oracle", "formulas"},
    "report": {"core", "spaces", "oracle", "evaluation"},
    "testing": {"core", "formulas", "processes", "spaces", "evaluation"},
    "models": EVERYTHING,
    "tasks": EVERYTHING,
    "cli": EVERYTHING,
}
HEAVY = ("matplotlib", "pandas", "transformers", "tensorboard")


def imported_modules(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import in a module of `package`, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from biotilt import core` names a part, `from biotilt.core import Policy` does not
            names = (f"{name}.{alias.name}" for alias in node.names) if name == "biotilt" else (name,)
            yield from ((node.lineno, full) for full in names)


def edges(name: str, path: Path, known: Mapping[str, Path]) -> dict[str, int]:
    """Return which of the `known` modules the one called `name` imports, and in which line.

    Imports inside functions, for type checkers and by `import_module("…")` count too. So does the package of another
    module, which Python imports with it; not a package that `name` itself lies in.
    """
    inside = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*inside[: len(inside) - node.level + 1]] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            named = [full if (full := f"{base}.{alias.name}") in known else base for alias in node.names]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func) and node.args:
            named = [str(getattr(node.args[0], "value", ""))]
        else:
            continue
        for full in named:
            packages = [full.rsplit(".", cut)[0] for cut in range(full.count("."))]  # itself, and all above it
            for module in packages:
                if module in known and module != name and not name.startswith(f"{module}."):
                    found.setdefault(module, node.lineno)
            if full in known and name.startswith(f"{full}."):
                found.setdefault(full, node.lineno)
    return found


def circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Return the modules of one circle of imports, the first again at its end; [] when there is none."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in graph[module]:
            if found := visit(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def named_modules(root: Path) -> dict[str, Path]:
    """Return every module of the package in `root`, by its dotted name."""
    files = sorted(root.rglob("*.py"))
    names = [".".join(file.relative_to(root.parent).with_suffix("").parts) for file in files]
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files)}


def test_no_module_imports_itself_by_a_detour():
    known = named_modules(ROOT)
    assert len(known) > 150
    graph = {name: edges(name, path, known) for name, path in known.items()}
    found = circle(graph)
    steps = [f"{a} line {graph[a][b]} imports {b}" for a, b in itertools.pairwise(found)]
    assert not found, "a circle of imports:\n" + "\n".join(steps)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from pack.b import x", "from pack.a import y"),
        ("from . import b", "def f():\n    from .a import y"),
        ("from pack.b import x", "if TYPE_CHECKING:\n    import pack.a"),
        ("import pack.b", "import_module('pack.a')"),
        ("from pack.sub.c import z", ""),
        ("from pack import thing", ""),
    ],
    ids=["two modules", "inside a function", "for type checkers", "by name", "the package of a module", "own package"],
)
def test_a_circle_is_seen(tmp_path, first, second):
    root = tmp_path / "pack"
    (root / "sub").mkdir(parents=True)
    thing = "from pack.a import thing" if first == "from pack import thing" else ""
    sources = {"__init__": thing, "a": first, "b": second, "sub/__init__": "from pack.a import y", "sub/c": "z = 1"}
    for name, source in sources.items():
        (root / f"{name}.py").write_text(source)
    known = named_modules(root)
    found = circle({name: edges(name, path, known) for name, path in known.items()})
    assert found and found[0] == found[-1] and "pack.a" in found


def test_what_is_no_circle():
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_one_module_knows_what_the_files_of_a_run_are_called():
    single = {value for key, value in vars(folder).items() if key.isupper() and isinstance(value, str)}
    names = {*single, *folder.TABLES.values()} - {folder.TENSORBOARD}  # also what the program is called
    assert len(names) == 18
    elsewhere = [
        f"{path.relative_to(ROOT)} line {node.lineno}: {node.value}"
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names and path.name != "folder.py"
    ]
    assert not elsewhere, "\n".join(elsewhere)


def violations(part: str, source: str, package: str) -> list[str]:
    """Return what a module of a part imports of ours and may not."""
    allowed = ALLOWED[part]
    found = []
    for line, name in imported_modules(source, package):
        top, _, rest = name.partition(".")
        if top == "biotilt" and allowed != EVERYTHING:
            other = rest.partition(".")[0]
            if other not in {part, *FOR_ALL, *allowed}:
                found.append(f"line {line}: {part} imports {name}")
    return found


def modules() -> list[tuple[str, Path]]:
    """Return (part, file) of every module inside a folder; modules at the top may import everything."""
    files = sorted(ROOT.rglob("*.py"))
    return [(p.relative_to(ROOT).parts[0], p) for p in files if p.parent != ROOT]


def test_every_module_at_the_top_is_described():
    table = (Path(__file__).parents[1] / "docs/design.md").read_text(encoding="utf-8")
    table = table.partition("The modules at the top")[2].partition("\n## ")[0]
    missing = [path.name for path in sorted(ROOT.glob("*.py")) if f"`{path.name}`" not in table]
    assert missing == ["__init__.py"], "say in docs/design.md what they do"


def test_every_folder_has_a_row_in_the_table():
    assert {part for part, _ in modules()} <= set(ALLOWED)
    assert len(modules()) > 30


@pytest.mark.parametrize("part", ALLOWED)
def test_layers(part):
    found = []
    for owner, path in modules():
        if owner == part:
            package = ".".join(["biotilt", *path.relative_to(ROOT).parent.parts])
            broken = violations(part, path.read_text(encoding="utf-8"), package)
            found += [f"{path.relative_to(ROOT)} {text}" for text in broken]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("objectives", "from biotilt.processes import AnyOrder"),
        ("objectives", "def f():\n    import biotilt.rewards.rna.properties"),
        ("objectives", "if TYPE_CHECKING:\n    from ..networks.mlp import MLP"),
        ("objectives", "from .. import training"),
        ("objectives", "from biotilt import Trainer"),
        ("core", "from biotilt.formulas.soft_rl import soft_return"),
        ("rewards", "from biotilt.core.policy import Policy"),
    ],
)
def test_a_violation_is_seen(part, source):
    assert len(violations(part, source, f"biotilt.{part}")) == 1


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (
            "objectives",
            "from .ppo import PPO\nfrom ..core import Context\nimport torch\nfrom biotilt import errors",
        ),
        ("evaluation", "from biotilt.formulas import categorical"),
        ("spaces", "from biotilt.errors import DataError\nfrom biotilt.files import write_text"),
        ("tasks", "from biotilt.experiment import Experiment"),
    ],
)
def test_what_is_allowed_passes(part, source):
    assert violations(part, source, f"biotilt.{part}") == []


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_biotilt_loads_nothing_heavy():
    assert loaded_by("import biotilt, biotilt.core, biotilt.objectives, biotilt.training, biotilt.report") == set()


def test_the_check_for_heavy_imports_can_fail():
    assert "transformers" in loaded_by("import sys; sys.modules['transformers'] = sys")
