"""Every measured number in README.md and docs/ is that of a result file, which a command of the repository makes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import pages  # noqa: E402
import results  # noqa: E402

SETTINGS = "0.5 0.02 0.99 0.1 0.001 0.003 0.004 0.05 0.15 0.01"  # options, and α of a section
PINNED = (
    "0.107 0.334 0.25 0.34 0.30 0.75 1.83 0.81 1.59 0.35 0.40 0.016"  # asserted by the test that stands beside them
)
# Decimal numbers that are typed by hand, and why they may be.
TYPED = {
    "README.md": "3.11 1.0 2.0",  # versions and a licence
    "docs/algorithms.md": f"{SETTINGS} {PINNED} 0.9",  # and a threshold of a warning
    "docs/design.md": "8.1",  # an example of how an energy is written
    "docs/python.md": "0.31 3.17 0.43",  # versions
    "docs/screening.md": "0.25",  # 2/√63
    "docs/speed.md": "1.18",  # of the published network
    "docs/rewards.md": "0.06 0.10 0.03 0.9 1.25",  # bounds that test_constrained_tuning.py asserts; settings
    "docs/tasks/docking.md": "1.2",  # version of AutoDock Vina
    "docs/tasks/molecule.md": "17.9 95.7 98.5 86.3",  # of the generator before, which the runs are of; published
    "docs/tasks/protein.md": "4.05 2.2 0.38 0.3",  # Biopython's range of pI, a formula, a limit that was set
    "docs/tasks/rna_fold.md": "0.15",  # a setting of the training data
    "docs/tasks/utr_varying.md": "0.88",  # published
}
each_page = pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)


@each_page
def test_a_page_says_what_the_result_files_say(page):
    text = page.read_text(encoding="utf-8")
    assert pages.filled(text) == text, "python benchmarks/pages.py writes the page anew"


def by_hand(text: str) -> set[str]:
    """Return the decimal numbers that stand outside marks and code."""
    text = pages.MARK.sub("", text)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|arXiv[: ]\S+", "", text)
    return set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", text))


@each_page
def test_no_measured_number_is_typed_by_hand(page):
    found = by_hand(page.read_text(encoding="utf-8"))
    assert found == set(TYPED.get(str(page.relative_to(ROOT)), "").split())


def test_a_number_typed_by_hand_is_found():
    text = "It is 0.71, `alpha = 0.05`, <!--=card utr generator x-->0.9<!--/-->.\n```\n3.3\n```\nThen 2.5."
    assert by_hand(text) == {"0.71", "2.5"}


def test_a_mark_is_filled_and_stays():
    text = "a <!--=card utr generator metrics.train_designs-->?<!--/--> b"
    assert pages.filled(text) == text.replace("?", "10,292")
    assert pages.filled(pages.filled(text)) == pages.filled(text)


def test_every_result_file_has_its_command():
    made = {step.makes for step in results.STEPS}
    kept = {path.name for path in (ROOT / "benchmarks/results").iterdir()}
    assert kept == made


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.06149, 3, "0.0615"), (7.9, 3, "7.90"), (-0.5, 2, "−0.50"), (264.72, 4, "264.7"), (1234.5, 3, "1,234"),
        (0.9996, 3, "1.00"), (12, 3, "12"), (10292, 3, "10,292"), (0.0, 3, "0"), (None, 3, "–"),
    ],
)  # fmt: skip
def test_numbers_keep_their_digits(value, digits, text):
    assert pages.number(value, digits) == text
