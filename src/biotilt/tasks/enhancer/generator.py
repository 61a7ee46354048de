"""The shipped generator of `enhancer`: its training, and how its samples and likelihoods compare with real elements."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from biotilt.core import Policy
from biotilt.evaluation.metrics import kmer_correlation, kmer_counts
from biotilt.evaluation.words import as_numbers, best_word_model
from biotilt.fitting import state_of
from biotilt.model import Model
from biotilt.networks import CNN, CNNConfig
from biotilt.processes import AnyOrder
from biotilt.rewards.dna.motifs import reverse_complement
from biotilt.spaces import DNA, Letters
from biotilt.tasks.enhancer.corpus import SHARED, Elements, canonical_words
from biotilt.training import PretrainConfig, resumable
from biotilt.training.pretrain import pretrain, validation_bound

LENGTH = 200
VALIDATION = 20  # one element in so many of the generator's own says when its weights are best


def both_strands(elements: Elements) -> list[str]:
    """Return the sequence of each element, and then its other strand."""
    return [s for element in elements for s in (element.sequence, reverse_complement(element.sequence))]


def own_parts(elements: Elements) -> tuple[Elements, Elements]:
    """Return those of the generator's elements that train it, and those that say when it is best."""
    return [element for i, element in enumerate(elements) if i % VALIDATION], elements[::VALIDATION]


def _sequences(elements: Elements) -> list[str]:
    return [element.sequence for element in elements]


def make_generator(elements: Elements, out: Path, steps: int, device: str = "cpu") -> None:
    """Pretrain the generator on both strands of its elements, on a device, and save it."""
    torch.manual_seed(0)  # initial weights
    net = CNN(CNNConfig(4, LENGTH, channels=64, blocks=6, kernel=7, dilations=(1, 4, 16)))
    policy = Policy(AnyOrder(LENGTH, 4, per_step=10), net)
    train, validation = own_parts(elements)
    with resumable(state_of(out / "generator.safetensors")) as state:
        pretrain(
            policy,
            DNA.encode_many(both_strands(train)),
            DNA.encode_many(_sequences(validation)),
            PretrainConfig(steps=steps, batch=32, bfloat16=True),
            torch.Generator(device).manual_seed(0),
            lambda step, loss, bound: print(f"generator {step}: train {loss:.2f} validation {bound:.2f}", flush=True),
            state=state,
        )
        Model(policy, Letters(DNA)).save(out / "generator.safetensors", half=True)


def top_tenth(elements: Elements) -> Elements:
    """Return the tenth of the elements that is most active."""
    return sorted(elements, key=lambda element: element.activity)[-len(elements) // 10 :]


def generator_metrics(model: Model, elements: Elements, unseen: Elements) -> dict[str, float]:
    """Return how the generator's samples and likelihoods compare with real elements; `unseen` are the oracles'."""
    real = both_strands(unseen)
    groups = {
        "samples": model.sample(2048, seed=1),
        "real": real,
        "high": both_strands(top_tenth(elements)),
    }
    counts = {name: kmer_counts(group, 3, "ACGT") for name, group in groups.items()}
    own = kmer_counts(both_strands(elements), 1, "ACGT")
    frequencies = torch.tensor(own / own.sum()).log()
    tokens = DNA.encode_many([element.sequence for element in unseen])
    train, validation = own_parts(elements)
    own_words = as_numbers(both_strands(train), "ACGT")
    chosen_by, unseen_words = (as_numbers(_sequences(part), "ACGT") for part in (validation, unseen))
    words = best_word_model(own_words, chosen_by, unseen_words, 4)
    found = {
        "train_regions": len(elements),
        "unseen_regions": len(unseen),
        "unseen_nats": validation_bound(model.policy, tokens),
        "unseen_nats_of_letter_frequencies": -frequencies[tokens.long()].sum(-1).mean().item(),
        "unseen_nats_of_5_letter_words": markov_nats(both_strands(elements), [e.sequence for e in unseen], 4),
        "unseen_nats_of_words": words.nats,
        "words_k": words.k,
        "nats_of_uniform_letters": LENGTH * math.log(4),
        "kmer3_samples_vs_unseen": kmer_correlation(counts["samples"], counts["real"]),
        "kmer3_high_vs_unseen": kmer_correlation(counts["high"], counts["real"]),
        "kmer3_samples_vs_high": kmer_correlation(counts["samples"], counts["high"]),
        "novel": novelty(groups["samples"], [element.sequence for element in elements + unseen]),
    }
    for name, group in groups.items():
        found[f"gc_{name}"] = sum(s.count("G") + s.count("C") for s in group) / (LENGTH * len(group))
    return found


def markov_nats(train: list[str], test: list[str], order: int) -> float:
    """Return −log p, nats a sequence, of a Markov chain of `order` fitted to `train` with one pseudo-count a word.

    The first `order` letters of a sequence are taken as uniform.
    """
    words = torch.tensor(kmer_counts(train, order + 1, "ACGT")).view(-1, 4) + 1.0
    log_next = (words / words.sum(-1, keepdim=True)).log().flatten()
    seen = torch.tensor(kmer_counts(test, order + 1, "ACGT"))
    return (-(seen * log_next).sum() / len(test) + order * math.log(4)).item()


def novelty(samples: list[str], known: list[str], width: int = SHARED) -> float:
    """Return the fraction of samples that share no stretch of `width` letters with a known sequence, on any strand."""
    shared = np.isin(canonical_words(samples, width), canonical_words(known, width))
    return float((~shared.any(1)).mean())
