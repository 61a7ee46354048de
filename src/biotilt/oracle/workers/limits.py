"""What a design may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from biotilt.options import Count, CountFrom0, Positive, check_options

Seconds = Annotated[Positive, Field(le=1e7)]
Megabytes = Annotated[Positive, Field(le=1e9)]
Retries = Annotated[CountFrom0, Field(le=1000)]
Workers = Annotated[Count, Field(le=1024)]


@dataclass(frozen=True)
class Limits:
    """What one design may cost a worker.

    `time_limit`, in seconds, of scoring one design; its worker is killed and replaced. `memory_limit`, in MB (10^6
    bytes), that scoring may allocate beyond what the loaded reward takes. `retries`: further attempts at a design
    whose worker died or that met a transient fault. `chunk`: designs that a worker is given at a time; None sizes
    chunks by measured latency.

    Raises `ConfigError` when one is out of range.
    """

    time_limit: Seconds | None = None
    memory_limit: Megabytes | None = None
    retries: Retries = 1
    chunk: Count | None = None

    def __post_init__(self) -> None:
        check_options(self, "oracle")
