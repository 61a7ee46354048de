"""A model trained further, as `biotilt pretrain --from` does it, and what trainings of generators have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biotilt.cli.console import Answer, note, take_threads
from biotilt.errors import ConfigError, DataError
from biotilt.progress import Show, progress

SECONDS_BETWEEN = 1.0  # two looks at a training


def refuse_new(start: str, said: dict[str, Any]) -> None:
    """Raise ConfigError for options that say how a new model is made, beside one that is there."""
    if said:
        key = next(iter(said)).replace("_", "-")
        raise ConfigError(f"--{key} says how a new model is made, and --from {start} names one: leave it out")


def train_further(
    data: Path, out: Path, start: str, column: str | None, *, lora: int | None, steps: int, batch: int,
    lr: float | None, patience: int | None, identity: float, seed: int, labels: str | None, label_dropout: float,
    device: Any, trust: bool,
) -> Answer:  # fmt: skip
    """Train the model `start` on the designs of a file, and write it and its card."""
    from biotilt.data import read_for, read_labels
    from biotilt.finetuning import ADAPTERS, FULL, finetune, start_of
    from biotilt.fitting import Split, state_of, write_card
    from biotilt.models.lora import LoRA
    from biotilt.training import PretrainConfig, resumable

    model = start_of(start, trust=trust)
    model.check()  # that it can be stored is known before, not after, the time of training
    designs = read_for(data, model.space, column, leave=labels)
    of_designs = None if labels is None else read_labels(data, labels, len(designs))
    rate = lr if lr is not None else FULL if lora is None else ADAPTERS
    config = PretrainConfig(
        steps=steps, batch=batch, lr=rate, warmup=min(200, max(steps // 10, 1)),
        check_every=min(250, max(steps // 20, 1)), patience=5 if patience is None else patience,
    )  # fmt: skip
    take_threads()
    state = resumable(state_of(out), lambda step: note(f"going on after step {step} of {steps}, from {state_of(out)}"))
    with about_data(data), state as file, progress("step", steps) as show:
        adapters = None if lora is None else LoRA(rank=lora, alpha=2.0 * lora)
        tuned, metrics = finetune(
            model, designs, lora=adapters, config=config, split=Split(identity=identity), labels=of_designs,
            label_dropout=label_dropout, seed=seed, device=device, **watching(show), state=file,
        )  # fmt: skip
        tuned.save(out)
    options = vars(config) | {"identity": identity, "seed": seed, "lora": lora}
    options |= {} if labels is None else {"labels": labels, "label_dropout": label_dropout}
    card = write_card(out, data, metrics, options=options, start=start)
    early = f"; it ended early, after {metrics['steps']} steps" if metrics["steps"] < steps else ""
    text = (
        f"wrote {out}: {quality(metrics)}; before {metrics['test_nats_before']:.2f}; {len(designs)} designs, split by "
        f"{metrics['clusters']} clusters of {identity:.0%} identity{early}"
    )
    return Answer({"out": str(out), **card}, (text,))


def watching(show: Show) -> dict[str, Any]:
    """Return what shows, about once a second, the training loss and the last bound on validation."""
    figures: dict[str, float] = {}
    last = -math.inf

    def tell(step: int, loss: float) -> None:
        nonlocal last
        figures["loss"] = loss
        if time.monotonic() - last >= SECONDS_BETWEEN:
            last = time.monotonic()
            show(step, figures)

    def report(step: int, loss: float, bound: float) -> None:
        figures.update(loss=loss, bound=bound)
        show(step, figures)

    return {"tell": tell, "report": report}


def quality(metrics: dict[str, Any]) -> str:
    """Say how well a generator knows designs that it never saw, beside the simplest law of them."""
    plain = "test_nats_of_letter_frequencies"
    what, key = ("letter frequencies", plain) if plain in metrics else ("a gaussian", "test_nats_of_a_gaussian")
    return f"{metrics['test_nats']:.2f} nats a design on held-back designs ({what} alone: {metrics[key]:.2f})"


def given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


@contextmanager
def about_data(data: Path) -> Iterator[None]:
    """Put the file before an error about what it holds."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{data}: {error}") from error
