from __future__ import annotations

import math

import pytest
import torch

from biotilt.errors import CheckpointError, ConfigError
from biotilt.rewards.protein.secondary import (
    CLASSES,
    SecondaryConfig,
    SecondaryNet,
    SecondaryPredictor,
    SecondaryStructure,
    encode_letters,
)
from biotilt.spaces import PROTEIN, Padded

DESIGNS = ["MKTAYIAKQRQISFVK", "GV", "WWVTVEA"]


@pytest.fixture
def predictor():
    torch.manual_seed(3)
    nets = [SecondaryNet(SecondaryConfig(channels=5, kernel=3, dilations=(1, 2))) for _ in range(2)]
    for net in nets:
        for norm in net.norms:  # a fresh one has no bias, and so takes an empty place for one
            torch.nn.init.normal_(norm.get_parameter("bias"))
    return SecondaryPredictor(nets, "random", "unsaved")


@pytest.fixture
def path(predictor, tmp_path):
    predictor.save(tmp_path / "random.safetensors")
    return str(tmp_path / "random.safetensors")


def test_the_network_by_its_definition():
    torch.manual_seed(1)
    net = SecondaryNet(SecondaryConfig(channels=3, kernel=3, dilations=(2,))).eval()
    text = "MKTAYW"
    tokens = PROTEIN.encode(text).tolist()

    def conv(layer, rows, dilation):
        """Σ over the kernel of weight times row, rows outside being zero."""
        out = []
        for i in range(len(rows)):
            total = layer.bias.clone()
            for tap in range(3):
                j = i + (tap - 1) * dilation
                if 0 <= j < len(rows):
                    total = total + layer.weight[:, :, tap] @ rows[j]
            out.append(total)
        return out

    h = [torch.nn.functional.gelu(row) for row in conv(net.embed, list(torch.eye(20)[tokens]), 1)]
    read = [net.norms[0](row) for row in h]
    h = [a + torch.nn.functional.gelu(b) for a, b in zip(h, conv(net.convs[0], read, 2))]
    expected = torch.stack([net.head(row) for row in h])
    assert torch.allclose(net(encode_letters([text]))[0], expected, atol=1e-5)


def test_empty_places_behind_a_design_change_nothing(predictor):
    together = predictor.of_designs(DESIGNS)
    for design, found in zip(DESIGNS, together):
        assert found.shape == (len(design), 3)
        assert torch.allclose(found, predictor.probabilities(encode_letters([design]))[0], atol=1e-6)
        assert torch.allclose(found.sum(-1), torch.ones(len(design)), atol=1e-5)


def test_the_reward_is_the_mean_probability_of_one_class(predictor, path):
    for column, which in enumerate(CLASSES):
        expected = [sum(row[column].item() for row in p) / len(p) for p in predictor.of_designs(DESIGNS)]
        # the file holds 16-bit weights
        assert SecondaryStructure(which, path)(DESIGNS) == pytest.approx(expected, abs=2e-3)


def test_predicted_text_is_the_most_likely_class(predictor):
    probabilities = predictor.of_designs(DESIGNS)
    expected = ["".join(max(zip(row.tolist(), CLASSES))[1] for row in p) for p in probabilities]
    assert predictor.predict(DESIGNS) == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_hots_score_as_their_texts(path, side):
    reward = SecondaryStructure("E", path)
    tokens = Padded(PROTEIN, 20, side).encode(DESIGNS)
    one_hot = torch.nn.functional.one_hot(tokens.long(), 21).float()
    assert reward.score_one_hot(one_hot).tolist() == pytest.approx(reward(DESIGNS), abs=1e-5)


def test_pads_inside_a_design_are_dropped(path):
    reward, space = SecondaryStructure("E", path), Padded(PROTEIN, 9)
    tokens = space.encode(["MKTAYIW"])[:, [0, 1, 7, 2, 3, 8, 4, 5, 6]]
    assert space.decode(tokens) == ["MKTAYIW"]
    one_hot = torch.nn.functional.one_hot(tokens.long(), 21).float()
    assert reward.score_one_hot(one_hot).tolist() == pytest.approx(reward(["MKTAYIW"]), abs=1e-5)


def test_relaxed_designs_weigh_places_by_their_letters(predictor, path):
    x = torch.rand(3, 6, 21, generator=torch.Generator().manual_seed(0)).pow(3)
    x = x / x.sum(-1, keepdim=True)
    x[..., -1] = x[..., -1] / 2  # no place is most likely empty, so none moves
    x.requires_grad_(True)
    scores = SecondaryStructure("H", path).score_one_hot(x)
    letters = x[..., :20]
    weights = [[sum(place.tolist()) for place in design] for design in letters]
    column = predictor.probabilities(letters)[..., 0].tolist()
    expected = [sum(w * p for w, p in zip(ws, ps)) / sum(ws) for ws, ps in zip(weights, column)]
    assert scores.tolist() == pytest.approx(expected, abs=2e-3)
    scores.sum().backward()
    assert x.grad is not None and bool((x.grad[..., :20].abs().sum(-1) > 0).all())


def test_designs_without_pads_may_leave_the_pad_out(path):
    reward = SecondaryStructure("C", path)
    assert reward.score_one_hot(encode_letters(["MKTA"])).tolist() == pytest.approx(reward(["MKTA"]), abs=1e-6)


def test_an_empty_design_is_not_scored(path):
    scores = SecondaryStructure("E", path)(["", "MK"])
    assert math.isnan(scores[0]) and scores[0].reason == "the design is empty"
    assert 0 < scores[1] < 1


def test_versions_follow_class_and_file(path, tmp_path):
    other = tmp_path / "other.safetensors"
    torch.manual_seed(9)
    SecondaryPredictor([SecondaryNet(SecondaryConfig(channels=4, kernel=3))], "other", "").save(other)
    versions = {SecondaryStructure("E", path).version, SecondaryStructure("H", path).version,
                SecondaryStructure("E", str(other)).version, SecondaryStructure("E").version}  # fmt: skip
    assert len(versions) == 4


def test_what_is_no_predictor_is_refused(tmp_path):
    from biotilt.tensors import save_tensors

    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {"kind": "generator"})
    with pytest.raises(CheckpointError, match='holds a "generator"'):
        SecondaryStructure("E", str(tmp_path / "x.safetensors"))
    with pytest.raises(ConfigError, match="unknown choice"):
        SecondaryStructure("B")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="kernel must be odd, got"):
        SecondaryConfig(kernel=4)


def test_the_shipped_predictors_know_textbook_peptides():
    # poly-(leucine, glutamate, alanine, lysine) forms helices, alternating threonine and valine strands
    helix, strand = "AELAAKLEEALKKLAEELAK", "TVTVEVTVNGKTYTVTVEVT"
    for name in ("optimised", "held_out"):
        for which, right, wrong in (("H", helix, strand), ("E", strand, helix)):
            high, low = SecondaryStructure(which, name)([right, wrong])
            assert high > 0.6 > 0.2 > low
