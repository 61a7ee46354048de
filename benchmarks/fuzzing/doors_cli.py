"""The door of the command line: every command, with odd options and paths."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from fuzzing.kit import Kit, run_command
from fuzzing.mutate import TEXTS

# no path at which a file could be written that does harm: /dev/null, for one, would be replaced
PATHS = ("", ".", "..", "missing", "missing/a.csv", "a" * 300, "a/" * 3000, "a\0b", "two\nlines.csv", "é.csv", "folder")
PATHS += (
    "/proc/self/x.csv",
    "/proc/version",
    "loop",
    "file/x.csv",
    "-",
    "\udcff.csv",
    "$HOME",
    "out.csv",
    "out.x",
    "~",
)
INTEGERS = ("-1", "0", "1", "3", "x", "", "1.5", "1e3", "nan", str(2**63), str(2**64), "9" * 5000, "١")
FLOATS = ("-1", "0", "0.5", "nan", "inf", "1e400", "x", "", "1,5")
WORDS = (
    "dna",
    "DNA",
    "protein",
    "x",
    "",
    "cnn",
    "mlp",
    "any_order",
    "masked",
    "simplex",
    "left",
    "both",
    "tuned",
    "load",
)


def cli(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Run a command that works, or one whose words are replaced, doubled, removed or swapped."""
    (folder / "folder").mkdir()
    (folder / "file").write_text("x")
    (folder / "loop").symlink_to("loop")
    words = list(rng.choice(_commands(kit, folder)))
    for name in {"finished_vidd", "unfinished_vidd"} & {Path(word).name for word in words if word.startswith("/")}:
        shutil.copytree(kit / name, folder / name)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        if words:
            _mutate(words, rng)
    if rng.random() < 0.3:
        words.append("--json")
    run_command(*words)


def _mutate(words: list[str], rng: random.Random) -> None:
    i = rng.randrange(len(words))
    how = rng.random()
    if how < 0.05:
        del words[i]
    elif how < 0.08:
        words.insert(i, words[rng.randrange(len(words))])
    elif how < 0.12:
        words.insert(i, rng.choice((*OPTIONS, *TEXTS)))
    elif how < 0.15:
        words[i] = rng.choice((*TEXTS, *PATHS))
    elif words[i].startswith("--"):
        _give(words, i + 1, _for(words[i], rng))
    elif i and words[i - 1].startswith("--"):
        words[i] = _for(words[i - 1], rng)
    elif i:
        words[i] = rng.choice(PATHS)
    else:
        words.append(rng.choice(tuple(OPTIONS)))
        words.append(_for(words[-1], rng))


def _give(words: list[str], i: int, value: str) -> None:
    if i < len(words):
        words[i] = value
    else:
        words.append(value)


OPTIONS = {
    **dict.fromkeys(("--seed", "--count", "--samples", "--max-calls", "--steps", "--members", "--epochs"), INTEGERS),
    **dict.fromkeys(("--batch", "--channels", "--blocks", "--per-step", "--num-steps"), INTEGERS),
    **dict.fromkeys(("--alpha", "--lr", "--validation", "--test"), FLOATS),
    **dict.fromkeys(("--out", "--folder", "--resume", "--proposal"), PATHS),
    **dict.fromkeys(("--alphabet", "--column", "--pads", "--network", "--process", "--schedule", "--row"), WORDS),
    # no task that there is: a demo as it comes takes minutes
    **dict.fromkeys(("--target", "--name", "--units", "--task"), WORDS),
    "--set": (
        "",
        "=",
        "a",
        "train.lr=x",
        "alpha=nan",
        "seed=" + str(2**64),
        "reward=1",
        "objective.name=ppo",
        "a.b=[[",
    ),
    "--fixed": ("GCC.......", "", ".", "x" * 10, "G" * 10, "é" * 10),
    "--overwrite": ("",),
    "--force": ("",),
    "--version": ("",),
    "--help": ("",),
    "--debug-not": ("",),
}


def _for(option: str, rng: random.Random) -> str:
    return rng.choice((*OPTIONS.get(option, TEXTS), rng.choice(TEXTS)))


def _commands(kit: Kit, folder: Path) -> list[tuple[str, ...]]:
    file, data = str(kit / "experiment.toml"), str(kit / "data.csv")
    run, other, unfinished = str(folder / "finished_vidd"), str(kit / "finished_ppo"), str(folder / "unfinished_vidd")
    model = str(kit / "any_order.safetensors")
    out = str(folder / "out")
    fit = ("--out", f"{out}.safetensors", "--alphabet", "dna", "--seed", "1")
    tuning = ("tune", file, "--folder", f"{out}-run", "--no-evaluate", "--seed", "1", "--alpha", "0.5")
    return [
        ("init", "utr", f"{out}.toml"),
        ("init", "molecule", f"{out}.toml", "--force"),
        ("check", file),
        ("check", file, "--set", "train.lr=0.01"),
        tuning,
        (*tuning, "--max-calls", "16"),
        ("tune", "--resume", unfinished, "--no-evaluate"),
        ("tune", "--resume", unfinished),
        ("sample", model, "--count", "3", "--out", f"{out}.fasta", "--seed", "1"),
        ("sample", run, "--count", "3", "--fixed", "GCC......."),
        ("steer", file, "--count", "3", "--out", f"{out}.csv", "--alpha", "0.5"),
        ("steer", str(kit / "free.toml"), "--count", "3", "--proposal", run),
        ("list",),
        ("task", "list"),
        ("compare", run, other, "--row", "tuned"),
        ("compare", run, other),
        ("pretrain", data, *fit, "--steps", "2", "--batch", "4", "--channels", "4", "--blocks", "1"),
        ("pretrain", data, *fit, "--steps", "2", "--process", "masked", "--num-steps", "3", "--pads", "right"),
        ("fit-oracle", data, "--target", "load", *fit, "--members", "1", "--epochs", "1"),
        ("demo", "--task", "x", "--folder", f"{out}-demo"),
        ("evaluate", run, "--samples", "3"),
    ]
