"""Rewards written by users, named in an experiment as "module:function" or "file.py:function"."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from biotilt.errors import RewardError, suggest
from biotilt.rewards.generic.base import FunctionReward, NamedReward, digest, reward


def load_function(reference: str, base: Path = Path(), *, per_design: bool = False) -> NamedReward:
    """Load the reward that `reference` names, and wrap it when it is a plain function.

    `reference` is "module:function", where the module can be imported, or "path/file.py:function", where a
    relative path starts at the folder `base` (that of the experiment file). `per_design` says that a plain
    function takes one design; an object that already has a name and a version is kept as it is.

    Raises `RewardError`, which names the reference, when the module or the function is not there, when
    importing fails (with the original error, its file and its line), and when the object cannot be called.

    >>> load_function("math:sqrt", per_design=True)(["4"])
    Traceback (most recent call last):
    TypeError: must be real number, not str
    """
    module_name, _, attribute = reference.rpartition(":")
    if not module_name or not attribute:
        raise RewardError(f'cannot load reward "{reference}": write "module:function" or "file.py:function"')
    if module_name.endswith(".py"):
        module = _load_file(reference, base / module_name)
    else:
        module = _load_module(reference, module_name, base)
    found = getattr(module, attribute, None)
    if found is None:
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise RewardError(
            f'cannot load reward "{reference}": no function "{attribute}" there{suggest(attribute, names)}'
        )
    if isinstance(found, type):
        raise RewardError(f'cannot load reward "{reference}": it is a class; name a function or an instance of it')
    if not callable(found):
        raise RewardError(f'cannot load reward "{reference}": it is {type(found).__name__}, which cannot be called')
    return _as_reward(found, per_design)


def _as_reward(found: Any, per_design: bool) -> NamedReward:
    if not (hasattr(found, "name") and hasattr(found, "version")):
        return reward(per_design=per_design)(found)
    if not hasattr(found, "differentiable"):
        return FunctionReward(found, found.name, found.version, batched=not per_design)
    return found


def _load_file(reference: str, path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        nearby = [other.name for other in path.parent.glob("*.py")]
        hint = suggest(path.name, nearby) if nearby else "; there is no Python file in that folder"
        raise RewardError(f'cannot load reward "{reference}": no file {path}{hint}')
    # As for a script, modules beside the file can be imported; last, so that they shadow nothing.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"_biotilt_{path.stem}_{digest(str(path))}", path)
    assert spec is not None and spec.loader is not None  # it is a .py file
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while it is being executed.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise _import_failed(reference, error) from error
    return module


def _load_module(reference: str, name: str, base: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        # A missing module that this one imports is another fault: it has the module's file and line.
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise _import_failed(reference, error) from error
    if (base / f"{name}.py").is_file():
        hint = f'write "{name}.py:{reference.rpartition(":")[2]}" for the file beside the experiment'
    else:
        hint = 'install it, or add its folder to PYTHONPATH (sys.path), or name a file: "file.py:function"'
    raise RewardError(f'cannot load reward "{reference}": no module "{missing}"; {hint}')


def _import_failed(reference: str, error: BaseException) -> RewardError:
    if isinstance(error, SyntaxError):
        where, message = f"{error.filename}, line {error.lineno}", error.msg
    else:
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if "importlib" not in frame.filename and frame.filename != __file__
        ]
        # The deepest line of the user's own file, even when a library that it called raised.
        own = [frame for frame in frames if frame.filename == frames[0].filename]
        where, message = (f"{own[-1].filename}, line {own[-1].lineno}" if own else "import"), str(error)
    return RewardError(f'cannot load reward "{reference}": {where}: {type(error).__name__}: {message}')
