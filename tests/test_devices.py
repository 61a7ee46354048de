"""What meets the states of a card must be made there: every tensor that is made says where, or moves.

Read off the source of the folders whose code runs on the device of the networks. `tests/far` runs that code; this finds
what no run of it comes by.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import biotilt

ROOT = Path(biotilt.__file__).parent
FOLDERS = ("constraints", "core", "formulas", "networks", "objectives", "processes", "samplers", "training", "values")
MAKERS = {
    *("arange", "as_tensor", "empty", "eye", "from_numpy", "full", "linspace", "logspace", "multinomial", "normal"),
    *(
        "ones",
        "rand",
        "randint",
        "randn",
        "randperm",
        "scalar_tensor",
        "tensor",
        "tril_indices",
        "triu_indices",
        "zeros",
    ),
    "Generator",
}
ELSEWHERE = {
    "core/graphs.py _places": "moved at the end, once for a device",
    "core/reading.py numbers": "hashes of texts; who asks for them moves them",
    "core/replay.py drop_unscored": "moved to each column",
    "core/selection.py without_crowds": "of rows that were looked at on the processor, and moved at the end",
    "core/team.py _told": "processes tell each other by the processor's memory",
    "core/team.py require_agreement": "the same",
    "core/team.py total": "the same",
    "networks/esm.py frequencies": "of a buffer",
    "networks/structured.py _numbers": "of a target, as buffers",
    "networks/values.py _of_conditions": "of a buffer",
    "objectives/reward_weighted.py _new": "moved to the keys",
    "processes/ddpm.py _alphas": "a table of the process, in float64 at the end",
    "processes/ddpm.py _chain": "tables of the steps in float64, of which `at` moves what is read",
    "processes/flow_euler.py _chain": "the same",
    "processes/gaussian_path.py _chain": "numbers of the steps in float64, read one by one",
    "processes/graph.py _bridge": "tables of the steps in float64, of which `_at` moves what is read",
    "processes/graph.py _check_fixed": "what is held, on the processor until it is used",
    "processes/graph_levels.py _corrects": "tables of the steps",
    "processes/graph_levels.py chain": "the same",
    "processes/insertion.py listed": "all states, for exact answers",
    "training/checkpoint.py save_state": "what a file holds",
    "values/foresight.py _begun_without": "of a buffer that older files lack",
}
"""Functions that make tensors on the processor, and why that is well."""


def makers(source: str) -> Iterator[tuple[str, int, str]]:
    """Yield (function, line, what is called) where a tensor is made that nothing puts on a device.

    Parameters and buffers of a network, which are made in its `__init__`, move with it.
    """
    tree = ast.parse(source)
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if ast.unparse(node.func.value) != "torch" or node.func.attr not in MAKERS:
            continue
        follows = node.args if node.func.attr in ("multinomial", "normal") else []  # where what they read is
        placed = any(word.arg in (None, "device") for word in node.keywords)
        placed |= node.func.attr == "Generator" and bool(node.args)
        outer = above.get(node)
        moved = isinstance(outer, ast.Attribute) and outer.attr in ("to", "type_as")
        name, place = "", outer
        while place is not None and not name:
            name = place.name if isinstance(place, ast.FunctionDef) else ""
            place = above.get(place)
        if not (placed or moved or follows or name == "__init__"):
            yield name, node.lineno, ast.unparse(node)


def test_the_lint_finds_what_it_should():
    source = """
class Net(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(torch.zeros(3))
    def forward(self, x):
        mask = torch.ones(len(x), dtype=torch.bool)
        place = torch.arange(3, device=x.device) + torch.tensor([1.0]).to(x)
        seen = torch.multinomial(x, 2)
        return torch.rand(3, generator=torch.Generator(x.device)), torch.Generator()
"""
    found = [(name, text) for name, _, text in makers(source)]
    assert found == [
        ("forward", "torch.ones(len(x), dtype=torch.bool)"),
        ("forward", "torch.rand(3, generator=torch.Generator(x.device))"),
        ("forward", "torch.Generator()"),
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_tensors_are_made_where_they_meet(folder):
    known = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name, line, text in makers(path.read_text(encoding="utf-8")):
            place = f"{path.relative_to(ROOT).as_posix()} {name}"
            known.add(place)
            assert place in ELSEWHERE, f"{place}, line {line}: {text}: say device=…, move it, or say here why not"
    assert known == {place for place in ELSEWHERE if place.startswith(f"{folder}/")}, "what is told here is gone"
