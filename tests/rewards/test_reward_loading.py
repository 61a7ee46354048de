from __future__ import annotations

import sys

import pytest

from biotilt.errors import RewardError
from biotilt.rewards import load_function


@pytest.fixture(autouse=True)
def clean_path(monkeypatch):
    """Loading a file leaves its folder on sys.path."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.py"):
        (tmp_path / name).write_text(text)
        return tmp_path

    return write


def failure(reference, base) -> str:
    with pytest.raises(RewardError) as caught:
        load_function(reference, base)
    assert reference in str(caught.value)
    return str(caught.value)


def test_a_function_of_a_file_beside_the_experiment(write):
    base = write("def score(designs):\n    return [d.count('C') for d in designs]\n")
    loaded = load_function("mine.py:score", base)
    assert loaded(["CAC", "A"]) == [2.0, 0.0]
    assert loaded.name == "score"
    assert len(loaded.version) == 12


def test_a_changed_file_is_read_again_and_has_another_version(write):
    base = write("def score(designs):\n    return [1] * len(designs)\n")
    before = load_function("mine.py:score", base)
    write("def score(designs):\n    return [20] * len(designs)\n")
    after = load_function("mine.py:score", base)
    assert (before(["A"]), after(["A"])) == ([1.0], [20.0])
    assert before.version != after.version


def test_a_file_may_import_its_neighbour_and_define_dataclasses(write):
    write("OFFSET = 40\n", "biotilt_test_neighbour.py")
    base = write(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from biotilt_test_neighbour import OFFSET\n"
        "@dataclass\nclass P:\n    x: int\n"
        "def score(design):\n    return P(OFFSET).x + len(design)\n"
    )
    assert load_function("mine.py:score", base, per_design=True)(["AC"]) == [42.0]


def test_a_reward_is_kept_as_it_is(write):
    base = write(
        "from biotilt.rewards import GCFraction, reward\n"
        "gc = GCFraction()\n"
        "@reward(version='9')\ndef mine(designs):\n    return [0.0]\n"
        "class Other:\n    name, version = 'other', '3'\n    def __call__(self, d): return [5 for _ in d]\n"
        "other = Other()\n"
    )
    assert load_function("mine.py:gc", base).name == "gc"
    assert load_function("mine.py:mine", base).version == "9"
    other = load_function("mine.py:other", base)
    assert (other.name, other.version, other.differentiable, other(["A"])) == ("other", "3", False, [5.0])


def test_an_importable_module():
    assert load_function("statistics:mean", per_design=True).name == "mean"


def test_missing_file_names_the_nearest(write):
    assert 'did you mean "mine.py"?' in failure("mime.py:score", write(""))


def test_missing_module_points_to_the_file_beside(write):
    assert 'write "mine.py:score"' in failure("mine:score", write("def score(d): return d\n"))


def test_missing_module_elsewhere_points_to_the_path(tmp_path):
    message = failure("no_such_package.rewards:score", tmp_path)
    assert 'no module "no_such_package"' in message
    assert "PYTHONPATH" in message


def test_missing_function_names_the_nearest(write):
    assert 'did you mean "score"?' in failure("mine.py:scores", write("def score(d): return d\n"))


@pytest.mark.parametrize("reference", ["mine.py", "score", ":score", "mine.py:"])
def test_a_reference_without_both_parts(reference, write):
    assert '"module:function"' in failure(reference, write(""))


def test_what_cannot_be_called(write):
    base = write("score = 3\nclass Score: pass\n")
    assert "it is int" in failure("mine.py:score", base)
    assert "it is a class" in failure("mine.py:Score", base)


def test_an_error_on_import_shows_its_file_and_line(write):
    base = write("import json\n\ndef helper():\n    return json.loads('{')\n\nX = helper()\n")
    message = failure("mine.py:score", base)
    assert f"{base / 'mine.py'}, line 4: JSONDecodeError: Expecting property name" in message


def test_a_syntax_error_shows_its_file_and_line(write):
    base = write("x = 1\ndef score(:\n")
    assert f"{base / 'mine.py'}, line 2: SyntaxError" in failure("mine.py:score", base)


def test_a_module_that_imports_a_missing_one_is_not_called_missing_itself(write, monkeypatch):
    base = write("\nimport no_such_dependency\n", "biotilt_test_broken.py")
    monkeypatch.syspath_prepend(base)
    message = failure("biotilt_test_broken:score", base)
    assert "biotilt_test_broken.py, line 2: ModuleNotFoundError" in message
    assert "no_such_dependency" in message


def test_a_script_that_exits_is_an_error_and_not_the_end(write):
    base = write("import sys\nsys.exit('usage')\n")
    assert "line 2: SystemExit: usage" in failure("mine.py:score", base)
