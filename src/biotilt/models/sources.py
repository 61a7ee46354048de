"""Models by name: ours, and those of plug-ins (entry-point group `biotilt.models`)."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from biotilt.registry import Registry


class Source(Protocol):
    """A model that is built from options: a dataclass of them."""

    name: ClassVar[str]

    def build(self) -> Any:
        """Return a `biotilt.Model`: the same one in every process, weights included."""
        ...


class Whole:
    """A source whose models are whole: their networks are ours, and a file of one needs the source no more."""


MODELS: Registry[Source] = Registry(
    "models",
    "model",
    lazy={
        "d3": "biotilt.models.d3:D3",
        "diffusers": "biotilt.models.diffusers:Pipeline",
        "esm": "biotilt.models.esm:MaskedLM",
        "evodiff": "biotilt.models.evodiff:EvoDiff",
        "gdss": "biotilt.models.gdss:GDSS",
        "genmol": "biotilt.models.genmol:GenMol",
        "mdlm_dna": "biotilt.models.mdlm_dna:MDLM",
        "proteinmpnn": "biotilt.models.proteinmpnn:ProteinMPNN",
        "reference": "biotilt.models.reference:Reference",
    },
    own_files=True,
)
"""Imported when they are named: pretrained families need heavy packages."""
