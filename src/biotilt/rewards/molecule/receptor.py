"""Receptors of docking: read and checked, line by line and by the engine itself."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biotilt.digits import number
from biotilt.errors import ConfigError, DataError, needs_extra
from biotilt.files import read_text, shown_path
from biotilt.rewards.molecule.properties import EXTRA

Point = tuple[float, float, float]

PUBLIC = (
    "public ones with boxes: github.com/dockstring/dockstring (dockstring/resources/targets: *_target.pdbqt, "
    "*_conf.txt, Apache-2.0) and github.com/SeulLee05/MOOD (scorer/receptors, MIT); from a PDB file: "
    "mk_prepare_receptor.py --read_pdb FILE.pdb -o NAME -p"
)
_OUT_OF_PLACE = {
    **dict.fromkeys(
        ("ROOT", "ENDROOT", "BRANCH", "ENDBRANCH", "TORSDOF", "BEGIN_RES", "END_RES"),
        "this is a flexible ligand or residue, no rigid receptor",
    ),
    **dict.fromkeys(("MODEL", "ENDMDL"), "a receptor is one model; keep one, without these lines"),
}
_COLUMNS = (("x", 30, 38), ("y", 38, 46), ("z", 46, 54), ("the charge", 68, 76))  # of PDBQT, from 0, end not included
_TYPE = 78  # the column at which the type starts, from 1


def read_receptor(path: str) -> str:
    """Return the text of a rigid receptor, .pdbqt or .pdbqt.gz, that the engine takes.

    Raises:
        ConfigError: no path, no such file, or not PDBQT (the message says how to make one, and where some are); a
            line that does not belong into a rigid receptor, or whose columns are wrong: then the message names it.
    """
    if not path or Path(path).is_dir():
        raise ConfigError(f'reward "vina": receptor: no receptor is given; name a .pdbqt file. {PUBLIC}')
    text, where = docking_text(path, "receptor"), shown_path(path)
    for line, tag in enumerate((content.partition(" ")[0] for content in text.split("\n")), start=1):
        if tag in _OUT_OF_PLACE:
            raise ConfigError(f'reward "vina": receptor: {where}:{line}: {tag}: {_OUT_OF_PLACE[tag]}. {PUBLIC}')
    found = list(pdbqt_atoms(text))
    if not any(isinstance(place, tuple) for _, place in found):
        raise ConfigError(
            f'reward "vina": receptor: {where} has no atoms in PDBQT format (ATOM lines that end with a charge and an '
            f"AutoDock type). {PUBLIC}"
        )
    for line, place in found:
        if isinstance(place, str):
            raise ConfigError(f'reward "vina": receptor: {where}:{line}: {place}')
    _ask_engine(text, where)
    return text


def docking_text(path: str, key: str) -> str:
    """Return the text of a file that an option of docking names; ConfigError when it cannot be read."""
    try:
        return read_text(path, any_bytes=True)  # remarks are in any encoding, and of no consequence
    except DataError as error:
        raise ConfigError(f'reward "vina": {key}: {error}') from None


def pdbqt_atoms(text: str) -> Iterator[tuple[int, Point | str]]:
    """Yield (line, place in Å) of PDBQT atoms; in the place's stead, what is wrong with the line."""
    for line, content in enumerate(text.split("\n"), start=1):
        if content.startswith(("ATOM", "HETATM")):
            yield line, _place(content)


def _place(line: str) -> Point | str:
    # the engine counts bytes; lines that end too early would make it abort the whole process
    if not line.isascii():
        return "a sign that is not ASCII, behind which columns are shifted"
    if len(line.rstrip()) < _TYPE:
        return f"the line ends before column {_TYPE}, where the AutoDock type stands"
    values = []
    for what, start, end in _COLUMNS:
        cell = line[start:end].strip()
        try:
            values.append(number(cell))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            return f'{what}, columns {start + 1} to {end}, is "{cell}", which is no number'
    return values[0], values[1], values[2]


def _ask_engine(text: str, where: str) -> None:
    """Raise ConfigError when Vina refuses a receptor, with its reason and the line."""
    engine = needs_extra("vina", EXTRA).Vina(sf_name="vina", cpu=1, verbosity=0)
    try:
        set_receptor(engine, text)
    except (RuntimeError, TypeError) as error:
        said = re.search(r"error: *(.+?)\n(?: > (.*))?", str(error))
        reason = said[1] if said else " ".join(str(error).split())
        lines = text.split("\n")
        line = f":{lines.index(said[2]) + 1}" if said and said[2] in lines else ""
        raise ConfigError(
            f'reward "vina": receptor: {where}{line}: Vina refuses it: {reason} It takes ATOM, HETATM, TER, END and '
            "REMARK lines only"
        ) from None


def set_receptor(engine: Any, text: str) -> None:
    """Give Vina the text of a receptor, which it reads from files only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "receptor.pdbqt"
        path.write_text(text, encoding="utf-8")
        engine.set_receptor(rigid_pdbqt_filename=str(path))
