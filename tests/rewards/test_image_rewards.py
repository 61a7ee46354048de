"""Rewards of images: numbers by hand, gradients by differences, and files."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from biotilt.errors import CheckpointError, ConfigError, DataError
from biotilt.rewards import build
from biotilt.rewards.image.classifier import ImageClass, ImageClassifier, fit_classifier
from biotilt.rewards.image.properties import Brightness, Contrast, FileSize, NearColour

RED_AND_BLUE = np.array([[[1.0, 0, 0], [0, 0, 1.0]]], np.float32)
GREYS = np.array([[[0.2], [0.4]], [[0.0], [1.0]]], np.float32)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images whose left or right half is the lighter one."""
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 0.4, (200, 6, 6, 1))
    side = draw.integers(0, 2, 200)
    for image, right in zip(images, side):
        image[:, 3 * right : 3 * right + 3] += 0.4
    path = tmp_path_factory.mktemp("classifier") / "c.safetensors"
    fit_classifier(list(images), ["right" if right else "left" for right in side], channels=4, steps=150).save(path)
    return path


def half(right: bool) -> np.ndarray:
    image = np.full((6, 6, 1), 0.1, np.float32)
    image[:, 3 * right : 3 * right + 3] = 0.7
    return image


def test_light_contrast_and_colour_by_hand() -> None:
    assert Brightness()([GREYS])[0] == pytest.approx(0.4)
    assert Brightness()([RED_AND_BLUE])[0] == pytest.approx((0.2126 + 0.0722) / 2)
    assert Brightness(target=0.1)([GREYS])[0] == pytest.approx(-0.3)
    assert Contrast()([GREYS])[0] == pytest.approx(math.sqrt((0.04 + 0 + 0.16 + 0.36) / 4))
    assert NearColour((1.0, 0.0, 0.0))([RED_AND_BLUE])[0] == pytest.approx(-1.0)
    assert NearColour((0.0, 0.0, 0.5))([RED_AND_BLUE])[0] == pytest.approx(-math.sqrt((1.25 + 0.25) / 2))
    with pytest.raises(ConfigError, match="colour has 3 channels, images 1"):
        NearColour((1.0, 0.0, 0.0))([GREYS])


@pytest.mark.parametrize("reward", [Brightness(), Brightness(0.9), Contrast(), NearColour((0.3, 0.9, 0.2))])
def test_gradients_by_differences(reward: Any) -> None:
    x = torch.rand(2, 3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    assert torch.autograd.gradcheck(reward.score_one_hot, x.requires_grad_())
    outside = (x.detach() + 3).requires_grad_()
    (gradient,) = torch.autograd.grad(reward.score_one_hot(outside).sum(), outside)
    assert not bool(gradient.any())


def test_a_plain_image_has_a_gradient_that_is_finite() -> None:
    x = torch.full((1, 2, 2, 1), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(Contrast().score_one_hot(x).sum(), x)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("format", ["png", "jpeg"])
def test_the_size_of_a_file_is_that_of_the_file(format: Any) -> None:
    draw = np.random.default_rng(0)
    noisy, plain = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8), np.full((16, 16, 3), 128, np.uint8)
    found = FileSize(format, quality=60, scale=2)([noisy / np.float32(255), plain / np.float32(255)])
    for image, size in zip((noisy, plain), found):
        data, large = io.BytesIO(), np.kron(image, np.ones((2, 2, 1), np.uint8))
        options = {"optimize": True} if format == "png" else {"quality": 60}
        Image.fromarray(large).save(data, format.upper(), **options)
        assert size == len(data.getvalue())
    assert found[0] > 1.5 * found[1]
    assert FileSize(format)([np.zeros((4, 4, 1), np.float32)])[0] > 0
    assert FileSize(format)([np.ones((4, 4, 4), np.float32)])[0] > 0


def test_a_classifier_knows_its_classes(classifier: Path) -> None:
    right = ImageClass(str(classifier), "right")
    scores = right([half(True), half(False)])
    assert math.exp(scores[0]) > 0.9 and math.exp(scores[1]) < 0.1
    left = ImageClass(str(classifier), "left")([half(True)])[0]
    assert math.exp(left) + math.exp(scores[0]) == pytest.approx(1, abs=1e-5)
    x = torch.full((1, 6, 6, 1), 0.4, requires_grad=True)
    (gradient,) = torch.autograd.grad(right.score_one_hot(x).sum(), x)
    assert gradient[0, :, 3:].mean() > 0 > gradient[0, :, :3].mean()
    assert right.label == "log p of right"
    assert right.version != ImageClass(str(classifier), "left").version
    assert build("image_class", {"path": str(classifier), "category": "left"}) == ImageClass(str(classifier), "left")


def test_what_is_wrong_with_a_classifier_is_named(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no class "rigt"; did you mean "right"'):
        ImageClass(str(classifier), "rigt")
    with pytest.raises(CheckpointError):
        ImageClass(str(tmp_path / "none.safetensors"), "right")
    with pytest.raises(ConfigError, match="reads 1 colours, images have 3"):
        ImageClass(str(classifier), "right")([RED_AND_BLUE])
    with pytest.raises(DataError, match="2 images and 2 labels of 1 classes"):
        fit_classifier([GREYS, GREYS], ["a", "a"])
    assert ImageClassifier.load(classifier).labels == ["left", "right"]
