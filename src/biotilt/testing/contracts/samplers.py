"""What every sampler must keep to: the form of its draws, and the averages that theory promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from biotilt.core import Context, Draws, Policy, Sampler
from biotilt.testing.exact import law, space, tilted_law

STANDARD_ERRORS = 4.0
# what rounding in float32 may do to a mean whose exact standard error is 0
ROUNDING = 1e-4


@dataclass(frozen=True)
class Answer:
    """What is known of p*: log Z of Z = E_pre[exp(r/α)], and E_{p*}[f] `(F,)` of `f`: designs `(N, ...)` → `(N, F)`."""

    log_z: float
    f: Callable[[Tensor], Tensor]
    expected: Tensor


def enumerated_answer(base: Policy, reward: Tensor, alpha: float) -> Answer:
    """Return the answer for a base whose designs can be listed, with three f: the reward and two tables of noise.

    `reward` `(D,)` of the designs in the order of `law`; a NaN or −inf there is a design that p* does not have.
    """
    designs = space(base.process)
    usable = reward.double().masked_fill(reward.isnan(), -torch.inf)
    p_star, log_z = tilted_law(law(base), usable, alpha)
    noise = torch.randn(len(usable), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = torch.cat([usable.masked_fill(usable == -torch.inf, 0).unsqueeze(-1), noise], 1)
    listed = designs.states[designs.designs].reshape(len(usable), -1).long()
    places = (listed.max() + 1) ** torch.arange(listed.shape[1])
    order = (listed @ places).argsort()
    keys = (listed @ places)[order]

    def f(drawn: Tensor) -> Tensor:
        wanted = drawn.reshape(len(drawn), -1).long() @ places
        found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        assert torch.equal(keys[found], wanted), "something that came is no complete design"
        return table[order[found]]

    return Answer(log_z, f, p_star @ table)


def check_sampler(
    sampler: Sampler, context: Context, answer: Answer, *, count: int = 32, repeats: int = 200, weighted: bool = True
) -> None:
    """Check the draws of a sampler: their form, that they are reproducible, and that they average to the answer.

    `repeats` independent draws of `count` designs are made, on the context's generator. On average exp(log_z) must be
    Z, and exp(log_z) Σ w (f − E_{p*}[f]) must be 0, which holds at any `count` for weights that are proper; both
    within 4 standard errors. A sampler without log Z has Σ w f itself compared with E_{p*}[f], which is right only as
    `count` (or its own rounds) grows: give it enough. Choose a mild tilt: where few draws carry all the weight, the
    standard error is itself too small.

    Args:
        sampler: to be checked.
        context: with `roles`, whose base the answer is of, a scorer, and the value the sampler asks for.
        answer: `enumerated_answer(...)`, or one known in closed form.
        count: designs a draw, ≥ 2.
        repeats: draws, ≥ 50 so that a standard error means something.
        weighted: False for a sampler whose weighted designs are not meant to average as p* does, such as best-of-N.

    Raises:
        AssertionError: which says what was promised and what came.
    """
    name = sampler.name
    before = [p.clone() for p in _weights(context)]
    state = context.generator.get_state()
    first = sampler.draw(context, count)
    _check_form(name, first, count)
    assert all(torch.equal(a, b) for a, b in zip(before, _weights(context))), f"{name}: weights have changed"
    after = context.generator.get_state()
    context.generator.set_state(state)
    again = sampler.draw(context, count)
    same = torch.equal(first.designs, again.designs) and torch.equal(first.log_weight, again.log_weight)
    assert same, f"{name}: the same generator gives other draws: something random does not come from it"
    context.generator.set_state(after)
    draws = [first, *(sampler.draw(context, count) for _ in range(repeats - 1))]

    error = torch.stack([draw.log_weight.double().softmax(0) @ answer.f(draw.designs).double() for draw in draws])
    error = error - answer.expected.double()
    log_z = [draw.log_z for draw in draws if draw.log_z is not None]
    assert len(log_z) in (0, repeats), f"{name}: some draws have log Z and others have none"
    if log_z:
        z = (torch.tensor(log_z, dtype=torch.float64) - answer.log_z).exp().unsqueeze(-1)
        _check_mean(f"{name}: exp(log_z)/Z", z, 1.0)
        error = z * error
    if weighted:
        _check_mean(f"{name}: the weighted mean of f less E_p*[f]", error, 0.0)


def _check_form(name: str, draws: Draws, count: int) -> None:
    for what, tensor in (("rewards", draws.rewards), ("log_weight", draws.log_weight)):
        assert tensor.shape == (count,), f"{name}: {what} has shape {tuple(tensor.shape)} for {count} designs"
    assert len(draws.designs) == count, f"{name}: {len(draws.designs)} designs came, {count} were asked for"
    weight = draws.log_weight
    assert not (weight.isnan() | (weight == torch.inf)).any(), f"{name}: a log-weight is NaN or infinite"
    scored = ~draws.rewards.isnan()
    void = (~scored & scored.any()) | (draws.rewards == -torch.inf)
    assert not weight[void].isfinite().any(), f"{name}: a design that is not scored, or infeasible, has a weight"
    assert not any(t.requires_grad for t in (draws.designs, weight)), f"{name}: draws carry a gradient"


def _check_mean(what: str, values: Tensor, target: float) -> None:
    mean, error = values.mean(0), values.std(0) / len(values) ** 0.5
    off = (mean - target).abs() > STANDARD_ERRORS * error + ROUNDING
    assert not off.any(), (
        f"{what} should be {target} on average, and is {[round(m, 4) for m in mean[off].tolist()]} over {len(values)} "
        f"draws, standard error {[round(e, 4) for e in error[off].tolist()]}"
    )


def _weights(context: Context) -> list[Tensor]:
    roles = context.roles
    return [p for policy in (roles.policy, roles.base, roles.proposal) for p in policy.net.state_dict().values()]
