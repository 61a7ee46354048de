"""A package that registers parts by entry points, as a stranger would write it: found, listed, used, and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = '''"""Parts of another package."""
from dataclasses import dataclass
from typing import ClassVar

from biotilt.samplers import Ancestral


class Twice(Ancestral):
    """Draws twice as many designs."""

    name: ClassVar[str] = "twice"

    def draw(self, context, count):
        return super().draw(context, 2 * count)


@dataclass
class CountA:
    """The number of A in a design."""

    factor: float = 1.0

    name: ClassVar[str] = "count_a"
    version: ClassVar[str] = "1"
    differentiable: ClassVar[bool] = False

    def __call__(self, designs):
        return [self.factor * d.count("A") for d in designs]
'''
REGISTERED = "[biotilt.samplers]\ntwice = strange_parts:Twice\n[biotilt.rewards]\ncount_a = strange_parts:CountA\n"


def install(folder: Path, entry_points: str, package: str = "strange-parts") -> None:
    """Lay a package and its metadata into a folder, as pip would."""
    (folder / "strange_parts.py").write_text(PARTS, encoding="utf-8")
    about = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def biotilt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "biotilt.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, cwd=folder)


def test_a_plug_in_is_listed_and_used(tmp_path):
    install(tmp_path, REGISTERED)
    listed = json.loads(biotilt(tmp_path, "list", "--json").stdout)
    assert listed["samplers"]["twice"] == "Parts of another package."
    assert listed["rewards"]["count_a"] == "The number of A in a design."
    (tmp_path / "e.toml").write_text(
        'task = "utr"\n[reward]\nkind = "count_a"\noptions = { factor = 2.0 }\n[held_out]\nkind = "none"\n'
        '[sampler]\nname = "twice"\n',
        encoding="utf-8",
    )
    done = biotilt(tmp_path, "steer", "e.toml", "--count", "3", "--json")
    found = json.loads(done.stdout)
    assert len(found["designs"]) == 6
    assert found["rewards"] == [2.0 * design.count("A") for design in found["designs"]]


@pytest.mark.parametrize(
    ("entry_points", "message"),
    [
        ("[biotilt.samplers]\nsmc = strange_parts:Twice\n", "that name is taken"),
        ("[biotilt.samplers]\nthrice = strange_parts:Twice\n", 'calls itself "twice"'),
        ("[biotilt.samplers]\ntwice = strange_parts:Nothing\n", "cannot be loaded"),
    ],
)
def test_a_faulty_plug_in_is_named(tmp_path, entry_points, message):
    install(tmp_path, entry_points)
    done = biotilt(tmp_path, "list")
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert message in said and "strange-parts" in said


def test_a_faulty_plug_in_harms_only_who_names_it(tmp_path):
    install(tmp_path, REGISTERED + "broken = strange_parts:Nothing\n[biotilt.samplers]\nbroken = no_such_package:A\n")
    (tmp_path / "e.toml").write_text(
        'task = "utr"\n[reward]\nkind = "count_a"\n[held_out]\nkind = "none"\n[sampler]\nname = "ancestral"\n',
        encoding="utf-8",
    )
    assert biotilt(tmp_path, "steer", "e.toml", "--count", "3", "--json").returncode == 0
    done = biotilt(tmp_path, "steer", "e.toml", "--set", "sampler.name=broken")
    assert "no_such_package:A of strange-parts cannot be loaded (ModuleNotFoundError" in " ".join(done.stderr.split())


def test_two_packages_that_take_one_name_are_both_named(tmp_path):
    install(tmp_path, REGISTERED)
    install(tmp_path, REGISTERED, "other-parts")
    said = " ".join(biotilt(tmp_path, "list").stderr.split())
    assert "strange-parts" in said and "other-parts" in said and 'both register "twice" among the samplers' in said
