"""The recipe of the generator of graphs: `python -m biotilt.tasks.molecule.graph_recipe --data FILE`.

FILE holds the SMILES of QM9 (Ramakrishnan et al. 2014), a column `smiles` (`tests/test_sets/qm9.csv` of SELFIES 2.1 on
GitHub, also gzipped). A tenth of the molecules never trains. What is interrupted goes on when the command is run again:
what is reached is kept in the folder `--work`. It needs `pip install rdkit selfies fcd`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from biotilt.core import Policy
from biotilt.core.policy import sample
from biotilt.errors import ConfigError, DataError
from biotilt.files import read_json, read_text, write_json, write_text
from biotilt.model import Model
from biotilt.networks import NETWORKS
from biotilt.options import CountFrom0
from biotilt.processes import PROCESSES
from biotilt.schema import StoredTensors
from biotilt.spaces.graphs import Graphs, GraphsOptions
from biotilt.spaces.tables import read_table
from biotilt.spaces.told import DecodedText
from biotilt.tasks.molecule import card, quality
from biotilt.tasks.molecule.corpus import PARTS, Part, part_of
from biotilt.tensors import load_tensors, save_tensors
from biotilt.training import PretrainConfig, StateFile, pretrain
from biotilt.training.pretrain import validation_bound

NAME = "graph"
NETWORK: dict[str, Any] = {"name": "vector_mlp", "width": 320, "depth": 5}
PROCESS: dict[str, Any] = {
    "name": "graph", "num_steps": 50, "node_law": "vp", "edge_law": "vp", "node_range": (0.1, 20.0),
    "edge_range": (0.1, 20.0), "prediction": "x0",
}  # fmt: skip
TRAINING = PretrainConfig(steps=5_000, batch=256, lr=1.5e-3, ema=0.998, decay=0.8, check_every=500)
SAMPLES = 2000
VALIDATION = 1000
NOTES = [
    "Data: QM9 (Ramakrishnan R et al., Quantum chemistry structures and properties of 134 kilo molecules, Sci Data "
    "1:140022, 2014; CC0): molecules of up to nine atoms of C, N, O and F, without stereochemistry and zwitterions.",
    "QED, SA, logP and alerts are rules computed from the drawn structure, not measurements.",
]


class MoleculesFile(StoredTensors):
    """What a file of states says of itself."""

    kind: ClassVar[str] = "graphs of molecules"
    called: ClassVar[str] = "a corpus of graphs"

    space: GraphsOptions
    left_out: CountFrom0


@dataclass(frozen=True)
class Molecules:
    """States `(N, D)` of a space, of each its index in `PARTS` `(N,)`, and how many molecules did not fit."""

    space: Graphs
    states: Tensor
    part: Tensor
    left_out: int

    def rows(self, part: Part) -> Tensor:
        """Return the states of a part, float32."""
        return self.states[self.part == PARTS.index(part)].float()

    def save(self, path: Path) -> None:
        about = {"space": {"atoms": list(self.space.atoms), "nodes": self.space.nodes}, "left_out": self.left_out}
        save_tensors(path, {"states": self.states, "part": self.part}, {"kind": MoleculesFile.kind, **about})

    @classmethod
    def load(cls, path: Path) -> Molecules:
        tensors, about = load_tensors(path, MoleculesFile)
        return cls(Graphs.of_options(about.space), tensors["states"], tensors["part"], about.left_out)


def read_molecules(path: Path, space: Graphs) -> Molecules:
    """Read the SMILES of a table, each molecule once; those that a graph does not hold are left out.

    The hash of its canonical SMILES says in which part a molecule is: 90 % train, 2 % validate, 8 % are never seen.
    """
    _, rows = read_table(path)
    texts = [cells["smiles"].strip() for _, cells in rows]
    kept = space.fitting(texts)
    if not kept:
        raise DataError(f"{path}: no molecule that the graphs hold")
    encoded = space.encode(kept).to(torch.int8)
    first = {row.tobytes(): place for place, row in reversed(list(enumerate(encoded.numpy())))}
    states = encoded[sorted(first.values())]  # a molecule has one state
    parts = [PARTS.index(part_of(smiles)) for smiles in space.decode(states.float())]
    return Molecules(space, states, torch.tensor(parts, dtype=torch.int8), len(texts) - len(states))


@dataclass(frozen=True)
class GraphRecipe:
    """What is learned and measured, where files go, where what is reached is kept, and what computes."""

    molecules: Molecules
    out: Path
    work: Path
    training: PretrainConfig = TRAINING
    samples: int = SAMPLES
    device: str = "cpu"

    def policy(self) -> Policy:
        """Return a new network, with the same weights each time, and the process."""
        space, train = self.molecules.space, self.molecules.rows("train")
        counts = torch.bincount(train[:, -1].long(), minlength=space.nodes + 1)[1:]
        sizes = {"nodes": space.nodes, "features": len(space.atoms)}
        process = PROCESSES.of_table(PROCESS | sizes | {"counts": tuple((counts / counts.sum()).tolist())})
        torch.manual_seed(0)
        known = {"size": space.size} if NETWORK["name"] == "vector_mlp" else sizes
        return Policy(process, NETWORKS.of_table(NETWORK | known))

    def learn(self) -> None:
        """Train a network, from where it was interrupted, and write the generator and its figures so far."""
        policy = self.policy()
        train, validation = self.molecules.rows("train"), self.molecules.rows("validation")[:VALIDATION]
        bound = pretrain(
            policy, train, validation, self.training, torch.Generator(self.device).manual_seed(0),
            lambda step, loss, bound: print(f"{step}: train {loss:.2f} validation {bound:.2f}", flush=True),
            state=StateFile(self.work / f"{NAME}.state.safetensors", lambda step: print(f"going on after step {step}")),
        )  # fmt: skip
        Model(policy, self.molecules.space).save(self._file(".safetensors"), half=True)
        metrics = {"train_designs": len(train), "updates": self.training.steps, "validation_density_nats": bound}
        write_json(self._file(".json"), {"metrics": metrics, "notes": NOTES, "network": NETWORK})

    def draw(self) -> None:
        """Keep the states of samples that the generator draws."""
        model = Model.load(self._file(".safetensors"))
        policy = Policy(model.policy.process, model.policy.net.to(self.device))
        states = sample(policy, self.samples, torch.Generator(self.device).manual_seed(1))
        save_tensors(self._drawn, {"states": states.cpu()}, {"kind": "samples of graphs"})

    def describe(self) -> None:
        """Compare samples with molecules that never trained, and complete the figures and the text of the cards."""
        model, found = Model.load(self._file(".safetensors")), read_json(self._file(".json"))
        space = self.molecules.space
        drawn = space.decode(load_tensors(self._drawn)[0]["states"])
        unseen = self.molecules.rows("unseen")
        metrics = found["metrics"] | figures(drawn, space, space.decode(self.molecules.rows("train")))
        metrics |= self._beside(drawn, space.decode(unseen[torch.randperm(len(unseen), generator=_generator())]))
        metrics["unseen_density_nats"] = validation_bound(model.policy, unseen[:1000])
        found |= {"metrics": metrics}
        write_json(self._file(".json"), found)
        cards = self.out / "MODEL_CARDS.md"
        text = read_text(cards) if cards.is_file() else ""
        write_text(cards, card.with_section(text, f"{NAME}.safetensors", card.graph_section(found)))

    def _beside(self, drawn: list[str], real: list[str]) -> dict[str, float | None]:
        """Return FCD and diversity of samples, and of as many molecules that never trained."""
        real, more = real[: len(drawn)], real[len(drawn) : 2 * len(drawn)]
        statistics = quality.chemnet_statistics(real)
        return {
            "diversity": quality.diversity(drawn),
            "real_diversity": quality.diversity(real),
            "unseen_fcd": quality.chemnet_distance(drawn, statistics),
            "real_unseen_fcd": quality.chemnet_distance(more, statistics),
        }

    def _file(self, suffix: str) -> Path:
        return (self.out / NAME).with_suffix(suffix)

    @property
    def _drawn(self) -> Path:
        return self.work / f"{NAME}.drawn.safetensors"


def figures(drawn: Sequence[str], space: Graphs, training: Sequence[str]) -> dict[str, float | None]:
    """Return the figures of GDSS of designs as they were decoded.

    `valid_as_drawn`: no bond had to be taken away; of these, `connected` are of one part, and `charged` have an atom
    with one bond more than without charge. `valid`, `unique` and `novel` are of all, after correction.
    """
    whole = [design for design in drawn if space.mended(design) is False]
    parts = [design for design in whole if isinstance(design, DecodedText) and design.parts == 1]
    return {
        "samples": len(drawn),
        "valid_as_drawn": len(whole) / len(drawn),
        "connected": len(parts) / max(len(whole), 1),
        "charged": sum("+" in design for design in whole) / max(len(whole), 1),
        "valid": quality.validity(drawn),
        "unique": quality.uniqueness(drawn),
        "novel": quality.novelty(drawn, quality.keys(training)),
    }


def prepared(data: Path | None, work: Path) -> Molecules:
    """Return the corpus that is kept in `work`, made of the file of the data where there is none."""
    kept = work / f"{NAME}.corpus.safetensors"
    if not kept.is_file():
        if data is None:
            raise ConfigError(f"{kept} is not there yet, so --data must say what to make it of")
        read_molecules(data, Graphs(("C", "N", "O", "F"), 9)).save(kept)
    return Molecules.load(kept)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="table of SMILES of QM9")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--work", type=Path, default=Path("graph-training"), help="folder of what is reached")
    parser.add_argument("--only", choices=("learn", "draw", "cards"), nargs="+", default=["learn", "draw", "cards"])
    parser.add_argument("--steps", type=int, default=TRAINING.steps, help="updates")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="molecules that are compared")
    parser.add_argument("--device", default="cpu", help="where it learns and draws")
    options = parser.parse_args()
    recipe = GraphRecipe(
        prepared(options.data, options.work), options.out, options.work, replace(TRAINING, steps=options.steps),
        options.samples, options.device,
    )  # fmt: skip
    for stage, run in (("learn", recipe.learn), ("draw", recipe.draw), ("cards", recipe.describe)):
        if stage in options.only:
            run()


if __name__ == "__main__":
    main()
