"""What a run says of the model that it made, for the card of its folder: base, reward, result, data, limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biotilt.digits import count, duration, pretty

_NO_EXPERIMENT = "No design was made or measured: what is said of designs is what the models of this run predict."


def about_run(
    config: Mapping[str, Any], history: Mapping[str, Any], summary: Mapping[str, Any] | None, *,
    reward: str, alpha: float, base: Mapping[str, Any], sums: Mapping[str, str],
) -> dict[str, str]:  # fmt: skip
    """Return the text below each heading of a run's card.

    `config`: of the experiment, as its record has it; `history`: the last row of figures; `summary`: what `evaluate`
    wrote, None where nothing has been judged; `reward`: what it calls itself; `base`: the card beside the base's file,
    which says of which data it was made; `sums`: the SHA-256 of the files that the run read, by path.
    """
    return {
        "Base": _base(config, sums),
        "Tuned toward": _tilt(config, history, reward, alpha),
        "Result": _result(summary),
        "Data": _data(base),
        "Limits": _limits(summary),
    }


def _base(config: Mapping[str, Any], sums: Mapping[str, str]) -> str:
    model = config["model"]
    named = str(model.get("path") or model.get("source") or model.get("factory"))
    shown = Path(named).name if Path(named).is_absolute() else named  # the folders of a machine are nobody's business
    lines = [f"the pretrained model: `{shown}`"]
    if model.get("options"):
        lines.append(f"its options: {_said(model['options'])}")
    if named in sums:
        lines.append(f"SHA-256 of its file: `{sums[named]}`")
    if model.get("condition") is not None:
        lines.append(f"told: {_said(model['condition'])}, guidance {model.get('guidance', 0)}")
    lines += [f"design.{key}: {_said(value)}" for key, value in config.get("design", {}).items()]
    return _list(lines)


def _tilt(config: Mapping[str, Any], history: Mapping[str, Any], reward: str, alpha: float) -> str:
    lines = [f"reward: {reward} (kind `{config['reward']['kind']}`), higher is better"]
    if config.get("held_out"):
        lines.append(f"judged by another one, kind `{config['held_out']['kind']}`, which tuning never saw")
    for bound in config.get("constraints", []):
        said = ", ".join(f"{key} {bound[key]:g}" for key in ("at_least", "at_most") if bound.get(key) is not None)
        lines.append(f"constraint: {bound.get('name') or bound['kind']}, {said}")
    lines.append(f"alpha: {pretty(alpha)} (smaller tilts harder; the target is p_base · exp(reward/alpha))")
    options = {key: value for key, value in config["objective"].items() if key != "name"}
    lines.append(f"objective: {config['objective'].get('name', 'vidd')}{f', {_said(options)}' if options else ''}")
    lines.append(f"oracle calls: {count(history.get('calls'))}, seed {config['seed']}")
    if history.get("seconds") is not None:
        lines.append(f"time: {duration(history['seconds'])}")
    return _list(lines)


def _result(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "Nothing has been judged: `biotilt evaluate RUN` compares base, best-of-N and tuned."
    rows = ["| row | designs | reward, median | judge, median | unique | KL to the base, nats |", "|---|" + "---|" * 5]
    for row in summary["rows"]:
        judge = (row.get("held_out") or {}).get("median")
        cells = [row["name"], count(row.get("n")), pretty((row.get("optimised") or {}).get("median")), pretty(judge)]
        cells += [pretty(row.get("unique")), pretty(row.get("kl_policy_base"))]
        rows.append(f"| {' | '.join(cells)} |")
    verdict = summary.get("verdict", {})
    return "\n".join([f"{verdict['headline']}\n" if "headline" in verdict else "", *rows]).strip()


def _data(base: Mapping[str, Any]) -> str:
    if not base:
        return "The base came without a card that says of which data it was made."
    lines = []
    if isinstance(data := base.get("data"), Mapping):
        lines.append(f"the base was made of: {_said(data)}")
    metrics = base.get("metrics")
    if isinstance(metrics, Mapping):
        figures = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        lines += [f"{key}: {pretty(value) if isinstance(value, float) else value}" for key, value in figures.items()]
    return _list([*lines, *map(str, base.get("notes", []))]) or "The card of the base names no data."


def _limits(summary: Mapping[str, Any] | None) -> str:
    lines = [_NO_EXPERIMENT]
    lines.append("A reward that is a prediction is right near its data only; a tuned model looks for its errors too.")
    if summary is not None:
        lines += [f"warning: {said}" for said in summary.get("warnings", [])]
        for check in summary.get("checks", {}).get("not_possible", []):
            lines.append(f"not checked: {check['check']}, because {check['because']}")
    return _list(lines)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_said(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_said, value))}]"
    return f"`{value}`" if isinstance(value, str) else str(value)


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
