"""Tune the shipped generator of 5′UTRs from Python, draw from it, and judge it."""

import biotilt

experiment = biotilt.Experiment.for_task("utr")
run = biotilt.tune(experiment, "runs/utr")
print(run.sample(3, seed=1))
print(run.evaluate()["rows"])  # also writes the designs, summary.json and report.html
