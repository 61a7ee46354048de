"""The surface of a backbone: by hand for two residues, and on a real one."""

from __future__ import annotations

import math

import backbones
import pytest
import torch

from biotilt.errors import ConfigError
from biotilt.rewards.protein.backbone import beta_carbons, read_backbone
from biotilt.rewards.protein.exposure import BackboneSurface, exposed, neighbours
from biotilt.tasks import find_task

UBIQUITIN = find_task("redesign").folder / "1ubq.pdb"


def test_two_residues_by_hand() -> None:
    """One faces the other at 9 Å from Cβ to Cβ, and the other turns its back: weights 1/2 and 0."""
    one = torch.from_numpy(backbones.backbone([(-57.0, -47.0)] * 2))[:1].float()
    way = beta_carbons(one)[0] - one[0, 1]
    other = one + 9.0 * way / way.norm()
    found = neighbours(torch.cat([one, other]))
    assert found[0].item() == pytest.approx(0.5, abs=1e-4) and found[1].item() == pytest.approx(0.0, abs=1e-4)
    assert exposed(torch.cat([one, other])).tolist() == [1.0, 1.0]


def test_the_core_of_ubiquitin_is_buried() -> None:
    structure = read_backbone(UBIQUITIN)
    assert structure.letters.startswith("MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG")
    share = dict(zip(structure.labels, exposed(structure.atoms).tolist()))
    assert max(share[f"A{number}"] for number in (3, 17, 26, 30, 50, 56, 67)) < 0.4  # I3 V17 V26 I30 L50 L56 L67
    assert min(share[f"A{number}"] for number in (11, 24, 39, 52, 60, 74)) > 0.9


def test_greasy_letters_count_where_they_are_seen() -> None:
    reward, structure = BackboneSurface(str(UBIQUITIN)), read_backbone(UBIQUITIN)
    share = exposed(structure.atoms)
    some = "G" * 7 + "L" + "G" * 21 + "W" + "G" * 46
    wanted = -(share[7] + share[29]) / share.sum()
    scores = reward(["G" * 76, "L" * 76, some, "GG"])
    assert scores[:3] == pytest.approx([0.0, -1.0, wanted.item()], abs=1e-5) and math.isnan(scores[3])
    part = BackboneSurface(str(UBIQUITIN), exclude=("A73-76",))
    assert part(["L" * 72]) == pytest.approx([-1.0]) and part.version != reward.version
    with pytest.raises(ConfigError, match="no residue of chains B"):
        BackboneSurface(str(UBIQUITIN), chains=("B",))
