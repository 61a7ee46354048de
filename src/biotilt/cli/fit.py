"""The commands that learn from data: `biotilt pretrain` and `biotilt fit-oracle`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from biotilt.cli.console import MOST_SEED, Answer, answering
from biotilt.errors import DataError
from biotilt.progress import progress

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
AS = {"mean": "the mean of replicates", "keep": "replicates as they are"}


@answering
def pretrain(
    data: DataFile,
    alphabet_name: AlphabetName,
    out: ModelOut,
    column: SequenceColumn = None,
    pads: Pads = None,
    steps: Annotated[int, typer.Option(min=1, max=10**9, help="Gradient steps.")] = 4000,
    batch: Annotated[int, typer.Option(min=1, max=10**6)] = 128,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 2e-3,
    network: Annotated[str, typer.Option(help="cnn or mlp.")] = "cnn",
    channels: Annotated[int | None, typer.Option(min=1, max=65_536, help="Width of the cnn.")] = None,
    blocks: Annotated[int | None, typer.Option(min=1, max=500, help="Depth of the cnn.")] = None,
    process: Annotated[str, typer.Option(help="any_order, masked, uniform or simplex.")] = "any_order",
    per_step: Annotated[int | None, typer.Option(help="any_order: letters a step.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="masked, uniform, simplex: steps.")] = None,
    schedule: Annotated[str | None, typer.Option(help="masked, uniform: loglinear, cosine or polynomial.")] = None,
    identity: Identity = 0.8,
    seed: FitSeed = 0,
) -> Answer:
    """Train a generator on sequences."""
    from biotilt.fitting import Split, check_outputs, pretrain_model, write_card
    from biotilt.training import PretrainConfig

    check_outputs(out)
    records, space = _read(data, alphabet_name, column, pads)
    config = PretrainConfig(steps=steps, batch=batch, lr=lr, warmup=min(200, max(steps // 10, 1)))
    choices = given(per_step=per_step, num_steps=num_steps, schedule=schedule)
    if process == "any_order" and not choices:
        choices = {"per_step": max(len(records[0].design) // 10, 1)}
    with _about(data), progress("step", steps) as show:
        model, metrics = pretrain_model(
            [record.design for record in records],
            space,
            network={"name": network} | given(channels=channels, blocks=blocks),
            process={"name": process} | choices,
            config=config,
            split=Split(identity=identity),
            seed=seed,
            report=lambda step, train, validation: show(step, {"train": train, "validation": validation}),
        )
    model.save(out)
    card = write_card(out, data, metrics, options=vars(config) | {"identity": identity, "seed": seed})
    text = (
        f"wrote {out}: {metrics['test_nats']:.2f} nats a design on held-back sequences "
        f"(letter frequencies alone: {metrics['test_nats_of_letter_frequencies']:.2f}); "
        f"{len(records)} sequences, split by {metrics['clusters']} clusters of {identity:.0%} identity"
    )
    return Answer({"out": str(out), **card}, (text,))


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
        str, typer.Option(help="Rows of one sequence: mean (one row, their mean) or keep (as they are).")
    ] = "mean",
    seed: FitSeed = 0,
) -> Answer:
    """Fit a predictor to measurements; it reports correlations on rows it never saw."""
    from biotilt import fitting
    from biotilt.spaces import numbers
    from biotilt.training import FitConfig

    fitting.check_outputs(out)
    records, space = _read(data, alphabet_name, column, pads)
    values = numbers(records, target, data)
    split, config = fitting.Split(validation, test, identity), FitConfig(epochs=epochs)
    with _about(data), progress("epoch", members * epochs) as show:
        reward, metrics = fitting.fit_oracle(
            [record.design for record in records],
            values,
            space,
            name=name or target,
            units=units,
            members=members,
            config=config,
            split=split,
            replicates=replicates,  # type: ignore[arg-type]
            seed=seed,
            report=lambda member, epoch, error: show(member * epochs + epoch + 1, {"error": error}),
        )
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


def given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _read(data: Path, alphabet_name: str, column: str | None, pads: Any) -> tuple[list[Any], Any]:
    """Return the records of a file and the space of their designs."""
    from biotilt.spaces import Padded, alphabet, read_designs

    letters = alphabet(alphabet_name)
    records = read_designs(data, letters, column=column, empty="error")
    lengths = {len(record.design) for record in records}
    if pads is not None:
        return records, Padded(letters, max(lengths), pads)
    if len(lengths) > 1:
        raise DataError(
            f"{data}: sequences differ in length ({min(lengths)} to {max(lengths)} letters); "
            "say --pads right, or --pads left when their right ends belong together"
        )
    return records, letters


@contextmanager
def _about(data: Path) -> Iterator[None]:
    """Put the file before an error about what it holds."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{data}: {error}") from error
