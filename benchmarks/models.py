"""Pretrained models people have, each by itself: parity, lines a user writes, load time, tune step, memory.

    python benchmarks/models.py --out FILE.jsonl
    python benchmarks/models.py --out FILE.jsonl --only esm

Weights are the public ones where they come with a package, else random ones of the published size (of DRAKES, that of
ProteinMPNN with 30 neighbours). `parity`: the largest difference of log-probabilities of hidden letters, on three
states of the same weights, to those of `against`: the original's code where it installs beside ours, else its equations
as the tests have them, in double precision; of images, of what the network says and of the mean of a step; of graphs,
of scores; of D3, of log ratios. `spread` is the standard deviation of those. `lines`: of the table `[model]`, without
the adapters.
`load_seconds`: from the file to a model. `step_seconds`: an update of adapters of rank 8 on 16 states
(`reward_weighted`, 32 bits), the mean of three after a first one. Both are seconds of the processor, of one thread.
`memory_mb`: the peak of a process that loads, draws 16 designs and tunes; of it, `idle_mb` were there before it loaded.
Lines that the file has already are not made again. Needs the extras `lora` and `dev`, transformers, and the package
proteinmpnn.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import model_graphs
from biotilt import Experiment, Model
from biotilt.assemble import load_base
from biotilt.config import ModelSection, parse_config
from biotilt.core import needed
from biotilt.core.space import Varying
from biotilt.models.convert import convert
from biotilt.networks import ScoreRatios
from biotilt.processes import Graph
from biotilt.processes.gaussian_chain import GaussianChain
from biotilt.processes.revealing import RevealingProcess
from biotilt.spaces.text import Text
from biotilt.wiring import build_trainer
from genmol_and_d3 import d3, d3_equations, genmol, genmol_of_transformers, ratios_said
from pipelines import pipeline, step_of_diffusers

ROOT = Path(__file__).parents[1]
ROWS, RANK, UPDATES = 16, 8, 3
TOLERANCE = 1e-4
LogProbs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A family: what `prepare(folder)` puts there is what a user has, and `section` is what he writes of it.

    `original(folder, model)` returns a function of states `(B, L)`, which gives the log-probabilities `(B, L, V)` of
    letters by `against`.
    """

    family: str
    weights: str
    section: str
    process: Mapping[str, float]
    reward: str
    prepare: Callable[[Path], None]
    against: str
    original: Callable[[Path, Model], LogProbs]


def symbols(model: Model) -> tuple[str, ...]:
    return needed(model.space, Text).symbols


def plain(name: str) -> ModuleType:
    """Return a module of tests/models/, which has the equations of a network."""
    if (folder := str(ROOT / "tests/models")) not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def by_inputs(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with matrices and kernels drawn anew, of variance 1 / inputs, so that depth changes little."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(old.shape, generator=generator) / old[0].numel() ** 0.5 if old.dim() > 1 else old
        for name, old in named.items()
    }


def esm(folder: Path, width: int, blocks: int) -> None:
    """Write a folder as Hugging Face has it, of random weights with the layout of ESM2."""
    import transformers
    from transformers.models.esm.configuration_esm import get_default_vocab_list

    torch.manual_seed(0)
    config = transformers.EsmConfig(
        vocab_size=33, mask_token_id=32, pad_token_id=1, layer_norm_eps=1e-5, position_embedding_type="rotary",
        token_dropout=True, hidden_size=width, num_hidden_layers=blocks, num_attention_heads=20,
        intermediate_size=4 * width, max_position_embeddings=1026,
    )  # fmt: skip
    transformers.EsmForMaskedLM(config).save_pretrained(folder / "esm")
    (folder / "esm/vocab.txt").write_text("\n".join(get_default_vocab_list()), encoding="utf-8")
    names = {f"{role}_token": f"<{role}>" for role in ("cls", "pad", "eos", "unk", "mask")}
    (folder / "esm/special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")


def esm_of_transformers(folder: Path, model: Model) -> LogProbs:
    import transformers
    from transformers.models.esm.configuration_esm import get_default_vocab_list

    net = transformers.EsmForMaskedLM.from_pretrained(folder / "esm").eval()
    vocabulary = get_default_vocab_list()
    ids = torch.tensor([*map(vocabulary.index, symbols(model)), vocabulary.index("<mask>")])

    def asked(x: Tensor) -> Tensor:
        ends = [torch.full((len(x), 1), vocabulary.index(end)) for end in ("<cls>", "<eos>")]
        logits = net(torch.cat([ends[0], ids[x.long()], ends[1]], 1)).logits[:, 1:-1]
        return logits[..., ids[:-1]].log_softmax(-1)

    return asked


def oadm_weights() -> dict[str, Tensor]:
    return by_inputs(plain("oadm").weights(width=1024, hidden=512, blocks=16))


def evodiff(folder: Path) -> None:
    torch.save({"model_state_dict": oadm_weights()}, folder / "oaar-38M.tar")
    convert("evodiff", folder / "oaar-38M.tar", folder / "evodiff.safetensors")


def evodiff_equations(folder: Path, model: Model) -> LogProbs:
    named, signs = oadm_weights(), [*symbols(model), "#"]
    letters = [plain("oadm").TOKENS.index(letter) for letter in symbols(model)]

    def asked(x: Tensor) -> Tensor:
        texts = ("".join(signs[token] for token in row) for row in x.tolist())
        return torch.stack([torch.from_numpy(plain("oadm").logits(named, text)[:, letters]) for text in texts])

    return lambda x: asked(x).log_softmax(-1)


def mdlm_weights() -> dict[str, Tensor]:
    return by_inputs(plain("mdlm").weights(0, width=128, stacks=4))


def mdlm(folder: Path) -> None:
    torch.save(mdlm_weights(), folder / "pretrained.ckpt")
    convert("mdlm_dna", folder / "pretrained.ckpt", folder / "mdlm.safetensors")


def mdlm_equations(folder: Path, model: Model) -> LogProbs:
    named, letters = mdlm_weights(), len(symbols(model))

    def asked(x: Tensor) -> Tensor:
        return plain("mdlm").log_posterior(named, x, torch.zeros(len(x)), stacks=4)[..., :letters]

    return asked


def backbone(folder: Path) -> None:
    """Put the structure of ubiquitin there."""
    source = ROOT / "src/biotilt/tasks/redesign/1ubq.pdb"
    (folder / "1ubq.pdb").write_bytes(source.read_bytes())


def proteinmpnn_package(folder: Path, model: Model) -> LogProbs:
    theirs = plain("test_proteinmpnn").Theirs(folder / "1ubq.pdb", "vanilla/v_48_020")
    letters = len(symbols(model))

    def asked(x: Tensor) -> Tensor:
        found = torch.zeros(*x.shape, letters)
        for row, state in enumerate(x):  # a hidden residue is decoded right after the known, in the order of the chain
            hidden = (state == letters).nonzero().flatten().tolist()
            known = (state != letters).nonzero().flatten().tolist()
            theirs.letters[0, known] = state[known].long()
            for place in hidden:
                others = [other for other in hidden if other != place]
                found[row, place] = theirs.forward([*known, place, *others])[place, :letters]
        return found.log_softmax(-1)

    return asked


def drakes_weights() -> dict[str, Tensor]:
    return plain("drakes").weights(0, width=128, layers=3)


def drakes(folder: Path) -> None:
    backbone(folder)
    torch.save({"model_state_dict": drakes_weights(), "num_edges": 30, "noise_level": 0.1}, folder / "if.pt")
    convert("proteinmpnn", folder / "if.pt", folder / "drakes.safetensors")


def drakes_equations(folder: Path, model: Model) -> LogProbs:
    from biotilt.rewards.protein.backbone import read_backbone

    named, letters, there = drakes_weights(), len(symbols(model)), read_backbone(folder / "1ubq.pdb")

    def asked(x: Tensor) -> Tensor:
        shown = torch.where(x == letters, plain("drakes").MASK, x.long())
        said = (plain("drakes").log_probs(named, there.atoms, there.place, there.chain_index, row, 30) for row in shown)
        return torch.stack([row[:, :letters] for row in said]).log_softmax(-1)

    return asked


ESM = 'source = "esm"\npath = "esm"\noptions = { length = 50 }'
CASES = [
    Case("esm (ESM2 8M)", "random", ESM, {"per_step": 25}, "net_charge", partial(esm, width=320, blocks=6),
         "transformers", esm_of_transformers),
    Case("esm (ESM2 35M)", "random", ESM, {"per_step": 25}, "net_charge", partial(esm, width=480, blocks=12),
         "transformers", esm_of_transformers),
    Case("evodiff (OADM 38M)", "random", 'source = "evodiff"\npath = "evodiff.safetensors"\noptions = { length = 50 }',
         {"per_step": 25}, "net_charge", evodiff, "equations", evodiff_equations),
    Case("mdlm_dna", "random", 'source = "mdlm_dna"\noptions = { weights = "mdlm.safetensors" }', {"num_steps": 4},
         "gc", mdlm, "equations", mdlm_equations),
    Case("proteinmpnn (v_48_020)", "public", 'source = "proteinmpnn"\noptions = { backbone = "1ubq.pdb" }',
         {"per_step": 25}, "net_charge", backbone, "its package", proteinmpnn_package),
    Case("proteinmpnn (DRAKES)", "random",
         'source = "proteinmpnn"\noptions = { backbone = "1ubq.pdb", weights = "drakes.safetensors" }',
         {"num_steps": 4}, "net_charge", drakes, "equations", drakes_equations),
    Case("diffusers (UNet, DDIM)", "random", 'source = "diffusers"\noptions = { path = "unet" }', {"num_steps": 4},
         "image_brightness", partial(pipeline, which="unet"), "diffusers", step_of_diffusers),
    Case("diffusers (DiT, flow, VAE)", "random", 'source = "diffusers"\noptions = { path = "dit" }', {"num_steps": 4},
         "image_brightness", partial(pipeline, which="dit"), "diffusers", step_of_diffusers),
    *(Case(*family) for family in model_graphs.FAMILIES),
    Case("genmol", "random", 'source = "genmol"\noptions = { weights = "genmol.safetensors", length = 50 }',
         {"per_step": 25}, "qed", genmol, "transformers", genmol_of_transformers),
    Case("d3 (K562)", "random", 'source = "d3"\noptions = { weights = "k562.safetensors" }', {"num_steps": 4}, "gc", d3,
         "equations", d3_equations),
]  # fmt: skip


def section(case: Case, folder: Path) -> dict[str, Any]:
    """Return the table `[model]` as a file in the folder says it."""
    keys = {"alpha": 1.0, "reward": {"kind": "gc"}, "model": tomllib.loads(case.section)}
    return parse_config(keys).model.model_dump(exclude_defaults=True)


def loaded(case: Case, folder: Path, **options: float) -> Model:
    said = section(case, folder)
    return load_base(ModelSection(**(said | {"options": said.get("options", {}) | options})), folder)


@torch.no_grad()
def parity(case: Case, folder: Path) -> dict[str, Any]:
    """Return the largest difference of log-probabilities of hidden letters, or of scores of graphs, of a few states."""
    colder = {"temperature": 1.0} if case.family.startswith("proteinmpnn") else {}  # the published default divides
    model = loaded(case, folder, **colder)
    process = model.policy.process
    if isinstance(process, GaussianChain):
        return step_parity(case, folder, model)
    if isinstance(process, Graph):
        x, hidden, ours = model_graphs.said(model)
    elif isinstance(model.policy.net, ScoreRatios):
        x, hidden, ours = ratios_said(model.policy.net)
    elif isinstance(process, RevealingProcess):
        generator, letters = torch.Generator().manual_seed(0), process.letters - isinstance(model.space, Varying)
        designs = torch.randint(letters, (3, process.length), generator=generator).to(process.token_type)
        x = process.hide(designs, torch.tensor([3, process.length // 2, process.length]), generator)
        ours, hidden = model.policy.net(*process.inputs(x, 0)).log_softmax(-1)[..., :letters], process.hidden(x)
    else:
        raise SystemExit(f"{case.family}: nothing is hidden in its states")
    theirs = case.original(folder, model)(x)
    found = (ours - theirs)[hidden].abs().max().item()
    if not found < TOLERANCE:
        raise SystemExit(f"{case.family}: what the networks say differs by {found}")
    return {"parity": found, "spread": theirs[hidden].std().item()}


@torch.no_grad()
def step_parity(case: Case, folder: Path, model: Model) -> dict[str, Any]:
    """Return the largest difference of what a network of images says, and of the mean of a step."""
    if model.policy.process.name == "flow_euler":  # whose scheduler is an ODE
        model = model.with_process(eta=0.0)
    process: Any = model.policy.process
    x = process.noise(3, torch.Generator().manual_seed(0))
    output = model.policy.net(*process.inputs(x, 0))
    ours = torch.cat([output, process.kernel_of(output, x, 0).mean], 1)
    theirs = case.original(folder, model)(x)
    found = (ours - theirs).abs().max().item()
    if not found < TOLERANCE:
        raise SystemExit(f"{case.family}: a step differs by {found}")
    return {"parity": found, "spread": theirs.std().item()}


def cost(case: Case, folder: Path) -> dict[str, Any]:
    """Return what loading and tuning take."""
    idle, began = peak(), time.process_time()
    model = loaded(case, folder)
    load = time.process_time() - began
    step = (seconds(case, folder, 1 + UPDATES) - seconds(case, folder, 1)) / UPDATES
    return {
        "numbers": sum(parameter.numel() for parameter in model.policy.net.parameters()),
        "length": len(model.policy.process.noise(1, torch.Generator())[0]), "load_seconds": round(load, 3),
        "step_seconds": round(step, 3), "memory_mb": round(peak()), "idle_mb": round(idle),
    }  # fmt: skip


def seconds(case: Case, folder: Path, updates: int) -> float:
    """Return what a round of so many updates takes."""
    tuned = section(case, folder) | {"lora": {"rank": RANK}, "process": dict(case.process)}
    keys = {
        "alpha": 0.1, "model": tuned, "reward": {"kind": case.reward},
        "objective": {"name": "reward_weighted", "updates": updates, "states": ROWS},
        "train": {"max_calls": ROWS, "batch": ROWS, "precision": "float32"},
    }  # fmt: skip
    trainer = build_trainer(Experiment.from_dict(keys, folder), None)
    began = time.process_time()
    trainer.run()
    return time.process_time() - began


def peak() -> float:
    """Return the largest this process became, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def prepared(case: Case, folder: Path) -> dict[str, Any]:
    case.prepare(folder)
    return {}


PARTS: dict[str, Callable[[Case, Path], dict[str, Any]]] = {"prepare": prepared, "cost": cost, "parity": parity}


def measured(case: Case) -> dict[str, Any]:
    """Return a line: each part in a process of its own, so that what others needed is in nobody's memory."""
    line: dict[str, Any] = {"family": case.family, "weights": case.weights, "against": case.against}
    line["lines"] = 1 + len(case.section.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            words = [sys.executable, __file__, "--case", case.family, "--part", part, "--folder", folder]
            one = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=one)
            line |= json.loads(done.stdout.splitlines()[-1])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a line of JSON a family, beside what is printed")
    parser.add_argument("--only", default="", help="families whose name has this")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.case is not None:
        (case,) = (case for case in CASES if case.family == given.case)
        print(json.dumps(PARTS[given.part](case, given.folder)))
        return
    out: Path | None = given.out
    known = out.read_text(encoding="utf-8").splitlines() if out is not None and out.exists() else []
    done = {json.loads(line)["family"] for line in known}
    for case in CASES:
        if given.only in case.family and case.family not in done:
            line = json.dumps(measured(case))
            print(line, flush=True)
            if out is not None:
                with out.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
