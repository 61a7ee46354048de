"""Docking by AutoDock Vina: how well a molecule fits into a pocket of a receptor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version as package_version
from typing import Annotated, Any, ClassVar

from pydantic import Field

from biotilt.errors import ConfigError, needs_extra
from biotilt.options import CountFrom0, Few, FewFrom0, Number, PathText, Whole, check_options
from biotilt.rewards.generic.base import NotScored, digest
from biotilt.rewards.molecule.box import box_of_file, box_of_ligand, checked_box
from biotilt.rewards.molecule.ligand import NotDockable, Protonation, ligand
from biotilt.rewards.molecule.properties import EXTRA
from biotilt.rewards.molecule.receptor import Point, read_receptor, set_receptor


@dataclass(frozen=True)
class Docked:
    """Poses of a ligand, best first: `energies` in kcal/mol; all of them as PDBQT models in one text, and as SDF."""

    energies: tuple[float, ...]
    pdbqt: str
    sdf: str


@dataclass(frozen=True)
class Vina:
    """Minus the binding energy of the best pose, kcal/mol, by AutoDock Vina (Eberhardt et al. 2021).

    A molecule is charged by rules, embedded, and docked flexible into the rigid receptor. Energies above 0 count as
    0: they say only that a ligand does not fit. What cannot be docked is not scored, with the reason. The same seed
    and options give the same score, in any order and any process. A search as short as the default's has noise:
    judge what was tuned with more exhaustiveness and another seed.

    Args:
        receptor: path of a rigid receptor, .pdbqt or .pdbqt.gz.
        center, size: of the box, three numbers each, Å.
        box: in their place, a configuration file of Vina with center_x ... size_z.
        ligand: in their place, a file of a ligand in the pocket (.pdb, .sdf, .mol2, .pdbqt) to draw the box around,
        padding: with this much room on every side, Å, ≥ 0.
        exhaustiveness: independent searches, ≥ 1; Vina's own default is 8.
        max_evals: evaluations of energy in each of them; 0: as many as Vina's heuristic takes.
        poses: how many `dock` returns, ≥ 1.
        protonation: "ph7" (rules for common acids and amines), "neutral", or "as_given".
        max_atoms: heavy atoms; larger molecules are not scored.
        max_torsions: rotatable bonds; likewise.
        seed: of conformer and search, ≥ 1 (0 is random to Vina).

    Raises `ConfigError`, with file and line, for files that cannot be read, a receptor that Vina would refuse, and a
    ligand that is flat or in several poses; for a box that is given twice or not at all or holds no atom of the
    receptor, and for options out of range.
    """

    receptor: PathText = ""
    center: Point | None = None
    size: Point | None = None
    box: PathText = ""
    ligand: PathText = ""
    padding: Annotated[Number, Field(ge=0, lt=50)] = 5.0
    exhaustiveness: Few = 1
    max_evals: CountFrom0 = 100_000
    poses: Few = 5
    protonation: Protonation = "ph7"
    max_atoms: Few = 60
    max_torsions: FewFrom0 = 20
    seed: Annotated[Whole, Field(ge=1, lt=2**31)] = 1
    # the content, not the file: a worker elsewhere need not have it, and a file may change during a run
    _text: str = field(init=False, repr=False, compare=False)
    _box: tuple[Point, Point] = field(init=False, repr=False, compare=False)

    name: ClassVar[str] = "vina"
    units: ClassVar[str] = "kcal/mol"
    label: ClassVar[str] = "docking score"
    negated: ClassVar[bool] = True  # what people of the field write is minus the score
    differentiable: ClassVar[bool] = False
    batched: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for package in ("vina", "meeko", "gemmi"):
            needs_extra(package, EXTRA)
        check_options(self, 'reward "vina"')
        object.__setattr__(self, "_text", read_receptor(self.receptor))
        object.__setattr__(self, "_box", checked_box(*self._read_box(), self._text, self.box or self.ligand))

    def _read_box(self) -> tuple[Sequence[float], Sequence[float]]:
        numbers = self.center is not None or self.size is not None
        if numbers + bool(self.box) + bool(self.ligand) != 1:
            raise ConfigError('reward "vina": give the box once: center and size, or a box file, or a ligand')
        if self.box:
            return box_of_file(self.box)
        if self.ligand:
            return box_of_ligand(self.ligand, self.padding)
        if self.center is None or self.size is None:
            raise ConfigError('reward "vina": center and size go together, three numbers each, in Å')
        return self.center, self.size

    @property
    def version(self) -> str:
        packages = [package_version(package) for package in ("vina", "meeko", "rdkit")]
        search = (self.exhaustiveness, self.max_evals, self.poses, self.seed)
        limits = (self.protonation, self.max_atoms, self.max_torsions)
        return f"1-{digest(repr((self._text, self._box, search, limits, packages)))}"

    def __call__(self, designs: list[str]) -> list[float]:
        return [self._score(design) for design in designs]

    def _score(self, design: str) -> float:
        try:
            engine = self._docked(design)
        except NotDockable as reason:
            return NotScored(str(reason))
        return 0.0 - min(0.0, float(engine.energies(n_poses=1)[0][0]))

    def dock(self, smiles: str) -> Docked:
        """Return the poses of a molecule within 3 kcal/mol of the best, at most `poses` of them.

        Raises:
            NotDockable: there is no ligand to dock, or Vina refused it.
        """
        meeko = needs_extra("meeko", EXTRA)
        engine = self._docked(smiles)
        energies = tuple(float(row[0]) for row in engine.energies(n_poses=self.poses))
        models = engine.poses(n_poses=self.poses)
        sdf, _ = meeko.RDKitMolCreate.write_sd_string(meeko.PDBQTMolecule(models, skip_typing=True))
        return Docked(energies, models, sdf)

    def _docked(self, smiles: str) -> Any:
        """Return this process's engine after it has docked a molecule."""
        text = ligand(smiles, self.protonation, self.seed, self.max_atoms, self.max_torsions)
        engine = _engine(self._text, *self._box, self.seed)
        try:
            engine.set_ligand_from_string(text)
            engine.dock(exhaustiveness=self.exhaustiveness, n_poses=self.poses, max_evals=self.max_evals)
        except (RuntimeError, TypeError) as error:
            raise NotDockable(f"Vina: {' '.join(str(error).split())}") from None
        return engine


@lru_cache(maxsize=2)  # the maps of a box of 20 Å take 350 MB, of 30 Å a gigabyte
def _engine(receptor: str, center: Point, size: Point, seed: int) -> Any:
    """Return Vina with the maps of a receptor and a box: half a second, paid once a process."""
    engine = needs_extra("vina", EXTRA).Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    set_receptor(engine, receptor)
    engine.compute_vina_maps(center=list(center), box_size=list(size))
    return engine
