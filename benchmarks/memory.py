"""Memory and disk that tuning takes, for a network of 38M numbers: as a whole, or adapters of it.

    python benchmarks/memory.py --objective ppo --rank 8
    python benchmarks/memory.py --objective vidd            # without --rank: all weights are trained

One round of 8 calls with one update on 4 states, so the figures are of weights and not of activations; designs of 64
letters, 8 steps. Prints JSON: numbers in the network and of them trained, the peak of the process's memory less what
it took before the run, and the sizes of a checkpoint and of the tuned model.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch

from biotilt import Experiment, Model, tune
from biotilt.core import Policy
from biotilt.networks import CNN, CNNConfig
from biotilt.processes import AnyOrder

try:
    from biotilt.spaces import as_space
except ImportError:  # versions before that, which this is compared with
    from biotilt.designs import as_codec as as_space  # type: ignore[import-not-found, no-redef]

LENGTH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objective", default="ppo")
    parser.add_argument("--rank", type=int, help="of adapters, on every layer that can have them")
    parser.add_argument("--channels", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = CNNConfig(4, LENGTH, channels=options.channels, blocks=5, dilations=(1,))
        torch.manual_seed(0)
        Model(Policy(AnyOrder(LENGTH, 4, per_step=8), CNN(config).eval()), as_space("dna")).save(
            folder / "base.safetensors"
        )
        section: dict[str, Any] = {"path": "base.safetensors"}
        if options.rank:
            section["lora"] = {"rank": options.rank}
        keys = {
            "alpha": 0.1, "model": section, "reward": {"kind": "gc"},
            "objective": {"name": options.objective, "updates": 1, "states": 4},
            "value": {"imagine": 8, "keep": 8},
            "train": {"max_calls": 8, "batch": 8},
        }  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tune(Experiment.from_dict(keys, folder), folder / "run")
        net = Experiment.from_dict(keys, folder).model.policy.net
        print(json.dumps({
            "objective": options.objective, "rank": options.rank,
            "millions": sum(p.numel() for p in net.parameters()) / 1e6,
            "millions_trained": sum(p.numel() for p in net.parameters() if p.requires_grad) / 1e6,
            "peak_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3),
            "before_mb": round(before / 1e3),
            "checkpoint_mb": round((folder / "run/checkpoint.safetensors").stat().st_size / 1e6, 1),
            "tuned_mb": round((folder / "run/tuned.safetensors").stat().st_size / 1e6, 1),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
