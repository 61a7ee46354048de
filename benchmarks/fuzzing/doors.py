"""Where input comes in: each door takes a generator of random numbers, the kit and a folder of its own.

A door returns when the input was taken, and raises what the program raises.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import tomllib
from pathlib import Path
from typing import Any

from biotilt import Experiment, steer
from biotilt.check import check
from biotilt.evaluation.compare import aggregate, comparison, load_runs
from biotilt.model import Model
from biotilt.rewards.protein.pdb import read_pdb
from biotilt.rewards.registry import build
from biotilt.spaces import (
    alphabet,
    fixed_from_positions,
    numbers,
    parse_fixed,
    read_designs,
    write_designs,
)
from biotilt.spaces.paired import Paired
from biotilt.tasks import find_task
from fuzzing.doors_cli import cli
from fuzzing.doors_files import checkpoints, models, runs
from fuzzing.kit import Kit, random_part
from fuzzing.mutate import TEXTS, deep, mutate_bytes, mutate_lines, mutate_text, mutate_tree, odd, to_json, to_toml
from fuzzing.watch import Door

LARGEST = 1024  # a configuration that asks for more of anything is built, and not run: a long run is no fault
WORK = ("model", "objective", "sampler", "value", "train", "lagrangian", "output", "oracle")


def configurations(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Build experiments from mutated files, assignments and dictionaries; run those that are small."""
    path = folder / "experiment.toml"
    (tree, section), how = _tree(rng, kit), rng.random()
    if how < 0.2:
        path.write_bytes(_mutated_text(_starter(rng, kit), rng))
        experiment = Experiment.load(path)
    elif how < 0.7:
        path.write_text(to_toml(_mutated(tree, section, rng)), encoding="utf-8", errors="surrogateescape")
        experiment = Experiment.load(path)
    elif how < 0.8:
        path.write_text(to_toml(tree), encoding="utf-8")
        experiment = Experiment.load(path, overrides=[assignment(rng) for _ in range(rng.choice((1, 1, 2)))])
    else:
        experiment = Experiment.from_dict(_mutated(tree, section, rng), folder)
    if _is_small(experiment):
        _run(experiment, rng)


def _mutated(tree: dict[str, Any], section: str, rng: random.Random) -> Any:
    """Return the keys with a few changed anywhere, or, mostly, in one section: deep down are the most."""
    if rng.random() < 0.25:
        changed = mutate_tree(tree, rng)
        return changed if isinstance(changed, dict) else tree
    for key in ("options", "process"):
        inside = tree[section].get(key) if rng.random() < 0.8 else None
        if isinstance(inside, dict) and inside:
            return tree | {section: tree[section] | {key: _some_changed(inside, rng)}}
    return tree | {section: _some_changed(tree[section], rng)}


def _some_changed(options: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    if not options or rng.random() < 0.2:
        return mutate_tree(options, rng)
    key = rng.choice(sorted(options))
    changed = mutate_tree([options[key]], rng)
    return options | {key: changed[0] if isinstance(changed, list) and changed else odd(rng)}


def _run(experiment: Experiment, rng: random.Random) -> None:
    if rng.random() < 0.5:
        check(experiment, designs=4)
    else:
        steer(experiment, 4)


def _is_small(experiment: Experiment) -> bool:
    """Say whether an experiment is one of the kit's, here, of sizes that end in a second."""
    config = experiment.config.model_dump()
    reward = config["reward"]["kind"]
    slow = ("vina", "learned", "command", "log_probability", "plddt", "tm_score")
    sizes = [v for section in WORK for v in _numbers(config[section])]
    return (
        config["task"] is None and config["oracle"]["backend"] == "inline" and reward not in slow
        and experiment.model.policy.process.name in ("any_order", "masked", "uniform", "simplex")
        and all(abs(size) <= LARGEST for size in sizes if size == size)
    )  # fmt: skip


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list | tuple):
        return [n for v in (value.values() if isinstance(value, dict) else value) for n in _numbers(v)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _tree(rng: random.Random, kit: Kit) -> tuple[dict[str, Any], str]:
    """Return the keys of an experiment that works, or of one with any of the parts there are, and a section of it."""
    tree = copy.deepcopy(rng.choice(kit.bases))
    section, how = "train", rng.randrange(8)
    if how < 3:
        section = rng.choice(("reward", "reward", "held_out"))
        name, options = random_part(rng, "rewards")
        tree[section] = {"kind": name, "options": _with_files(options, kit)}
    elif how == 3:
        section = rng.choice(("objective", "sampler"))
        name, options = random_part(rng, f"{section}s")
        tree[section] = {"name": name} | options
    elif how == 4:
        tree = tomllib.loads(rng.choice(sorted(kit.starters.values())))
        design = {"fixed": {"1-3": "GCC"}, "scaffold": "*c1ccccc1", "target": "((((....))))"}
        tree["design"] = dict(rng.sample(sorted(design.items()), 1))  # type: ignore[arg-type]
    elif how == 5:
        section = "reward"
        kind = rng.choice(("sum", "product", "geometric_mean", "threshold", "log_probability"))
        parts = [{"kind": "gc", "options": {"low": 0.4}, "weight": 1.0, "units": "%"}, {"kind": "kozak", "repeats": 2}]
        tree["reward"] = {"kind": kind, "parts": parts if kind in ("sum", "product") else parts[:1]}
    elif how == 6:
        section = "model"
        name, options = random_part(rng, "processes")
        tree["model"]["process"] = {"name": name} | {key: options[key] for key in options if rng.random() < 0.3}
    else:
        section = rng.choice([key for key, value in tree.items() if isinstance(value, dict)])
    return tree, section


def _with_files(options: dict[str, Any], kit: Kit) -> dict[str, Any]:
    """Return the options of a reward with files that are there, where it reads any."""
    files = {"receptor": "receptor.pdbqt", "box": "box.conf", "file": "known.csv", "reference": "helix.pdb"}
    known = {key: str(kit / name) for key, name in files.items() if key in options}
    if "motifs" in options:
        known["motifs"] = ["GGG", "AATAAA"]
    return options | known


def assignment(rng: random.Random) -> str:
    """Return a text for `--set`."""
    keys = ("alpha", "seed", "train.lr", "train.batch", "objective.name", "objective.updates", "reward.options.low")
    keys += (
        "model.process.per_step",
        "oracle.workers",
        "design.fixed",
        "constraints",
        "a.b.c",
        "",
        ".",
        "train",
        "name",
    )
    value = rng.choice((str(odd(rng)), *TEXTS, "[1, 2", "{a = 1}", '"x', "1 # x", "1\nb = 2", "[" * 2000))
    return rng.choice((f"{rng.choice(keys)}={value}", value, f"{value}={value}"))[:6000]


def _starter(rng: random.Random, kit: Kit) -> str:
    """Return a task's starter file with a few of its examples switched on."""
    lines = rng.choice(sorted(kit.starters.values())).splitlines(keepends=True)
    start = rng.randrange(len(lines))
    for i in range(start, min(len(lines), start + rng.choice((0, 1, 5, 12)))):
        if " = " in lines[i] or "[" in lines[i]:
            lines[i] = lines[i].removeprefix("# ")
    return "".join(lines)


def _mutated_text(text: str, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return mutate_lines(text, rng).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    return mutate_bytes(text.encode(), rng)


def designs(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Read mutated files and texts of designs, molecules, structures, receptors, boxes and patterns."""
    rng.choice((_table, _table, _table, _molecules, _structure, _docking, _texts))(rng, kit, folder)


def _table(rng: random.Random, kit: Kit, folder: Path) -> None:
    name = rng.choice(("dna", "rna", "protein"))
    letters = alphabet(name).letters
    rows = ["".join(rng.choices(letters, k=rng.choice((1, 10, 10, 80)))) for _ in range(rng.choice((1, 3, 30)))]
    kind = rng.choice(("fasta", "csv", "tsv", "txt"))
    if kind == "fasta":
        text = "".join(f'>s{i} mouse load={i}.5 note="a b"\n{row}\n' for i, row in enumerate(rows))
    elif kind == "txt":
        text = "\n".join(rows) + "\n"
    else:
        mark = "," if kind == "csv" else "\t"
        text = f"name{mark}sequence{mark}load\n" + "".join(
            f"s{i}{mark}{row}{mark}{i}.5\n" for i, row in enumerate(rows)
        )
    suffix = kind if rng.random() < 0.8 else rng.choice(("fa", "FASTA", "csv", "tsv", "txt", "smi", "fas", "x", ""))
    path = _written(folder / f"designs.{suffix}", text, rng)
    records = read_designs(path, alphabet(name), column=rng.choice((None, None, "sequence", "x")))
    if records[0].values:
        numbers(records, rng.choice(("load", "x")), path)
    out = folder / f"out.{rng.choice(('fasta', 'csv', 'tsv', 'txt', 'csv.gz', 'x'))}"
    write_designs(out, records)
    read_designs(out, alphabet(name))


def _written(path: Path, text: str, rng: random.Random) -> Path:
    """Write a mutated text, sometimes packed with gzip before or after the mutation."""
    data = mutate_lines(text, rng).encode("utf-8", "surrogatepass") if rng.random() < 0.5 else text.encode()
    if rng.random() < 0.6:
        data = mutate_bytes(data, rng)
    if rng.random() < 0.15:
        path = path.with_name(path.name + ".gz")
        data = gzip.compress(data, mtime=0)
        data = mutate_bytes(data, rng) if rng.random() < 0.5 else data * rng.choice((1, 2))
    path.write_bytes(data)
    return path


def _molecules(rng: random.Random, kit: Kit, folder: Path) -> None:
    smiles = ["CCO", "c1ccccc1", "C[C@H](N)C(=O)O", "[Na+].[Cl-]", "C/C=C/C", "OC(=O)c1ccccc1"]
    kind = rng.choice(("csv", "txt", "smi"))
    header, line = ("name,smiles\n", "m,{}\n") if kind == "csv" else ("", "{} name\n" if kind == "smi" else "{}\n")
    path = _written(folder / f"known.{kind}", header + "".join(line.format(s) for s in smiles), rng)
    build("novelty", {"file": str(path)})(smiles)


def _structure(rng: random.Random, kit: Kit, folder: Path) -> None:
    path = _written(folder / "design.pdb", (kit / "helix.pdb").read_text(), rng)
    if rng.random() < 0.5:
        read_pdb(path)
    else:
        files = folder / "structures"
        files.mkdir()
        (files / "a.pdb").write_bytes((kit / "helix.pdb").read_bytes())
        options = {"model": rng.choice(("pdb", "predicted_pdb")), "path": str(files)}
        build("tm_score", options | {"reference": str(path), "chain": rng.choice(("A", "A", "B", ""))})(
            ["AGLKMSAGLKMS"]
        )


def _docking(rng: random.Random, kit: Kit, folder: Path) -> None:
    options: dict[str, Any] = {"receptor": str(kit / "receptor.pdbqt"), "box": str(kit / "box.conf")}
    key, name = rng.choice((("receptor", "receptor.pdbqt"), ("box", "box.conf"), ("ligand", "ligand.sdf")))
    if key == "ligand":
        del options["box"]
    options[key] = str(_written(folder / name, (kit / name).read_text(), rng))
    build("vina", options)


def _texts(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Patterns, structures and scaffolds that an experiment names."""
    text = mutate_text(rng.choice(("GCC.......", "ACGTN-....", "((((....))))", "*c1ccccc1", "C/C=C/[*:1]", "1-3")), rng)
    how = rng.randrange(6)
    if how == 0:
        parse_fixed(text, alphabet("dna"), len(text) if rng.random() < 0.5 else 10)
    elif how == 1:
        fixed_from_positions({text: "GCC", rng.choice(TEXTS): text}, alphabet("dna"), 10)
    elif how == 2:
        Paired(text)
    elif how == 3:
        Model.load(find_task("molecule").folder / "generator.safetensors").fixed(text, "scaffold")
    elif how == 4:
        build("substructure", {"smarts": text})(["CCO"])
    else:
        build("similarity", {"reference": text})(["CCO"])


def comparisons(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Compare runs whose summaries are mutated."""
    from fuzzing.doors_files import mutated_json

    for name in ("a", "b"):
        (folder / name).mkdir()
        summary = json.loads((kit / "finished_vidd" / "summary.json").read_bytes()) | {"seed": ord(name)}
        text = json.dumps(summary).encode()
        (folder / name / "summary.json").write_bytes(mutated_json(text, rng) if name == "a" else text)
    if rng.random() < 0.05:
        (folder / "a" / "summary.json").write_text(rng.choice(("[" * 100_000, to_json(deep(rng)))))
    found = load_runs([folder / "a", folder / "b"])
    comparison(found, rng.choice(("tuned", "base", "x")))
    aggregate(found)


DOORS: dict[str, Door] = {
    "configurations": configurations,
    "designs": designs,
    "models": models,
    "checkpoints": checkpoints,
    "runs": runs,
    "comparisons": comparisons,
    "cli": cli,
}
