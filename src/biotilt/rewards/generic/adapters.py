"""Black boxes of other packages as rewards: poli and holo-bench, and scorers in the manner of MolScore.

None of the packages is imported: an object is adapted by how it is called, so any that is called alike will do.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from biotilt.errors import ConfigError, RewardError
from biotilt.rewards.generic.base import Direction, NamedReward, NotScored, as_score, digest
from biotilt.rewards.generic.columns import Several, Source
from biotilt.rewards.generic.declare import declare


class BlackBox:
    """A black box of poli: called with an array of texts, it returns one column of numbers, higher is better.

    With `split`, designs are given as an array `(B, L)` of single letters, shorter ones filled up with the box's
    padding token; else as `(B, 1)` whole texts. A design that is longer than the box allows, or of another length where
    the box wants one length, or (split) has a letter that the box does not know, is not scored, with the reason; so is
    one whose number is NaN. −inf, as Ehrlich functions give infeasible sequences, stays.

    `deterministic` is what the box says of itself.
    """

    differentiable = False
    batched = True

    def __init__(self, black_box: Callable[..., Any], name: str, version: str, split: bool) -> None:
        self.black_box, self.name, self.split = black_box, name, split
        self.version = f"1-{digest(repr((name, version, split)))}"
        info = getattr(black_box, "info", None)
        self.deterministic = getattr(info, "deterministic", None) is not False
        self._letters = set(getattr(info, "alphabet", None) or ())
        self._padding = str(getattr(info, "padding_token", "") or "")
        longest = getattr(info, "max_sequence_length", None)
        self._longest = float(longest) if longest is not None else math.inf
        self._one_length = bool(getattr(info, "fixed_length", False)) and math.isfinite(self._longest)

    def __call__(self, designs: list[str]) -> list[float]:
        import numpy as np

        reasons = [self._refusal(design) for design in designs]
        fit = [design for design, reason in zip(designs, reasons) if not reason]
        scores: list[float] = []
        if fit:
            output = np.asarray(self.black_box(self._array(fit)))
            if output.shape not in ((len(fit), 1), (len(fit),)):
                raise RewardError(
                    f'black box "{self.name}" returned shape {output.shape} for {len(fit)} designs; a box of several '
                    "numbers a design is no reward: return them by name from a function with @columns"
                )
            scores = [as_score(value) for value in output.reshape(-1).tolist()]
        known = iter(scores)
        return [NotScored(reason) if reason else next(known) for reason in reasons]

    def _refusal(self, design: str) -> str:
        """Return why the box cannot be asked about a design, or nothing."""
        length = len(design)
        if length > self._longest or (self._one_length and length != self._longest):
            limit = "" if self._one_length else "at most "
            return f"the black box takes {limit}{self._longest:g} letters, not {length}"
        unknown = set(design) - self._letters if self.split and self._letters else set()
        return f"the black box does not know the letter {min(unknown)!r}" if unknown else ""

    def _array(self, designs: list[str]) -> Any:
        import numpy as np

        if not self.split:
            return np.array([[design] for design in designs])
        length = max(map(len, designs))
        if length > min(map(len, designs)) and not self._padding:
            raise RewardError(
                f'black box "{self.name}" has no padding token, so designs of several lengths are no array of letters; '
                "give whole texts: from_poli(box, split=False)"
            )
        return np.array([[*design, *[self._padding] * (length - len(design))] for design in designs])


def from_poli(
    black_box: Callable[..., Any], *, name: str = "", version: str = "1", split: bool | None = None, units: str = ""
) -> NamedReward:
    """Turn a black box of poli, or one of holo-bench that poli wraps, into a reward (see `BlackBox`).

    poli's convention is an array of texts `(B, L)` or `(B, 1)` in, an array `(B, 1)` out, maximised, and an attribute
    `info` with name, alphabet, max_sequence_length, aligned, fixed_length, deterministic and padding_token; what `info`
    does not say is not checked. `split`: give single letters; default: where the box says that its sequences are
    aligned. `name` defaults to that of `info`. Give another `version` for a box of other options: its name and
    this are all that the cache knows of it.

    Raises ConfigError when the object cannot be called.

    >>> import numpy as np
    >>> from_poli(lambda x: np.array([[len(text)] for (text,) in x]), name="length")(["ACG", "A"])
    [3.0, 1.0]
    """
    if not callable(black_box):
        raise ConfigError(f"from_poli: {type(black_box).__name__} cannot be called; give the black box itself")
    info = getattr(black_box, "info", None)
    name = name or str(getattr(info, "name", "") or getattr(black_box, "__name__", type(black_box).__name__))
    aligned = bool(getattr(info, "aligned", False))
    box = BlackBox(black_box, name, version, aligned if split is None else split)
    return declare(box, units=units or None)


class SmilesScorer(Several):
    """A scorer in the manner of MolScore: a list of SMILES in, a list of dictionaries or of numbers out.

    Of dictionaries, the entry `key` is the score; `smiles` in it says which design it is of. By MolScore's rule a
    scorer gives 0.0 for what it could not score, which may be better than what the design deserves: `failure` is the
    number that counts as not scored (None: none does).

    `options` are passed on with each call. `source()` gives all entries that are numbers, from one call.
    """

    differentiable = False
    batched = True

    def __init__(
        self, scorer: Callable[..., Any], name: str, version: str, key: str | None, failure: float | None,
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.scorer, self.name, self.key, self.failure, self.options = scorer, name, key, failure, dict(options)
        self.own = version
        self.version = f"1-{digest(repr((name, version, key, failure, sorted(self.options.items()))))}"

    def source(self) -> Source:
        """Return what gives all entries; `key` says nothing there."""
        key = (self.own, self.failure, sorted(self.options.items()))
        return Source(self.rows, self.name, f"1-{digest(repr((self.name, *key)))}", reads="text")

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._read(self._value(row) if isinstance(row, Mapping) else row) for row in self._asked(designs)]

    def rows(self, designs: list[str]) -> list[Any]:
        """Return the numbers of each design by name; what is no mapping is given as it is."""
        return [self._numbers(row) if isinstance(row, Mapping) else row for row in self._asked(designs)]

    def _numbers(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = {name: value for name, value in row.items() if name != "smiles" and not isinstance(value, str | bytes)}
        return {name: self._read(value) for name, value in found.items()}

    def _asked(self, designs: list[str]) -> Sequence[Any]:
        output = self.scorer(list(designs), **self.options)
        output = output.tolist() if hasattr(output, "tolist") else output
        if not isinstance(output, list | tuple):
            raise RewardError(f'scorer "{self.name}" returned {type(output).__name__}, not a list')
        if any(isinstance(row, Mapping) for row in output):
            output = self._in_order(designs, output)
        if len(output) != len(designs):
            raise RewardError(f'scorer "{self.name}" returned {len(output)} scores for {len(designs)} designs')
        return output

    @staticmethod
    def _in_order(designs: list[str], rows: Sequence[Any]) -> Sequence[Any]:
        """Return the row of each design; rows that name their design may be fewer, and in any order."""
        if all(isinstance(row, Mapping) and "smiles" in row for row in rows):
            named = {row["smiles"]: row for row in rows}
            # a scorer that rewrites SMILES names none of ours: then only the order can tell
            if any(design in named for design in designs):
                return [named.get(design, NotScored("the scorer left it out")) for design in designs]
        return rows

    def _value(self, row: Mapping[str, Any]) -> Any:
        found = [key for key in row if key != "smiles"]
        if self.key is None and len(found) == 1:
            return row[found[0]]
        if self.key is None or self.key not in row:
            raise RewardError(
                f'scorer "{self.name}": '
                + (f'no entry "{self.key}"' if self.key else "several entries")
                + f" in a result with {', '.join(map(str, found))}; name one: from_molscore(scorer, key=…)"
            )
        return row[self.key]

    def _read(self, value: Any) -> float:
        score = as_score(value)
        if self.failure is not None and score == self.failure:
            return NotScored(f"the scorer gave {self.failure:g}, which it gives for what it cannot score")
        return score


def from_molscore(
    scorer: Any,
    *,
    key: str | None = None,
    name: str = "",
    version: str = "1",
    failure: float | None = None,
    direction: Direction = "maximise",
    units: str = "",
    **options: Any,
) -> NamedReward:
    """Turn a MolScore scorer, or what is called like one, into a reward (see `SmilesScorer`).

    `scorer` is a scoring function, called with a list of SMILES and `options` (such as `directory` and `file_names`),
    that returns dictionaries; or an object with a method `score`, as MolScore itself, that returns numbers.
    `key` names the entry that is the score, such as "docked_docking_score"; not needed where there is one.
    `direction="minimise"` for docking scores. `version`: change it when the scorer's options change.

    Raises ConfigError when the object cannot be called and has no `score`.

    >>> lengths = from_molscore(lambda smiles: [{"smiles": s, "x_length": len(s)} for s in smiles], name="length")
    >>> lengths(["CCO", "C"])
    [3.0, 1.0]
    """
    call = scorer if callable(scorer) else getattr(scorer, "score", None)
    if call is None:
        raise ConfigError(f"from_molscore: {type(scorer).__name__} cannot be called and has no method score")
    if inspect.isclass(scorer):
        raise ConfigError(f"from_molscore: {scorer.__name__} is a class; give an instance of it")
    name = name or key or str(getattr(scorer, "prefix", "") or getattr(call, "__name__", type(scorer).__name__))
    return declare(SmilesScorer(call, name, version, key, failure, options), direction=direction, units=units or None)
