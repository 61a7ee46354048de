"""Molecules as graphs and as SELFIES at equal oracle calls: best of N, SMC, SVDD, evolve, PPO and VIDD, base beside it.

    python benchmarks/graphs.py --out benchmarks/results/graphs.jsonl --rewards qed
    python benchmarks/graphs.py --out benchmarks/results/graphs.jsonl --rewards vina --data FOLDER --seeds 0
    python benchmarks/graphs.py --out benchmarks/results/graphs.jsonl --table

FOLDER has `receptors_mood/jak2.pdbqt.gz` (MOOD, Lee et al. 2023). The generators are those that ship: `graph` learned
QM9, at most nine atoms, and `generator` MOSES, about 21: what they reach is not to be compared, how far each goes
beyond its base is. Every method has at most `--calls` calls, of different molecules. SMC and SVDD ask about every
particle, or child, at every step: they draw the most designs, 1, 2, 4 and so on, for which that is enough. `scored` are
all molecules that cost a call, `designs` those that a method ends with: `--samples` draws of a tuned policy and of
the base, of best of N and evolve the best tenth. Graphs are tuned at a tenth of the default rate, which was chosen on
seed 0 of QED; `ppo_fast` is PPO at the default. Docking is by one short search (`max_evals`), a seed each. Seconds
are of the processor, of one thread. A line is one run; runs that are in the file already are not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from biotilt.core import Policy, sample
from biotilt.evaluation.mending import mending_measures
from biotilt.experiment import Experiment
from biotilt.oracle import Oracle, Store
from biotilt.spaces.molecules import tanimoto
from biotilt.steering import Steered, steer
from biotilt.wiring import build_trainer
from panel_methods import finite, ranked, steered

Row = dict[str, Any]
MODELS = {
    "graph": "@biotilt/tasks/molecule/graph.safetensors",
    "selfies": "@biotilt/tasks/molecule/generator.safetensors",
}
REWARDS = ("qed", "vina")
ALPHA = {"qed": 0.05, "vina": 0.3}
JAK2 = {"center": [114.758, 65.496, 11.345], "size": [19.033, 17.929, 20.283], "max_evals": 5000}
# of points no value of letters is to be had
VIDD: dict[str, Row] = {"graph": {"value": "return", "teacher": "sampled"}, "selfies": {}}
METHODS = ("base", "best_of_n", "smc", "svdd", "evolve", "ppo", "vidd", "ppo_fast")
TUNED = ("ppo", "vidd", "ppo_fast")
RATE = 1e-4  # of points, whose last steps are narrow: at the default, ten times that, tuning undoes the generator
TOP = 10


def experiment_of(case: Row, data: Path | None, sampler: Row | None = None) -> Experiment:
    """Return the experiment of a run: a generator, a reward and a method."""
    reward: Row = {"kind": case["reward"]}
    if case["reward"] == "vina":
        receptor = str(data) + "/receptors_mood/jak2.pdbqt.gz"
        reward |= {"options": JAK2 | {"receptor": receptor}}
    objective: Row = {"name": "ppo"}
    if case["method"] == "vidd":
        objective = {"name": "vidd"} | VIDD[case["model"]]
    slow = {"lr": RATE} if case["model"] == "graph" and case["method"] != "ppo_fast" else {}
    keys: Row = {
        "name": "graphs", "alpha": ALPHA[case["reward"]], "seed": case["seed"], "panel": "molecule",
        "model": {"path": MODELS[case["model"]]}, "reward": reward, "objective": objective,
        "train": {"max_calls": case["calls"], "batch": case["calls"] // 4} | slow,
    }  # fmt: skip
    return Experiment.from_dict(keys | ({} if sampler is None else {"sampler": sampler}), Path())


def base(case: Row, data: Path | None, samples: int) -> Row:
    experiment = experiment_of(case, data)
    return {"designs": drawn(experiment, experiment.model.policy, samples), "scored": {}}


def whole(name: str, options: Row | None = None) -> Callable[[Row, Path | None, int], Row]:
    """Return the method of a sampler that is told how many designs to ask about."""

    def run(case: Row, data: Path | None, samples: int) -> Row:
        kept = max(case["calls"] // 10, 1)
        sampler = {"name": name, "factor": case["calls"] / kept} | (options or {})
        experiment = experiment_of(case, data, sampler)
        found = steer(experiment, kept)
        return {"designs": found.designs, "scored": steered(experiment, found.store)}

    return run


def stepwise(name: str) -> Callable[[Row, Path | None, int], Row]:
    """Return the method of a sampler that asks at every step: the most designs that the calls are enough for."""

    def run(case: Row, data: Path | None, samples: int) -> Row:
        best: tuple[Experiment, Steered] | None = None
        for count in itertools.takewhile(lambda n: n <= case["calls"], (2**i for i in itertools.count())):
            experiment = experiment_of(case, data, {"name": name, "value": "posterior_mean"})
            found = steer(experiment, count)
            if found.calls > case["calls"]:
                break
            best = experiment, found
        if best is None:
            return {"designs": [], "scored": {}}
        experiment, found = best
        return {"designs": found.designs, "scored": steered(experiment, found.store)}

    return run


def tuned(case: Row, data: Path | None, samples: int) -> Row:
    experiment = experiment_of(case, data)
    trainer = build_trainer(experiment, None)
    policy = Policy(experiment.model.policy.process, trainer.run())
    assert isinstance(trainer.oracle, Oracle)
    scored = finite({row.design: row.score for row in trainer.oracle.ledger.rows()})
    return {"designs": drawn(experiment, policy, samples), "scored": scored}


HOW: dict[str, Callable[[Row, Path | None, int], Row]] = {
    "base": base, "best_of_n": whole("best_of_n"), "smc": stepwise("smc"), "svdd": stepwise("svdd"),
    "evolve": whole("evolve"), **dict.fromkeys(TUNED, tuned),
}  # fmt: skip


def drawn(experiment: Experiment, policy: Policy, count: int) -> list[str]:
    generator = torch.Generator().manual_seed(10_000 + experiment.config.seed)
    return experiment.model.decode(sample(policy, count, generator))


def run(case: Row, data: Path | None, samples: int) -> Row:
    """Do one run in memory, and judge its designs by its reward."""
    started = time.process_time()
    found = HOW[case["method"]](case, data, samples)
    seconds = time.process_time() - started
    designs: Sequence[str] = found["designs"]
    experiment = experiment_of(case, data)
    judged = designs if case["reward"] == "qed" else designs[: samples // 4]
    scores = (
        [] if not judged else experiment.oracles.of(experiment.reward, Store(None), "judging").score(judged).tolist()
    )
    known = [score for score in scores if math.isfinite(score)]
    best = [found["scored"][design] for design in ranked(found["scored"])]
    whole = [measure(designs) for measure in mending_measures(experiment.model.space)] if designs else []
    return case | {
        "designs": len(designs), "asked": len(found["scored"]), "seconds": seconds,
        "mean": statistics.fmean(known) if known else None,
        "best": best[0] if best else None, "top": statistics.fmean(best[:TOP]) if best else None,
        "valid_as_drawn": whole[0] if whole else None, "different": len(set(designs)) / max(len(designs), 1),
        "apart": tanimoto(list(dict.fromkeys(designs)))[0] if len(set(designs)) > 1 else None,
        "smiles": list(dict.fromkeys(str(design) for design in designs))[:5],
    }  # fmt: skip


HEADS = ("designs", "calls", "mean", "best", f"mean of the best {TOP}", "valid as drawn", "different", "apart", "s")


def table(results: Sequence[Row], reward: str, model: str) -> str:
    """Return a Markdown table, a line a method: means over seeds, and the range of the mean reward."""
    rows = [["method", *HEADS], ["---"] * (len(HEADS) + 1)]
    for method in METHODS:
        mine = [r for r in results if (r["reward"], r["model"], r["method"]) == (reward, model, method)]
        if mine:
            rows.append([f"`{method}`" + ("" if len(mine) > 1 else ", one seed"), *cells(mine)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(rows: Sequence[Row]) -> list[str]:
    def mean(key: str, digits: str) -> str:
        known = [row[key] for row in rows if row[key] is not None]
        return format(statistics.fmean(known), digits) if known else "–"

    means = [row["mean"] for row in rows if row["mean"] is not None]
    span = f" ({min(means):.3f} to {max(means):.3f})" if len(means) > 1 else ""
    return [
        mean("designs", ".0f"), mean("asked", ".0f"), mean("mean", ".3f") + span, mean("best", ".3f"),
        mean("top", ".3f"), mean("valid_as_drawn", ".0%"), mean("different", ".0%"), mean("apart", ".3f"),
        mean("seconds", ".0f"),
    ]  # fmt: skip


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of receptors")
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=["qed"])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--calls", type=int, default=256)
    parser.add_argument("--samples", type=int, default=256, help="draws of a policy that are judged")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, and stop")
    options = parser.parse_args()
    if options.table:
        for reward, model in itertools.product(REWARDS, MODELS):
            print(f"{reward}, {model}\n\n{table(read(options.out), reward, model)}\n")
        return
    torch.set_num_threads(1)
    done = {tuple(r[key] for key in KEYS) for r in read(options.out)}
    # a seed of all methods before the next one
    for seed, reward, model, method in itertools.product(
        options.seeds, options.rewards, options.models, options.methods
    ):
        case: Row = dict(zip(KEYS, (reward, model, method, seed, options.calls)))
        if tuple(case.values()) in done or (model == "selfies" and method == "ppo_fast"):
            continue
        line = json.dumps(run(case, options.data, options.samples))
        with options.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line[:200], flush=True)


KEYS = ("reward", "model", "method", "seed", "calls")

if __name__ == "__main__":
    main()
