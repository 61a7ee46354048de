"""Reference backbones, by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from biotilt.errors import ConfigError, one_line, suggest
from biotilt.networks.cnn import CNN, CNNConfig
from biotilt.networks.mlp import MLP, MLPConfig
from biotilt.networks.structured import Structured, StructuredConfig
from biotilt.networks.transformer import Transformer, TransformerConfig
from biotilt.networks.values import Blank, Features, ValueSize, value_network
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.options import build_options

NETWORKS: dict[str, tuple[type, type[nn.Module]]] = {
    "cnn": (CNNConfig, CNN),
    "mlp": (MLPConfig, MLP),
    "structured": (StructuredConfig, Structured),
    "transformer": (TransformerConfig, Transformer),
    "vector_mlp": (VectorMLPConfig, VectorMLP),
}


def build_network(name: str, options: dict[str, Any]) -> nn.Module:
    """Build a backbone; ConfigError names an unknown name or option, or a value out of bounds."""
    if str(name) not in NETWORKS:
        raise ConfigError(f'unknown network "{one_line(name)}"{suggest(str(name), NETWORKS)}')
    config_type, network = NETWORKS[name]
    return network(build_options(config_type, options, f'network "{name}"'))


def describe_network(net: nn.Module) -> dict[str, Any]:
    """Return the name and options that `build_network` rebuilds this network from."""
    for name, (_, network) in NETWORKS.items():
        if type(net) is network:  # a subclass is not what would be rebuilt
            config: Any = net.config
            return {"name": name, **asdict(config)}
    raise ConfigError(
        f"{type(net).__name__} is not one of biotilt's networks ({', '.join(NETWORKS)}), so it could not be loaded "
        'again: name the function that returns the model, biotilt.wrap(…, factory="module:function")'
    )


__all__ = [
    "CNN",
    "MLP",
    "NETWORKS",
    "Blank",
    "CNNConfig",
    "Features",
    "MLPConfig",
    "Structured",
    "StructuredConfig",
    "Transformer",
    "TransformerConfig",
    "ValueSize",
    "VectorMLP",
    "VectorMLPConfig",
    "build_network",
    "describe_network",
    "value_network",
]
