"""The command line: every command is a few lines over the Python API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biotilt.cli.console import MOST_DESIGNS, MOST_SEED, Answer, Commands, answering, note, take_threads
from biotilt.cli.fit import convert, export, fit_oracle, given, pretrain
from biotilt.cli.runs import judged, say_what_runs, tuned
from biotilt.cli.shown import checked, steered, summarised
from biotilt.errors import ConfigError
from biotilt.progress import counting
from biotilt.ranks import is_first, require_one

# torch takes seconds to import: whatever needs it is imported inside the commands
if TYPE_CHECKING:
    from biotilt.model import Model

app = typer.Typer(
    name="biotilt",
    cls=Commands,
    help="Tilt a pretrained diffusion model of sequences toward any reward.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
tasks_app = typer.Typer(cls=Commands, help="The ready-made tasks.", no_args_is_help=True)
app.add_typer(tasks_app, name="task")

ExperimentFile = Annotated[Path, typer.Argument(metavar="FILE", help="An experiment file (TOML).")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. train.lr=0.0005.")
]
Alpha = Annotated[float | None, typer.Option(help="Temperature: smaller tilts harder.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the code that the folder names though somebody else made it.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=MOST_SEED, help="Seed of the run.")]


def _version(wanted: bool) -> None:
    if wanted:
        from biotilt import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
@answering
def demo(
    task: Annotated[str, typer.Option(help="A ready-made task; see `biotilt task list`.")] = "utr",
    folder: Annotated[Path | None, typer.Option(help="Where the run is kept; default runs/demo-TASK.")] = None,
    seed: Seed = None,
    alpha: Alpha = None,
    overwrite: Annotated[bool, typer.Option(help="Start anew whatever the folder holds.")] = False,
    assignments: Assignments = None,
) -> Answer:
    """Tune a shipped generator (of 5′UTRs), judge it, and write a page about it: a few minutes on a laptop."""
    from biotilt.experiment import Experiment
    from biotilt.folder_state import free_folder
    from biotilt.keys import override

    folder = folder or Path("runs/demo" if task == "utr" else f"runs/demo-{task}")
    data = override({"task": task}, _assignments(assignments, seed=seed, alpha=alpha))
    experiment = Experiment.from_dict(data, Path(), "the demo")
    if not overwrite:
        folder, why = free_folder(experiment, folder)
        if why:
            note(why)
    return judged(tuned(experiment, folder, overwrite))


@app.command()
@answering
def init(
    task: Annotated[str, typer.Argument(help="A ready-made task; see `biotilt task list`.")],
    file: ExperimentFile,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> Answer:
    """Write a commented experiment file to start from."""
    from biotilt.files import write_text
    from biotilt.tasks import find_task

    text = find_task(task).starter()
    if file.exists() and not force:
        raise ConfigError(f"{file} exists; name another file, or say --force")
    write_text(file, text)
    return Answer({"file": str(file), "task": task}, (f"wrote {file}; next: biotilt check {file}",))


@app.command()
@answering
def check(
    file: ExperimentFile,
    assignments: Assignments = None,
    designs: Annotated[
        int, typer.Option(min=2, max=MOST_DESIGNS, help="Designs of the base to score; 64 or more tell of alpha.")
    ] = 16,
) -> Answer:
    """Build an experiment, score a few designs, try one round, and estimate what a run costs and alpha can give."""
    require_one("biotilt check")
    from biotilt.check import check as check_experiment
    from biotilt.experiment import Experiment

    experiment = Experiment.load(file, overrides=assignments)
    take_threads(experiment.config.threads)
    found = check_experiment(experiment, designs=designs)
    return Answer(found, (checked(found),))


@app.command()
@answering
def tune(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An experiment file (TOML).")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to keep the run; default runs/FILE.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with the run in this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew over an earlier run.")] = False,
    assignments: Assignments = None,
    max_calls: Annotated[int | None, typer.Option(help="Budget of oracle calls; with --resume a larger one.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="The first round that ends past them is the last; with --resume more.")
    ] = None,
    seed: Seed = None,
    alpha: Alpha = None,
    evaluate: Annotated[bool, typer.Option(help="Judge the result and write designs and the page.")] = True,
    trust: Trust = False,
) -> Answer:
    """Tune an experiment: `tune FILE`; or go on with a run, interrupted or to be given more: `tune --resume FOLDER`."""
    from biotilt.budget import with_budget
    from biotilt.experiment import Experiment
    from biotilt.provenance import recorded

    if (file is None) == (resume is None):
        raise ConfigError("give an experiment file, or --resume with the folder of a run: one of the two")
    changes = _assignments(assignments, seed=seed, alpha=alpha)
    budget = {"max_calls": max_calls, "max_seconds": max_seconds}
    more = resume is not None and bool(given(**budget))
    if resume is not None:
        if changes or overwrite or folder is not None:
            raise ConfigError(
                "--resume goes on with the run as it was started: leave the other options out but --max-calls and "
                "--max-seconds, which give it more"
            )
        experiment, folder = recorded(resume, trust=trust), resume
        say_what_runs(experiment, resume)
        experiment = with_budget(experiment, **budget) if more else experiment
    elif trust:
        raise ConfigError("--trust goes with --resume: an experiment file of your own is run as it is")
    else:
        assert file is not None
        changes += _assignments(None, **budget)
        experiment, folder = Experiment.load(file, overrides=changes), folder or Path("runs") / file.stem
    run = tuned(experiment, folder, overwrite, more)
    if evaluate:
        return judged(run)
    document = {
        "folder": str(folder),
        "calls": run.rows[-1]["calls"],
        "history": run.rows,
        "stopped": run.stopped or None,
    }
    return Answer(document, (f"tuned; next: biotilt evaluate {folder}",))


@app.command()
@answering
def sample(
    model: Annotated[Path, typer.Argument(help="The folder of a finished run, or a generator's file.")],
    count: Annotated[int, typer.Option(min=1, max=MOST_DESIGNS, help="Designs to draw.")] = 100,
    out: Annotated[Path | None, typer.Option(help="A .fasta, .csv, .tsv, .smi or .txt file.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED)] = 0,
    fixed: Annotated[str | None, typer.Option(help='Pattern to keep, "." where free: "GCC......"')] = None,
    conditions: Annotated[
        list[str] | None, typer.Option("--condition", help="What the network is told; several: one drawn for each.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Of the condition, classifier-free; default that of the model.")
    ] = None,
    trust: Trust = False,
) -> Answer:
    """Draw designs; without --out they are printed as FASTA."""
    from biotilt.core.space import Record
    from biotilt.evaluation.mending import mending_told
    from biotilt.run import load_model

    loaded = load_model(model, trust=trust)
    if out is not None:
        loaded.space.check_output(out)
    if fixed is not None:
        loaded = loaded.with_fixed(loaded.fixed(fixed))
    loaded = _with_condition(loaded, conditions, guidance)
    take_threads()
    states = loaded.draw(count, seed=seed)
    designs, told, space = loaded.decode(states), loaded.conditions_of(states), loaded.space
    if said := mending_told(designs, space):
        note(said)
    if out is not None:
        columns = [{"condition": one} for one in told] or [{} for _ in designs]
        rows = zip(designs, columns)
        space.write(out, [Record(f"design_{i}", design, values) for i, (design, values) in enumerate(rows, 1)])
        return Answer({"out": str(out), "count": count, "seed": seed}, (f"wrote {count} designs to {out}",))
    if space.medium == "text":
        names = [f" condition={one}" for one in told] or [""] * count
        lines = [f">design_{i}{name}\n{design}" for i, (name, design) in enumerate(zip(names, designs), 1)]
    else:
        lines = [space.label(design) for design in designs]
    about = {"designs": [space.key(design) for design in designs], "seed": seed}
    return Answer(about | ({"conditions": told} if told else {}), ("\n".join(lines),))


def _with_condition(model: Model, conditions: list[str] | None, guidance: float | None) -> Model:
    """Return the model with another condition or guidance, where one is given."""
    if not conditions and guidance is None:
        return model
    now = model.told
    if not conditions and now is None:
        raise ConfigError("--guidance strengthens a condition: name one, --condition LABEL")
    if guidance is None:
        guidance = 0.0 if now is None else now.guidance
    return model.with_condition(conditions or (None if now is None else now.table), guidance=guidance)


@app.command()
@answering
def steer(
    file: ExperimentFile,
    count: Annotated[int, typer.Option(min=1, max=MOST_DESIGNS, help="Designs to draw.")] = 64,
    proposal: Annotated[Path | None, typer.Option(help="A tuned run that draws in place of the base.")] = None,
    value: Annotated[Path | None, typer.Option(help="A tuned run whose learned value guides the sampler.")] = None,
    out: Annotated[Path | None, typer.Option(help="A .csv, .tsv, .fasta, .smi or .txt file.")] = None,
    page: Annotated[bool, typer.Option(help="With --out: judge the base too, and write a page beside it.")] = True,
    assignments: Assignments = None,
    seed: Seed = None,
    alpha: Alpha = None,
    trust: Trust = False,
) -> Answer:
    """Draw designs with the sampler of an experiment, which asks the reward and leaves the weights alone."""
    from biotilt.experiment import Experiment
    from biotilt.run import load_model
    from biotilt.steered import page_beside, report_steered
    from biotilt.steering import steer as steer_experiment

    experiment = Experiment.load(file, overrides=_assignments(assignments, seed=seed, alpha=alpha))
    if out is not None:
        experiment.model.space.check_output(out)
    model = None if proposal is None else load_model(proposal, trust=trust)
    take_threads(experiment.config.threads)
    with counting("oracle calls") as report:
        found = steer_experiment(experiment, count, proposal=model, value=value, report=report)
    document = found.document() | {"out": None if out is None else str(out)}
    if out is None or not page or not is_first():
        if out is not None:
            found.write(out)
        return Answer(document, (steered(found, out),))
    note("judging the designs and as many of the base …")
    summary = report_steered(found, experiment, out, page_beside(out))
    document |= {key: summary[key] for key in ("verdict", "rows", "progress", "checks", "warnings", "problems")}
    document["report"] = str(page_beside(out))
    return Answer(document, (steered(found, out), *summarised(summary), f"the page: {page_beside(out)}"))


@app.command("list")
@answering
def list_parts() -> Answer:
    """List the processes, models, objectives, samplers, rewards and so on there are, those of plug-ins included."""
    from biotilt.plugins import REGISTRIES

    found = {kind: registry.summaries() for kind, registry in REGISTRIES.items()}
    width = max(len(name) for parts in found.values() for name in parts)
    blocks = [
        "\n".join([f"{kind}:", *(f"  {name:<{width}}  {about}" for name, about in parts.items())])
        for kind, parts in found.items()
    ]
    return Answer(found, ("\n\n".join(blocks),))


@app.command()
@answering
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    samples: Annotated[int | None, typer.Option(help="Designs in each row; default output.samples.")] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Show this too: a function (file.py:name), a measure by name, or those of an experiment file."
        ),
    ] = None,
    trust: Trust = False,
) -> Answer:
    """Judge base, best-of-N and tuned designs; write designs, summary.json and report.html."""
    from biotilt.provenance import threads_of
    from biotilt.run import Run

    loaded = Run.load(run, measures=measure, trust=trust)
    take_threads(threads_of(loaded.experiment, run))
    say_what_runs(loaded.experiment, run)
    return judged(loaded, samples)


@app.command()
@answering
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of evaluated runs.")],
    row: Annotated[str, typer.Option(help="Which row: base, best_of_n, tuned or harvest.")] = "tuned",
    page: Annotated[Path | None, typer.Option(help="Draw what the runs took together, on this page (.html).")] = None,
) -> Answer:
    """Compare evaluated runs, what they took to reach a level too, and average those that differ only by seed."""
    from biotilt.evaluation import added_measures, aggregate, comparison, load_runs
    from biotilt.evaluation.compare import at_common_levels
    from biotilt.report import aggregate_table, comparison_table, measures_table
    from biotilt.report.compared import compared, render_compared, took_json
    from biotilt.report.took import took_table

    loaded = load_runs(runs)
    added = added_measures(loaded)
    lines, groups = comparison(loaded, row), aggregate(loaded, row)
    more = [measures_table(lines, added)] if added else []
    averaged = [aggregate_table(groups)] if len(groups) < len(lines) else []
    drawn = compared(at_common_levels(loaded))
    if page is not None:
        render_compared(drawn, page)
    took = [took_table(curves) for _, curves in drawn]
    document = {"runs": lines, "groups": groups, "took": took_json(drawn), "page": None if page is None else str(page)}
    said = [f"the page: {page}"] if page else []
    return Answer(document, (comparison_table(lines), *more, *averaged, *took, *said))


for command in (pretrain, convert, export):
    app.command()(command)
app.command("fit-oracle")(fit_oracle)


@tasks_app.command("list")
@answering
def task_list() -> Answer:
    """List the ready-made tasks: what each is good for, and how good its models were on real data they never saw."""
    from biotilt.digits import pretty
    from biotilt.tasks import TASKS, find_task

    found = {name: {"title": title, **find_task(name).quality()} for name, title in TASKS.summaries().items()}
    blocks = [
        "\n".join([f"{name}: {about['title']}", *(f"  {line}" for line in [about.get("good_for")] if line)]
        + [f"  {label}: {pretty(value)}" for label, value in about.get("measured", {}).items()])
        for name, about in found.items()
    ]  # fmt: skip
    return Answer(found, ("\n\n".join(blocks),))


def _assignments(texts: list[str] | None, **options: Any) -> list[str]:
    """Return `--set` texts with those of the options that have a name of their own."""
    keys = {"max_calls": "train.max_calls", "max_seconds": "train.stop.seconds"}
    named = [f"{keys.get(key, key)}={value}" for key, value in given(**options).items()]
    return [*(texts or []), *named]
