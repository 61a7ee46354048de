"""Reference backbones, by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from biotilt.errors import ConfigError
from biotilt.networks.cnn import CNN, CNNConfig
from biotilt.networks.dilated_cnn import DilatedCNN, DilatedCNNConfig
from biotilt.networks.graph import GraphScores, GraphScoresConfig
from biotilt.networks.image import UNet, UNetConfig
from biotilt.networks.mlp import MLP, MLPConfig
from biotilt.networks.proteinmpnn import BackboneDecoder, BackboneDecoderConfig
from biotilt.networks.score_ratios import ScoreRatios, ScoreRatiosConfig
from biotilt.networks.structured import Structured, StructuredConfig
from biotilt.networks.transformer import Transformer, TransformerConfig
from biotilt.networks.values import Blank, Features, ValueSize, pooled_features, value_network
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.registry import Registry

NETWORKS: Registry[nn.Module] = Registry(
    "networks",
    "network",
    (BackboneDecoder, CNN, DilatedCNN, GraphScores, MLP, ScoreRatios, Structured, Transformer, UNet, VectorMLP),
)
"""Each is made of its `Options` alone, and keeps them as `config`."""


def describe_network(net: nn.Module) -> dict[str, Any]:
    """Return the name and options that `NETWORKS.of_table` rebuilds this network from.

    Raises ConfigError when its class is not registered: one that derives from a registered class is another network.
    """
    name = NETWORKS.name_of(net)
    if name is None:
        raise ConfigError(
            f"{type(net).__name__} is not one of biotilt's networks ({', '.join(NETWORKS)}), so it could not be loaded "
            'again: name the function that returns the model, biotilt.wrap(…, factory="module:function"), or register '
            "its class (biotilt.networks.NETWORKS)"
        )
    config: Any = net.config
    return {"name": name, **asdict(config)}


__all__ = [
    "CNN",
    "MLP",
    "NETWORKS",
    "BackboneDecoder",
    "BackboneDecoderConfig",
    "Blank",
    "CNNConfig",
    "DilatedCNN",
    "DilatedCNNConfig",
    "Features",
    "GraphScores",
    "GraphScoresConfig",
    "MLPConfig",
    "ScoreRatios",
    "ScoreRatiosConfig",
    "Structured",
    "StructuredConfig",
    "Transformer",
    "TransformerConfig",
    "UNet",
    "UNetConfig",
    "ValueSize",
    "VectorMLP",
    "VectorMLPConfig",
    "describe_network",
    "pooled_features",
    "value_network",
]
