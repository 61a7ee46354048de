"""GDSS: both networks and steps against the equations in `gdss_scores`, its files, and the way of a user with one."""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import acceptance
import gdss_scores
import pytest
import torch
from torch import Tensor

from biotilt.core import needed
from biotilt.core.graphs import GraphLayout
from biotilt.errors import BiotiltError, CheckpointError, ConfigError, DataError
from biotilt.model import Model
from biotilt.models.convert import convert
from biotilt.models.gdss import GDSS, PUBLISHED
from biotilt.processes import Graph
from biotilt.processes.gaussian_kernel import GaussianKernel
from biotilt.tensors import load_tensors, save_tensors

SMALL = gdss_scores.QM9 | {"max_node_num": 4, "nhid": 8, "adim": 4, "num_heads": 2, "c_hid": 3, "c_final": 2}


class EasyDict(dict[str, Any]):
    """Settings as theirs are pickled: a dict that keeps its values as attributes too."""

    def __init__(self, values: dict[str, Any]):
        super().__init__()
        for name, value in values.items():
            self[name] = EasyDict(value) if isinstance(value, dict) else value
            setattr(self, name, self[name])


EasyDict.__module__ = "easydict"


def saved(folder: Path, held: dict[str, Any]) -> Path:
    """A file as theirs are, whose settings are of a class that nobody has here."""
    module = types.ModuleType("easydict")
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    sys.modules["easydict"] = module
    try:
        torch.save(held | {"model_config": EasyDict(held["model_config"])}, folder / "gdss.pth")
    finally:
        del sys.modules["easydict"]
    return folder / "gdss.pth"


def converted(folder: Path, held: dict[str, Any]) -> str:
    convert("gdss", saved(folder, held), folder / "gdss.safetensors")
    return str(folder / "gdss.safetensors")


def states(layout: GraphLayout, counts: list[int]) -> Tensor:
    count = torch.tensor(counts)
    x = torch.randn(len(counts), layout.size, generator=torch.Generator().manual_seed(1))
    x = torch.where(layout.free(count), x, 0.0)
    x[:, -1] = count
    return x


def by_hand(held: dict[str, Any], layout: GraphLayout, x: Tensor) -> tuple[Tensor, Tensor]:
    nodes, adjacency, _ = layout.parts(x)
    rows = [gdss_scores.scores(held, *row) for row in zip(nodes, adjacency, x[:, -1].tolist())]
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


CASES = {
    "QM9": (gdss_scores.QM9, False, "QM9", [9, 5, 2]),
    "ZINC250k": (gdss_scores.ZINC, False, "ZINC250k", [38, 21]),
    "attention on nodes": (SMALL | {"num_linears": 1, "c_init": 3}, True, "QM9", [4, 3]),
}


@pytest.mark.parametrize(("sizes", "attention", "data", "counts"), CASES.values(), ids=CASES)
@torch.no_grad()
def test_both_networks_are_those_of_the_equations(
    tmp_path: Path, sizes: dict[str, Any], attention: bool, data: str, counts: list[int]
) -> None:
    held = gdss_scores.content(sizes, attention=attention, data=data)
    model = GDSS(converted(tmp_path, held), counts=(1.0,) * sizes["max_node_num"]).build()
    layout = needed(model.policy.process, Graph).layout
    x = states(layout, counts).double()
    nodes, edges, _ = layout.parts(model.policy.net.double()(x, torch.zeros(len(x))))
    of_nodes, of_edges = by_hand(held, layout, x)
    assert of_nodes.std() > 0.1 and of_edges.std() > 0.1
    torch.testing.assert_close(nodes, of_nodes, atol=1e-9, rtol=0)
    torch.testing.assert_close(edges, of_edges, atol=1e-9, rtol=0)


@torch.no_grad()
def test_a_step_is_that_of_their_sampler(tmp_path: Path) -> None:
    """Nodes VP, whose network says −s·score, edges VE; corrector, then predictor, with levels of a chain of ten."""
    held = gdss_scores.content(SMALL | {"max_feat_num": 9}, data="ZINC250k")
    options = {"counts": (0, 1, 0, 3), "steps": 10, "snr": 0.3, "loudness": 0.6}
    model = GDSS(converted(tmp_path, held), **options).build()
    process = needed(model.policy.process, Graph)
    x = states(process.layout, [4, 2])
    of_nodes, of_edges = by_hand(held, process.layout, x)
    first, second = torch.triu_indices(4, 4, 1)

    def vp(t: float) -> tuple[float, float]:
        a = math.exp(-0.25 * t * t * (1.0 - 0.1) - 0.5 * t * 0.1)
        return a, math.sqrt(1 - a * a)

    def each(node: float, edge: float) -> Tensor:
        return torch.tensor([node] * 36 + [edge] * 6, dtype=torch.float64)

    def sigma(t: float) -> float:
        return 0.2 * (1.0 / 0.2) ** t

    for step in (0, 3, 8):
        t, later = 1 - step / 10, 1 - (step + 1) / 10
        (a, s), (a_next, _) = vp(t), vp(later)
        beta = 1 - (a / a_next) ** 2
        score = torch.cat([(-of_nodes / s).flatten(1), of_edges[:, first, second]], 1)
        inner, there = x[:, :-1].double(), process.layout.free(process.layout.counts(x))[:, :-1]
        h = 2 * each(1 - beta, 1.0) * (0.3 * each(s, sigma(t))) ** 2
        corrector = needed(model.policy.kernel(x, 2 * step), GaussianKernel)
        mean = torch.where(there, inner + h * score, inner)
        torch.testing.assert_close(corrector.mean[:, :-1].double(), mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(corrector.std[0, :-1].double(), (2 * h).sqrt() * 0.6, atol=1e-6, rtol=1e-5)
        g2 = each(beta, sigma(t) ** 2 - sigma(later) ** 2)
        drift = each(math.sqrt(1 - beta) - 1, 0.0) * inner
        predictor = needed(model.policy.kernel(x, 2 * step + 1), GaussianKernel)
        mean = torch.where(there, inner - drift + g2 * score, inner)
        torch.testing.assert_close(predictor.mean[:, :-1].double(), mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(predictor.std[0, :-1].double(), g2.sqrt(), atol=1e-6, rtol=1e-5)


def test_the_file_says_sizes_and_noise_and_the_data_the_rest(tmp_path: Path) -> None:
    held = gdss_scores.content(SMALL | {"max_node_num": 9})
    model = GDSS(converted(tmp_path, held)).build()
    process = needed(model.policy.process, Graph)
    assert (process.node_law, process.node_range) == ("ve", (0.1, 1.0))
    assert (process.edge_law, process.edge_range) == ("ve", (0.2, 1.0))
    assert (process.steps, process.snr, process.loudness, process.memoryless) == (2000, 0.2, 0.7, False)
    assert process.counts == PUBLISHED["QM9"].counts and sum(process.counts) == 133_885
    assert model.space.spec() == {"kind": "graphs", "atoms": ["C", "N", "O", "F"], "nodes": 9}
    _, about = load_tensors(tmp_path / "gdss.safetensors")
    assert about["data"] == "QM9" and about["by"] == "gcn" and about["width"] == 8


def test_moving_averages_are_taken_where_asked(tmp_path: Path) -> None:
    held = gdss_scores.content(SMALL)
    plain = converted(tmp_path, held)
    with pytest.raises(ConfigError, match="has no moving averages"):
        GDSS(plain, counts=(1.0,) * 4, ema=True).build()
    averages = {
        f"ema_{part}": {"decay": 0.999, "num_updates": 3, "shadow_params": [w + 1 for w in named.values()]}
        for part, named in (("x", held["x_state_dict"]), ("adj", held["adj_state_dict"]))
    }
    nets = [
        GDSS(converted(tmp_path, held | averages), counts=(1.0,) * 4, ema=ema).build().policy.net
        for ema in (False, True)
    ]
    for old, new in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(new, old + 1)


def test_molecules_are_drawn(tmp_path: Path) -> None:
    held = gdss_scores.content(SMALL)
    model = GDSS(converted(tmp_path, held), counts=(1.0,) * 4, steps=3).build()
    designs = model.sample(4, seed=1)
    assert len(designs) == 4 and all(isinstance(design, str) for design in designs)
    model.check()


def test_the_whole_way_of_a_user(tmp_path: Path) -> None:
    held = gdss_scores.content(SMALL)
    (tmp_path / "kept").mkdir()
    converted(tmp_path, held)
    (tmp_path / "mine.toml").write_text(
        """
alpha = 0.1

[model]
source = "gdss"
process = { num_steps = 3 }
options = { weights = "gdss.safetensors", counts = [0, 1, 2, 1], snr = 0.1 }

[reward]
kind = "python"
function = "mine.py:carbons"

[objective]
name = "reward_weighted"
updates = 2
states = 8

[train]
max_calls = 24
batch = 8
lr = 0.02
"""
    )
    (tmp_path / "mine.py").write_text("def carbons(designs):\n    return [d.count('C') / 4 for d in designs]\n")
    acceptance.check_whole(tmp_path / "mine.toml", "gdss.safetensors")


def changed(held: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    return held | {part: held[part] | values}


class Runs:
    """A pickle of this would run a program."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("was_run"),)


def test_what_is_no_file_of_theirs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    held = gdss_scores.content(SMALL)
    sde = held["model_config"]["sde"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({k: v for k, v in held.items() if k != "adj_state_dict"}, 'it has no "adj_state_dict"'),
        (changed(held, "params_x", model_type="ScoreNetworkX_GAT"), "known are ScoreNetworkX"),
        (changed(held, "params_adj", conv="MLP"), "known are ScoreNetworkX"),
        (changed(held, "model_config", sde=sde | {"x": sde["x"] | {"type": "subVP"}}), "known are VE and VP"),
        (changed(held, "model_config", data={}), "its settings are not those of GDSS: KeyError"),
        (changed(held, "params_x", depth=Runs()), "no file of tensors and plain values alone"),
    ]
    for content, said in cases:
        with pytest.raises(DataError, match=said):
            converted(tmp_path, content)
    assert not (tmp_path / "was_run").exists() and not (tmp_path / "gdss.safetensors").exists()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    held = gdss_scores.content(SMALL)
    name, bias = "layers.0.attn.1.gnn_q.bias", "final.linears.0.bias"
    adj = held["adj_state_dict"]
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in adj.items() if k != name}, rf'lack "adj\.{name}"'),
        (adj | {"more.weight": torch.zeros(2)}, 'weights "adj.more.weight", which GDSS does not have'),
        (adj | {name: torch.zeros(3)}, "do not fit"),
        (adj | {bias: torch.zeros(3)}, "has the shape"),
    ]
    for named, said in cases:
        with pytest.raises(CheckpointError, match=said):
            GDSS(converted(tmp_path, held | {"adj_state_dict": named}), counts=(1.0,) * 4).build()


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ("QM9", {"atoms": ("C", "N")}, "with 4 features a node, each of which stands for an atom: name as many, not 2"),
        ("community_small", {}, "trained on community_small"),
        ("QM9", {}, "counts must be the weights of 1 … 4 nodes"),
        ("QM9", {"snr": -1.0}, "snr"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, data: str, options: dict[str, Any], said: str) -> None:
    path = converted(tmp_path, gdss_scores.content(SMALL, data=data))
    with pytest.raises(ConfigError, match=said):
        GDSS(path, **options).build()


def test_the_public_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"biotilt convert gdss gdss_qm9\.pth gdss_qm9\.safetensors"):
        GDSS("gdss_qm9.pth").build()
    save_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"kind": "generator"})
    with pytest.raises(BiotiltError, match="weights of GDSS"):
        GDSS(str(tmp_path / "w.safetensors")).build()


def test_it_is_a_model_by_name(tmp_path: Path) -> None:
    path = converted(tmp_path, gdss_scores.content(SMALL))
    model = Model.pretrained("gdss", weights=path, counts=[0, 0, 1, 1], steps=2)
    assert needed(model.policy.process, Graph).steps == 4
