"""Learned rewards: both strands, motif filters, and files of before they were known."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from biotilt.errors import ConfigError
from biotilt.rewards.dna.motifs import reverse_complement
from biotilt.rewards.generic.learned import LearnedReward, Regressor, RegressorConfig
from biotilt.spaces import DNA
from biotilt.tensors import load_tensors, save_tensors

SMALL: dict[str, Any] = {"letters": 4, "length": 12, "channels": 6, "layers": 2, "kernel": 3, "hidden": 5}
DESIGNS = ["ACGGTTTACAGA", "TTTTACGCCCAA", "GAGAGACTTACG"]


def reward(**options) -> LearnedReward:
    torch.manual_seed(3)
    return LearnedReward([Regressor(RegressorConfig(**(SMALL | options)))], DNA, "x", "1")


@pytest.mark.parametrize("options", [{}, {"motifs": 7, "motif_width": 5, "pool": 4}])
def test_both_strands_are_the_mean_of_two_predictions(options):
    one, both = reward(**options), reward(both_strands=True, **options)
    others = [reverse_complement(design) for design in DESIGNS]
    given, other = one(DESIGNS), one(others)
    assert all(abs(a - b) > 1e-4 for a, b in zip(given, other))
    assert both(DESIGNS) == pytest.approx([(a + b) / 2 for a, b in zip(given, other)], abs=1e-6)
    assert both(others) == pytest.approx(both(DESIGNS), abs=1e-6)


def test_gradients_reach_both_strands():
    x = F.one_hot(DNA.encode_many(DESIGNS).long(), 4).double().requires_grad_()
    both = reward(both_strands=True, motifs=7, motif_width=5, pool=3)
    both.members[0].double()
    assert torch.autograd.gradcheck(both.score_one_hot, (x,))
    gradient = torch.autograd.grad(both.score_one_hot(x).sum(), x)[0]
    turned = x.detach().flip(1, 2).requires_grad_()
    assert torch.allclose(torch.autograd.grad(both.score_one_hot(turned).sum(), turned)[0].flip(1, 2), gradient)


def test_motif_scores_are_added_up_over_the_pool():
    """One filter that finds "AC", no other layer: the sum over each window of 5, over √5, counts its words."""
    model = Regressor(RegressorConfig(4, 11, layers=0, motifs=1, motif_width=3, pool=5, hidden=2, dropout=0.0))
    assert model.motifs is not None and model.motifs.bias is not None
    with torch.no_grad():
        model.motifs.weight.zero_()
        model.motifs.weight[0, 0, 1] = model.motifs.weight[0, 1, 2] = 1.0
        model.motifs.bias.fill_(-1.0)
        model.dense.weight.copy_(torch.eye(2))
        model.dense.bias.zero_()
        model.out.weight.copy_(torch.tensor([[10.0, 1.0]]))
        model.out.bias.zero_()
    counts = LearnedReward([model], DNA, "words", "1")(["ACACTACTGGA", "TACTTTTTTAC", "ACTTTTTTTTT"])
    # places 1–5 and 6–10 count; the 11th is left over, but the word that begins at place 10 is seen
    assert [count * 5**0.5 for count in counts] == pytest.approx([10 * 2 + 1, 10 * 1 + 1, 10.0], abs=1e-5)


def test_the_options_are_kept_in_the_file(tmp_path):
    saved = reward(both_strands=True, motifs=7, motif_width=5, pool=4)
    saved.save(tmp_path / "oracle.safetensors")
    loaded = LearnedReward.load(tmp_path / "oracle.safetensors")
    assert loaded.members[0].config == saved.members[0].config
    assert loaded(DESIGNS) == pytest.approx(saved(DESIGNS), abs=1e-2)
    assert len(set(loaded(DESIGNS))) == 3


def test_files_of_before_these_options_are_read_as_they_were(tmp_path):
    saved = reward()
    saved.save(tmp_path / "new.safetensors")
    tensors, about = load_tensors(tmp_path / "new.safetensors")
    for config in about["config"]:
        for key in ("motifs", "motif_width", "pool", "both_strands"):
            del config[key]
    save_tensors(tmp_path / "old.safetensors", tensors, json.loads(json.dumps(about)))
    assert LearnedReward.load(tmp_path / "old.safetensors")(DESIGNS) == pytest.approx(saved(DESIGNS), abs=1e-2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"both_strands": True, "letters": 5}, "four letters"),
        ({"pool": 3}, "1 without motifs, got 3"),
        ({"motifs": 4, "pool": 13}, r"in \[1, 12\]"),
        ({"motifs": 4, "motif_width": 6}, "motif_width: must be odd"),
        ({"layers": 0}, "needs motifs or layers"),
    ],
)
def test_shapes_that_cannot_work_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        RegressorConfig(**(asdict(RegressorConfig(**SMALL)) | options))


def test_a_period_tells_frames_apart_counted_from_the_end():
    """One filter that finds "A", dense weights that read mean and maximum of one frame each."""
    config = RegressorConfig(4, 7, channels=1, layers=1, kernel=1, hidden=1, dropout=0.0, period=3)
    model = Regressor(config)
    frames = {0: [6, 3, 0], 1: [5, 2], 2: [4, 1]}  # places that stand so far from the end, modulo 3
    designs = ["ACCACCA", "CCACCCC", "CACCACC", "AACAACC", "CCCCCCC"]
    for frame, places in frames.items():
        for first, summary in ((0, lambda found: sum(found) / len(found)), (3, max)):
            with torch.no_grad():
                model.convs[0].weight.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 4, 1))
                model.convs[0].bias.zero_()
                model.dense.weight.zero_()
                model.dense.weight[0, first + frame] = 1.0
                model.dense.bias.zero_()
                model.out.weight.fill_(1.0)
                model.out.bias.zero_()
            wanted = [summary([float(design[place] == "A") for place in places]) for design in designs]
            assert LearnedReward([model], DNA, "frames", "1")(designs) == pytest.approx(wanted, abs=1e-6)


def test_with_a_period_layers_see_neighbours_that_are_a_period_apart():
    """The second of two layers of three places sees the first at −3, 0 and 3: from place 7 that is 3–5, 6–8, 9–11."""
    torch.manual_seed(0)
    model = Regressor(RegressorConfig(4, 15, channels=16, layers=2, kernel=3, hidden=3, period=3)).eval()
    x = torch.rand(1, 4, 15, requires_grad=True)
    first, second = model.convs
    second(first(x))[0, :, 7].sum().backward()
    assert x.grad is not None
    assert x.grad[0].abs().sum(0).nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert [conv.dilation for conv in model.convs] == [(1,), (3,)]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"period": 13}, r"period must be in \[0, 12\]"), ({"period": 3, "dilated": True}, "leave out one of period")],
)
def test_a_period_that_does_not_fit_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        RegressorConfig(**(SMALL | options))


def test_a_position_free_predictor_reads_a_moved_design_alike():
    free = reward(period=1, motifs=7, motif_width=3, layers=0)
    assert free(["TTTTACGATTTT"]) == pytest.approx(free(["TTACGATTTTTT"]), abs=1e-6)
    assert reward(motifs=7, motif_width=3, layers=0)(["TTTTACGATTTT"]) != pytest.approx(
        reward(motifs=7, motif_width=3, layers=0)(["TTACGATTTTTT"]), abs=1e-4
    )


def test_members_go_where_the_probabilities_are():
    learned = reward()
    assert learned.score_one_hot(torch.zeros(3, 12, 4, device="meta")).device.type == "meta"
    assert {weights.device.type for weights in learned.members[0].state_dict().values()} == {"meta"}
    assert reward().to("cpu")(DESIGNS) == reward()(DESIGNS)
