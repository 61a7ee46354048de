"""The space of SAFE: molecules as fragments joined by numbers, and fragments that every design has."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("rdkit")

from rdkit import Chem

import biotilt
from biotilt.data import read_data
from biotilt.errors import ConfigError, DataError
from biotilt.fitting import Split
from biotilt.spaces import build_space
from biotilt.spaces.fragments import fragments, open_safe, pieces, points, safe_of, smiles_of, without
from biotilt.spaces.safe import Safe
from biotilt.training import PretrainConfig

DRUGS = [
    "CC(=O)Oc1ccccc1C(=O)O",  # aspirin
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",  # ibuprofen
    "O=C(NCc1ccncc1)c1ccc(F)cc1Cl",
    "N#Cc1ccc(S(=O)(=O)N2CCOCC2)cc1Br",
]
STEREO = [
    "C[C@H](N)C(=O)NCc1ccccc1",
    "C[C@@H](N)C(=O)NCc1ccccc1",
    "O=C(O)/C=C/C(=O)OCC",
    "O=C(O)/C=C\\C(=O)OCC",
    "C[C@H]1CC[C@@H](NC(=O)c2ccccc2)CC1",
    "C[C@](F)(OC(C)=O)N1CCCC1",
    "C[C@@](F)(OC(C)=O)N1CCCC1",
    "CC/C(F)=C(\\OC)c1ccccc1",
    "F/C(=C/c1ccccc1)NC(C)=O",
]


@pytest.fixture(scope="module")
def space() -> Safe:
    return Safe.of_molecules(DRUGS, length=50)


def test_safe_written_by_hand_is_read() -> None:
    # phenyl and ethanol by one cut bond; an amide by two; numbers beyond 9
    assert smiles_of("c13ccccc1.C3CO") == Chem.CanonSmiles("c1ccccc1CCO")
    assert smiles_of("c1%12ccccc1.C%12(=O)%13.N%13C") == Chem.CanonSmiles("CNC(=O)c1ccccc1")
    assert smiles_of("C3CO.c13ccccc1") == smiles_of("c13ccccc1.C3CO")  # the order of fragments says nothing


@pytest.mark.parametrize("smiles", [*DRUGS, *STEREO])
def test_molecules_come_back_however_they_are_cut(smiles: str) -> None:
    text = safe_of(smiles)
    # a text of SAFE is SMILES, so RDKit itself is the judge
    assert Chem.CanonSmiles(text) == Chem.CanonSmiles(smiles)
    assert smiles_of(text) == Chem.CanonSmiles(smiles)


def test_the_cuts_are_those_of_brics_and_fragments_are_sorted() -> None:
    from rdkit.Chem import BRICS

    for smiles in DRUGS:
        bonds = list(BRICS.FindBRICSBonds(Chem.MolFromSmiles(Chem.CanonSmiles(smiles))))
        parts = safe_of(smiles).split(".")
        assert len(parts) == len(bonds) + 1  # of a tree of fragments
        sizes = [sum(piece[0].isalpha() or piece[0] == "[" for piece in pieces(part)) for part in parts]
        assert sizes == sorted(sizes, reverse=True) and sum(sizes) == Chem.MolFromSmiles(smiles).GetNumHeavyAtoms()
    # cut by hand: ester, ether oxygen, and carbonyls
    assert sorted(fragments(DRUGS[0])) == sorted(["*c1ccccc1*", "*C(C)=O", "*O*", "*C(=O)O"])


def test_the_chirality_of_an_atom_whose_ends_move() -> None:
    """A number stands before the branches: passing one of them turns @ into @@, passing two does not."""
    for smiles in ("N[C@](F)(Cl)C(=O)O", "N[C@@](F)(Cl)C(=O)O", "C[C@](N1CCCC1)(OC)c1ccccc1", "O[C@@H](CC)NC(C)=O"):
        for _ in range(3):
            text = safe_of(smiles)
            found = Chem.FindMolChiralCenters(Chem.MolFromSmiles(text), useLegacyImplementation=False)
            wanted = Chem.FindMolChiralCenters(Chem.MolFromSmiles(smiles), useLegacyImplementation=False)
            assert [label for _, label in found] == [label for _, label in wanted] != []


def test_designs_are_canonical_smiles_and_pads_are_dropped(space: Safe) -> None:
    tokens = space.encode(DRUGS)
    assert tokens.shape == (4, 50)
    assert space.decode(tokens) == [Chem.CanonSmiles(smiles) for smiles in DRUGS]
    assert torch.equal(space.encode(["OC(=O)c1ccccc1OC(C)=O"])[0], tokens[0])  # however it is written
    used = tokens[0][tokens[0] != space.pad]
    places = torch.randperm(50, generator=torch.Generator().manual_seed(0))[: len(used)].sort().values
    scattered = torch.full((1, 50), space.pad)
    scattered[0, places] = used.long()
    assert space.decode(scattered) == space.decode(tokens[:1])


@pytest.mark.parametrize(
    "text", ["", "C1CC", "CC.O", "C1.C1.N", "CF(C)C", "c1cccc1", "C(", ")C", "1C1", "C=", "*C", ".", "C..C"]
)
def test_what_is_no_molecule_is_told_apart(text: str) -> None:
    space = Safe(tuple("C.()1=FONc*"), 12)
    state = torch.full((2, 12), space.pad)
    state[0, : len(text)] = torch.tensor([space.symbols.index(piece) for piece in text])
    state[1, :3] = torch.tensor([space.symbols.index(piece) for piece in "CCO"])
    assert space.decode(state) == ["", "CCO"]
    scores = biotilt.rewards.build("qed", {})(space.decode(state)) if text else [float("nan"), 0.4]
    assert scores[0] != scores[0] and scores[1] > 0  # not scored, with a reason


def test_states_of_large_vocabularies_have_a_larger_type() -> None:
    words = ("C", ".", *(f"[{mass}C]" for mass in range(12, 212)))
    space = Safe(words, 3)
    tokens = space.encode(["[200C]"])
    assert tokens.dtype == torch.int16
    assert space.decode(tokens) == ["[200C]"]
    assert build_space(json.loads(json.dumps(space.spec()))) == space


def held(space: Safe, scaffold: str) -> str:
    fixed = space.fixed(scaffold, space.length)
    return "".join(space.symbols[token] for token in fixed.letters[fixed.mask])


TASKS = {
    "motif extension": ("*c1ccncc1", 1),
    "scaffold decoration": ("*c1ccc(*)nc1", 2),
    "linker design": ("*c1ccncc1.*N1CCOCC1", 2),
    "another fragment in its place": (without(DRUGS[2], "*C(*)=O"), 2),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_design_that_is_a_molecule_has_the_fragments(task: str) -> None:
    scaffold, count = TASKS[task]
    parts = scaffold.split(".")
    words = tuple(dict.fromkeys(pieces(open_safe(scaffold) + "(C=1234N#O.)56")))
    space = Safe(words, len(pieces(open_safe(scaffold))) + 7)
    fixed = space.fixed(scaffold, space.length)
    numbers = [str(number) for number in (2, 3, 4)]
    generator, closing = torch.Generator().manual_seed(2), [word for word in words if word in (*numbers, *"CNO=.-#")]
    likely = torch.tensor([space.symbols.index(word) for word in [*closing, "_"]])
    tails = likely[torch.randint(len(likely), (3000, space.length), generator=generator)]
    designs = {design for design in space.decode(torch.where(fixed.mask, fixed.letters.long(), tails)) if design}
    assert len(designs) > 3, designs
    for part in parts:
        query = Chem.DeleteSubstructs(Chem.MolFromSmarts(part.replace("[nH]", "n")), Chem.MolFromSmarts("[#0]"))
        query = Chem.MolFromSmarts(Chem.MolToSmarts(query))
        for design in designs:
            molecule = Chem.MolFromSmiles(design)
            assert molecule.HasSubstructMatch(query), (design, part)
            assert "." not in design
    assert sum(part.count("*") for part in parts) == count


def test_fragments_are_held_as_safe_writes_them(space: Safe) -> None:
    assert held(space, "*c1ccncc1") == "c12ccncc1."
    assert held(space, "[*:7]c1ccncc1") == "c12ccncc1."
    assert smiles_of(held(space, "*c1ccncc1.N(*)C") + "C23") == Chem.CanonSmiles("CNCc1ccncc1")
    # the star may be written first, last or in between; chirality is that of the text
    for scaffold, whole in (("*[C@H](N)C", "O[C@H](N)C"), ("N[C@H](*)C", "N[C@H](O)C"), ("N[C@H](C)*", "N[C@H](C)O")):
        assert smiles_of(open_safe(scaffold) + "O1") == Chem.CanonSmiles(whole)


@pytest.mark.parametrize(
    ("scaffold", "message"),
    [
        ("C1CC", 'design.scaffold: not valid SMILES: "C1CC"'),
        ("c1ccncc1", r'say where c1ccncc1 grows, by "\*": \*c1ccncc1, \*c1cccnc1, \*c1ccccn1'),
        ("*C.CC", r'say where CC grows, by "\*": \*CC'),
        ("*=C1CCCC1", "joined by one single bond"),
        ("C*C", "joined by one single bond"),
        ("**", "joined by one single bond"),
        ("*[SiH3]", r'the scaffold needs the token "\[SiH3\]", which is not in the vocabulary'),
        ("*" + "C" * 48, "takes 50 of 50 tokens, so there is no room to grow"),
    ],
)
def test_scaffolds_that_cannot_be_held(space: Safe, scaffold: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space.fixed(scaffold, space.length)


def test_a_superstructure_grows_where_the_points_say() -> None:
    assert sorted(map(Chem.CanonSmiles, points("Cc1ccncc1"))) == sorted(
        map(Chem.CanonSmiles, ["*Cc1ccncc1", "Cc1c(*)cncc1", "Cc1cc(*)ncc1"])
    )
    assert sorted(points("c1cc[nH]c1")) == sorted(map(Chem.CanonSmiles, ["*c1ccc[nH]1", "*c1cc[nH]c1", "*n1cccc1"]))
    assert points("FC(F)(F)F") == []


def test_what_is_left_when_a_fragment_is_taken_out() -> None:
    ester = "CCOC(=O)c1ccccc1"
    assert sorted(without(ester, "*C(*)=O").split(".")) == ["*OCC", "*c1ccccc1"]
    assert without(ester, "CC*") == "*OC(=O)c1ccccc1"  # the rest is one part: only the bonds of the fragment are cut
    # its open numbers take the fragment back
    assert smiles_of(open_safe("*OCC.*c1ccccc1") + "C23=O") == Chem.CanonSmiles(ester)
    with pytest.raises(DataError, match=r'has no fragment "\*N\*": it has \*c1ccccc1, \*CC'):
        without(ester, "*N*")
    with pytest.raises(DataError, match="it is one fragment"):
        without("c1ccccc1", "c1ccccc1")


def test_a_file_of_molecules_is_learned_and_a_fragment_held(tmp_path: Path) -> None:
    rows = ["smiles,name", *(f"{'C' * n}Oc1ccncc1,{n}" for n in range(1, 5))]
    with gzip.open(tmp_path / "mine.csv.gz", "wt") as file:
        file.write("\n".join(rows))
    (tmp_path / "mine.smi").write_text("\n".join(row.replace(",", "\t") for row in rows[1:]))
    space, designs = read_data(tmp_path / "mine.csv.gz", "safe", {"length": 20})
    assert isinstance(space, Safe) and space.length == 20 and designs[1] == "CCOc1ccncc1"
    assert read_data(tmp_path / "mine.smi", "safe", {"length": 20})[0] == space
    model, _ = biotilt.pretrain_model(
        designs * 10, space, network={"channels": 24, "blocks": 1}, process={"name": "any_order", "per_step": 1},
        config=PretrainConfig(steps=60, batch=16, lr=1e-2, warmup=5), split=Split(identity=None),
    )  # fmt: skip
    model.save(tmp_path / "mine.safetensors")
    drawn = model.sample(30, seed=1)
    assert sum(design in set(map(Chem.CanonSmiles, designs)) for design in drawn) > 5
    keys = {
        "alpha": 1.0, "model": {"path": "mine.safetensors"}, "reward": {"kind": "qed"},
        "design": {"scaffold": "*c1ccncc1"},
    }  # fmt: skip
    experiment = biotilt.Experiment.from_dict(keys, tmp_path)
    valid = [design for design in experiment.model.sample(20, seed=2) if design]
    pyridine = Chem.MolFromSmarts("c1ccncc1")
    assert valid and all(Chem.MolFromSmiles(design).HasSubstructMatch(pyridine) for design in valid)
    keys["design"] = {"fixed": "CC..."}
    with pytest.raises(ConfigError, match=r"design.fixed: designs of safe are held by design.scaffold"):
        biotilt.Experiment.from_dict(keys, tmp_path)
