"""What every objective must keep to, whoever wrote it."""

from __future__ import annotations

from torch import Tensor, nn

from biotilt.core import Context, Objective, draw_loss, trainable


def check_gradients(objective: Objective, context: Context) -> None:
    """Check that a loss sends gradient to the policy's network, to a learned value's own, and nowhere else.

    `context.memory` holds rows of `objective.collect`; the policy must not be at its optimum, nor a learned
    value at zero error, where the gradient is nil for an honest reason. Frozen weights (base, proposal, the
    target network of a value) are let take gradient for the while, so that a missing `no_grad` is seen even
    where it would only waste. All gradients are cleared and one loss is computed; the weights stay.

    Raises:
        AssertionError: a trained network gets no gradient, or one that is not finite; a frozen one gets any.
        ValueError: the memory is empty.
    """
    if len(context.memory) == 0:
        raise ValueError("the memory is empty: add the rows of objective.collect before checking gradients")
    trained = [("policy", context.roles.policy.net)]
    if isinstance(context.value, nn.Module):
        trained.append(("value", context.value))
    learning = {id(p) for module in trainable(context) for p in module.parameters() if p.requires_grad}
    others = [("base", context.roles.base.net), ("proposal", context.roles.proposal.net)]
    # layers that a user froze inside the policy are left alone: gradient passes through them by right
    frozen = {
        f"{name}.{key}": weight
        for name, module in [*trained[1:], *others]
        for key, weight in module.named_parameters()
        if id(weight) not in learning
    }
    flags = {key: weight.requires_grad for key, weight in frozen.items()}
    for module in (module for _, module in [*trained, *others]):
        module.zero_grad(set_to_none=True)
    try:
        for weight in frozen.values():
            weight.requires_grad_(True)
        loss, _ = draw_loss(objective, context)
        if loss.requires_grad:
            loss.backward()
        _check_trained(objective.name, trained, learning)
        leaks = [key for key, weight in frozen.items() if weight.grad is not None]
        assert not leaks, f"{objective.name}: frozen weights get gradient: {', '.join(leaks)}"
    finally:
        for key, weight in frozen.items():
            weight.requires_grad_(flags[key])
        for module in (module for _, module in [*trained, *others]):
            module.zero_grad(set_to_none=True)


def _check_trained(name: str, trained: list[tuple[str, nn.Module]], learning: set[int]) -> None:
    for role, module in trained:
        grads: list[Tensor] = [p.grad for p in module.parameters() if id(p) in learning and p.grad is not None]
        assert any(grad.count_nonzero() for grad in grads), f"{name}: no gradient reaches the {role}"
        assert all(grad.isfinite().all() for grad in grads), f"{name}: the gradient of the {role} is not finite"
