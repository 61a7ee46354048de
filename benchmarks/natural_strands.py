"""What natural proteins rich in strands look like: the panel of the task `protein` on the first by predictor.

python benchmarks/natural_strands.py --data FOLDER [--count 100]

FOLDER is that of the recipe. The proteins are of clusters that the generator did not train on. It tells how much of a
tuned generator's drift is what strands ask for, and how much is not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from biotilt.rewards.protein.secondary import SecondaryStructure
from biotilt.tasks.protein.corpus import natural_sequences
from biotilt.tasks.protein.panel import measures
from biotilt.tasks.protein.recipe import SPLIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    sequences = natural_sequences(options.data)
    _, validation, test = SPLIT.rows(len(sequences), 0)
    unseen = [sequences[i] for part in (validation, test) for i in part.tolist()]
    ranked = [s for _, s in sorted(zip(SecondaryStructure("E")(unseen), unseen))]
    found = {measure.key: measure.compute(ranked[-options.count :]) for measure in measures()}
    print(json.dumps({"unseen": len(unseen), "count": options.count} | found, indent=2))


if __name__ == "__main__":
    main()
