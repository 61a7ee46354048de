"""From SMILES to what a docking program takes: protonation by rules, one conformer, PDBQT."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from biotilt.errors import needs_extra
from biotilt.rewards.molecule.properties import EXTRA, chem, parse

Protonation = Literal["ph7", "neutral", "as_given"]

# The first atom of a pattern loses a proton. Groups with a pKa well below 7.
_ACIDS = {
    "carboxylic acid": "[OX2H1][CX3](=[OX1])[#6,#1]",
    "sulfonic acid": "[OX2H1]S(=O)(=O)[#6]",
    "phosphonic and phosphoric acid, once a phosphorus": "[OX2H1][PX4;!$(P[O-])]=O",
    "acyl sulfonamide": "[NX3H1]([CX3]=O)S(=O)=O",
    "tetrazole": "[nH1;$([nH1]1nnnc1),$([nH1]1nncn1)]",
}
# The first atom gains one. Groups with a pKa well above 7.
_BASES = {
    "guanidine": "[NX2;+0;$(N=[CX3]([NX3])[NX3]);!$(N-[C,S]=[O,S]);!$(N=C(N-[C,S]=[O,S]));!$(N-C#N);!$(N-a)]",
    "amidine": "[NX2;+0;$(N=[CX3]([NX3])[#6]);!$(N-[C,S]=[O,S]);!$(N=C(N-[C,S]=[O,S]));!$(N-a)]",
    # bonded to sp3 carbons only: no amide, aniline, sulfonamide, hydrazine; nor beside CF3 or a nitrile
    "aliphatic amine": "[NX3;+0;$(N[CX4]);!$(N-[!#6]);!$(N-[#6;!X4]);!$(N[CX4]C(F)(F)F);!$(N[CX4]C#N)]",
}
_APART = 3  # bonds: of two amines N-C-C-N only one is charged, its charge lowers the other's pKa by units


class NotDockable(Exception):
    """Why no ligand could be made of a molecule."""


def protonated(molecule: Any, how: Protonation) -> Any:
    """Return the molecule in the charge state wanted.

    "neutral" removes charges that a proton can balance. "ph7" then charges common groups that are charged around
    pH 7: it knows carboxylic, sulfonic and phosphonic acids, acyl sulfonamides and tetrazoles; aliphatic amines,
    amidines and guanidines, no two of them within three bonds. It computes no pKa, so groups whose pKa is near 7
    (imidazoles, morpholines as amines) may be wrong. "as_given" changes nothing.

    >>> from rdkit.Chem import MolToSmiles
    >>> MolToSmiles(protonated(parse("OC(=O)CN"), "ph7"))
    '[NH3+]CC(=O)[O-]'
    """
    if how == "as_given":
        return molecule
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        standardize = needs_extra("rdkit.Chem.MolStandardize.rdMolStandardize", EXTRA)
        molecule = standardize.Uncharger().uncharge(molecule)
    if how == "neutral":
        return molecule
    molecule = chem().Mol(molecule)
    for pattern in _ACIDS.values():
        _charge(molecule, pattern, -1)
    for pattern in _BASES.values():
        _charge(molecule, pattern, +1)
    return molecule


def _charge(molecule: Any, pattern: str, charge: int) -> None:
    """Charge one match after the other in place; each may rule out the next."""
    query = _query(pattern)
    while True:
        sites = [match[0] for match in molecule.GetSubstructMatches(query)]
        site = next((i for i in sites if charge < 0 or not _charged_nearby(molecule, i)), None)
        if site is None:
            return
        atom = molecule.GetAtomWithIdx(site)
        atom.SetNumExplicitHs(atom.GetTotalNumHs() + charge)
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(charge)
        chem().SanitizeMol(molecule)


def _charged_nearby(molecule: Any, site: int) -> bool:
    distances = chem().GetDistanceMatrix(molecule)[site]
    return any(atom.GetFormalCharge() > 0 and distances[atom.GetIdx()] <= _APART for atom in molecule.GetAtoms())


@cache
def _query(pattern: str) -> Any:
    return chem().MolFromSmarts(pattern)


def embedded(molecule: Any, seed: int) -> Any:
    """Return the molecule with hydrogens and one conformer: ETKDG, then MMFF94 (UFF where MMFF has no parameters).

    The same seed gives the same conformer. Stereocentres that are not specified come out as the seed has it.

    Raises:
        NotDockable: no conformer is found.
    """
    all_chem = needs_extra("rdkit.Chem.AllChem", EXTRA)
    molecule = chem().AddHs(molecule)
    parameters = all_chem.ETKDGv3()
    parameters.randomSeed = seed
    parameters.maxIterations = 10
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        if all_chem.EmbedMolecule(molecule, parameters) != 0:
            parameters.useRandomCoords = True
            if all_chem.EmbedMolecule(molecule, parameters) != 0:
                raise NotDockable("no conformer could be embedded")
        if all_chem.MMFFHasAllMoleculeParams(molecule):
            all_chem.MMFFOptimizeMolecule(molecule)
        elif all_chem.UFFHasAllMoleculeParams(molecule):
            all_chem.UFFOptimizeMolecule(molecule)
    return molecule


def to_pdbqt(molecule: Any, most_torsions: int) -> str:
    """Return the PDBQT text of a molecule with a conformer, by Meeko.

    Raises:
        NotDockable: Meeko cannot type an atom, or there are more than `most_torsions` rotatable bonds.
    """
    meeko = needs_extra("meeko", EXTRA)
    try:
        setups = meeko.MoleculePreparation().prepare(molecule)
        text, fine, error = meeko.PDBQTWriterLegacy.write_string(setups[0])
    except (RuntimeError, ValueError, KeyError) as problem:  # what Meeko raises for atoms it has no type for
        raise NotDockable(f"Meeko cannot prepare it: {_first_line(problem)}") from None
    if not fine:
        raise NotDockable(f"Meeko cannot prepare it: {_first_line(error)}")
    torsions = text.count("\nBRANCH ") + text.startswith("BRANCH ")
    if torsions > most_torsions:
        raise NotDockable(f"{torsions} rotatable bonds, more than max_torsions = {most_torsions}")
    return text


def _first_line(problem: object) -> str:
    return (str(problem).strip() or "no reason given").splitlines()[0]


def ligand(smiles: str, how: Protonation, seed: int, most_atoms: int, most_torsions: int) -> str:
    """Return the PDBQT text of a ligand; NotDockable says why there is none.

    `most_atoms`, heavy, and `most_torsions`: larger ligands are refused before anything slow is done.
    """
    if not smiles:
        raise NotDockable("the design is empty")
    molecule = parse(smiles)
    if molecule is None:
        raise NotDockable("the design is not a valid molecule")
    if "." in smiles:
        raise NotDockable("the design is of several parts")
    if (atoms := molecule.GetNumHeavyAtoms()) > most_atoms:
        raise NotDockable(f"{atoms} heavy atoms, more than max_atoms = {most_atoms}")
    return to_pdbqt(embedded(protonated(molecule, how), seed), most_torsions)
