"""The screen of an experiment: what may be screened is asked when the experiment is built."""

from __future__ import annotations

from biotilt.config import Config
from biotilt.core import Algorithm, Screen, Value, View, check_screened
from biotilt.errors import ConfigError
from biotilt.model import Model
from biotilt.networks import pooled_features
from biotilt.screens import SCREENS


def screen_for(config: Config, model: Model, algorithm: Algorithm, value: Value | None) -> Screen | None:
    """Return a new screen for an objective or a sampler with its value; None where the experiment has no `[screen]`.

    Raises ConfigError when it may not choose which of the algorithm's designs are scored, or cannot tell them apart.
    """
    named = config.screen_options()
    if named is None:
        return None
    if config.constraints:
        raise ConfigError(
            "screen: the prices of [[constraints]] change from round to round, and with them what a design is worth; "
            "leave [screen] or the constraints out"
        )
    check_screened(algorithm, model.policy.process, value)
    name, options = named
    return SCREENS.find(name).build(options, view_of(model))


def view_of(model: Model) -> View:
    """Return how what looks at whole designs sees the states of a model."""
    return View(model.space, model.decode, pooled_features(model.policy))


def check_screen(config: Config, model: Model, objective: Algorithm, value: Value | None) -> None:
    """Raise ConfigError for a screen that serves neither the objective nor the sampler of an experiment."""
    try:
        screen_for(config, model, objective, value)
    except ConfigError:
        sampler = config.build_sampler()
        if sampler.unscreened(None):  # then the fault of the objective is what there is to say
            raise
        screen_for(config, model, sampler, None)
