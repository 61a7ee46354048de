"""What users write themselves and name in an experiment as "module:function" or "file.py:function"."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from biotilt.errors import BiotiltError, suggest


def in_python(reference: str | None) -> bool:
    """Whether a configuration's `function` or `path` stands for an object that was given in Python."""
    return (reference or "").startswith("<")


@dataclass(frozen=True)
class Reference:
    """A function by name: of a module that can be imported, or of a file, whose relative path starts at `base`.

    `what` it is to be, "reward" or "model", and `error`, the class of error that says what is amiss.
    """

    text: str
    base: Path
    what: str
    error: type[BiotiltError]

    def load(self) -> Any:
        """Import it and return the object, which can be called.

        Raises `error`, which names the reference, when the module or the function is not there, when importing fails
        (with the original error, its file and its line), and when the object cannot be called.
        """
        module_name, _, attribute = self.text.rpartition(":")
        if not module_name or not attribute:
            raise self._cannot('write "module:function" or "file.py:function"')
        module = self._file(self.base / module_name) if module_name.endswith(".py") else self._module(module_name)
        found = getattr(module, attribute, None)
        if found is None:
            names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise self._cannot(f'no function "{attribute}" there{suggest(attribute, names)}')
        if isinstance(found, type):
            raise self._cannot("it is a class; name a function or an instance of it")
        if not callable(found):
            raise self._cannot(f"it is {type(found).__name__}, which cannot be called")
        return found

    def absolute(self) -> str:
        """Return the reference with the whole path of its file, so that it can be loaded from anywhere."""
        module_name, _, attribute = self.text.rpartition(":")
        return f"{(self.base / module_name).resolve()}:{attribute}" if module_name.endswith(".py") else self.text

    def _file(self, path: Path) -> ModuleType:
        path = path.resolve()
        if not path.is_file():
            nearby = [other.name for other in path.parent.glob("*.py")]
            hint = suggest(path.name, nearby) if nearby else "; there is no Python file in that folder"
            raise self._cannot(f"no file {path}{hint}")
        # As for a script, modules beside the file can be imported; last, so that they shadow nothing.
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        spec = importlib.util.spec_from_file_location(f"_biotilt_{path.stem}_{digest}", path)
        assert spec is not None and spec.loader is not None  # it is a .py file
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up by name while it is being executed.
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[spec.name]
            raise self._import_failed(error) from error
        return module

    def _module(self, name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            # A missing module that this one imports is another fault: it has the module's file and line.
            if missing is None or not f"{name}.".startswith(f"{missing}."):
                raise self._import_failed(error) from error
        if (self.base / f"{name}.py").is_file():
            hint = f'write "{name}.py:{self.text.rpartition(":")[2]}" for the file beside the experiment'
        else:
            hint = 'install it, or add its folder to PYTHONPATH (sys.path), or name a file: "file.py:function"'
        raise self._cannot(f'no module "{missing}"; {hint}')

    def _import_failed(self, error: BaseException) -> BiotiltError:
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
        return self._cannot(f"{where}: {type(error).__name__}: {message}")

    def _cannot(self, why: str) -> BiotiltError:
        return self.error(f'cannot load {self.what} "{self.text}": {why}')
