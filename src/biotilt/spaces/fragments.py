"""SAFE (Noutahi et al. 2023, arXiv 2310.10773): a molecule as its fragments, joined by numbers, and fragments to hold.

A text of SAFE is SMILES: each bond that was cut is written as the closure of a ring, at its two atoms, and dots part
the fragments. So "c1ccccc1-CCO" may be "c13ccccc1.C3CO".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from biotilt.errors import DataError, needs_extra
from biotilt.spaces.molecule_text import molecule_of
from biotilt.spaces.molecules import EXTRA, REMEMBERED, chem, silence

PIECE = re.compile(r"\[[^\[\]]+\]|Br|Cl|%\(\d+\)|%\d\d|[BCNOSPFIbcnops*]|\d|[-=#$:~/\\]|[().]")
"""An atom, a bond, a number, a bracket of a branch, or the dot between fragments."""
_NUMBER = re.compile(r"\d|%\d\d|%\(\d+\)")
_STAR = re.compile(r"\[(\d+)\*\]")
_BONDS = frozenset("-=#$:~/\\")
_MULTIPLE = frozenset("=#$:~")


def pieces(text: str) -> list[str]:
    """Return the pieces of SMILES, or of SAFE; DataError where something between them is neither.

    >>> pieces("C[C@@H](Cl)c1cc%10cc1.N%10")
    ['C', '[C@@H]', '(', 'Cl', ')', 'c', '1', 'c', 'c', '%10', 'c', 'c', '1', '.', 'N', '%10']
    """
    found = PIECE.findall(text)
    if "".join(found) != text:
        raise DataError(f'not SMILES, nor SAFE: "{text}"')
    return found


def smiles_of(text: str) -> str:
    """Return the canonical SMILES of a text of SAFE, "" where it stands for no molecule.

    It does not where RDKit refuses it (a number is left open, an atom has too many bonds), nothing joins its parts, a
    bond between fragments is written in two ways ("C1CCCC13.O=3"), or an atom that is written as aromatic is not: what
    follows a fragment must not make another one of it.

    >>> smiles_of("c13ccccc1.C3CO"), smiles_of("c13ccccc1.CCO"), smiles_of("C1CCCCC12.O=2")
    ('OCCc1ccccc1', '', '')
    """
    return _read(text)


# a search reads the same design again and again
@lru_cache(maxsize=REMEMBERED)
def _read(text: str) -> str:
    found = PIECE.findall(text)
    if "*" in text or not found or not _is_joined_alike(found):
        return ""
    order = chem().SmilesParserParams()
    order.removeHs = False
    with silence():
        molecule = chem().MolFromSmiles(text, order)
        if molecule is None or not _is_aromatic_as_written(molecule, found):
            return ""
        return "" if len(chem().GetMolFrags(molecule)) != 1 else chem().MolToSmiles(chem().RemoveHs(molecule))


def _is_joined_alike(text: list[str]) -> bool:
    """Whether the two ends of every bond between fragments have the same sign."""
    ends: dict[str, tuple[int, str]] = {}
    fragment, bond = 0, ""
    for piece in text:
        if _NUMBER.fullmatch(piece):
            there = ends.pop(piece, None)
            if there is None:
                ends[piece] = fragment, bond
            elif there[0] != fragment and there[1] != bond:
                return False
        fragment += piece == "."
        bond = piece if piece in _MULTIPLE else ""
    return True


def _is_aromatic_as_written(molecule: Any, text: list[str]) -> bool:
    """Whether every atom that is written as aromatic is so in the molecule, whose atoms are in that order."""
    atoms = [piece.lstrip("[0123456789") for piece in text if piece[0].isalpha() or piece[0] == "["]
    return all(at.GetIsAromatic() for atom, at in zip(atoms, molecule.GetAtoms(), strict=True) if atom[0].islower())


def safe_of(smiles: str, row: int = 1) -> str:
    """Return a molecule as SAFE, cut by the rules of BRICS, its largest fragment first: one text for a molecule.

    Where stereochemistry would be lost bonds beside it are left whole. Raises DataError, which names the `row`, for
    what is no molecule, or several.

    >>> safe_of("CCOC(=O)c1ccccc1")
    'c12ccccc1.CC3.C42=O.O34'
    """
    return _cut(chem().MolToSmiles(molecule_of(smiles, row)))


@lru_cache(maxsize=REMEMBERED)
def _cut(canonical: str) -> str:
    molecule = chem().MolFromSmiles(canonical)
    bonds = _cuts(molecule)
    for chosen in (bonds, [bond for bond in bonds if not _beside_stereo(molecule.GetBondWithIdx(bond))]):
        if chosen and smiles_of(text := _joined(_parts(molecule, chosen))) == smiles_of(canonical):
            return text
    return canonical


def fragments(smiles: str) -> list[str]:
    """Return the fragments that a molecule is cut into, the largest first, with a "*" at each bond that was cut.

    >>> fragments("CCOC(=O)c1ccccc1")
    ['*c1ccccc1', '*CC', '*C(*)=O', '*O*']
    """
    molecule = molecule_of(smiles, 1)
    bonds = _cuts(molecule)
    return [_starred(part) for part in (_parts(molecule, bonds) if bonds else [molecule])]


def without(smiles: str, fragment: str) -> str:
    """Return what is left of a molecule when one of its `fragments` is taken out: a scaffold to hold, for another.

    `fragment`: as `fragments` has it, or any SMILES of it; the first of several alike. Raises DataError where the
    molecule has no such fragment, or none but it.

    >>> without("CCOC(=O)c1ccccc1", "*C(*)=O")
    '*OCC.*c1ccccc1'
    """
    molecule = molecule_of(smiles, 1)
    bonds = _cuts(molecule)
    if not bonds:
        raise DataError(f"nothing of {smiles} can be taken out: it is one fragment")
    cut = chem().FragmentOnBonds(molecule, bonds, addDummies=False)
    asked = chem().MolFromSmiles(fragment)
    wanted = None if asked is None else _starred(asked)
    names = fragments(smiles)
    for atoms in chem().GetMolFrags(cut):
        around = [bond for bond in bonds if len(_ends(molecule, bond) & set(atoms)) == 1]
        parts = chem().GetMolFrags(chem().FragmentOnBonds(molecule, around), asMols=True, sanitizeFrags=False)
        places = chem().GetMolFrags(chem().FragmentOnBonds(molecule, around))
        inside = next(number for number, place in enumerate(places) if atoms[0] in place)
        if _starred(parts[inside]) == wanted:
            return ".".join(sorted(_starred(part) for number, part in enumerate(parts) if number != inside))
    raise DataError(f'{smiles} has no fragment "{fragment}": it has {", ".join(names)}')


def points(smiles: str) -> list[str]:
    """Return a molecule with a "*" at each of its different atoms that has a hydrogen to give: where it can grow.

    >>> points("Cc1ccncc1")
    ['*Cc1ccncc1', '*c1cnccc1C', '*c1cc(C)ccn1']
    """
    molecule = molecule_of(smiles, 1)
    found = dict[str, None]()
    for atom in molecule.GetAtoms():
        if atom.GetTotalNumHs() > 0:
            grown = chem().RWMol(molecule)
            grown.AddBond(atom.GetIdx(), grown.AddAtom(chem().Atom(0)), chem().BondType.SINGLE)
            if atom.GetNumExplicitHs():
                grown.GetAtomWithIdx(atom.GetIdx()).SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
            with silence():
                if chem().SanitizeMol(grown, catchErrors=True) == chem().SanitizeFlags.SANITIZE_NONE:
                    found[chem().MolToSmiles(grown)] = None
    return list(found)


def open_safe(scaffold: str) -> str:
    """Return fragments, SMILES with a "*" at each bond to what is not there yet, as the start of a text of SAFE.

    Each "*" becomes a number that the rest of the text has to close. Raises DataError where it is no SMILES, or a
    fragment has no "*", or one that is not at a single bond.

    >>> open_safe("*c1ccncc1.O=C(*)N*")
    'c12ccncc1.O=C3N4.'
    """
    with silence():
        molecule = chem().MolFromSmiles(scaffold)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise DataError(f'not valid SMILES: "{scaffold}"')
    stars = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    for star in stars:
        bonds = [bond.GetBondType() for bond in star.GetBonds()]
        if bonds != [chem().BondType.SINGLE] or star.GetNeighbors()[0].GetAtomicNum() == 0:
            raise DataError(f'a "*" of {scaffold} stands for what is joined by one single bond, and this one is not')
    for number, star in enumerate(stars, 1):
        star.SetAtomMapNum(0)
        star.SetIsotope(number)
    parts = chem().GetMolFrags(molecule, asMols=True, sanitizeFrags=False)
    for part in parts:
        if all(atom.GetAtomicNum() for atom in part.GetAtoms()):
            known = chem().MolToSmiles(part)
            ways = ", ".join(points(known)[:6])
            raise DataError(f'say where {known} grows, by "*"' + (f": {ways}" if ways else ""))
    return _joined(parts) + "."


def _cuts(molecule: Any) -> list[int]:
    """Return the single bonds that BRICS cuts."""
    brics = needs_extra("rdkit.Chem.BRICS", EXTRA)
    ends = sorted(tuple(sorted(atoms)) for atoms, _ in brics.FindBRICSBonds(molecule))
    bonds = [molecule.GetBondBetweenAtoms(*atoms) for atoms in ends]
    return [bond.GetIdx() for bond in bonds if bond.GetBondType() == chem().BondType.SINGLE]


def _ends(molecule: Any, bond: int) -> set[int]:
    found = molecule.GetBondWithIdx(bond)
    return {found.GetBeginAtomIdx(), found.GetEndAtomIdx()}


def _beside_stereo(bond: Any) -> bool:
    """Whether a bond is at a centre, or beside a double bond, whose neighbours' order tells something."""
    atoms = (bond.GetBeginAtom(), bond.GetEndAtom())
    centre = any(atom.GetChiralTag() != chem().ChiralType.CHI_UNSPECIFIED for atom in atoms)
    return centre or any(near.GetStereo() != chem().BondStereo.STEREONONE for atom in atoms for near in atom.GetBonds())


def _parts(molecule: Any, bonds: list[int]) -> list[Any]:
    """Return the parts of a molecule between bonds, the largest first; the ends of a bond have its number, "[3*]"."""
    labels = [(number, number) for number in range(1, len(bonds) + 1)]
    parts = chem().GetMolFrags(chem().FragmentOnBonds(molecule, bonds, dummyLabels=labels), asMols=True)
    return sorted(parts, key=lambda part: -part.GetNumHeavyAtoms())


def _starred(part: Any) -> str:
    """Return a part as canonical SMILES, its ends as "*"."""
    part = chem().Mol(part)
    for atom in part.GetAtoms():
        if atom.GetAtomicNum() == 0:
            atom.SetIsotope(0)
            atom.SetAtomMapNum(0)
    return chem().MolToSmiles(part)


def _joined(parts: Collection[Any]) -> str:
    """Return parts as SAFE: their ends "[3*]" become numbers that no ring of theirs has."""
    roots = [next(atom.GetIdx() for atom in part.GetAtoms() if atom.GetAtomicNum()) for part in parts]
    texts = [chem().MolToSmiles(part, rootedAtAtom=root) for part, root in zip(parts, roots)]
    rings = [int(piece.strip("%()")) for text in texts for piece in pieces(text) if _NUMBER.fullmatch(piece)]
    numbers: dict[str, int] = {}
    for label in _STAR.findall(".".join(texts)):
        numbers.setdefault(label, max(rings, default=0) + 1 + len(numbers))
    written = {label: _number(number) for label, number in numbers.items()}
    return ".".join(_written(_tree(pieces(text)), written) for text in texts)


def _number(number: int) -> str:
    return str(number) if number < 10 else f"%{number}" if number < 100 else f"%({number})"


@dataclass
class _Atom:
    """An atom of SMILES as it is written, its numbers with their bonds, and what follows it, each by a bond."""

    text: str
    numbers: list[str] = field(default_factory=list)
    after: list[tuple[str, _Atom]] = field(default_factory=list)


def _tree(found: list[str]) -> _Atom:
    """Return the first atom of the SMILES of one part, with all others after it."""
    root, at, bond = _Atom(found[0]), list[_Atom](), ""
    here = root
    for piece in found[1:]:
        if piece == "(":
            at.append(here)
        elif piece == ")":
            here = at.pop()
        elif piece in _BONDS:
            bond = piece
        elif _NUMBER.fullmatch(piece):
            here.numbers.append(bond + piece)
            bond = ""
        else:
            here.after.append((bond, _Atom(piece)))
            here, bond = here.after[-1][1], ""
    return root


def _written(atom: _Atom, numbers: dict[str, str]) -> str:
    """Return SMILES in which the ends of cut bonds are numbers.

    A number comes before what is bonded to an atom otherwise: where it passes an odd number of these, the atom's
    chirality, which is told by that order, is written the other way round.
    """
    found = ""
    while True:
        ends = [(place, bond, _STAR.fullmatch(end.text)) for place, (bond, end) in enumerate(atom.after)]
        cut = [(place, bond + numbers[star[1]]) for place, bond, star in ends if star]
        kept = [atom.after[place] for place, _, star in ends if not star]
        passed = sum(place - rank for rank, (place, _) in enumerate(cut))
        found += _turned(atom.text) if passed % 2 else atom.text
        found += "".join([*atom.numbers, *(number for _, number in cut)])
        found += "".join(f"({bond}{_written(branch, numbers)})" for bond, branch in kept[:-1])
        if not kept:
            return found
        found += kept[-1][0]
        atom = kept[-1][1]


def _turned(text: str) -> str:
    return text.replace("@@", "@") if "@@" in text else text.replace("@", "@@")
