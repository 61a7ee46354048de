"""Amino acids of PDB files: every residue counts as one of the 20, or is named in an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from biotilt.errors import DataError, needs_extra
from biotilt.files import read_text
from biotilt.rewards.protein import mmcif
from biotilt.spaces import PROTEIN

# of the 20 residues, in the order of the alphabet
RESIDUE_NAMES = (
    "ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU",
    "MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR",
)  # fmt: skip
# What force fields (Amber, CHARMM, GROMOS, OPLS) call protonation states. Some mean something else in the dictionary of
# the PDB: HSE is homoserine there, and GLH a glutamine.
_PROTONATED = {
    "HIS": "HID HIE HIP HSD HSE HSP HISA HISB HISD HISE HISH HISP HIS1 HIS2",
    "ASP": "ASH ASPH ASPP", "GLU": "GLH GLUH GLUP", "LYS": "LYN LSN LYSH LYSN", "ARG": "ARN ARGN",
    "CYS": "CYX CYM CYN CYSH CYS1 CYS2", "TYR": "TYM TYD",
}  # fmt: skip
_PARENTS = {name: name for name in RESIDUE_NAMES} | {
    name: parent for parent, names in _PROTONATED.items() for name in names.split()
}
_ONE_LETTER = dict(zip(RESIDUE_NAMES, PROTEIN.letters))
_THREE_LETTERS = dict(zip(PROTEIN.letters, RESIDUE_NAMES))
_BACKBONE = {"N", "CA", "C"}


class _Atom(NamedTuple):
    """A line of coordinates; `part` counts the TER lines of its chain that came before."""

    line: int
    hetero: bool
    name: str
    altloc: str
    residue: str
    chain: str
    part: int
    number: int
    insertion: str
    place: tuple[float, float, float]
    b_factor: float
    element: str

    @property
    def of(self) -> tuple[str, int, int, str]:
        return self.chain, self.part, self.number, self.insertion

    def __str__(self) -> str:
        chain = f" of chain {self.chain}" if self.chain else ""
        return f"residue {self.residue} {self.number}{self.insertion}{chain}"


def read_pdb(path: Path | str) -> Any:
    """Return the amino acids of a PDB or mmCIF file (also .gz), first model, as biotite's AtomArray with B-factors.

    Modified residues and protonation states count as their parent, by the dictionary of the PDB and the names of
    force fields, and are renamed to it. What is no amino acid (waters, ions, ligands, nucleic acids, caps) is left
    out, and so are hetero groups behind the TER of their chain. A chain ends at TER, in mmCIF with its entity: what
    follows under the same letter "A" is chain "A:2". B-factors that are not there are NaN. Of alternative places the
    first is taken.

    Raises DataError, with file and line, when a line is malformed, or a residue is unknown, has no Cα, or is there
    twice; and when there is no amino acid at all.
    """
    needs_extra("biotite.structure", "protein")
    path = Path(path)
    atoms = list(_atoms(path))
    with_polymer = {(atom.chain, atom.part) for atom in atoms if not atom.hetero or not atom.part}
    residues: list[list[_Atom]] = []
    seen: set[tuple[str, int, int, str]] = set()
    for residue in _residues(atom for atom in atoms if (atom.chain, atom.part) in with_polymer):
        residue = _one_place(residue)
        first = residue[0]
        if (parent := _parent(residue, path)) is None:
            continue
        if first.of in seen:
            raise DataError(
                f"{path}:{first.line}: {first} is there twice; give chains letters of their own, or end each with TER"
            )
        seen.add(first.of)
        residues.append([_renamed(atom, parent) for atom in residue])
    if not residues:
        raise DataError(f"{path} holds no amino acid with a Cα atom")
    return _array([atom for residue in residues for atom in residue])


def _atoms(path: Path) -> Iterator[_Atom]:
    """Yield the atoms of the first model."""
    if mmcif.is_cif(path):
        yield from _cif_atoms(path)
        return
    parts: dict[str, int] = {}
    chain, read = "", False
    for line, text in enumerate(read_text(path, any_bytes=True).split("\n"), start=1):
        record = text[:6].upper()
        if record == "ENDMDL" and read:
            return
        if record.rstrip() == "TER" and read:
            parts[chain] = parts.get(chain, 0) + 1
        if record.startswith(("ATOM", "HETATM")):
            chain, read = text[21:22].strip(), True
            yield _atom(text, line, parts.get(chain, 0), path)


def _atom(text: str, line: int, part: int, path: Path) -> _Atom:
    try:
        if len(text) < 54:
            raise ValueError("the line ends before its coordinates do, in column 54")
        x, y, z = (float(text[start : start + 8]) for start in (30, 38, 46))
        number = _number(text[22:26])
    except ValueError as error:
        raise DataError(f"{path}:{line}: not an atom in PDB format: {error}") from error
    if not np.isfinite((x, y, z)).all():
        raise DataError(f"{path}:{line}: not an atom in PDB format: its coordinates are not finite")
    try:
        b_factor = float(text[60:66])
    except ValueError:  # it is not there, and most measures need none
        b_factor = np.nan
    name = text[12:16].strip().upper()
    element = text[76:78].strip().upper() or name.lstrip("0123456789")[:1]
    return _Atom(
        line, text[:6].upper() == "HETATM", name, text[16:17].strip(), text[17:21].strip().upper(),
        text[21:22].strip(), part, number, text[26:27].strip(), (x, y, z), b_factor, element,
    )  # fmt: skip


def _cif_atoms(path: Path) -> Iterator[_Atom]:
    """Yield the atoms of a file in mmCIF format, whose lines are counted from the first atom."""
    entities: dict[str, list[str]] = {}
    for line, row in enumerate(mmcif.rows(path), start=1):
        of_chain = entities.setdefault(row.chain, [])
        if row.entity not in of_chain:
            of_chain.append(row.entity)
        try:
            place, number = (float(row.x), float(row.y), float(row.z)), int(row.number)
            b_factor = float(row.b_factor or "nan")
        except ValueError as error:
            raise DataError(f"{path}: atom {line} of its table: {error}") from error
        if not np.isfinite(place).all():
            raise DataError(f"{path}: atom {line} of its table: its coordinates are not finite")
        yield _Atom(
            line, row.hetero == "HETATM", row.name.upper(), row.altloc, row.residue.upper(), row.chain,
            of_chain.index(row.entity), number, row.insertion, place, b_factor, row.element.upper() or row.name[:1],
        )  # fmt: skip


def _number(text: str) -> int:
    """Return the number of a residue, beyond 9999 in the "hybrid-36" of large files."""
    try:
        return int(text)
    except ValueError:
        decode = needs_extra("biotite.structure.io.pdb.hybrid36", "protein").decode_hybrid36
        try:
            return int(decode(text))
        except Exception:  # biotite's own type
            raise ValueError(f"residue number {text!r}") from None


def _residues(atoms: Iterable[_Atom]) -> Iterator[list[_Atom]]:
    residue: list[_Atom] = []
    for atom in atoms:
        if residue and residue[0].of != atom.of:
            yield residue
            residue = []
        residue.append(atom)
    if residue:
        yield residue


def _one_place(residue: list[_Atom]) -> list[_Atom]:
    """Return the atoms of a residue at the first of its alternative places."""
    first = next((atom.altloc for atom in residue if atom.altloc), "")
    return [atom for atom in residue if atom.altloc in ("", first)]


def _parent(residue: list[_Atom], path: Path) -> str | None:
    """Return which of the 20 a residue counts as, None for what is no amino acid; DataError for one that is unknown."""
    first, names = residue[0], [atom.name for atom in residue]
    where, alone = f"{path}:{first.line}: {first}", names == ["CA"]
    parent = _known(first.residue, has_ring=alone or "ND1" in names)
    if parent is None:
        if not alone and not _BACKBONE.issubset(names):
            return None
        if (code := _code(first.residue)) is None and alone:
            return None  # calcium, for example
        parent = _THREE_LETTERS.get(code or "")
    if parent is None:
        raise DataError(f"{where} counts as none of the 20 amino acids; rename it to the one it is to count as")
    if (count := names.count("CA")) != 1:
        number = "no Cα atom" if count == 0 else f"{count} Cα atoms"
        raise DataError(f"{where} has {number}; complete it or remove it")
    if other := next((atom for atom in residue if atom.residue != first.residue), None):
        raise DataError(f"{path}:{other.line}: {other} is {first.residue} in the lines before")
    return parent


def _known(name: str, *, has_ring: bool) -> str | None:
    """Return the parent of a standard name or a force field's, also with N or C before it for the ends of a chain."""
    if name == "HSE" and not has_ring:
        return None
    return _PARENTS.get(name) or (_PARENTS.get(name[1:]) if len(name) == 4 and name[0] in "NC" else None)


@cache
def _code(name: str) -> str | None:
    """Return the one-letter code that the PDB's dictionary of chemical components gives a peptide's component."""
    info = needs_extra("biotite.structure.info", "protein")
    is_peptide = "PEPTIDE" in (info.link_type(name) or "").upper()
    return info.one_letter_code(name) if is_peptide else None


def _renamed(atom: _Atom, parent: str) -> _Atom:
    if atom.residue == "MSE" and atom.name == "SE":
        atom = atom._replace(name="SD", element="S")
    return atom._replace(residue=parent)


def _array(atoms: Sequence[_Atom]) -> Any:
    """Return biotite's AtomArray; the parts of a chain letter that TER divides are chains of their own."""
    structure = needs_extra("biotite.structure", "protein")
    array = structure.AtomArray(len(atoms))
    parts: dict[str, list[int]] = {}
    for atom in atoms:
        of = parts.setdefault(atom.chain, [])
        if atom.part not in of:
            of.append(atom.part)
    places = [parts[atom.chain].index(atom.part) for atom in atoms]
    chains = [f"{a.chain}:{place + 1}" if place else a.chain for a, place in zip(atoms, places)]
    array.coord = np.array([atom.place for atom in atoms], dtype=np.float32)
    array.chain_id = np.array(chains, dtype=f"U{max(4, *map(len, chains))}")
    array.res_id = np.array([atom.number for atom in atoms])
    array.ins_code = np.array([atom.insertion for atom in atoms], dtype="U1")
    array.res_name = np.array([atom.residue for atom in atoms], dtype="U5")
    array.hetero = np.zeros(len(atoms), dtype=bool)
    array.atom_name = np.array([atom.name for atom in atoms], dtype="U6")
    array.element = np.array([atom.element for atom in atoms], dtype="U2")
    array.set_annotation("b_factor", np.array([atom.b_factor for atom in atoms]))
    return array


def split_chains(atoms: Any) -> list[Any]:
    """Return the chains of a structure, in the order of the file."""
    return [atoms[atoms.chain_id == chain] for chain in dict.fromkeys(atoms.chain_id.tolist())]


def sequence_of(atoms: Any) -> str:
    """Return the one-letter codes of the residues of a structure."""
    return "".join(_ONE_LETTER[name] for name in atoms.res_name[atoms.atom_name == "CA"].tolist())


def plddt_of(atoms: Any) -> np.ndarray:
    """Return confidences in [0, 1] from the B-factors of the Cα atoms; values above 1 are per cent.

    Raises DataError when one is missing, or none can be a confidence.
    """
    values = np.asarray(atoms.b_factor[atoms.atom_name == "CA"], dtype=np.float64)
    if np.isnan(values).any():
        raise DataError("the structure has no B-factors, where folding programs write their confidence")
    if (values < 0).any() or (values > 100).any():
        wrong = values[(values < 0) | (values > 100)][0]
        raise DataError(f"a B-factor of {wrong:g} is no confidence, which is between 0 and 100 per cent")
    return values / 100 if (values > 1).any() else values
