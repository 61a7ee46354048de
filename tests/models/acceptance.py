"""What every family of pretrained models must go through: tuned with adapters, killed, resumed, loaded elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

import biotilt
import fresh_processes
from biotilt.training import EachRound

SAMPLE = (
    "import sys, biotilt; model = biotilt.load_model(sys.argv[1]);"
    "print(*map(model.space.key, model.sample(6, seed=4)), sep=chr(10))"
)


def check_whole(file: Path, *needed: str) -> None:
    """Tune the experiment of a file, stopped after its second round and resumed; load what came out elsewhere.

    The file of such a run holds all of the network: what the model was made of, `needed`, is deleted first.
    """
    folder, experiment = file.parent, biotilt.Experiment.load(file)
    experiment.model.check()
    whole = biotilt.tune(experiment, folder / "whole")

    def stop(row: Any) -> None:
        if row["round"] == 2:
            raise Killed

    try:
        biotilt.tune(experiment, folder / "cut", callbacks=[EachRound(stop)])
    except Killed:
        pass
    else:
        raise AssertionError("it was to be stopped")
    resumed = biotilt.resume(folder / "cut")
    files = [run.folder / "tuned.safetensors" for run in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    here = resumed.sample(4, seed=1)
    assert here == whole.sample(4, seed=1) != experiment.model.sample(4, seed=1)
    for name in needed:
        (folder / name).unlink()
    code = f"import biotilt; print(biotilt.load_model({str(resumed.folder)!r}).sample(4, seed=1))"
    done = fresh_processes.run("-c", code)
    assert done.stdout.strip() == repr(here), done.stderr


class Killed(BaseException):
    """Ends a run as a kill would."""


KEYS = """
alpha = 0.05

[model]
{model}
lora = {{ rank = 2 }}

[reward]
kind = "python"
function = "mine.py:share"

[objective]
name = "reward_weighted"
updates = 2
states = 8

[train]
max_calls = 16
batch = 8
lr = 0.02
"""


def check(model: str, folder: Path, letter: str = "", score: str = "d.count({letter!r}) / len(d)") -> list[Any]:
    """Tune the model of these keys of `[model]` for few calls toward a `letter`, and return designs of what came out.

    `score`: what is asked of a design `d` in its place.

    A run that is killed after its first round and resumed must be the one that was left alone, bit for bit; what it
    stored must be adapters alone, and give the same designs in a process of its own.
    """
    share = score.format(letter=letter)
    (folder / "mine.py").write_text(f"def share(designs):\n    return [{share} for d in designs]\n")
    (folder / "mine.toml").write_text(KEYS.format(model=model), encoding="utf-8")
    whole = biotilt.tune(folder / "mine.toml", folder / "whole")

    def kill(row: Any) -> None:
        raise Killed

    try:
        biotilt.tune(folder / "mine.toml", folder / "killed", callbacks=[EachRound(kill)])
    except Killed:
        pass
    else:
        raise AssertionError("it was to be killed")
    resumed = biotilt.resume(folder / "killed")
    files = [run.folder / "tuned.safetensors" for run in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    tuned, base = biotilt.load_model(files[1]), biotilt.Experiment.load(folder / "mine.toml").model
    names = [name for name, tensor in tuned.policy.net.named_parameters() if tensor.requires_grad]
    assert names and all("lora_" in name for name in names)
    assert any(bool(tuned.policy.net.get_parameter(name).any()) for name in names if "lora_B" in name)
    here = tuned.sample(6, seed=4)
    for seed in range(3):
        states = tuned.policy.process.noise(2, torch.Generator().manual_seed(seed))
        shown = tuned.policy.process.inputs(states, 0)
        with torch.no_grad():
            assert not torch.equal(tuned.policy.net(*shown), base.policy.net(*shown))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path)}
    done = fresh_processes.run("-c", SAMPLE, files[1], cwd=Path("/"), environment=environment)
    assert done.stdout.split() == [tuned.space.key(design) for design in here], done.stderr
    return here
