"""Soft values: plug-ins that ask the oracle, and networks learned from scored designs."""

from biotilt.values.learned import LearnedQ, LearnedValueConfig
from biotilt.values.monte_carlo import MonteCarlo
from biotilt.values.posterior_mean import PosteriorMean
from biotilt.values.surrogate import SurrogateConfig, SurrogateQ

__all__ = ["LearnedQ", "LearnedValueConfig", "MonteCarlo", "PosteriorMean", "SurrogateConfig", "SurrogateQ"]
