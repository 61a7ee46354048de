"""An experiment: what a file, a task or a dictionary of keys describes, with the objects that it names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from biotilt.assemble import Assembled, assemble
from biotilt.config import Config
from biotilt.errors import ConfigError
from biotilt.keys import override, read_toml
from biotilt.model import Model


class Experiment(Assembled):
    """A checked configuration with its objects; `base` is the folder that relative paths start at.

    Make one with `Experiment.load(file)` or `Experiment.for_task("utr")`. `reward`, `held_out`: objects that
    replace what the configuration names.

    >>> import biotilt
    >>> experiment = biotilt.Experiment.for_task("utr", alpha=0.1, train={"max_calls": 512})
    >>> experiment.config.alpha, experiment.model.space.medium
    (0.1, 'text')
    """

    @classmethod
    def load(
        cls, path: Path | str, *, overrides: list[str] | None = None,
        reward: Any = None, held_out: Any = None, model: Model | None = None, measures: Iterable[Any] | None = None,
    ) -> Experiment:  # fmt: skip
        """Read an experiment file; `overrides` are `a.b=c` texts, `measures` functions beside those that it names.

        Raises ConfigError, with file, line and key, for anything that cannot work.
        """
        data, text = read_toml(Path(path))
        data = override(data, overrides or [])
        return cls.from_dict(
            data, Path(path).parent, str(path), text, reward=reward, held_out=held_out, model=model, measures=measures
        )

    @classmethod
    def for_task(
        cls, task: str, *, reward: Any = None, held_out: Any = None, model: Any = None,
        measures: Iterable[Any] | None = None, **changes: Any,
    ) -> Experiment:  # fmt: skip
        """Build a ready-made task; `changes` are top-level keys (`alpha=0.2`, `train={"max_calls": 512}`)."""
        data = {"task": task, **changes}
        return cls.from_dict(
            data, Path(), f'task "{task}"', reward=reward, held_out=held_out, model=model, measures=measures
        )

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], base: Path, source: str = "the experiment", text: str = "",
        *, reward: Any = None, held_out: Any = None, model: Any = None, measures: Iterable[Any] | None = None,
        proven: bool = False,
    ) -> Experiment:  # fmt: skip
        """Build from a dictionary of keys; a `task` fills in what it does not say.

        `model`: a Model (`biotilt.wrap`), or a section as in a file, in place of what `[model]` names. A network that
        is not one of ours is tried (`Model.check`) unless it is `proven`. `measures`: functions for the panel.
        """
        given = {"reward": reward, "held_out": held_out, "model": model, "measures": measures}
        found = assemble(data, base, source, text, **given, proven=proven)
        return cls(**vars(found))

    @property
    def device(self) -> torch.device:
        """Where tensors live; ConfigError when this machine has no such device."""
        return device_of(self.config)

    @property
    def device_here(self) -> torch.device:
        """The device where this machine has it, else the processor: for what can be done anywhere."""
        try:
            return self.device
        except ConfigError:
            return torch.device("cpu")

    def close(self) -> None:
        """End the workers that score designs; they start again when they are needed."""
        self.oracles.close()


def device_of(config: Config) -> torch.device:
    """Return where tensors live; ConfigError when this machine has no such device."""
    return device_named(config.device)


def device_named(name: str) -> torch.device:
    """Return a device by its name; ConfigError when this machine has no such device."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device: cannot use "{name}": {str(error).splitlines()[0]}; "cpu" always works') from error
    return device
