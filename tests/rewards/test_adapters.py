"""Small objects that follow the call conventions of poli and of MolScore, as their documentation gives them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest

from biotilt.errors import ConfigError, RewardError
from biotilt.rewards.generic.adapters import from_molscore, from_poli


class Box:
    """A black box of poli: an array of texts `(B, L)` or `(B, 1)` in, `(B, 1)` out; it remembers what it was given."""

    def __init__(self, **info):
        self.info = SimpleNamespace(**{"name": "adenines", "deterministic": True, "alphabet": ["A", "C", "-"], **info})
        self.seen: list[np.ndarray] = []

    def __call__(self, x, context=None):
        assert isinstance(x, np.ndarray) and x.dtype.kind == "U" and x.ndim == 2
        self.seen.append(x)
        return np.array([["".join(row).count("A")] for row in x], dtype=float)


def test_whole_texts_where_sequences_are_not_aligned():
    box = Box(aligned=False)
    reward = from_poli(box)
    assert reward(["AAC", "C", "AAAAA"]) == [2.0, 0.0, 5.0]
    assert box.seen[0].tolist() == [["AAC"], ["C"], ["AAAAA"]]
    assert (reward.name, reward.differentiable) == ("adenines", False)
    assert reward.deterministic  # type: ignore[attr-defined]


def test_single_letters_where_they_are():
    box = Box(aligned=True)
    assert from_poli(box)(["AAC", "CAA"]) == [2.0, 2.0]
    assert box.seen[0].tolist() == [["A", "A", "C"], ["C", "A", "A"]]
    whole = Box(aligned=True)
    from_poli(whole, split=False)(["AAC"])
    assert whole.seen[0].shape == (1, 1)


def test_shorter_designs_are_padded_with_the_boxs_token():
    box = Box(aligned=True, padding_token="-", max_sequence_length=4)
    assert from_poli(box)(["AAC", "A"]) == [2.0, 1.0]
    assert box.seen[0].tolist() == [["A", "A", "C"], ["A", "-", "-"]]
    with pytest.raises(RewardError, match="no padding token"):
        from_poli(Box(aligned=True, padding_token=""))(["AAC", "A"])


def test_designs_that_the_box_cannot_take_are_not_scored_and_the_rest_is():
    box = Box(aligned=True, padding_token="-", max_sequence_length=3)
    scores = from_poli(box)(["AC", "AAAA", "AG", "AAA"])
    assert (scores[0], scores[3]) == (1.0, 3.0)
    assert [getattr(score, "reason", None) for score in scores] == [
        None, "the black box takes at most 3 letters, not 4", "the black box does not know the letter 'G'", None,
    ]  # fmt: skip
    exact = Box(aligned=True, fixed_length=True, max_sequence_length=3)
    short, right = from_poli(exact)(["AC", "ACC"])
    assert getattr(short, "reason", "") == "the black box takes 3 letters, not 2" and right == 1.0
    assert from_poli(exact)(["A"])[0] != 0.0 and len(exact.seen) == 1  # nothing to ask: it is not asked


def test_a_length_without_end_is_no_limit():
    """poli writes inf for problems of any length, also where it wants one length."""
    box = Box(aligned=True, fixed_length=True, max_sequence_length=np.inf, alphabet=None)
    assert from_poli(box)(["AAGT"]) == [2.0]


def test_infeasible_and_unscored_numbers_pass():
    values = iter([np.array([[-np.inf], [np.nan], [2.0]])])
    scores = from_poli(lambda x: next(values), name="ehrlich")(["A", "C", "G"])
    assert scores[0] == -math.inf and math.isnan(scores[1]) and scores[2] == 2.0


def test_noise_is_declared_and_a_column_may_be_flat():
    reward = from_poli(Box(deterministic=False))
    assert not reward.deterministic  # type: ignore[attr-defined]
    assert from_poli(lambda x: np.array([1.0, 2.0]), name="flat")(["A", "C"]) == [1.0, 2.0]


def test_several_numbers_a_design_are_refused():
    with pytest.raises(RewardError, match=r'"two" returned shape \(2, 2\) for 2 designs'):
        from_poli(lambda x: np.ones((2, 2)), name="two")(["A", "C"])
    with pytest.raises(ConfigError, match="SimpleNamespace cannot be called"):
        from_poli(SimpleNamespace())  # type: ignore[arg-type]


def test_name_and_version_of_a_box():
    assert from_poli(Box(), version="1").version != from_poli(Box(), version="2").version
    assert from_poli(Box(aligned=True)).version != from_poli(Box(aligned=False)).version
    assert from_poli(Box(), units="nM").units == "nM"  # type: ignore[attr-defined]
    assert from_poli(Box(), name="other").name == "other"


class Docking:
    """A scoring function of MolScore: dictionaries with `smiles` and `<prefix>_<metric>`; 0.0 for what fails."""

    prefix = "vina"

    def __call__(self, smiles, directory, file_names=None, **kwargs):
        self.directory = directory
        return [
            {"smiles": s, "vina_docking_score": 0.0 if "X" in s else -2.0 * len(s), "vina_pose": len(s)} for s in smiles
        ]


def test_all_entries_of_a_scorer_from_one_call():
    """Texts are no columns; `failure` and a row that is left out count for each entry."""
    asked = []

    def scorer(smiles):
        asked.append(smiles)
        rows = [{"smiles": s, "pose": "x.sdf", "score": -len(s), "charge": 0.0} for s in smiles if s != "N"]
        return rows[::-1]

    source = from_molscore(scorer, name="dock", failure=-3.0).source()
    first, second, left_out = source(["CC", "CCO", "N"])
    assert (first, second["charge"], second["score"].reason) == (
        {"score": -2.0, "charge": 0.0}, 0.0, "the scorer gave -3, which it gives for what it cannot score",
    )  # fmt: skip
    assert left_out.reason == "the scorer left it out" and len(asked) == 1
    assert source.version != from_molscore(scorer, name="dock").source().version


def test_a_scoring_function_of_molscore():
    scorer = Docking()
    reward = from_molscore(
        scorer, key="vina_docking_score", direction="minimise", failure=0.0, units="kcal/mol", directory="runs"
    )
    good, bad = reward(["CCO", "X"])
    assert good == 6.0 and scorer.directory == "runs"
    assert getattr(bad, "reason", "") == "the scorer gave 0, which it gives for what it cannot score"
    assert (reward.name, reward.units) == ("vina_docking_score", "−kcal/mol")  # type: ignore[attr-defined]
    kept = from_molscore(scorer, key="vina_docking_score", directory="runs")
    assert kept(["X"]) == [0.0]  # unless it is said that 0 is a failure, it is a score


def test_results_in_another_order_or_with_gaps_go_to_their_designs():
    table = {"CC": 1.0, "O": 2.0}
    reward = from_molscore(lambda smiles: [{"smiles": s, "x": table[s]} for s in ("O", "CC")], name="x")
    first, missing, last = reward(["CC", "N", "O"])
    assert (first, last) == (1.0, 2.0) and getattr(missing, "reason", "") == "the scorer left it out"


def test_a_scorer_that_rewrites_smiles_is_read_in_order():
    reward = from_molscore(lambda smiles: [{"smiles": s.lower(), "x": len(s)} for s in smiles], name="x")
    assert reward(["CCO", "C"]) == [3.0, 1.0]
    with pytest.raises(RewardError, match="returned 1 scores for 2 designs"):
        from_molscore(lambda smiles: [{"smiles": "c", "x": 1.0}], name="x")(["CCO", "C"])


def test_the_manager_itself_returns_numbers():
    manager = SimpleNamespace(score=lambda smiles, flt=False: np.array([len(s) / 10 for s in smiles]))
    assert from_molscore(manager, name="qed")(["CCO", "C"]) == [0.3, 0.1]
    assert from_molscore(lambda smiles: [1, None], name="x")(["A", "B"])[0] == 1.0


@pytest.mark.parametrize(
    ("scorer", "options", "error", "message"),
    [
        (SimpleNamespace(), {}, ConfigError, "cannot be called and has no method score"),
        (Docking, {}, ConfigError, "Docking is a class"),
        (Docking(), {"directory": "."}, RewardError, "several entries in a result with"),
        (Docking(), {"directory": ".", "key": "vina_score"}, RewardError, 'no entry "vina_score" in a result with'),
        (lambda smiles: None, {}, RewardError, "returned NoneType, not a list"),
        (lambda smiles: [1.0, 2.0], {}, RewardError, "returned 2 scores for 1 designs"),
    ],
)
def test_what_cannot_be_a_score_is_named(scorer, options, error, message):
    with pytest.raises(error, match=message):
        from_molscore(scorer, **options)(["C"])


def test_options_are_part_of_the_version():
    one = from_molscore(Docking(), key="a", box=1)
    versions = [
        one.version,
        from_molscore(Docking(), key="a", box=2).version,
        from_molscore(Docking(), key="b", box=1).version,
    ]
    versions += [from_molscore(Docking(), key="a", box=1, failure=0.0).version]
    versions += [from_molscore(Docking(), key="a", box=1, version="2").version]
    assert len(set(versions)) == 5
    assert from_molscore(Docking(), key="a", box=1).version == one.version


def test_adapted_objects_can_be_sent_to_a_worker():
    box = cloudpickle.loads(cloudpickle.dumps(from_poli(Box(), units="x")))
    assert box(["AAC"]) == [2.0]
