"""The commands that make files of models: `biotilt pretrain`, `fit-oracle`, `convert` and `export`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biotilt.cli.console import MOST_SEED, Answer, answering, note, take_threads
from biotilt.cli.further import about_data, given, quality, refuse_new, train_further, watching
from biotilt.errors import ConfigError
from biotilt.progress import progress
from biotilt.ranks import require_one

if TYPE_CHECKING:
    from biotilt.model import Model

FitDevice = Annotated[str, typer.Option("--device", help="Where networks are fitted: cpu, cuda, cuda:1, mps.")]
FitSeed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of the split and the weights.")]
AlphabetName = Annotated[str, typer.Option("--alphabet", help="dna, rna or protein.")]
DataFile = Annotated[Path, typer.Argument(metavar="DATA", help="FASTA, CSV, TSV or text, also .gz.")]
SequenceColumn = Annotated[str | None, typer.Option("--column", help="Column of the sequences.")]
Pads = Annotated[
    str | None,
    typer.Option(help="For designs of several lengths: the side, left or right, where short ones are filled."),
]
ModelOut = Annotated[Path, typer.Option(help="Safetensors file to write; a JSON card goes beside it.")]
Identity = Annotated[
    float,
    typer.Option(help="Sequences of which this part is identical are never on two sides of the split; 1: copies only."),
]
OtherOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any other option: network.width=64, process.eta=0.5, space.columns=['x']."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Column of labels: a generator of each, `sample --condition LABEL`."),
]
LabelDropout = Annotated[
    float, typer.Option(help="Share of designs that are learned without their label, for guidance.")
]
Start = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="MODEL", help="Train this one further: a file, run, folder, hub:owner/name, or mine.toml."
    ),
]
Adapters = Annotated[int | None, typer.Option("--lora", min=1, help="With --from: adapters of this rank, alone.")]
Patience = Annotated[
    int | None, typer.Option(min=0, help="Looks at validation without a gain, then it ends; 0: all steps.")
]
AS = {"mean": "the mean of replicates", "keep": "replicates as they are"}
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="FASTA, CSV, TSV or text; of points CSV, TSV or NPY; of images a folder of PNG files or NPY.",
    ),
]


@answering
def pretrain(
    data: Data,
    out: ModelOut,
    alphabet_name: Annotated[str | None, typer.Option("--alphabet", help="Of letters: dna, rna or protein.")] = None,
    space: Annotated[
        str, typer.Option(help="What designs are: letters, tokens, codons, selfies, safe, graphs, points or images.")
    ] = "letters",
    column: SequenceColumn = None,
    pads: Pads = None,
    steps: Annotated[int, typer.Option(min=1, max=10**9, help="Gradient steps.")] = 4000,
    batch: Annotated[int, typer.Option(min=1, max=10**6)] = 128,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate; default 2e-3, with --from 3e-4, with --lora 1e-3.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="cnn, mlp, vector_mlp, graph_scores or unet; default by the space.")
    ] = None,
    channels: Annotated[int | None, typer.Option(min=1, max=65_536, help="Width of the cnn or unet.")] = None,
    blocks: Annotated[int | None, typer.Option(min=1, max=500, help="Depth of the cnn or unet.")] = None,
    process: Annotated[
        str | None,
        typer.Option(
            help="any_order, masked, insertion, uniform, simplex; gaussian, flow, graph. Default by the space."
        ),
    ] = None,
    per_step: Annotated[int | None, typer.Option(help="any_order: letters a step.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="All but any_order: steps.")] = None,
    schedule: Annotated[str | None, typer.Option(help="masked, uniform: loglinear, cosine or polynomial.")] = None,
    assignments: OtherOptions = None,
    labels: Labels = None,
    label_dropout: LabelDropout = 0.1,
    identity: Identity = 0.8,
    start: Start = None,
    lora: Adapters = None,
    patience: Patience = None,
    trust: Annotated[bool, typer.Option("--trust", help="With --from: run the code that the model names.")] = False,
    seed: FitSeed = 0,
    device: FitDevice = "cpu",
) -> Answer:
    """Train a generator on sequences, tokens, points or images; what is interrupted goes on when it is run again."""
    require_one("biotilt pretrain")
    from biotilt.experiment import device_named
    from biotilt.fitting import check_outputs

    there = device_named(device)
    check_outputs(out)
    said = given(
        alphabet=alphabet_name, pads=pads, network=network, channels=channels, blocks=blocks, process=process,
        per_step=per_step, num_steps=num_steps, schedule=schedule, set=assignments,
    )  # fmt: skip
    how: dict[str, Any] = {
        "steps": steps, "batch": batch, "lr": lr, "patience": patience, "identity": identity, "seed": seed,
        "labels": labels, "label_dropout": label_dropout,
    }  # fmt: skip
    if start is not None:
        refuse_new(start, said if space == "letters" else said | {"space": space})
        return train_further(data, out, start, column, lora=lora, trust=trust, device=there, **how)
    if lora is not None:
        raise ConfigError("--lora adds adapters to a model that is there: say --from MODEL too")
    return _train_new(data, out, space, column, said, there, **how)


def _train_new(
    data: Path, out: Path, space: str, column: str | None, said: dict[str, Any], device: Any, *, steps: int,
    batch: int, lr: float | None, patience: int | None, identity: float, seed: int, labels: str | None,
    label_dropout: float,
) -> Answer:  # fmt: skip
    """Train a new generator on a file, as it is `said` to be made, and write it and its card."""
    from biotilt.data import read_data, read_labels
    from biotilt.fitting import Split, pretrain_model, state_of, write_card
    from biotilt.training import PretrainConfig, resumable

    more = _options(said.get("set"))
    made, designs = read_data(
        data, space, more["space"], letters=said.get("alphabet"), column=column, pads=said.get("pads"), labels=labels
    )
    of_designs = None if labels is None else read_labels(data, labels, len(designs))
    rate, warmup = 2e-3 if lr is None else lr, min(200, max(steps // 10, 1))
    config = PretrainConfig(steps=steps, batch=batch, lr=rate, warmup=warmup, patience=patience or 0)
    of_process = {key: said[key] for key in ("per_step", "num_steps", "schedule") if key in said}
    choices = given(name=said.get("process")) | of_process | more["process"]
    network = given(name=said.get("network"), channels=said.get("channels"), blocks=said.get("blocks"))
    take_threads()
    state = resumable(state_of(out), lambda step: note(f"going on after step {step} of {steps}, from {state_of(out)}"))
    with about_data(data), state as file, progress("step", steps) as show:
        model, metrics = pretrain_model(
            designs, made, network=network | more["network"], process=_process(choices, space), config=config,
            split=Split(identity=identity), labels=of_designs, label_dropout=label_dropout, seed=seed, device=device,
            **watching(show), state=file,
        )  # fmt: skip
        model.save(out)
    options = vars(config) | {"identity": identity, "seed": seed, "labels": labels, "label_dropout": label_dropout}
    card = write_card(out, data, metrics, options=options)
    text = f"{len(designs)} designs, split by {metrics['clusters']} clusters of {identity:.0%} identity"
    return Answer({"out": str(out), **card}, (f"wrote {out}: {quality(metrics)}; {text}{_told(model)}",))


def _process(choices: dict[str, Any], space: str) -> dict[str, Any] | None:
    """Return what was chosen of the process, None for what a space has by default."""
    if choices and "name" not in choices:
        by_space = {"points": "gaussian", "images": "gaussian", "graphs": "graph"}
        choices = {"name": by_space.get(space, "any_order")} | choices
    return None if choices in ({}, {"name": "any_order"}) else choices


def _told(model: Model) -> str:
    """Say which labels a generator knows, "" when it was trained without."""
    if model.conditions is None:
        return ""
    known = model.conditions.labels
    return f"; told one of {len(known)} labels, {', '.join(known[:5])}{', …' if len(known) > 5 else ''}"


def _options(assignments: list[str] | None) -> dict[str, dict[str, Any]]:
    """Return `--set` texts as options of the network, the process and the space."""
    from biotilt.keys import override

    parts: dict[str, Any] = override({"network": {}, "process": {}, "space": {}}, assignments or [])
    for key, table in parts.items():
        if key not in ("network", "process", "space") or not isinstance(table, dict):
            raise ConfigError(f"--set {key}: the options are network.NAME, process.NAME and space.NAME")
    return parts


@answering
def fit_oracle(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="CSV or TSV, also .gz.")],
    target: Annotated[str, typer.Option(help="Column of the measurements; empty cells are left out.")],
    alphabet_name: AlphabetName,
    out: ModelOut,
    column: SequenceColumn = None,
    pads: Pads = None,
    name: Annotated[str | None, typer.Option(help="What it predicts; default the target column.")] = None,
    units: Annotated[str, typer.Option(help="Shown in reports.")] = "",
    members: Annotated[int, typer.Option(min=1, max=1000, help="Networks in the ensemble.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, max=10**6)] = 30,
    validation: Annotated[float, typer.Option(help="Share of the rows to choose the epoch by.")] = 0.07,
    test: Annotated[float, typer.Option(help="Share of the rows to report correlations on.")] = 0.1,
    identity: Identity = 0.8,
    replicates: Annotated[
        Literal["mean", "keep"],
        typer.Option(help="Rows of one sequence: mean (one row, their mean) or keep (as they are)."),
    ] = "mean",
    seed: FitSeed = 0,
    device: FitDevice = "cpu",
) -> Answer:
    """Fit a predictor to measurements; it reports correlations on rows it never saw."""
    require_one("biotilt fit-oracle")
    from biotilt import fitting
    from biotilt.data import read_letters
    from biotilt.experiment import device_named
    from biotilt.spaces import alphabet, numbers, read_designs
    from biotilt.training import FitConfig

    there = device_named(device)
    fitting.check_outputs(out)
    records = read_designs(data, alphabet(alphabet_name), column=column, empty="error")
    space, _ = read_letters(data, alphabet_name, column, pads)
    values = numbers(records, target, data)
    split, config = fitting.Split(validation, test, identity), FitConfig(epochs=epochs)
    take_threads()
    with about_data(data), progress("epoch", members * epochs) as show:
        reward, metrics = fitting.fit_oracle(
            [record.design for record in records], values, space, name=name or target, units=units,
            members=members, config=config, split=split, replicates=replicates, seed=seed, device=there,
            report=lambda member, epoch, error: show(member * epochs + epoch + 1, {"error": error}),
        )  # fmt: skip
    reward.save(out)
    largest = max(value for value in values if math.isfinite(value))
    options = vars(config) | vars(split) | {"members": members, "replicates": replicates, "seed": seed}
    card = fitting.write_card(out, data, metrics, options=options, target=target, measured_max=largest)
    chance = 1 / math.sqrt(max(metrics["test_sequences"] - 1, 1))  # of uncorrelated data
    text = (
        f"wrote {out}: Pearson {metrics['pearson']:.3f}, Spearman {metrics['spearman']:.3f} on "
        f"{metrics['test_designs']} rows it never saw (chance alone: ±{chance:.2f}); "
        f"largest value measured {largest:g}; {metrics['measured']} "
        f"measurements of {metrics['different_sequences']} sequences ({AS[replicates]}), split by "
        f"{metrics['clusters']} clusters of {identity:.0%} identity"
    )
    return Answer({"out": str(out), **card}, (text,))


@answering
def convert(
    kind: Annotated[str, typer.Argument(help="The family of models that the file is of, e.g. proteinmpnn.")],
    file: Annotated[
        Path, typer.Argument(help="A public file of weights (.pt, .ckpt): tensors are read, no code runs.")
    ],
    out: Annotated[Path, typer.Argument(help="The file to write (.safetensors).")],
) -> Answer:
    """Turn a public file of weights, which is a pickle, into safetensors: the only kind that is read elsewhere."""
    from biotilt.models.convert import convert as converted

    weights = converted(kind, file, out)
    numbers = sum(tensor.numel() for tensor in weights.tensors.values())
    found = {"file": str(out), "kind": kind, "tensors": len(weights.tensors), "numbers": numbers, **weights.about}
    text = f"wrote {out}: {len(weights.tensors)} tensors, {numbers:,} numbers"
    return Answer(found, (text, weights.note) if weights.note else (text,))


@answering
def export(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, or the file of a model.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write: weights, description and a card.")],
    title: Annotated[str, typer.Option(help="Of the card; default the name of the run.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds files.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that the run names.")] = False,
) -> Answer:
    """Write a tuned model as a folder that others load by `Model.pretrained`, with a card that says what it is."""
    from biotilt.folder import RECORD
    from biotilt.run import Run, load_model

    if (model / RECORD).is_file():
        Run.load(model, trust=trust).save_pretrained(folder, title=title, overwrite=overwrite)
    else:
        load_model(model, trust=trust).save_pretrained(folder, title=title, overwrite=overwrite)
    files = sorted(path.name for path in folder.iterdir())
    return Answer({"folder": str(folder), "files": files}, (f"wrote {folder}: {', '.join(files)}; read its card",))
