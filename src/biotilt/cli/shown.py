"""What people see of a result, in lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biotilt.steering import Steered


def summarised(summary: dict[str, Any]) -> tuple[Any, ...]:
    """Return what people see of a summary: the verdict first, then the table, warnings, problems and checks."""
    from biotilt.evaluation.binding import binding_words
    from biotilt.evaluation.measure import described
    from biotilt.report import checks_lines, panel_table, shown_rows, verdict_text
    from biotilt.report.took import Curves, took_in_field, took_table

    verdict, progress, sign = summary["verdict"], summary.get("progress"), summary["reward"]["sign"]
    table = panel_table(shown_rows(summary), described(summary["measures"]), verdict, summary["reward"])
    warnings = [f"warning: {warning}" for warning in summary["warnings"]]
    problems = [f"problem: {problem}" for problem in summary["problems"]]
    levels = [took_table([Curves("", took_in_field(progress, sign))])] if progress and progress["levels"] else []
    bounds = [words] if (words := binding_words(summary.get("constraints", []), summary["rows"])) else []
    return verdict_text(verdict), table, *bounds, *levels, *warnings, *problems, *checks_lines(summary["checks"])


def checked(found: dict[str, Any]) -> str:
    """Say what a look before a run found."""
    from biotilt.check import TELLING
    from biotilt.digits import duration, pretty

    cost, memory, gives = found["estimate"], found["estimate"]["memory_mb"], found["attainable"]
    lines = [f"a design: {found['example']}", *found["chosen"]]
    lines += [
        f"{which}: {s['name']}, {s['mean']:.3g} ± {s['std']:.2g} on the base, {s['seconds'] * 1000:.3g} ms a design"
        for which, s in found["base"].items()
        if s["mean"] is not None
    ]
    lines.append(
        f"a run takes {cost['calls']} oracle calls ({cost['evaluation_scores']} more designs to judge it), "
        f"about {duration(cost['seconds'])}" + (f" and {memory:.0f} MB" if memory else "")
    )
    if gives is not None and gives["designs"] >= TELLING:
        bound = "beyond " if gives["at_least"] else ""
        lines.append(
            f"at alpha = {gives['alpha']:g} perfect tuning has a mean reward of {bound}{pretty(gives['mean'])}, at "
            f"a KL of {bound}{pretty(gives['kl'])} nats; best of N {pretty(gives['best_of_n'])}"
        )
    lines += [f"look at: {problem}" for problem in found["problems"]] or ["nothing looks wrong"]
    return "\n".join(lines)


def steered(found: Steered, out: Path | None) -> str:
    """Say in a few lines what a sampler drew."""
    import numpy as np

    from biotilt.digits import count, pretty
    from biotilt.evaluation.common import near_copies
    from biotilt.evaluation.mending import mending_told
    from biotilt.spaces import Text

    def median(scores: list[float]) -> str:
        known = [score for score in scores if not np.isnan(score)]
        return pretty(float(np.median(known)) if known else None)

    lines = [
        f"{len(found.designs)} designs for {count(found.calls)} oracle calls; median reward {median(found.rewards)}"
    ]
    if found.held_out is not None:
        lines[0] += f", held-out {median(found.held_out)}"
    if "value_calls" in found.metrics:
        lines.append(f"{count(int(found.metrics['value_calls']))} of the calls taught the value that guides")
    effective = 1 / sum(w * w for w in found.weights)
    if effective < 0.99 * len(found.designs):
        lines.append(f"their weights differ: they count as {pretty(effective)} designs of equal weight")
    if found.closest is not None and isinstance(found.space, Text):
        longest = max(map(len, found.designs))
        lines.append(f"the closest two differ at {found.closest} of {longest} positions")
        lines += [f"warning: {said}" for said in [near_copies(found.designs, found.space)] if said]
    elif found.closest is not None:
        lines.append(f"the closest two are {pretty(found.closest)} apart")
    if found.log_z is not None:
        error = "" if found.log_z_error is None else f" ± {found.log_z_error:.2g}"
        lines.append(f"log Z = {pretty(found.log_z)}{error}")
    lines += [said for said in [mending_told(found.designs, found.space)] if said]
    lines += [f"warning: {warning}" for warning in found.warnings]
    if out is not None:
        return "\n".join([*lines, f"wrote {out}"])
    order = np.argsort([-w for w in found.weights], kind="stable")[:10]
    best = [
        f"{found.space.label(found.designs[i])}  {pretty(found.rewards[i])}  weight {pretty(found.weights[i])}"
        for i in order
    ]
    return "\n".join([*lines, *best, *(["…"] if len(found.designs) > len(best) else [])])
