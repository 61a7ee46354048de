"""What the mutations start from: tiny models, data and runs, made anew from fixed seeds in a second or two."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from click.testing import Result
from typer.testing import CliRunner

from biotilt import Experiment, Model, Run, tune
from biotilt.cli import app
from biotilt.core import Policy
from biotilt.networks import NETWORKS
from biotilt.plugins import REGISTRIES
from biotilt.processes import PROCESSES as REGISTERED
from biotilt.rewards.generic.learned import LearnedReward, Regressor, RegressorConfig
from biotilt.rewards.protein.secondary import SecondaryConfig, SecondaryNet, SecondaryPredictor
from biotilt.spaces import Padded, alphabet, as_space
from biotilt.tasks import TASKS, find_task
from biotilt.training import EachRound
from fuzzing.watch import Refused

LENGTH = 10
REWARD = "def count(designs):\n    return [float(d.count('G')) for d in designs]\n"
PROCESSES = {
    "any_order": {"per_step": 3},
    "masked": {"num_steps": 3},
    "uniform": {"num_steps": 3},
    "simplex": {"num_steps": 3},
}
OBJECTIVES = {"vidd": {"updates": 2, "states": 8}, "ppo": {"updates": 1}}
UNEXPECTED = 70  # exit code of a command that ends by an exception which is not ours


@dataclass(frozen=True)
class Kit:
    """`folder` holds the files; `starters` the texts of the tasks' experiments; `bases` trees of tiny experiments."""

    folder: Path
    starters: dict[str, str]
    bases: list[dict[str, Any]]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def make_kit(folder: Path) -> Kit:
    """Write all files into `folder`."""
    torch.set_num_threads(1)
    letters = random.Random(3)
    sequences = ["".join(letters.choices("ACGT", (4, 3, 1, 2), k=LENGTH)) for _ in range(60)]
    (folder / "reward.py").write_text(REWARD)
    rows = "".join(f"s{i},{s},{s.count('G') + i / 100}\n" for i, s in enumerate(sequences))
    (folder / "data.csv").write_text("name,sequence,load\n" + rows)
    (folder / "helix.pdb").write_text(_helix())
    (folder / "receptor.pdbqt").write_text(_receptor())
    (folder / "box.conf").write_text(
        "".join(f"{k}_{x} = {v}\n" for k, v in (("center", 0), ("size", 8)) for x in "xyz")
    )
    (folder / "ligand.sdf").write_text(_ligand())
    (folder / "known.csv").write_text("name,smiles\na,CCO\nb,c1ccccc1\n")
    _make_models(folder)
    bases = _bases(folder)
    (folder / "experiment.toml").write_text(_toml(bases[0]))
    (folder / "free.toml").write_text(_toml({key: value for key, value in bases[0].items() if key != "design"}))
    for name in OBJECTIVES:
        _make_runs(folder, name)
    return Kit(folder, {name: find_task(name).starter() for name in sorted(TASKS)}, bases)


def _make_models(folder: Path) -> None:
    for name, options in PROCESSES.items():
        _generator(folder / f"{name}.safetensors", name, options, as_space("dna"))
    _generator(folder / "padded.safetensors", "any_order", {"per_step": 4}, Padded(alphabet("protein"), 12))
    torch.manual_seed(0)
    config = RegressorConfig(letters=4, length=LENGTH, channels=4, layers=1, kernel=3, hidden=4, dropout=0.0)
    LearnedReward([Regressor(config), Regressor(config)], "dna", "judge", "1").save(folder / "oracle.safetensors")
    small = SecondaryConfig(channels=4, kernel=3, dilations=(1, 2))
    SecondaryPredictor([SecondaryNet(small)], "strands", "1").save(folder / "secondary.safetensors")


def _generator(path: Path, name: str, options: dict[str, Any], space: Any) -> None:
    torch.manual_seed(0)
    length, size = getattr(space, "length", LENGTH), len(space.symbols)
    time = name in ("uniform", "simplex")
    sizes = {"letters": size, "length": length}
    net = NETWORKS.build("cnn", sizes | {"channels": 4, "blocks": 1, "time": time})
    Model(Policy(REGISTERED.build(name, sizes | options), net), space).save(path)


def _bases(folder: Path) -> list[dict[str, Any]]:
    """Return tiny experiments whose keys and values are worth a change, beside those of the tasks."""
    common = {
        "alpha": 0.5,
        "seed": 1,
        "reward": {"kind": "python", "function": f"{folder / 'reward.py'}:count"},
        "held_out": {"kind": "learned", "path": str(folder / "oracle.safetensors")},
        "sampler": {"name": "smc"},
        "value": {"lr": 0.002, "imagine": 8, "keep": 8},
        "train": {"max_calls": 16, "batch": 8, "lr": 0.001, "schedule": "cosine", "warmup": 2, "ema": 0.9},
        "oracle": {"batch_size": 8, "retries": 1, "max_unscored": 0.5},
        "design": {"fixed": {"1-3": "GCC"}},
        "output": {"samples": 4},
    }
    parts = [
        {"kind": "gc", "options": {"low": 0.4, "high": 0.6}, "weight": 2.0},
        {"kind": "kozak", "range": [0.0, 1.0]},
    ]
    bound = {"kind": "upstream_aug", "at_least": -1.0, "name": "augs"}
    found = []
    for process, objective in zip((*PROCESSES, "any_order"), ("vidd", "ppo", "wdce", "ppo", "ppo")):
        options = {"name": objective} | OBJECTIVES.get(objective, {"updates": 1})
        model = {"path": str(folder / f"{process}.safetensors"), "process": dict(PROCESSES[process])}
        found.append(common | {"model": model, "objective": options})
    found[-1] |= {"reward": {"kind": "sum", "parts": parts}, "constraints": [bound], "lagrangian": {"draws": 8}}
    return found


def random_part(rng: random.Random, kind: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a part and its options at their defaults, and at a guess where there is none."""
    name, part = rng.choice(sorted((n, p) for n, p in REGISTRIES[kind].items() if is_dataclass(p)))
    options = {}
    for field in fields(part):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if default is None and rng.random() < 0.3:
            default = 0.5
        if field.init and default is not None and not field.name.startswith("_"):
            options[field.name] = "G" if default is MISSING else default
    return name, options


def _make_runs(folder: Path, objective: str) -> None:
    """Make a finished, evaluated run and one that was interrupted after its second round."""
    changes = {"objective": {"name": objective} | OBJECTIVES[objective], "train": {"max_calls": 24, "batch": 8}}
    base = {key: value for key, value in _bases(folder)[0].items() if key != "design"} | changes
    run = tune(Experiment.from_dict(base, folder), folder / f"finished_{objective}")
    run.evaluate()
    rounds = iter(range(2))

    def interrupt(row: Any) -> None:
        if next(rounds, None) is None:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        tune(Experiment.from_dict(base, folder), folder / f"unfinished_{objective}", callbacks=[EachRound(interrupt)])
    for run_folder in folder.glob("*finished_*"):
        shutil.rmtree(run_folder / "tensorboard", ignore_errors=True)


def run_command(*words: str) -> None:
    """Run a command line; Refused with what it said when it does not succeed, or when it said it wrongly."""
    words = tuple(str(word) for word in words)
    result = CliRunner().invoke(app, [*words, *_trust(words)])
    error = result.exception
    if result.exit_code == UNEXPECTED:
        error = CliRunner().invoke(app, [*words, *_trust(words), "--debug"]).exception or error
    if error is not None and not isinstance(error, SystemExit):
        raise error
    if result.exit_code == UNEXPECTED or "Traceback (most recent call last)" in result.stderr:
        raise Refused(result.stderr, "an exception that --debug does not show", not_ours=True)
    expected = "--json" in words and not _is_help(words) and (result.stdout or result.exit_code == 0)
    if expected and not _is_json(result):
        raise Refused(f"stdout: {result.stdout[:200]!r}", f"--json of {words[0]}: no document", not_ours=True)
    is_help = "Usage: " in result.stdout and not result.stderr  # which a command without any words shows
    if result.exit_code and not is_help:
        _, marked, message = result.stderr.rpartition("error: ")
        said = message if marked else result.stderr
        raise Refused(said, place_of_message(words, said))


def place_of_message(words: tuple[str, ...], said: str) -> str:
    return "console: usage" if said.lstrip().startswith("Usage") else f"message of {words[0] if words else 'biotilt'}"


def _is_help(words: tuple[str, ...]) -> bool:
    return "--help" in words or "--version" in words


def _is_json(result: Result) -> bool:
    try:
        json.loads(result.stdout)
    except ValueError:
        return False
    return True


@functools.cache
def _has_trust(command: str) -> bool:
    return "--trust" in CliRunner().invoke(app, [command, "--help"]).stdout


def _trust(words: tuple[str, ...]) -> tuple[str, ...]:
    """Folders of the kit are ours, whatever a mutation made of them."""
    runs_a_folder = words[:1] == ("evaluate",) or (words[:1] == ("tune",) and "--resume" in words)
    return ("--trust",) if runs_a_folder and _has_trust(words[0]) else ()


def trusting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is told to trust the folders it is given, where it asks."""
    asks = "trust" in inspect.signature(function).parameters
    return functools.partial(function, trust=True) if asks else function


def load_run(folder: Path) -> Run:
    return trusting(Run.load)(folder)


def shipped() -> list[Path]:
    """Return the generators that come with biotilt, of every space."""
    return [
        find_task(task).folder / "generator.safetensors"
        for task in ("utr", "utr_varying", "molecule", "rna_fold", "enhancer")
    ]


def _toml(tree: dict[str, Any]) -> str:
    from fuzzing.mutate import to_toml

    return to_toml(tree)


def _helix() -> str:
    """Return a PDB text of twelve residues in a line, with the atoms of a backbone."""
    import math

    lines, names = [], ("ALA", "GLY", "LEU", "LYS", "MET", "SER")
    for residue in range(12):
        for index, atom in enumerate(("N", "CA", "C", "O")):
            angle = math.radians(100 * residue + 25 * index)
            x, y, z = 2.3 * math.cos(angle), 2.3 * math.sin(angle), 1.5 * residue + 0.4 * index
            number, name = 4 * residue + index + 1, names[residue % 6]
            lines.append(
                f"ATOM  {number:5d}  {atom:<3s} {name} A{residue + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00 80.00           {atom[0]}  "
            )
    return "REMARK a helix\n" + "\n".join(lines) + "\nTER\nEND\n"


def _receptor() -> str:
    lines = [
        f"ATOM  {i + 1:5d}  C   ALA A{i + 1:4d}    {3.0 * (i % 3):8.3f}{3.0 * (i // 3):8.3f}{0.0:8.3f}"
        f"  1.00  0.00     0.100 C "
        for i in range(9)
    ]
    return "REMARK a receptor\n" + "\n".join(lines) + "\nTER\n"


def _ligand() -> str:
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    return Chem.MolToMolBlock(molecule) + "$$$$\n"
