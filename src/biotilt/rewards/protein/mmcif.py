"""Atoms of mmCIF files, as the columns of their table `atom_site` name them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from biotilt.errors import DataError, needs_extra, one_line
from biotilt.files import read_text

SUFFIXES = (".cif", ".mmcif")
_ABSENT = ("", ".", "?")
_COLUMNS = {  # what is read, in the author's naming where the file has it
    "hetero": ("group_PDB",), "name": ("auth_atom_id", "label_atom_id"), "altloc": ("label_alt_id",),
    "residue": ("auth_comp_id", "label_comp_id"), "chain": ("auth_asym_id", "label_asym_id"),
    "entity": ("label_asym_id", "auth_asym_id"), "number": ("auth_seq_id", "label_seq_id"),
    "insertion": ("pdbx_PDB_ins_code",), "x": ("Cartn_x",), "y": ("Cartn_y",), "z": ("Cartn_z",),
    "b_factor": ("B_iso_or_equiv",), "element": ("type_symbol",), "model": ("pdbx_PDB_model_num",),
}  # fmt: skip
_NEEDED = {"name", "residue", "chain", "number", "x", "y", "z"}


class Row(NamedTuple):
    """A row of the table, absent values as ""."""

    hetero: str
    name: str
    altloc: str
    residue: str
    chain: str
    entity: str
    number: str
    insertion: str
    x: str
    y: str
    z: str
    b_factor: str
    element: str
    model: str


def is_cif(path: Path) -> bool:
    """Return whether a file is one by its name, packed (.gz) or not."""
    return path.with_suffix("").suffix.lower() in SUFFIXES if path.suffix == ".gz" else path.suffix.lower() in SUFFIXES


def rows(path: Path) -> Iterator[Row]:
    """Yield the atoms of the first model; DataError where the file is none, or lacks a column."""
    text = read_text(path, any_bytes=True)
    try:
        file = needs_extra("biotite.structure.io.pdbx", "protein").CIFFile.read(io.StringIO(text))
        table = file.block["atom_site"]
        found = {
            field: table[there].as_array(str).tolist()
            for field, names in _COLUMNS.items()
            if (there := next((name for name in names if name in table), None)) is not None
        }
    except Exception as error:  # whatever biotite raises of a file that is damaged
        raise DataError(f"{path}: no atoms in mmCIF format: {type(error).__name__}: {one_line(error)}") from error
    if missing := sorted(_NEEDED - found.keys()):
        raise DataError(f'{path}: its table atom_site has no column "{_COLUMNS[missing[0]][-1]}"')
    count = len(found["name"])
    columns = [found.get(field, [""] * count) for field in Row._fields]
    first = None
    for values in zip(*columns):
        row = Row(*("" if value in _ABSENT else value for value in values))
        first = row.model if first is None else first
        if row.model == first:
            yield row
