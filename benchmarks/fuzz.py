"""Odd input at every door: does anything but a message of one line come back?

    python benchmarks/fuzz.py --minutes 5 --seed 0
    python benchmarks/fuzz.py --cases 100 --seed 0 --json > found.json
    python benchmarks/fuzz.py --case models:0-17

Configurations, files of designs, models and predictors, checkpoints, folders of runs and command lines are mutated by
seed, each case from a seed of its own, so that `--case` repeats one by its name and shows its traceback. A case is
"fine" when the input was taken, "ours" when it was refused by a BiotiltError or a command's message of one line.
What should never be is reported with the innermost line of biotilt: "not_ours", any other exception; "lines", a message
of several lines; "hang", a case that computes for more than `--limit` seconds, or takes four times that by the clock.
The exit code is 1 when there was any.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.doors import DOORS
from fuzzing.kit import make_kit
from fuzzing.watch import Found, in_folder, run

# what takes long to import: once, and not in every child that runs some of the cases
SHARED = ("matplotlib.backends.backend_svg", "pandas", "meeko", "vina", "RNA", "biotite.structure.io.pdbx")
KINDS = ("fine", "ours", "not_ours", "lines", "hang")
FAULTS = KINDS[2:]


def cases(doors: list[str], seed: int, count: int | None, minutes: float | None) -> Iterator[str]:
    """Yield names of cases, one of each door in turn, `count` of each or as many as begin within `minutes`."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    for number in itertools.count() if count is None else range(count):
        for door in doors:
            if end is not None and time.monotonic() > end:
                return
            yield f"{door}:{seed}-{number}"


def summary(found: list[Found], doors: list[str]) -> dict[str, Any]:
    """Return counts by door and, for each place at fault, how often, and the first case and message."""
    counts: dict[str, dict[str, int]] = {door: dict.fromkeys(("cases", *KINDS), 0) for door in doors}
    places: dict[tuple[str, str], dict[str, Any]] = {}
    for one in found:
        door = one.case.partition(":")[0]
        counts[door]["cases"] += 1
        counts[door][one.kind] += 1
        if one.kind in FAULTS:
            first = {"kind": one.kind, "place": one.place, "count": 0, "case": one.case, "message": one.message}
            place = places.setdefault((one.kind, one.place), first | {"doors": []})
            place["count"] += 1
            place["doors"] = sorted({*place["doors"], door})
    slowest = max(found, key=lambda one: one.seconds, default=None)
    return {
        "cases": len(found),
        "counts": counts,
        "total": dict(sum((Counter(count) for count in counts.values()), Counter())),
        "distinct_places": len(places),
        "slowest": None if slowest is None else [slowest.case, round(slowest.seconds, 2)],
        "places": sorted(places.values(), key=lambda place: (place["kind"], place["place"])),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="how long to go on")
    parser.add_argument("--cases", type=int, help="in place of --minutes: so many cases at each door")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", action="append", choices=sorted(DOORS), help="only this one; may be repeated")
    parser.add_argument("--limit", type=float, default=15.0, help="seconds a case may compute")
    parser.add_argument("--case", metavar="DOOR:SEED", help="repeat one case and show its traceback")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        (made := Path(temporary) / "kit").mkdir()
        kit = make_kit(made)
        for name in SHARED:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        if options.case:
            print(in_folder(options.case, DOORS, kit, Path(temporary) / "case", show=True))
            return 0
        doors = options.door or list(DOORS)
        minutes = None if options.cases else options.minutes or 1.0
        names = cases(doors, options.seed, options.cases, minutes)
        found = list(run(names, DOORS, kit, Path(temporary) / "cases", options.limit))
    document = {"seed": options.seed, "minutes": minutes, **summary(found, doors)}
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        show(document)
    return 1 if document["places"] else 0


def show(document: dict[str, Any]) -> None:
    """Print the counts as a table, and the places below it."""
    columns = ("cases", *KINDS)
    print(f"{'':<16}" + "".join(f"{column:>10}" for column in columns))
    for door, count in [*document["counts"].items(), ("total", document["total"])]:
        print(f"{door:<16}" + "".join(f"{count.get(column, 0):>10}" for column in columns))
    for place in document["places"]:
        print(
            f"{place['kind']:<9} {place['count']:>4}  {place['place']}  {place['case']}\n    {place['message'][:160]!r}"
        )


if __name__ == "__main__":
    sys.exit(main())
