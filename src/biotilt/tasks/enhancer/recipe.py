"""The recipe of the shipped `enhancer` models: `python -m biotilt.tasks.enhancer.recipe --data FOLDER [--out FOLDER]`.

FOLDER holds `lentimpra_hepg2_wtc11.csv.gz`: HepG2 and WTC11 elements of 200 bp, columns `cell`, `sequence`,
`log2_rna_dna`, `region`. Nothing is shared between the generator, the optimised oracles and the held-out ones:

* elements that share a stretch of 30 letters, on either strand, stay together (`corpus.py`);
* 40 % of the HepG2 elements train the generator, and test both oracles; 30 % train each oracle, and test the generator;
* an oracle's values are means of both orientations, and so are its predictions: both strands score alike.

It takes about 16 minutes of a core. The motifs come from JASPAR by pyjaspar (`pip install pyjaspar`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from biotilt.evaluation.metrics import kmer_correlation, kmer_counts
from biotilt.files import read_json, write_json
from biotilt.model import Model
from biotilt.rewards.generic.learned import LearnedReward
from biotilt.tasks.enhancer.corpus import ELEMENTS, HEPG2, Elements, read_elements, split
from biotilt.tasks.enhancer.generator import both_strands, generator_metrics, make_generator, top_tenth
from biotilt.tasks.enhancer.motifs import motif_hits, shipped_matrices, write_matrices
from biotilt.tasks.enhancer.oracles import ORACLES, make_oracles
from biotilt.tasks.enhancer.panel import cpg_ratio, gc_fraction

NOTES = [
    "Data: Agarwal V et al., Massively parallel characterization of transcriptional regulatory elements, Nature "
    "639:411 (2025), lentiMPRA in HepG2 and WTC11 cells. Motifs: JASPAR 2024 (CC BY 4.0).",
    "The oracles are small networks, trained by the recipe of this task on 3,300 elements each; they explain about a "
    "third of the variance of measurements (MODEL_CARDS.md of the task). Scores are predictions, not measurements.",
]


def describe(parts: dict[str, dict[str, Elements]], out: Path) -> None:
    """Write the card of the generator, with what is known of the most active real elements, and `quality.json`."""
    own = parts["generator"][HEPG2]
    unseen = parts["optimised"][HEPG2] + parts["held_out"][HEPG2]
    metrics = generator_metrics(Model.load(out / "generator.safetensors"), own, unseen)
    high, matrices = top_tenth(own), shipped_matrices()
    hits = motif_hits([element.sequence for element in high], matrices)
    others = motif_hits([element.sequence for element in unseen], matrices)
    high_unseen = motif_hits([element.sequence for element in top_tenth(unseen)], matrices)
    metrics |= {
        "motif_r_high_unseen_vs_high": kmer_correlation(high_unseen, hits),
        "motif_r_unseen_vs_high": kmer_correlation(others, hits),
    }
    held_out = {cell: LearnedReward.load(out / f"{name}.safetensors") for cell, name in _HELD_OUT.items()}
    predicted = {cell: float(np.mean(reward([e.sequence for e in high]))) for cell, reward in held_out.items()}
    every, most = both_strands(own), both_strands(high)
    card = {
        "metrics": metrics,
        "kmer3_high": kmer_counts(most, 3, "ACGT").tolist(),
        "motif_hits_high": hits.tolist(),
        "most_active": {
            "measured_hepg2": float(np.mean([element.activity for element in high])),
            "hepg2": predicted["hepg2"],
            "wtc11": predicted["wtc11"],
            "contrast": predicted["hepg2"] - predicted["wtc11"],
            "gc": gc_fraction(most),
            "gc_all": gc_fraction(every),
            "cpg": cpg_ratio(most),
            "cpg_all": cpg_ratio(every),
        },
        "notes": NOTES,
    }
    write_json(out / "generator.json", card)
    write_json(out / "quality.json", quality(metrics, out))


_HELD_OUT = {"hepg2": "held_out", "wtc11": "wtc11_held_out"}


def quality(metrics: dict[str, float], out: Path) -> dict[str, Any]:
    """Return what `biotilt task list` shows."""
    pearson = {
        name: read_json(out / f"{name}.json")["metrics"]["unseen_pearson"]
        for name in ("optimised", "held_out", "wtc11_optimised", "wtc11_held_out")
    }
    return {
        "good_for": "comparing ways to tune on 200-bp DNA; its oracles are too weak to choose elements for the bench",
        "measured": {
            "nats on unseen elements": metrics["unseen_nats"],
            "nats, words of 5 letters": metrics["unseen_nats_of_5_letter_words"],
            "nats, letter frequencies": metrics["unseen_nats_of_letter_frequencies"],
            "3-mer r, samples to unseen real": metrics["kmer3_samples_vs_unseen"],
            "samples without 30 real letters in a row": metrics["novel"],
            "Pearson, optimised oracle": pearson["optimised"],
            "Pearson, held-out oracle": pearson["held_out"],
            "Pearson, WTC11 optimised": pearson["wtc11_optimised"],
            "Pearson, WTC11 held-out": pearson["wtc11_held_out"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    steps = ("generator", *ORACLES, "cards")
    parser.add_argument("--only", choices=steps, help="make one part only; the cards need the others")
    parser.add_argument("--steps", type=int, default=6000, help="generator updates")
    parser.add_argument("--device", default="cpu", help="where networks learn; another one makes other models")
    options = parser.parse_args()
    parts = split(read_elements(options.data / ELEMENTS))
    wanted = steps if options.only is None else (options.only,)
    if "generator" in wanted:
        make_generator(parts["generator"][HEPG2], options.out, options.steps, options.device)
    for part in ORACLES:
        if part in wanted:
            make_oracles(part, parts[part], parts["generator"], options.out, options.device)
    if "cards" in wanted:
        write_matrices(options.out)
        describe(parts, options.out)


if __name__ == "__main__":
    main()
