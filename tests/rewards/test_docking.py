"""Docking into receptors made by hand, where the best energy is known."""

import gzip
import math
from pathlib import Path

import cloudpickle
import pytest

pytest.importorskip("rdkit")
pytest.importorskip("vina")
pytest.importorskip("meeko")
pytest.importorskip("gemmi")

from rdkit import Chem

from biotilt.errors import ConfigError
from biotilt.rewards import NotScored
from biotilt.rewards.molecule.box import box_of_file, box_of_ligand
from biotilt.rewards.molecule.docking import Vina
from biotilt.rewards.molecule.ligand import NotDockable, ligand, protonated
from biotilt.rewards.molecule.properties import parse

CENTRE = (6.0, -3.0, 1.5)
Point = tuple[float, float, float]


def pdbqt(atoms: list[tuple[Point, str]]) -> str:
    lines = [
        f"ATOM  {i:5d}  C   ALA A{i:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00    {0.0:6.3f} {kind}"
        for i, ((x, y, z), kind) in enumerate(atoms, 1)
    ]
    return "\n".join(lines) + "\n"


def octahedron(radius: float, kind: str = "C ") -> str:
    x, y, z = CENTRE
    arms = [(radius, 0, 0), (-radius, 0, 0), (0, radius, 0), (0, -radius, 0), (0, 0, radius), (0, 0, -radius)]
    return pdbqt([((x + a, y + b, z + c), kind) for a, b, c in arms])


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    path = tmp_path / "shell.pdbqt"
    path.write_text(octahedron(4.3))
    return path


def vina(path: Path, **options) -> Vina:
    return Vina(**({"receptor": str(path), "center": CENTRE, "size": (9, 9, 9), "max_evals": 2000} | options))


def carbon_pair(distance: float) -> float:
    """The energy of two hydrophobic carbons, kcal/mol (Trott and Olson 2010, table 1 and eq. 4 to 8)."""
    d = distance - 2 * 1.9
    gauss = -0.0356 * math.exp(-((d / 0.5) ** 2)) - 0.00516 * math.exp(-(((d - 3) / 2) ** 2))
    hydrophobic = -0.0351 * min(1.0, max(0.0, 1.5 - d))
    return gauss + 0.840 * min(d, 0.0) ** 2 + hydrophobic


def test_methane_in_a_shell_of_carbons_has_the_energy_of_the_formula(shell: Path) -> None:
    # the best place is found on a grid of 0.1 Å: not in the middle, where the carbons are 4.3 Å away
    steps = [0.1 * i for i in range(-12, 13)]
    arms = [(4.3, 0, 0), (-4.3, 0, 0), (0, 4.3, 0), (0, -4.3, 0), (0, 0, 4.3), (0, 0, -4.3)]
    best = min(sum(carbon_pair(math.dist(arm, (a, b, c))) for arm in arms) for a in steps for b in steps for c in steps)
    found = vina(shell, max_evals=0)(["C"])[0]
    assert found == pytest.approx(-best, abs=0.02)  # Vina reads its maps between points 0.375 Å apart
    assert found > 0.25


def test_a_ligand_that_fits_nowhere_scores_zero(tmp_path: Path) -> None:
    path = tmp_path / "full.pdbqt"
    grid = [(6 + a, -3 + b, 1.5 + c) for a in range(-4, 5, 2) for b in range(-4, 5, 2) for c in range(-4, 5, 2)]
    path.write_text(pdbqt([(place, "C ") for place in grid]))
    assert vina(path, size=(6, 6, 6))(["c1ccccc1"]) == [0.0]


def test_scores_repeat_in_any_order_and_process(shell: Path) -> None:
    reward = vina(shell)
    designs = ["CCO", "c1ccccc1O", "CCN"]
    forward = reward(designs)
    assert reward(designs[::-1]) == forward[::-1]
    copy = cloudpickle.loads(cloudpickle.dumps(reward))
    shell.unlink()  # the worker need not have the file
    assert copy(designs) == forward
    assert copy.version == reward.version
    assert len(set(forward)) == 3
    assert reward.batched is False


def test_poses_are_sorted_and_lie_in_the_box(shell: Path) -> None:
    reward = vina(shell, poses=3, max_evals=0)
    docked = reward.dock("CCCO")
    assert list(docked.energies) == sorted(docked.energies)
    assert 1 <= len(docked.energies) <= 3
    assert [-docked.energies[0]] == [pytest.approx(reward(["CCCO"])[0])]
    assert docked.pdbqt.count("MODEL") == len(docked.energies)
    poses = [Chem.MolFromMolBlock(block) for block in docked.sdf.split("$$$$\n")[: len(docked.energies)]]
    for pose in poses:
        assert Chem.MolToSmiles(pose) == "CCCO"
        for place in pose.GetConformer().GetPositions():
            assert all(abs(x - c) < 4.5 + 0.5 for x, c in zip(place, CENTRE))


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "the design is empty"),
        ("C1CC", "the design is not a valid molecule"),
        ("CC.O", "the design is of several parts"),
        ("C" * 61, "61 heavy atoms, more than max_atoms = 60"),
        ("C" * 30, "rotatable bonds, more than max_torsions = 20"),
        ("[U]", "Meeko cannot prepare it"),
        ("CB(O)O", "Vina: "),
    ],
)
def test_what_cannot_be_docked_is_not_scored(shell: Path, smiles: str, reason: str) -> None:
    score, fine = vina(shell)([smiles, "C"])
    assert isinstance(score, NotScored)
    assert reason in score.reason
    assert "\n" not in score.reason
    assert fine > 0


# what each is at pH 7.4 by its pKa, from textbooks
CHARGED = {
    "CC(=O)O": "CC(=O)[O-]",
    "CCN": "CC[NH3+]",
    "CN(C)C": "C[NH+](C)C",
    "C1CNCCN1": "C1C[NH2+]CCN1",  # pKa 9.7 and 5.3: one charge
    "NCCCCN": "[NH3+]CCCC[NH3+]",  # 10.8 and 9.6: two
    "Nc1ccccc1": "Nc1ccccc1",
    "CC(N)=O": "CC(N)=O",
    "NC(=O)CN": "NC(=O)C[NH3+]",
    "CS(N)(=O)=O": "CS(N)(=O)=O",
    "CS(=O)(=O)NC(C)=O": "CC(=O)[N-]S(C)(=O)=O",
    "c1ccncc1": "c1ccncc1",
    "c1c[nH]cn1": "c1c[nH]cn1",
    "CNC(=N)N": "CNC(N)=[NH2+]",
    "N=C(N)c1ccccc1": "NC(=[NH2+])c1ccccc1",
    "CC(=O)NC(=N)N": "CC(=O)NC(=N)N",
    "Cc1nnn[nH]1": "Cc1nnn[n-]1",
    "COP(=O)(O)O": "COP(=O)([O-])O",
    "FC(F)(F)CN": "NCC(F)(F)F",  # 5.7
    "Oc1ccccc1": "Oc1ccccc1",
    "NCC(=O)O": "[NH3+]CC(=O)[O-]",
    "C[N+](C)(C)C": "C[N+](C)(C)C",
    "C[N+](=O)[O-]": "C[N+](=O)[O-]",
}


@pytest.mark.parametrize("smiles", CHARGED)
def test_charges_at_ph_7(smiles: str) -> None:
    assert Chem.MolToSmiles(protonated(parse(smiles), "ph7")) == Chem.CanonSmiles(CHARGED[smiles])


def test_other_charges_on_request() -> None:
    zwitterion = parse("[NH3+]CC(=O)[O-]")
    assert Chem.MolToSmiles(protonated(zwitterion, "neutral")) == "NCC(=O)O"
    assert Chem.MolToSmiles(protonated(parse("NCC(=O)O"), "as_given")) == "NCC(=O)O"
    assert Chem.MolToSmiles(protonated(zwitterion, "ph7")) == "[NH3+]CC(=O)[O-]"


def test_ligands_carry_their_charge_and_repeat() -> None:
    acid = ligand("CC(=O)O", "ph7", 1, 60, 20)
    assert acid.count(" OA") == 2
    assert acid.count(" HD") == 0
    assert ligand("CC(=O)O", "neutral", 1, 60, 20).count(" HD") == 1
    assert ligand("CCCCO", "ph7", 1, 60, 20) == ligand("CCCCO", "ph7", 1, 60, 20)
    assert ligand("CCCCO", "ph7", 1, 60, 20) != ligand("CCCCO", "ph7", 2, 60, 20)
    with pytest.raises(NotDockable, match="2 heavy atoms, more than max_atoms = 1"):
        ligand("CC", "ph7", 1, 1, 20)


def test_a_box_is_drawn_around_a_ligand_or_read(tmp_path: Path, shell: Path) -> None:
    crystal = tmp_path / "ligand.pdb"
    crystal.write_text(
        "HETATM    1  C1  LIG A   1       5.000  -4.000   0.500  1.00  0.00           C\n"
        "HETATM    2  O1  LIG A   1       7.000  -2.000   3.500  1.00  0.00           O\n"
    )
    assert box_of_ligand(str(crystal), 2.5) == ((6.0, -3.0, 2.0), (7.0, 7.0, 8.0))
    pose = tmp_path / "ligand.pdbqt"
    pose.write_text(pdbqt([((5, -4, 0.5), "C "), ((7, -2, 3.5), "OA")]))
    assert box_of_ligand(str(pose), 2.5) == box_of_ligand(str(crystal), 2.5)
    conf = tmp_path / "conf.txt"
    conf.write_text("center_x = 6\ncenter_y = -3.0\ncenter_z = 2\n\nsize_x = 7\nsize_y = 7.0\nsize_z = 8\n")
    assert box_of_file(str(conf)) == ((6.0, -3.0, 2.0), (7.0, 7.0, 8.0))
    one, two, three = (
        Vina(receptor=str(shell), **box)  # type: ignore[arg-type]
        for box in (
            {"ligand": str(crystal), "padding": 2.5},
            {"box": str(conf)},
            {"center": (6, -3, 2), "size": (7, 7, 8)},
        )
    )
    assert one.version == two.version == three.version


def test_versions_know_receptor_box_and_search(tmp_path: Path, shell: Path) -> None:
    packed = tmp_path / "shell.pdbqt.gz"
    packed.write_bytes(gzip.compress(shell.read_bytes()))
    other = tmp_path / "other.pdbqt"
    other.write_text(octahedron(4.2))
    assert vina(packed).version == vina(shell).version
    versions = {
        vina(shell).version, vina(other).version, vina(shell, size=(9, 9, 8)).version, vina(shell, seed=2).version,
        vina(shell, exhaustiveness=2).version, vina(shell, max_evals=3000).version,
        vina(shell, protonation="neutral").version, vina(shell, max_atoms=50).version,
    }  # fmt: skip
    assert len(versions) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"receptor": ""}, "no receptor is given; name a .pdbqt file. public ones .*github.com/dockstring"),
        ({"receptor": "nowhere.pdbqt"}, "nowhere.pdbqt does not exist"),
        (
            {"center": (100.0, 0.0, 0.0)},
            r"no atom of the receptor lies in the box around \[100.0, 0.0, 0.0\]; its atoms",
        ),
        ({"size": None}, "center and size go together"),
        ({"box": "conf.txt"}, "give the box once"),
        ({"center": None, "size": None}, "give the box once"),
        ({"size": (9, 9, 0)}, "sides must be above 0 and at most 120"),
        ({"center": (1, 2)}, "center has too few values"),
        ({"exhaustiveness": 0}, "exhaustiveness must be ≥ 1, got 0"),
        ({"seed": 0}, "seed must be ≥ 1, got 0"),
        ({"padding": -1.0}, "padding must be ≥ 0, got -1"),
        ({"protonation": "ph"}, 'protonation: unknown choice "ph"; did you mean "ph7"'),
    ],
)
def test_options_that_cannot_be(shell: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vina(shell, **options)
