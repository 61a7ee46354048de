"""How the rewards of an experiment are asked: where they run, what counts their calls, and in which file."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from biotilt.config import OracleSection
from biotilt.core.team import several
from biotilt.folder import LEDGER
from biotilt.model import Model
from biotilt.oracle import Backend, Oracle, Place, Shared, Store, place
from biotilt.oracle.shared import SharedOracle
from biotilt.ranks import is_first
from biotilt.rewards import NamedReward
from biotilt.rewards.generic.columns import Source, plan


@dataclass
class Oracles:
    """Makes the oracles of an experiment as its section says; relative paths start at the folder `base`.

    Tuning and judging ask a reward at one place, so that its workers start once; `close` ends them.
    """

    section: OracleSection
    base: Path
    model: Model
    _backends: dict[Hashable, Backend] = field(default_factory=dict, repr=False, compare=False)

    def check(self) -> None:
        """Raise ConfigError for a section that cannot be kept; nothing is started."""
        self._place()

    def of(self, reward: NamedReward, store: Store, account: str, *, max_calls: int | None = None) -> Oracle:
        """Return the oracle that asks a reward; its ledger in `store` is that of `account`.

        Only one with a budget, `max_calls`, ends a run for designs that cannot be scored: judging goes on.
        """
        most = 1.0 if max_calls is None else self.section.max_unscored
        kind = SharedOracle if several() else Oracle
        if kind is SharedOracle and not is_first():  # the first process asks
            store, backend = Store(None), None
        else:
            backend = self._answers(reward, store, account)
        return kind(
            reward, store=store, max_calls=max_calls, space=self.model.space, run_id=account,
            decode=self.model.decode, bare=self.model.bare_design,
            batch_size=self.section.batch_size, max_unscored=most, backend=backend,
        )  # fmt: skip

    def store(self, folder: Path | None) -> Store:
        """Return where tuning in a folder keeps scores and ledgers: in memory without one."""
        if folder is None or not is_first():
            return Store(None)
        return Store(folder / LEDGER if self.section.cache is None else self.base / self.section.cache)

    def account(self, folder: Path | None, of: str = "") -> str:
        """Name the ledger of what tuning in a folder asks the reward, or what is called `of`.

        By its place only when runs share a file, so that a folder can be moved.
        """
        shared = folder is not None and self.section.cache is not None
        run = str(folder.resolve()) if folder is not None and shared else "tuning"
        return f"{run}:{of}" if of else run

    def close(self) -> None:
        """End the workers that score designs; they start again when they are needed."""
        while self._backends:
            self._backends.popitem()[1].close()

    def _answers(self, reward: NamedReward, store: Store, account: str) -> Backend | Shared:
        shared = plan(reward)
        if shared is None:
            return self._backend(reward)
        return Shared(shared, reward, store, account, [self._backend(part) for part in shared.parts])

    def _backend(self, reward: NamedReward | Source) -> Backend:
        """Return where a reward is asked."""
        key = (reward.name, reward.version) if isinstance(reward, Source) else id(reward)
        if key not in self._backends:
            self._backends[key] = self._place().start(reward)
        return self._backends[key]

    def _place(self) -> Place:
        return place(self.section.backend, self.section.of_backend())
