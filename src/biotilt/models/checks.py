"""Whether a model does what every algorithm takes for granted: asked before any compute."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from biotilt.core import OfLetters, Policy, Relaxable, own_names, share
from biotilt.errors import ConfigError, one_line

ROWS = 4
TOLERANCE = 1e-3  # of logits: of kernels that add in another order, far from what batch statistics do


@torch.no_grad()
def check_network(policy: Policy) -> None:
    """Try a network on the states of a few chains.

    Raises ConfigError when it cannot read a state (the mask, say, is no token that it knows), its output has another
    shape than the process reads or is not finite, when it answers twice differently (dropout acts) or for a row by
    itself differently than in a batch (batch statistics act).
    """
    process, device = policy.process, device_of(policy.net)
    generator = torch.Generator(device).manual_seed(0)
    x = process.noise(ROWS, generator)
    for k in (0, process.steps - 1):
        first, again = _asked(policy, x, k), _asked(policy, x, k)
        if not torch.equal(first, again):
            raise ConfigError(
                "the network gives two answers to one question: dropout, or other chance, acts in evaluation mode too. "
                "Switch it off: the policy that is compared must be the one that drew"
            )
        alone = torch.cat([_asked(policy, row, k) for row in x.split(1)])
        if not torch.allclose(first, alone, atol=TOLERANCE, rtol=TOLERANCE):
            raise ConfigError(
                "the network answers otherwise for a design by itself than for the same one in a batch (by "
                f"{(first - alone).abs().max():.2g}): batch statistics act in evaluation mode; freeze them"
            )
        x = _stepped(policy, first, x, k, generator)


@torch.no_grad()
def reads_relaxed(policy: Policy) -> bool:
    """Return whether a network also reads relaxed states, which algorithms that differentiate in states give it."""
    process, generator = policy.process, torch.Generator(device_of(policy.net)).manual_seed(0)
    x = process.noise(1, generator)
    if not isinstance(process, Relaxable):
        return False
    try:
        policy.net(*process.inputs(process.relaxed(x), 0))
    except Exception:  # whatever a stranger's network raises when it is shown floats in place of tokens
        return False
    return True


def _asked(policy: Policy, x: Tensor, k: int) -> Tensor:
    shown = policy.process.inputs(x, k)
    try:
        output = policy.net(*shown)
    except ConfigError:
        raise
    except Exception as error:  # whatever a stranger's network raises
        raise ConfigError(
            f"the network cannot read a state of the process, {tuple(shown.x.shape)} {shown.x.dtype}: "
            f"{type(error).__name__}: {one_line(error)}; is the mask a token that it knows, and the length right?"
        ) from error
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise ConfigError(f"the network must return a tensor of floats, not {type(output).__name__}")
    if not bool(output.isfinite().all()):
        raise ConfigError("the network's output is not finite")
    return output


def _stepped(policy: Policy, output: Tensor, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return the next states; ConfigError where the output does not make a kernel of them."""
    process = policy.process
    wanted = (len(x), process.length, process.letters) if isinstance(process, OfLetters) else tuple(x.shape)
    if tuple(output.shape) != wanted:
        raise ConfigError(
            f'the process "{process.name}" reads {wanted} of a network at states {tuple(x.shape)}, and this '
            f"one returns {tuple(output.shape)}"
        )
    y = process.kernel_of(output, x, k).sample(generator)
    if y.shape != x.shape:
        raise ConfigError(f"a step leads from states {tuple(x.shape)} to {tuple(y.shape)}")
    return y


@torch.no_grad()
def check_rebuilding(policy: Policy, save: Callable[[Policy, Path], None], name: str) -> None:
    """Store a policy with other weights by `save`, load it in a process of its own, and compare what networks say.

    Raises ConfigError, with what to do, where that gives another network or none.
    """
    changed = Policy(policy.process, share(policy.net))
    for own in own_names(changed.net):
        changed.net.get_parameter(own).add_(0.01)  # what starts at zero, as adapters do, has to come back too
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(changed, path)
        there = _in_another_process(path)
    here = answer(changed)
    if abs(there - here) > TOLERANCE * max(1.0, abs(here)):
        raise ConfigError(
            f"the network that {name} builds in another process is not the same: does it draw weights at random, or "
            "depend on what was set before? Seed it, or load its weights"
        )


@torch.no_grad()
def answer(policy: Policy) -> float:
    """Return a number that tells networks apart: the size of what one says of states of noise."""
    x = policy.process.noise(ROWS, torch.Generator().manual_seed(0)).to(device_of(policy.net))
    return policy.net(*policy.process.inputs(x, 0)).double().abs().sum().item()


def _in_another_process(path: Path) -> float:
    done = run_python("-m", "biotilt.models.rebuild", str(path))
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), "it died")
        raise ConfigError(f"the model cannot be loaded again in another process: {one_line(last)}")
    return float(done.stdout.split()[-1])


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which finds modules where this one does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path)}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


def device_of(net: nn.Module) -> torch.device:
    """Return where a network lives; the CPU for one without parameters."""
    return next((p.device for p in net.parameters()), torch.device("cpu"))
