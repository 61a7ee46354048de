"""Any program as a reward: it is given a file of designs and asked for a file of scores.

No shell is started and no design ever stands on a command line: designs are read from a file, so nothing in them can be
taken for an option, a quote or another command.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from biotilt import supervise
from biotilt.digits import number
from biotilt.errors import ConfigError, DataError
from biotilt.files import read_text
from biotilt.options import PathText, Positive, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.generic.columns import Several, Source
from biotilt.spaces.tables import read_table

T = TypeVar("T")
DESIGNS, SCORES, FOLDER = "{designs}", "{scores}", "{folder}"
NO_SCORE = "the program gave no score"
LAST_LINES = 5  # of what a failed program printed
MOST_NAMED = 5  # ids in a message
COLUMN = "design"  # the second column of a CSV file of designs


class CommandFailed(Exception):
    """The program could not score a batch: no error of biotilt's own, so the oracle asks again one by one."""


@dataclass(frozen=True)
class Command(Several):
    """The scores that a program writes, one call for a batch of designs, in a temporary folder of the call.

    `command` is a list of words, or one text that is split as a shell splits it; no shell runs. In its words
    `{designs}` stands for the file of designs, `{scores}` for the file that the program is to write, and `{folder}` for
    the temporary folder, which is removed after the call. Files:

    * `designs_format`: "csv" with columns id, design; "fasta"; "txt", one design a line; "smi", a design and its id a
      line. The ids are 0, 1, 2, …
    * `scores_format`: "csv" with the columns `id` and `column` (any order, others are ignored), a row for each id;
      "txt", one number a line, in the order of the designs. `stdout` = true reads the same from what is printed.

    A design with an empty cell or line, or with a text that is no number, is not scored (NaN); "-inf" marks an
    infeasible one. An id that is unknown, repeated or missing fails the call, and so does a row with extra cells. With
    `timeout` (seconds a call), a program that takes longer is killed. All that a program started dies with it,
    daemons too on Linux, also when the process that asked for it is killed. `environment` is added to the variables of
    biotilt's own; `folder` is the working directory. `revision` is free: change it when the
    program's answers change for a reason that its file does not show. `name` is the reward's, shown in reports.

    `source()` gives every column of the "csv" but id and design, from one call: all `columns` where they are declared,
    else those that hold a number or nothing.

    The version hashes all options that can change a score, the program's file, and each file that a word of the
    command names.

    Raises ConfigError, when built, if the program is not there, the command does not mention `{designs}`, or a choice
    is unknown; `CommandFailed`, with the last lines that the program printed, when a call fails.

    >>> lengths = "import csv; print('id,score'); rows = csv.DictReader(open(r'{designs}'))\\n" + (
    ...     "for row in rows: print(row['id'], len(row['design']), sep=',')"
    ... )
    >>> Command(["python3", "-c", lengths], stdout=True)(["ACG", "A"])
    [3.0, 1.0]
    """

    command: Sequence[str] | str
    designs_format: Literal["csv", "fasta", "txt", "smi"] = "csv"
    scores_format: Literal["csv", "txt"] = "csv"
    stdout: bool = False
    column: str = "score"
    columns: Sequence[str] = ()
    timeout: Positive | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: PathText = "."
    revision: str = ""
    name: str = "command"
    units: str = ""

    differentiable = False
    batched = True

    def __post_init__(self) -> None:
        check_options(self, 'reward "command"')
        words = self._words
        if not words:
            raise ConfigError(f'reward "{self.name}": command is empty; write for example "score.py {{designs}}"')
        if not any(DESIGNS in word for word in words):
            raise ConfigError(f'reward "{self.name}": command must say where the file of designs goes: {DESIGNS}')
        if not self.stdout and not any(SCORES in word or FOLDER in word for word in words):
            raise ConfigError(
                f'reward "{self.name}": command must say where the file of scores goes, {SCORES}; or set stdout = true'
            )
        if not Path(self.folder).is_dir():
            raise ConfigError(f'reward "{self.name}": folder "{self.folder}" does not exist')
        self._program()

    @property
    def version(self) -> str:
        """A hash of the options and of the files that the command names, the program first, as they were at first."""
        return self._version

    @cached_property
    def _version(self) -> str:
        options = asdict(self)
        # where the folder lies, how long a call may take and what its result is called change no score
        for key in ("folder", "timeout", "name", "units", "columns"):
            del options[key]
        options["command"] = self._words
        files = [self._program(), *(Path(self.folder) / word for word in self._words[1:] if word)]
        # a program may be a link that is updated in place: the content decides, not the name
        content = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
        return f"1-{digest(json.dumps([options, content], sort_keys=True))}"

    def source(self) -> Source:
        """Return what gives all columns in one call."""
        if self.scores_format != "csv" or self.column != "score":
            raise ConfigError(
                f'reward "{self.name}": several columns need scores_format = "csv", and no column among the options: '
                "name it beside them"
            )
        return Source(self.rows, self.name, self.version, tuple(self.columns), reads="text")

    def __call__(self, designs: list[str]) -> list[float]:
        return self._called(designs, self._read)

    def rows(self, designs: list[str]) -> list[dict[str, float]]:
        """Return all columns of each design, from one call of the program."""
        return self._called(designs, self._read_rows)

    def _called(self, designs: list[str], read: Callable[[Path, int], list[T]]) -> list[T]:
        if not designs:
            return []
        for design in designs:
            _refuse(design, self.designs_format)
        with tempfile.TemporaryDirectory(prefix="biotilt-", ignore_cleanup_errors=True) as folder:
            given, asked = Path(folder, f"designs.{self.designs_format}"), Path(folder, f"scores.{self.scores_format}")
            _write(given, designs, self.designs_format)
            values = {DESIGNS: str(given), SCORES: str(asked), FOLDER: folder}
            printed = self._run([_filled(word, values) for word in self._words], Path(folder))
            if not self.stdout and not asked.is_file():
                raise CommandFailed(f"{self._words[0]} ended well but wrote no file {SCORES}")
            try:
                return read(printed if self.stdout else asked, len(designs))
            except DataError as error:  # none of biotilt's own: another design may fare better
                where = "its output" if self.stdout else SCORES
                reason = str(error).replace(str(printed if self.stdout else asked), where)
                raise CommandFailed(f"{self._words[0]} gave scores that cannot be read: {reason}") from None

    @property
    def _words(self) -> list[str]:
        return shlex.split(self.command) if isinstance(self.command, str) else [str(word) for word in self.command]

    def _program(self) -> Path:
        """Return the program's file; a name with a slash starts at the folder, another is looked up in PATH."""
        name = self._words[0]
        path = {**os.environ, **self.environment}.get("PATH")
        named = str((Path(self.folder) / name).resolve()) if "/" in name or os.sep in name else name
        found = shutil.which(named, path=path)
        if found is None:
            there = Path(self.folder, name).is_file()
            hint = (
                f"make {name} executable (chmod +x), write ./{name}, or start it by its interpreter"
                if there
                else "install it, or write its whole path"
            )
            raise ConfigError(f'reward "{self.name}": there is no program "{name}"; {hint}')
        return Path(found)

    def _run(self, words: list[str], folder: Path) -> Path:
        """Run the program to its end; return the file of what it printed."""
        printed, complaints = folder / f".stdout.{self.scores_format}", folder / ".stderr"
        # files, not pipes: a pipe that a child of the program keeps open would be waited for without end
        with printed.open("wb") as out, complaints.open("wb") as err:
            supervised = [sys.executable, "-I", "-S", supervise.__file__, str(self._program()), *words[1:]]
            process = subprocess.Popen(
                supervised, cwd=self.folder, env={**os.environ, **self.environment},
                stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
            assert process.stdin is not None
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise CommandFailed(f"{self._words[0]} took longer than {self.timeout:g} s") from None
            finally:
                process.stdin.close()  # the supervisor kills what still runs, and ends; also after Ctrl-C
                process.wait()
        if code != 0:
            said = (file.read_text(encoding="utf-8", errors="replace").strip() for file in (complaints, printed))
            last = "\n".join(next(filter(None, said), "it printed nothing").splitlines()[-LAST_LINES:])
            raise CommandFailed(f"{self._words[0]} ended with exit code {code}: {last}")
        return printed

    def _read(self, path: Path, count: int) -> list[float]:
        """Return the scores of a file."""
        if self.scores_format == "txt":
            return self._listed(path, count)
        return [_score(row[self.column]) for row in self._by_id(path, count, [self.column])]

    def _read_rows(self, path: Path, count: int) -> list[dict[str, float]]:
        """Return all columns of a file; a column of texts is none, unless it was declared."""
        rows = self._by_id(path, count, self.columns)
        names = list(self.columns) or [name for name in rows[0] if name not in ("id", COLUMN)]
        scores = {name: [_score(row[name]) for row in rows] for name in names}
        if not self.columns:
            texts = [
                name for name in names if all(map(math.isnan, scores[name])) and any(r[name].strip() for r in rows)
            ]
            scores = {name: column for name, column in scores.items() if name not in texts}
        return [{name: column[place] for name, column in scores.items()} for place in range(count)]

    def _listed(self, path: Path, count: int) -> list[float]:
        lines = read_text(path).split("\n")
        if not lines[-1]:
            lines.pop()  # what stands behind the last line end is no line
        while len(lines) > count and not lines[-1].strip():
            lines.pop()
        if len(lines) != count:
            raise CommandFailed(f"{self._words[0]} gave {len(lines)} lines of scores for {count} designs")
        return [_score(line) for line in lines]

    def _by_id(self, path: Path, count: int, columns: Sequence[str]) -> list[dict[str, str]]:
        """Return the rows of a file in the order of the designs; each id must be there once, and all `columns`."""
        header, rows = read_table(path)
        missing = [name for name in ("id", *columns) if name not in header]
        if missing:
            raise CommandFailed(f'{self._words[0]} gave scores without a column "{missing[0]}"; there is {header}')
        places = [_place(row["id"], count) for _, row in rows]
        times = Counter(places)
        faults = {
            "unknown": [row["id"].strip() for (_, row), place in zip(rows, places) if place is None],
            "repeated": [str(place) for place in range(count) if times[place] > 1],
            "missing": [str(place) for place in range(count) if not times[place]],
        }
        if wrong := [f"{what} {_named(ids)}" for what, ids in faults.items() if ids]:
            raise CommandFailed(f"{self._words[0]} must give each id from 0 to {count - 1} once; {', '.join(wrong)}")
        found = dict(zip(places, (row for _, row in rows)))
        return [found[place] for place in range(count)]


def _filled(word: str, values: Mapping[str, str]) -> str:
    for mark, value in values.items():
        word = word.replace(mark, value)
    return word


def _refuse(design: str, form: str) -> None:
    """Raise for a design that a file of this form would show as something else."""
    if "\n" in design or "\r" in design:
        raise CommandFailed(f"a design with a line break cannot stand in a file of lines: {design!r}")
    if (form == "fasta" and design.startswith(">")) or (form == "smi" and len(design.split()) != 1):
        raise CommandFailed(f"the design {design!r} cannot stand in a {form} file; use another designs_format")


def _write(path: Path, designs: Sequence[str], form: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        if form == "csv":
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("id", COLUMN))
            writer.writerows(enumerate(designs))
        else:
            line = {"fasta": ">{0}\n{1}\n", "smi": "{1}\t{0}\n", "txt": "{1}\n"}[form]
            file.writelines(line.format(place, design) for place, design in enumerate(designs))


def _score(text: str) -> float:
    if not text.strip():
        return NotScored(NO_SCORE)
    try:
        value = number(text)
    except ValueError:
        return NotScored(f'the program gave "{text.strip()[:80]}", which is no number')
    return NotScored("the program gave nan") if value != value else value


def _place(key: str, count: int) -> int | None:
    """Return the place of a design by its id, as "3", "3.0" or "03"; None when there is none."""
    try:
        value = number(key)
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value < count else None


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(f'"{key[:20]}"' for key in ids[:MOST_NAMED]) + more
