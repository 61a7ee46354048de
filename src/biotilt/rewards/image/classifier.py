"""A small classifier of images: fitted to labels here, kept as one file, and differentiable as a reward."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from biotilt.errors import ConfigError, DataError, suggest
from biotilt.files import blamed_on
from biotilt.options import Count, PathText, Positive, Text, Whole, Width, build_options, check_option, check_options
from biotilt.schema import Name, StoredTensors
from biotilt.tensors import load_tensors, save_tensors, with_weights

GRID = 4  # the last convolution is averaged over so many parts of a side


@dataclass(frozen=True)
class ClassifierConfig:
    """Images in `colours`, told apart as `classes`; `channels` of the first convolution, twice as many after it."""

    colours: Annotated[Whole, Field(ge=1, le=4)]
    classes: Annotated[Whole, Field(ge=2, le=100_000)]
    channels: Width = 16

    def __post_init__(self) -> None:
        check_options(self, "classifier")


class ClassifierFile(StoredTensors):
    """The metadata of a classifier's file."""

    kind: ClassVar[str] = "image_classifier"
    called: ClassVar[str] = "a classifier of images, such as fit_classifier makes"

    config: dict[str, Any]
    labels: list[Name] = Field(min_length=2, max_length=100_000)


class ImageClassifier(nn.Module):
    """Pixels `(B, H, W, C)` in [0, 1], of any size, → log-probabilities `(B, classes)`."""

    def __init__(self, config: ClassifierConfig, labels: Sequence[str]):
        super().__init__()
        self.config, self.labels, width = config, list(labels), config.channels
        self.first = nn.Conv2d(config.colours, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.out = nn.Linear(2 * width * GRID**2, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.first(x.permute(0, 3, 1, 2) * 2 - 1))
        h = F.adaptive_avg_pool2d(F.silu(self.second(h)), GRID)
        return self.out(h.flatten(1)).log_softmax(-1)

    def save(self, path: Path) -> None:
        """Write the classifier as one safetensors file."""
        about = {"kind": ClassifierFile.kind, "config": asdict(self.config), "labels": self.labels}
        save_tensors(path, self.state_dict(), about)

    @classmethod
    def load(cls, path: Path) -> ImageClassifier:
        """Read what `save` wrote; CheckpointError when the file is missing, damaged or none."""
        tensors, about = load_tensors(path, ClassifierFile)
        with blamed_on(path):
            config = build_options(ClassifierConfig, about.config, "classifier")
            if len(about.labels) != config.classes:
                raise ConfigError(f"{len(about.labels)} labels of {config.classes} classes")
            return with_weights(path, lambda: cls(config, about.labels), tensors).eval()


def fit_classifier(
    images: Sequence[np.ndarray], labels: Sequence[Any], *, channels: int = 16, steps: int = 500, batch: int = 64,
    lr: float = 3e-3, seed: int = 0,
) -> ImageClassifier:  # fmt: skip
    """Return a classifier of images `(H, W, C)` in [0, 1], fitted to their labels, which may be anything with a name.

    Raises DataError where there are not as many labels as images, of two classes or more.

    >>> dark, light = np.zeros((4, 4, 1)), np.ones((4, 4, 1))
    >>> fitted = fit_classifier([dark, light] * 8, ["dark", "light"] * 8, channels=4, steps=40)
    >>> fitted(torch.zeros(1, 4, 4, 1)).exp().argmax(1).item()
    0
    """
    names = sorted({str(label) for label in labels})
    if len(images) != len(labels) or len(names) < 2:
        raise DataError(
            f"{len(images)} images and {len(labels)} labels of {len(names)} classes: two or more are needed"
        )
    for kind, key, value in ((Count, "steps", steps), (Count, "batch", batch), (Positive, "lr", lr)):
        check_option(kind, value, "fit_classifier", key)
    pixels = torch.from_numpy(np.stack([np.asarray(image, np.float32) for image in images]))
    classes = torch.tensor([names.index(str(label)) for label in labels])
    generator = Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ImageClassifier(ClassifierConfig(pixels.shape[-1], len(names), channels), names)
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr)
    for _ in range(steps):
        rows = torch.randint(len(pixels), (batch,), generator=generator)
        loss = F.nll_loss(net(pixels[rows]), classes[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@dataclass(frozen=True)
class ImageClass:
    """log p(`category` | image) by the classifier in `path`, nats, ≤ 0, with gradients.

    The tuned law at alpha = 1 is then the generator's own, given that the image is of the class, as far as the
    classifier knows.
    """

    path: PathText
    category: Text

    name: ClassVar[str] = "image_class"
    reads: ClassVar[str] = "images"
    units: ClassVar[str] = "nats"
    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, f'reward "{self.name}"')
        labels = self._net.labels
        if self.category not in labels:
            raise ConfigError(f'reward "{self.name}": no class "{self.category}"{suggest(self.category, labels)}')

    @property
    def label(self) -> str:
        """What people see of it."""
        return f"log p of {self.category}"

    @property
    def version(self) -> str:
        content = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()[:12]
        return f"1-{content}-{self._net.labels.index(self.category)}"

    @cached_property
    def _net(self) -> ImageClassifier:
        return ImageClassifier.load(Path(self.path)).requires_grad_(False)

    @torch.no_grad()
    def __call__(self, designs: list[Any]) -> list[float]:
        device = next(self._net.parameters()).device
        return self.score_one_hot(torch.from_numpy(np.stack(designs)).to(device)).tolist()

    def score_one_hot(self, x: Tensor) -> Tensor:
        """Return log-probabilities `(B,)` of images `(B, H, W, C)`, with gradients."""
        if x.shape[-1] != self._net.config.colours:
            raise ConfigError(
                f'reward "{self.name}": the classifier reads {self._net.config.colours} colours, images have '
                f"{x.shape[-1]}"
            )
        return self._net.to(x.device)(x.clamp(0, 1))[:, self._net.labels.index(self.category)]
