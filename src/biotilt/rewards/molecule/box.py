"""Boxes of docking: read, drawn around a ligand, and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biotilt.digits import number
from biotilt.errors import ConfigError, needs_extra
from biotilt.files import shown_path
from biotilt.rewards.molecule.properties import EXTRA, chem
from biotilt.rewards.molecule.receptor import Point, docking_text, pdbqt_atoms

_KEYS = ("center_x", "center_y", "center_z", "size_x", "size_y", "size_z")
_LARGEST = 120.0  # Å a side: the maps of a box beyond it take gigabytes
_FAR = 1e6  # Å, beyond what a file of coordinates can hold
_LINE = re.compile(r"\s*(\w+)\s*(=?)\s*([^#]*)")
_READERS = {
    **dict.fromkeys((".pdb", ".ent"), "MolFromPDBBlock"),
    **dict.fromkeys((".sdf", ".sd", ".mol"), "MolFromMolBlock"),
    ".mol2": "MolFromMol2Block",
}
_KNOWN = (*_READERS, ".pdbqt")
# how a molecule of a file ends, or starts, in the formats that are not of PDB
_ONCE = {".mol2": "@<TRIPOS>MOLECULE"} | dict.fromkeys((".sdf", ".sd", ".mol"), "M  END")


def box_of_file(path: str) -> tuple[Point, Point]:
    """Return centre and size, Å, of a configuration file of Vina: lines such as `center_x = 12.5  # comment`.

    Raises ConfigError, with file and line, for a key that is missing, stands twice or has no finite number.
    """
    found: dict[str, tuple[int, float]] = {}
    where = f'reward "vina": box: {shown_path(path)}'
    for line, text in enumerate(docking_text(path, "box").split("\n"), start=1):
        match = _LINE.match(text)
        if match is None or match[1] not in _KEYS:
            continue
        key, said = match[1], match[3].strip()
        if key in found:
            raise ConfigError(f"{where}:{line}: {key} stands twice, first on line {found[key][0]}")
        try:
            value = number(said) if match[2] else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ConfigError(f'{where}:{line}: "{text.strip()[:80]}" must be {key} = a number, in Å')
        found[key] = line, value
    if missing := [key for key in _KEYS if key not in found]:
        raise ConfigError(f"{where} does not say {', '.join(missing)}")
    values = [found[key][1] for key in _KEYS]
    return (values[0], values[1], values[2]), (values[3], values[4], values[5])


def box_of_ligand(path: str, padding: float) -> tuple[Point, Point]:
    """Return centre and size, Å, of the box around a ligand's atoms with `padding` on every side.

    `path`: .pdb, .sdf, .mol, .mol2 or .pdbqt, each also with .gz, of one ligand in its place in the pocket.

    Raises ConfigError for a file that cannot be read, holds several molecules or poses, or is a flat drawing.
    """
    text, where = docking_text(path, "ligand"), f'reward "vina": ligand: {shown_path(path)}'
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    if suffix not in _KNOWN:
        raise ConfigError(f'{where}: unknown kind of file "{suffix}"; known: {", ".join(_KNOWN)}')
    if (line := _second(text, suffix)) is not None:
        raise ConfigError(f"{where}:{line}: a second molecule or pose; keep the one that lies in the pocket")
    points = _pdbqt_points(text, where) if suffix == ".pdbqt" else _points(text, suffix, where)
    if not all(math.isfinite(x) for point in points for x in point):
        raise ConfigError(f"{where}: a coordinate is no number")
    sides = [(min(column), max(column)) for column in zip(*points)]
    if len(points) > 2 and any(low == high for low, high in sides):
        raise ConfigError(
            f"{where}: all {len(points)} atoms lie in one plane: this is a drawing (2D), not a ligand in its pocket"
        )
    centre = [(low + high) / 2 for low, high in sides]
    size = [high - low + 2 * padding for low, high in sides]
    return (centre[0], centre[1], centre[2]), (size[0], size[1], size[2])


def _second(text: str, suffix: str) -> int | None:
    """Return the line on which a file goes on behind its first molecule, None when it does not."""
    seen = ended = False
    for line, content in enumerate(text.split("\n"), start=1):
        if suffix in _ONCE:
            if content.startswith(_ONCE[suffix]):
                if seen:
                    return line
                seen = True
        elif content.startswith(("ATOM", "HETATM")):
            if ended:
                return line
            seen = True
        elif content.split()[:1] in (["MODEL"], ["ENDMDL"], ["END"]):
            ended = seen
    return None


def _pdbqt_points(text: str, where: str) -> list[Point]:
    points = []
    for line, place in pdbqt_atoms(text):
        if isinstance(place, str):
            raise ConfigError(f"{where}:{line}: {place}")
        points.append(place)
    if not points:
        raise ConfigError(f"{where} holds no atoms")
    return points


def _points(text: str, suffix: str, where: str) -> list[Sequence[float]]:
    # coordinates are all that is wanted, so a structure without bond orders will do
    read: Any = getattr(chem(), _READERS[suffix])
    with needs_extra("rdkit.rdBase", EXTRA).BlockLogs():
        try:
            molecule = read(text, sanitize=False, removeHs=False)
        except (RuntimeError, ValueError):  # as for what it cannot read, for which it mostly returns None
            molecule = None
    if molecule is None or not molecule.GetNumConformers() or not molecule.GetNumAtoms():
        raise ConfigError(f"{where}: RDKit finds no molecule with coordinates in it; is it a whole {suffix} file?")
    return molecule.GetConformer().GetPositions().tolist()


def checked_box(center: Sequence[float], size: Sequence[float], receptor: str, source: str = "") -> tuple[Point, Point]:
    """Return the box as floats; ConfigError when it is no box, or holds no atom of the receptor (PDBQT text).

    `source`: the file that it comes from, for messages.
    """
    where = f'reward "vina": {source and source + ": "}'
    for key, triple in (("center", center), ("size", size)):
        listed = isinstance(triple, list | tuple) and len(triple) == 3
        if not listed or not all(isinstance(x, int | float) and abs(x) < _FAR for x in triple):
            raise ConfigError(f"{where}{key} = {triple!r} must be three numbers, in Å")
    center, size = [float(x) for x in center], [float(x) for x in size]
    if not all(0 < side <= _LARGEST for side in size):
        raise ConfigError(f"{where}size = {list(size)}: sides must be above 0 and at most {_LARGEST:g} Å")
    atoms = [place for _, place in pdbqt_atoms(receptor) if isinstance(place, tuple)]
    if not any(all(abs(x - c) <= s / 2 for x, c, s in zip(atom, center, size)) for atom in atoms):
        spans = ", ".join(f"{min(column):.0f} to {max(column):.0f}" for column in zip(*atoms))
        raise ConfigError(
            f"{where}no atom of the receptor lies in the box around {list(center)}; its atoms span {spans} Å: "
            "box and receptor are of different structures?"
        )
    return (center[0], center[1], center[2]), (size[0], size[1], size[2])
