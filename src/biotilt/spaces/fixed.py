"""Which positions a design must keep: read from a pattern or from a table of positions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from biotilt.errors import ConfigError
from biotilt.spaces.alphabet import Alphabet

_FREE_SIGNS = frozenset(".-_")
_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", re.ASCII)


def parse_fixed(pattern: str, alphabet: Alphabet, length: int) -> tuple[Tensor, Tensor]:
    """Return `(mask, letters)` of a pattern such as "ACG...N": held positions and their letters.

    Args:
        pattern: one sign a position. A letter is held; ".", "-", "_" and the code of any letter
            (N for nucleic acids, X for proteins) are free.
        alphabet: the alphabet of the designs.
        length: how many positions a design has.

    Returns:
        `mask`, `(L,)` bool, true where held; `letters`, `(L,)` int8, 0 where free.

    Raises:
        ConfigError: another length, a wrong sign, a code of some letters (R, Y, ...), or nothing free.

    >>> from biotilt.spaces import DNA
    >>> mask, letters = parse_fixed("TG.n", DNA, 4)
    >>> mask.tolist(), letters.tolist()
    ([True, True, False, False], [3, 2, 0, 0])
    """
    if len(pattern) != length:
        raise ConfigError(f"fixed pattern has {len(pattern)} positions, but a design has {length}")
    mask, letters = _read(pattern, alphabet, first=1, where="fixed pattern")
    _check_some_free(mask)
    return mask, letters


def fixed_from_positions(positions: Mapping[str, str], alphabet: Alphabet, length: int) -> tuple[Tensor, Tensor]:
    """Return `(mask, letters)` of a table such as `{"1-6": "GCCACC", "50": "A"}`.

    Args:
        positions: a 1-based position or an inclusive range, each with a pattern of as many signs
            (see `parse_fixed`); positions that no key names are free.
        alphabet: the alphabet of the designs.
        length: how many positions a design has.

    Returns:
        `mask`, `(L,)` bool, true where held; `letters`, `(L,)` int8, 0 where free.

    Raises:
        ConfigError: a key is no range of the design, ranges overlap, a pattern has another length than its
            range, a sign is wrong, or nothing is free.

    >>> from biotilt.spaces import RNA
    >>> mask, letters = fixed_from_positions({"2-3": "GU"}, RNA, 5)
    >>> mask.tolist(), letters.tolist()
    ([False, True, True, False, False], [0, 2, 3, 0, 0])
    """
    mask = torch.zeros(length, dtype=torch.bool)
    letters = torch.zeros(length, dtype=torch.int8)
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
        mask[first - 1 : last], letters[first - 1 : last] = _read(pattern, alphabet, first, where)
    _check_some_free(mask)
    return mask, letters


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


def _read(pattern: str, alphabet: Alphabet, first: int, where: str) -> tuple[Tensor, Tensor]:
    """Read signs that stand at position `first` and after."""
    ambiguity = alphabet.ambiguity
    free = _FREE_SIGNS | {code for code, any_of in ambiguity.items() if len(any_of) == len(alphabet.letters)}
    is_held = [sign.upper() not in free for sign in pattern]
    # A free position takes the first letter only so that one call encodes the whole pattern.
    filled = "".join(sign if held else alphabet.letters[0] for sign, held in zip(pattern, is_held, strict=True))
    if wrong := alphabet.wrong_columns(filled):
        sign, place = filled[wrong[0] - 1], first + wrong[0] - 1
        if stands_for := ambiguity.get(sign.upper()):
            raise ConfigError(
                f"{where}: {sign!r} at position {place} stands for some letters ({', '.join(stands_for)}); "
                'a position is held with one letter or free (".")'
            )
        raise ConfigError(f"{where}: position {place}: {alphabet.explain(sign)}; free positions are '.'")
    return torch.tensor(is_held, dtype=torch.bool), alphabet.encode(filled)


def _check_some_free(mask: Tensor) -> None:
    if bool(mask.all()):
        raise ConfigError("fixed positions: every position is held, so there is nothing to design")
