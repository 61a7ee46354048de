"""Molecules of two sources: no scaffold on two sides, repeats once, and rows that do not fit counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("selfies")

from rdkit.Chem import MolFromSmiles, MolToSmiles
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

from biotilt.tasks.molecule import corpus as module
from biotilt.tasks.molecule.corpus import PARTS, SOURCES, Corpus, part_of, read_corpus

RINGS = ["c1ccccc1", "c1ccncc1", "C1CCCC1", "C1CC1", "c1ccoc1", "c1ccsc1", "c1cc[nH]c1", "C1CCNCC1", "C1CCOC1"]
TEST = [f"C{ring}" for ring in RINGS]
OFFICIAL = [f"CC{ring}" for ring in RINGS] + [TEST[0]]  # one that is in the other file too
LARGE = [f"CCC{ring}" for ring in RINGS] + [OFFICIAL[1]]
ZINC = [f"OC{ring}" for ring in RINGS] + ["C[C@H](N)O", "C[N+](C)(C)C", "C1=CC=CC=C1C", "CC.O", "C" * 80, "no molecule"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(module, "COMMON", 1)
    monkeypatch.setattr(module, "HELD_BACK", 50)  # of a hundred scaffolds
    for name, rows in zip((*module.MOSES, module.MORE), (TEST, OFFICIAL, LARGE)):
        (tmp_path / name).write_bytes(gzip.compress("\n".join(["SMILES", *rows]).encode()))
    (tmp_path / "zinc.smiles").write_text("\n".join(ZINC) + "\n")
    return tmp_path, tmp_path / "zinc.smiles"


def scaffold(smiles: str) -> str:
    return MurckoScaffoldSmiles(smiles)


def test_the_part_of_a_scaffold_is_the_remainder_of_its_hash():
    # echo -n C | sha256sum begins 6b23c0d5f35d1b11, which is 7720226211386694417
    assert part_of("C") == "train"
    parts = [part_of(f"C{i}") for i in range(3000)]
    for part, share in {"validation": 0.02, "unseen": 0.08, "train": 0.9}.items():
        assert parts.count(part) / 3000 == pytest.approx(share, abs=0.015)


def test_no_scaffold_is_on_two_sides_and_only_the_official_split_is_unseen(files):
    corpus = read_corpus(*files)
    found = {
        (source, part): corpus.space.decode(rows) if len(rows := corpus.rows(part, source)) else []
        for source in SOURCES
        for part in PARTS
    }
    sides = {part: {scaffold(s) for source in SOURCES for s in found[source, part]} for part in PARTS}
    assert not sides["train"] & sides["unseen"] and not sides["train"] & sides["validation"]
    assert found["moses", "train"] and found["moses", "unseen"]
    large = {MolToSmiles(MolFromSmiles(s)) for s in LARGE[:-1]}
    assert {s for s in large if part_of(scaffold(s)) == "train"} == set(found["moses_train", "train"])
    assert not found["moses_train", "unseen"] and not found["moses_train", "validation"]
    canonical = {name: {MolToSmiles(MolFromSmiles(s)) for s in rows} for name, rows in (("1", TEST), ("2", OFFICIAL))}
    apart = {s for s in canonical["1"] - canonical["2"] if part_of(scaffold(s)) != "train"}
    everywhere = [molecule for molecules in found.values() for molecule in molecules]
    assert apart and not apart & set(everywhere), "of that file only what trains is kept"
    assert {s for s in canonical["2"] if part_of(scaffold(s)) == "unseen"} == set(found["moses", "unseen"])
    assert len(everywhere) == len(set(everywhere)), "repeats are kept once"


def test_what_does_not_fit_is_counted(files):
    corpus = read_corpus(*files)
    assert corpus.left_out == 3  # two parts, 80 tokens, no molecule
    designs = corpus.space.decode(corpus.tokens)
    assert {"C[C@H](N)O", "C[N+](C)(C)C"} <= set(designs)
    assert designs.count("Cc1ccccc1") <= 1, "ZINC has it too, written otherwise"


def test_rare_tokens_are_left_out_with_their_molecules(files, monkeypatch):
    monkeypatch.setattr(module, "COMMON", 4)
    corpus = read_corpus(*files)
    assert "[N+1]" not in corpus.space.vocabulary and corpus.left_out > 3
    assert all("+" not in molecule for molecule in corpus.space.decode(corpus.tokens))


def test_it_is_read_alike_twice_and_kept_in_a_file(files, tmp_path):
    one, two = read_corpus(*files), read_corpus(*files)
    one.save(tmp_path / "c.safetensors")
    three = Corpus.load(tmp_path / "c.safetensors")
    for other in (two, three):
        assert other.space == one.space and other.left_out == one.left_out
        assert all((getattr(other, name) == getattr(one, name)).all() for name in ("tokens", "source", "part"))
    assert len(read_corpus(*files, every=2).tokens) < len(one.tokens)
