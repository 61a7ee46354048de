"""The recipe of the shipped `protein` models: `python -m biotilt.tasks.protein.recipe --data FOLDER [--out FOLDER]`.

FOLDER holds `natural_50_150.csv.gz` (columns id, sequence) and `secondary_structure_50_150.csv.gz` (columns sequence,
ss3, split), both made of files of FLIP. The two predictors learn from disjoint halves of the training sequences with
labels, and are tested on the test sequences. No two parts share a word of ten residues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from biotilt.evaluation.words import as_numbers, best_word_model
from biotilt.files import write_json
from biotilt.fitting import Split, pretrain_model, state_of
from biotilt.model import Model
from biotilt.rewards.protein.secondary import SecondaryPredictor
from biotilt.spaces import PROTEIN, Padded
from biotilt.tasks.protein.corpus import labelled_parts, natural_sequences
from biotilt.tasks.protein.metrics import (
    Reference,
    composition_correlation,
    homopolymer_fraction,
    known_words_fraction,
    length_and_composition_nats,
    pair_correlation,
)
from biotilt.tasks.protein.oracles import ORACLES, fit_predictor, quality
from biotilt.tasks.protein.panel import MEASURES
from biotilt.training import PretrainConfig, resumable
from biotilt.training.pretrain import validation_bound

LONGEST = 150
SAMPLES = 1000
SPLIT = Split(validation=0.07, test=0.1, identity=None)  # the corpus has one sequence of each cluster

NOTES = [
    "Data: sequences and labels as distributed by FLIP (Dallago et al. 2021, AFL-3.0), from the PDB and UniProt; "
    "labels of NetSurfP-2.0 (Klausen et al. 2019).",
    "Both predictors read one sequence and no relatives of it: a share of strands is a guess from letters, not a fold.",
]
GOOD_FOR = "proteins of 50 to 150 residues, toward strands or helices, ProtParam properties, or a folded structure"
SHOWN = {
    "test_nats": "nats a protein, clusters it never saw",
    "test_nats_of_length_and_composition": "the same of lengths and residue frequencies",
    "composition_r": "amino-acid composition r, samples and real",
    "pair_r": "2-mer r, samples and real",
    "real_pair_r": "2-mer r, real training and real test",
    "known_words": "6-mers of samples that are in the training set",
    "valid": "of 50 to 150 residues",
}


def make_generator(sequences: list[str], out: Path, steps: int, device: str = "cpu") -> None:
    """Pretrain the generator and write it, with its card of likelihoods and the reference of the panel."""
    with resumable(state_of(out / "generator.safetensors")) as state:
        model, metrics = pretrain_model(
            sequences,
            Padded(PROTEIN, LONGEST, "right"),
            network={"channels": 80, "blocks": 8, "kernel": 5, "dilations": (1, 2, 4, 8)},
            process={"name": "any_order", "per_step": 10},
            config=PretrainConfig(steps=steps, batch=64, weight_decay=0.1, ema=0.99, check_every=100, bfloat16=True),
            split=SPLIT,
            device=device,
            report=lambda step, train, val: print(
                f"generator {step}: train {train:.2f} validation {val:.2f}", flush=True
            ),
            state=state,
        )
        print(metrics, flush=True)
        model.save(out / "generator.safetensors", half=True)


def describe_generator(sequences: list[str], out: Path) -> dict[str, float]:
    """Compare samples with real sequences that the generator never saw; write its card and the panel's reference."""
    model = Model.load(out / "generator.safetensors")
    train, validation, test = ([sequences[i] for i in rows] for rows in SPLIT.rows(len(sequences), 0))
    Reference.of(train).save(out / "reference.safetensors")
    reference, real = Reference.of(train), Reference.of(test)
    samples = model.sample(SAMPLES, seed=1)
    own, chosen_by, unseen = (as_numbers(part, PROTEIN.letters) for part in (train, validation, test))
    words = best_word_model(own, chosen_by, unseen, 20)
    metrics = {
        "train_designs": len(train),
        "validation_nats": validation_bound(model.policy, model.space.encode(validation)),
        "test_nats": validation_bound(model.policy, model.space.encode(test)),
        "test_nats_of_length_and_composition": length_and_composition_nats(train, test),
        "test_nats_of_words": words.nats + words.nats_of_lengths,
        "words_k": words.k,
        "composition_r": composition_correlation(samples, real),
        "pair_r": pair_correlation(samples, real),
        "real_pair_r": pair_correlation(train, real),
        "known_words": known_words_fraction(samples, reference),
        "real_known_words": known_words_fraction(test, reference),
        "homopolymers": homopolymer_fraction(samples),
        "real_homopolymers": homopolymer_fraction(test),
        "mean_length": sum(map(len, samples)) / SAMPLES,
        "real_mean_length": sum(map(len, test)) / len(test),
        "valid": sum(50 <= len(sample) <= LONGEST for sample in samples) / SAMPLES,
    }
    # of unseen natural proteins: what a design's value is to be compared with
    natural = {key: compute(test) for key, _, _, compute in MEASURES}
    write_json(out / "generator.json", {"metrics": metrics, "natural": natural, "notes": NOTES})
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=["generator", *ORACLES, "cards"], help="make one model, or the cards, only")
    parser.add_argument("--steps", type=int, default=1200, help="generator updates")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of each network of a predictor")
    parser.add_argument("--device", default="cpu", help="where networks learn; another one makes other models")
    options = parser.parse_args()
    sequences, parts = natural_sequences(options.data), labelled_parts(options.data)
    if options.only in (None, "generator"):
        make_generator(sequences, options.out, options.steps, options.device)
    for name in ORACLES:
        if options.only in (None, name):
            fitted = fit_predictor(name, parts[name], epochs=options.epochs, device=options.device)
            fitted.save(options.out / f"{name}.safetensors")
    if options.only not in (None, "cards"):
        return
    measured = describe_generator(sequences, options.out)
    shown = {label: measured[key] for key, label in SHOWN.items()}
    for name in ORACLES:
        about = {"sequences": len(parts[name]), "test_sequences": len(parts["test"])}
        scores = quality(SecondaryPredictor.load(options.out / f"{name}.safetensors"), parts["test"])
        write_json(options.out / f"{name}.json", {"metrics": about | scores, "notes": NOTES})
        shown |= {f"Q3 of {name}": scores["q3"], f"strand content r of {name}": scores["pearson_E"]}
    write_json(options.out / "quality.json", {"good_for": GOOD_FOR, "measured": shown})


if __name__ == "__main__":
    main()
