"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), by the package peft: the network itself stays."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from biotilt.errors import ConfigError, needs_extra, suggest
from biotilt.options import Count, Positive, Text, check_options


@dataclass(frozen=True)
class LoRA:
    """W x + (alpha/rank) B A x at the layers `targets`: A random, B zero at first, so tuning starts at the base.

    `targets`: names of layers or the ends of names ("query"), none for every linear layer and every
    one-dimensional convolution. Those of images get adapters where they are named ("conv1"). None that is dilated or
    grouped: peft cannot adapt it.

    >>> LoRA(rank=4, targets=("query", "value")).rank
    4
    >>> LoRA(rank=0)
    Traceback (most recent call last):
    biotilt.errors.ConfigError: model.lora.rank: must be ≥ 1, got 0
    """

    rank: Count = 8
    alpha: Positive = 16.0
    targets: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        check_options(self, "model.lora")


def adapted(net: nn.Module, lora: LoRA) -> nn.Module:
    """Return a copy of a network that shares all its weights and has adapters, which alone can be trained.

    Raises ConfigError when no layer is called so, or peft is not installed.
    """
    peft = needs_extra("peft", "lora")
    layers = _layers(net)
    chosen = [name for name in layers if _is_one_of(name, lora.targets)]
    if not lora.targets:
        chosen = [name for name in layers if not isinstance(net.get_submodule(name), nn.Conv2d)]
    for target in lora.targets:
        if not any(_is_one_of(name, (target,)) for name in layers):
            raise ConfigError(
                f'model.lora.targets: no layer that can have adapters is called "{target}"{suggest(target, layers)}'
            )
    if not chosen:
        raise ConfigError(
            "model.lora: this network has no linear layer or convolution to adapt; those of images are to be named "
            'as targets = ["…"]'
        )
    shared = copy.deepcopy(net, {id(t): t for t in (*net.parameters(), *net.buffers())})
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=chosen, lora_dropout=0.0)
    flags = [parameter.requires_grad for parameter in net.parameters()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the first A; checkpoints and files hold what it became
        peft.inject_adapter_in_model(config, shared)
    _keep_frozen(shared)
    for parameter, flag in zip(net.parameters(), flags):  # peft froze these, which the copy shared
        parameter.requires_grad_(flag)
    return shared.eval()


def merged(net: nn.Module) -> nn.Module:
    """Return a copy of a network whose adapters are part of its weights: nothing of peft is left."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(net)
    for name, layer in list(whole.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(whole.get_submodule(parent), child, layer.get_base_layer())
    return whole.requires_grad_(True)


def _keep_frozen(net: nn.Module) -> None:
    """Give what takes no gradient parameters of its own, in the same memory; tied ones stay tied."""
    seen: dict[int, nn.Parameter] = {}
    for module in net.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                frozen = seen.setdefault(id(parameter), nn.Parameter(parameter.detach(), requires_grad=False))
                module.register_parameter(name, frozen)


def _layers(net: nn.Module) -> list[str]:
    """Return the names of the layers that can have adapters: peft takes no dilated or grouped convolution."""
    inside = tuple(n for n, m in net.named_modules() if isinstance(m, nn.MultiheadAttention))  # read by another layer
    layers = [name for name, module in net.named_modules() if _is_adaptable(module)]
    return [name for name in layers if not name.startswith(tuple(f"{module}." for module in inside))]


def _is_adaptable(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (
        isinstance(layer, nn.Conv1d | nn.Conv2d) and layer.groups == 1 and set(layer.dilation) == {1}
    )


def _is_one_of(name: str, targets: tuple[str, ...]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)
