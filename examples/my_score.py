"""Tune toward a score of one's own, a Python function of a design."""

import biotilt


@biotilt.reward(per_design=True)
def kozak(design):
    """How many of the last six letters agree with GCCACC, the context of a strong start codon."""
    return sum(a == b for a, b in zip(design[-6:], "GCCACC"))


experiment = biotilt.Experiment.for_task("utr", reward=kozak, alpha=0.5)
run = biotilt.tune(experiment, "runs/kozak")
print(run.sample(3))
