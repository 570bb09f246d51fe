"""`adaptive train`: a premodel from an outcome table, or from a CSV of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from adaptive.errors import InputError, TableError
from adaptive.files import folder_aside, sha256, write_json
from adaptive.parts import Split
from adaptive.premodel.base import check_output
from adaptive.premodel.examples import Examples, read_examples
from adaptive.premodel.fit import TRAINERS, Trained
from adaptive.premodel.report import Report, cross_validate
from adaptive.premodel.scaling import SCALINGS


@click.command()
@click.argument("table", type=click.Path(path_type=Path), metavar="X.csv")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PREMODEL",
    help="Folder to write.",
)
@click.option("--classifier", type=click.Choice(sorted(TRAINERS)), default="knn", show_default=True)
@click.option(
    "--features",
    metavar="SET|a,b,c",
    help="paper7, all, extra, all+extra, or names of columns. Default: paper7 where an outcome "
    "table has it, else all columns.",
)
@click.option(
    "--order",
    metavar="a,b,c",
    help="Candidates, cheapest first. An outcome table knows by itself.",
)
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="Neighbours.")
@click.option("--scaling", type=click.Choice(SCALINGS), default="standard", show_default=True)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option(
    "--split",
    default="0.5,0.3,0.2",
    show_default=True,
    help="Shares of an outcome table's images that tune, calibrate and test; a premodel learns "
    "from the first part alone. 'all' learns from every image.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--force", is_flag=True, help="Replace a premodel that exists.")
def command(
    table: Path,
    output: Path,
    classifier: str,
    features: str | None,
    order: str | None,
    k: int,
    scaling: str,
    folds: int,
    split: str,
    seed: int,
    force: bool,
) -> None:
    """Train a premodel from X.csv and report how well it chooses.

    X.csv is an outcome table that `adaptive profile` wrote, or a CSV of your own with the
    columns image, any features as numbers, and best: the name of the candidate to choose, or
    none. Your own CSV needs --order.
    """
    check_output(output, force)
    names = None if order is None else [name.strip() for name in order.split(",")]
    parts = Split.parse(split, seed)
    examples = read_examples(table, features, names, parts)
    try:
        trained = TRAINERS[classifier](
            examples.X,
            examples.outcomes,
            examples.features,
            examples.candidates,
            k=k,
            scaling=scaling,
            schema_version=examples.schema_version,
        )
        kept = [name not in trained.dropped for name in examples.features]
        report = cross_validate(
            trained.premodel, examples.X[:, kept], examples.outcomes, folds, seed, examples.measured
        )
    except InputError as exc:
        raise TableError(f"{table}: {exc}") from exc
    summary = _summary(examples, trained, report)
    if examples.measured:
        summary.update(split=parts.to_json(), sha256=sha256(table))
    trained.premodel.training_ = summary
    with folder_aside(output) as aside:
        trained.premodel.write(aside)
        write_json(
            aside / "report.json",
            {**report.to_json(), "training": summary},
        )
    _tell(examples, trained, report)
    click.echo(f"saved {output}")


def _summary(examples: Examples, trained: Trained, report: Report) -> dict[str, object]:
    return {
        "source": examples.source.name,
        "learned": "NAME:top1" if examples.measured else "best",
        "dropped": list(trained.dropped),
        "left_out": examples.left_out,
        "compared_with_scikit_learn": trained.compared,
        "tied": trained.tied,
        "accuracy": report.accuracy,
        "folds": report.folds,
        "seed": report.seed,
    }


def _tell(examples: Examples, trained: Trained, report: Report) -> None:
    premodel = trained.premodel
    for name in trained.dropped:
        click.echo(f"warning: column {name!r} never varies; it is dropped", err=True)
    for name, reason in examples.left_out.items():
        click.echo(f"left out: {name} ({reason})")
    click.echo(
        f"{premodel.kind} on {report.rows} images, {len(premodel.features)} features, asked in "
        f"this order: {', '.join(premodel.candidates)}"
    )
    click.echo(
        f"checked against scikit-learn on {trained.compared} of these images: identical"
        + (f" ({trained.tied} more have a tie at the k-th distance)" if trained.tied else "")
    )
    click.echo(report.to_text())
