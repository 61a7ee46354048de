"""Doors of our own files: models, predictors, checkpoints, and the folders of runs."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import struct
from pathlib import Path
from typing import Any

from biotilt import Experiment, load_model, resume, steer, tune
from biotilt.model import Model
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.rewards.protein.secondary import SecondaryPredictor
from biotilt.tensors import load_tensors, save_tensors
from fuzzing.kit import LENGTH, OBJECTIVES, Kit, load_run, run_command, shipped, trusting
from fuzzing.mutate import deep, mutate_bytes, mutate_tensors, mutate_tree, odd, to_json


def mutated_json(text: bytes, rng: random.Random) -> bytes:
    """Return a JSON text with its tree or its bytes changed."""
    if rng.random() < 0.75:
        return to_json(mutate_tree(json.loads(text), rng)).encode("utf-8", "surrogatepass")
    return mutate_bytes(text, rng)


def mutate_safetensors(source: Path, target: Path, rng: random.Random) -> None:
    """Write `source` to `target` with its bytes, its header, its description or its tensors changed.

    Description and tensors are written as `save_tensors` writes them, so that only what they say is at fault.
    """
    how = rng.random()
    if how < 0.15:
        target.write_bytes(mutate_bytes(source.read_bytes(), rng))
    elif how < 0.35:
        target.write_bytes(_mutated_header(source.read_bytes(), rng))
    else:
        tensors, about = load_tensors(source)
        if how < 0.75:
            about = mutate_tree(about, rng)
        if how > 0.65:
            tensors = mutate_tensors(tensors, rng)
        try:
            save_tensors(target, tensors, about)
        except Exception:  # a description that JSON cannot hold, say: then the bytes are mutated instead
            target.write_bytes(_mutated_header(source.read_bytes(), rng))


def _mutated_header(data: bytes, rng: random.Random) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    how = rng.randrange(5)
    if how == 0:
        header = mutate_tree(header, rng)
    elif how == 1:
        header["__metadata__"] = {"biotilt": rng.choice(("", "{", "[]", "null", "1", to_json(deep(rng)), '"x"'))}
    elif how == 2:
        header["__metadata__"]["biotilt"] = mutated_json(header["__metadata__"]["biotilt"].encode(), rng).decode(
            "latin-1"
        )
    elif how == 3:
        name = rng.choice([key for key in header if key != "__metadata__"])
        header[name] = mutate_tree(header[name], rng)
    text = to_json(header).encode("utf-8", "surrogatepass")
    length = rng.choice((0, 1, size - 1, 2**31, 2**63, len(data))) if how == 4 else len(text)
    return struct.pack("<Q", length) + text + rest


def models(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Load mutated generators and predictors, draw from those that load, or score with them."""
    path = folder / "model.safetensors"
    how = rng.random()
    if how < 0.6:
        own = [kit / f"{name}.safetensors" for name in ("any_order", "masked", "uniform", "simplex", "padded")]
        mutate_safetensors(rng.choice(own if rng.random() < 0.8 else shipped()), path, rng)
        if rng.random() < 0.7:
            Model.load(path).sample(3, seed=1)
        else:
            base = kit.bases[0] | {"model": {"path": str(path)}}
            steer(Experiment.from_dict(base, folder), 4)
    elif how < 0.9:
        mutate_safetensors(kit / "oracle.safetensors", path, rng)
        reward = LearnedReward.load(path)
        if rng.random() < 0.5:
            reward(["ACGTACGTAC"[:LENGTH]])
        else:
            base = kit.bases[0] | {"reward": {"kind": "learned", "path": str(path)}}
            steer(Experiment.from_dict(base, folder), 4)
    else:
        mutate_safetensors(kit / "secondary.safetensors", path, rng)
        SecondaryPredictor.load(path)


def checkpoints(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Resume runs whose checkpoint is mutated, or that of another run."""
    name, other = rng.sample(sorted(OBJECTIVES), 2)
    run = folder / "run"
    shutil.copytree(kit / f"unfinished_{name}", run)
    for checkpoint in sorted(run.glob("checkpoint*")):
        if rng.random() < 0.1:
            shutil.copyfile(kit / f"unfinished_{other}" / "checkpoint.safetensors", checkpoint)
        else:
            mutate_safetensors(kit / f"unfinished_{name}" / "checkpoint.safetensors", checkpoint, rng)
    trusting(resume)(run)


def runs(rng: random.Random, kit: Kit, folder: Path) -> None:
    """Load, resume, evaluate and compare folders of which a file or two is missing, mutated or another's."""
    run = folder / "run"
    shutil.copytree(kit / f"{rng.choice(('finished', 'finished', 'unfinished'))}_{rng.choice(sorted(OBJECTIVES))}", run)
    for path in rng.sample(sorted(path for path in run.iterdir() if path.is_file()), rng.choice((1, 1, 1, 2))):
        _mutate_file(path, rng)
    verb = rng.choice(
        ("load", "load", "sample", "resume", "resume", "tune", "overwrite", "evaluate", "evaluate", "cli")
    )
    if verb == "load":
        load_run(run).sample(2)
    elif verb == "sample":
        load_model(run).sample(2)
    elif verb == "resume":
        trusting(resume)(run)
    elif verb in ("tune", "overwrite"):
        changes = {"objective": {"name": "vidd"} | OBJECTIVES["vidd"], "train": {"max_calls": 24, "batch": 8}}
        base = {key: value for key, value in kit.bases[0].items() if key != "design"} | changes
        tune(Experiment.from_dict(base, kit.folder), run, overwrite=verb == "overwrite")
    elif verb == "evaluate":
        load_run(run).evaluate(samples=3)
    else:
        run_command(*rng.choice((("tune", "--resume", run), ("compare", run, run), ("sample", run, "--count", "2"))))


def _mutate_file(path: Path, rng: random.Random) -> None:
    """Remove a file, cut it, put another, a folder or a link in its place, or change what is in it."""
    how = rng.random()
    if how < 0.06:
        path.unlink()
    elif how < 0.1:
        path.write_bytes(path.read_bytes()[: rng.choice((0, 1, path.stat().st_size // 2))])
    elif how < 0.15:
        other = rng.choice(sorted(other for other in path.parent.iterdir() if other.is_file()))
        path.write_bytes(other.read_bytes())
    elif how < 0.2:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
        else:
            path.symlink_to(rng.choice((path.name, "missing", "..")))
    elif path.suffix == ".json":
        path.write_bytes(mutated_json(path.read_bytes(), rng))
    elif path.suffix == ".safetensors":
        source = path.with_suffix(".source")
        path.rename(source)
        mutate_safetensors(source, path, rng)
        source.unlink()
    elif path.suffix == ".sqlite" and how < 0.8:
        _mutate_sqlite(path, rng)
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def _mutate_sqlite(path: Path, rng: random.Random) -> None:
    """Change rows, tables and the number of the layout, as a program that means no good would."""
    database = sqlite3.connect(path)
    try:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice(sorted(tables))
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        column, value = rng.choice(columns), _sql_value(rng)
        how = rng.randrange(6)
        if how == 0:
            database.execute(f'DELETE FROM "{table}" WHERE rowid % 2' if table == "x" else f'DELETE FROM "{table}"')
        elif how == 1:
            database.execute(f'DROP TABLE "{table}"')
        elif how == 2:
            database.execute(f"PRAGMA user_version = {rng.choice((0, 1, 3, 99, -1))}")
        elif how == 3:
            database.execute(f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO other')
        else:
            database.execute(f'UPDATE OR IGNORE "{table}" SET "{column}" = ?', (value,))
        database.commit()
    except sqlite3.Error:  # not every change can be made
        pass
    finally:
        database.close()


def _sql_value(rng: random.Random) -> Any:
    value = odd(rng)
    fits = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 2**63)
    return value if fits and not isinstance(value, bool) else rng.choice((None, b"\xff\x00", -1, 1e300, "x"))
