"""Molecules as SELFIES tokens: every state decodes to a molecule, and designs are canonical SMILES."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Held, Related, Varying
from biotilt.errors import ConfigError, DataError, needs_extra
from biotilt.options import Length, Vocabulary
from biotilt.spaces.alphabet import PAD
from biotilt.spaces.molecules import EXTRA, REMEMBERED, fingerprints, scaffold_of, silence
from biotilt.spaces.text import Text


@dataclass(frozen=True)
class SelfiesOptions:
    """What a file says of SELFIES."""

    vocabulary: Vocabulary
    length: Length


@dataclass(frozen=True)
class Selfies(Text, Held[str], Varying[str], Related[str]):
    """Molecules of up to `length` SELFIES tokens (Krenn et al. 2020); one more symbol, "-", stands for none.

    Texts are canonical SMILES of RDKit, so that two states of one molecule are one design. Pads are dropped
    wherever they stand. By the grammar every state stands for some molecule; what RDKit refuses, and a state
    of pads only, decodes to "", which rewards do not score.

    Args:
        vocabulary: different SELFIES tokens such as "[C]" and "[Ring1]", at least one.
        length: of a state, ≥ 1.

    Raises:
        ConfigError: a token repeats or is not in brackets, there is none, or `length` is below 1.

    >>> space = Selfies.of_molecules(["CCO", "C=O"], length=4)
    >>> space.symbols
    ('[=O]', '[C]', '[O]', '-')
    >>> space.decode(torch.tensor([[2, 1, 3, 1], [3, 3, 3, 3]]))
    ['CCO', '']
    """

    vocabulary: tuple[str, ...]
    length: int

    kind: ClassVar[str] = "selfies"
    Options: ClassVar[type] = SelfiesOptions
    held_by: ClassVar[Literal["fixed", "scaffold"]] = "scaffold"

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        words = self.vocabulary
        if self.length < 1 or not words or len(set(words)) < len(words):
            raise ConfigError(
                f"selfies: a length ≥ 1 and different tokens are needed, got length {self.length} "
                f"and {len(words)} tokens, {len(set(words))} of them different"
            )
        for word in words:
            if not (word.startswith("[") and word.endswith("]")):
                raise ConfigError(f'selfies: "{word}" is no token; tokens are written in brackets, such as "[C]"')

    @classmethod
    def of_molecules(cls, smiles: Sequence[str], length: int | None = None) -> Selfies:
        """Return the space whose vocabulary is the tokens of these molecules, in alphabetical order.

        `length`: of a state; default: of the longest of the molecules. Raises DataError as `encode` does.
        """
        written = [_words(molecule, row, canonical=True) for row, molecule in enumerate(smiles, 1)]
        if not written:
            raise DataError("there are no molecules to take a vocabulary from")
        vocabulary = tuple(sorted({word for words in written for word in words}))
        return cls(vocabulary, length or max(len(words) for words in written))

    @property
    def name(self) -> str:
        return "selfies"

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*self.vocabulary, PAD)

    @property
    def pad(self) -> int:
        """The token that stands for no symbol."""
        return len(self.vocabulary)

    def encode(self, designs: Sequence[str]) -> Tensor:
        """Return tokens `(B, L)` of SMILES, each made canonical first, so that a molecule has one state.

        Raises:
            DataError: there is no text; one is no molecule, is of several parts, is too long, or needs a token
                outside the vocabulary. The message names the molecule and the token.
        """
        if not designs:
            raise DataError("there are no molecules to encode")
        tokens = torch.full((len(designs), self.length), self.pad, dtype=self.token_type)
        for row, text in enumerate(designs):
            found = self._tokens(_words(text, row + 1, canonical=True), f"molecule {row + 1}", text)
            tokens[row, : len(found)] = torch.tensor(found, dtype=self.token_type)
        return tokens

    def decode(self, states: Tensor) -> list[str]:
        """Return the canonical SMILES of complete states `(B, L)`, "" where there is no molecule.

        Raises:
            DataError: another shape, or a number that is no token (a mask among them).
        """
        self._check_states(states)
        return [self._decode(row) for row in states.tolist()]

    def _decode(self, row: list[int]) -> str:
        return _smiles("".join(self.vocabulary[token] for token in row if token != self.pad))

    def family(self, design: str) -> str:
        """Return the Bemis-Murcko scaffold of a molecule; itself where it has no ring.

        >>> Selfies.of_molecules(["CCO"]).family("CCc1ccncc1"), Selfies.of_molecules(["CCO"]).family("CCO")
        ('c1ccncc1', 'CCO')
        """
        return scaffold_of(design)

    def fixed(self, given: str | Mapping[str, str], length: int) -> Fixed:
        """Return what starts every design with a scaffold.

        SELFIES is read from left to right, and every branch and ring of the scaffold is closed within its own tokens:
        what follows grows from the scaffold's last atom and may close rings with its other atoms, so its atoms and
        which of them are bonded stay. A ring token may still raise the order of a bond between two of them (the
        grammar adds a ring bond to the bond that is there), and then the scaffold's SMARTS is no longer matched: a
        fifth of designs when random tokens follow. The reward `substructure` rules that out, and serves for parts
        that are not at one end: two points of growth cannot be held so.

        Args:
            given: SMILES. The design grows from the atom written last; or from the neighbour of a "*", which
                may stand anywhere, may have a number, "[*:1]", and is dropped. So is the stereo of a double bond
                that only the "*" tells, as in "*/C=C/C".
            length: L, that of the states.

        Raises:
            ConfigError: no molecule, more than one "*", a token outside the vocabulary, or no room to grow.

        >>> space = Selfies.of_molecules(["CCc1ccncc1", "Cc1ccncc1CCCC"])
        >>> held = space.fixed("*c1ccncc1", space.length)
        >>> int(held.mask.sum()), space.decode(torch.where(held.mask, held.letters, space.pad)[None])
        (8, ['c1ccncc1'])
        """
        scaffold = str(given)
        try:
            found = self._tokens(_scaffold_words(scaffold, self.vocabulary), "the scaffold", scaffold)
        except DataError as error:
            raise ConfigError(f"design.scaffold: {error}") from None
        if len(found) >= self.length:
            raise ConfigError(
                f"design.scaffold: {scaffold} takes {len(found)} of {self.length} tokens, so there is no room to grow"
            )
        letters = torch.zeros(self.length, dtype=self.token_type)
        letters[: len(found)] = torch.tensor(found, dtype=self.token_type)
        return Fixed(torch.arange(self.length) < len(found), letters)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.name, "vocabulary": list(self.vocabulary), "length": self.length}

    def counts(self, designs: Sequence[str]) -> Tensor:
        """Return the count Morgan fingerprints `(N, BITS)` of radius 2; zeros for what is no molecule."""
        return fingerprints(designs)

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary)}

    def _tokens(self, words: list[str], what: str, text: str) -> list[int]:
        if len(words) > self.length:
            raise DataError(f"{what} has {len(words)} tokens, and at most {self.length} fit: {text}")
        if wrong := [word for word in words if word not in self._token_of]:
            raise DataError(f'{what} needs the token "{wrong[0]}", which is not in the vocabulary: {text}')
        return [self._token_of[word] for word in words]


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
    with silence():
        molecule = chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise DataError(f'molecule {row} is not valid SMILES: "{smiles}"')
    if "." in smiles:
        raise DataError(f"molecule {row} is of several parts; keep one of them: {smiles}")
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
