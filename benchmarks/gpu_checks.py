"""What `gpu.py` checks: a card computes what the processor does, the same twice, and the same when interrupted."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.core import (
    Context,
    Parts,
    Policy,
    Prepares,
    Replay,
    Roles,
    Target,
    check_parts,
    draw_loss,
    rollout,
    sample,
)
from biotilt.core.capabilities import Density, Divergence
from biotilt.errors import BiotiltError, ConfigError
from biotilt.networks import CNN, MLP, CNNConfig, MLPConfig, Transformer, TransformerConfig, ValueSize, value_network
from biotilt.networks.table import Table
from biotilt.networks.vector import VectorMLP, VectorMLPConfig
from biotilt.objectives import OBJECTIVES
from biotilt.processes import PROCESSES, AnyOrder, Finite, Flow, Gaussian, Masked, Simplex, Uniform
from biotilt.samplers import SAMPLERS
from biotilt.testing import law
from biotilt.testing.noise import same_noise
from biotilt.training import EachRound, TrainConfig, Trainer
from biotilt.values import VALUES

Found = dict[str, Any]
LENGTH, LETTERS, STEPS = 6, 3, 5
FEWER: dict[str, Found] = {
    "tree_search": {"iterations": 4, "children": 4},
    "split_gibbs": {"rounds": 2},
    "mcmc": {"rounds": 2},
    "refinement": {"rounds": 1},
    "path_consistency": {"updates": 2},
    "trajectory_balance": {"updates": 2},
    "vidd": {"updates": 3},
    "ppo": {"updates": 3},
}


class Linear:
    """A reward that costs nothing: a sum over letters, or over coordinates, in float64, as an oracle's answer is."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        here = designs.detach().cpu().double().reshape(len(designs), -1)
        return (here @ torch.linspace(-1, 1, here.shape[1], dtype=torch.float64)).float().to(designs.device)

    def relaxed(self, designs: Tensor) -> Tensor:
        self.calls += len(designs)
        flat = designs.reshape(len(designs), -1)
        return flat @ torch.linspace(-1, 1, flat.shape[1], device=flat.device)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: Any, *, behind: bool = False) -> None:
        self.calls = state["calls"]


def policies() -> dict[str, Policy]:
    """Return a small policy with random weights of every process, and of every network of letters."""
    torch.manual_seed(0)
    mlp = MLPConfig(LETTERS, LENGTH, 16, 1, time=True)
    masked = Masked(LENGTH, LETTERS, num_steps=STEPS)
    made = {
        "any_order": Policy(AnyOrder(LENGTH, LETTERS), MLP(MLPConfig(LETTERS, LENGTH, 16, 1))),
        "masked": Policy(masked, MLP(mlp)),
        "uniform": Policy(Uniform(LENGTH, LETTERS, num_steps=STEPS), MLP(mlp)),
        "finite": Policy(Finite(6, 3), Table(6, 3, torch.randn(3, 6, 6))),
        "gaussian": Policy(Gaussian(LENGTH, num_steps=STEPS), VectorMLP(VectorMLPConfig(LENGTH, 16, 1))),
        "flow": Policy(Flow(LENGTH, num_steps=STEPS), VectorMLP(VectorMLPConfig(LENGTH, 16, 1))),
        "simplex": Policy(Simplex(LENGTH, LETTERS, num_steps=STEPS), MLP(mlp)),
        "cnn": Policy(masked, CNN(CNNConfig(LETTERS, LENGTH, 16, 2, time=True))),
        "transformer": Policy(masked, Transformer(TransformerConfig(LETTERS, LENGTH, 32, 2, 4, time=True))),
    }
    for policy in made.values():
        policy.net.eval()
    return made


def apart(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two tensors over the largest number; inf where only one is finite."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    if a.shape != b.shape or not torch.equal(a.isfinite(), b.isfinite()):
        return math.inf
    a, b = a[a.isfinite()], b[b.isfinite()]
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item() if a.numel() else 0.0


def placed(policy: Policy, device: torch.device) -> Policy:
    """Return a copy of a policy on a device."""
    copy = policy.frozen_copy()
    return Policy(policy.process, copy.net.to(device).requires_grad_(True))


def kernels(device: torch.device) -> Iterator[Found]:
    """Yield, of each process and network: outputs, log-probabilities, KL and gradients against the processor's."""
    for name, policy in policies().items():
        generator, found = torch.Generator().manual_seed(1), {}
        states = rollout(policy, 64, generator).states
        k = torch.arange(len(states) - 1).repeat_interleave(64)
        x, y = states[:-1].flatten(0, 1), states[1:].flatten(0, 1)
        there, results = placed(policy, device), []
        for each, where in ((policy, torch.device("cpu")), (there, device)):
            each.net.requires_grad_(True).zero_grad()
            kernel = each.kernel(x.to(where), k.to(where))
            result = {"output": each.outputs(*each.process.inputs(x.to(where), k.to(where)))}
            if isinstance(kernel, Density):
                result["log_prob"] = kernel.log_prob(y.to(where))
                result["log_prob"].mean().backward()
                result["gradient"] = torch.cat([p.grad.flatten() for p in each.net.parameters() if p.grad is not None])
            if isinstance(kernel, Divergence):
                result["kl"] = kernel.kl(each.kernel(x.to(where), k.to(where)))
            results.append(result)
        for key, ours in results[1].items():
            found[key] = apart(ours, results[0][key])
        found.pop("kl", None)  # of a law to itself: 0 on both
        yield {"check": "kernels", "of": name, "worst": max(found.values()), "found": found}


def laws(device: torch.device, count: int = 40_000) -> Iterator[Found]:
    """Yield the χ² of designs drawn on the device against the law that is computed on the processor, as a z-score."""
    torch.manual_seed(2)
    cases = {
        "masked": Policy(Masked(4, 3, num_steps=3), MLP(MLPConfig(3, 4, 16, 1))),
        "uniform": Policy(Uniform(3, 3, num_steps=3), MLP(MLPConfig(3, 3, 16, 1, time=True))),
        "finite": Policy(Finite(12, 4), Table(12, 4, torch.randn(4, 12, 12))),
    }
    for name, policy in cases.items():
        policy.net.eval()
        expected = law(policy) * count
        process = policy.process
        x = sample(placed(policy, device), count, torch.Generator(device).manual_seed(3), chunk=count).long().cpu()
        rows = x if x.dim() == 1 else (x * 3 ** torch.arange(x.shape[1] - 1, -1, -1)).sum(-1)
        seen = torch.bincount(rows, minlength=len(expected)).double()
        chi2, free = ((seen - expected).square() / expected).sum().item(), len(expected) - 1
        yield {"check": "law", "of": name, "steps": process.steps, "z": (chi2 - free) / math.sqrt(2 * free)}


def run_once(kind: str, name: str, base: Policy, device: torch.device, options: Found) -> dict[str, Tensor]:
    """Return what one run of an objective or a sampler leaves, on the device; ConfigError where parts do not fit."""
    torch.manual_seed(0)
    base = placed(base, torch.device("cpu"))
    algorithm = (OBJECTIVES if kind == "objective" else SAMPLERS).build(name, FEWER.get(name, {}) | options, kind)
    value: Any = None
    if (wanted := algorithm.value_name) is not None:
        built = VALUES.options_of(wanted)()
        value = VALUES[wanted].build(built, base.process, lambda *size: value_network(base, ValueSize(*size)))
    check_parts(algorithm, Parts(base.process, value, True, PROCESSES.values(), VALUES.values()))
    base.net.to(device)
    if isinstance(value, nn.Module):
        value.to(device)
    scorer = Linear()
    memory = Replay(algorithm.capacity) if kind == "objective" else Replay(None)
    generator = torch.Generator(device).manual_seed(5)
    context = Context(Roles.start(base), Target(scorer, 0.5), generator, memory, value)
    if kind == "objective":
        config = TrainConfig(max_calls=32, batch=16, trackers=())
        net = Trainer(context, algorithm, config, scorer).run()
        return {"weights": torch.cat([p.detach().flatten().cpu() for p in net.parameters()])}
    if isinstance(value, Prepares):
        value.prepare(context)
    drawn = algorithm.draw(context, 8)
    return {"designs": drawn.designs.cpu(), "rewards": drawn.rewards.cpu(), "weights": drawn.log_weight.cpu()}


def algorithms() -> Iterator[tuple[str, str, str, Found]]:
    """Yield kind, name, process and options of runs that together ask every objective, sampler and value."""
    yield "objective", "adjoint_matching", "flow", {}
    for name in OBJECTIVES:
        if name != "adjoint_matching":
            yield "objective", name, "any_order", {}
    for name in SAMPLERS:
        yield "sampler", name, "masked", {}
    for value in ("return", "bootstrapped", "mixed"):
        yield "objective", "vidd", "masked", {"value": value}
    for value in ("posterior_mean", "monte_carlo"):
        yield "objective", "vidd", "masked", {"value": value, "teacher": "sampled", "anchor": "rollout"}
    yield "sampler", "smc", "masked", {"value": "learned"}
    for name, options in (("ppo", {}), ("backprop", {}), ("vidd", {"value": "return"})):
        yield "objective", name, "uniform", options
    yield "objective", "ppo", "cnn", {}
    yield "objective", "ppo", "transformer", {}
    yield "objective", "trajectory_balance", "gaussian", {"form": "learned"}


def compared(device: torch.device, late: Callable[[], bool]) -> Iterator[Found]:
    """Yield, of every algorithm: a run with the processor's noise against the processor's run, and two of the device.

    The two are made with `torch.use_deterministic_algorithms`, which refuses operators that are not; `refused` says
    which, and whether the two were the same without it.
    """
    known = policies()
    for kind, name, process, options in algorithms():
        if late():
            return
        line: Found = {"check": "algorithm", "kind": kind, "of": name, "process": process, "options": options}
        run = partial(run_once, kind, name, known[process], options=options)
        try:
            with same_noise():
                ours, theirs = run(torch.device("cpu")), run(device)
            line["apart"] = {key: apart(theirs[key], ours[key]) for key in ours}
            line |= twice(partial(run, device))
        except (ConfigError, RuntimeError, BiotiltError) as error:
            line["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        yield line


def twice(run: Callable[[], dict[str, Tensor]]) -> Found:
    """Return whether two runs are the same to the last bit."""
    refused = ""
    torch.use_deterministic_algorithms(True)
    try:
        first, second = run(), run()
    except RuntimeError as error:
        refused = str(error).splitlines()[0]
    finally:
        torch.use_deterministic_algorithms(False)
    if refused:
        first, second = run(), run()
    same = all(bool(((first[key] == second[key]) | (first[key] != first[key])).all()) for key in first)  # NaN ≠ NaN
    return {"same": same} | ({"refused": refused} if refused else {})


def one_update(device: torch.device) -> Iterator[Found]:
    """Yield how far the gradient of one update on the same replay is from the processor's."""
    known = policies()
    for process in ("cnn", "transformer", "uniform"):
        gradients: list[Tensor] = []
        for where in (torch.device("cpu"), device):
            with same_noise():
                torch.manual_seed(0)
                base = placed(known[process], where)
                generator = torch.Generator(where).manual_seed(5)
                context = Context(Roles.start(base), Target(Linear(), 0.5), generator, Replay(None), None)
                objective = OBJECTIVES.build("ppo", {"updates": 1, "states": 64}, "objective")
                context.memory.add(objective.collect(context, 32).rows)
                draw_loss(objective, context)[0].backward()
            own = context.roles.policy.net.parameters()
            gradients.append(torch.cat([p.grad.flatten() for p in own if p.grad is not None]))
        yield {"check": "update", "of": process, "apart": apart(gradients[1], gradients[0])}


def resumed(device: torch.device) -> Iterator[Found]:
    """Yield whether a run that fails after its second round and goes on ends as the one that did not."""
    known = policies()
    for name, process in (("vidd", "any_order"), ("ppo", "transformer")):
        with tempfile.TemporaryDirectory() as folder:
            nets = []
            for fails in (False, True):
                place = Path(folder) / str(fails)
                place.mkdir()
                trainer = trainer_of(name, known[process], device, place)
                if fails:

                    def fail(row: dict[str, float]) -> None:
                        if row["round"] == 2:
                            raise RuntimeError("killed")

                    trainer.callbacks = [EachRound(fail)]
                    try:
                        trainer.run()
                    except BiotiltError:
                        trainer = trainer_of(name, known[process], device, place)
                        trainer.resume()
                nets.append(trainer.run())
            a, b = (torch.cat([p.detach().flatten() for p in net.parameters()]) for net in nets)
            yield {"check": "resume", "of": name, "process": process, "same": torch.equal(a, b), "apart": apart(a, b)}


def trainer_of(name: str, base: Policy, device: torch.device, folder: Path) -> Trainer:
    """Return a loop of four rounds that keeps its checkpoints in a folder."""
    torch.manual_seed(0)
    base, scorer = placed(base, device), Linear()
    objective = OBJECTIVES.build(name, FEWER[name], "objective")
    value: Any = None
    if (wanted := objective.value_name) is not None:
        built = VALUES.options_of(wanted)()
        value = VALUES[wanted].build(built, base.process, lambda *size: value_network(base, ValueSize(*size)))
        value.to(device)
    generator = torch.Generator(device).manual_seed(5)
    context = Context(Roles.start(base), Target(scorer, 0.5), generator, Replay(objective.capacity), value)
    return Trainer(context, objective, TrainConfig(max_calls=64, batch=16, trackers=()), scorer, folder)


def experiment(device: torch.device) -> Iterator[Found]:
    """Yield what a user's way through the package gives: a task tuned, judged and steered on the device."""
    import biotilt

    name = "cuda" if device.type == "cuda" else device.type
    keys: Found = {"device": name, "reward": {"kind": "gc"}, "held_out": None}
    with tempfile.TemporaryDirectory() as folder:
        train = {"max_calls": 64, "batch": 32, "trackers": []}
        objective = {"name": "ppo", "updates": 2}
        tuned = biotilt.Experiment.for_task("utr", **keys, objective=objective, train=train, output={"samples": 32})
        run = biotilt.tune(tuned, Path(folder) / "run")
        yield {"check": "experiment", "of": "tune", "designs": len(run.sample(8)), "rounds": len(run.rows)}
    for sampler in ({"name": "smc", "value": "learned"}, {"name": "evolve"}):
        value = {"value": {"calls": 32, "epochs": 2}} if "value" in sampler else {}
        steered = biotilt.Experiment.for_task("utr", **keys, sampler=sampler, **value)
        found = biotilt.steer(steered, 16)
        yield {"check": "experiment", "of": f"steer {sampler}", "designs": len(found.designs), "calls": found.calls}
