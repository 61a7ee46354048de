"""Where three-dimensional structures come from: ESMFold, PDB files, or any program, behind one interface."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biotilt.errors import CheckpointError, ConfigError, DataError, suggest
from biotilt.files import read_json
from biotilt.rewards.generic.base import digest
from biotilt.rewards.protein.folded import Chains, Folder, NoStructure, Structure
from biotilt.rewards.protein.pdb import plddt_of, read_pdb, sequence_of, split_chains

REMEMBERED = 2048  # structures kept, so that the parts of a sum fold a design once


class Memory:
    """A folder that remembers the last `REMEMBERED` answers of another one, refusals included."""

    def __init__(self, folder: Folder, size: int = REMEMBERED) -> None:
        self.folder, self.size = folder, size
        self.version = folder.version
        self._known: OrderedDict[Chains, Structure | NoStructure] = OrderedDict()

    def fold(self, chains: Chains) -> Structure:
        """Return the structure of one or more chains; raises NoStructure."""
        if chains not in self._known:
            try:
                self._known[chains] = self.folder.fold(chains)
            except NoStructure as reason:
                self._known[chains] = reason
            if len(self._known) > self.size:
                self._known.popitem(last=False)
        self._known.move_to_end(chains)
        answer = self._known[chains]
        if isinstance(answer, NoStructure):
            raise answer
        return answer


class PDBFolder:
    """Structures that lie in a folder as PDB files (.pdb, .pdb.gz), found by the sequences of their chains.

    A single sequence also finds one chain of a file with several. Files are read in the order of their names, and
    the first that fits is taken; of several models, the first. With `plddt_in_b_factor` that column is confidence, in
    per cent or in [0, 1], as folding programs write it.

    Raises ConfigError when the folder has no such file, DataError as `read_pdb` does, or when confidences are missing.
    """

    def __init__(self, path: Path | str, *, plddt_in_b_factor: bool = False) -> None:
        ends = (".pdb", ".ent", ".pdb.gz", ".ent.gz")
        files = sorted(file for file in Path(path).glob("*") if file.name.lower().endswith(ends))
        if not files:
            raise ConfigError(f'folder "{path}" has no file *.pdb or *.pdb.gz')
        self.plddt_in_b_factor = plddt_in_b_factor
        self._found: dict[Chains, Structure] = {}
        whole, single = {}, {}
        for file in files:
            chains = self._chains(file)
            whole.setdefault(tuple(map(sequence_of, chains)), chains)
            for chain in chains:
                single.setdefault((sequence_of(chain),), [chain])
        for key, chains in (single | whole).items():
            self._found[key] = self._structure(chains)
        contents = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        self.version = digest(json.dumps([plddt_in_b_factor, contents]))

    def fold(self, chains: Chains) -> Structure:
        """Return the stored structure; raises NoStructure when there is none of these sequences."""
        if chains not in self._found:
            raise NoStructure("no PDB file has this sequence")
        return self._found[chains]

    def _chains(self, file: Path) -> list[Any]:
        atoms = read_pdb(file)
        if self.plddt_in_b_factor:
            try:
                plddt_of(atoms)
            except DataError as error:
                raise DataError(f"{file}: {error}") from error
        return split_chains(atoms)

    def _structure(self, chains: list[Any]) -> Structure:
        atoms = chains[0]
        for chain in chains[1:]:
            atoms = atoms + chain
        return Structure(atoms, plddt_of(atoms) if self.plddt_in_b_factor else None)


class ProgramFolder:
    """A folding program, started once a design without a shell: it reads a FASTA file and writes a PDB file.

    `command` is a list of words in which `{fasta}` and `{pdb}` stand for the two files, and `{json}` for one where the
    program may write `{"ptm": …, "iptm": …}`. Chains are joined by ":" in the FASTA file, as ColabFold reads them. The
    B-factor column is the pLDDT, in per cent or in [0, 1].

    Raises ConfigError when the command names no `{fasta}` or no `{pdb}`; NoStructure, with what the program printed
    last, when it fails or takes more than `timeout` seconds.
    """

    def __init__(self, command: Sequence[str], timeout: float | None = None) -> None:
        for place in ("{fasta}", "{pdb}"):
            if isinstance(command, str) or not any(place in word for word in command):
                raise ConfigError(f"a folding program is a list of words that names {place}, got {command!r}")
        self.command, self.timeout = tuple(command), timeout
        self.version = digest(json.dumps(self.command))

    def fold(self, chains: Chains) -> Structure:
        """Return the structure that the program writes; raises NoStructure."""
        with tempfile.TemporaryDirectory(prefix="biotilt-fold-") as folder:
            files = {f"{{{kind}}}": Path(folder) / f"design.{kind}" for kind in ("fasta", "pdb", "json")}
            files["{fasta}"].write_text(f">design\n{':'.join(chains)}\n", encoding="ascii")
            self._start([_filled(word, files) for word in self.command])
            if not files["{pdb}"].is_file():
                raise NoStructure("the folding program ended without an error and wrote no PDB file")
            try:
                atoms, scores = read_pdb(files["{pdb}"]), _scores(files["{json}"])
                got = tuple(map(sequence_of, split_chains(atoms)))
                if got != chains:
                    raise NoStructure(f"the folding program wrote chains {':'.join(got)}, asked for {':'.join(chains)}")
                return Structure(atoms, _confidences(atoms), scores.get("ptm"), scores.get("iptm"))
            except (DataError, CheckpointError) as error:
                told = str(error).replace(folder, "").lstrip("/")
                raise NoStructure(f"what the folding program wrote cannot be used: {told}") from error

    def _start(self, words: list[str]) -> None:
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=self.timeout, check=False)
        except FileNotFoundError as error:
            raise ConfigError(f'the folding program "{words[0]}" is not there: {error}') from error
        except subprocess.TimeoutExpired as error:
            raise NoStructure(f"the folding program took more than {self.timeout:g} s") from error
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise NoStructure(f"the folding program ended with code {done.returncode}: {''.join(last)}")


def _confidences(atoms: Any) -> np.ndarray | None:
    """Return the confidences of a structure, None when the program wrote none: most measures need none."""
    try:
        return plddt_of(atoms)
    except DataError:
        return None


def _scores(path: Path) -> dict[str, float]:
    """Return the numbers of the JSON file that a folding program may write; DataError when they are none."""
    found = read_json(path) if path.is_file() else {}
    scores = (
        {key: found[key] for key in ("ptm", "iptm") if found.get(key) is not None} if isinstance(found, dict) else None
    )
    if scores is None or not all(isinstance(value, float | int) for value in scores.values()):
        raise DataError(f"{path}: ptm and iptm must be numbers")
    return scores


def _filled(word: str, files: dict[str, Path]) -> str:
    for place, file in files.items():
        word = word.replace(place, os.fspath(file))
    return word


def _esmfold(path: str, device: str) -> Folder:
    from biotilt.rewards.protein.esmfold import ESMFold

    return ESMFold(path, device)


_KINDS: dict[str, Callable[[str, tuple[str, ...], str], Folder]] = {
    "esmfold": lambda path, program, device: _esmfold(path, device),
    "pdb": lambda path, program, device: PDBFolder(path),
    "predicted_pdb": lambda path, program, device: PDBFolder(path, plddt_in_b_factor=True),
    "program": lambda path, program, device: ProgramFolder(program),
}
FolderKind = Literal["esmfold", "pdb", "predicted_pdb", "program"]


@lru_cache(maxsize=8)
def shared_folder(kind: str, path: str = "", program: tuple[str, ...] = (), device: str = "cpu") -> Memory:
    """Return the folder of these options; equal options give one object, so that rewards share its memory.

    Args:
        kind: "esmfold" (`path`: folder of weights, `device`), "pdb" or "predicted_pdb" (`path`: folder of PDB files;
            the second's B-factors are pLDDT), or "program" (`program`: words of a command).

    Raises:
        ConfigError: the kind is unknown, or its path or program will not do.
    """
    if kind not in _KINDS:
        raise ConfigError(f'unknown folding model "{kind}"{suggest(kind, _KINDS)}')
    if kind != "program" and not Path(path).is_dir():
        raise ConfigError(f'folding model "{kind}": path = "{path}" must be a folder')
    return Memory(_KINDS[kind](path, program, device))
