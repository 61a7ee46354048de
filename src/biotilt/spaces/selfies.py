"""Molecules as SELFIES tokens: every state decodes to a molecule, and designs are canonical SMILES."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from biotilt.errors import ConfigError, DataError, needs_extra
from biotilt.spaces.molecule_text import MoleculeText, molecule_of
from biotilt.spaces.molecules import EXTRA, REMEMBERED, silence


@dataclass(frozen=True)
class Selfies(MoleculeText):
    """Molecules of up to `length` SELFIES tokens (Krenn et al. 2020); one more symbol, "-", stands for none.

    Texts are canonical SMILES of RDKit, so that two states of one molecule are one design. Pads are dropped
    wherever they stand. By the grammar every state stands for some molecule; what RDKit refuses, and a state
    of pads only, decodes to "", which rewards do not score.

    Args:
        vocabulary: different SELFIES tokens such as "[C]" and "[Ring1]", at least one.
        length: of a state, ≥ 1.

    Raises:
        ConfigError: a token repeats or is not in brackets, there is none, or `length` is below 1.

    >>> import torch
    >>> space = Selfies.of_molecules(["CCO", "C=O"], length=4)
    >>> space.symbols
    ('[=O]', '[C]', '[O]', '-')
    >>> space.decode(torch.tensor([[2, 1, 3, 1], [3, 3, 3, 3]]))
    ['CCO', '']
    >>> Selfies.of_molecules(["CCO"]).family("CCc1ccncc1"), Selfies.of_molecules(["CCO"]).family("CCO")
    ('c1ccncc1', 'CCO')
    """

    kind: ClassVar[str] = "selfies"

    def __post_init__(self) -> None:
        super().__post_init__()
        for word in self.vocabulary:
            if not (word.startswith("[") and word.endswith("]")):
                raise ConfigError(f'selfies: "{word}" is no token; tokens are written in brackets, such as "[C]"')

    @classmethod
    def words_of(cls, smiles: str, row: int) -> list[str]:
        return _words(smiles, row, canonical=True)

    @staticmethod
    def smiles_of(text: str) -> str:
        return _smiles(text)

    def held_words(self, scaffold: str) -> list[str]:
        """Return the tokens of a scaffold.

        SELFIES is read from left to right, and every branch and ring of the scaffold is closed within its own tokens:
        what follows grows from the scaffold's last atom and may close rings with its other atoms, so its atoms and
        which of them are bonded stay. A ring token may still raise the order of a bond between two of them (the
        grammar adds a ring bond to the bond that is there), and then the scaffold's SMARTS is no longer matched: a
        fifth of designs when random tokens follow. The reward `substructure` rules that out, and serves for parts
        that are not at one end: two points of growth cannot be held so.

        `scaffold`: SMILES. The design grows from the atom written last; or from the neighbour of a "*", which may
        stand anywhere, may have a number, "[*:1]", and is dropped. So is the stereo of a double bond that only the
        "*" tells, as in "*/C=C/C". Raises DataError for no molecule, or more than one "*".

        >>> import torch
        >>> space = Selfies.of_molecules(["CCc1ccncc1", "Cc1ccncc1CCCC"])
        >>> held = space.fixed("*c1ccncc1", space.length)
        >>> int(held.mask.sum()), space.decode(torch.where(held.mask, held.letters, space.pad)[None])
        (8, ['c1ccncc1'])
        """
        return _scaffold_words(scaffold, self.vocabulary)


# A search reads the same design again and again: to know it, to compare it, to score it and to write it.
@lru_cache(maxsize=REMEMBERED)
def _smiles(selfies: str) -> str:
    """Return the canonical SMILES of a text of SELFIES tokens, "" where it stands for no molecule."""
    chem, written = needs_extra("rdkit.Chem", EXTRA), needs_extra("selfies", EXTRA).decoder(selfies)
    with silence():
        molecule = chem.MolFromSmiles(written) if written else None
        return chem.MolToSmiles(molecule) if molecule is not None else ""


def _words(smiles: str, row: int, *, canonical: bool) -> list[str]:
    """Return the SELFIES tokens of a molecule, of its canonical SMILES or of the SMILES as it is written."""
    chem, selfies = needs_extra("rdkit.Chem", EXTRA), needs_extra("selfies", EXTRA)
    molecule = molecule_of(smiles, row)
    try:
        written = selfies.encoder(chem.MolToSmiles(molecule) if canonical else smiles)
    except selfies.EncoderError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"molecule {row} cannot be written as SELFIES ({reason}): {smiles}") from None
    return list(selfies.split_selfies(written))


def _scaffold_words(scaffold: str, vocabulary: Collection[str]) -> list[str]:
    """Return SELFIES tokens of a scaffold that end at the atom which a "*" is bonded to, without the "*".

    Of several ways to write it one within the vocabulary is taken, if there is one, and of these the shortest.
    """
    if "*" not in scaffold:
        return _words(scaffold, 1, canonical=False)
    chem = needs_extra("rdkit.Chem", EXTRA)
    with silence():
        molecule = chem.MolFromSmiles(scaffold)
    if molecule is None:
        raise DataError(f'not valid SMILES: "{scaffold}"')
    stars = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]
    if len(stars) != 1 or stars[0].GetDegree() != 1:
        raise DataError(f'a design grows from one atom, and {scaffold} has {len(stars)} "*"; bond one "*" to one atom')
    _plain(stars[0])
    # RDKit has no "end at this atom"; among random orders of writing many end there.
    # A carbon stands for the "*" while tokens are made: without it a branch before the end would become the end.
    orders = sorted({text for text in chem.MolToRandomSmilesVect(molecule, 200, randomSeed=1) if text.endswith("*")})
    written = [_words(f"{text[:-1]}C", 1, canonical=False) for text in orders]
    # the mark of a stereo bond on the way to the "*" is redundant: the bond's other neighbour has one
    ending = [words[:-1] for words in written if words[-1] in ("[C]", "[/C]", "[\\C]")]
    if not ending:
        raise DataError(f'{scaffold} cannot be written so that it ends at "*": the atom must take a single bond')
    return min(ending, key=lambda words: (not set(words).issubset(vocabulary), len(words)))


def _plain(star: Any) -> None:
    """Take number and isotope off a "*", and the stereo of a double bond whose one side only the "*" would tell."""
    star.SetAtomMapNum(0)
    star.SetIsotope(0)
    (neighbour,) = star.GetNeighbors()
    if neighbour.GetDegree() == 2:
        for bond in neighbour.GetBonds():
            bond.SetStereo(type(bond.GetStereo()).STEREONONE)
