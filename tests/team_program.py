"""What each process of `test_processes.py` runs: rounds of objectives, and draws of samplers; argument: a folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.core import Context, Policy, Replay, Roles, Target, path_kl, team
from biotilt.core.bounded import bounded
from biotilt.networks import CNN, CNNConfig, ValueSize, value_network
from biotilt.objectives import OBJECTIVES
from biotilt.processes import Masked
from biotilt.samplers import SAMPLERS
from biotilt.tensors import save_tensors
from biotilt.training import TrainConfig, Trainer
from biotilt.values import VALUES

LENGTH, LETTERS = 8, 3
WEIGHTS = torch.linspace(-1, 1, LENGTH * LETTERS).view(LENGTH, LETTERS)
TUNED = {
    "ppo": {}, "vidd": {}, "trajectory_balance": {"form": "learned", "chains": 5}, "reward_weighted": {"states": 33},
    "backprop": {"steps": 3}, "discrete_adjoint_matching": {}, "path_consistency": {"chains": 4}, "evolve": {},
}  # fmt: skip
DRAWN = {"smc": {"value": "posterior_mean"}, "guidance": {}, "importance": {}}


class Sum:
    """A reward of letters, complete or relaxed; its account is the number of calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        return WEIGHTS.to(torch.get_default_dtype()).gather(1, designs.long().T).sum(0)

    def relaxed(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        return (designs * WEIGHTS).sum((1, 2))

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: Mapping[str, Any], /, *, behind: bool = False) -> None:
        self.calls = state["calls"]


def context_of(value_name: str | None, capacity: int | None, scorer: Sum | None = None) -> Context:
    torch.manual_seed(0)
    base = Policy(Masked(LENGTH, LETTERS, num_steps=4), CNN(CNNConfig(LETTERS, LENGTH, channels=8, blocks=2)).eval())
    value = None
    if value_name is not None:
        options = VALUES.options_of(value_name)(**({"imagine": 16, "keep": 16} if value_name == "surrogate" else {}))
        value = VALUES[value_name].build(options, base.process, lambda *size: value_network(base, ValueSize(*size)))
    return Context(
        Roles.start(base), Target(scorer or Sum(), 0.5), torch.Generator().manual_seed(0), Replay(capacity), value
    )


def tuned(name: str, options: dict) -> dict[str, Tensor]:
    few = {"updates": 2} if name != "backprop" else {}
    objective = OBJECTIVES.build(name, options | few, "objective")
    scorer = Sum()
    context = context_of(objective.value_name, objective.capacity, scorer)
    config = TrainConfig(max_calls=24, batch=12, lr=0.01, warmup=1, memory=1)
    trainer = Trainer(context, objective, config, scorer)
    trainer.run()
    found = {f"policy/{key}": p.detach() for key, p in context.roles.policy.net.named_parameters()}
    if isinstance(context.value, nn.Module):
        found |= {f"value/{key}": p.detach() for key, p in context.value.named_parameters()}
    return found | {"rewards": torch.tensor([row.get("reward", 0.0) for row in trainer.history])}


def drawn(name: str, options: dict) -> dict[str, Tensor]:
    sampler = SAMPLERS.build(name, options, "sampler")
    scorer = Sum()
    context = context_of(sampler.value_name, None, scorer)
    with bounded(0.01):
        found = sampler.draw(context, 13)
    return {
        "designs": found.designs,
        "log_weight": found.log_weight,
        "calls": torch.tensor(scorer.calls),
    }


def main() -> None:
    torch.set_default_dtype(torch.float64)
    team.join()
    found = {f"{name}/{key}": t for name, options in TUNED.items() for key, t in tuned(name, options).items()}
    found |= {f"{name}/{key}": t for name, options in DRAWN.items() for key, t in drawn(name, options).items()}
    context = context_of(None, None)
    with torch.no_grad():
        for weight in context.roles.proposal.net.parameters():
            weight.mul_(1.1)
    found["path_kl"] = path_kl(context.roles.proposal, context.roles.base, 7, context.generator)
    save_tensors(Path(sys.argv[1]) / "found.safetensors", found, {"kind": "found"})


if __name__ == "__main__":
    main()
