"""Write the numbers of README.md and docs/ from the files that the commands of `make results` made.

    python benchmarks/pages.py           # after a change of a result file: rewrite the pages
    python benchmarks/pages.py --check   # say which pages differ, and exit with 1

In a page, `<!--=NAME ARGUMENTS-->text<!--/-->` is written anew by the function of that name below; everything else is
written by hand. So a number in a page is that of a file, and tests/test_pages.py compares them.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from page_tables import RESULTS, TABLES, lines, markdown

ROOT = Path(__file__).parents[1]
TASKS = ROOT / "src/biotilt/tasks"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = re.compile(r"<!--=(?P<made>.*?)-->(?P<text>.*?)<!--/-->", re.DOTALL)
ROWS = {"base": "base", "best_of_n": "best of N", "tuned": "tuned", "harvest": "harvest"}


def filled(text: str) -> str:
    """Return a page with everything between its marks written anew."""

    def anew(found: re.Match[str]) -> str:
        name, *arguments = shlex.split(found["made"])
        made = MAKERS[name](*arguments)
        made = f"\n\n{made}\n\n" if "\n" in made or made.startswith("- ") else made
        return f"<!--={found['made']}-->{made}<!--/-->"

    return MARK.sub(anew, text)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, a true minus sign and no exponent.

    >>> number(0.06149), number(-1234.5), number(7.9), number(None)
    ('0.0615', '−1,234', '7.90', '–')
    """
    if value is None:
        return "–"
    if value == 0 or isinstance(value, int):
        return f"{value:,.0f}".replace("-", "−")
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}".replace("-", "−")


def at(row: dict[str, Any], path: str) -> Any:
    """Return what stands at a path of keys, as `held_out.median`; None where there is nothing."""
    found: Any = row
    for key in path.split("."):
        found = None if found is None else found.get(key)
    return found


def demo_values(task: str, row: str, path: str) -> list[float]:
    found = [r for line in lines("demos.jsonl") if line["task"] == task for r in line["rows"] if r["name"] == row]
    return [value for r in found if (value := at(r, path)) is not None]


def demo(task: str, row: str, path: str) -> str:
    """Return a number of the demo, its mean over the seeds and their range: `demo utr tuned held_out.median`."""
    values = demo_values(task, row, path)
    if not values:
        return "–"
    low, mean, high = (number(v) for v in (min(values), statistics.fmean(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def demo_table(task: str, *columns: str) -> str:
    """Return the table of a task's demo; a column is `path=title`, a row of designs a column of the table."""
    rows = [row for row in ROWS if demo_values(task, row, "optimised.median")]
    table = [["", *(ROWS[row] for row in rows)]]
    for column in columns:
        path, _, title = column.partition("=")
        table.append([title, *(demo(task, row, path) for row in rows)])
    return markdown(table)


def demo_says(task: str) -> str:
    """Return the verdicts of the demo, one a seed."""
    found = [line for line in lines("demos.jsonl") if line["task"] == task]
    said = [(line["seed"], line["verdict"]["headline"], line["verdict"]["sentences"][0]) for line in found]
    return "\n".join(f"- seed {seed}: **{headline}** {sentence}" for seed, headline, sentence in said)


def demo_of(task: str, key: str) -> str:
    """Return what all runs of a demo share: alpha, calls, samples, objective, processor."""
    found = {json.dumps(line[key]) for line in lines("demos.jsonl") if line["task"] == task}
    values = [json.loads(text) for text in sorted(found)]
    return ", ".join(number(v) if isinstance(v, int) else f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def demo_seeds(task: str) -> str:
    """Return the seeds that were run, as `Seeds 0, 1 and 2`."""
    found = [str(line["seed"]) for line in lines("demos.jsonl") if line["task"] == task]
    return f"Seeds {', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else f"Seed {found[0]} alone"


def demo_minutes(task: str) -> str:
    """Return the minutes of tuning, as a range over the seeds."""
    minutes = [line["seconds"] / 60 for line in lines("demos.jsonl") if line["task"] == task]
    low, high = f"{min(minutes):.0f}", f"{max(minutes):.0f}"
    return low if low == high else f"{low} to {high}"


def shown(value: float, how: str) -> str:
    """Return a number as a mark asks: "%", or so many significant digits.

    >>> shown(0.39, "%"), shown(0.39, "3")
    ('39%', '0.390')
    """
    return f"{100 * value:.3g}%" if how == "%" else number(value, int(how))


def quality(task: str, label: str, how: str = "3") -> str:
    """Return the measured quality of a task's models, which its recipe wrote."""
    return shown(_json(TASKS / task / "quality.json")["measured"][label], how)


def card(task: str, model: str, path: str, how: str = "3") -> str:
    """Return a number of a model's card, which its recipe wrote."""
    return shown(at(_json(TASKS / task / f"{model}.json"), path), how)


def natural_value(key: str, how: str = "2") -> str:
    return shown(_json(RESULTS / "natural_strands.json")[key], how)


def melting_value(key: str, how: str = "2") -> str:
    return shown(_json(RESULTS / "melting_temperature.json")[key], how)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def example(name: str) -> str:
    """Return a file of examples/, whole."""
    text = (ROOT / "examples" / name).read_text(encoding="utf-8").rstrip()
    language = {"py": "python"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    return f"```{language}\n{text}\n```"


def output(name: str) -> str:
    """Return what a command printed, as it stands in a result file."""
    return f"```text\n{(RESULTS / name).read_text(encoding='utf-8').rstrip()}\n```"


MAKERS: dict[str, Callable[..., str]] = {
    "demo": demo,
    "demo_table": demo_table,
    "demo_says": demo_says,
    "demo_of": demo_of,
    "demo_minutes": demo_minutes,
    "demo_seeds": demo_seeds,
    "melting_value": melting_value,
    "natural_value": natural_value,
    "quality": quality,
    "card": card,
    "example": example,
    "output": output,
    **TABLES,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    changed = [page for page in PAGES if filled(text := page.read_text(encoding="utf-8")) != text]
    for page in changed:
        print(f"{page.relative_to(ROOT)} {'differs from' if options.check else 'rewritten from'} the result files")
        if not options.check:
            page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(1 if options.check and changed else 0)


if __name__ == "__main__":
    main()
