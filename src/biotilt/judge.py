"""Who judges designs: both oracles outside the accounts of tuning, and what is known of real designs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from biotilt.declared import Declaration
from biotilt.errors import Problems
from biotilt.evaluation.judged import Judged, Reference
from biotilt.evaluation.metrics import kmer_counts
from biotilt.evaluation.panel import panel
from biotilt.evaluation.tables import Designs
from biotilt.experiment import Experiment
from biotilt.files import read_json
from biotilt.loading import in_python
from biotilt.model import Model
from biotilt.models.hub import generator_file
from biotilt.oracle import Oracle, Store
from biotilt.schema import Card
from biotilt.spaces import Alphabet, Text, read_designs
from biotilt.tasks import find_task, has_reward_of_task


class Finished(Protocol):
    """A finished run, as those who judge it see it."""

    folder: Path
    experiment: Experiment
    model: Model
    rows: list[dict[str, float]]
    stopped: str


def alpha_of(run: Finished) -> float:
    """Return the temperature of a run: as given, or with `target_kl` that of its last round."""
    alpha = run.experiment.config.alpha
    return run.rows[-1]["alpha"] if alpha is None else alpha


class Judge:
    """Scores designs by both oracles, outside the accounts of tuning."""

    def __init__(self, experiment: Experiment, path: Path | None, account: str, problems: Problems):
        self.store = store = Store(path)
        self.sources = experiment.sources

        def oracle(reward: Any, which: str) -> Oracle:
            made = experiment.oracles.of(reward, store, f"{account}:{which}")
            # scores are known; what failed in an earlier evaluation is asked again, since its cause may be gone
            made.load_state_dict({"position": 0, "calls": 0})
            return made

        self.oracle, self.problems, self.space = oracle, problems, experiment.model.space
        self.optimised = oracle(experiment.reward, "optimised")
        self.held_out = None if experiment.held_out is None else oracle(experiment.held_out, "held_out")
        self.reference = problems.attempt("the reference", Reference(None, None), lambda: reference(experiment))
        self.comparable = experiment.comparable
        self.guards = experiment.held_out is not None and Declaration.by(experiment.held_out).guards

    def learn(self, store: Store, designs: list[Any]) -> None:
        """Take over what another store knows of the columns of designs, so that they are not asked again."""
        keys = [self.space.key(design) for design in designs]
        for source in self.sources if store is not self.store else ():
            for name in (source.name, *(f"{source.name}.{column}" for column in store.columns(*source.key))):
                known = store.known(name, source.version, keys)
                self.store.save((name, source.version, key, score) for key, score in known.items())

    def columns(self, designs: list[Any]) -> dict[str, list[float]]:
        """Return every column of every source that is known of designs, NaN where not scored; nothing is asked."""
        keys, found = [self.space.key(design) for design in designs], {}
        for source in self.sources:
            for column in self.store.columns(*source.key):
                known = self.store.known(f"{source.name}.{column}", source.version, list(dict.fromkeys(keys)))
                found[f"{source.name}.{column}"] = [known[key].value if key in known else math.nan for key in keys]
        return found

    def silent(self) -> list[str]:
        """Say which oracle gave not one of the designs a finite score, and why."""
        return [oracle.nothing_scored for oracle in (self.optimised, self.held_out) if oracle and oracle.nothing_scored]

    def row(
        self, name: str, items: list[Any], kls: tuple[float | None, float | None], calls: int, seconds: float, *,
        loglik: list[float] | None = None, optimised: list[float] | None = None,
    ) -> Designs:  # fmt: skip
        """Return designs with their scores and panel row; `optimised` where it is known already.

        A judge that breaks down has not scored them; the scores of the reward are kept.
        """
        found = Designs(name, items, optimised or self._exact(self.optimised, items), None, loglik)
        found.guarded = self.guards
        if self.held_out is not None:
            missing = [math.nan] * len(items)
            asked = self.held_out
            found.held_out = self.problems.attempt(f"judging {name}", missing, lambda: self._exact(asked, items))
        self.put_row(found, items, found.optimised, found.held_out, loglik, kls, calls, seconds)
        return found

    def put_row(
        self, found: Designs, items: list[Any], optimised: list[float], held_out: list[float] | None,
        loglik: list[float] | None, kls: tuple[float | None, float | None], calls: int, seconds: float,
    ) -> None:  # fmt: skip
        """Give designs their panel row, which counts `items`; its numbers are of float32, as tuning sees scores."""
        found.judged = Judged(
            items, space=self.space, optimised=np.array(optimised, np.float32),
            held_out=None if held_out is None else np.array(held_out, np.float32), loglik_base=loglik,
            reference=self.reference, comparable=self.comparable, kl_policy_base=kls[0], kl_base_policy=kls[1],
            calls=calls, seconds=seconds,
        )  # fmt: skip
        found.row = panel(found.name, found.judged, self.problems)

    @staticmethod
    def _exact(oracle: Oracle, items: list[Any]) -> list[float]:
        return oracle.score(items).tolist()


def reference(experiment: Experiment) -> Reference:
    """Return what is known of real sequences: from the experiment's own file, or the task's card."""
    config, alphabet = experiment.config, alphabet_of(experiment)
    card = task_card(experiment)
    counts, highest = None, _measured_max(experiment) if experiment.comparable else None
    if alphabet is None:  # designs that are not made of letters have no k-mers
        return Reference(None, highest)
    letters = alphabet.letters
    if config.reference.sequences is not None:
        records = read_designs(experiment.base / config.reference.sequences, alphabet)
        counts = kmer_counts([record.design for record in records], 3, letters)
    elif "kmer3_high" in card and len(letters) == 4:
        counts = np.array(card["kmer3_high"])
    return Reference(counts, highest, letters=letters)


def alphabet_of(experiment: Experiment) -> Alphabet | None:
    """Return the alphabet that designs are written in; None where they are not made of its letters."""
    space = experiment.model.space
    return space.written_in if isinstance(space, Text) else None


def task_card(experiment: Experiment) -> dict[str, Any]:
    """Return the card beside the experiment's generator; an empty one when there is none."""
    path = experiment.config.model.path
    if path is None or in_python(path):
        return {}
    return _card(generator_file(path, experiment.base))


def _card(model: Path) -> dict[str, Any]:
    card = model.with_suffix(".json")
    return read_json(card, Card) if card.is_file() else {}


def _measured_max(experiment: Experiment) -> float | None:
    """Return the largest value ever measured: as the experiment says, or as the cards of its oracles do."""
    config = experiment.config
    highest, known = config.reference.measured_max, find_task(config.task).defaults() if config.task else {}
    if highest == known.get("reference", {}).get("measured_max") and known and not has_reward_of_task(config):
        highest = None  # the task measured something else
    if highest is not None or config.reward.kind != "learned":
        return highest
    sections = [s for s in (config.reward, config.held_out) if s is not None and s.path is not None]
    cards = [_card(experiment.base / str(section.path)) for section in sections]
    return max((card["measured_max"] for card in cards if "measured_max" in card), default=None)
