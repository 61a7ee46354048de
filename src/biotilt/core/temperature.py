"""A temperature that follows a given KL: what `target_kl` means in a run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

AHEAD = 4  # rounds for which the way that the KL goes is taken to go on
NEWEST = 0.5  # weight of the newest KL in the running mean, and of the newest step of that in its own
SLOWEST, FASTEST = 0.9, 1.25  # factors on α, at most, a round: down is the way from which it is harder to come back


@dataclass
class Temperature:
    """α so that the policy's KL to the base, of whole paths, comes to `target_kl` nats; a checkpoint holds the fields.

    `alpha` is NaN before the first scores. `kl` is a running mean of the policy's KL, and `step` of how much that
    changes in a round. The KL of p* is about proportional to α⁻², but the policy comes after α: so α is moved by where
    the KL will be if it goes on like this, m = kl + 4 step, and α ← α √(m/target_kl), between 0.9 and 1.25 times α.
    """

    target_kl: float
    alpha: float = math.nan
    kl: float = math.nan
    step: float = 0.0

    @property
    def begun(self) -> bool:
        """Whether there is an α."""
        return not math.isnan(self.alpha)

    def observe(self, kl: float) -> None:
        """Go on by one round, at the start of which the policy had this KL; what is not finite changes nothing."""
        if not math.isfinite(kl):
            return
        before = 0.0 if math.isnan(self.kl) else self.kl  # the policy starts at the base
        first = math.isnan(self.kl)
        self.kl = kl if first else before + NEWEST * (kl - before)
        self.step = self.kl - before if first else self.step + NEWEST * (self.kl - before - self.step)
        expected = max(0.0, self.kl + AHEAD * self.step)
        self.alpha *= min(FASTEST, max(SLOWEST, math.sqrt(expected / self.target_kl)))

    def state(self) -> dict[str, Any]:
        """Return the fields as strict JSON; numbers that are not known yet are left out."""
        return {key: value for key, value in asdict(self).items() if math.isfinite(value)}
