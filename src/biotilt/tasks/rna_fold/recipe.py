"""The recipe of the shipped `rna_fold` generator: `python -m biotilt.tasks.rna_fold.recipe [--out FOLDER]`.

It needs no data: ViennaRNA (`pip install viennarna`) folds RNAs of random letters, and RNAs written onto random
structures, and the generator learns which RNA belongs to which structure. No designed RNA and none of Eterna's
puzzles or solutions is used. The held-out energies (Andronescu 2007) are used by the panel only.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from biotilt.core import Net, Policy, needed
from biotilt.evaluation.words import best_word_model
from biotilt.files import write_json
from biotilt.fitting import state_of
from biotilt.model import Model
from biotilt.networks.structured import Structured, StructuredConfig, Structures
from biotilt.processes import AnyOrder
from biotilt.rewards.rna.folding import EnsembleDefect, MFEMatch
from biotilt.spaces.paired import PAIRS, Paired, partners_of
from biotilt.tasks.rna_fold.corpus import LONGEST, STABLE, Pair, examples
from biotilt.training import PretrainConfig, StateFile, resumable
from biotilt.training.pretrain import in_bfloat16, learn
from biotilt.training.pretraining_state import hash_of

EXAMPLES = 6000
UNSEEN = 400  # pairs for validation and as many for the test
TARGET = "((((...((((....))))..((((....))))...))))"  # of the shipped file; any other is given by its user
PER_STEP = 3
FOLDED = 100  # unseen structures that the generator is asked to write

NOTES = [
    "Data: none from outside. Random RNAs, folded by ViennaRNA (Lorenz R et al., ViennaRNA Package 2.0, Algorithms "
    "Mol Biol 6:26, 2011) with the energies of Turner 2004 at 37 °C.",
    "Scores are predictions of a nearest-neighbour model, not measurements; pseudoknots and ligands are not in it.",
]


def batches(pairs: list[Pair], size: int, generator: Generator) -> Iterator[tuple[Tensor, Structures]]:
    """Yield tokens `(B, L)` and structures of at most `size` pairs for ever; the pairs of a batch have one L."""
    groups = defaultdict(list)
    for rna, structure in pairs:
        groups[Paired(structure).length].append((rna, structure))
    # a group comes as often as its designs are many, so that all designs are seen equally often
    weights = torch.tensor([float(len(group)) for group in groups.values()])
    lists = list(groups.values())
    while True:
        group = lists[int(torch.multinomial(weights, 1, generator=generator))]
        rows = torch.randperm(len(group), generator=generator)[:size].tolist()
        yield collated([group[i] for i in rows])


def collated(pairs: list[Pair]) -> tuple[Tensor, Structures]:
    """Return tokens `(B, L)` and structures of pairs with one number of tokens."""
    tokens = torch.cat([Paired(structure).encode([rna]) for rna, structure in pairs])
    return tokens, Structures.of([structure for _, structure in pairs])


def loss_of(net: Structured, tokens: Tensor, structures: Structures, generator: Generator) -> Tensor:
    """Return the denoising loss of designs `(B, L)`, each with its structure, `(B,)` nats."""
    process = AnyOrder(length=tokens.shape[1], letters=len(PAIRS))
    return process.denoising_loss(_reader(net, structures), tokens, generator)


def train(
    pairs: list[Pair], validation: list[Pair], config: PretrainConfig, seed: int, state: StateFile | None = None
) -> Structured:
    """Return a network trained on pairs: its averaged weights best on validation."""
    torch.manual_seed(seed)  # initial weights
    net = Structured(StructuredConfig(target=TARGET))
    generator = torch.Generator().manual_seed(seed)
    drawn = batches(pairs, config.batch, generator)

    def loss() -> Tensor:
        tokens, structures = next(drawn)
        process = AnyOrder(length=tokens.shape[1], letters=len(PAIRS))
        read = in_bfloat16(_reader(net, structures))
        return process.denoising_loss(read, tokens, generator).sum() / tokens.numel()

    learn(
        net,
        loss,
        lambda average: bound(needed(average, Structured), validation),
        config,
        generator,
        lambda step, train, bound: print(f"{step}: loss {train:.4f} validation {bound:.4f} nats a token", flush=True),
        state=None if state is None else state.with_({"the pairs": hash_of(*map(_letters, pairs + validation))}),
    )
    return net


def _letters(pair: Pair) -> Tensor:
    return torch.tensor(list("".join(pair).encode()), dtype=torch.uint8)


def _reader(net: Structured, structures: Structures) -> Net:
    return lambda x, t: net.read(x, structures)


@torch.no_grad()
def bound(net: Structured, pairs: list[Pair]) -> float:
    """Return the bound on −log p of unseen designs, nats a token, always with the same noise."""
    generator = torch.Generator().manual_seed(0)
    total, count = 0.0, 0
    for tokens, structures in whole(pairs):
        total += loss_of(net, tokens, structures, generator).sum().item()
        count += tokens.numel()
    return total / count


def whole(pairs: list[Pair]) -> Iterator[tuple[Tensor, Structures]]:
    """Yield all pairs once, together where they have one number of tokens."""
    groups = defaultdict(list)
    for rna, structure in pairs:
        groups[Paired(structure).length].append((rna, structure))
    yield from (collated(groups[length]) for length in sorted(groups))


def frequencies_nats(pairs: list[Pair], unseen: list[Pair]) -> float:
    """Return −log p a token of unseen designs under the letter frequencies of pairs and of unpaired positions."""
    counts = torch.ones(2, len(PAIRS))
    for rna, structure in pairs:
        counts.index_put_((_paired(structure), _tokens(rna, structure)), torch.tensor(1.0), accumulate=True)
    log_p = (counts / counts.sum(1, keepdim=True)).log()
    losses = torch.cat([-log_p[_paired(s), _tokens(r, s)] for r, s in unseen])
    return losses.mean().item()


def words_nats(pairs: list[Pair], validation: list[Pair], unseen: list[Pair]) -> tuple[float, int]:
    """Return −log p a token of unseen designs under the best model of short words, and its k.

    The words are of tokens along the structure; of each it is told whether it is a pair.
    """

    def told(some: list[Pair]) -> list[list[int]]:
        return [(_tokens(r, s) + len(PAIRS) * _paired(s)).tolist() for r, s in some]

    tokens = told(unseen)
    words = best_word_model(told(pairs), told(validation), tokens, len(PAIRS), told=2)
    return words.nats * len(tokens) / sum(map(len, tokens)), words.k


def _paired(structure: str) -> Tensor:
    return torch.tensor([int(j > i) for i, j in enumerate(partners_of(structure)) if j < 0 or j > i])


def _tokens(rna: str, structure: str) -> Tensor:
    return Paired(structure).encode([rna])[0].long()


def folded(structures: list[str], write: Callable[[str], str]) -> dict[str, float]:
    """Return how often one RNA written for each structure folds into it, and the mean ensemble defect."""
    solved, defects = 0, []
    for structure in structures:
        rna = write(structure)
        solved += MFEMatch(target=structure)([rna])[0] == 1.0
        defects.append(-EnsembleDefect(target=structure)([rna])[0])
    return {"solved": solved / len(structures), "defect": sum(defects) / len(defects)}


def describe(
    model: Model, pairs: list[Pair], validation: list[Pair], unseen: list[Pair], metrics: dict[str, float], out: Path
) -> None:
    """Write the generator's card and `quality.json`: likelihoods, and whether what it writes folds as asked."""
    structures = [structure for _, structure in unseen[:FOLDED]]
    draws = random.Random(0)

    def by_chance(structure: str) -> str:
        tokens = torch.tensor([[draws.randrange(len(PAIRS)) for _ in range(Paired(structure).length)]])
        return Paired(structure).decode(tokens)[0]

    written = folded(structures, lambda structure: model.for_target(structure).sample(1, seed=1)[0])
    random_tokens = folded(structures, by_chance)
    known = {rna for rna, _ in pairs}
    novel = [model.for_target(s).sample(1, seed=2)[0] not in known for s in structures]
    of_words, k = words_nats(pairs, validation, unseen)
    metrics |= {
        "test_nats_a_token": bound(needed(model.policy.net, Structured), unseen),
        "letter_frequencies_nats_a_token": frequencies_nats(pairs, unseen),
        "words_nats_a_token": of_words,
        "words_k": k,
        "uniform_nats_a_token": math.log(len(PAIRS)),
        **{f"samples_{key}": value for key, value in written.items()},
        **{f"random_tokens_{key}": value for key, value in random_tokens.items()},
        "samples_novel": sum(novel) / len(novel),
    }
    write_json(out / "generator.json", {"metrics": metrics, "notes": NOTES})
    write_json(out / "quality.json", quality(metrics))


def quality(metrics: dict[str, float]) -> dict[str, object]:
    """Return what `biotilt task list` shows of the task."""
    return {
        "good_for": 'RNAs that fold into a structure that you name: [design] target = "((((....))))"',
        "measured": {
            "nats a token, unseen structures": round(metrics["test_nats_a_token"], 3),
            "nats a token, letter frequencies": round(metrics["letter_frequencies_nats_a_token"], 3),
            "unseen structures solved by one sample": round(metrics["samples_solved"], 3),
            "the same by random complementary tokens": round(metrics["random_tokens_solved"], 3),
            "mean ensemble defect of a sample": round(metrics["samples_defect"], 3),
            "novel samples": round(metrics["samples_novel"], 3),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="pairs to train on")
    parser.add_argument("--steps", type=int, default=2000, help="updates")
    options = parser.parse_args()
    pairs = examples(options.examples + 2 * UNSEEN, seed=0)
    print(f"{len(pairs)} pairs of {min(len(r) for r, _ in pairs)} to {LONGEST} nt, defect ≤ {STABLE}", flush=True)
    validation, test = pairs[:UNSEEN], pairs[UNSEEN : 2 * UNSEEN]
    kept_out = {structure for _, structure in validation + test}
    pairs = [pair for pair in pairs[2 * UNSEEN :] if pair[1] not in kept_out]
    with resumable(state_of(options.out / "generator.safetensors")) as state:
        net = train(pairs, validation, PretrainConfig(steps=options.steps, batch=32), seed=0, state=state)
        space = Paired(TARGET)
        process: Any = AnyOrder(length=space.length, letters=len(PAIRS), per_step=PER_STEP)
        model = Model(Policy(process, net), space)
        model.save(options.out / "generator.safetensors", half=True)
    metrics: dict[str, float] = {"train_designs": len(pairs), "validation_nats_a_token": bound(net, validation)}
    describe(model, pairs, validation, test, metrics, options.out)


if __name__ == "__main__":
    main()
