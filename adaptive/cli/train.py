"""`adaptive train`: a premodel from an outcome table, or from a CSV of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from tqdm import tqdm

from adaptive.cli.choice import OpenChoice
from adaptive.cli.extractor import extractor_option
from adaptive.csvfile import read_csv
from adaptive.errors import InputError, TableError
from adaptive.features.provenance import SOURCES, described, read_beside, schema_of
from adaptive.features.schema import SCHEMA
from adaptive.files import folder_aside, sha256, write_json
from adaptive.outcomes.parts import Split, digest
from adaptive.plugins import PREMODELS as GROUP
from adaptive.premodel.base import Premodel, check_output
from adaptive.premodel.condense import condensed_words
from adaptive.premodel.examples import SELECTIONS, Examples, read_examples
from adaptive.premodel.fit import NEIGHBOURS, TRAINERS, Trained, trainer
from adaptive.premodel.mixture import FEATURES, Mixture
from adaptive.premodel.report import Report, cross_validate
from adaptive.premodel.scaling import SCALINGS
from adaptive.premodel.selection import Selection, SelectionStep, select, select_by_cost
from adaptive.premodel.shares import count_conditions, surest

if TYPE_CHECKING:
    from adaptive.routing.extractors import Extractor

#: where nothing else is said, a point is worth this share of the time between the fastest
#: candidate and the most accurate one: routing saves none of that time at 50 points and, as an
#: oracle, nearly all at 100, and less than its part of the way in between
SHARE_OF_SPREAD = 0.01

#: Columns of a user's own that are named; a bag of words has hundreds.
NAMED = 12

#: examples of a condition that are kept with a premodel, and their side in pixels
PICTURES, PICTURE_SIDE = 2, 72


@click.command(name="train")
@click.argument("table", type=click.Path(path_type=Path), metavar="X.csv")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PREMODEL",
    help="Folder to write.",
)
@click.option(
    "--classifier",
    type=OpenChoice(tuple(TRAINERS), GROUP),
    default="knn",
    show_default=True,
    help="knn is the papers' chain; the others judge all candidates at once.",
)
@click.option(
    "--features",
    metavar="SET|auto|auto-cost|a,b,c",
    help="paper7, all, extra, all+extra, or names of columns; auto selects as the papers did, "
    "auto-cost by what each feature costs. Default: paper7 where an outcome table has it, else "
    "all columns.",
)
@click.option(
    "--features-from",
    "source",
    type=click.Choice(SOURCES),
    help="Who computed the numbers: adaptive, or you with a program of your own. Default: what "
    "X.json beside X.csv says; without one, you did.",
)
@click.option(
    "--ms-per-point",
    type=click.FloatRange(min=0, min_open=True),
    help="For auto-cost: milliseconds that one point of mean area under the ROC curve is worth. "
    "Default: a hundredth of the time between the fastest and the most accurate candidate.",
)
@click.option(
    "--order",
    metavar="a,b,c",
    help="Candidates, cheapest first. An outcome table knows by itself.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    help="Neighbours, for knn (5 unless given) and outcome-knn (50); conditions, for mixture "
    "(by held-out likelihood unless given).",
)
@click.option(
    "--unlabelled",
    type=click.Path(path_type=Path),
    metavar="FEATURES.csv",
    help="For mixture: features of further images, as `adaptive features` writes them, on which "
    "conditions are found too. They need no labels.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For mixture: the folder of the table's images, of which small examples of each "
    "condition are kept in the premodel, for the server's page.",
)
@click.option(
    "--scaling",
    type=click.Choice(SCALINGS),
    help="For knn and outcome-knn: standard (unless given) or minmax.",
)
@extractor_option(
    "What computes your own columns. The premodel notes its name and a hash of its source; "
    "evaluate --live, classify and serve then take it as --extractor.",
)
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
    source: str | None,
    ms_per_point: float | None,
    order: str | None,
    k: int | None,
    unlabelled: Path | None,
    images: Path | None,
    scaling: str | None,
    extractor: Extractor | None,
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
    options = _options(classifier, k, scaling, seed)
    if unlabelled is not None and classifier != "mixture":
        raise InputError("--unlabelled is for --classifier mixture only")
    if images is not None and classifier != "mixture":
        raise InputError("--images is for --classifier mixture only")
    if images is not None and not images.is_dir():
        raise InputError(f"{images} is no folder; --images names the one of the table's images")
    if ms_per_point is not None and features != "auto-cost":
        raise InputError("--ms-per-point is for --features auto-cost")
    names = None if order is None else [name.strip() for name in order.split(",")]
    parts = Split.parse(split, seed)
    if classifier == "mixture" and features is None:
        features = _cheap(table)
    examples = read_examples(table, features, names, parts, source)
    selection = None
    try:
        if features in SELECTIONS:
            selection = _select(examples, features == "auto-cost", ms_per_point, seed)
            examples = examples.only(selection.features)
        if unlabelled is not None:
            options["unlabelled"] = _unlabelled(unlabelled, examples)
        trained = trainer(classifier)(
            examples.X,
            examples.outcomes,
            examples.features,
            examples.candidates,
            schema_version=examples.schema_version,
            **options,
        )
        kept = [name not in trained.dropped for name in examples.features]
        report = cross_validate(
            trained.premodel,
            examples.X[:, kept],
            examples.outcomes,
            folds,
            seed,
            examples.measured,
            examples.quality,
        )
    except InputError as exc:
        raise TableError(f"{table}: {exc}") from exc
    summary = _summary(examples, trained, report)
    if extractor is not None:
        summary["extractor"] = _checked(extractor, trained.premodel)
    if examples.measured:
        summary.update(split=parts.to_json(), sha256=sha256(table), images=digest(examples.images))
    trained.premodel.training_ = summary
    content = {**report.to_json(), "training": summary}
    shares = count_conditions(trained.premodel, examples.X[:, kept], "training")
    if shares is not None:
        summary["conditions"] = shares.to_json()
    unread: list[str] = []
    if images is not None:
        summary["examples"], unread = _pictures(trained.premodel, examples, kept, images)
    if selection is not None:
        summary["selected_by"] = features
        content["selection"] = selection.to_json()
    with folder_aside(output) as aside:
        trained.premodel.write(aside)
        write_json(aside / "report.json", content)
    _tell(examples, trained, report)
    for name in unread:
        click.echo(f"no example, since it cannot be read: {name}")
    click.echo(f"saved {output}")
    click.echo(report.telling.words())
    if selection is not None:
        click.echo(
            f"These numbers are somewhat too good: the features were chosen on the same "
            f"{report.rows} images. `adaptive evaluate` has images of its own."
        )


def _options(classifier: str, k: int | None, scaling: str | None, seed: int) -> dict[str, Any]:
    """What the classifier's trainer takes beside the data."""
    given = {name: value for name, value in (("k", k), ("scaling", scaling)) if value is not None}
    if classifier in NEIGHBOURS:
        return given
    takes = {"k": (*NEIGHBOURS, "mixture"), "scaling": NEIGHBOURS}
    for name in given:
        if classifier not in takes[name]:
            option = "-k" if name == "k" else f"--{name}"
            *first, last = takes[name]
            raise InputError(f"{option} is for --classifier {', '.join(first)} and {last} only")
    return {"seed": seed, **given}


def _checked(extractor: Extractor, premodel: Premodel) -> dict[str, Any]:
    """What tells the extractor, where it gives the columns that the premodel learned from."""
    from adaptive.routing.extractors import names_of, origin_of

    gives, own = names_of(extractor), premodel.own_features
    if not own:
        raise InputError(
            "--extractor computes columns of your own, and the premodel learned from none; leave "
            "it out"
        )
    missing = [name for name in own if name not in gives]
    if missing:
        raise InputError(
            f"the extractor gives {list(gives)}, but the premodel also learned from your own "
            f"columns {missing}"
        )
    return origin_of(extractor)


def _unlabelled(path: Path, examples: Examples) -> np.ndarray:
    """The examples' features of further images, which must have been computed alike."""
    theirs = schema_of(examples.features, described(read_beside(path), None))
    if theirs != examples.schema_version:
        known = [f"schema {v}" if v else "your own" for v in (theirs, examples.schema_version)]
        raise InputError(
            f"the features of {path} are {known[0]}, those of the labelled images {known[1]}; "
            "compute both alike"
        )
    return read_csv(path).matrix(examples.features)


def _pictures(
    premodel: Premodel, examples: Examples, kept: list[bool], folder: Path
) -> tuple[list[list[str]], list[str]]:
    """Small pictures of each condition's surest images, and the images that cannot be read."""
    from adaptive.report.gallery import Thumbnails

    thumbnails = Thumbnails(folder, PICTURE_SIDE)
    posterior = premodel.posterior(examples.X[:, kept])
    found = []
    for condition in range(premodel.conditions):
        made = map(
            thumbnails.of,
            [examples.images[row] for row in surest(posterior, condition, PICTURES)],
        )
        found.append([picture for picture in made if picture is not None])
    return found, thumbnails.unreadable


def _cheap(table: Path) -> str | None:
    """The features that a mixture was designed on, where the table has them."""
    with open(table, encoding="utf-8", errors="replace") as file:
        header = file.readline().strip().split(",")
    return ",".join(FEATURES) if set(FEATURES) <= set(header) else None


def _select(examples: Examples, by_cost: bool, ms_per_point: float | None, seed: int) -> Selection:
    """Choose features, with a bar where someone watches, and the steps as they are taken."""
    varies = examples.X.min(axis=0) < examples.X.max(axis=0)
    names = [name for name, keep in zip(examples.features, varies) if keep]
    if not names:
        raise InputError("every feature has the same value on all images; one must vary")
    X = np.ascontiguousarray(examples.X[:, varies])
    with tqdm(unit=" sets", desc="features", disable=None, leave=False) as bar:

        def progress(step: SelectionStep | None) -> None:
            if step is None:
                bar.update()
            else:
                bar.write(str(step))

        if not by_cost:
            return select(X, examples.outcomes, names, seed, progress, examples.feature_ms)
        if not examples.feature_ms:
            raise InputError(
                "auto-cost needs the time of each feature, which only an outcome table of "
                "`adaptive profile` has; use --features auto"
            )
        if ms_per_point is None:
            ms_per_point = SHARE_OF_SPREAD * (examples.spread_ms or 0.0)
            if ms_per_point <= 0:
                raise InputError(
                    "the fastest candidate is the most accurate one, so no time can be saved; "
                    "give --ms-per-point to select features all the same"
                )
        bar.write(f"one point is worth {ms_per_point:.4g} ms")
        return select_by_cost(
            X, examples.outcomes, names, examples.feature_ms, ms_per_point, seed, progress
        )


def _summary(examples: Examples, trained: Trained, report: Report) -> dict[str, object]:
    return {
        **trained.premodel.training_,
        "source": examples.source.name,
        "learned": f"NAME:{examples.quality}" if examples.measured else "best",
        "own_features": list(trained.premodel.own_features),
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
    chosen = premodel.training_.get("chosen", {})
    for name in trained.dropped:
        click.echo(f"warning: column {name!r} never varies; it is dropped", err=True)
    for name, reason in examples.left_out.items():
        click.echo(f"left out: {name} ({reason})")
    click.echo(
        f"{premodel.kind} on {report.rows} images, {len(premodel.features)} features, asked in "
        f"this order: {', '.join(premodel.candidates)}"
    )
    for sentence in _whose(examples, premodel):
        click.echo(sentence)
    if "condensed" in premodel.training_:
        click.echo(condensed_words(premodel.training_["condensed"]))
    if isinstance(premodel, Mixture):
        for line in premodel.words():
            click.echo(line)
    for name, value in chosen.items():
        if name not in ("brier", "held_out_log_likelihood", "conditions"):
            click.echo(f"{name} = {value:g}, chosen by cross-validation on these images")
    click.echo(
        f"checked against scikit-learn on {trained.compared} of these images: "
        + ("identical" if trained.levels else "equal within 1e-9")
        + (f" ({trained.tied} more have a tie at the k-th distance)" if trained.tied else "")
    )
    click.echo(report.to_text())


def _whose(examples: Examples, premodel: Premodel) -> list[str]:
    """Where the features come from, and what follows from that for serving."""
    own = premodel.own_features
    if not own:
        return [f"features: this library's, schema {premodel.schema_version}"]
    column = "is a column" if len(own) == 1 else "are columns"
    named = ", ".join(own[:NAMED])
    if len(own) > NAMED:
        named += f" and {len(own) - NAMED} more"
    known = premodel.training_.get("extractor")
    if known:
        return [f"features: {named} {column} of your own, by {known['name']}"]
    told = [
        f"features: {named} {column} of your own; Router.load needs an extractor that "
        "computes them, a command --extractor"
    ]
    alike = [name for name in own if name in SCHEMA.names]
    if alike:
        told.append(
            f"note: {', '.join(alike)} also {'is' if len(alike) == 1 else 'are'} the name of a "
            f"feature of this library; if `adaptive features` computed {examples.source.name}, "
            "say --features-from adaptive"
        )
    return told
