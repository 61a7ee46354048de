"""Alphabets, and the code between strings and tensors of letters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from biotilt.errors import ConfigError, DataError, suggest

MASK_SIGN = "_"
PAD = "-"  # stands where a design of varying length has no letter
_WRONG = 0xFF  # a byte that is no token
_DIFFERENT_SHOWN = 5

# IUPAC-IUB codes for incompletely specified bases (Cornish-Bowden 1985), written for DNA.
_NUCLEIC = {
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
    "N": "ACGT",
}
# What other signs mean in files of sequences.
_SIGNS = {
    " ": "a space; sequences have none",
    "-": "a gap; take sequences out of their alignment",
    ".": "a gap; take sequences out of their alignment",
    "*": "a stop; leave it out",
    ",": "of a table; name it .csv",
}
_AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
# IUPAC-IUB one-letter codes of amino acids (1984); J is the later code of mass spectrometry.
_AMBIGUITY: dict[frozenset[str], dict[str, str]] = {
    frozenset("ACGT"): _NUCLEIC,
    frozenset("ACGU"): {code: letters.replace("T", "U") for code, letters in _NUCLEIC.items()},
    frozenset(_AMINO_ACIDS): {"B": "DN", "Z": "EQ", "J": "IL", "X": _AMINO_ACIDS},
}


@dataclass(frozen=True)
class Alphabet:
    """The letters a design is written in; a letter's token is its place in `letters`.

    Args:
        name: how experiments call it, such as "dna".
        letters: 1 to 26 different upper-case ASCII letters.
        aliases: other letters that are accepted when text is read, each with the letter it stands for.

    Raises:
        ConfigError: letters repeat or are not upper-case ASCII, or an alias is a letter or stands for none.

    >>> DNA.encode("acgu")
    tensor([0, 1, 2, 3], dtype=torch.int8)
    """

    name: str
    letters: str
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        every = self.letters + "".join(self.aliases)
        if not self.letters or not (every.isascii() and every.isalpha() and every.isupper()):
            raise ConfigError(f"alphabet {self.name!r}: letters and aliases must be upper-case ASCII letters")
        if repeated := [letter for letter, count in Counter(every).items() if count > 1]:
            raise ConfigError(f"alphabet {self.name!r}: {', '.join(repeated)} is given more than once")
        for alias, letter in self.aliases.items():
            if len(alias) != 1 or len(letter) != 1 or letter not in self.letters:
                raise ConfigError(f"alphabet {self.name!r}: alias {alias!r} stands for no letter: {letter!r}")

    @property
    def mask_token(self) -> int:
        """Return the token of a position that is not written yet, `len(letters)`."""
        return len(self.letters)

    @property
    def ambiguity(self) -> dict[str, str]:
        """Return the IUPAC ambiguity codes, each with the letters it stands for; empty for other alphabets.

        >>> RNA.ambiguity["Y"], PROTEIN.ambiguity["B"]
        ('CU', 'DN')
        """
        return dict(_AMBIGUITY.get(frozenset(self.letters), {}))

    def encode(self, text: str) -> Tensor:
        """Return the tokens of `text`, `(L,)` int8 in [0, len(letters)).

        Raises:
            DataError: `text` is empty, or has a letter outside the alphabet (named with its 1-based column).

        >>> PROTEIN.encode("MK")
        tensor([10,  8], dtype=torch.int8)
        """
        return torch.frombuffer(bytearray(self._checked_codes(text)), dtype=torch.int8)

    def encode_many(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of sequences of one length, `(B, L)` int8 in [0, len(letters)).

        Raises:
            DataError: there is no sequence, lengths differ, or a letter is outside the alphabet.

        >>> RNA.encode_many(["AC", "gt"])
        tensor([[0, 1],
                [2, 3]], dtype=torch.int8)
        """
        length = _common_length(texts)
        codes = self._codes("".join(texts))
        if (place := codes.find(_WRONG)) >= 0:
            row, column = divmod(place, length)
            raise DataError(f"sequence {row + 1}, column {column + 1}: {self.explain(texts[row][column])}")
        return torch.frombuffer(bytearray(codes), dtype=torch.int8).view(len(texts), length)

    def decode(self, tokens: Tensor, *, allow_mask: bool = False) -> str:
        """Return the text of one design.

        Args:
            tokens: `(L,)` integers in [0, len(letters)), or up to `mask_token` with `allow_mask`.
            allow_mask: write the mask token as "_"; without it a mask is an error, never a letter.

        Raises:
            DataError: another shape or type, a mask, or a number that is no token.

        >>> DNA.decode(torch.tensor([3, 4, 0]), allow_mask=True)
        'T_A'
        """
        if tokens.ndim != 1:
            raise DataError(f"decode takes tokens of shape (L,), not {tuple(tokens.shape)}; see decode_many")
        return self.decode_many(tokens[None], allow_mask=allow_mask)[0]

    def decode_many(self, tokens: Tensor, *, allow_mask: bool = False) -> list[str]:
        """Return the texts of `(B, L)` tokens; arguments and errors are those of `decode`.

        >>> DNA.decode_many(torch.tensor([[3, 0], [1, 1]]))
        ['TA', 'CC']
        """
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise DataError(f"decode_many takes tokens of shape (B, L) with L > 0, not {tuple(tokens.shape)}")
        if tokens.dtype == torch.bool or tokens.is_floating_point() or tokens.is_complex():
            raise DataError(f"tokens must be integers, not {tokens.dtype}")
        highest = self.mask_token if allow_mask else self.mask_token - 1
        wrong = (tokens < 0) | (tokens > highest)
        if bool(wrong.any()):
            row, column = wrong.nonzero()[0].tolist()
            token = int(tokens[row, column])
            if token == self.mask_token:
                what = "a mask is left, so the design is not finished"
            else:
                what = f"{token} is not a token of {self.name}, which are 0 to {self.mask_token - 1}"
            raise DataError(f"design {row + 1}, column {column + 1}: {what}")
        codes = tokens.to("cpu", torch.uint8).numpy().tobytes()
        text = codes.translate(self._signs).decode("ascii")
        length = tokens.shape[1]
        return [text[start : start + length] for start in range(0, len(text), length)]

    def normalise(self, text: str) -> str:
        """Return `text` in upper case with aliases replaced; raises as `encode` does.

        >>> DNA.normalise("acgU")
        'ACGT'
        """
        return self._checked_codes(text).translate(self._signs).decode("ascii")

    def wrong_columns(self, text: str) -> list[int]:
        """Return the 1-based columns of `text` that hold no letter or alias of the alphabet.

        >>> DNA.wrong_columns("ACxGN")
        [3, 5]
        """
        codes = self._codes(text)
        if _WRONG not in codes:
            return []
        return [column for column, code in enumerate(codes, start=1) if code == _WRONG]

    def explain(self, letter: str) -> str:
        """Return the sentence that tells why `letter` cannot stand in a design.

        >>> DNA.explain("?")
        "'?' is not a letter of dna; valid letters: A, C, G, T"
        >>> PROTEIN.explain("*")
        "'*' is not a letter of protein (a stop; leave it out); valid letters: ...W, Y"
        """
        valid = f"valid letters: {', '.join(self.letters)}"
        if (stands_for := self.ambiguity.get(letter.upper())) is not None:
            return (
                f"{letter!r} is an ambiguity code (one of {', '.join(stands_for)}), "
                f"but a design needs one letter; {valid}"
            )
        what = f" ({_SIGNS[letter]})" if letter in _SIGNS else ""
        return f"{letter!r} is not a letter of {self.name}{what}; {valid}"

    def _checked_codes(self, text: str) -> bytes:
        if not text:
            raise DataError("the sequence is empty")
        codes = self._codes(text)
        if (place := codes.find(_WRONG)) >= 0:
            raise DataError(f"column {place + 1}: {self.explain(text[place])}")
        return codes

    def _codes(self, text: str) -> bytes:
        # "replace" keeps one byte a character, so that places in the bytes are columns of the text.
        return text.encode("ascii", "replace").translate(self._table)

    @cached_property
    def _table(self) -> bytes:
        table = bytearray([_WRONG] * 256)
        token = {letter: number for number, letter in enumerate(self.letters)}
        token |= {alias: token[letter] for alias, letter in self.aliases.items()}
        for letter, number in token.items():
            table[ord(letter)] = table[ord(letter.lower())] = number
        return bytes(table)

    @cached_property
    def _signs(self) -> bytes:
        return (self.letters + MASK_SIGN).encode("ascii").ljust(256, b"?")


DNA = Alphabet("dna", "ACGT", {"U": "T"})
RNA = Alphabet("rna", "ACGU", {"T": "U"})
PROTEIN = Alphabet("protein", _AMINO_ACIDS)

KNOWN = {known.name: known for known in (DNA, RNA, PROTEIN)}


def alphabet(name: str) -> Alphabet:
    """Return the alphabet called `name` ("dna", "rna" or "protein", in any case).

    Raises:
        ConfigError: no alphabet has that name.

    >>> alphabet("RNA").letters
    'ACGU'
    """
    try:
        return KNOWN[name.lower()]
    except KeyError:
        raise ConfigError(f"unknown alphabet {name!r}{suggest(name.lower(), KNOWN)}") from None


def _common_length(texts: Iterable[str]) -> int:
    """Return the length that all texts share, or name those that differ from most."""
    lengths = [len(text) for text in texts]
    counts = Counter(lengths)
    if not counts:
        raise DataError("there are no sequences to encode")
    usual = counts.most_common(1)[0][0]
    if len(counts) > 1:
        others = [f"sequence {row} has {n}" for row, n in enumerate(lengths, start=1) if n != usual]
        shown = ", ".join(others[:_DIFFERENT_SHOWN])
        more = f" and {len(others) - _DIFFERENT_SHOWN} more differ" if len(others) > _DIFFERENT_SHOWN else ""
        raise DataError(f"sequences differ in length: most have {usual} letters, but {shown}{more}")
    if usual == 0:
        raise DataError("the sequences are empty")
    return usual
