"""Eterna100: how many of 100 RNA design puzzles are solved with 10,000 folds each, by the `rna_fold` generator.

    python benchmarks/eterna100.py --data FOLDER --out benchmarks/results/eterna100.jsonl
    python benchmarks/eterna100.py --data FOLDER --out benchmarks/results/eterna100.jsonl --table
    python benchmarks/eterna100.py --data FOLDER --bound
    python benchmarks/eterna100.py --data FOLDER --published

FOLDER holds `eterna100_puzzles.tsv.gz` and `results.tsv.gz` (Koodli et al. 2021). Solved are its V1 targets under the
energies of ViennaRNA 1.8.5, as its "V1/Vienna1" columns state: Turner 1999 with dangles = 1. `--bound` folds the
sample solutions listed there under these settings, to see that they are the same; `--published` counts the same 100
targets in the published runs under these energies, of any trial. A puzzle is solved when the structure of least
energy is the target. A fold is one computation of that structure; a puzzle ends when solved, after `--folds` folds or
after `--seconds` of processor time, and its line says which. Shorter puzzles come first. A run that was stopped goes
on with the puzzles and seeds that have no line yet.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.core import kernel_at
from biotilt.model import Model
from biotilt.rewards.rna.folding import MFEMatch, fold_compound
from biotilt.spaces.paired import PAIRS, Paired, partners_of
from biotilt.tasks import find_task

ENERGIES: dict[str, Any] = {"parameters": "turner1999", "dangles": 1}
Row = dict[str, Any]


@dataclass(frozen=True)
class Folded:
    """A design under the energies of the benchmark; `cost` is 0 for a solved one, and positive otherwise."""

    tokens: Tensor
    rna: str
    partners: tuple[int, ...]
    cost: float
    wrong: tuple[int, ...]


class OutOfBudget(Exception):
    """The puzzle's folds or its time are spent."""


@dataclass
class Search:
    """Metropolis search whose proposals hide the tokens at mispaired positions and let the generator rewrite them.

    cost(x) = E(target | x) − E_min(x) + `weight` · #mispaired, kcal/mol; a rewritten design is accepted with
    min(1, exp(−Δcost / T)), T falling geometrically from `hot` to `cold` in a cycle of `cycle` folds; each further
    cycle goes on from the best so far or starts afresh, in turn. Proposals are drawn from the generator's
    p^(1/`sharpen`), `ahead` of them at once, which serve until one is accepted.
    """

    model: Model
    target: str
    seed: int
    max_folds: int
    max_seconds: float
    weight: float = 0.1
    hot: float = 0.4
    cold: float = 0.05
    cycle: int = 1500
    sharpen: float = 0.6
    starts: int = 8
    ahead: int = 6

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.space = Paired(self.target)
        self.goal = partners_of(self.target)
        model = self.model.for_target(self.target)
        self.policy = model.policy
        firsts = [i for i, j in enumerate(self.goal) if j < 0 or j > i]
        number = {i: token for token, i in enumerate(firsts)}
        self.token_at = [number[i if j < 0 else min(i, j)] for i, j in enumerate(self.goal)]
        self.folds = 0
        self.started = time.process_time()
        self.best: Folded | None = None

    def run(self) -> Row:
        """Search until solved or out of budget; return the line of the puzzle."""
        stopped = "solved"
        try:
            current = self._first()
            for number in range(1, 10**6):
                current = self._anneal(current)
                if not self._best.wrong:
                    break
                current = self._first() if number % 2 else self._best
        except OutOfBudget as reason:
            stopped = str(reason)
        solved = not self._best.wrong and MFEMatch(target=self.target, **ENERGIES)([self._best.rna]) == [1.0]
        return {
            "solved": solved,
            "stopped": stopped,
            "folds": self.folds,
            "mispaired": len(self._best.wrong),
            "gap": round(self._best.cost - self.weight * len(self._best.wrong), 2),
            "seconds": round(time.process_time() - self.started, 1),
            "rna": self._best.rna,
        }

    @property
    def _best(self) -> Folded:
        assert self.best is not None
        return self.best

    def _first(self) -> Folded:
        """Return the best of a few designs of the sharpened generator."""
        designs = []
        for _ in range(self.starts):
            hidden = torch.full((1, self.space.length), len(PAIRS), dtype=torch.int8)
            designs.append(self._fold(self._rewritten(hidden, per_step=max(self.space.length // 12, 1))))
            if not designs[-1].wrong:
                break
        return min(designs, key=lambda design: design.cost)

    def _anneal(self, current: Folded) -> Folded:
        proposals: list[Tensor] = []
        for step in range(self.cycle):
            if not current.wrong:
                break
            proposals = proposals or self._proposed(current)
            temperature = self.hot * (self.cold / self.hot) ** (step / self.cycle)
            proposal = self._fold(proposals.pop())
            change = proposal.cost - current.cost
            if change <= 0 or self.draws.random() < math.exp(-change / temperature):
                current, proposals = proposal, []
        return current

    def _fold(self, tokens: Tensor) -> Folded:
        if self.best is not None:
            if self.folds >= self.max_folds:
                raise OutOfBudget("folds")
            if time.process_time() - self.started > self.max_seconds:
                raise OutOfBudget("time")
        rna = self.space.decode_many(tokens)[0]
        compound = fold_compound(rna, **ENERGIES)
        structure, energy = compound.mfe()
        self.folds += 1
        partners = partners_of(structure)
        wrong = tuple(i for i, (one, other) in enumerate(zip(partners, self.goal)) if one != other)
        cost = compound.eval_structure(self.target) - energy + self.weight * len(wrong)
        design = Folded(tokens, rna, partners, cost if wrong else 0.0, wrong)
        if self.best is None or design.cost < self.best.cost:
            self.best = design
        return design

    def _proposed(self, current: Folded) -> list[Tensor]:
        """Return designs that differ in a few tokens around one mispaired position each."""
        x = current.tokens.repeat(self.ahead, 1)
        for row in x:
            focus = self.draws.choice(current.wrong)
            near = self._around(focus, current)
            count = min(int(self.draws.expovariate(0.9)), len(near))
            chosen = sorted({self.token_at[i] for i in [focus, *self.draws.sample(near, count)]})
            if self.draws.random() < 0.3:  # any letter, so that no design is out of reach
                row[chosen] = torch.randint(len(PAIRS), (len(chosen),), generator=self.generator, dtype=torch.int8)
            else:
                row[chosen] = len(PAIRS)
        x = self._rewritten(x, per_step=self.space.length)
        new = x[(x != current.tokens).any(1)]
        return list(new.split(1)) if len(new) else self._proposed(current)

    def _around(self, focus: int, current: Folded) -> list[int]:
        """Return positions close to a mispaired one, to its partner in the target, or to its false partner."""
        false_partner = current.partners[focus]
        centres = [focus, self.goal[focus], false_partner]
        if false_partner >= 0:
            centres.append(self.goal[false_partner])
        last = len(self.goal) - 1
        near = {i for c in centres if c >= 0 for i in range(max(c - 2, 0), min(c + 2, last) + 1)}
        return sorted(near - {focus})

    @torch.no_grad()
    def _rewritten(self, x: Tensor, per_step: int) -> Tensor:
        """Return states with the hidden tokens drawn from the sharpened generator."""
        process = replace(self.policy.process, per_step=per_step)  # type: ignore[type-var]
        while bool((x == len(PAIRS)).any()):
            kernel: Any = kernel_at(process, self.policy.net, x, 0)
            x = kernel.tilted(kernel.log_letters * (1 / self.sharpen - 1)).sample(self.generator)
        return x


def puzzles(data: Path) -> list[dict[str, str]]:
    """Return the rows of the benchmark, shortest target first."""
    with gzip.open(data / "eterna100_puzzles.tsv.gz", "rt", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    return sorted(rows, key=lambda row: len(row["Secondary Structure V1"]))


def bound(data: Path) -> str:
    """Return how many sample solutions of the benchmark fold into their targets under our settings."""
    solved, unlike = 0, []
    for row in puzzles(data):
        target, rna = row["Secondary Structure V1"], row["Sample Solution (V1/Vienna1)"]
        good = len(rna) == len(target) and MFEMatch(target=target, **ENERGIES)([rna]) == [1.0]
        solved += good
        if not good:
            why = "does not fold into its target" if len(rna) == len(target) else f'no sequence of its length: "{rna}"'
            unlike.append(f"  {row['Puzzle #']} {row['Puzzle Name']}: {why}")
    return "\n".join([f"{solved} of 100 sample solutions fold into their V1 target", *unlike])


def published(data: Path) -> str:
    """Return how many of the V1 targets each published algorithm solved under the same energies, in any trial."""
    targets = {row["Secondary Structure V1"] for row in puzzles(data)}
    solved: dict[tuple[str, str], set[str]] = {}
    with gzip.open(data / "results.tsv.gz", "rt", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            if row["Folder"] == "vienna1" and row["Target Structure"] in targets:
                names = solved.setdefault((row["Algorithm"], row["Variant"]), set())
                if row["Success"] and float(row["Success"]) > 0:
                    names.add(row["Target Structure"])
    counts = sorted(((len(names), *name) for name, names in solved.items()), reverse=True)
    return "\n".join(f"{count:>3} of {len(targets)}  {name} {variant}" for count, name, variant in counts)


def finished(out: Path) -> list[Row]:
    if not out.is_file():
        return []
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def waiting(data: Path, out: Path, seeds: list[int]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each seed and puzzle that has no line yet."""
    done = {(row["seed"], row["puzzle"]) for row in finished(out)}
    for seed in seeds:
        for row in puzzles(data):
            if (seed, row["Puzzle #"]) not in done:
                yield seed, row


def table(rows: list[Row]) -> str:
    """Return the count of each seed, of any seed, and what was not solved."""
    lines = []
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed]
        stopped = Counter(row["stopped"] for row in mine if not row["solved"])
        folds = sorted(row["folds"] for row in mine if row["solved"])
        lines.append(
            f"seed {seed}: {len(folds)} of {len(mine)} solved, median {folds[len(folds) // 2] if folds else 0} folds; "
            f"not solved: {stopped['folds']} out of folds, {stopped['time']} out of time"
        )
    solved = {row["puzzle"] for row in rows if row["solved"]}
    lines.append(f"any seed: {len(solved)} of {len({row['puzzle'] for row in rows})}")
    for row in sorted(rows, key=lambda row: (row["length"], row["seed"])):
        if not row["solved"]:
            lines.append(
                f"  seed {row['seed']} {row['puzzle']:>3} {row['name']} ({row['length']} nt): {row['mispaired']} "
                f"mispaired after {row['folds']} folds, {row['seconds']:.0f} s ({row['stopped']})"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/eterna100.jsonl"))
    parser.add_argument("--model", type=Path, default=None, help="another generator of rna_fold")
    parser.add_argument("--folds", type=int, default=10_000, help="of a puzzle")
    parser.add_argument("--seconds", type=float, default=120.0, help="of a puzzle")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--puzzles", nargs="+", help="numbers of the puzzles; all by default")
    parser.add_argument("--table", action="store_true", help="print what is in the file and end")
    parser.add_argument("--bound", action="store_true", help="fold the benchmark's sample solutions and end")
    parser.add_argument("--published", action="store_true", help="count the published solutions and end")
    options = parser.parse_args()
    if options.table or options.bound or options.published:
        print(table(finished(options.out)) if options.table else (bound if options.bound else published)(options.data))
        return
    torch.set_num_threads(1)
    model = Model.load(options.model or find_task("rna_fold").folder / "generator.safetensors")
    limits = {"max_folds": options.folds, "max_seconds": options.seconds}
    for seed, row in waiting(options.data, options.out, options.seeds):
        if options.puzzles and row["Puzzle #"] not in options.puzzles:
            continue
        target = row["Secondary Structure V1"]
        found = Search(model, target, seed, **limits).run()
        about = {"puzzle": row["Puzzle #"], "name": row["Puzzle Name"], "length": len(target), "seed": seed}
        line = json.dumps(about | found | {"max_folds": options.folds, "max_seconds": options.seconds})
        with options.out.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
