"""A model as a folder that others can load: weights, description, and a card that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from biotilt.atomic import make_folder
from biotilt.core import Policy, own_names
from biotilt.core.protocols import OfLetters, OfPoints
from biotilt.core.space import Space
from biotilt.digits import count
from biotilt.errors import ConfigError
from biotilt.files import write_json, write_text
from biotilt.folder import is_empty
from biotilt.models.conditions import Conditions, Told
from biotilt.models.hub import CARD, CONFIG, WEIGHTS
from biotilt.models.lora import LoRA
from biotilt.models.origin import FileOrigin, Origin
from biotilt.models.stored import GeneratorFile, StoredHeld
from biotilt.tensors import load_tensors

_OURS = {WEIGHTS, CONFIG, CARD}
_NO_LIMITS = "Nobody has said for what it was made, or what it was tested on."


class Shared(Protocol):
    """What a card is written of: a model."""

    @property
    def policy(self) -> Policy: ...
    @property
    def space(self) -> Space[Any]: ...
    @property
    def origin(self) -> Origin | FileOrigin | None: ...
    @property
    def lora(self) -> LoRA | None: ...
    @property
    def conditions(self) -> Conditions | None: ...
    @property
    def told(self) -> Told | None: ...
    @property
    def process_options(self) -> dict[str, Any]: ...

    def save(self, path: Path, extra: dict[str, Any] | None = None) -> None: ...


def write_folder(model: Shared, folder: Path, title: str, about: Mapping[str, str], *, overwrite: bool) -> None:
    """Write a model, the description that its file holds, and a card with what is said `about` it below headings.

    Raises ConfigError for a folder that holds other files than these, unless `overwrite`.
    """
    other = set() if is_empty(folder) else {path.name for path in folder.iterdir()} - _OURS if folder.is_dir() else {""}
    if not is_empty(folder) and not overwrite:
        what = f"holds {min(other)}" if other else "holds a model already"
        raise ConfigError(f"{folder} {what}: name another folder, or say overwrite")
    make_folder(folder)
    held = StoredHeld.by(model.policy.process)
    model.save(folder / WEIGHTS, None if held is None else {"held": held})
    stored = load_tensors(folder / WEIGHTS, GeneratorFile)[1]
    write_json(folder / CONFIG, stored.model_dump(mode="json", exclude_none=True))
    write_text(folder / CARD, card(model, title or folder.absolute().name, about))


def card(model: Shared, title: str, about: Mapping[str, str]) -> str:
    """Return the text of a card, in Markdown: what the model is and how it is loaded, then what is said `about` it."""
    said = {"What it is": _what(model), "Use": _use(model), "Limits": _NO_LIMITS} | dict(about)
    last = {"Limits": said.pop("Limits")}
    parts = [f"## {heading}\n\n{text.strip()}" for heading, text in (said | last).items()]
    return "\n\n".join(["---\nlibrary_name: biotilt\n---", f"# {title}", *parts]) + "\n"


def _what(model: Shared) -> str:
    process, net = model.policy.process, model.policy.net
    designs = f"{model.space.name}"
    if isinstance(process, OfLetters):
        designs += f", {process.length} positions of {process.letters} letters"
    elif isinstance(process, OfPoints):
        designs += f", {process.size} numbers"
    options = ", ".join(f"{key} = {value}" for key, value in model.process_options.items())
    numbers = sum(tensor.numel() for tensor in net.parameters())
    own = sum(net.get_parameter(name).numel() for name in own_names(net))
    trained = "" if own == numbers else f", of which {count(own)} can be trained"
    lines = [
        f"designs: {designs}",
        f"process: {process.name} ({options})",
        f"network: {type(net).__name__}, {count(numbers)} numbers{trained}",
    ]
    if model.lora is not None:
        lines.append(f"adapters: LoRA of rank {model.lora.rank}, alpha {model.lora.alpha:g}")
    if isinstance(model.origin, Origin):
        lines.append(f"the network is built by {model.origin.shown}, and the file holds what was trained of it")
    if model.told is not None:
        lines.append(f"it is told: {', '.join(model.told.labels)}")
    elif model.conditions is not None:
        lines.append(f"it can be told: {', '.join(model.conditions.labels) or 'a number'}")
    held = StoredHeld.by(process)
    if held is not None and held["positions"]:
        lines.append(f"held in every design: {count(len(held['positions']))} positions")
    return "\n".join(f"- {line}" for line in lines)


def _use(model: Shared) -> str:
    theirs = isinstance(model.origin, Origin) and not model.origin.is_ours
    trust = ", trust=True" if theirs else ""
    remark = "\n\n`trust` imports the function that builds its network: read that first." if theirs else ""
    return (
        "```python\nimport biotilt\n\n"
        f'model = biotilt.Model.pretrained("FOLDER, or owner/name of the hub"{trust})\n'
        f"print(model.sample(10, seed=0))\n```{remark}"
    )
