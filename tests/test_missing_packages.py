"""What is said of a package that is not there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from biotilt import errors
from biotilt.errors import ConfigError, needs_extra


def test_a_checkout_that_is_not_installed_says_where_the_packages_stand(monkeypatch):
    def unknown(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(errors, "requires", unknown)
    with pytest.raises(ConfigError, match=r'no_such_package.*pyproject\.toml lists for "rna"'):
        needs_extra("no_such_package", "rna")


def test_a_checkout_that_was_installed_before_there_was_the_extra_says_so_too(monkeypatch):
    monkeypatch.setattr(errors, "requires", lambda name: ['viennarna>=2.7; extra == "rna"'])
    with pytest.raises(ConfigError, match=r'pip install the packages that pyproject\.toml lists for "admet"'):
        needs_extra("no_such_package", "admet")
    with pytest.raises(ConfigError, match=r'pip install "viennarna>=2\.7"$'):
        needs_extra("no_such_package", "rna")
