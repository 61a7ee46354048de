from __future__ import annotations

import gzip
import sys

import ideal_structures as ideal
import numpy as np
import pytest

from biotilt.errors import ConfigError, DataError
from biotilt.rewards.protein.folded import NoStructure, Structure
from biotilt.rewards.protein.folding_models import Memory, PDBFolder, ProgramFolder, shared_folder
from biotilt.rewards.protein.pdb import plddt_of, read_pdb, sequence_of, split_chains

pytest.importorskip("biotite")
WRITES = """
import json, shutil, sys
source, fasta, pdb, scores = sys.argv[1:]
assert open(fasta).read() == ">design\\nMKV:GW\\n"
shutil.copy(source, pdb)
json.dump({"ptm": 0.75, "iptm": 0.25}, open(scores, "w"))
"""


@pytest.fixture
def complex_file(tmp_path):
    (tmp_path / "stored").mkdir()
    two = ideal.atoms_of("MKV", ideal.helix(3), plddt=90.0) + ideal.atoms_of("GW", ideal.strand(2) + 9.0, "B", 40.0)
    return ideal.write_pdb(tmp_path / "stored" / "two.pdb", two)


def test_structures_are_found_by_their_sequences(complex_file):
    folder = PDBFolder(complex_file.parent, plddt_in_b_factor=True)
    both = folder.fold(("MKV", "GW"))
    assert np.allclose(both.alpha_carbons, np.concatenate([ideal.helix(3), ideal.strand(2) + 9.0]), atol=1e-3)
    assert both.plddt.tolist() == pytest.approx([0.9, 0.9, 0.9, 0.4, 0.4])
    assert sequence_of(folder.fold(("GW",)).atoms) == "GW"
    with pytest.raises(NoStructure, match="no PDB file"):
        folder.fold(("GW", "MKV"))


def test_b_factors_are_not_confidence_unless_said(complex_file):
    assert PDBFolder(complex_file.parent).fold(("MKV",)).plddt is None
    assert PDBFolder(complex_file.parent).version != PDBFolder(complex_file.parent, plddt_in_b_factor=True).version


def test_confidence_in_per_cent_or_not():
    assert plddt_of(ideal.atoms_of("MK", ideal.helix(2), plddt=0.7)).tolist() == pytest.approx([0.7, 0.7])
    assert plddt_of(ideal.atoms_of("MK", ideal.helix(2), plddt=70.0)).tolist() == pytest.approx([0.7, 0.7])


def test_gzipped_files_are_read(tmp_path):
    atoms = ideal.atoms_of("MKV", ideal.helix(3))
    plain = ideal.write_pdb(tmp_path / "x.pdb", atoms)
    packed = tmp_path / "y.pdb.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [sequence_of(chain) for chain in split_chains(read_pdb(packed))] == ["MKV"]


@pytest.mark.parametrize("content", ["", "not a structure\n", "ATOM  broken\n"])
def test_files_that_are_no_structure(tmp_path, content):
    (tmp_path / "x.pdb").write_text(content)
    with pytest.raises(DataError, match=r"x\.pdb"):
        read_pdb(tmp_path / "x.pdb")


def test_a_program_is_given_a_file_and_writes_one(complex_file):
    folder = ProgramFolder([sys.executable, "-c", WRITES, str(complex_file), "{fasta}", "{pdb}", "{json}"])
    found = folder.fold(("MKV", "GW"))
    assert (found.ptm, found.iptm) == (0.75, 0.25)
    assert found.plddt.tolist() == pytest.approx([0.9, 0.9, 0.9, 0.4, 0.4])


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit('out of memory')", "code 1: out of memory"),
        ("pass", "wrote no PDB file"),
        ("import time; time.sleep(30)", "took more than 1 s"),
    ],
)
def test_a_program_that_fails_says_why(code, why):
    with pytest.raises(NoStructure, match=why):
        ProgramFolder([sys.executable, "-c", code, "{fasta}", "{pdb}"], timeout=1.0).fold(("MKV",))


def test_a_program_that_folds_something_else(complex_file):
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:3])"
    folder = ProgramFolder([sys.executable, "-c", copy, str(complex_file), "{pdb}", "{fasta}"])
    with pytest.raises(NoStructure, match="wrote chains MKV:GW, asked for MKW"):
        folder.fold(("MKW",))


def test_commands_and_folders_are_checked(tmp_path):
    with pytest.raises(ConfigError, match=r"names \{pdb\}"):
        ProgramFolder(["fold", "{fasta}"])
    with pytest.raises(ConfigError, match="list of words"):
        ProgramFolder("fold {fasta} {pdb}")
    with pytest.raises(ConfigError, match="no file"):
        PDBFolder(tmp_path)
    with pytest.raises(ConfigError, match="must be a folder"):
        shared_folder("pdb", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match='did you mean "esmfold"'):
        shared_folder("esmfolt", str(tmp_path))
    with pytest.raises(ConfigError, match="is not there"):
        ProgramFolder(["/no/such/program", "{fasta}", "{pdb}"]).fold(("MK",))


class Counting:
    version = "1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def fold(self, chains: tuple[str, ...]) -> Structure:
        self.asked.append(chains)
        if chains == ("W",):
            raise NoStructure("W never folds")
        return Structure(ideal.atoms_of(chains[0], ideal.helix(len(chains[0]))))


def test_a_memory_asks_once_and_forgets_the_oldest():
    counting = Counting()
    memory = Memory(counting, size=2)
    first = memory.fold(("MK",))
    assert memory.fold(("MK",)) is first
    for _ in range(2):
        with pytest.raises(NoStructure, match="W never folds"):
            memory.fold(("W",))
    memory.fold(("MK",))  # now W is the oldest
    memory.fold(("GG",))
    memory.fold(("MK",))
    assert counting.asked == [("MK",), ("W",), ("GG",)]
    with pytest.raises(NoStructure):
        memory.fold(("W",))
    assert counting.asked[-1] == ("W",)


def test_equal_options_share_one_memory(complex_file):
    path = str(complex_file.parent)
    assert shared_folder("pdb", path) is shared_folder("pdb", path) is not shared_folder("predicted_pdb", path)
