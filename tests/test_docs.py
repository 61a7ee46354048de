"""What the pages say is so: their code runs, what they name exists, their numbers are current."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import fresh_processes

ROOT = Path(__file__).parents[1]
UTR = ROOT / "src/biotilt/tasks/utr"
CARDS = UTR / "MODEL_CARDS.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), CARDS]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

# Files that a user or a run makes: they are not in the repository.
MADE = re.compile(
    r"runs/|mine\.|oracle\.safetensors|.*left_to_right\.py|.*best_part\.py|.*rejection\.py|.*palindromes\.py|.*\.csv\.gz"
    r"|(model\.safetensors|config\.json)$"
)
FAILURES = "failures.csv"  # written only when a design could not be scored
TRACKED = {"history.jsonl", "trackers.json"}  # written by trackers other than the default one
RUN_FILES = {
    "experiment.json", "oracle.sqlite", "checkpoint.safetensors", "checkpoint.before.safetensors", "tensorboard/",
    "history.json", "oracle.json", "tuned.safetensors", "base.csv", "best_of_n.csv", "designs.csv", "designs.fasta",
    "harvest.csv", "summary.json", "report.html", ".lock",
}  # fmt: skip
KNOWN = RUN_FILES | {FAILURES} | TRACKED
SUFFIXES = "py|md|toml|txt|json|safetensors|html|png|csv|csv.gz|fasta|sqlite"

# The ready-made task with a run of seconds in place of minutes; what a page says itself still wins.
SMALL = """
import runpy, sys
from biotilt.keys import merge
from biotilt.tasks import Task
full = Task.defaults
small = {
    "objective": {"updates": 2, "states": 8},
    "value": {"imagine": 8, "keep": 8},
    "train": {"max_calls": 16, "batch": 8},
    "output": {"samples": 8},
}
Task.defaults = lambda self: merge(full(self), small)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Yield (number of lines before it, text) of each fenced block in a language."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield text[: found.start(1)].count("\n"), found[1]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/python.md", "docs/oracles.md", "docs/models.md", "docs/images.md"]
)
def test_python_blocks_run_in_order_as_one_session(name, tmp_path):
    lines: list[str] = []
    for start, code in blocks(ROOT / name, "python"):
        lines += [""] * (start - len(lines)) + code.splitlines()  # a traceback then shows the line of the page
    assert lines
    script, small = tmp_path / f"{Path(name).stem}.py", tmp_path / "small_tasks.py"
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    small.write_text(SMALL, encoding="utf-8")
    done = fresh_processes.run(small, script, cwd=tmp_path, environment=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    if name == "README.md":
        made = {f.name + "/" * f.is_dir() for f in (tmp_path / "runs/utr").iterdir()}
        assert made == RUN_FILES


def test_the_files_of_a_run_are_described():
    table = (ROOT / "docs/design.md").read_text(encoding="utf-8").partition("## The folder of a run")[2]
    described = {span for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for span in row.split("`")[1::2]}
    assert described == KNOWN


def test_toml_blocks_are_experiments():
    from biotilt.config import parse_config
    from biotilt.keys import merge
    from biotilt.reward_given import build_reward
    from biotilt.tasks import find_task

    pages = [ROOT / "README.md", ROOT / "docs/python.md"]
    found = [tomllib.loads(text) for page in pages for _, text in blocks(page, "toml")]
    assert len(found) > len(pages)
    for data in found:
        config = parse_config(merge(find_task(data["task"]).defaults(), data))
        assert build_reward(config.reward, ROOT / "examples", "reward")(["ACGT" * 12 + "AA"])


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/*.toml")), ids=lambda file: file.name)
def test_example_files_run_from_any_folder_and_stand_whole_in_the_readme(file, tmp_path, monkeypatch):
    from biotilt import Experiment

    monkeypatch.chdir(tmp_path)
    reward = Experiment.load(file).reward
    first, second = reward(["ACGT" * 11 + "GCCACC", "GGCACTTTTTGTGCC" + "A" * 29 + "GCCACC"])
    assert first != second
    assert f"```toml\n{file.read_text(encoding='utf-8').rstrip()}\n```" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("name", ["from_python.py", "my_score.py"])
def test_example_scripts_stand_whole_in_the_readme(name):
    text = (ROOT / "examples" / name).read_text(encoding="utf-8").rstrip()
    assert f"```python\n{text}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_page_advises_to_install_biotilt_from_an_index():
    for page in [*PAGES, *(ROOT / "src").rglob("*.toml"), *(ROOT / "src").rglob("*.py"), ROOT / "benchmarks/README.md"]:
        assert not re.search(r"pip install [\"']?biotilt", page.read_text(encoding="utf-8")), page


def test_the_example_runs_and_its_motif_stays():
    from biotilt import Experiment
    from biotilt.wiring import build_trainer

    small = ["objective.updates=2", "objective.states=8", "train.max_calls=16", "train.batch=8"]
    experiment = Experiment.load(ROOT / "examples/my_reward.toml", overrides=small)
    trainer = build_trainer(experiment, None)
    trainer.run()
    assert trainer.history[-1]["calls"] == 16
    assert all(design.endswith("GCCACC") for design in experiment.model.sample(20))


def test_the_example_finds_hairpins():
    from biotilt.rewards import load_function

    unpaired = load_function("my_reward.py:unpaired", ROOT / "examples")
    # GGCAC pairs with GTGCC; ACGT could pair with itself only, without a loop
    assert unpaired(["TTGGCACTTTTTGTGCCTT", "ACGT", "AAAAAA", ""]) == [-5.0, 0.0, 0.0, 0.0]


@each_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", prose(page)):
        target = link.partition("#")[0]
        assert "://" in link or (page.parent / target).exists(), f"{page.name} links to {link}"


@functools.cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def find(name: str, page: Path) -> Path | None:
    places = (ROOT, ROOT / "src/biotilt", page.parent)
    return next((place / name for place in places if (place / name).exists()), None)


@each_page
def test_files_and_tests_that_are_named_exist(page):
    for span in code_spans(page):
        name, _, test = span.partition("::")
        if not re.fullmatch(rf"[\w./-]+(/|\.({SUFFIXES}))", name) or name in KNOWN or MADE.match(name):
            continue
        path = find(name, page)
        assert path is not None, f"{page.name} names {name}"
        assert not test or test in functions(path), f"{page.name} names {span}"


def command_lines(page: Path) -> list[list[str]]:
    """Return the words of every `biotilt …` and `python -m …` in code spans and shell blocks."""
    lines = [line for _, text in blocks(page, "sh") for line in text.splitlines()] + code_spans(page)
    starts = (r"(?:\.venv/bin/)?biotilt [a-z]", "python -m biotilt")
    return [shlex.split(line, comments=True) for line in lines if re.match("|".join(starts), line)]


@each_page
def test_commands_and_their_options_exist(page):
    from typer.main import get_command

    from biotilt.cli import app

    for words in command_lines(page):
        command: Any = get_command(app)
        if words[0] == "python":
            assert find(words[2].replace(".", "/").replace("biotilt/", "") + ".py", page), words
            continue
        rest = words[1:]
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, f"{page.name}: {shlex.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, f"{page.name}: {shlex.join(words)}"


def test_the_readme_names_every_command_and_every_column():
    from typer.main import get_command

    from biotilt.cli import app
    from biotilt.evaluation.common import columns

    page = ROOT / "README.md"
    named = {words[1] for words in command_lines(page)}
    assert named == set(get_command(app).commands)  # type: ignore[attr-defined]
    table = prose(page).partition("### What the columns mean")[2].partition("\n## ")[0]
    headers = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    assert headers == ["column", *(column.header.replace("\u00a0", " ") for column in columns())]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line for _, text in blocks(page, "sh") for line in text.splitlines()] + code_spans(page)
    named = {line.split()[1] for line in lines if line.startswith("make ")}
    assert named and named <= targets


def test_every_part_has_a_section_and_every_option_is_explained():
    from biotilt.objectives import OBJECTIVES
    from biotilt.processes import PROCESSES
    from biotilt.samplers import SAMPLERS
    from biotilt.values import VALUES

    text = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8")
    chapters = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    sections = {
        chapter: {part.partition("\n")[0]: part for part in body.split("\n### ")[1:]}
        for chapter, body in chapters.items()
    }
    assert sections["Processes"].keys() == PROCESSES.keys()
    assert sections["Objectives"].keys() == OBJECTIVES.keys()
    values = {name: text for title, text in sections["Values"].items() for name in title.split(", ")}
    assert values.keys() == VALUES.keys()
    assert sections["Samplers"].keys() == SAMPLERS.keys()
    options: dict[type, str] = {kind: sections["Objectives"][name] for name, kind in OBJECTIVES.items()}
    options |= {kind: sections["Samplers"][name] for name, kind in SAMPLERS.items()}
    options |= {VALUES.options_of(name): values[name] for name in VALUES if name != "surrogate"}
    options |= {VALUES.options_of("surrogate"): chapters["Values"]}  # it has the options of the others besides its own
    for kind, section in options.items():
        missing = [field.name for field in fields(kind) if f"`{field.name}`" not in section]
        assert not missing, f"options of {kind.__name__} that docs/algorithms.md does not explain"


@pytest.mark.parametrize("model", ["generator", "optimised", "held_out"])
def test_the_model_cards_show_the_measured_numbers(model):
    card = json.loads((UTR / f"{model}.json").read_text(encoding="utf-8"))
    section = CARDS.read_text(encoding="utf-8").partition(f"## {model}.safetensors")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"\(`(\w+)`\) \| ([^|]+) \|", section))
    measured = card["metrics"] | {key: card[key] for key in ("calibration", "measured_max") if key in card}
    assert shown == {key: _rounded(value) for key, value in measured.items()}
    paragraph = section.partition("**How far from the best.**")[2].partition("\n\n")[0]
    for key in measured.keys() & {"random_test_r2", "human_test_r2"}:
        assert f"{measured[key]:.2f}" in re.findall(r"\d\.\d\d", paragraph)


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_rounded(part) for part in value)
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def test_the_cards_name_the_largest_measurement_of_the_task():
    from biotilt.tasks import find_task

    largest = max(json.loads((UTR / f"{m}.json").read_text())["measured_max"] for m in ("optimised", "held_out"))
    assert f"{largest:.2f}" == f"{find_task('utr').defaults()['reference']['measured_max']:.2f}"
    assert f"either oracle's data is {largest:.2f}." in " ".join(CARDS.read_text(encoding="utf-8").split())


def test_layer_tables_are_the_one_that_is_enforced():
    from test_layers import ALLOWED, EVERYTHING

    for page in (ROOT / "CONTRIBUTING.md", ROOT / "docs/design.md"):
        found: dict[str, set[str] | str] = {}
        for row in re.findall(r"^\| (`\w+/`.*) \|$", prose(page), re.MULTILINE):
            cells = row.split(" | ")
            for part in re.findall(r"`(\w+)/`", cells[0]):
                names = set(re.findall(r"`(\w+)`", cells[-1].partition(";")[0]))
                found[part] = EVERYTHING if cells[-1] == "everything" else names
        found.pop("tensorboard", None)  # the folder of a run, not a layer
        assert found == ALLOWED, page.name
