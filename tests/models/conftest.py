"""What tests of pretrained families share."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest


@pytest.fixture
def omegaconf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class for settings as omegaconf's are: `_content` of a table, `_val` of a value, and more about each.

    Pickles name it as if it were of that package, which need not be there to read them.
    """

    class Metadata:
        def __init__(self) -> None:
            self.optional, self.object_type = True, dict

    class DictConfig:
        def __init__(self, value: Any, parent: Any = None):
            self._metadata, self._parent = Metadata(), parent
            if isinstance(value, dict):
                self._content = {key: DictConfig(inner, self) for key, inner in value.items()}
            else:
                self._val = value

    for kind, name in ((Metadata, "omegaconf.base"), (DictConfig, "omegaconf.dictconfig")):
        kind.__module__, kind.__qualname__ = name, kind.__name__
        place = types.ModuleType(name)
        setattr(place, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, name, place)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    return DictConfig
