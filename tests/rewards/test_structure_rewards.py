from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import ideal_structures as ideal
import numpy as np
import pytest

from biotilt.errors import ConfigError
from biotilt.rewards.generic.combine import Sum
from biotilt.rewards.protein.pdb import read_pdb, sequence_of
from biotilt.rewards.protein.structure import (
    PLDDT,
    PTM,
    FoldContent,
    Globularity,
    HydrophobicSurface,
    InterfacePTM,
    ReferenceRMSD,
    Symmetry,
    TMScore,
    radius_of_gyration,
)

pytest.importorskip("biotite")
REAL = Path(__file__).parents[3] / "shared/data/pdb"
needs_pdb = pytest.mark.skipif(not REAL.is_dir(), reason=f"real structures are not at {REAL}")


def stored(tmp_path: Path, *structures) -> dict[str, str]:
    """Options that find these (sequence, places) in a folder of PDB files."""
    folder = tmp_path / f"stored{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    for i, (sequence, places) in enumerate(structures):
        ideal.write_pdb(folder / f"{i}.pdb", ideal.atoms_of(sequence, places))
    return {"model": "pdb", "path": str(folder)}


def test_contents_of_an_ideal_helix_and_strand(tmp_path):
    options = stored(tmp_path, ("A" * 20, ideal.helix(20)), ("V" * 14, ideal.strand(14)))
    alpha, beta = FoldContent(which="alpha", **options), FoldContent(which="beta", **options)
    assert alpha(["A" * 20])[0] >= 0.9 and beta(["A" * 20]) == [0.0]
    assert beta(["V" * 14])[0] > 0.7 and alpha(["V" * 14]) == [0.0]


def test_gyration_of_a_line_and_of_a_globule(tmp_path):
    line = np.outer(np.arange(40), [3.8, 0, 0])
    rod = 3.8 * math.sqrt((40**2 - 1) / 12)
    assert radius_of_gyration(line) == pytest.approx(rod)
    options = stored(tmp_path, ("G" * 40, line), ("A" * 40, line / 10))
    expected = 1 - rod / (2.2 * 40**0.38)
    assert expected < -3
    assert Globularity(**options)(["G" * 40, "A" * 40]) == pytest.approx([expected, 0.0], abs=1e-3)


def test_a_propeller_is_symmetric_until_a_blade_moves(tmp_path):
    random = np.random.default_rng(0)
    blade = random.normal(size=(9, 3)) * 4 + [12.0, 0, 0]
    turn = ideal.rotation(np.array([0.0, 0, 1.0]), 120.0)
    places = np.concatenate([blade, blade @ turn, blade @ turn @ turn])
    helical = np.concatenate([blade, blade @ turn + [0, 0, 10.0], blade @ turn @ turn + [0, 0, 20.0]])
    options = stored(tmp_path, ("A" * 29, np.concatenate([places, places[:2]])), ("G" * 27, helical))
    exact, screw = Symmetry(copies=3, **options)(["A" * 29, "G" * 27])  # two residues are left over in the first
    assert exact == pytest.approx(0.0, abs=2e-3)
    # a screw is no C3: the third blade cannot come back; the axis alone costs √(mean (10, 10, −20)²) = √200 Å at most
    assert -math.sqrt(200) - 1e-3 < screw < -5
    assert Symmetry(copies=2, **options)(["A" * 29])[0] < -3
    from scipy.spatial.transform import Rotation

    centred = helical - helical.mean(0)
    _, rssd = Rotation.align_vectors(np.roll(centred, -9, axis=0), centred)
    assert screw == pytest.approx(-rssd / math.sqrt(27), abs=2e-3)


def test_stretches_may_be_too_short(tmp_path):
    options = stored(tmp_path, ("AAAAA", ideal.helix(5)))
    (score,) = Symmetry(copies=2, **options)(["AAAAA"])
    assert math.isnan(score) and "too few" in score.reason


def test_surface_of_residues_far_apart(tmp_path):
    # N, Cα and C of every residue are 100 Å from all others: each is a whole sphere, of one size for G, V and L
    places = np.arange(5 * 3)[:, None] * [100.0, 0, 0]
    atoms = ideal.atoms_of("GVGLG", places.reshape(5, 3, 3), names=("N", "CA", "C"))
    (tmp_path / "far").mkdir()
    ideal.write_pdb(tmp_path / "far" / "x.pdb", atoms)
    scores = HydrophobicSurface(model="pdb", path=str(tmp_path / "far"))(["GVGLG"])
    assert scores == pytest.approx([-0.4], abs=1e-6)


def test_alpha_carbons_alone_have_no_surface(tmp_path):
    (score,) = HydrophobicSurface(**stored(tmp_path, ("MKV", ideal.helix(3))))(["MKV"])
    assert math.isnan(score) and "side chains" in score.reason


def test_likeness_to_a_reference(tmp_path):
    square = np.array([[10.0, 0, 0], [0, 10, 0], [-10, 0, 0], [0, -10, 0]])
    lifted = square + np.array([[0, 0, 0.3], [0, 0, -0.3], [0, 0, 0.3], [0, 0, -0.3]])
    moved = lifted @ ideal.rotation(np.array([1.0, 1.0, 0.2]), 77.0) + 3.0
    options = stored(tmp_path, ("MKVA", moved), ("MKVG", square + 1.0), ("MKV", square[:3]))
    two = ideal.atoms_of("AAA", ideal.helix(3)) + ideal.atoms_of("WWWW", square, "B")
    reference = str(ideal.write_pdb(tmp_path / "wanted.pdb", two))
    scores = ReferenceRMSD(reference=reference, chain="B", **options)(["MKVA", "MKVG", "MKV"])
    assert scores[:2] == pytest.approx([-0.3, 0.0], abs=2e-3)
    assert math.isnan(scores[2]) and scores[2].reason == "the structure has 3 residues, and the reference 4"
    # d₀ of a short chain is 0.5 Å, and the square is 0.3 Å away at every corner
    assert TMScore(reference=reference, chain="B", **options)(["MKVG"]) == pytest.approx([1.0], abs=1e-3)
    assert TMScore(reference=reference, chain="B", **options)(["MKVA"])[0] >= 1 / (1 + 0.36) - 1e-3


def test_references_and_options_are_checked(tmp_path):
    options = stored(tmp_path, ("MKV", ideal.helix(3)))
    wanted = str(next(Path(options["path"]).glob("*.pdb")))
    with pytest.raises(ConfigError, match="is not a file"):
        ReferenceRMSD(reference="none.pdb", **options)
    with pytest.raises(ConfigError, match='no chain "Z"'):
        TMScore(reference=wanted, chain="Z", **options)
    with pytest.raises(ConfigError, match="copies"):
        Symmetry(copies=1, **options)
    with pytest.raises(ConfigError, match="partner"):
        InterfacePTM(partner="", **options)
    with pytest.raises(ConfigError, match="unknown choice"):
        FoldContent(which="gamma", **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match='did you mean "pdb"'):
        PLDDT(model="pd", path=options["path"])  # pyright: ignore[reportArgumentType]


def test_what_a_source_does_not_give_is_not_scored(tmp_path):
    options = stored(tmp_path, ("MKV", ideal.helix(3)))
    for reward, reason in ((PLDDT(**options), "no confidences"), (PTM(**options), "no pTM"),
                           (Globularity(**options), "no PDB file")):  # fmt: skip
        (score,) = reward(["MKVW" if reason == "no PDB file" else "MKV"])
        assert math.isnan(score) and reason in score.reason
    (score,) = PTM(**options)([""])
    assert score.reason == "the design is empty"


def test_versions_follow_options_and_contents_but_not_places(tmp_path):
    one = stored(tmp_path, ("MKV", ideal.helix(3)))
    other = stored(tmp_path, ("MKV", ideal.helix(3) * 1.1))
    copy = tmp_path / "copied"
    shutil.copytree(one["path"], copy)
    assert Globularity(**one).version == Globularity(**one | {"path": str(copy)}).version
    versions = {Globularity(**one).version, Globularity(**other).version, FoldContent(**one).version,
                FoldContent(which="alpha", **one).version, Symmetry(copies=2, **one).version}  # fmt: skip
    assert len(versions) == 5
    a, b = (str(ideal.write_pdb(tmp_path / f"{k}.pdb", ideal.atoms_of("MKV", ideal.helix(3) * k))) for k in (1, 2))
    reward = TMScore(reference=a, **one)
    before = reward.version
    reward(["MKV"])
    assert reward.version == before != TMScore(reference=b, **one).version


def test_a_sum_folds_a_design_once(tmp_path):
    source = ideal.write_pdb(tmp_path / "x.pdb", ideal.atoms_of("MKVAGW", ideal.helix(6), plddt=60.0))
    log = tmp_path / "log"
    code = "import shutil, sys; open(sys.argv[1], 'a').write('x'); shutil.copy(*sys.argv[2:4])"
    options = {"model": "program",
               "program": [sys.executable, "-c", code, str(log), str(source), "{pdb}", "{fasta}"]}  # fmt: skip
    total = Sum([PLDDT(**options), FoldContent(which="alpha", **options)], [1.0, 2.0])
    expected = 0.6 + 2 * FoldContent(which="alpha", **options)(["MKVAGW"])[0]
    assert total(["MKVAGW"]) == pytest.approx([expected])
    assert log.read_text() == "x"


@needs_pdb
def test_real_proteins(tmp_path):
    for name in ("1aki", "PDL1", "3mx7", "1l2y"):
        shutil.copy(REAL / f"{name}.pdb.gz", tmp_path)
    options = {"model": "pdb", "path": str(tmp_path)}
    sequences = {name: sequence_of(read_pdb(tmp_path / f"{name}.pdb.gz")) for name in ("1aki", "PDL1", "3mx7", "1l2y")}
    lysozyme, immunoglobulin = sequences["1aki"], sequences["PDL1"]
    assert lysozyme.startswith("KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNF") and len(lysozyme) == 129
    alpha, beta = FoldContent(which="alpha", **options), FoldContent(which="beta", **options)
    assert alpha([lysozyme])[0] > 0.25 > beta([lysozyme])[0]
    assert beta([immunoglobulin])[0] > 0.3 > alpha([immunoglobulin])[0]
    assert alpha([sequences["1l2y"]])[0] == pytest.approx(8 / 20)  # Trp-cage, as in biotite's documentation
    assert Globularity(**options)([lysozyme])[0] > -0.05
    assert -0.35 < HydrophobicSurface(**options)([lysozyme])[0] < -0.03
    reference = str(REAL / "1aki.pdb.gz")
    assert TMScore(reference=reference, **options)([lysozyme]) == pytest.approx([1.0], abs=1e-6)
    assert ReferenceRMSD(reference=reference, **options)([lysozyme]) == pytest.approx([0.0], abs=1e-5)
    assert 0.05 < TMScore(reference=reference, **options)([sequences["3mx7"]])[0] < 0.5  # another fold
