"""Designs of several lengths, by networks that know no pad: how likely one is follows from the state."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-12  # a chance of nothing, as a number with a logarithm


def shown_length(x: Tensor, pad: int) -> Tensor:
    """Return how many positions of states, tokens `(B, L)` or their shares, come before the first pad, `(B,)`.

    >>> shown_length(torch.tensor([[0, 1, 4, 4], [3, 5, 5, 5]]), pad=4)
    tensor([2, 4])
    """
    return (_is(x, pad).cumsum(1) == 0).sum(1)


def chance_of_pads(x: Tensor, pad: int, shortest: int) -> Tensor:
    """Return the chance `(B, L)` that a hidden position of states is a pad, all lengths from `shortest` to L alike.

    Pads come after all letters (tokens below `pad`), so a design is at least as long as where its last known letter
    is, and ends before its first known pad.

    >>> chance_of_pads(torch.tensor([[5, 5, 5, 5], [5, 5, 1, 5]]), pad=4, shortest=2)
    tensor([[0.0000, 0.0000, 0.3333, 0.6667],
            [0.0000, 0.0000, 0.0000, 0.5000]])
    """
    place = torch.arange(1, x.shape[1] + 1, device=x.device)
    most = shown_length(x, pad).unsqueeze(1)
    letters = x[..., :pad].sum(-1) > 0.5 if x.is_floating_point() else x < pad
    least = torch.where(letters, place, 0).amax(1, keepdim=True).clamp(min=shortest).minimum(most)
    return ((place - least) / (most - least + 1)).clamp(0, 1)  # of these lengths, the share that ends before the place


def with_pads(letters: Tensor, more: Tensor, x: Tensor, shortest: int) -> Tensor:
    """Return log-chances `(B, L, V+1)`, the pad's last, from logits of letters `(B, L, V)` at states.

    `more` `(B, L)` is added to the logit of a pad: nothing at first, and later what is learned of lengths.
    """
    chance = chance_of_pads(x, letters.shape[-1], shortest)
    some = (1 - chance).clamp(min=LEAST).log().unsqueeze(-1)
    pad = (chance.clamp(min=LEAST).log() + more).unsqueeze(-1)
    return torch.cat([letters.log_softmax(-1) + some, pad], -1)


def _is(x: Tensor, token: int) -> Tensor:
    return x[..., token] > 0.5 if x.is_floating_point() else x == token
