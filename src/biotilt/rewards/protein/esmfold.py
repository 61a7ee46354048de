"""ESMFold (Lin et al. 2023, Science 379:1123) through transformers, from weights that the user fetched."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt.errors import ConfigError, needs_extra
from biotilt.rewards.generic.base import digest
from biotilt.rewards.protein.folded import Chains, NoStructure, Structure, file_mark
from biotilt.rewards.protein.pdb import RESIDUE_NAMES
from biotilt.spaces import PROTEIN

LINKER = "G" * 25  # between chains: ESMFold was trained on single chains
GAP = 512  # residue numbers that are left out after a chain, so that the linker is seen as no neighbour
_FARTHEST = 31.0  # Å, the last boundary of the bins of the predicted aligned error
_CA = 1  # place of the Cα among the 37 atoms


class ESMFold:
    """Structures by ESMFold; `path` is a folder with `config.json` and safetensors weights.

    Several chains are folded as one, joined by 25 glycines and a jump of 512 in the residue numbers, as ESMFold's own
    code does; the linker is cut out of every result. Designs are folded one at a time, without padding, because
    transformers counts padding in the pTM.

    Raises ConfigError when transformers is missing (`pip install transformers`), or the folder holds no
    safetensors weights (pickles, `pytorch_model.bin`, are not read).
    """

    def __init__(self, path: Path | str, device: str = "cpu") -> None:
        self.path, self.device = Path(path), device
        weights = sorted(self.path.glob("*.safetensors"))
        if not weights or not (self.path / "config.json").is_file():
            pickles = sorted(file.name for file in self.path.glob("*.bin"))
            why = f" ({', '.join(pickles)} is a pickle, which can run code when read)" if pickles else ""
            raise ConfigError(
                f'"{path}" must hold config.json and weights in *.safetensors{why}. Fetch facebook/esmfold_v1 from '
                "huggingface.co; if it comes as a pickle, write it anew with EsmForProteinFolding.save_pretrained in "
                "an environment that you trust"
            )
        marks = [file_mark(file) for file in [self.path / "config.json", *weights]]
        self.version = digest(" ".join([needs_extra("transformers", "folding").__version__, *marks]))

    @cached_property
    def _model(self) -> Any:
        model = needs_extra("transformers", "folding").EsmForProteinFolding
        return model.from_pretrained(self.path, local_files_only=True, use_safetensors=True).eval().to(self.device)

    @torch.no_grad()
    def fold(self, chains: Chains) -> Structure:
        """Return the structure of one or more chains; raises NoStructure for an empty or unreadable one."""
        if not chains or not all(chains) or any(set(chain) - set(PROTEIN.letters) for chain in chains):
            raise NoStructure("ESMFold reads chains of the 20 residues, none of them empty")
        numbers, chain_of = residue_numbers(chains)
        output = self._model.infer(LINKER.join(chains), position_ids=numbers[None])
        real = chain_of >= 0
        logits = output["ptm_logits"][0].float().cpu()[real][:, real]
        plddt = output["plddt"][0, :, _CA].float().cpu()[real]
        pae = output["predicted_aligned_error"][0].float().cpu()[real][:, real]
        ids = chain_of[real]
        return Structure(
            self._atoms(output, real, "".join(chains), ids),
            plddt.numpy(),
            predicted_tm(logits),
            predicted_tm(logits, ids[:, None] != ids[None, :]) if len(chains) > 1 else None,
            pae.numpy(),
        )

    def _atoms(self, output: Any, real: Tensor, sequence: str, chain_of: Tensor) -> Any:
        """Return the heavy atoms of an output as biotite's AtomArray."""
        structure = needs_extra("biotite.structure", "protein")
        constants = needs_extra("transformers.models.esm.openfold_utils", "folding").residue_constants
        # 14 places a residue, whose meaning depends on the residue
        coordinates = output["positions"][-1, 0].float().cpu()[real].numpy()
        plddt = output["plddt"][0, :, _CA].float().cpu()[real].numpy()
        names = dict(zip(PROTEIN.letters, RESIDUE_NAMES))
        atoms = []
        starts = [int((chain_of < chain).sum()) for chain in chain_of]
        for place, letter in enumerate(sequence):
            for slot, atom in enumerate(constants.restype_name_to_atom14_names[names[letter]]):
                if atom:
                    atoms.append(
                        structure.Atom(
                            coordinates[place, slot], chain_id=chr(ord("A") + int(chain_of[place])),
                            res_id=place - starts[place] + 1, res_name=names[letter], atom_name=atom,
                            element=atom[0], b_factor=float(plddt[place]),
                        )
                    )  # fmt: skip
        return structure.array(atoms)


def residue_numbers(chains: Chains) -> tuple[Tensor, Tensor]:
    """Return, for chains joined by linkers, residue numbers `(L,)` and chain numbers `(L,)`, −1 in a linker.

    >>> numbers, chain = residue_numbers(("MK", "A"))
    >>> numbers.tolist()[:3], numbers.tolist()[-1], chain.tolist()[:3], chain.tolist()[-1]
    ([0, 1, 2], 539, [0, 0, -1], 1)
    """
    length = sum(map(len, chains)) + len(LINKER) * (len(chains) - 1)
    chain_of = torch.full((length,), -1)
    jumps = torch.zeros(length, dtype=torch.long)
    ends = accumulate(len(chain) + len(LINKER) for chain in chains)
    for number, (chain, end) in enumerate(zip(chains, ends)):
        start = end - len(chain) - len(LINKER)
        chain_of[start : start + len(chain)] = number
        jumps[start:] = number * GAP
    return torch.arange(length) + jumps, chain_of


def predicted_tm(logits: Tensor, pairs: Tensor | None = None) -> float:
    """Return the predicted TM-score, max_i mean_j E[1 / (1 + (e_ij/d₀)²)], of the aligned error's law.

    Args:
        logits: `(L, L, bins)` of the error e_ij, 31 Å at the last boundary.
        pairs: `(L, L)`, which j count for an i; all without it. Pairs of residues in different chains give the ipTM.

    d₀ is that of all L residues, 19 at least: 1.24 (L − 15)^⅓ − 1.8 Å. Source: Jumper et al. 2021, Nature 596:583,
    supplement 1.9.7; Evans et al. 2021, bioRxiv 2021.10.04.463034, section 7.9 (ipTM).
    """
    length, bins = logits.shape[0], logits.shape[-1]
    width = _FARTHEST / (bins - 2)
    centres = (torch.arange(bins) + 0.5) * width
    d0 = 1.24 * (max(length, 19) - 15) ** (1 / 3) - 1.8
    expected = (logits.double().softmax(-1) / (1 + (centres / d0) ** 2)).sum(-1)
    counted = torch.ones_like(expected, dtype=torch.bool) if pairs is None else pairs
    means = (expected * counted).sum(-1) / counted.sum(-1).clamp(min=1)
    return means.max().item()
