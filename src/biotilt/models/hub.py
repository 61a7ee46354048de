"""Where a model is that somebody names: a file, a folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from biotilt.errors import CheckpointError, ConfigError, needs_extra, one_line
from biotilt.files import parsed, read_text
from biotilt.folder import RECORD, TUNED, shown

HUB = "hub:"  # what the name of a repository begins with in files
WANTED = ("*.safetensors", "*.json", "*.toml", "*.txt")
"""What is asked for of a repository: never a pickle, and no code."""
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""What `Model.save_pretrained` writes into a folder."""
MASKED = "esm"  # the source of masked language models, whatever their architecture
PIPELINES, INDEX = "diffusers", "model_index.json"  # the source of pipelines of images, and what is in their folders
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


class Repository(NamedTuple):
    """A repository of the hub; `revision`: a branch, a tag or a commit."""

    name: str
    revision: str | None = None

    @classmethod
    def of(cls, said: str) -> Repository:
        """Return what "owner/name" or "owner/name@revision" names, after "hub:" or not; ConfigError for other text.

        >>> Repository.of("hub:me/utr@v2")
        Repository(name='me/utr', revision='v2')
        """
        text = said.removeprefix(HUB)
        if not _REPOSITORY.fullmatch(text):
            raise ConfigError(
                f'"{one_line(said)}" names no repository of the Hugging Face hub: write {HUB}owner/name, or '
                f"{HUB}owner/name@revision"
            )
        name, _, revision = text.partition("@")
        return cls(name, revision or None)

    @property
    def by_hand(self) -> str:
        """What to do where the hub cannot be asked."""
        page = f"https://huggingface.co/{self.name}/tree/{self.revision or 'main'}"
        return (
            f"get its files {', '.join(WANTED)} from {page} on a machine that reaches it, put them into one folder, "
            'and name that: [model] path = "FOLDER" (in Python Model.pretrained("FOLDER"))'
        )


@cache
def fetched(said: str) -> Path:
    """Return the folder, in the cache of huggingface_hub, of a repository: asked for once in a process.

    Raises ConfigError, which says how to get the files by hand, where the package is not installed, the hub is not
    reached (or HF_HUB_OFFLINE is set, and the cache has it not), or there is no such repository.
    """
    repository = Repository.of(said)
    try:
        download: Any = needs_extra("huggingface_hub", "hub").snapshot_download
    except ConfigError as error:
        raise ConfigError(f'"{said}": {error}. Or {repository.by_hand}') from error
    try:
        folder = download(repository.name, revision=repository.revision, allow_patterns=list(WANTED))
    except Exception as error:  # of the network, the hub, or its package: many kinds
        raise ConfigError(
            f'"{said}" cannot be had from the Hugging Face hub ({type(error).__name__}: {one_line(error)}): '
            f"{repository.by_hand}"
        ) from error
    return Path(folder)


def is_hub(said: str | Path) -> bool:
    """Whether this is the name of a repository as files have it, with "hub:" before it."""
    return Path(said).as_posix().startswith(HUB)


def named(said: str | Path) -> str | Path:
    """Return what was named in Python as files name it: "owner/name", where no file is meant, after "hub:".

    >>> named("someone/some-model@v1"), named("someone/model.safetensors"), named("model")
    ('hub:someone/some-model@v1', 'someone/model.safetensors', 'model')
    """
    if not isinstance(said, str) or is_hub(said) or not _REPOSITORY.fullmatch(said):
        return said
    path = Path(said)
    meant = path.exists() or path.parent.is_dir() or path.suffix in (*PICKLES, ".safetensors", ".toml")
    return said if meant else f"{HUB}{said}"


def place_of(said: str | Path, base: Path = Path()) -> Path:
    """Return the file or the folder that is named, one that is relative from `base` on; a repository is fetched."""
    return fetched(Path(said).as_posix()) if is_hub(said) else base / said


def generator_file(said: str | Path, base: Path = Path()) -> Path:
    """Return the file of a generator that is named, or that is in the folder or the repository that is named.

    Raises CheckpointError where there is none, which says what there is instead.
    """
    place = place_of(said, base)
    if not place.is_dir():
        return place
    if (place / RECORD).is_file():
        raise CheckpointError(
            f"{shown(place)} is the folder of a run: biotilt.load_model reads it, or name {shown(place / TUNED)}"
        )
    found = sorted(place.glob("*.safetensors"))
    if (place / INDEX).is_file():
        raise CheckpointError(
            f'"{said}" is a pipeline of diffusers: [model] source = "{PIPELINES}", options = {{ path = "{said}" }}, in '
            f'Python Model.pretrained("{said}")'
        )
    if not found:
        raise CheckpointError(_no_weights(said, place))
    family = _family(place)
    if family is not None:
        raise CheckpointError(
            f'"{said}" is a model of transformers (model_type "{family}"), which is told how long designs are: '
            f'[model] source = "{MASKED}", options = {{ path = "{said}", length = … }}, in Python '
            f'Model.pretrained("{said}", length=…); or wrap it (docs/bring_your_own_model.md)'
        )
    if place / WEIGHTS not in found and len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f'"{said}" holds several files ({names}), none called {WEIGHTS}: name one of them')
    return place / WEIGHTS if place / WEIGHTS in found else found[0]


def weights_file(said: str, family: str) -> Path:
    """Return the file of weights that is named, or lies in the folder or the repository of the hub that is.

    Raises ConfigError where there is none, or it is of another kind than `biotilt convert` makes of a `family`.
    """
    path = place_of(said)
    if path.is_dir():
        inside = sorted(path.glob("*.safetensors"))
        if len(inside) != 1:
            raise ConfigError(f"model.options.weights: {path} holds {len(inside)} .safetensors files; name one file")
        return inside[0]
    if path.suffix != ".safetensors":
        raise ConfigError(
            f'model.options.weights: "{said}" is no .safetensors; of a checkpoint of the original, which is a pickle, '
            f"biotilt convert {family} {path.name} {path.stem}.safetensors makes one"
        )
    return path


def is_of_transformers(said: str | Path) -> bool:
    """Whether what is named is a folder, or a repository, as transformers writes a model."""
    place = place_of(said)
    return place.is_dir() and _family(place) is not None


def is_pipeline(said: str | Path) -> bool:
    """Whether what is named is a folder, or a repository, as diffusers writes a pipeline."""
    return (place_of(said) / INDEX).is_file()


def _no_weights(said: str | Path, place: Path) -> str:
    pickles = sorted(path.name for path in place.iterdir() if path.suffix in PICKLES)
    if not pickles and not is_hub(said):
        return f"{said} is not the folder of a run, nor of a model: it holds no .safetensors file"
    what = f"and {', '.join(pickles)}, which is a pickle" if pickles else "and its weights, if it has any, are pickles"
    named = f'"{said}"' if is_hub(said) else f"{said} is not the folder of a run, and"
    return (
        f"{named} holds no .safetensors file, {what}: these can run code when they are read, so none is fetched or "
        "loaded. Get the file yourself; biotilt convert FAMILY FILE OUT.safetensors makes tensors of it"
    )


def _family(place: Path) -> str | None:
    """Return what transformers calls the architecture in a folder; None for a folder of ours, or of anybody else."""
    path = place / CONFIG
    if not path.is_file():
        return None
    about = parsed(read_text(path, error=CheckpointError), path)
    return str(about["model_type"]) if isinstance(about, dict) and "model_type" in about else None
