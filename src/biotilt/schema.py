"""What files of ours may hold: models of their content, and one line about the first value that does not fit.

Sizes have upper bounds that no real design or network comes near (`options.py`), so that a damaged or hostile file is
refused before memory is taken for it.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, ClassVar, NotRequired

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from biotilt.errors import BiotiltError
from biotilt.options import Name, explain


class Stored(BaseModel):
    """The content of a file of ours. Keys that it does not name are passed over: newer versions may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class StoredTensors(Stored):
    """The metadata of a safetensors file: `kind` is the value of its key of that name, `called` is for messages."""

    kind: ClassVar[str]
    called: ClassVar[str]


Figure = Annotated[int | float | None, Field(allow_inf_nan=False)]  # of strict JSON, in which NaN is null


Accounts = dict[str, Any]
"""`oracle.json`: what was asked of the reward."""


class Card(TypedDict, total=False, extra_items=Any):
    """The card beside a model: what it was made of, and what is known of real sequences."""

    metrics: dict[str, Any]
    measured_max: Figure
    kmer3_high: Annotated[list[Annotated[int, Field(ge=0, le=2**62)]], Field(min_length=64, max_length=64)]
    notes: list[str]


class Spread(TypedDict, extra_items=Any):
    """The scores of a row of the panel."""

    median: NotRequired[Figure]


class SummaryRow(TypedDict, extra_items=Any):
    """A row of the panel in `summary.json`."""

    name: str
    optimised: NotRequired[Spread | None]
    held_out: NotRequired[Spread | None]
    gap: NotRequired[Figure]
    beyond_measured: NotRequired[Figure]
    unique: NotRequired[Figure]
    distance: NotRequired[Figure]
    kmer3: NotRequired[Figure]
    loglik_base: NotRequired[Figure]
    kl_policy_base: NotRequired[Figure]
    kl_base_policy: NotRequired[Figure]
    more: NotRequired[dict[str, Figure]]


class Point(TypedDict, extra_items=Any):
    """What a run had cost at the end of a round, and the scores that it had reached."""

    calls: Figure
    seconds: Figure
    network_rows: Figure
    round: Figure
    best: Figure


class Level(TypedDict, extra_items=Any):
    """A score to reach."""

    name: Name
    title: str
    value: float


class Progress(TypedDict, extra_items=Any):
    """What it took to reach levels."""

    best_of: Annotated[int, Field(ge=1)]
    points: list[Point]
    levels: list[Level]


class Summary(TypedDict, extra_items=Any):
    """`summary.json`: the panel of a finished run."""

    task: Name
    objective: Name
    options: NotRequired[dict[str, Any] | None]
    alpha: float
    target_kl: NotRequired[float]
    seed: int
    calls: Annotated[int, Field(ge=0)]
    seconds: float
    rows: list[SummaryRow]
    measures: NotRequired[list[dict[str, str]]]
    progress: NotRequired[Progress | None]


class Named(BaseModel):
    """A part by its name, with its options beside it."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: Name


def checked(content: Any, schema: Any, where: object, error: type[BiotiltError]) -> Any:
    """Return `content` as `schema`, a pydantic model or any type; raises `error` with one line about the first fault.

    >>> from biotilt.errors import CheckpointError
    >>> checked({"a": "1"}, dict[str, int], "x.json", CheckpointError)
    {'a': 1}
    >>> checked({"a": "b"}, dict[str, bool], "x.json", CheckpointError)
    Traceback (most recent call last):
    biotilt.errors.CheckpointError: x.json: a: must be true or false, got 'b'
    """
    try:
        return _adapter(schema).validate_python(content)
    except ValidationError as fault:
        raise error(f"{where}: {explain(fault, content)}") from fault


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)
