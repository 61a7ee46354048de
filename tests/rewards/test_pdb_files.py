"""PDB files: each residue counts as one of the 20, or is named; what measures do not need may be missing."""

from __future__ import annotations

import gzip
import shutil
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import ideal_structures as ideal
import numpy as np
import pytest

from biotilt.errors import ConfigError, DataError
from biotilt.rewards.protein.folding_models import PDBFolder, ProgramFolder
from biotilt.rewards.protein.pdb import RESIDUE_NAMES, plddt_of, read_pdb, sequence_of, split_chains
from biotilt.rewards.protein.structure import PLDDT, ReferenceRMSD, TMScore

pytest.importorskip("biotite")
REAL = Path(__file__).parents[3] / "shared/data/pdb"


def atom(number, residue="ALA", name="CA", *, chain="A", record="ATOM", x=None, b="  1.00", insertion="", altloc=""):
    """A line of a PDB file by the columns of its format; the place is on a helix unless x is given."""
    place = ideal.helix(number + 1)[number] if x is None else (x, 0.0, 0.0)
    spot = "".join(f"{v:8.3f}" for v in place)
    signs = f"{record:6}{1:5d} {name:^4}{altloc:1}{residue:<4}{chain:1}{number:4d}{insertion:1}   {spot}"
    return f"{signs}  1.00{b:6}          {name[:1]:>2}"


def residue(number, name, atoms="N CA C O", **options):
    return [atom(number, name, each, **options) for each in atoms.split()]


@pytest.fixture
def file(tmp_path):
    def write(*lines, name="x.pdb"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\nEND\n", encoding="utf-8")
        return path

    return write


def chains(path):
    return [sequence_of(chain) for chain in split_chains(read_pdb(path))]


def refused(path, message):
    with pytest.raises(DataError) as error:
        read_pdb(path)
    assert str(error.value) == f"{path}{message}"


@pytest.mark.parametrize(
    ("names", "letter"),
    [
        ("HID HIE HIP HSD HSP HISE HISH NHIE CHID", "H"),
        ("CYX CYM CYS2 CYSH NCYX", "C"),
        ("ASH ASPH", "D"),
        ("GLH GLUH", "E"),
        ("LYN LYSH", "K"),
        ("TYM", "Y"),
        ("ARN", "R"),
        ("NMET MSE FME", "M"),
        ("SEP", "S"),
        ("TPO", "T"),
        ("PTR", "Y"),
        ("PCA", "Q"),
        ("MLY M3L KCX", "K"),
        ("HYP", "P"),
        ("CSO OCS CME", "C"),
    ],
)
def test_modified_residues_and_protonation_states_count_as_their_parent(file, names, letter):
    for number, name in enumerate(names.split()):
        record = "HETATM" if number % 2 else "ATOM"
        path = file(atom(0, "LYS"), *residue(1, name, record=record), atom(2, "VAL"), name=f"{name}.pdb")
        atoms = read_pdb(path)
        assert sequence_of(atoms) == f"K{letter}V", name
        assert set(atoms.res_name) <= set(RESIDUE_NAMES)


def test_names_that_mean_two_things_are_told_apart_by_their_atoms(file):
    ring, homoserine = residue(0, "HSE", "N CA C O ND1 NE2"), residue(1, "HSE", "N CA C O OG1")
    assert chains(file(*ring, *homoserine)) == ["HS"]
    assert chains(file(*residue(0, "GLH"))) == ["E"], "a protonation state, though the PDB's own is a glutamine"


def test_selenium_is_read_as_the_sulphur_it_replaces(file):
    atoms = read_pdb(file(*residue(0, "MSE", "N CA C O CB CG SE CE", record="HETATM")))
    assert atoms.atom_name.tolist() == ["N", "CA", "C", "O", "CB", "CG", "SD", "CE"]
    assert atoms.element.tolist() == ["N", "C", "C", "O", "C", "C", "S", "C"]


def test_a_modified_residue_is_found_also_where_there_are_only_alpha_carbons(file):
    assert chains(file(atom(0, "MET"), atom(1, "MSE", record="HETATM"), atom(2, "HID"))) == ["MMH"]
    calcium = atom(9, "CA", record="HETATM")
    assert chains(file(atom(0, "MET"), calcium)) == ["M"]


@pytest.mark.parametrize("name", ["UNK", "SEC", "XYZ"])
def test_a_residue_that_counts_as_none_of_the_20_is_named(file, name):
    path = file("REMARK", atom(0, "MET"), *residue(7, name, insertion="B"))
    told = "counts as none of the 20 amino acids; rename it to the one it is to count as"
    refused(path, f":3: residue {name} 7B of chain A {told}")


def test_what_is_no_amino_acid_is_left_out(file):
    others = [
        *residue(0, "ACE", "CH3 C O", record="HETATM"),
        *residue(1, "ALA"),
        *residue(2, "NH2", "N", record="HETATM"),
        *residue(3, "DG", "P C1' N9", chain="B"),
        *residue(4, "HOH", "O", record="HETATM"),
        *residue(5, "CA", "CA", record="HETATM"),
        *residue(6, "NAG", "C1 C2 N2 O5", record="HETATM"),
    ]
    assert chains(file(*others)) == ["A"]


def test_a_chain_ends_at_ter(file):
    first, second = [atom(i, name) for i, name in enumerate(("MET", "LYS"))], [atom(i, "TRP") for i in (0, 1, 2)]
    atoms = read_pdb(file(*first, "TER       3      LYS A   1", *second, "TER"))
    assert [sequence_of(chain) for chain in split_chains(atoms)] == ["MK", "WWW"]
    assert list(dict.fromkeys(atoms.chain_id.tolist())) == ["A", "A:2"]
    unnamed = file(*(line[:21] + " " + line[22:] for line in (*first, "TER".ljust(30), *second)))
    assert chains(unnamed) == ["MK", "WWW"]


def test_hetero_groups_behind_ter_are_no_part_of_a_chain(file):
    ligand = residue(90, "MET", record="HETATM")
    odd = residue(91, "SAH", record="HETATM")
    assert chains(file(*residue(0, "LYS"), "TER", *ligand, *odd)) == ["K"]
    # but a chain may start with one
    second = [*residue(0, "MSE", record="HETATM"), *residue(1, "VAL")]
    assert chains(file(*residue(0, "LYS"), "TER", *second, "TER", *ligand)) == ["K", "MV"]


def test_two_chains_that_are_written_as_one_are_refused(file):
    path = file(atom(0, "MET"), atom(1, "LYS"), atom(0, "MET"))
    refused(path, ":3: residue MET 0 of chain A is there twice; give chains letters of their own, or end each with TER")


def test_a_residue_without_its_alpha_carbon_is_refused(file):
    path = file(atom(0), *residue(1, "LYS", "N C O"), atom(2))
    refused(path, ":2: residue LYS 1 of chain A has no Cα atom; complete it or remove it")
    refused(file(atom(0), atom(0)), ":1: residue ALA 0 of chain A has 2 Cα atoms; complete it or remove it")


def test_a_residue_of_two_names_is_refused(file):
    path = file(atom(0, "ALA", "N"), atom(0, "ALA"), atom(0, "VAL", "CB"))
    refused(path, ":3: residue VAL 0 of chain A is ALA in the lines before")


def test_the_first_alternative_place_is_taken(file):
    lines = [atom(0, "SER", altloc="B", x=1.0), atom(0, "CYS", altloc="A", x=2.0), atom(0, "SER", "CB", altloc="B")]
    atoms = read_pdb(file(*lines))
    assert sequence_of(atoms) == "S" and atoms.coord[0].tolist() == [1.0, 0.0, 0.0] and len(atoms) == 2


def test_the_first_model_is_read(file):
    assert chains(file("MODEL        1", atom(0), "ENDMDL", "MODEL        2", atom(0), "ENDMDL")) == ["A"]


def test_insertion_codes_and_large_numbers_are_residues_of_their_own(file):
    large = atom(1, "TRP")
    assert chains(file(atom(1, "GLY"), atom(1, "VAL", insertion="A"), large[:22] + "A000" + large[26:])) == ["GVW"]


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_remarks_in_any_encoding_and_line_ends_change_nothing(tmp_path, ending):
    text = ending.join(["REMARK 2.0 Å, Überstruktur", atom(0, "MET"), atom(1, "LYS"), "END", ""])
    for name, data in {"a.pdb": text.encode("utf-8"), "b.pdb": text.encode("latin-1"), "c.PDB": text.encode()}.items():
        (tmp_path / name).write_bytes(data)
        assert chains(tmp_path / name) == ["MK"]
        (tmp_path / f"{name}.GZ").write_bytes(gzip.compress(data))
        assert chains(tmp_path / f"{name}.GZ") == ["MK"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (atom(0)[:50], "the line ends before its coordinates do, in column 54"),
        (atom(0)[:30] + "    nan " + atom(0)[38:], "its coordinates are not finite"),
        (atom(0)[:30] + "********" + atom(0)[38:], "could not convert string to float: '********'"),
        (atom(0)[:22] + "    " + atom(0)[26:], "residue number '    '"),
        ("ATOM 1 CA ALA A 1 0.0 0.0 0.0", "the line ends before its coordinates do, in column 54"),
    ],
)
def test_a_malformed_line_is_named(file, line, what):
    refused(file(atom(1), line), f":2: not an atom in PDB format: {what}")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real structures are not at {REAL}")
@pytest.mark.parametrize("path", sorted(REAL.glob("*.pdb.gz")), ids=lambda path: path.name)
def test_real_structures_are_read_as_biotite_reads_them(path):
    from biotite.structure.io.pdb import PDBFile

    text = StringIO(gzip.decompress(path.read_bytes()).decode())
    theirs = PDBFile.read(text).get_structure(model=1, extra_fields=["b_factor"])
    theirs = theirs[np.isin(theirs.res_name, RESIDUE_NAMES) & ~theirs.hetero]
    ours = read_pdb(path)
    assert np.array_equal(ours.coord, theirs.coord)
    for name in ("chain_id", "res_id", "ins_code", "res_name", "atom_name", "element", "b_factor"):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name


# Columns that are not needed


def test_structures_need_no_b_factors_unless_they_are_confidences(file, tmp_path):
    path = file(*(atom(i, name)[:54] for i, name in enumerate(("MET", "LYS", "VAL"))))
    options: dict[str, Any] = {"reference": str(path), "model": "pdb", "path": str(tmp_path)}
    assert TMScore(**options)(["MKV"]) == pytest.approx([1.0])
    assert ReferenceRMSD(**options)(["MKV"]) == pytest.approx([0.0], abs=1e-5)
    with pytest.raises(DataError, match=r"x\.pdb: the structure has no B-factors, where folding programs write"):
        PDBFolder(tmp_path, plddt_in_b_factor=True)
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:3])"
    program = (sys.executable, "-c", copy, str(path), "{pdb}", "{fasta}")
    assert np.allclose(ProgramFolder(program).fold(("MKV",)).alpha_carbons, ideal.helix(3), atol=1e-3)
    score: Any = PLDDT(model="program", program=program)(["MKV"])[0]
    assert np.isnan(score) and "has no confidences" in score.reason


def test_b_factors_of_an_experiment_are_no_confidences(file):
    with pytest.raises(DataError, match=r"a B-factor of 120 is no confidence"):
        plddt_of(read_pdb(file(atom(0, b="120.00"))))


def test_a_missing_chain_is_named_with_those_that_are_there(file, tmp_path):
    path = file(atom(0, chain="A"), "TER", atom(0, chain="A"), atom(0, chain="C"))
    with pytest.raises(ConfigError, match='has no chain "B"; it has "A", "A:2", "C"'):
        TMScore(reference=str(path), chain="B", model="pdb", path=str(tmp_path))
    assert len(TMScore(reference=str(path), chain="A:2", model="pdb", path=str(tmp_path))._places) == 1


def test_suffixes_of_structures_are_known_in_any_case(file, tmp_path):
    made = file(atom(0, "MET"), atom(1, "LYS"))
    for name in ("a.PDB", "b.ent", "c.Ent"):
        shutil.copy(made, tmp_path / name)
        folder = tmp_path / f"only_{name}"
        folder.mkdir()
        shutil.copy(made, folder / name)
        assert sequence_of(PDBFolder(folder).fold(("MK",)).atoms) == "MK"


@pytest.mark.parametrize("text", ["{", "[1]", '{"ptm": "high"}', "\xff"])
def test_what_a_folding_program_writes_beside_the_structure_is_checked(file, tmp_path, text):
    (tmp_path / "s.json").write_bytes(text.encode("latin-1"))
    made = file(atom(0, "MET"))
    code = "import shutil, sys; shutil.copy(*sys.argv[1:3]); shutil.copy(*sys.argv[3:5])"
    program = (sys.executable, "-c", code, str(made), "{pdb}", str(tmp_path / "s.json"), "{json}", "{fasta}")
    score: Any = PLDDT(model="program", program=program)(["M"])[0]
    assert np.isnan(score) and "what the folding program wrote cannot be used: design.json" in score.reason
