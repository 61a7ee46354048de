"""Designs drawn beside another policy: the KL is the exact one, and the rows that it costs."""

from __future__ import annotations

import pytest
import torch

from biotilt.core import Policy
from biotilt.evaluation.drawing import ASKED, draw_beside
from biotilt.networks.table import StateTable, Table
from biotilt.processes import AnyOrder, Finite, Masked
from biotilt.testing import RowCounter, law, path_kl_exact, total_variation
from biotilt.testing.exact import lexicographic_index


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def letters(process, seed: int) -> Policy:
    logits = 3 / seed * torch.randn(3**process.length, process.length, 2, generator=generator(seed))
    return Policy(process, StateTable(2, process.length, logits))


def finite(seed: int) -> Policy:
    return Policy(Finite(4, 3), Table(4, 3, 3 / seed * torch.randn(3, 4, 4, generator=generator(seed))))


PAIRS = {
    "one letter a step": (letters(AnyOrder(4, 2), 1), letters(AnyOrder(4, 2), 2)),
    "several": (letters(AnyOrder(5, 2, per_step=2), 1), letters(AnyOrder(5, 2, per_step=2), 2)),
    "masked": (letters(Masked(3, 2, num_steps=7), 5), letters(Masked(3, 2, num_steps=7), 2)),
    "a process that reveals nothing": (finite(1), finite(2)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
@pytest.mark.parametrize("samples", [20_000, 4_000])  # with the second each chain is asked about fewer steps
def test_the_kl_is_that_of_paths_whichever_steps_are_asked(pair, samples):
    for p, q in (pair, pair[::-1]):
        found = draw_beside(p, q, 20_000, generator(3), samples=samples, chunk=5_000)
        exact = path_kl_exact(p, q)
        assert found.kl is not None and found.kl.shape == (20_000,)
        # chains of one turn are alike in nothing but their steps: the spread over all is no smaller than that within
        assert found.mean_kl == pytest.approx(exact, abs=5 * found.kl.std().item() / 20_000**0.5)
    assert path_kl_exact(*pair) != pytest.approx(path_kl_exact(*pair[::-1]), rel=0.03)


def test_the_designs_are_of_the_policy():
    p, q = PAIRS["several"]
    designs = draw_beside(p, q, 20_000, generator(), samples=20_000).designs
    drawn = torch.bincount(lexicographic_index(designs, 2), minlength=2**5) / 20_000
    # 32 designs: the distance of as many exact draws is about 0.016, and that of the other policy far more
    assert total_variation(drawn, law(p)) < 0.03 < total_variation(law(p), law(q)) / 3


def test_what_is_asked_of_the_two_networks():
    p, q = letters(AnyOrder(8, 2), 1), letters(AnyOrder(8, 2), 2)
    for samples, every in ((64, 8 // ASKED), (32, 2 * 8 // ASKED), (16, 4 * 8 // ASKED)):
        with RowCounter(policy=p.net, other=q.net) as rows:
            draw_beside(p, q, 64, generator(), samples=samples)
        # of the noise, which is the same for all, one row
        assert rows["policy"].plain == 64 * 7 + 1
        turns = [len(range(turn, 64, every)) for turn in range(every)]
        assert rows["other"].plain == pytest.approx(64 * 7 / every + 1, abs=max(turns))
    with RowCounter(policy=p.net, other=q.net) as rows:
        draw_beside(p, q, 64, generator(), samples=1)  # more chains than can be asked: each about one step
    assert rows["other"].plain == 64 * 7 / 8 + 1


def test_noise_that_is_all_alike_is_shown_once_and_known_everywhere():
    policy = letters(AnyOrder(4, 2), 1)
    noise = policy.process.noise(5, generator())
    with torch.no_grad(), RowCounter(net=policy.net) as rows:
        once = policy.at(noise, 0).kernel
    assert rows["net"].plain == 1
    each = policy.outputs(*policy.process.inputs(noise, 0))  # a row of its own for every state
    torch.testing.assert_close(once.x0, policy.process.kernel_of(each, noise, 0).x0)
    noise[0, 0] = 1
    with torch.no_grad(), RowCounter(net=policy.net) as rows:
        apart = policy.at(noise, 0).kernel
    assert rows["net"].plain == 5
    each = policy.outputs(*policy.process.inputs(noise, 0))
    torch.testing.assert_close(apart.x0, policy.process.kernel_of(each, noise, 0).x0)
