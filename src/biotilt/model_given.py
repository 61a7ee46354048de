"""The model of an experiment's section, told its condition; and what a file says of one given as an object."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from biotilt.config import ModelSection
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.models.hub import is_hub
from biotilt.models.origin import FactoryOrigin, Origin, SourceOrigin
from biotilt.models.sources import MODELS
from biotilt.options import anchored


def load_base(section: ModelSection, base: Path) -> Model:
    """Load the pretrained generator that a section names, whose relative paths start at the folder `base`.

    Raises ConfigError, which names the key, when it cannot be built, or does not do what every algorithm expects.
    """
    if section.path is not None:
        try:
            return Model.load(section.path if is_hub(section.path) else base / section.path, **section.process)
        except ConfigError as error:
            raise ConfigError(f"model.process: {error}") from error
    if section.source is not None:
        kind = MODELS.options_of(section.source, "model.source")
        model = Model.of_origin(SourceOrigin(section.source, anchored(kind, section.options, base)))
    else:
        assert section.factory is not None  # the section checked that it is one of the three
        try:
            model = Model.of_origin(FactoryOrigin.of(section.factory, section.options, base))
        except ConfigError as error:
            raise ConfigError(f"model.factory: {error}") from error
    return model.with_process(**section.process) if section.process else model


def with_told(section: ModelSection, model: Model) -> Model:
    """Return the model whose network is told what a section says; ConfigError, which names the key, where it cannot."""
    if section.condition is None:
        return model
    try:
        return model.with_condition(section.condition, guidance=section.guidance)
    except ConfigError as error:
        key = "guidance" if str(error).startswith("guidance") else "condition"
        raise ConfigError(f"model.{key}: {error}") from error


def model_section(model: Model) -> dict[str, Any]:
    """Return what a configuration says of a model that was given as an object."""
    told = {} if model.told is None else {"condition": model.told.table, "guidance": model.told.guidance}
    if not isinstance(model.origin, Origin):
        net = model.with_condition(None).policy.net
        return {"path": f"<{type(net).__name__}, given in Python>"} | told
    adapters = {} if model.lora is None else {"lora": asdict(model.lora)}
    process = {"name": model.policy.process.name} | model.process_options
    return asdict(model.origin) | {"process": process} | adapters | told
