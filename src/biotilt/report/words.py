"""The verdict and the summary of a run in words, for a reader who has never heard of diffusion models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from biotilt.digits import count, duration, pretty
from biotilt.evaluation.measure import WRITERS
from biotilt.report.data import ReportData
from biotilt.report.shown import row_title

Summary = Mapping[str, Any]
_TONES = {"won": "good", "level": "caution", "no_gain": "caution", "infeasible": "bad", "nothing_scored": "bad"}


def verdict_words(about: Summary) -> dict[str, Any]:
    """Return `headline`, `sentences`, `tone` and `take` of a verdict, as JSON: one text for page, terminal and summary.

    `about`: a run's summary with verdict, reward, held_out, rows, warnings and tables. `tone` is "good", "caution"
    (level, no judge, or a check fired) or "bad" (a row below the base, no gain, nothing to compare). `take` is the
    row whose table to use.
    """
    verdict = about["verdict"]
    outcome, winner = verdict["outcome"], verdict["winner"]
    if winner is None:
        return {"headline": _HOPELESS[outcome][0], "sentences": [_HOPELESS[outcome][1]], "tone": "bad", "take": None}
    judge = about["held_out"] if verdict["by"] == "held_out" else about["reward"]
    harvested = (verdict["harvest"] or {}).get("take", False)
    take = "harvest" if harvested else verdict["use"]
    sentences = [_lead(verdict, judge), *_below(verdict), *_broken(verdict, about), _cost(verdict)]
    sentences += _attainable(about)
    sentences += [_harvest(verdict, judge)] if verdict["harvest"] else []
    sentences += [_unjudged(about)] if verdict["by"] == "optimised" else []
    file = about["tables"]["files"].get(take)
    todo = f"Use {file}" if file else f"Use the designs called {row_title(take)}"
    sentences.append(f"What to do: {todo[:1].lower()}{todo[1:]}{_why(verdict, take)}.")
    tone = _TONES[outcome]
    if verdict["below_base"] or verdict["constraints_broken"].get(take):
        tone = "bad"
    elif tone == "good" and ((verdict["by"] == "optimised" and not _guarded(about)) or _accused(about, winner)):
        tone = "caution"
    return {"headline": _headline(verdict), "sentences": sentences, "tone": tone, "take": take}


_HOPELESS = {
    "nothing_scored": (
        "Nothing could be scored: there is no verdict.",
        "No design of any row has a score, by the reward or by a judge; see the reasons in failures.csv and among the "
        "problems below. Nothing was checked either.",
    ),
    "infeasible": (
        "Every typical design is infeasible: there is no verdict.",
        "Half of the designs of every row or more are infeasible (a score of −∞), so no row can be told from another. "
        "Loosen the bound that makes them so, or start from a generator that can keep it.",
    ),
}


def _headline(verdict: Summary) -> str:
    names = [verdict["winner"], *verdict["level_with"]]
    below = list(verdict["below_base"])
    lost = f" {_listed(below)} {'is' if len(below) == 1 else 'are'} below the base." if below else ""
    if verdict["outcome"] == "won":
        return f"{row_title(verdict['winner'])} won.{lost}"
    if verdict["outcome"] == "no_gain":
        others = [name for name in names if name != "base"]
        return lost.strip() if below and not others else f"Nothing was gained over the base.{lost}"
    return f"{_listed(names)} are level: the difference is within the noise.{lost}"


def _lead(verdict: Summary, judge: Summary) -> str:
    """Say how far the winner is ahead of each other row; differences are stated as better, whichever way that is."""
    name, sign = verdict["winner"], judge["sign"]
    who = "By the held-out judge" if verdict["by"] == "held_out" else "By the reward that was optimised"
    median = verdict["medians"][name]
    text = (
        f"{who} ({judge['label']}; {judge['better']} is better) the median of {_inline(name)} is "
        f"{pretty(None if median is None else sign * median)}"
    )
    leads = [
        f"{pretty(change['value'])} better than {_inline(other)} {_interval(change)}"
        for other, change in verdict["differences"].items()
        if change["value"] is not None
    ]
    lost = [other for other, change in verdict["differences"].items() if change["value"] is None]
    leads += [f"{_inline(other)} is mostly infeasible" for other in lost]
    return f"{text}: {'; '.join(leads)}." if leads else f"{text}."


def _interval(change: Summary) -> str:
    if change["low"] is None or change["high"] is None:
        return "(no interval: part of the designs are infeasible)"
    noise = "" if change["low"] > 0 or change["high"] < 0 else ", within the noise"
    return f"(95% interval {pretty(change['low'])} to {pretty(change['high'])}{noise})"


def _below(verdict: Summary) -> list[str]:
    names, medians = verdict["below_base"], verdict["medians"]
    base = medians.get("base")
    lower = [] if base is None else [n for n, m in medians.items() if n not in names and m is not None and m < base]
    told = []
    if names:
        told.append(f"{_listed(names)}: worse than the untuned generator, beyond the noise. Do not use {_them(names)}.")
    if lower:
        told.append(f"{_listed(lower)}: no better than the untuned generator; the median is worse, within the noise.")
    return told


def _broken(verdict: Summary, about: Summary) -> list[str]:
    rows = {row["name"]: row for row in about["rows"]}
    found = []
    for name, constraints in verdict["constraints_broken"].items():
        told = [c for c in rows[name]["constraints"] if c["name"] in constraints]
        listed = "; ".join(f"{c['name']} is {pretty(c['mean'])} on average, {_bound(c)}" for c in told)
        found.append(f"{row_title(name)} breaks a constraint and cannot win: {listed}.")
    return found


def _bound(constraint: Summary) -> str:
    bounds = [("at least", constraint["at_least"]), ("at most", constraint["at_most"])]
    return " and ".join(f"{words} {pretty(limit)} was asked" for words, limit in bounds if limit is not None)


def _cost(verdict: Summary) -> str:
    cost, name = verdict["cost"], verdict["use"]
    parts = [f"{count(cost['calls'])} oracle calls and {duration(cost['seconds'])}"]
    if cost["kl_policy_base"] is not None:
        parts.append(f"KL to the base {pretty(cost['kl_policy_base'])} nats")
    parts += [
        f"{n['header']} {_written(n, 'value')}" + ("" if n["base"] is None else f" (base {_written(n, 'base')})")
        for n in cost["naturalness"]
    ]
    return f"{row_title(name)} cost {'; '.join(parts)}."


def _attainable(about: Summary) -> list[str]:
    """Say what perfect tuning would have at this α, by the reward, beside what was had."""
    found, reward = about.get("attainable"), about["reward"]
    if not found:
        return []
    tuned = next((row for row in about["rows"] if row["name"] == "tuned"), {}).get("optimised") or {}
    had = "" if tuned.get("mean") is None else f"; the tuned designs have {pretty(reward['sign'] * tuned['mean'])}"
    bound = ("beyond " if found["at_least"] else "", " more than" if found["at_least"] else "")
    return [
        f"At {_which(about)} alpha, {pretty(found['alpha'])}, perfect tuning would have an average {reward['label']} "
        f"of {bound[0]}{pretty(reward['sign'] * found['mean'])}, at a KL of{bound[1]} {pretty(found['kl'])} nats, by "
        f"{count(found['designs'])} designs of the base{had}. A smaller alpha aims "
        "at a higher average, further from the base."
    ]


def _which(about: Summary) -> str:
    asked = about.get("target_kl")
    return "this" if asked is None else f"the last of a run that aimed at a KL of {pretty(asked)} nats, of"


def _written(natural: Summary, which: str) -> str:
    return WRITERS[natural["written"]](natural[which])


def _harvest(verdict: Summary, judge: Summary) -> str:
    harvest, use = verdict["harvest"], verdict["use"]
    median = None if harvest["median"] is None else judge["sign"] * harvest["median"]
    change = harvest["lead"]
    compared = (
        "" if change["value"] is None else f", {_better(change['value'])} than {_inline(use)} {_interval(change)}"
    )
    if verdict["by"] == "held_out":
        return (
            f"The harvest, the best of all that was scored, has a median of {pretty(median)} by the judge{compared}. "
            "The optimised reward chose it, so only the judge's word counts."
        )
    return (
        f"The harvest, the best of all that was scored, has a median of {pretty(median)}{compared}. It was chosen by "
        "this very score: the best that was found, no sample of what a generator makes."
    )


def _better(value: float) -> str:
    return f"{pretty(abs(value))} {'better' if value >= 0 else 'worse'}"


def _guarded(about: Summary) -> bool:
    """Return whether there is a judge of what designs should keep; runs judged by earlier versions have none."""
    return about["held_out"] is not None and bool(about["held_out"].get("guards"))


def _unjudged(about: Summary) -> str:
    if _guarded(about):
        judge = about["held_out"]
        medians = [(row["name"], (row.get("held_out") or {}).get("median")) for row in about["rows"]]
        told = [
            f"{pretty(judge['sign'] * median)} for {_inline(name)}" for name, median in medians if median is not None
        ]
        return (
            f"The held-out judge tells what designs should keep, and names no winner: its median ({judge['label']}; "
            f"{judge['better']} is better) is {', '.join(told) or 'not known'}."
        )
    if about["held_out"] is None:
        return "There is no held-out judge, so nothing here tells a real gain from an exploited reward."
    return (
        "The held-out judge scored none of these designs, so nothing here tells a real gain from an exploited reward."
    )


def _why(verdict: Summary, take: str) -> str:
    if take == "harvest":
        return ", the harvest; for fresh designs, those of " + _inline(verdict["use"])
    if verdict["outcome"] == "no_gain":
        return ", which cost nothing, or give tuning more calls or a smaller α"
    if verdict["outcome"] == "level":
        known = verdict["cost"]["kl_policy_base"] is not None
        return f" ({row_title(take)}): the rows are level" + (", and this one is nearer to the base" if known else "")
    return f" ({row_title(take)})"


def _accused(about: Summary, winner: str) -> bool:
    return any(winner in check["fired"] for check in about["checks"]["made"])


def _listed(names: list[str]) -> str:
    """Return names of rows as a sentence begins with them."""
    titles = [row_title(names[0]), *map(_inline, names[1:])]
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _inline(name: str) -> str:
    title = row_title(name)
    return f"{title[:1].lower()}{title[1:]}" if title != name else name


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def plain_summary(data: ReportData) -> list[str]:
    """Return sentences: what was done, and how a typical new design compares with the untuned ones."""
    done = f"tuned with {_spoken(data.objective)}" if data.row("tuned") else f"steered with {_spoken(data.objective)}"
    named = f" (task {data.task})" if data.task else ""
    opening = (
        f"A generator{named} was {done} to make designs with a {data.better} {data.reward}, "
        "while staying close to the designs it had learned from."
    )
    told = [opening]
    if data.stopped:
        told.append(f"Tuning ended early, after {count(len(data.history))} rounds ({data.stopped}).")
    mine = data.row("tuned") or data.row("steered")
    share = None if mine is None else _share_beaten(data, mine)
    if mine is None or share is None:
        return told
    return [*told, f"The typical {mine['name']} design is better than {share} of the untuned ones."]


def _share_beaten(data: ReportData, mine: Mapping[str, Any]) -> str | None:
    by = "held_out" if data.verdict.get("by", "held_out") == "held_out" else "optimised"
    median = (mine.get(by) or {}).get("median")
    values = data.scores.get("base", ((), None))[by == "held_out"]
    scored = [score for score in values or () if score is not None and not math.isnan(score)]
    if median is None or not scored:
        return None
    worse = sum(score > median if data.better == "lower" else score < median for score in scored)
    return f"{math.floor(100 * worse / len(scored))}%"  # rounded down, so that "100%" is said only of all


def _spoken(objective: str) -> str:
    """Return the name of an objective as prose has it: acronyms in capitals, words as words."""
    return objective.upper() if len(objective) <= 4 else objective.replace("_", " ")
