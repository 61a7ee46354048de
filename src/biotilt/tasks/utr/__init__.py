"""The task `utr`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from biotilt.tasks.base import Task


class UTR(Task):
    """50-nt 5′UTRs that are translated well (mean ribosome load, Sample et al. 2019)."""

    name: ClassVar[str] = "utr"
    folder: ClassVar[Path] = Path(__file__).parent
