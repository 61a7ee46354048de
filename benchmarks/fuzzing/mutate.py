"""Mutations of bytes, of text, of trees of keys and of tensors; each depends only on the generator it is given."""

from __future__ import annotations

import copy
import datetime
import json
import random
from typing import Any

import torch
from torch import Tensor


class Raw(str):
    """A value that stands in the file as it is, such as an integer of 5,000 digits."""


NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 127, 255, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**9, 10**30),
    *(Raw("9" * 5000), 0.0, -0.0, 0.5, 1.5, -0.1, 1e-9, 5e-324, 1e-300, 1e38, 3.5e38, 1e300, -1e300),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS: tuple[str, ...] = (
    *(
        "",
        " ",
        "\n",
        "\t",
        "\0",
        "a\0b",
        "two\nlines",
        "a\r\nb\u2028c",
        "nan",
        "none",
        "None",
        "null",
        "true",
        "0",
        "1e9",
    ),
    *("é", "💥", "\u202e", "\x1b[31mred", "%s{0}{x}", "{", "a" * 300, "b" * 5000, "a/" * 3000, "x" * 70000),
    *(
        ".",
        "..",
        "no/such/file",
        "reward.py",
        "reward.py:count",
        "reward.py:",
        ":",
        "json:loads",
        "-",
        "--help",
        "~",
        "*",
    ),
    *("ACGT", "....", "((((....))))", "*c1ccccc1", "[*:1]CC", "C" * 400, "cuda", "gc", "vidd", "ppo", "sum"),
)
OTHERS: tuple[Any, ...] = (
    *(
        True,
        False,
        [],
        {},
        [[]],
        [0],
        ["a", 1],
        [None],
        {"a": {}},
        {"": 1},
        {"1-3": "GCC"},
        {"name": "ppo"},
        {"kind": "gc"},
    ),
    *([1.0, 2.0], [2.0, 1.0], [float("nan"), 1.0], ["low", "high"], [{}], list(range(2000))),
    *(datetime.date(2026, 1, 2), datetime.time(1, 2), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
)


def odd(rng: random.Random) -> Any:
    """Return a value that few places expect."""
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS))))


def like(value: Any, rng: random.Random) -> Any:
    """Return a value near `value`: of its type, at an edge or beyond it."""
    if isinstance(value, bool) or value is None:
        return odd(rng)
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 2, float(value), str(value), *NUMBERS))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e3, value / 1e3, str(value), *NUMBERS))
    if isinstance(value, str):
        return rng.choice((mutate_text(value, rng), value * 2, value[:-1], *TEXTS))
    return odd(rng)


def deep(rng: random.Random) -> Any:
    """Return lists or tables within each other, deeper than a recursion goes."""
    value: Any = 1
    table = rng.random() < 0.5
    for _ in range(rng.choice((50, 400, 3000))):
        value = {"a": value} if table else [value]
    return value


def mutate_tree(tree: Any, rng: random.Random, times: int | None = None) -> Any:
    """Return a copy of nested dictionaries and lists with a few places changed, deleted, renamed, added or swapped."""
    root = [copy.deepcopy(tree)]
    for _ in range(times or rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.03:  # the last one: what is so deep is not copied again
            holder, key = rng.choice(_places(root))
            holder[key] = deep(rng)
            break
        _mutate_once(root, rng)
    return root[0]


def _mutate_once(root: list[Any], rng: random.Random) -> None:
    places = _places(root)
    holder, key = rng.choice(places)
    how = rng.random()
    if how < 0.5:
        holder[key] = like(holder[key], rng)
    elif how < 0.7:
        holder[key] = odd(rng)
    elif how < 0.78 and holder is not root:
        del holder[key]
    elif how < 0.86 and isinstance(holder, dict):
        holder[rng.choice((str(key) + "x", str(key)[:-1], str(key).upper(), *TEXTS))] = (
            holder.pop(key) if rng.random() < 0.5 else odd(rng)
        )
    elif how < 0.9:
        holder[key] = rng.choice(([holder[key]], {"a": holder[key]}, [holder[key]] * 3))
    elif how < 0.97:
        other, place = rng.choice(places)
        holder[key] = copy.deepcopy(other[place])
    elif isinstance(holder[key], list) and holder[key]:
        holder[key].append(copy.deepcopy(rng.choice(holder[key])))
    else:
        holder[key] = None


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Return every (holder, key) of a tree; the last of each level come last."""
    found, waiting = [], [root]
    while waiting:
        holder = waiting.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            found.append((holder, key))
            if isinstance(holder[key], dict | list) and len(found) < 5000:
                waiting.append(holder[key])
    return found


def to_toml(tree: dict[str, Any]) -> str:
    """Return a TOML text: the top level a key a line, the rest inline; what TOML has no word for is left out."""
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"[{_key(key)}]", *(f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)]
    return "\n".join(line for line in lines if not line.endswith(" = None")) + "\n"


def _key(key: Any) -> str:
    return json.dumps(str(key))


def _toml(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return (
            json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else json.dumps(value, ensure_ascii=False)
        )
    if isinstance(value, dict | list) and len(value) == 1:  # without recursion: it may be deep
        return _nested(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value if v is not None) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _nested(value: Any) -> str:
    left, right = [], []
    while isinstance(value, dict | list) and len(value) == 1:
        if isinstance(value, dict):
            [(key, value)] = value.items()
            left.append(f"{{{_key(key)} = ")
            right.append("}")
        else:
            [value] = value
            left.append("[")
            right.append("]")
    inner = "1" if value is None else _toml(value)
    return "".join(left) + inner + "".join(reversed(right))


def to_json(value: Any) -> str:
    """Return JSON of a tree, a value that JSON does not have as text; deep trees and long integers are written too."""
    left, right = [], []
    while isinstance(value, dict | list) and len(value) == 1:
        if isinstance(value, dict):
            [(key, value)] = value.items()
            left.append(f"{{{_key(key)}: ")
            right.append("}")
        else:
            [value] = value
            left.append("[")
            right.append("]")
    try:
        inner = json.dumps(value, default=str)
    except RecursionError:
        inner = "[" * 50000 + "]" * 50000
    inner = inner.replace(f'"{"9" * 5000}"', "9" * 5000)
    return "".join(left) + inner + "".join(reversed(right))


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes flipped, cut, inserted, doubled or replaced at one to three places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.randrange(len(changed) + 1)
        stop = min(len(changed), start + rng.choice((1, 1, 4, 8, 64, 1000)))
        how = rng.randrange(8)
        if how == 0:
            del changed[start:]
        elif how == 1:
            del changed[start:stop]
        elif how == 2:
            changed[start:start] = changed[start:stop] * rng.choice((1, 2, 100))
        elif how == 3:
            changed[start:stop] = rng.randbytes(stop - start)
        elif how == 4:
            changed[start:stop] = bytes(stop - start)
        elif how == 5:
            changed[start:start] = rng.choice(_PIECES)
        elif how == 6 and start < len(changed):
            changed[start] ^= 1 << rng.randrange(8)
        else:
            changed[:start], changed[start:] = changed[start:], changed[:start]
    return bytes(changed)


_PIECES = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\r", b"\n", b"\r\n", b"\t", b'"', b"'", b",", b";", b"=", b">"),
    *(b"#", b"[", b"]]", b"{", b"}", b"-", b"nan", b"inf", b"-inf", b"1e999", b"1_0", b"9" * 5000, b"A" * 50000),
    *(
        b" a=" * 10000,
        b" x" * 20000,
        b'=" ' * 8000,
        "\u2028".encode(),
        "\u0661".encode(),
        b"\x1a",
        b"\x0c",
        b"[" * 3000,
    ),
)


def mutate_text(text: str, rng: random.Random) -> str:
    """Return text changed as bytes are, read as Latin-1 where it is no UTF-8 any more."""
    data = mutate_bytes(text.encode("utf-8", "surrogatepass"), rng)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def mutate_lines(text: str, rng: random.Random) -> str:
    """Return text with lines deleted, doubled, swapped, joined or moved, and sometimes bytes besides."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not lines:
            break
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        how = rng.randrange(6)
        if how == 0:
            del lines[i]
        elif how == 1:
            lines.insert(j, lines[i])
        elif how == 2:
            lines[i], lines[j] = lines[j], lines[i]
        elif how == 3:
            lines[i] = lines[i].rstrip("\r\n")
        elif how == 4:
            lines[i] = rng.choice(
                ("\n", " \n", "\ufeff", lines[i].upper(), lines[i] * 50, lines[i].replace(" = ", " = -"))
            )
        else:
            lines[i] = mutate_text(lines[i], rng)
    return "".join(lines)


def mutate_tensors(tensors: dict[str, Tensor], rng: random.Random) -> dict[str, Tensor]:
    """Return tensors with some of other values, types or shapes, missing, renamed or added."""
    changed = dict(tensors)
    for _ in range(rng.choice((1, 1, 2))):
        if not changed:
            break
        name = rng.choice(sorted(changed))
        tensor = changed[name]
        how = rng.randrange(9)
        if how == 0:
            del changed[name]
        elif how == 1:
            changed[rng.choice((name + "x", "0." + name, "", *TEXTS[:16]))] = changed.pop(name)
        elif how == 2:
            changed[rng.choice(("extra", f"{name}/0", "9.out.weight", "optimiser/x/step"))] = tensor.clone()
        elif how == 3 and tensor.is_floating_point() and tensor.numel():
            flat = tensor.clone().flatten()
            flat[rng.randrange(len(flat))] = rng.choice((float("nan"), float("inf"), float("-inf"), 65504.0, 0.0))
            changed[name] = flat.view(tensor.shape)
        elif how == 4:
            kinds = (torch.int8, torch.int64, torch.bool, torch.float64, torch.bfloat16, torch.float16, torch.uint8)
            changed[name] = torch.nan_to_num(tensor.float()).to(rng.choice(kinds))
        elif how == 5:
            changed[name] = tensor.flatten()[: rng.choice((0, 1, tensor.numel() // 2))].clone()
        elif how == 6:
            changed[name] = rng.choice(
                (tensor[None], tensor.flatten(), tensor.transpose(0, -1) if tensor.dim() else tensor)
            )
        elif how == 7:
            changed[name] = torch.full_like(tensor, rng.choice((0, 1, 100)))
        else:
            other = rng.choice(sorted(changed))
            changed[name], changed[other] = changed[other], tensor
    return changed
