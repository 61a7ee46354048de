"""From atoms and bond orders to a molecule: valences that are exceeded, charges that these imply, and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from biotilt.spaces.molecules import REMEMBERED, chem, silence
from biotilt.spaces.told import DecodedText

VALENCE = {
    "B": 3, "C": 4, "N": 3, "O": 2, "F": 1, "Si": 4, "P": 5, "S": 6, "Cl": 1, "Br": 1, "I": 1,
}  # fmt: skip
"""The most bonds that an atom without charge has, a double bond counting as two."""
CHARGED = ("N", "O")  # with one bond more they are positive, as in a nitro group
_PARTNERS = {"O": 0, "N": 1}

Orders = list[list[int]]


@dataclass(frozen=True)
class Mended:
    """Symmetric bond `orders` (n × n) that keep every valence, and whether any had to be taken away for it."""

    orders: Orders
    changed: bool


def mend(atoms: Sequence[str], orders: Sequence[Sequence[int]]) -> Mended:
    """Return bond orders (n × n, 0 to 3, symmetric) in which no atom has more bonds than it can have.

    As in MoFlow (Zang and Wang 2020, arXiv 2006.10137) and GDSS (Jo et al. 2022, arXiv 2202.02514): the highest bond of
    an atom that has too many loses one order, again and again. An N or O with just one bond more than without charge
    is no fault: it is positive. One with still more is taken down to none.

    >>> mend(["C", "O", "O", "O"], [[0, 2, 2, 1], [2, 0, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0]]).orders[0]
    [0, 1, 2, 1]
    >>> mend(["N", "C", "C", "C", "C"], [[0, 1, 1, 1, 1], *[[1, 0, 0, 0, 0]] * 4]).changed
    False
    """
    found, changed = [list(row) for row in orders], False
    for atom, symbol in enumerate(atoms):
        row, most = found[atom], VALENCE[symbol]
        if sum(row) <= most + (symbol in CHARGED):
            continue
        changed = True
        while sum(row) > most:
            other = max(range(len(row)), key=row.__getitem__)  # the first of the highest
            row[other] -= 1
            found[other][atom] -= 1
    return Mended(found, changed)


def charges(atoms: Sequence[str], orders: Orders) -> list[int]:
    """Return the charge of each atom: +1 where an N or O has one bond more, −1 where that is balanced beside it.

    The partner is a neighbour that is bonded to nothing else and has just one bond free: the second oxygen of a nitro
    group, the end of an azide or a diazo group, the carbon of an isocyanide. So these have no charge as a whole. Of
    several an oxygen is taken before a nitrogen, and any other atom last: the order of atoms says nothing.

    >>> charges(["C", "N", "O", "O"], [[0, 1, 0, 0], [1, 0, 2, 1], [0, 2, 0, 0], [0, 1, 0, 0]])
    [0, 1, 0, -1]
    """
    found = [int(symbol in CHARGED and sum(row) == VALENCE[symbol] + 1) for symbol, row in zip(atoms, orders)]
    for atom in [i for i, charge in enumerate(found) if charge > 0]:
        alone = [other for other, order in enumerate(orders[atom]) if order and sum(orders[other]) == order]
        fit = [other for other in alone if found[other] == 0 and VALENCE[atoms[other]] - orders[atom][other] == 1]
        if fit:
            found[min(fit, key=lambda other: _PARTNERS.get(atoms[other], len(_PARTNERS)))] = -1
    return found


def parts(orders: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the atoms of each connected part, the largest part first and of equal ones the first.

    >>> parts([[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    [[1, 2], [0]]
    """
    left, found = set(range(len(orders))), list[list[int]]()
    while left:
        reached, edge = set[int](), [min(left)]
        while edge:
            atom = edge.pop()
            reached.add(atom)
            edge += [other for other, order in enumerate(orders[atom]) if order and other not in reached]
        left -= reached
        found.append(sorted(reached))
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=REMEMBERED)
def molecule_text(atoms: tuple[str, ...], orders: tuple[tuple[int, ...], ...]) -> DecodedText:
    """Return the canonical SMILES of the largest part of a molecule, mended, and how it was found.

    "", which counts as mended, where there is no atom, or RDKit refuses what there is.
    """
    if not atoms:
        return DecodedText("", mended=True, parts=0)
    mended = mend(atoms, orders)
    all_parts = parts(mended.orders)
    kept = all_parts[0]
    symbols = [atoms[atom] for atom in kept]
    bonds = [[mended.orders[atom][other] for other in kept] for atom in kept]
    smiles = _smiles(symbols, bonds)
    return DecodedText(smiles, mended=mended.changed or not smiles, parts=len(all_parts))


def _smiles(atoms: Sequence[str], orders: Orders) -> str:
    rdkit = chem()
    molecule = rdkit.RWMol()
    for symbol, charge in zip(atoms, charges(atoms, orders)):
        atom = rdkit.Atom(symbol)
        atom.SetFormalCharge(charge)
        molecule.AddAtom(atom)
    for first, row in enumerate(orders):
        for second in range(first + 1, len(row)):
            if row[second]:
                molecule.AddBond(first, second, rdkit.BondType.values[row[second]])
    with silence():
        if rdkit.SanitizeMol(molecule, catchErrors=True) != rdkit.SanitizeFlags.SANITIZE_NONE:
            return ""
        read = rdkit.MolFromSmiles(rdkit.MolToSmiles(molecule))  # as every other SMILES is made canonical
        return "" if read is None else rdkit.MolToSmiles(read)
