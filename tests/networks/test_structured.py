from __future__ import annotations

import pytest
import torch

from biotilt.networks.structured import FEATURES, Structured, StructuredConfig, Structures

LEFT = "((..((...))))..(...)."  # 14 tokens, as the next one has, of fewer positions
RIGHT = "((......)..)..(...)"


def tokens_of(structure: str) -> int:
    return len(structure) - structure.count("(")


def small_net(target: str, seed: int = 0, **options) -> Structured:
    torch.manual_seed(seed)
    return Structured(StructuredConfig(target=target, channels=8, kernel=3, **options)).eval()


def states(structure: str, batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(7, (batch, tokens_of(structure)), generator=torch.Generator().manual_seed(seed))


def test_structures_by_hand():
    #                        0123456789
    part = Structures.of(["(.(...)..)"])
    assert part.token.tolist() == [[0, 1, 2, 3, 4, 5, 2, 6, 7, 0]]
    assert part.partner.tolist() == [[9, 1, 6, 3, 4, 5, 2, 7, 8, 0]]
    assert part.first.tolist() == [[0, 1, 2, 3, 4, 5, 7, 8]]
    assert part.second.tolist() == [[9, 1, 6, 3, 4, 5, 7, 8]]
    features = part.features[0]
    kinds = ["unpaired", "opens", "closes", "hairpin", "internal", "multi", "outside"]
    found = [[kind for kind, value in zip(kinds, row[:7].tolist()) if value] for row in features]
    assert found == [
        ["opens"],
        ["unpaired", "internal"],
        ["opens"],
        *[["unpaired", "hairpin"]] * 3,
        ["closes"],
        *[["unpaired", "internal"]] * 2,
        ["closes"],
    ]
    # size of the loop, places from both ends of its run, lopsided: the internal loop has 1 + 2 positions
    assert features[1, 7:].tolist() == pytest.approx([3 / 12, 0, 0, 1])
    assert features[8, 7:].tolist() == pytest.approx([3 / 12, 1 / 12, 0, 1])
    assert features[4, 7:].tolist() == pytest.approx([3 / 12, 1 / 12, 1 / 12, 0])
    assert features[0, 7:].tolist() == features[9, 7:].tolist() == pytest.approx([1 / 12, 0, 0, 0])
    assert features.shape[1] == FEATURES


def test_multiloops_and_the_outside_are_told_apart():
    features = Structures.of([".(.(...).(...))..", "...((....))....."]).features
    outside, multi = 6, 5
    assert features[0, :, multi].nonzero().flatten().tolist() == [2, 8]
    assert features[0, :, outside].nonzero().flatten().tolist() == [0, 15, 16]
    assert features[1, :, outside].nonzero().flatten().tolist() == [0, 1, 2, 11, 12, 13, 14, 15]


def test_stems_are_measured_from_their_ends():
    features = Structures.of(["(((...)))"]).features[0]
    assert features[1, 7:10].tolist() == pytest.approx([3 / 12, 1 / 12, 1 / 12])
    assert features[6, 7:10].tolist() == features[2, 7:10].tolist() == pytest.approx([3 / 12, 2 / 12, 0])


def test_a_batch_of_structures_is_read_as_each_alone():
    assert tokens_of(LEFT) == tokens_of(RIGHT)
    net = small_net(LEFT)
    for norm in net.norms:  # as training moves them: what is filled up must stay 0
        torch.nn.init.normal_(norm.bias)  # type: ignore[arg-type]
    x = states(LEFT, 2)
    together = net.read(x, Structures.of([LEFT, RIGHT]))
    for row, target in enumerate((LEFT, RIGHT)):
        alone = net.for_target(target)(x[row : row + 1], torch.zeros(1))
        torch.testing.assert_close(together[row : row + 1], alone)
    assert not torch.allclose(together[0], net.read(x, Structures.of([RIGHT, RIGHT]))[0])


def test_what_is_beside_one_end_of_a_pair_is_seen_at_the_other():
    # one block of kernel 3: the last position is next to the closing end of pair 0, far from its opening end
    net = small_net("((.............)).", blocks=1)
    length = tokens_of("((.............)).")
    x = torch.zeros(1, length, dtype=torch.long)
    other = x.clone()
    other[0, -1] = 3
    change = (net(other, torch.zeros(1)) - net(x, torch.zeros(1))).abs().amax(-1)[0]
    assert change[0] > 1e-6
    assert change[1] < 1e-6  # the inner pair is two positions from it
    assert change[5] < 1e-6


def test_neighbours_of_a_pair_see_those_of_its_other_end():
    # two blocks: from the last position to the closing end beside it, and across the pair to the first position
    net = small_net(".((.............)).", blocks=2)
    x = torch.zeros(1, tokens_of(".((.............))."), dtype=torch.long)
    other = x.clone()
    other[0, -1] = 3
    change = (net(other, torch.zeros(1)) - net(x, torch.zeros(1))).abs().amax(-1)[0]
    assert change[0] > 1e-6
    assert change[9] < 1e-6  # the middle of the hairpin is far from both ends


def test_relaxed_states_are_read_too():
    net = small_net(LEFT)
    x = states(LEFT, 3)
    relaxed = torch.nn.functional.one_hot(x, 7).float().requires_grad_()
    logits = net(relaxed, torch.zeros(3))
    torch.testing.assert_close(logits, net(x, torch.zeros(3)))
    logits.sum().backward()
    assert relaxed.grad is not None
    assert relaxed.grad.abs().sum(-1).min() > 0


def test_another_target_has_the_same_weights_of_its_own():
    net = small_net(LEFT)
    other = net.for_target("(((....)))")
    assert other(states("(((....)))", 4), torch.zeros(4)).shape == (4, 7, 6)
    assert other.config.target == "(((....)))"
    assert net.config.target == LEFT
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert before.keys() == other.state_dict().keys()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())


def test_a_learned_value_starts_at_zero():
    fresh = small_net(LEFT).blank()
    assert fresh(states(LEFT, 2), torch.zeros(2)).abs().max() == 0


def test_no_checkpoint_holds_the_structure():
    assert all(
        name.split(".")[0] in ("embed", "norms", "convs", "mixes", "head") for name in small_net(LEFT).state_dict()
    )
