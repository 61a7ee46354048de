"""Pretraining a generator by its process's denoising loss, in one go or in several."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from biotilt.core import Net, Policy, move_toward
from biotilt.errors import DataError
from biotilt.options import BatchSize, Below1, Count, CountFrom0, NotNegative, Positive, Share, check_options
from biotilt.training.optimisers import Optimiser
from biotilt.training.pretraining_state import Pretraining, StateFile, hash_of
from biotilt.training.put_off import interrupt_put_off

TOLD_EVERY = 20  # steps on a device, without waiting for it in between


@dataclass(frozen=True)
class PretrainConfig:
    """`steps` of an optimiser at `lr` on batches of `batch`; weights averaged by `ema`.

    The rate rises in a line for `warmup` steps and falls to 0, as a cosine does, in the last `decay` of those that
    follow: 1 for a fall from the beginning, 0 for none. `patience`: training ends after so many looks at validation,
    one each `check_every` steps, that found nothing better, the network as it came being looked at first; 0 for all
    steps. `bfloat16`: the network's products are taken in 16 bits, twice as fast or more where the processor has them.
    `optimiser`: "adamw", or "muon" for the matrices of blocks, such as a transformer's, and "adamw" for the rest
    (`optimisers_of`).
    """

    steps: Count = 4000
    batch: BatchSize = 128
    lr: Positive = 2e-3
    weight_decay: NotNegative = 0.01
    ema: Below1 = 0.999
    warmup: Count = 200
    decay: Share = 1.0
    clip: Positive = 1.0
    check_every: Count = 250
    patience: CountFrom0 = 0
    bfloat16: bool = False
    optimiser: Optimiser = "adamw"

    def __post_init__(self) -> None:
        check_options(self, "pretrain")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, the first of which is 1.

        >>> config = PretrainConfig(steps=110, lr=1.0, warmup=10, decay=0.5)
        >>> [round(config.rate(step), 2) for step in (1, 6, 11, 60, 86, 110)]
        [0.01, 0.51, 1.0, 1.0, 0.5, 0.0]
        """
        if step <= self.warmup:
            return self.lr * (0.01 + 0.99 * (step - 1) / self.warmup)
        falling = self.decay * max(self.steps - self.warmup, 1)
        left = self.steps - step + 1
        return self.lr if left >= falling else self.lr * (1 - math.cos(math.pi * left / falling)) / 2


def pretrain(
    policy: Policy,
    designs: Tensor,
    validation: Tensor,
    config: PretrainConfig,
    generator: Generator,
    report: Callable[[int, float, float], None] = lambda step, train, validation: None,
    change: Callable[[Tensor, Generator], Tensor] = lambda designs, generator: designs,
    tell: Callable[[int, float], None] = lambda step, train: None,
    state: StateFile | None = None,
) -> float:
    """Train `policy.net` in place on designs `(N, L)`; it ends with the averaged weights best on validation.

    The generator says where: everything is computed on its device, and the network comes back to where it was. To have
    it compiled, call `policy.net.compile()` before. `change` is what is done to each batch of designs before they are
    learned. Returns the validation bound on −log p, nats a design.

    `report(step, training loss, validation bound)` is called every `check_every` steps, and
    `tell(step, training loss since the last report)` after each; on another device than the processor, which works
    ahead of it, after every 20th: to read a loss is to wait for it.

    `state`: where what is reached is kept, about once a minute, at the end and on Ctrl-C. Called again with all else
    the same it goes on from there, and ends, on the same number of threads, with the same bits as in one go. The file
    stays: who has saved the network may delete it. Raises ConfigError where the file is of another training.
    """
    process, net = policy.process, policy.net
    told = {
        "process": repr(process),
        "the training designs": hash_of(designs),
        "the validation designs": hash_of(validation),
    }

    designs, validation = designs.to(generator.device), validation.to(generator.device)
    read = in_bfloat16(net) if config.bfloat16 else net

    def loss() -> Tensor:
        rows = torch.randint(len(designs), (config.batch,), generator=generator, device=generator.device)
        return process.denoising_loss(read, change(designs[rows], generator), generator).mean()

    def bound(average: nn.Module) -> float:
        return validation_bound(Policy(process, average), validation)

    return learn(net, loss, bound, config, generator, report, tell, None if state is None else state.with_(told))


def learn(
    net: nn.Module,
    loss: Callable[[], Tensor],
    bound: Callable[[nn.Module], float],
    config: PretrainConfig,
    generator: Generator,
    report: Callable[[int, float, float], None] = lambda step, train, validation: None,
    tell: Callable[[int, float], None] = lambda step, train: None,
    state: StateFile | None = None,
) -> float:
    """Train a network in place by any loss, as `pretrain` does by that of a process; return its best `bound`.

    `loss` draws a batch with the generator, on whose device the network is, and reads it with the network; `bound`
    judges the averaged network on validation. What they depend on, the `state` is to tell (`StateFile.also`).
    """
    home = _device_of(net)
    now = Pretraining.start(net.to(generator.device), config, generator)
    if state is not None and state.path.exists():
        now.read(state)
    elif config.patience:
        now.checked(bound(now.average))  # what was there before may be the best
    told_every = 1 if generator.device.type == "cpu" else TOLD_EVERY
    with interrupt_put_off() if state is not None else contextlib.nullcontext(lambda: False) as interrupted:
        while not _done(now, config):
            since = now.step % config.check_every + 1  # the last report
            now.running += _step(loss, config, now)
            if now.step % told_every == 0:
                tell(now.step, now.running.item() / since)
            if now.step % config.check_every == 0 or now.step == config.steps:
                reached = bound(now.average)
                report(now.step, now.running.item() / since, reached)
                now.checked(reached)
            if state is not None:
                now.write(state, at_once=interrupted() or _done(now, config))
                if interrupted():
                    raise KeyboardInterrupt(f"interrupted after step {now.step}")
    if not math.isfinite(now.best):
        if state is not None:
            state.path.unlink(missing_ok=True)  # there is nothing to go on with, and it must not refuse a lower rate
        raise DataError(f"training diverged: no bound on validation is finite; lower lr (it is {config.lr})")
    now.keep_best()
    net.to(home).eval()
    return now.best


def _done(now: Pretraining, config: PretrainConfig) -> bool:
    return now.step >= config.steps or (config.patience > 0 and now.waited >= config.patience)


def _device_of(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def _step(loss: Callable[[], Tensor], config: PretrainConfig, now: Pretraining) -> Tensor:
    """Change the weights, and their average, by one batch; return its loss."""
    net = now.net
    now.step += 1
    net.train()
    found = loss()
    net.zero_grad(set_to_none=True)
    found.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
    for optimiser in now.optimisers.values():
        for group in optimiser.param_groups:
            group["lr"] = config.rate(now.step)
        optimiser.step()
    # a short memory at first, so that the average forgets the random start
    move_toward(now.average, net, 1 - min(config.ema, (1 + now.step) / (10 + now.step)))
    return found.detach().double()


def in_bfloat16(net: Net) -> Callable[..., Tensor]:
    """Return the network as a function whose products are taken in 16 bits, and whose output is in float32."""

    def call(x: Tensor, *rest: Any) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return net(x, *rest).float()

    return call


@torch.no_grad()
def validation_bound(policy: Policy, designs: Tensor, *, draws: int = 4, chunk: int = 512) -> float:
    """Return the mean bound on −log p of designs `(N, L)`, always with the same draws of noise."""
    generator = torch.Generator(designs.device).manual_seed(0)
    total = 0.0
    for _ in range(draws):
        for part in designs.split(chunk):
            total += policy.process.denoising_loss(policy.net, part, generator).sum().item()
    return total / (draws * len(designs))
