"""Receptors and boxes of docking: read, checked, and told apart by content."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biotilt.errors import ConfigError, DataError
from biotilt.files import read_text
from biotilt.rewards.molecule import chem

Point = tuple[float, float, float]

PUBLIC = (
    "public ones with boxes: github.com/dockstring/dockstring (dockstring/resources/targets: *_target.pdbqt, "
    "*_conf.txt, Apache-2.0) and github.com/SeulLee05/MOOD (scorer/receptors, MIT); from a PDB file: "
    "mk_prepare_receptor.py --read_pdb FILE.pdb -o NAME -p"
)
_KEYS = ("center_x", "center_y", "center_z", "size_x", "size_y", "size_z")
_LARGEST = 120.0  # Å a side: the maps of a box beyond it take gigabytes


def read_receptor(path: str) -> str:
    """Return the text of a rigid receptor, .pdbqt or .pdbqt.gz.

    Raises:
        ConfigError: no path, no such file, or not PDBQT (the message says how to make one, and where some are).
    """
    if not path or Path(path).is_dir():
        raise ConfigError(f'reward "vina": receptor: no receptor is given; name a .pdbqt file. {PUBLIC}')
    text = _text(path, "receptor")
    if not _atoms(text):
        raise ConfigError(
            f'reward "vina": receptor: {path} has no atoms in PDBQT format (ATOM lines that end with a charge and an '
            f"AutoDock type). {PUBLIC}"
        )
    if "\nROOT" in text or "\nBRANCH" in text:
        raise ConfigError(f'reward "vina": receptor: {path} is a flexible ligand (it has ROOT or BRANCH), no receptor')
    return text


def _text(path: str, key: str) -> str:
    try:
        return read_text(path, any_bytes=True)
    except DataError as error:
        raise ConfigError(f'reward "vina": {key}: {error}') from None


def _atoms(text: str) -> list[Point]:
    """Return the coordinates of PDBQT atoms: lines with a charge and a type after the columns of PDB."""
    found = []
    for line in text.splitlines():
        if line.startswith(("ATOM", "HETATM")) and len(line.rstrip()) >= 78:
            try:
                float(line[66:76])
                found.append((float(line[30:38]), float(line[38:46]), float(line[46:54])))
            except ValueError:
                continue
    return found


def box_of_file(path: str) -> tuple[Point, Point]:
    """Return centre and size, Å, of a configuration file of Vina: lines such as `center_x = 12.5`."""
    found = {
        key: float(value)
        for key, value in re.findall(r"^\s*(\w+)\s*=\s*([-+.\dEe]+)\s*$", _text(path, "box"), re.MULTILINE)
        if key in _KEYS
    }
    if missing := [key for key in _KEYS if key not in found]:
        raise ConfigError(f'reward "vina": box: {path} does not say {", ".join(missing)}')
    values = [found[key] for key in _KEYS]
    return (values[0], values[1], values[2]), (values[3], values[4], values[5])


def box_of_ligand(path: str, padding: float) -> tuple[Point, Point]:
    """Return centre and size, Å, of the box around a ligand's atoms with `padding` on every side.

    `path`: .pdb, .sdf, .mol, .mol2, or .pdbqt, each but .sdf of one ligand; of an .sdf the first.
    """
    text, name = _text(path, "ligand"), path.removesuffix(".gz")
    if name.endswith(".pdbqt"):
        points: Sequence[Sequence[float]] = _atoms(text)
    else:
        molecule = _molecule(text, Path(name).suffix)
        if molecule is None or not molecule.GetNumConformers():
            raise ConfigError(f'reward "vina": ligand: {path} holds no molecule with coordinates (.pdb, .sdf, .mol2)')
        points = molecule.GetConformer().GetPositions().tolist()
    if not points:
        raise ConfigError(f'reward "vina": ligand: {path} holds no atoms')
    low = [min(point[axis] for point in points) for axis in range(3)]
    high = [max(point[axis] for point in points) for axis in range(3)]
    centre = [(a + b) / 2 for a, b in zip(low, high)]
    size = [b - a + 2 * padding for a, b in zip(low, high)]
    return (centre[0], centre[1], centre[2]), (size[0], size[1], size[2])


def _molecule(text: str, suffix: str) -> Any:
    readers = {".pdb": "MolFromPDBBlock", ".mol2": "MolFromMol2Block"} | dict.fromkeys(
        (".sdf", ".mol"), "MolFromMolBlock"
    )
    if suffix not in readers:
        raise ConfigError(
            f'reward "vina": ligand: unknown kind of file "{suffix}"; known: {", ".join(readers)}, .pdbqt'
        )
    # coordinates are all that is wanted, so a structure without bond orders will do
    return getattr(chem(), readers[suffix])(text, sanitize=False, removeHs=False)


def checked_box(center: Sequence[float], size: Sequence[float], receptor: str) -> tuple[Point, Point]:
    """Return the box as floats; ConfigError when it is no box, or holds no atom of the receptor."""
    for key, triple in (("center", center), ("size", size)):
        listed = isinstance(triple, list | tuple) and len(triple) == 3
        if not listed or not all(isinstance(x, int | float) and math.isfinite(x) for x in triple):
            raise ConfigError(f'reward "vina": {key} = {triple!r} must be three numbers, in Å')
    center, size = [float(x) for x in center], [float(x) for x in size]
    if not all(0 < side <= _LARGEST for side in size):
        raise ConfigError(f'reward "vina": size = {list(size)}: sides must be above 0 and at most {_LARGEST:g} Å')
    atoms = _atoms(receptor)
    if not any(all(abs(x - c) <= s / 2 for x, c, s in zip(atom, center, size)) for atom in atoms):
        spans = ", ".join(f"{min(column):.0f} to {max(column):.0f}" for column in zip(*atoms))
        raise ConfigError(
            f'reward "vina": no atom of the receptor lies in the box around {list(center)}; its atoms span {spans} Å: '
            "box and receptor are of different structures?"
        )
    return (center[0], center[1], center[2]), (size[0], size[1], size[2])
