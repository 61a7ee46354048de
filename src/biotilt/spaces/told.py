"""Texts that know under which condition they were drawn, or how they were read off a state."""

from __future__ import annotations


class ToldText(str):
    """A design as text that knows the label of the condition under which it was drawn, and else is the text."""

    condition: str

    def __new__(cls, text: str, condition: str = "") -> ToldText:
        told = super().__new__(cls, text)
        told.condition = condition
        return told

    @classmethod
    def of_key(cls, key: str) -> str:
        """Return the design of a key, told where the key is."""
        text, tab, condition = key.partition("\t")
        return cls(text, condition) if tab else key

    @property
    def key(self) -> str:
        """The text by which a ledger knows the design and its condition."""
        return f"{self}\t{self.condition}"


class DecodedText(str):
    """A design as text that knows how its state said it, and else is the text.

    `mended`: whether something had to be changed before it was a design; `parts`: how many there were, of which the
    design is the largest.
    """

    mended: bool
    parts: int

    def __new__(cls, text: str, mended: bool = False, parts: int = 1) -> DecodedText:
        decoded = super().__new__(cls, text)
        decoded.mended, decoded.parts = mended, parts
        return decoded


def condition_of(design: object) -> str:
    """Return the condition of a design; TypeError for one that has none, which no checked experiment has."""
    if not isinstance(design, ToldText):
        raise TypeError(f"{design!r} has no condition")
    return design.condition
