"""Surrogates that choose which designs are worth a call, one a file."""

from __future__ import annotations

from biotilt.core import Screen
from biotilt.registry import Registry
from biotilt.screens.gp import GPOptions, GPScreen
from biotilt.screens.ranking import RankingOptions, RankingScreen

SCREENS: Registry[Screen] = Registry("screens", "screen", (GPScreen,))
"""What an experiment may name in its section `[screen]`."""

__all__ = ["SCREENS", "GPOptions", "GPScreen", "RankingOptions", "RankingScreen"]
