"""A UNet and a DiT of diffusers, trained here on handwritten digits, and tuned by rewards with and without a gradient.

    python benchmarks/images.py --digits digits.safetensors --runs FOLDER --out FILE.jsonl
    python benchmarks/images.py --runs FOLDER --out FILE.jsonl --only dit --seeds 0 1

Digits are the 1,797 of 8×8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998): out of that package where it
is installed, else of a safetensors file with `images` `(N, 8, 8)` uint8 and `labels` `(N,)`. The first time two
pipelines are trained and written as diffusers writes them: a UNet with the DDPM scheduler, told nothing, by `pretrain`;
a DiT with the flow-matching scheduler, told the digit, with our loop of training. A classifier, fitted to the first
half of the digits, is the reward with a gradient (log p of a three, for the UNet), or judges; the size of the JPEG file
is the one without. Everything after that is `biotilt.tune` of `[model] source = "diffusers"` with adapters. One line a
run: medians of the rows and KL, seconds of the processor. Needs the extras `diffusers` and `lora`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import biotilt
from biotilt.errors import needs_extra
from biotilt.models.diffusers import Pipeline
from biotilt.rewards.image.classifier import fit_classifier
from biotilt.tensors import load_weights
from biotilt.training import PretrainConfig, pretrain
from biotilt.training.pretrain import learn
from pipelines import written

SIZE, CLASSES = 8, 10
STEPS = {"unet": 300, "dit": 450}  # of training, a minute or so of one thread each


def digits(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return images `(N, 8, 8, 1)` in [0, 1] and their digits, in an order that is drawn once."""
    if path is not None:
        found = load_weights(path)
        images, labels = found["images"].numpy() / 255, found["labels"].numpy()
    else:
        try:
            datasets: Any = import_module("sklearn.datasets")
        except ImportError:
            sys.exit("scikit-learn, which ships the digits, is not installed: name a file of them as --digits")
        images, labels = datasets.load_digits().images / 16, datasets.load_digits().target
    order = np.random.default_rng(0).permutation(len(images))
    images = np.rint(images[order] * 255) / 255
    return images[..., None].astype(np.float32), labels[order]


def unet() -> dict[str, Any]:
    diffusers: Any = needs_extra("diffusers", "diffusers")
    net = diffusers.UNet2DModel(
        sample_size=SIZE, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=8,
        block_out_channels=(24, 48), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=16,
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=200, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", clip_sample=True
    )
    return {"unet": net, "scheduler": scheduler}


def dit() -> dict[str, Any]:
    diffusers: Any = needs_extra("diffusers", "diffusers")
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=16, in_channels=1, out_channels=1, num_layers=4, sample_size=SIZE,
        patch_size=2, num_embeds_ada_norm=CLASSES,
    )  # fmt: skip
    return {"transformer": net, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler()}


def trained(name: str, folder: Path, images: np.ndarray, labels: np.ndarray, steps: int) -> dict[str, Any]:
    """Train a pipeline and write it; return what it took."""
    torch.manual_seed(0)
    parts = {"unet": unet, "dit": dit}[name]()
    written(folder.with_name(f"{name}-random"), **parts)
    model = Pipeline(str(folder.with_name(f"{name}-random"))).build()
    process: Any = model.policy.process
    model = model.with_process(num_steps=process.num_train_timesteps if name == "unet" else 100)
    process = model.policy.process
    states, classes = model.space.encode(list(images)), torch.from_numpy(labels)
    keep = len(states) - 200
    config = PretrainConfig(steps=steps, batch=64, lr=2e-3, warmup=100, check_every=max(steps // 10, 1))
    generator = torch.Generator().manual_seed(0)
    net: Any = model.policy.net

    def report(step: int, loss: float, bound: float) -> None:
        print(f"{name}: step {step}, {bits(loss)} and {bits(bound)} bits a pixel", file=sys.stderr, flush=True)

    began = time.process_time()
    if name == "unet":
        bound = pretrain(model.policy, states[:keep], states[keep:], config, generator, report)
    else:
        loss = told_loss(net, process, states[:keep], classes[:keep], config.batch, generator)

        def bound_of(average: Any) -> float:
            draws = torch.Generator().manual_seed(0)
            rest, told = states[keep:].repeat(4, 1), classes[keep:].repeat(4)
            return process.denoising_loss(lambda x, t: average(x, t, told), rest, draws).mean().item()

        bound = learn(net, loss, torch.no_grad()(bound_of), config, generator, report)
    parts[next(iter(parts))].load_state_dict(net.net.state_dict())
    written(folder, **parts)
    numbers = sum(p.numel() for p in net.parameters())
    return {"part": "trained", "model": name, "steps": steps, "numbers": numbers, "bits_a_pixel": bits(bound),
            "seconds": round(time.process_time() - began, 1)}  # fmt: skip


def bits(nats: float) -> float:
    """Return a bound in bits a pixel, whose range is 1 and not 2."""
    return round((nats / SIZE**2 - np.log(2)) / np.log(2), 3)


def told_loss(
    net: Any, process: Any, states: Tensor, classes: Tensor, batch: int, generator: torch.Generator
) -> Callable[[], Tensor]:
    """Return the loss of a batch that is told its classes, a tenth of it that of none."""

    def loss() -> Tensor:
        rows = torch.randint(len(states), (batch,), generator=generator)
        none = torch.rand(batch, generator=generator) < 0.1
        told = torch.where(none, CLASSES, classes[rows])
        return process.denoising_loss(lambda x, t: net(x, t, told), states[rows], generator).mean()

    return loss


THREE = {"kind": "image_class", "options": {"path": "classifier.safetensors", "category": "3"}}
JUDGE = {"kind": "image_class", "options": {"path": "judge.safetensors", "category": "3"}}
SIZE_OF_FILE = {"kind": "image_file_size", "options": {"format": "jpeg", "scale": 4}}
BRIGHTNESS = {"kind": "image_brightness"}


@dataclass(frozen=True)
class Case:
    """A pipeline, told a digit or nothing, a reward with its temperature, an objective and its learning rate."""

    model: str
    reward: dict[str, Any]
    alpha: float
    objective: str
    lr: float
    told: str | None = None

    @property
    def name(self) -> str:
        return f"{self.model}-{self.reward['kind']}-{self.objective}-{self.lr:g}"


CASES = (
    Case("dit", BRIGHTNESS, 0.02, "backprop", 3e-3, "3"),
    Case("unet", THREE, 1.0, "backprop", 3e-3),
    Case("unet", SIZE_OF_FILE, 10.0, "ppo", 3e-4),
    Case("unet", SIZE_OF_FILE, 10.0, "ppo", 1e-3),
    Case("unet", SIZE_OF_FILE, 10.0, "ppo", 3e-3),
    Case("dit", SIZE_OF_FILE, 10.0, "ppo", 1e-3, "3"),
    Case("unet", SIZE_OF_FILE, 10.0, "vidd", 1e-3),
    Case("unet", THREE, 1.0, "adjoint_matching", 3e-3),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "backprop": {"updates": 4},
    "adjoint_matching": {"updates": 8, "states": 128},
    "vidd": {"value": "return", "updates": 20, "states": 64},
}


def tuned(case: Case, runs: Path, seed: int, calls: int, num_steps: int) -> dict[str, Any]:
    """Tune a pipeline; return the medians of its rows."""
    keys: dict[str, Any] = {
        "alpha": case.alpha, "seed": seed, "reward": case.reward,
        "model": {"source": "diffusers", "options": {"path": case.model}, "lora": {"rank": 8},
                  "process": {"num_steps": num_steps}, **({"condition": case.told} if case.told else {})},
        "objective": {"name": case.objective, **OPTIONS.get(case.objective, {})},
        "train": {"max_calls": calls, "batch": 64, "lr": case.lr},
        "output": {"samples": 96},
    }  # fmt: skip
    if case.reward is THREE:
        keys["held_out"] = JUDGE
    place = runs / f"{case.name}-{seed}"
    began = time.process_time()
    run = biotilt.tune(biotilt.Experiment.from_dict(keys, runs), place)
    seconds = time.process_time() - began
    run.evaluate()
    rows = json.loads((place / "summary.json").read_text(encoding="utf-8"))["rows"]
    return {
        "part": "tuned", "case": case.name, "model": case.model, "reward": case.reward["kind"],
        "objective": case.objective, "seed": seed, "lr": case.lr, "alpha": case.alpha, "calls": calls,
        "steps": num_steps, "seconds": round(seconds, 1),
        "medians": {row["name"]: row["optimised"]["median"] for row in rows},
        "judge": {row["name"]: row["held_out"]["median"] for row in rows if row.get("held_out")},
        "kl": next(row["kl_policy_base"] for row in rows if row["name"] == "tuned"),
    }  # fmt: skip


def judged_by(images: np.ndarray, labels: np.ndarray, path: Path, seed: int) -> None:
    """Fit a classifier and write it, unless it is there."""
    if not path.exists():
        fit_classifier(list(images), labels.tolist(), steps=400, seed=seed).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=Path, help="file of the digits; default: out of scikit-learn")
    parser.add_argument("--runs", type=Path, required=True, help="folder of pipelines and runs")
    parser.add_argument(
        "--out", type=Path, required=True, help="lines of JSON; those that are there are not made again"
    )
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--calls", type=int, default=512)
    parser.add_argument("--num-steps", type=int, default=12, help="of the chain that is tuned")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs: Path = given.runs.absolute()
    runs.mkdir(parents=True, exist_ok=True)
    lines = given.out.read_text(encoding="utf-8").splitlines() if given.out.exists() else []
    done = [json.loads(line) for line in lines]

    def add(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    if not all((runs / name / "model_index.json").exists() for name in ("unet", "dit")):
        images, labels = digits(given.digits)
        half = len(images) // 2
        judged_by(images[:half], labels[:half], runs / "classifier.safetensors", 0)
        judged_by(images[half:], labels[half:], runs / "judge.safetensors", 1)
        for name in ("unet", "dit"):
            if not (runs / name / "model_index.json").exists():
                add(trained(name, runs / name, images, labels, STEPS[name]))
    known = {(line.get("case"), line.get("seed")) for line in done}
    for seed in given.seeds:
        for case in CASES:
            if given.only in case.name and (case.name, seed) not in known:
                add(tuned(case, runs, seed, given.calls, given.num_steps))


if __name__ == "__main__":
    main()
