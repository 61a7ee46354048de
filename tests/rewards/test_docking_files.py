"""Receptors, boxes and ligands that docking cannot use are refused when the reward is built, with file and line."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("vina")
pytest.importorskip("meeko")
pytest.importorskip("gemmi")

from rdkit import Chem
from rdkit.Chem import AllChem

from biotilt.errors import ConfigError
from biotilt.rewards.molecule.box import box_of_file, box_of_ligand
from biotilt.rewards.molecule.docking import Vina

ATOM = "ATOM      1  CA  ALA A   1      11.000  12.000  13.000  1.00  0.00     0.100 C "
OTHER = "ATOM      2  O   ALA A   1      12.500  12.000  13.000  1.00  0.00    -0.300 OA"
BOX: dict[str, Any] = {"center": (11, 12, 13), "size": (8, 8, 8)}


def receptor(folder: Path, *lines: str) -> Vina:
    path = folder / "receptor.pdbqt"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return Vina(receptor=str(path), **BOX)


def engine_takes(path: Path) -> bool:
    """Ask Vina itself, in a process of its own, since some files make it abort."""
    code = "import sys, vina; vina.Vina(verbosity=0).set_receptor(sys.argv[1])"
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True).returncode == 0


GOOD = {
    "remarks and ends": ("REMARK é x", ATOM, "TER", OTHER, "END"),
    "a residue of another kind": (ATOM, OTHER.replace("ATOM  ", "HETATM")),
    "no blank at the end": (ATOM.rstrip(), OTHER),
    "line ends of Windows": (ATOM + "\r", OTHER + "\r"),
    "a blank line": (ATOM, "", OTHER),
}


@pytest.mark.parametrize("kind", GOOD)
def test_receptors_that_vina_takes(tmp_path: Path, kind: str) -> None:
    receptor(tmp_path, *GOOD[kind])
    assert engine_takes(tmp_path / "receptor.pdbqt")


BAD = {  # lines, and the place and reason that are given
    "a ligand, from its first line": (("ROOT", ATOM, "ENDROOT", "TORSDOF 0"), "1: ROOT: this is a flexible ligand"),
    "a ligand, later": ((ATOM, "BRANCH   1   2", OTHER, "ENDBRANCH   1   2"), "2: BRANCH: this is a flexible ligand"),
    "torsions only": ((ATOM, OTHER, "TORSDOF 3"), "3: TORSDOF: this is a flexible ligand"),
    "a flexible residue": (("BEGIN_RES ALA A 1", ATOM, "END_RES ALA A 1"), "1: BEGIN_RES: this is a flexible ligand"),
    "models": (("MODEL 1", ATOM, "ENDMDL", "MODEL 2", OTHER, "ENDMDL"), "1: MODEL: a receptor is one model"),
    "a header": (("HEADER    HYDROLASE", ATOM), "1: Vina refuses it: Unknown or inappropriate tag"),
    "connections": ((ATOM, OTHER, "CONECT    1    2"), "3: Vina refuses it: Unknown or inappropriate tag"),
    "an unknown type": ((ATOM, OTHER.replace(" OA", " Xx")), "2: Vina refuses it: Atom type Xx is not a valid"),
    "a type of the wrong case": ((ATOM.replace(" C ", " c "),), "1: Vina refuses it: Atom type c is not a valid"),
    "an element in capitals": ((ATOM, OTHER.replace(" OA", " ZN")), "2: Vina refuses it: Atom type ZN is not a valid"),
    "a number beyond the columns": ((ATOM, OTHER.replace("     2  O", "  A000  O")), '2: .*Atom number "A000"'),
    "no number of a coordinate": ((ATOM, OTHER.replace("12.500", "12.5x0")), '2: x, columns 31 to 38, is "12.5x0"'),
    "a coordinate of nan": ((ATOM, OTHER.replace("12.000", "   nan")), '2: y, columns 39 to 46, is "nan"'),
    "a decimal comma": ((ATOM, OTHER.replace("13.000", "13,000")), '2: z, columns 47 to 54, is "13,000"'),
    "no charge": ((ATOM, OTHER.replace("-0.300", "      ")), '2: the charge, columns 69 to 76, is ""'),
    "shifted columns": ((ATOM, OTHER.replace("ALA A", "ALA  A")), "2: y, columns 39 to 46"),
    "a line cut off": ((ATOM, OTHER[:60]), "2: the line ends before column 78"),
    "a line without its type": ((ATOM, OTHER[:77]), "2: the line ends before column 78"),
    "a name that is not ASCII": ((ATOM, OTHER.replace("ALA", "ÅLA")), "2: a sign that is not ASCII"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_receptors_that_vina_refuses_are_refused_with_the_line(tmp_path: Path, kind: str) -> None:
    lines, message = BAD[kind]
    with pytest.raises(ConfigError, match=f"receptor: .*receptor.pdbqt:{message}") as caught:
        receptor(tmp_path, *lines)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [(), ("REMARK only",), ("ATOM      1  CA  ALA A   1      11.000  12.000  13.000  1.00  0.00           C",)],
)
def test_files_without_atoms_of_pdbqt(tmp_path: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"no atoms in PDBQT format.*mk_prepare_receptor"):
        receptor(tmp_path, *lines)


KEYS = "center_x = 11\ncenter_y = -12.5\ncenter_z = 1.3e1\nsize_x = 8\nsize_y = 9\nsize_z = 10\n"
EXPECTED = ((11.0, -12.5, 13.0), (8.0, 9.0, 10.0))


def box(folder: Path, text: str):
    (folder / "box.conf").write_text(text)
    return box_of_file(str(folder / "box.conf"))


@pytest.mark.parametrize(
    "text",
    [
        KEYS,
        KEYS.replace("= 11", "=11#x of the pocket").replace("8\n", "8   # Å\n"),
        "# a box\n\nreceptor = r.pdbqt\nexhaustiveness = 8\n" + KEYS + "# center_x = 99\n",
        KEYS.replace("\n", "\r\n"),
        "\ufeff" + KEYS,
        KEYS.replace(" = ", "=").replace("center_x", "  center_x"),
    ],
)
def test_box_files_as_vina_reads_them(tmp_path: Path, text: str) -> None:
    assert box(tmp_path, text) == EXPECTED


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("11", "1.1.1", r':1: "center_x = 1.1.1" must be center_x = a number'),
        ("11", "1,1", r':1: "center_x = 1,1" must be'),
        ("11", "", r':1: "center_x =" must be'),
        ("11", "nan", r':1: "center_x = nan" must be'),
        ("11", "-inf", r':1: "center_x = -inf" must be'),
        ("11", "1_1", r':1: "center_x = 1_1" must be'),
        ("11", "11 Å", r':1: "center_x = 11 Å" must be'),
        ("= 11", "11", r':1: "center_x 11" must be'),
        ("size_z", "size_x", r":6: size_x stands twice, first on line 4"),
        ("center_y", "centre_y", r" does not say center_y$"),
    ],
)
def test_box_files_with_mistakes(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"box: .*box.conf{message}"):
        box(tmp_path, KEYS.replace(old, new))


def test_the_file_of_a_box_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.pdbqt").write_text(ATOM + "\n")
    for text, message in ((KEYS.replace("= 8", "= 0"), "sides must be above 0"), (KEYS, "no atom of the receptor")):
        (tmp_path / "box.conf").write_text(text)
        with pytest.raises(ConfigError, match=f"box.conf: .*{message}"):
            Vina(receptor=str(tmp_path / "r.pdbqt"), box=str(tmp_path / "box.conf"))


def molecule(smiles: str, *, flat: bool = False) -> Chem.Mol:
    made = Chem.MolFromSmiles(smiles)
    if flat:
        AllChem.Compute2DCoords(made)  # type: ignore[attr-defined]
    else:
        made = Chem.AddHs(made)
        assert AllChem.EmbedMolecule(made, randomSeed=1) == 0  # type: ignore[attr-defined]
    return made


MOL2 = (
    "@<TRIPOS>MOLECULE\nlig\n3 2 0 0 0\nSMALL\nNO_CHARGES\n\n@<TRIPOS>ATOM\n"
    "1 C1 0.0 0.0 0.0 C.3\n2 C2 1.5 0.2 0.1 C.3\n3 O1 2.0 1.5 {z} O.3\n@<TRIPOS>BOND\n1 1 2 1\n2 2 3 1\n"
)
PDBQT = (ATOM + "\n" + OTHER + "\n" + OTHER.replace("13.000", "14.250") + "\n").replace("\n", "\n")


def ligands(flat: bool) -> dict[str, str]:
    made = molecule("CCO", flat=flat)
    return {
        "lig.sdf": Chem.MolToMolBlock(made) + "$$$$\n",
        "lig.mol": Chem.MolToMolBlock(made),
        "v3000.sdf": Chem.MolToV3KMolBlock(made) + "$$$$\n",
        "lig.pdb": Chem.MolToPDBBlock(made),
        "lig.PDB": Chem.MolToPDBBlock(made),
        "lig.mol2": MOL2.format(z="0.0" if flat else "1.0").replace("0.1 C.3", "0.0 C.3" if flat else "0.1 C.3"),
        "lig.pdbqt": PDBQT.replace("14.250", "13.000") if flat else PDBQT.replace("12.000", "12.100", 1),
    }


def in_file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("name", ligands(flat=False))
def test_one_ligand_in_space_draws_a_box_and_a_flat_one_does_not(tmp_path: Path, name: str) -> None:
    centre, size = box_of_ligand(in_file(tmp_path, name, ligands(flat=False)[name]), 2.0)
    assert all(side > 4.0 for side in size)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert box_of_ligand(str(tmp_path / f"{name}.gz"), 2.0) == (centre, size)
    with pytest.raises(ConfigError, match=rf"ligand: .*{name}: all \d+ atoms lie in one plane: this is a drawing"):
        box_of_ligand(in_file(tmp_path, name, ligands(flat=True)[name]), 2.0)


@pytest.mark.parametrize("name", ["lig.sdf", "v3000.sdf", "lig.pdb", "lig.mol2", "lig.pdbqt"])
def test_several_poses_draw_no_box(tmp_path: Path, name: str) -> None:
    text = ligands(flat=False)[name]
    if name in ("lig.pdb", "lig.pdbqt"):
        many = f"MODEL 1\n{text}ENDMDL\nMODEL 2\n{text}ENDMDL\n"
        assert box_of_ligand(in_file(tmp_path, name, f"MODEL 1\n{text}ENDMDL\n"), 2.0)[1] > (2.0, 2.0, 2.0)
    else:
        many = text + text
    with pytest.raises(ConfigError, match=rf"ligand: .*{name}:\d+: a second molecule or pose; keep the one"):
        box_of_ligand(in_file(tmp_path, name, many), 2.0)


def test_the_line_of_a_second_pose(tmp_path: Path) -> None:
    path = in_file(tmp_path, "two.pdbqt", f"{ATOM}\n{OTHER}\nEND\nREMARK\n{ATOM}\n")
    with pytest.raises(ConfigError, match=r"two.pdbqt:5: a second molecule or pose"):
        box_of_ligand(path, 2.0)


def test_atoms_of_one_ligand_may_be_two_or_one(tmp_path: Path) -> None:
    """An ion and a molecule of two atoms are flat by nature."""
    assert box_of_ligand(in_file(tmp_path, "ion.pdbqt", ATOM + "\n"), 2.0) == ((11.0, 12.0, 13.0), (4.0, 4.0, 4.0))
    pair = box_of_ligand(in_file(tmp_path, "pair.pdbqt", f"{ATOM}\n{OTHER}\n"), 2.0)
    assert pair == ((11.75, 12.0, 13.0), (5.5, 4.0, 4.0))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "", r'unknown kind of file "\.xyz"; known: \.pdb'),
        ("a.sdf", "", r"a.sdf: RDKit finds no molecule"),
        ("a.sdf", "not\na\nmolecule\n", r"a.sdf: RDKit finds no molecule"),
        ("a.pdb", "REMARK\n", r"a.pdb: RDKit finds no molecule"),
        ("a.mol2", "@<TRIPOS>MOLECULE\n", r"a.mol2: RDKit finds no molecule"),
        ("a.pdbqt", "REMARK\n", r"a.pdbqt holds no atoms"),
        ("a.pdbqt", f"{ATOM}\n{OTHER[:50]}\n", r"a.pdbqt:2: the line ends before column 78"),
        ("a.pdbqt", ATOM.replace("11.000", "11.0.0"), r'a.pdbqt:1: x, columns 31 to 38, is "11.0.0"'),
    ],
)
def test_files_that_are_no_ligands(tmp_path: Path, capfd, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        box_of_ligand(in_file(tmp_path, name, text), 1.0)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # RDKit says nothing of its own
