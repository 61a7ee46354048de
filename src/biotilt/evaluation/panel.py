"""The panel that every comparison reports: one row a set of designs, a column a measure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Generator, Tensor

from biotilt.core import LetterEvidence, Policy
from biotilt.errors import Problems, reason_of
from biotilt.evaluation.common import common_measures
from biotilt.evaluation.judged import Judged
from biotilt.evaluation.measure import Measure
from biotilt.evaluation.metrics import summary

Row = dict[str, Any]

# Corruptions a design: on 5'UTRs of the base eight independent ones leave a standard error of 2.4 nats, five that are
# spread over the steps one of 2.3.
INDEPENDENT, SPREAD = 8, 5


def panel(name: str, designs: Judged, problems: Problems | None = None) -> Row:
    """Return one row of `summary.json`: plain numbers, or None where a number does not exist, never NaN.

    It has the measures of every panel (`common_measures`) by their keys. `n` counts the designs, `unscored` and
    `infeasible` those of them by the optimised oracle. A measure that fails is None, with a line in `problems`; without
    `problems` its error is raised.
    """
    counts = summary([] if designs.optimised is None else designs.optimised)
    row: Row = {"name": name, "n": len(designs), "unscored": counts["unscored"], "infeasible": counts["infeasible"]}
    measured = common_measures(designs.space)
    if problems is None:
        for measure in measured:
            measure.put(row, measure(designs))
        return row
    measure_all(measured, [(row, designs)], problems)
    return row


def measure_all(measures: Iterable[Measure], rows: Iterable[tuple[Row, Judged]], problems: Problems) -> None:
    """Put each measure of the designs of each row into the row, None where it fails, with a line in `problems`."""
    rows = list(rows)
    for measure in measures:
        failed: dict[str, str] = {}
        for row, designs in rows:
            measure.put(row, None)
            try:
                measure.put(row, measure(designs))
            except Exception as error:  # whatever the code of a stranger raises
                failed[row["name"]] = reason_of(error)
        if len(failed) > 1 and len(failed) == len(rows) and len(set(failed.values())) == 1:
            failed = {"every row": next(iter(failed.values()))}
        problems += [f"{measure.header} of {name}: {reason}" for name, reason in failed.items()]


@torch.no_grad()
def likelihood(
    policy: Policy, designs: Tensor, generator: Generator, *, draws: int | None = None, chunk: int = 512
) -> Tensor:
    """Return an estimate of a lower bound on log p of each design under the policy (the ELBO), `(B,)`, nats.

    It is unbiased for the bound, not for the log-probability: compare it between designs under one policy only. A
    process that knows the evidence for each letter has the bound of the chain that it draws, its draws spread evenly
    over the steps; any other that of its denoising loss.

    Args:
        policy: whose likelihood; usually the base.
        designs: `(B, ...)`, as the process takes them.
        generator: draws the corruptions.
        draws: corruptions a design, at least 1; the error falls with them. By default as many as bring it to that of
            eight independent ones.
        chunk: states a network call.
    """
    process = policy.process
    spread = isinstance(process, LetterEvidence)
    draws = draws or (SPREAD if spread else INDEPENDENT)
    found = []
    for part in designs.split(max(1, chunk // draws if spread else chunk)):
        if isinstance(process, LetterEvidence):
            log_prob, weight = process.letter_evidence(policy.net, part, generator, draws)
            found.append((log_prob * weight).sum(-1).mean(0))
        else:
            total = sum(process.denoising_loss(policy.net, part, generator) for _ in range(draws))
            found.append(-torch.as_tensor(total) / draws)
    return torch.cat(found) if found else torch.zeros(0, device=designs.device)
