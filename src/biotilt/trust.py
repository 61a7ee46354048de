"""Whose run a folder holds: what it would run on this machine, and whether this user made it here.

Loading a model and comparing runs read data only. Judging or resuming a run imports the Python files and starts the
programs that its `experiment.json` names; in a folder from somebody else these are that person's choice.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from biotilt.atomic import make_folder, temporary_name
from biotilt.config import Config, ModelSection, RewardSection
from biotilt.errors import UntrustedRun
from biotilt.evaluation.kinds import KINDS as KINDS_OF_MEASURES
from biotilt.files import shown_path
from biotilt.loading import in_python
from biotilt.models.sources import MODELS
from biotilt.oracle import BACKENDS
from biotilt.rewards.registry import KINDS, REWARDS

HARMLESS = {kind.name for kind in KINDS} - {"python", "log_density"} | {"none"}
"""Kinds of rewards that run nothing but biotilt and the packages it names, unless an option below is given."""
OUR_MEASURES = {kind.name for kind in KINDS_OF_MEASURES}
PROGRAMS = ("command", "program")
ABOUT_PROGRAMS = ("environment", "folder")
KEY_SIZE = 32


def code_of(config: Config, *, replaced: Iterable[str] = ()) -> list[str]:
    """Return what an experiment runs that is not part of biotilt, one text each, empty when there is nothing.

    `replaced`: the sections, "model", "reward" or "held_out", for which a caller gives an object of its own.
    """
    waiting: list[RewardSection | None] = [
        *(None if "reward" in replaced else config.reward, None if "held_out" in replaced else config.held_out),
        *config.constraints,
    ]
    found = [f"what a Ray cluster answers ({config.oracle.address})"] if config.oracle.address else []
    if not BACKENDS.is_ours(config.oracle.backend):
        found.append(f'the backend "{config.oracle.backend}" of a plug-in')
    found += [] if "model" in replaced else _of_model(config.model)
    for measure in config.measures:
        if measure.kind is not None and measure.kind not in OUR_MEASURES:
            found.append(f'the measure "{measure.kind}" of a plug-in')
        elif measure.kind is None and not in_python(measure.function):
            found.append(f"the Python function {measure.function}")
    while waiting:
        section = waiting.pop(0)
        if section is None:
            continue
        waiting.extend(section.parts)
        found += [] if section.model is None else _of_model(section.model)
        options = section.options
        programs = [options[key] for key in PROGRAMS if options.get(key)]
        about = {key: options[key] for key in ABOUT_PROGRAMS if programs and options.get(key)}
        found += [
            f"the program {json.dumps(words)}{f' with {json.dumps(about)}' if about else ''}" for words in programs
        ]
        if section.kind in ("python", "log_density"):
            found.append(f"the Python function {section.function}")
        elif section.kind not in HARMLESS and not REWARDS.is_ours(section.kind):
            found.append(f'the reward "{section.kind}" of a plug-in')
    return [shown_path(text) for text in dict.fromkeys(found)]  # columns of one source name it several times


def _of_model(section: ModelSection) -> list[str]:
    if section.factory is not None:
        return [f"the Python function {section.factory}"]
    theirs = section.source is not None and not MODELS.is_ours(section.source)
    return [f'the model "{section.source}" of a plug-in'] if theirs else []


def mark(config: Config, base: str) -> str | None:
    """Return what only this user can write into a record of this content; None where no secret can be kept."""
    key = _key() or _new_key()
    return None if key is None else _sign(key, config, base)


def is_own(config: Config, base: str, given: str | None) -> bool:
    """Whether `given` is the mark of this user on this machine for this content."""
    key = _key()
    return key is not None and given is not None and hmac.compare_digest(_sign(key, config, base), given)


def require_trust(folder: Path, config: Config, base: str, given: str | None, replaced: Iterable[str]) -> None:
    """Raise UntrustedRun, with all that would be run, unless it is nothing or this user made the folder here."""
    code = code_of(config, replaced=replaced)
    if code and not is_own(config, base, given):
        raise UntrustedRun(
            f"{folder} bears no sign that you made it on this machine, and it would run {', '.join(code)} "
            f"(from {shown_path(base)}): read that first, then say --trust (in Python: trust=True)"
        )


def _sign(key: bytes, config: Config, base: str) -> str:
    content = json.dumps([base, code_of(config)])
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()


def _key_file() -> Path | None:
    """Return where this user's secret is kept; None for a user without a home."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:
        return None
    return state / "biotilt" / "key"


def _key() -> bytes | None:
    """Return the secret; None when there is none, or somebody else could know it."""
    path = _key_file()
    if path is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as handle:
        about = os.fstat(descriptor)
        private = os.name != "posix" or (about.st_uid == os.geteuid() and not about.st_mode & 0o077)
        key = handle.read(KEY_SIZE) if private and stat.S_ISREG(about.st_mode) else b""
    return key if len(key) == KEY_SIZE else None


def _new_key() -> bytes | None:
    """Make the secret, whole from its first moment; None where it cannot be written."""
    path = _key_file()
    if path is None:
        return None
    with contextlib.suppress(OSError):
        make_folder(path.parent)
        temporary = temporary_name(path.parent)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(secrets.token_bytes(KEY_SIZE))
            os.link(temporary, path)  # unlike a renaming, this leaves alone what another process has just made
        finally:
            temporary.unlink()
    return _key()
