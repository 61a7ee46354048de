"""The layer table of the design: which part may import which. Imports are read from the source, not run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import biotilt

ROOT = Path(biotilt.__file__).parent
EVERYTHING = "everything"
FOR_ALL = {"atomic", "digits", "errors", "files", "options", "registry", "schema", "supervise"}
ALLOWED: dict[str, set[str] | str] = {
    "core": set(),
    "formulas": set(),
    "spaces": set(),
    "processes": {"core", "formulas"},
    "values": {"core", "formulas"},
    "networks": {"core"},
    "objectives": {"core", "formulas"},
    "samplers": {"core", "formulas"},
    "rewards": {"spaces"},
    "oracle": {"core", "spaces"},
    "training": {"core", "spaces", "oracle"},
    "constraints": {"core"},
    "evaluation": {"core", "spaces", "oracle", "formulas"},
    "report": {"core", "spaces", "oracle"},
    "testing": {"core", "formulas", "processes"},
    "tasks": EVERYTHING,
    "cli": EVERYTHING,
}
HEAVY = ("matplotlib", "pandas", "accelerate", "tensorboard")


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
    assert "accelerate" in loaded_by("import sys; sys.modules['accelerate'] = sys")
