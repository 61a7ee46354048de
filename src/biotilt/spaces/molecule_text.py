"""What spaces of molecules in text share: designs are canonical SMILES, states are tokens of a text for one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.core.space import Held, Related, Varying
from biotilt.errors import ConfigError, DataError
from biotilt.options import Length, Vocabulary
from biotilt.spaces.alphabet import PAD
from biotilt.spaces.molecules import chem, fingerprints, scaffold_of, silence
from biotilt.spaces.text import Text


@dataclass(frozen=True)
class MoleculeOptions:
    """What a file says of a space of molecules."""

    vocabulary: Vocabulary
    length: Length


@dataclass(frozen=True)
class MoleculeText(Text, Held[str], Varying[str], Related[str]):
    """Molecules of up to `length` tokens of a `vocabulary`; one more symbol, `empty`, stands for none.

    Designs are canonical SMILES of RDKit, so that two states of one molecule are one design. Pads are dropped wherever
    they stand. What stands for no molecule decodes to "", which rewards do not score.
    """

    vocabulary: tuple[str, ...]
    length: int

    Options: ClassVar[type] = MoleculeOptions
    empty: ClassVar[str] = PAD  # the symbol that stands for none
    held_by: ClassVar[Literal["fixed", "scaffold"]] = "scaffold"

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        words = self.vocabulary
        if self.length < 1 or not words or len(set(words)) < len(words):
            raise ConfigError(
                f"{self.kind}: a length ≥ 1 and different tokens are needed, got length {self.length} "
                f"and {len(words)} tokens, {len(set(words))} of them different"
            )

    @classmethod
    def of_molecules(cls, smiles: Sequence[str], length: int | None = None) -> Self:
        """Return the space whose vocabulary is the tokens of these molecules, in alphabetical order.

        `length`: of a state; default: of the longest of the molecules. Raises DataError as `encode` does.
        """
        written = [cls.words_of(molecule, row) for row, molecule in enumerate(smiles, 1)]
        if not written:
            raise DataError("there are no molecules to take a vocabulary from")
        vocabulary = tuple(sorted({word for words in written for word in words}))
        return cls(vocabulary, length or max(len(words) for words in written))

    @classmethod
    @abstractmethod
    def words_of(cls, smiles: str, row: int) -> list[str]:
        """Return the tokens of the `row`-th molecule, of its canonical SMILES; DataError names one that has none."""

    @staticmethod
    @abstractmethod
    def smiles_of(text: str) -> str:
        """Return the canonical SMILES that a text of tokens stands for, "" where it is no molecule."""

    @abstractmethod
    def held_words(self, scaffold: str) -> list[str]:
        """Return the tokens that a design with a scaffold starts with; DataError where there are none."""

    def split(self, word: str) -> Sequence[str]:
        """Return the tokens of the vocabulary that write one of `words_of`: itself, or several."""
        return (word,)

    @property
    def name(self) -> str:
        return self.kind

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*self.vocabulary, self.empty)

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
            found = self._tokens(self.words_of(text, row + 1), f"molecule {row + 1}", text)
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
        return self.smiles_of("".join(self.vocabulary[token] for token in row if token != self.pad))

    def fixed(self, given: str | Mapping[str, str], length: int) -> Fixed:
        """Return what starts every design of `length` tokens with a scaffold, as `held_words` has it.

        Raises:
            ConfigError: there is none, it needs a token outside the vocabulary, or leaves no room to grow.
        """
        scaffold = str(given)
        try:
            found = self._tokens(self.held_words(scaffold), "the scaffold", scaffold)
        except DataError as error:
            raise ConfigError(f"design.scaffold: {error}") from None
        if len(found) >= self.length:
            raise ConfigError(
                f"design.scaffold: {scaffold} takes {len(found)} of {self.length} tokens, so there is no room to grow"
            )
        letters = torch.zeros(self.length, dtype=self.token_type)
        letters[: len(found)] = torch.tensor(found, dtype=self.token_type)
        return Fixed(torch.arange(self.length) < len(found), letters)

    def family(self, design: str) -> str:
        """Return the Bemis-Murcko scaffold of a molecule; itself where it has no ring."""
        return scaffold_of(design)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "vocabulary": list(self.vocabulary), "length": self.length}

    def counts(self, designs: Sequence[str]) -> Tensor:
        """Return the count Morgan fingerprints `(N, BITS)` of radius 2; zeros for what is no molecule."""
        return fingerprints(designs)

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary)}

    def _tokens(self, words: list[str], what: str, text: str) -> list[int]:
        words = [part for word in words for part in self.split(word)]
        if len(words) > self.length:
            raise DataError(f"{what} has {len(words)} tokens, and at most {self.length} fit: {text}")
        if wrong := [word for word in words if word not in self._token_of]:
            raise DataError(f'{what} needs the token "{wrong[0]}", which is not in the vocabulary: {text}')
        return [self._token_of[word] for word in words]


def molecule_of(smiles: str, row: int) -> Any:
    """Return RDKit's molecule of the `row`-th SMILES; DataError where it is none, or of several parts."""
    with silence():
        molecule = chem().MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise DataError(f'molecule {row} is not valid SMILES: "{smiles}"')
    if "." in smiles:
        raise DataError(f"molecule {row} is of several parts; keep one of them: {smiles}")
    return molecule
