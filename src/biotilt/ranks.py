"""Which of several processes this is, where `torchrun` or `accelerate launch` started them for one run."""

from __future__ import annotations

import os

from biotilt.errors import ConfigError


def launched() -> int:
    """Return how many processes were started together; 1 where nobody says."""
    try:
        said = int(os.environ.get("WORLD_SIZE", "1"))
        return said if said > 1 and os.environ.get("MASTER_ADDR") and int(os.environ["RANK"]) >= 0 else 1
    except (KeyError, ValueError):
        return 1


def require_one(what: str) -> None:
    """Raise ConfigError where several processes were started for what one of them does."""
    if launched() > 1:
        raise ConfigError(f"{what} computes in one process; start it without torchrun or `accelerate launch`")


def is_first() -> bool:
    """Return whether this process is the one that writes files and tells people."""
    return launched() == 1 or os.environ["RANK"] == "0"
