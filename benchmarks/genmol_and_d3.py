"""GenMol and D3 with random weights of the published sizes, for `models.py`, and what each is compared with."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biotilt import Model
from biotilt.models.convert import convert
from biotilt.networks import ScoreRatios
from biotilt.tensors import load_weights

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
PIECES = [*"CNOS", *(f"[{mass}C]" for mass in range(1, 1872))]
"""With the special tokens 1,880, and each an atom, so that whatever is drawn is a molecule."""
TIME, LEVEL = 0.75, 1e-4**0.25 * 20**0.75  # of D3: at a time, its noise
Said = Callable[[Tensor], Tensor]


def bert() -> Any:
    import transformers

    return transformers.BertConfig(vocab_size=len(SPECIAL) + len(PIECES), max_position_embeddings=256, pad_token_id=3)


def genmol(folder: Path) -> None:
    """Write what `biotilt convert` makes of a checkpoint, and a vocabulary."""
    import transformers

    torch.manual_seed(0)
    named = transformers.BertForMaskedLM(bert()).state_dict()
    torch.save({"state_dict": {f"backbone.{name}": tensor for name, tensor in named.items()}}, folder / "model.ckpt")
    convert("genmol", folder / "model.ckpt", folder / "genmol.safetensors")
    (folder / "model.ckpt").unlink()
    ends = [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}]
    said = {
        "model": {"type": "BPE", "vocab": {token: id for id, token in enumerate([*SPECIAL, *PIECES])}, "merges": []},
        "added_tokens": [{"id": id, "content": token, "special": True} for id, token in enumerate(SPECIAL)],
        "post_processor": {"type": "TemplateProcessing", "single": ends},
    }
    (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")


def genmol_of_transformers(folder: Path, model: Model) -> Said:
    """Return log p of pieces."""
    import transformers

    net, named = transformers.BertForMaskedLM(bert()), load_weights(folder / "genmol.safetensors")
    net.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in named.items()}, strict=False)
    net.tie_weights()
    net.eval()

    def asked(x: Tensor) -> Tensor:
        ids = torch.where(x > len(PIECES), 4, x.long() + len(SPECIAL))
        ends = [torch.full((len(x), 1), end) for end in (1, 2)]
        return net(torch.cat([ends[0], ids, ends[1]], 1)).logits[:, 1:-1, len(SPECIAL) :].log_softmax(-1)

    return asked


def equations() -> Any:
    if (folder := str(Path(__file__).parents[1] / "tests/models")) not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("sedd")


def d3_weights() -> dict[str, Tensor]:
    return equations().weights(0, width=256, told=128, stacks=4)


def d3(folder: Path) -> None:
    torch.save({"state_dict": d3_weights()}, folder / "k562.ckpt")
    convert("d3", folder / "k562.ckpt", folder / "k562.safetensors")


def d3_equations(folder: Path, model: Model) -> Said:
    named = d3_weights()
    return lambda x: equations().log_ratios(named, x, torch.full((len(x),), LEVEL), torch.zeros(len(x)))


def ratios_said(net: ScoreRatios) -> tuple[Tensor, Tensor, Tensor]:
    """Return designs, all of which counts, and the log ratios of their letters at three quarters of the noise's way."""
    x = torch.randint(net.config.letters, (3, net.config.length), generator=torch.Generator().manual_seed(0))
    return x, torch.ones(x.shape, dtype=torch.bool), net.ratios(x, torch.full((len(x),), TIME))
