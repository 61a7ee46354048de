"""Which positions a design must keep, and which letters others may have: from a pattern or a table of positions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from biotilt.core.fixed import Fixed
from biotilt.errors import ConfigError
from biotilt.spaces.alphabet import Alphabet

_FREE_SIGNS = frozenset(".-_")
_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", re.ASCII)


def parse_fixed(pattern: str, alphabet: Alphabet, length: int, symbols: int = 0) -> Fixed:
    """Return what a pattern such as "ACG...N" holds.

    Args:
        pattern: one sign a position. A letter is held; ".", "-", "_" and the code of any letter (N for nucleic acids,
            X for proteins) are free; the code of some letters (R, Y, … of IUPAC) leaves the choice between these.
        alphabet: the alphabet of the designs.
        length: how many positions a design has.
        symbols: how many a position can have, where there are more than letters (a pad).

    Raises:
        ConfigError: another length, a wrong sign, or nothing free.

    >>> from biotilt.spaces import DNA
    >>> held = parse_fixed("TG.r", DNA, 4)
    >>> held.mask.tolist(), held.letters.tolist(), held.allowed.int().tolist()[2:]
    ([True, True, False, False], [3, 2, 0, 0], [[1, 1, 1, 1], [1, 0, 1, 0]])
    """
    if len(pattern) != length:
        raise ConfigError(f"fixed pattern has {len(pattern)} positions, but a design has {length}")
    return _fixed(*_read(pattern, alphabet, first=1, where="fixed pattern"), symbols)


def fixed_from_positions(positions: Mapping[str, str], alphabet: Alphabet, length: int, symbols: int = 0) -> Fixed:
    """Return what a table such as `{"1-6": "GCCACC", "50": "A"}` holds.

    Args:
        positions: a 1-based position or an inclusive range, each with a pattern of as many signs
            (see `parse_fixed`); positions that no key names are free.
        alphabet: the alphabet of the designs.
        length: how many positions a design has.
        symbols: as in `parse_fixed`.

    Raises:
        ConfigError: a key is no range of the design, ranges overlap, a pattern has another length than its
            range, a sign is wrong, or nothing is free.

    >>> from biotilt.spaces import RNA
    >>> held = fixed_from_positions({"2-3": "GU"}, RNA, 5)
    >>> held.mask.tolist(), held.letters.tolist(), held.allowed
    ([False, True, True, False, False], [0, 2, 3, 0, 0], None)
    """
    mask = torch.zeros(length, dtype=torch.bool)
    letters = torch.zeros(length, dtype=torch.int8)
    allowed = torch.ones(length, len(alphabet.letters), dtype=torch.bool)
    owner: dict[int, str] = {}
    for key, pattern in positions.items():
        where = f'fixed positions "{key}"'
        first, last = _range(key, length)
        if len(pattern) != last - first + 1:
            raise ConfigError(f"{where}: {last - first + 1} positions, but {len(pattern)} letters: {pattern!r}")
        for position in range(first, last + 1):
            if position in owner:
                raise ConfigError(f'{where} overlaps "{owner[position]}" at position {position}')
            owner[position] = key
        part = slice(first - 1, last)
        mask[part], letters[part], allowed[part] = _read(pattern, alphabet, first, where)
    return _fixed(mask, letters, allowed, symbols)


def _fixed(mask: Tensor, letters: Tensor, allowed: Tensor, symbols: int) -> Fixed:
    """Return what is held; a position with a choice of some letters has one, so it is no pad."""
    if bool(mask.all()):
        raise ConfigError("fixed positions: every position is held, so there is nothing to design")
    some = ~allowed.all(-1)
    if not bool(some.any()):
        return Fixed(mask, letters)
    more = (~some).unsqueeze(-1).expand(-1, max(symbols - allowed.shape[-1], 0))
    return Fixed(mask, letters, torch.cat([allowed, more], -1))


def _range(key: str, length: int) -> tuple[int, int]:
    match = _RANGE.fullmatch(key)
    if match is None:
        raise ConfigError(f'fixed positions "{key}": expected a position such as "50" or a range such as "1-6"')
    first = int(match[1])
    last = int(match[2] or first)
    if first > last:
        raise ConfigError(f'fixed positions "{key}": the range runs backwards; write "{last}-{first}"')
    if first < 1 or last > length:
        raise ConfigError(f'fixed positions "{key}": outside the design, whose positions are 1 to {length}')
    return first, last


def _read(pattern: str, alphabet: Alphabet, first: int, where: str) -> tuple[Tensor, Tensor, Tensor]:
    """Read signs that stand at position `first` and after: which are held, their letters, and what is allowed."""
    codes = alphabet.ambiguity
    is_held = [sign.upper() not in _FREE_SIGNS | codes.keys() for sign in pattern]
    # A free position takes the first letter only so that one call encodes the whole pattern.
    filled = "".join(sign if held else alphabet.letters[0] for sign, held in zip(pattern, is_held, strict=True))
    if wrong := alphabet.wrong_columns(filled):
        sign, place = filled[wrong[0] - 1], first + wrong[0] - 1
        raise ConfigError(f"{where}: position {place}: {alphabet.explain(sign)}; free positions are '.'")
    allowed = [[letter in codes.get(sign.upper(), alphabet.letters) for letter in alphabet.letters] for sign in pattern]
    return torch.tensor(is_held, dtype=torch.bool), alphabet.encode(filled), torch.tensor(allowed, dtype=torch.bool)
