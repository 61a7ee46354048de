"""The page about models of one's own does what it says, from a folder outside the repository."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

import biotilt
import fresh_processes

PAGE = Path(__file__).parents[1] / "docs/bring_your_own_model.md"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(biotilt.__file__).parents[1])}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(folder: Path, *words: str) -> str:
    done = fresh_processes.run(*words, cwd=folder, environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for language in ("python", "toml"):
        code = blocks(language)[0]
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_its_files_and_commands_run(folder):
    for line in blocks("bash")[0].splitlines():
        program, *words = shlex.split(line)
        assert program == "biotilt"
        run(folder, "-m", "biotilt.cli", *words)
    assert (folder / "runs/mine/report.html").is_file()


@pytest.mark.slow
def test_its_other_blocks_run_as_one_session(folder):
    pytest.importorskip("transformers")
    pytest.importorskip("diffusers")
    (folder / "session.py").write_text("import biotilt\nimport torch\n\n" + "\n".join(blocks("python")[1:]))
    out = run(folder, "session.py")
    assert len(out.split("'")[1]) == 10
    assert out.splitlines()[-3] == "(16, 16, 1) True True"
    assert len(re.findall(r"liver|k562", out.splitlines()[-2])) == 4
    assert len(out.splitlines()[-1].split("'")[1]) == 12
