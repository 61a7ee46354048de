"""The floor of kernels that reveal several letters at once, exactly, and what SMC and SVDD do about it.

    python benchmarks/factorised_floor.py > benchmarks/results/factorised_floor.json

Three letters, three positions: 27 designs, 64 states. Such a kernel is a product over positions, so no training takes
it to p*. For each process the base reveals with the true conditionals of one coupled law; the tuned policy is the best
of its family, by gradient descent on the exact objective J in float64, from several starts. `floor.tv` is its distance
to p*; `floor.least_tv` the smallest distance that a policy of the family was brought to by descent on the distance
itself. The rest are distances of what samplers draw, with the base and with the tuned policy as proposal, for the most
likely guess as value and for the exact soft value; `noise` is that of as many draws of p* itself. Takes some minutes.
The output is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from biotilt.core import Context, Evaluates, Policy, Roles, Sampler, Target
from biotilt.networks.table import StateTable
from biotilt.processes import AnyOrder, Masked
from biotilt.samplers import SMC, SVDD, Importance
from biotilt.testing import TableScorer, expected_reward, kl, law, soft_values, space, tilted_law, total_variation
from biotilt.testing import transition_matrices as matrices
from biotilt.testing.exact import lexicographic_index
from biotilt.values import PosteriorMean

LETTERS, LENGTH, ALPHA = 3, 3, 0.5
PROCESSES: dict[str, Any] = {
    "any_order, 3 letters in 1 step": AnyOrder(LENGTH, LETTERS, per_step=3),
    "any_order, 2 letters a step, 2 steps": AnyOrder(LENGTH, LETTERS, per_step=2),
    "masked, 3 steps": Masked(LENGTH, LETTERS, num_steps=3),
}


class TimedTable(nn.Module):
    """A row of logits for every step and state `(K, 64, L, V)`: every policy that the kernels can express."""

    def __init__(self, process: Any, logits: Tensor):
        super().__init__()
        self.process, self.logits = process, nn.Parameter(logits)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        # any-order gives the share of letters hidden as the time, masked 1 − k/K: the step is a function of it
        hidden = self.process.name == "any_order"
        k = self.process.step_of(x) if hidden else ((1 - t) * self.process.steps).round().long()
        return self.logits[k, lexicographic_index(x, LETTERS + 1)]


class Exact:
    """J of the policies of one process, and their distance to p*, differentiable in their logits."""

    def __init__(self, base: Policy, reward: Tensor):
        self.base, self.reward = base, reward
        self.p_star, self.log_z = tilted_law(law(base), reward, ALPHA)
        self.states, self.start, self.designs = space(base.process)
        # only the pairs that can follow each other
        self.pairs = [matrix.nonzero(as_tuple=True) for matrix in matrices(base, self.states)]

    def law_and_kl(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """Return the law over designs `(27,)` and the path KL to the base."""
        now = self.start
        cost = torch.zeros(())
        for k, (x, y) in enumerate(self.pairs):
            kernel = policy.kernel(self.states, k)
            cost = cost + (now * kernel.kl(self.base.kernel(self.states, k))).sum()
            step = policy.kernel(self.states[x], k).log_prob(self.states[y]).exp()
            now = torch.zeros_like(now).index_add(0, y, now[x] * step)
        return now[self.designs], cost

    def loss(self, policy: Policy) -> Tensor:
        """Return −J = α KL − E[r]."""
        p, cost = self.law_and_kl(policy)
        return ALPHA * cost - (p * self.reward).sum()

    def distance(self, policy: Policy) -> Tensor:
        return (self.law_and_kl(policy)[0] - self.p_star).abs().sum() / 2


def problem() -> tuple[Tensor, Tensor]:
    """Return a coupled law over the 27 designs and an asymmetric reward of unit variance."""
    generator = torch.Generator().manual_seed(3)
    joint = (1.2 * torch.randn(LETTERS**LENGTH, generator=generator)).softmax(0)
    reward = torch.randn(LETTERS**LENGTH, generator=generator)
    return joint, (reward - reward.mean()) / reward.std()


def descend(policy: Policy, loss: Any, updates: int, rate: float) -> float:
    """Bring the logits down the loss with Adam; keep the best, and return its loss."""
    net: Any = policy.net
    optimiser = torch.optim.Adam([net.logits], rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    best, kept = math.inf, net.logits.detach().clone()
    for _ in range(updates):
        value = loss(policy)
        if value.item() < best:
            best, kept = value.item(), net.logits.detach().clone()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
    net.logits.data.copy_(kept)
    return best


def best_of_family(exact: Exact, starts: int, updates: int) -> tuple[Policy, list[float]]:
    """Return the policy of largest J, and J of every start: the base, then the base with noise."""
    found = []
    for seed in range(starts):
        noise = torch.randn(exact.base.net.logits.shape, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
        logits = exact.base.net.logits.detach() + (2 * noise if seed else 0)  # type: ignore[operator]
        policy = Policy(exact.base.process, TimedTable(exact.base.process, logits))
        found.append((-descend(policy, exact.loss, updates, 0.05), policy))
    return max(found, key=lambda each: each[0])[1], [j for j, _ in found]


class SoftValue(Evaluates):
    """The exact soft value of every state and step."""

    def __init__(self, table: Tensor):
        self.table = table

    def state_value(self, context: Context, x: Tensor, k: int | Tensor) -> Tensor:
        return self.table[k, lexicographic_index(x, LETTERS + 1)]


def law_of(designs: Tensor, log_weight: Tensor) -> Tensor:
    """Return the law `(27,)` of one design taken by weight."""
    index = lexicographic_index(designs, LETTERS)
    return torch.zeros(LETTERS**LENGTH).index_add(0, index, log_weight.softmax(0))


def drawn_law(sampler: Sampler, context: Context, count: int, draws: int) -> Tensor:
    """Return the law `(27,)` of one design taken by weight from a draw of `count`, averaged over `draws`."""
    parts = (sampler.draw(context, count) for _ in range(draws))
    return torch.stack([law_of(each.designs, each.log_weight) for each in parts]).mean(0)


def noise(p_star: Tensor, draws: int) -> float:
    """Return the expected distance to p* of the frequencies of as many draws of p* (normal approximation)."""
    return (2 * p_star * (1 - p_star) / (math.pi * draws)).sqrt().sum().item() / 2


def measure(exact: Exact, tuned: Policy, designs: int) -> dict[str, Any]:
    """Return [count or children, distance] of the samplers, by proposal."""
    base, found = exact.base, {}
    values = {"": PosteriorMean(), ", exact value": SoftValue(soft_values(base, exact.reward, ALPHA))}
    for name, proposal in (("base", base), ("tuned", tuned)):
        roles = Roles(policy=base, base=base, proposal=proposal)
        rows: dict[str, list[tuple[int, float]]] = defaultdict(list)

        def add(key: str, size: int, drawn: Tensor, rows: dict[str, list[tuple[int, float]]] = rows) -> None:
            rows[key].append((size, round(total_variation(drawn, exact.p_star), 4)))

        for kind, value in values.items():
            scorer = TableScorer(base.process, exact.reward)
            context = Context(roles, Target(scorer, ALPHA), torch.Generator().manual_seed(0), value=value)
            smc = SMC(temper=not kind)
            for count in (4, 16, 64, 256, 1024):
                draws = max(designs // count, 50)
                add("smc" + kind, count, drawn_law(smc, context, count, draws))
                if not kind:
                    add("importance", count, drawn_law(Importance(), context, count, draws))
            for children in (1, 2, 4, 8, 16, 32, 64):
                drawn = SVDD(children).draw(context, designs)
                add("svdd" + kind, children, law_of(drawn.designs, torch.zeros(designs)))
                if not kind:
                    add("svdd, weighted", children, law_of(drawn.designs, drawn.log_weight))
        found[name] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=20_000, help="designs drawn for each distance")
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--updates", type=int, default=1500)
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    joint, reward = problem()
    cases = []
    for name, process in PROCESSES.items():
        letters = StateTable.of_joint(joint, LETTERS, LENGTH).logits.detach()
        base = Policy(process, TimedTable(process, letters.repeat(process.steps, 1, 1, 1)))
        exact = Exact(base, reward)
        tuned, objectives = best_of_family(exact, arguments.starts, arguments.updates)
        closest = Policy(process, TimedTable(process, tuned.net.logits.detach().clone()))  # type: ignore[operator]
        least = descend(closest, exact.distance, arguments.updates, 0.02)
        p_base, p_star = law(base), exact.p_star
        p_tuned = law(tuned)
        floor = {
            "tv": total_variation(p_tuned, p_star), "kl": kl(p_tuned, p_star), "least_tv": least,
            "J": max(objectives), "J_starts": objectives, "J_optimum": ALPHA * exact.log_z,
            "reward": expected_reward(p_tuned, reward),
        }  # fmt: skip
        cases.append(
            {
                "process": name, "alpha": ALPHA, "tv_base": total_variation(p_base, p_star),
                "reward_base": expected_reward(p_base, reward), "reward_p_star": expected_reward(p_star, reward),
                "floor": floor, "noise": noise(p_star, arguments.designs), "designs": arguments.designs,
                "tv": measure(exact, tuned, arguments.designs),
            }
        )  # fmt: skip
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
