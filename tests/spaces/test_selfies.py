"""The space of SELFIES tokens: molecules to states and back, and scaffolds that stay."""

import json

import pytest
import torch

pytest.importorskip("rdkit")
pytest.importorskip("selfies")

from rdkit import Chem

from biotilt.errors import ConfigError, DataError
from biotilt.spaces import build_space
from biotilt.spaces.selfies import Selfies

DRUGS = [
    "CC(=O)Oc1ccccc1C(=O)O",  # aspirin
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",  # caffeine
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",  # ibuprofen
    "O=C(NCc1ccncc1)c1ccc(F)cc1Cl",
    "N#Cc1ccc(S(=O)(=O)N2CCOCC2)cc1Br",
]


@pytest.fixture(scope="module")
def space() -> Selfies:
    return Selfies.of_molecules(DRUGS, length=40)


def words(space: Selfies, row: torch.Tensor) -> list[str]:
    return [space.symbols[token] for token in row.tolist()]


def test_molecules_come_back_as_canonical_smiles(space: Selfies) -> None:
    tokens = space.encode(DRUGS)
    assert tokens.shape == (5, 40)
    assert tokens.dtype == torch.int8
    assert space.decode(tokens) == [Chem.CanonSmiles(smiles) for smiles in DRUGS]


def test_the_derivation_of_the_grammar_by_hand() -> None:
    # Krenn et al. 2020: [=C] after [F] finds one free valence, so its double bond becomes single
    space = Selfies(("[C]", "[=C]", "[F]", "[Ring1]", "[=Branch1]"), 9)
    c, cc, f, ring, five = 0, 1, 2, 3, 4
    states = torch.full((3, 9), space.pad)
    states[0, :2] = torch.tensor([f, cc])
    states[1, :8] = torch.tensor([c, cc, c, cc, c, cc, ring, five])
    states[2, :4] = torch.tensor([c, f, c, c])  # fluorine takes one bond: what follows is cut off
    assert space.decode(states) == ["CF", "c1ccccc1", "CF"]


def test_pads_are_dropped_wherever_they_stand(space: Selfies) -> None:
    tokens = space.encode(DRUGS[:1])
    used = tokens[0][tokens[0] != space.pad]
    places = torch.randperm(40, generator=torch.Generator().manual_seed(0))[: len(used)].sort().values
    scattered = torch.full((1, 40), space.pad)
    scattered[0, places] = used.long()
    assert not torch.equal(scattered[0, : len(used)], used.long())
    assert space.decode(scattered) == space.decode(tokens)
    assert space.decode(torch.full((1, 40), space.pad)) == [""]


def test_one_molecule_has_one_state_however_it_is_written(space: Selfies) -> None:
    aspirin = space.encode(["O=C(C)Oc1ccccc1C(=O)O", DRUGS[0]])
    assert torch.equal(aspirin[0], aspirin[1])
    propanol = Selfies(("[C]", "[O]"), 4)  # two states of one molecule are one design
    assert set(propanol.decode(torch.tensor([[0, 0, 0, 1], [1, 0, 0, 0]]))) == {"CCCO"}


def test_random_states_are_molecules(space: Selfies) -> None:
    states = torch.randint(len(space.symbols), (400, 40), generator=torch.Generator().manual_seed(3))
    designs = space.decode(states)
    assert all(Chem.MolFromSmiles(design) is not None for design in designs)
    assert designs == [Chem.CanonSmiles(design) for design in designs]


def test_the_space_is_rebuilt_from_json(space: Selfies) -> None:
    assert build_space(json.loads(json.dumps(space.spec()))) == space
    assert space.symbols[:2] == tuple(sorted(space.vocabulary))[:2]
    assert space.symbols[-1] == "-"


@pytest.mark.parametrize(
    ("molecule", "message"),
    [
        ("CCO", None),
        ("C[Si](C)(C)C", r'molecule 2 needs the token "\[Si\]", which is not in the vocabulary: C\[Si\]'),
        ("C" * 41, "molecule 2 has 41 tokens, and at most 40 fit: CCCC"),
        ("C1CC", 'molecule 2 is not valid SMILES: "C1CC"'),
        ("", 'molecule 2 is not valid SMILES: ""'),
        ("CC.O", "molecule 2 is of several parts"),
    ],
)
def test_molecules_that_do_not_fit_are_named(space: Selfies, molecule: str, message: str | None) -> None:
    if message is None:
        assert space.decode(space.encode(["C", molecule])) == ["C", "CCO"]
        return
    with pytest.raises(DataError, match=message):
        space.encode(["C", molecule])


def test_wrong_states_and_vocabularies_are_refused(space: Selfies) -> None:
    state = torch.full((2, 40), space.pad)
    state[1, 4] = space.pad + 1
    with pytest.raises(DataError, match="design 2, column 5: a mask is left, so the design is not finished"):
        space.decode(state)
    with pytest.raises(DataError, match="no molecules to encode"):
        space.encode([])
    for vocabulary, length in [(("[C]", "[C]"), 3), ((), 3), (("[C]",), 0)]:
        with pytest.raises(ConfigError, match="a length ≥ 1 and different tokens"):
            Selfies(vocabulary, length)
    with pytest.raises(ConfigError, match='"C" is no token'):
        Selfies(("C",), 3)


def with_random_tails(space: Selfies, scaffold: str, count: int = 150) -> list[str]:
    held = space.fixed(scaffold, space.length)
    mask, letters = held.mask, held.letters
    assert mask.dtype == torch.bool
    assert letters.dtype == torch.int8
    tails = torch.randint(len(space.symbols), (count, 40), generator=torch.Generator().manual_seed(1))
    return space.decode(torch.where(mask, letters.long(), tails))


@pytest.mark.parametrize("scaffold", ["*c1ccncc1", "c1ccc(F)cc1*", "*C1CCNCC1", "CC(C*)C(=O)O", "N#Cc1ccccc1"])
def test_a_scaffold_keeps_its_atoms_and_bonds_whatever_follows(space: Selfies, scaffold: str) -> None:
    molecule = Chem.MolFromSmiles(scaffold.replace("(C*)", "(C)").replace("*", ""))
    # atoms by element, any bond between them: a pattern made without looking at the space
    atoms = [f"[#{atom.GetAtomicNum()}]" for atom in molecule.GetAtoms()]
    query = Chem.RWMol()
    for atom in atoms:
        query.AddAtom(Chem.AtomFromSmarts(atom))
    for bond in molecule.GetBonds():
        query.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
        query.ReplaceBond(query.GetNumBonds() - 1, Chem.BondFromSmarts("~"))
    designs = with_random_tails(space, scaffold)
    assert all(Chem.MolFromSmiles(design).HasSubstructMatch(query) for design in designs)
    assert len(set(designs)) > 20


def test_a_chain_grows_from_the_atom_at_the_star(space: Selfies) -> None:
    held = space.fixed("Fc1ccc(*)cc1Cl", space.length)
    mask, letters = held.mask, held.letters
    tail = torch.full((40,), space.symbols.index("[O]"))
    tail[int(mask.sum()) + 1 :] = space.pad
    design = space.decode(torch.where(mask, letters.long(), tail)[None])
    assert design == [Chem.CanonSmiles("Fc1ccc(O)cc1Cl")]
    # as written, without a star, the last atom grows
    held = space.fixed("Fc1cccc(Cl)c1", space.length)
    mask, letters = held.mask, held.letters
    tail = torch.full((40,), space.symbols.index("[O]"))
    tail[int(mask.sum()) + 1 :] = space.pad
    assert space.decode(torch.where(mask, letters.long(), tail)[None]) == [Chem.CanonSmiles("Fc1cccc(Cl)c1O")]


STEREO = Selfies(
    (
        *(f"[{bond}{atom}]" for bond in ("", "=", "/", "\\") for atom in "CNOF" if bond + atom != "=F"),
        "[C@H1]", "[C@@H1]", "[Branch1]", "[=Branch1]", "[Ring1]",
    ),
    40,
)  # fmt: skip


@pytest.mark.parametrize(
    ("scaffold", "grown"),
    [
        ("[*:1]CCF", "OCCF"),
        ("CC[*:27]", "CCO"),
        ("[3*]CCF", "OCCF"),
        ("*CC/C=C/C", "OCC/C=C/C"),
        ("*CC/C=C\\C", "OCC/C=C\\C"),
        ("*/C(F)=C/C", "O/C(F)=C/C"),
        ("*/C(F)=C\\C", "O/C(F)=C\\C"),
        ("[*:1]/C(C)=N/O", "O/C(C)=N/O"),
        ("N[C@@H](*)C", "N[C@@H](O)C"),
        ("[*:1][C@@H](N)C", "O[C@@H](N)C"),
        # which side of this bond the growth is on only its own first token can say
        ("*/C=C/C", "OC=CC"),
        ("*/C=C\\C", "OC=CC"),
        ("[*:1]/C=C/CC/C=C/C", "OC=CCC/C=C/C"),
    ],
)
def test_stereo_and_numbered_stars(scaffold: str, grown: str) -> None:
    held = STEREO.fixed(scaffold, STEREO.length)
    mask, letters = held.mask, held.letters
    tail = torch.full((40,), STEREO.symbols.index("[O]"))
    tail[int(mask.sum()) + 1 :] = STEREO.pad
    assert STEREO.decode(torch.where(mask, letters.long(), tail)[None]) == [Chem.CanonSmiles(grown)]


def test_a_bond_whose_stereo_only_the_star_would_tell_needs_no_token_of_stereo(space: Selfies) -> None:
    assert all(symbol[1] not in "/\\" for symbol in space.symbols[:-1])
    held = space.fixed("*/C=C/C", space.length)
    mask, tokens = held.mask, held.letters
    assert [space.symbols[token] for token in tokens[mask]] == ["[C]", "[C]", "[=C]"]


def test_a_ring_token_can_raise_a_bond_of_the_scaffold() -> None:
    # the limit that the docstring tells: atoms stay, the order of a bond may not
    space = Selfies(("[C]", "[=C]", "[Ring1]", "[=Branch1]"), 12)
    held = space.fixed("C1CCCCC1", space.length)
    mask, letters = held.mask, held.letters
    tail = torch.full((12,), space.pad)
    tail[int(mask.sum()) : int(mask.sum()) + 2] = torch.tensor([space.symbols.index("[Ring1]"), 0])
    (design,) = space.decode(torch.where(mask, letters.long(), tail)[None])
    assert not Chem.MolFromSmiles(design).HasSubstructMatch(Chem.MolFromSmiles("C1CCCCC1"))
    assert Chem.MolFromSmiles(design).HasSubstructMatch(Chem.MolFromSmarts("C1~C~C~C~C~C~1"))


@pytest.mark.parametrize(
    ("scaffold", "message"),
    [
        ("C1CC", "design.scaffold: molecule 1 is not valid SMILES"),
        ("*CC*", r'a design grows from one atom, and \*CC\* has 2 "\*"'),
        ("[*:1]CC[*:2]", r'\[\*:1\]CC\[\*:2\] has 2 "\*"'),
        ("C*C", r'C\*C has 1 "\*"; bond one "\*" to one atom'),
        ("*.CC", r'bond one "\*" to one atom'),
        ("C[Si](C)C", 'the scaffold needs the token "'),
        ("C" * 40, "takes 40 of 40 tokens, so there is no room to grow"),
        ("*=C1CCCC1", "cannot be written so that it ends"),
    ],
)
def test_scaffolds_that_cannot_be_held(space: Selfies, scaffold: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space.fixed(scaffold, space.length)
