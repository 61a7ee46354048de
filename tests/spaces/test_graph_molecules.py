"""The space of graphs: molecules to states and back, and what is done to states that say no molecule."""

import json
import pickle

import pytest
import torch

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from biotilt.core.space import Record
from biotilt.errors import ConfigError, DataError
from biotilt.evaluation.mending import mending_measures, mending_told
from biotilt.spaces import DNA, build_space, read_table
from biotilt.spaces.bonds import charges, mend, parts
from biotilt.spaces.graphs import Graphs
from biotilt.spaces.letters import Letters
from biotilt.testing.contracts import check_measure

SMALL = [
    "C", "O", "C#N", "CC(=O)N", "C1CC1", "OC1C2CC1O2", "c1cc[nH]c1", "CC#CC=O", "FC(F)(F)C", "N=C1NC=NO1",
    "c1cnccn1", "C1=CC=CC=C1", "O=C1C=CC=CO1", "CN(C)C=O", "OCC(O)C(O)CO",
]  # fmt: skip
ATOMS = ("C", "N", "O", "F")


def state_of(space: Graphs, atoms: str, bonds: dict[tuple[int, int], float]) -> torch.Tensor:
    """Return a state written by hand: atoms by their letters, bonds by the nodes that they join."""
    state = torch.zeros(space.size)
    for node, atom in enumerate(atoms):
        state[node * len(space.atoms) + space.atoms.index(atom)] = 1.0
    pairs = [(i, j) for i in range(space.nodes) for j in range(i + 1, space.nodes)]
    for place, pair in enumerate(pairs):
        state[space.nodes * len(space.atoms) + place] = bonds.get(pair, 0.0)
    state[-1] = len(atoms)
    return state


@pytest.fixture(scope="module")
def space() -> Graphs:
    return Graphs(ATOMS, 9)


def test_ethanol_and_benzene_by_hand(space: Graphs) -> None:
    assert space.size == 9 * 4 + 36 + 1
    ethanol, benzene = space.encode(["OCC", "c1ccccc1"])
    assert torch.equal(ethanol, state_of(space, "CCO", {(0, 1): 1, (1, 2): 1}))
    single = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)}
    assert benzene[-1] == 6 and benzene[:36].view(9, 4)[:6].tolist() == [[1, 0, 0, 0]] * 6
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    orders = dict(zip(pairs, benzene[36:-1].tolist()))
    assert {pair for pair, order in orders.items() if order} == single
    for node in range(6):  # every carbon of a kekulised ring has one double and one single bond
        assert sorted(order for pair, order in orders.items() if node in pair and order) == [1, 2]
    assert space.decode(torch.stack([ethanol, benzene])) == ["CCO", "c1ccccc1"]


def test_molecules_come_back_in_any_order_of_their_atoms(space: Graphs) -> None:
    assert space.decode(space.encode(SMALL)) == [Chem.CanonSmiles(smiles) for smiles in SMALL]
    shuffled = [Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 1, randomSeed=3)[0] for smiles in SMALL]
    assert shuffled != SMALL
    assert torch.equal(space.encode(shuffled), space.encode(SMALL))  # one molecule has one state
    state = space.encode(["CC(=O)N"])[0]
    other = state_of(space, "NOCC", {(0, 2): 1, (1, 2): 2, (2, 3): 1})  # the same atoms in another order
    assert not torch.equal(state, other)
    assert space.decode(other[None]) == space.decode(state[None]) == ["CC(N)=O"]


def test_noise_below_half_a_bond_changes_nothing(space: Graphs) -> None:
    states = space.encode(SMALL)
    noise = torch.rand(states.shape, generator=torch.Generator().manual_seed(0)) - 0.5  # within ±0.5
    assert space.decode(states + 0.98 * noise) == space.decode(states)
    beyond = states.clone()
    beyond[:, :36] += 5 * (states[:, :36].view(-1, 9, 4).sum(-1, keepdim=True) == 0).expand(-1, -1, 4).flatten(1)
    assert space.decode(beyond) == space.decode(states)  # nodes that are not there mean nothing


def test_a_carbon_with_five_bonds_loses_one(space: Graphs) -> None:
    # C=C(=O)C: the double bonds are 5 with the single one; the first of the highest becomes single
    state = state_of(space, "CCOC", {(0, 1): 2, (1, 2): 2, (1, 3): 1})
    (design,) = space.decode(state[None])
    assert design == Chem.CanonSmiles("CC(=O)C") and space.mended(design) is True
    assert mend(["C", "C", "O", "C"], [[0, 2, 0, 0], [2, 0, 2, 1], [0, 2, 0, 0], [0, 1, 0, 0]]).orders == [
        [0, 1, 0, 0], [1, 0, 2, 1], [0, 2, 0, 0], [0, 1, 0, 0],
    ]  # fmt: skip


def test_fluorine_between_two_carbons_falls_apart_and_the_larger_part_stays(space: Graphs) -> None:
    (design,) = space.decode(state_of(space, "CFCC", {(0, 1): 1, (1, 2): 1, (2, 3): 1})[None])
    assert design == "CCF" and design.mended and design.parts == 2  # type: ignore[attr-defined]
    assert parts([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) == [[0, 1], [2]]
    (two,) = space.decode(state_of(space, "COCCC", {(0, 1): 1, (2, 3): 1, (3, 4): 1})[None])
    assert two == "CCC" and not space.mended(two) and two.parts == 2  # type: ignore[attr-defined]


def test_nitrogen_with_four_bonds_is_charged_and_with_five_is_mended(space: Graphs) -> None:
    ammonium = state_of(space, "NCCCC", {(0, i): 1 for i in range(1, 5)})
    (design,) = space.decode(ammonium[None])
    assert design == "C[N+](C)(C)C" and space.mended(design) is False
    assert torch.equal(space.encode(["C[N+](C)(C)C"])[0, -1], torch.tensor(5.0))
    (five,) = space.decode(state_of(space, "NCCC", {(0, 1): 2, (0, 2): 2, (0, 3): 1})[None])
    assert five == Chem.CanonSmiles("CN(C)C") and space.mended(five) is True  # down to three, where it has no charge


@pytest.mark.parametrize("smiles", ["C[N+](=O)[O-]", "CN=[N+]=[N-]", "C[N+]#[C-]", "C[N+](C)(C)[O-]", "C=[N+]=[N-]"])
def test_charges_that_balance_are_implied(space: Graphs, smiles: str) -> None:
    assert space.decode(space.encode([smiles])) == [Chem.CanonSmiles(smiles)]


def test_every_design_comes_back_from_its_state(space: Graphs) -> None:
    """A run encodes what it once decoded, as the best of its ledger: the text alone must say it."""
    random = torch.randn(600, space.size, generator=torch.Generator().manual_seed(7))
    random[:, 36:-1] *= 1.2 * (torch.rand(600, 36, generator=torch.Generator().manual_seed(8)) < 0.35)
    random[:, -1] = 1 + torch.arange(600) % 9
    designs = [design for design in space.decode(random) if design]
    assert len(designs) > 500 and any("+" in design for design in designs)
    assert space.decode(space.encode(designs)) == designs


def test_an_amine_on_a_positive_nitrogen_keeps_its_hydrogens() -> None:
    orders = [[0, 1, 1, 1, 1], *[[1, 0, 0, 0, 0]] * 4]
    assert charges(["N", "N", "C", "C", "C"], orders) == [1, 0, 0, 0, 0]
    assert charges(["N", "O", "O", "C", "C"], orders) == [1, -1, 0, 0, 0]  # one partner is enough
    fulminate = [[0, 3, 0], [3, 0, 1], [0, 1, 0]]  # C#N-O: either end would do, and it is the oxygen
    assert charges(["C", "N", "O"], fulminate) == [0, 1, -1]
    assert charges(["O", "N", "C"], [[0, 1, 0], [1, 0, 3], [0, 3, 0]]) == [-1, 1, 0]


@pytest.mark.parametrize("smiles", ["[NH3+]CC(=O)[O-]", "[CH3]", "[13CH3-]"])
def test_charges_that_nothing_implies_are_refused(space: Graphs, smiles: str) -> None:
    with pytest.raises(DataError, match=r"molecule 2 has charges, hydrogens or bonds.*would come back as"):
        space.encode(["CC", smiles])


def test_stereo_is_dropped(space: Graphs) -> None:
    assert space.decode(space.encode(["C[C@H](N)C(=O)O", "F/C=C/F"])) == ["CC(N)C(=O)O", "FC=CF"]


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("C1CC", 'molecule 1 is not valid SMILES: "C1CC"'),
        ("", "molecule 1 is not valid SMILES"),
        ("CC.O", "several parts"),
        ("CCCCCCCCCC", "10 heavy atoms, and at most 9 fit"),
        ("CCS", "has the atom S, which is not among C, N, O, F"),
    ],
)
def test_what_no_graph_holds_is_named(space: Graphs, smiles: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        space.encode([smiles])


def test_impossible_states_are_no_molecules_or_mended_ones(space: Graphs) -> None:
    nothing = torch.zeros(1, space.size)
    assert space.decode(nothing) == [""] and space.mended(space.decode(nothing)[0]) is True
    counted = nothing.clone()
    counted[0, -1] = 12.0  # more nodes than fit, and no bonds: of nine parts the first is kept
    assert space.decode(counted) == ["C"] and space.decode(-counted) == [""]
    random = 3 * torch.randn(300, space.size, generator=torch.Generator().manual_seed(1))
    random[:, -1] = torch.arange(300) % 10
    designs = space.decode(random)
    for design in designs:
        assert (Chem.MolFromSmiles(design) is not None and design == Chem.CanonSmiles(design)) or design == ""
    assert 0 < sum(space.mended(design) is False for design in designs) < 150
    with pytest.raises(DataError, match="not finite"):
        space.decode(torch.full((1, space.size), torch.nan))
    with pytest.raises(DataError, match=r"floats of shape \(B, 73\)"):
        space.decode(torch.zeros(1, 72))


def test_what_is_mended_is_what_rdkit_refuses() -> None:
    """A second route: RDKit on the bonds as they are, with the charge of a nitrogen or oxygen with one bond more."""
    space = Graphs(ATOMS, 4)
    states = torch.randint(0, 3, (400, space.size), generator=torch.Generator().manual_seed(2)).float()
    states[:, 16:22] *= torch.rand(400, 6, generator=torch.Generator().manual_seed(3)) < 0.6
    states[:, -1] = 4
    designs, refused = space.decode(states), []
    for state in states:
        molecule = Chem.RWMol()
        kinds = state[:16].view(4, 4).argmax(-1).tolist()
        orders = torch.zeros(4, 4)
        orders[tuple(torch.triu_indices(4, 4, 1))] = state[16:22]
        for node, kind in enumerate(kinds):
            atom = Chem.Atom(ATOMS[kind])
            bonds = int(orders[node].sum() + orders[:, node].sum())
            atom.SetFormalCharge(int((kind, bonds) in ((1, 4), (2, 3))))
            molecule.AddAtom(atom)
        for i, j in orders.nonzero().tolist():
            molecule.AddBond(i, j, Chem.BondType.values[int(orders[i, j])])
        flags = Chem.SanitizeMol(molecule, Chem.SanitizeFlags.SANITIZE_PROPERTIES, catchErrors=True)
        refused.append(flags != Chem.SanitizeFlags.SANITIZE_NONE)
    assert [space.mended(design) for design in designs] == refused
    assert 40 < sum(refused) < 360


def test_distances_are_tanimoto(space: Graphs) -> None:
    molecules = ["CCO", "CCN", "c1ccccc1C", "CCO"]
    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = [set(make.GetFingerprint(Chem.MolFromSmiles(smiles)).GetOnBits()) for smiles in molecules]
    apart = [[1 - len(a & b) / len(a | b) for b in bits] for a in bits]
    expected = sum(apart[i][j] for i in range(4) for j in range(4)) / 12
    assert space.mean_distance(molecules) == pytest.approx(expected, abs=1e-6)
    nearest = [min(row[j] for j in range(4) if j != i) for i, row in enumerate(apart)]
    assert space.nearest_distances(molecules) == pytest.approx(nearest, abs=1e-6)
    assert space.nearest_distances(["", "CCO", ""]) == [0.0, 1.0, 0.0]


def test_a_design_knows_whether_it_was_mended_and_a_text_does_not(space: Graphs) -> None:
    good, bad = state_of(space, "CO", {(0, 1): 1}), state_of(space, "FO", {(0, 1): 2})
    designs = space.decode(torch.stack([good, bad, good]))
    assert [space.mended(design) for design in designs] == [False, True, False] and space.mended("CO") is None
    (measure,) = mending_measures(space)
    assert measure(designs) == pytest.approx(2 / 3) and measure(["CO", "CC"]) is None
    assert measure([*designs, "CO"]) == pytest.approx(2 / 3)
    assert measure.of_each([*designs, "CO"]) == [1, 0, 1, None]
    assert mending_told(designs, space) == "1 of 3 designs were not valid as drawn and were corrected"
    check_measure(measure, designs[:2])
    dna = Letters(DNA)
    assert mending_measures(dna) == [] and mending_told(["A"], dna) == "" == mending_told(["CO"], space)
    again = pickle.loads(pickle.dumps(designs[1]))  # as a worker of the oracle gets it
    assert again == designs[1] and again.mended and again.parts == designs[1].parts  # type: ignore[attr-defined]


def test_the_space_is_rebuilt_and_its_files_are_read(space: Graphs, tmp_path) -> None:
    assert build_space(json.loads(json.dumps(space.spec()))) == space
    assert Graphs.of_molecules(["CCF", "c1ccoc1", "N"]) == Graphs(("C", "N", "O", "F"), 5)
    space.write(tmp_path / "some.csv", [Record("a", "CCO", {"qed": "0.4"}), Record("b", "C#N")])
    header, rows = read_table(tmp_path / "some.csv")
    assert header == ["name", "sequence", "qed"] and [cells["sequence"] for _, cells in rows] == ["CCO", "C#N"]
    space.write(tmp_path / "some.smi", [Record("a", "CCO")])
    assert (tmp_path / "some.smi").read_text() == "CCO\ta\n"


@pytest.mark.parametrize(
    ("atoms", "nodes", "message"),
    [
        ((), 3, "got 3 nodes and the atoms none"),
        (("C", "C"), 3, "different atoms"),
        (("C",), 0, "nodes ≥ 1"),
        (("Xx",), 2, 'atom "Xx" has no known valence'),
    ],
)
def test_impossible_spaces_are_refused(atoms: tuple[str, ...], nodes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Graphs(atoms, nodes)


def test_a_file_with_unknown_options_is_refused() -> None:
    with pytest.raises(ConfigError, match="space"):
        build_space({"kind": "graphs", "atoms": ["C"], "nodes": 2, "edges": 3})


def test_molecules_that_no_graph_holds_are_sorted_out(space: Graphs) -> None:
    some = ["CCO", "[NH3+]CC(=O)[O-]", "CCCCCCCCCC", "c1ccccc1", "CC.O", "CCS"]
    assert space.fitting(some * 30) == ["CCO", "c1ccccc1"] * 30 and space.fitting([]) == []
    with pytest.raises(DataError, match="not valid SMILES"):
        space.fitting(["CCO", "C1CC"])


def test_sizes_tell_how_many_nodes_how_often(space: Graphs) -> None:
    told = space.sizes(space.encode(["CCO", "CCC", "C", "c1ccccc1"]))
    assert told == {"size": 73, "nodes": 9, "features": 4, "counts": (0.25, 0, 0.5, 0, 0, 0.25, 0, 0, 0)}
