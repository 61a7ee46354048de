"""Asking a reward, in whichever process it lives: what it declares, how its answers are read, and who is to blame."""

from __future__ import annotations

import errno
import math
import reprlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from biotilt.declared import Declaration, Reasoned
from biotilt.errors import ConfigError, RewardError, one_line
from biotilt.oracle.workers.isolation import isolated

LONGEST_REASON = 500  # some programs print pages
LARGEST = 3.4028234663852886e38  # of float32; written out, since a worker may do without torch
LASTING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, FileExistsError)


@dataclass(frozen=True)
class Outcome:
    """What one attempt at one design gave: NaN has a `reason`, and a `transient` one is worth another attempt.

    Of a source, `columns` are (name, score, reason) of what it gave; `value` is of all of them where there are none.
    """

    value: float
    reason: str = ""
    seconds: float = 0.0
    transient: bool = False
    out_of_memory: bool = False
    columns: tuple[tuple[str, float, str], ...] = ()


class OneByOne:
    """Said once, when a batch raised and its designs are asked one by one from here on."""


def ask(
    reward: Callable[[list[Any]], Any], declared: Declaration, designs: Sequence[Any], memory_limit: float | None = None
) -> Iterator[tuple[int, Outcome] | OneByOne]:
    """Yield (index of the design, outcome) as they come; a batch that raises is asked one by one.

    The reward is `isolated`. What it raises is the fault of a design, but for an interrupt, `ConfigError` and
    `RewardError`, which are passed on: they say that no design can be scored.

    Raises `RewardError` when the reward returns another number of scores than designs.
    """
    with isolated(reward):
        yield from _asked(reward, declared, designs, memory_limit)


def _asked(
    reward: Callable[[list[Any]], Any], declared: Declaration, designs: Sequence[Any], memory_limit: float | None
) -> Iterator[tuple[int, Outcome] | OneByOne]:
    if declared.batched and len(designs) > 1:
        start = time.perf_counter()
        try:
            output = _call(reward, designs)
        except BaseException as error:
            _pass_on(error)
            wasted = (time.perf_counter() - start) / len(designs)
        else:
            share = (time.perf_counter() - start) / len(designs)
            for index, value in enumerate(_listed(output, declared.name, len(designs))):
                yield index, _read(value, declared, share)
            return
        yield OneByOne()
    else:
        wasted = 0.0
    for index, design in enumerate(designs):
        outcome = _ask_one(reward, declared, design, memory_limit)
        yield index, replace(outcome, seconds=outcome.seconds + wasted)


def _call(reward: Callable[[list[Any]], Any], designs: Sequence[Any]) -> Any:
    with isolated(reward):  # within the one around all: a process that the reward forks ends here
        output = reward(list(designs))
        scores = output.tolist() if hasattr(output, "tolist") else output
        return scores if isinstance(scores, list) else output


def ask_relaxed(reward: Any, designs: Any) -> Any:
    """Return the scores of relaxed designs `(B, L, V)`, with gradients; RewardError for whatever the reward raises."""
    try:
        with isolated(reward):
            return reward.score_one_hot(designs.clone())  # which may be changed in place
    except BaseException as error:
        _pass_on(error)
        raise RewardError(f'reward "{reward.name}" cannot score relaxed designs: {_told(error)}') from error


def _ask_one(reward: Callable, declared: Declaration, design: str, memory_limit: float | None) -> Outcome:
    start = time.perf_counter()
    try:
        output = _call(reward, [design])
    except BaseException as error:
        _pass_on(error)
        seconds = time.perf_counter() - start
        if _out_of_memory(error):
            limit = f"more than {memory_limit:g} MB: " if memory_limit else ""
            reason = f"out of memory: {limit}{type(error).__name__} {one_line(error)}".rstrip()
            return Outcome(math.nan, reason, seconds, out_of_memory=True)
        reason = _told(error)
        return Outcome(math.nan, reason, seconds, is_transient(error, declared.transient))
    seconds = time.perf_counter() - start
    (value,) = _listed(output, declared.name, 1)
    return _read(value, declared, seconds)


def _read(value: Any, declared: Declaration, seconds: float) -> Outcome:
    if not declared.several:
        return Outcome(*read_score(value, declared.range), seconds)
    if isinstance(value, Mapping):
        columns = tuple((str(name), *read_score(number)) for name, number in value.items())
        return Outcome(math.nan, "the reward gave no column", seconds, columns=columns)
    score, reason = read_score(value)
    if value is not None and math.isfinite(score):
        raise RewardError(
            f'reward "{declared.name}" returned {_shown(value)} for a design: a reward with columns returns a mapping, '
            'such as {"affinity": 1.5}, for each'
        )
    return Outcome(score, reason, seconds)


def _pass_on(error: BaseException) -> None:
    """Raise what no design causes; what else is biotilt's, such as `BudgetSpent`, is not the reward's to say."""
    if isinstance(error, KeyboardInterrupt | ConfigError | RewardError):
        raise error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error, LONGEST_REASON)}"[:LONGEST_REASON]


def is_transient(error: BaseException, kinds: tuple[type[BaseException], ...] | None) -> bool:
    """Whether another attempt may not meet this error: it is one of `kinds`, or (None) one of the system."""
    if kinds is None:
        return isinstance(error, OSError) and not isinstance(error, LASTING)
    return isinstance(error, kinds)


def _out_of_memory(error: BaseException) -> bool:
    # torch has no exception of its own for the memory of the CPU
    short = isinstance(error, RuntimeError) and "can't allocate memory" in one_line(error)
    return isinstance(error, MemoryError) or short or getattr(error, "errno", None) == errno.ENOMEM


def _listed(output: Any, name: str, expected: int) -> Sequence[Any]:
    if isinstance(output, list | tuple) and len(output) == expected:
        return output
    got = f"{len(output)} scores" if isinstance(output, list | tuple) else type(output).__name__
    raise RewardError(f'reward "{name}" returned {got} for {expected} designs, expected {expected} scores')


def read_score(value: Any, limits: tuple[float, float] | None = None) -> tuple[float, str]:
    """Return a score and, when it is NaN or −inf, the reason; −inf, which is no number but a mark, is in any range.

    A finite score that float32 cannot hold is none: −1e39 must not become the mark.

    >>> read_score(0.5), read_score(1.5, (0, 1))
    ((0.5, ''), (nan, 'the reward returned 1.5, outside its range [0, 1]'))
    >>> read_score(-1e39)
    (nan, 'the reward returned -1e+39, which float32 cannot hold')
    """
    try:
        # float() would accept "3" and "nan", which are slips, and drop the imaginary part of NumPy's numbers.
        score = None if isinstance(value, str | bytes | complex) else float(value)
        too_large = score is not None and not math.isnan(score) and abs(score) > LARGEST and not _infinite(value)
    except OverflowError:
        score, too_large = math.inf, True
    except Exception:  # the code of others may raise anything
        score, too_large = None, False
    if score is None:
        return math.nan, f"the reward returned {_shown(value)}, not a number"
    if too_large:
        what = _shown(value) if math.isinf(score) else f"{score:g}"
        return math.nan, f"the reward returned {what}, which float32 cannot hold"
    if math.isnan(score):
        return math.nan, _reason(value, "the reward returned NaN")
    if score == math.inf:
        return math.nan, "the reward returned +inf"
    if score == -math.inf:
        return score, _reason(value, "")
    if limits is not None and not limits[0] <= score <= limits[1]:
        return math.nan, f"the reward returned {score:g}, outside its range [{limits[0]:g}, {limits[1]:g}]"
    return score, ""


def _infinite(value: Any) -> bool:
    """Whether a number is infinite itself, and not only as a float: Decimal("-1e400") is not."""
    return bool(value == math.inf or value == -math.inf)


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except Exception:  # such as that of an integer of more than 4,300 digits
        return type(value).__name__


def _reason(value: Any, default: str) -> str:
    """Return what a mark such as `NotScored` says of itself."""
    try:
        return one_line(value.reason if isinstance(value, Reasoned) else default, LONGEST_REASON)
    except Exception:
        return default
