"""The public names: each is documented, has an example that runs as a test, and stands on the page about Python."""

from __future__ import annotations

import importlib
import inspect
import re
from doctest import DocTestParser
from pathlib import Path

import pytest

import biotilt

NAMES = sorted(set(biotilt.__all__) - {"__version__"})
PAGE = Path(__file__).parents[1] / "docs/python.md"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_with_an_example_in_our_source(name):
    part = getattr(biotilt, name)
    text = inspect.getdoc(part)
    assert text, f"{name} has no docstring"
    first = text.splitlines()[0]
    assert first.endswith((".", ":")) or len(text.splitlines()) > 1, f"{name}: the first line is no sentence"
    assert DocTestParser().get_examples(text), f"{name} has no example"
    # the suite collects the docstrings of every module of the package, so the example runs where it is written
    assert part.__module__.startswith("biotilt."), part.__module__
    assert vars(importlib.import_module(part.__module__))[name] is part


def test_the_page_about_python_lists_the_public_names_and_no_others():
    section = PAGE.read_text(encoding="utf-8").partition("## Public names")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")]
    listed = [name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[2])]
    assert sorted(listed) == NAMES


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'tunes'"):
        biotilt.tunes  # noqa: B018


def test_letters_of_a_name_are_refused_with_what_to_give():
    for kind in (biotilt.Letters, lambda alphabet: biotilt.Padded(alphabet, 4)):
        with pytest.raises(biotilt.ConfigError, match=r"is no Alphabet; give biotilt.alphabet\(.dna.\)"):
            kind("dna")
