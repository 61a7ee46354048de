"""The JASPAR matrices that ship with `enhancer`, and how often real elements and designs hold their motifs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from biotilt.files import read_json, write_json
from biotilt.rewards.dna.motifs import RELEASE, MotifScan, jaspar_matrix, log_odds, score_threshold
from biotilt.spaces import DNA

P_VALUE = 1e-4
SHIPPED = "motifs.json"

# Transcription factors of liver first (HNF4A … RORA), then of most cells; width ≥ 7, so that a word can be so rare.
_IDS = """
MA0114.5 MA0484.3 MA0046.3 MA0153.2 MA0148.5 MA0047.4 MA1683.2 MA0102.5 MA0466.4 MA0836.3 MA0679.3 MA0756.3 MA0017.3
MA1111.2 MA1148.2 MA0592.4 MA0071.1 MA0113.4 MA0482.3 MA1104.3 MA0035.5 MA0493.3 MA0039.5 MA0599.1 MA0079.5 MA0516.3
MA0746.3 MA0162.5 MA0139.2 MA0138.3 MA0060.4 MA0502.3 MA0605.3 MA0833.3 MA0834.2 MA0018.5 MA0488.2 MA0477.3 MA0478.2
MA1634.2 MA0495.4 MA0496.4 MA1633.2 MA0093.4 MA0526.5 MA0831.3 MA0147.4 MA0059.2 MA0595.1 MA0828.3 MA0028.3 MA0076.3
MA0764.4 MA0473.4 MA0640.3 MA0062.4 MA0598.4 MA0024.3 MA0470.3 MA0527.2 MA0750.3 MA0523.2 MA0137.4 MA0144.3 MA0051.2
MA1418.2 MA0107.1 MA0105.4 MA0106.3 MA0090.4 MA0511.2 MA0052.5 MA0083.3 MA0143.5 MA0785.2 MA0077.2 MA0712.3 MA0088.2
MA0509.3 MA0108.3 MA0161.3 MA0043.4 MA0639.2 MA0843.2 MA0025.3 MA0844.2 MA0839.2 MA1522.2 MA1961.2 MA0003.5
MA0524.3 MA1123.3 MA0830.3 MA1100.3 MA0481.4
"""
MATRICES = tuple(_IDS.split())


def write_matrices(out: Path) -> None:
    """Write names and counts of `MATRICES`, so that the panel needs no JASPAR database."""
    matrices = {}
    for matrix in MATRICES:
        name, counts = jaspar_matrix(matrix)
        matrices[matrix] = {"name": name, "counts": counts.tolist()}
    about = f"{RELEASE} CORE (Rauluseviciute et al. 2024, NAR 52:D174), CC BY 4.0; columns A, C, G, T"
    write_json(out / SHIPPED, {"about": about, "matrices": matrices})


@lru_cache(maxsize=1)
def shipped_matrices() -> dict[str, Tensor]:
    """Return the log-odds `(w, 4)` of the shipped matrices, by id."""
    stored = read_json(Path(__file__).parent / SHIPPED)["matrices"]
    return {matrix: log_odds(torch.tensor(entry["counts"])) for matrix, entry in stored.items()}


def motif_hits(sequences: list[str], matrices: dict[str, Tensor], p_value: float = P_VALUE) -> np.ndarray:
    """Return for each matrix its hits on both strands, on average over sequences of one length, `(M,)`."""
    scan = MotifScan(list(matrices.values()))
    thresholds = [score_threshold(matrix, p_value) for matrix in matrices.values()]
    found = np.zeros(len(matrices))
    for start in range(0, len(sequences), 256):
        tokens = DNA.encode_many(sequences[start : start + 256])
        scores = scan(F.one_hot(tokens.long(), 4).float())
        found += [int((score > threshold).sum()) for score, threshold in zip(scores, thresholds)]
    return found / len(sequences)
