"""What a premodel learns from: images as features, and which candidate is their answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.candidate import check_name
from adaptive.csvfile import Columns, read_csv
from adaptive.errors import InputError, TableError
from adaptive.features.provenance import described, own_among, read_beside, schema_of
from adaptive.features.schema import PAPER7, resolve_names
from adaptive.intervals import front as pareto_front
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable, is_table

NO_CANDIDATE = "none"

#: what `--features` takes beside names: every column, of which a selection then chooses
SELECTIONS = ("auto", "auto-cost")


@dataclass(frozen=True)
class Examples:
    """Training images.

    Attributes
    ----------
    source : the file that they come from
    features : names of the columns of X
    X : ndarray of shape (n, features), float64, finite
    candidates : in the chain's order
    outcomes : ndarray of shape (n, candidates), uint8: from an outcome table, whether the
        candidate is right; from a `best` column, whether it is the best
    quality : what an outcome table calls the worth of an answer
    measured : whether they come from an outcome table
    schema_version : as in `Premodel`
    left_out : candidates of the table that take no part -> why
    feature_ms : measured milliseconds of the features, where the file tells
    spread_ms : mean milliseconds of the most accurate candidate less those of the fastest, where
        the file tells
    images : names of the images, of an outcome table
    about : what is known about where the columns come from, see `adaptive.features.provenance`
    """

    source: Path
    features: tuple[str, ...]
    X: np.ndarray = field(repr=False)
    candidates: tuple[str, ...]
    outcomes: np.ndarray = field(repr=False)
    measured: bool
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    left_out: dict[str, str] = field(default_factory=dict)
    feature_ms: dict[str, float] = field(default_factory=dict, repr=False)
    spread_ms: float | None = None
    images: tuple[str, ...] = field(default=(), repr=False)
    quality: str = "top1"

    @property
    def schema_version(self) -> int | None:
        """As `Premodel.schema_version`; InputError where nobody could tell own from ours."""
        return schema_of(self.features, self.about)

    def only(self, features: Sequence[str]) -> Examples:
        """The same with some of the features, in this order."""
        columns = [self.features.index(name) for name in features]
        return replace(self, features=tuple(features), X=self.X[:, columns])


def read_examples(
    path: Path,
    features: str | None = None,
    order: Sequence[str] | None = None,
    split: Split | None = None,
    source: str | None = None,
) -> Examples:
    """Read an outcome table, or a user's own CSV with the columns `image`, features and `best`.

    A file with columns NAME:ms and without a column `best` is an outcome table. Of a quality
    between 0 and 1 a candidate's chance of being right is the expected quality: see
    `adaptive.outcomes.quality.right_or_wrong`.

    Parameters
    ----------
    features : a named set of the schema or names separated by commas. None takes `paper7` from
        an outcome table that has it, else all feature columns; from one's own CSV all columns
        but `image` and `best`, and so does "all". "auto" and "auto-cost" take every feature
        column: it is for `selection` to choose among them.
    split : of an outcome table only the tuning part is read; None reads all
    order : the candidates, cheapest first. An outcome table knows without: by mean
        milliseconds, leaving out dominated ones.
    source : who computed the features, "adaptive" or "own"; None believes the file beside the
        CSV, and takes for the user's own what no file tells of

    Raises
    ------
    TableError
        for a file that is not as it must be.
    InputError
        for features or an order that do not fit the file.
    """
    columns = read_csv(path)
    if is_table(columns.header):
        del columns  # a large table is in memory once
        table = OutcomeTable.read(path)
        if split is not None:
            rows = split.rows(table.images, "tune")
            if not len(rows):
                raise InputError(
                    f"none of the {len(table)} images of {path.name} is of the tuning part, from "
                    "which a premodel learns; give more images, or --split all"
                )
            table = table.select(rows)
        examples = _from_outcomes(table, path, features, order)
        about: Mapping[str, Any] = table.meta
    else:
        examples = _from_best(columns, features, order)
        try:
            about = read_beside(path)
        except InputError as exc:
            raise TableError(str(exc)) from exc
    examples = replace(examples, about=described(about, source))
    if source == "adaptive" and len(own_among(examples.features, examples.about)) == len(
        examples.features
    ):
        raise InputError(
            f"--features-from adaptive, but none of {list(examples.features)} is a feature of "
            "this library"
        )
    return examples


def _from_best(columns: Columns, features: str | None, order: Sequence[str] | None) -> Examples:
    columns.need(("image", "best"))
    own = tuple(name for name in columns.header if name not in ("image", "best"))
    if features is None or features in ("all", *SELECTIONS):
        names = own
    else:
        names = _named(features, own, columns.path)
    if not names:
        raise TableError(
            f"{columns.path} has no column beside 'image' and 'best'; at least one feature is "
            "needed"
        )
    columns.unique("image", path=True)
    best = columns.filled("best")
    found = sorted(set(best) - {NO_CANDIDATE})
    for name in found:
        try:
            check_name(name)
        except InputError as exc:
            raise columns.error(
                best.index(name), "best", "a candidate's name or 'none' is needed"
            ) from exc
    if not found:
        raise TableError(
            f"{columns.path}: column 'best' holds 'none' alone; at least one candidate is needed"
        )
    if not order:
        raise InputError(
            f"{columns.path} does not say which candidate is cheaper; give --order with "
            f"{found}, cheapest first"
        )
    _check_order(order, found, f"column 'best' of {columns.path}")
    for name in found:
        if name not in order:
            raise columns.error(
                best.index(name), "best", f"--order must name it too; it names {list(order)}"
            )
    level = {name: position for position, name in enumerate((*order, NO_CANDIDATE))}
    levels = np.array([level[name] for name in best])
    outcomes = (levels[:, None] == np.arange(len(order))).astype(np.uint8)
    return Examples(
        columns.path, names, columns.matrix(names), tuple(order), outcomes, measured=False
    )


def _from_outcomes(
    table: OutcomeTable, path: Path, features: str | None, order: Sequence[str] | None
) -> Examples:
    if features in SELECTIONS:
        names = table.features
    elif features is not None:
        names = _named(features, table.features, path)
    elif set(PAPER7) <= set(table.features):
        names = PAPER7
    else:
        names = table.features
    if not names:
        raise TableError(f"{path} has no feature column; at least one is needed")
    left_out: dict[str, str] = {}
    if order:
        _check_order(order, table.candidates, str(path))
        left_out = {name: "not in --order" for name in table.candidates if name not in order}
    else:
        order, left_out = front(table)
    cost = {name: float(table.ms(name).mean()) for name in order}
    strongest = max(order, key=lambda name: (float(table.quality(name).sum()), -cost[name]))
    return Examples(
        path,
        names,
        table.feature_columns(names),
        tuple(order),
        table.right_or_wrong(order),
        measured=True,
        left_out=left_out,
        feature_ms={name: ms for name, ms in table.feature_ms.items() if name in names},
        spread_ms=cost[strongest] - min(cost.values()),
        images=table.images,
        quality=table.quality_name,
    )


def front(table: OutcomeTable) -> tuple[tuple[str, ...], dict[str, str]]:
    """The candidates worth asking, cheapest first, and why each other one is not.

    A candidate is dominated when another is at least as fast on average and its quality at
    least as high; of two that are equal in both, the first in the table stays.
    """
    cost = {name: float(table.ms(name).mean()) for name in table.candidates}
    right = {name: float(table.quality(name).sum()) for name in table.candidates}
    kept = [
        table.candidates[position]
        for position in pareto_front(
            [cost[name] for name in table.candidates], [right[name] for name in table.candidates]
        )
    ]
    dominated = {}
    for name in table.candidates:
        if name not in kept:
            better = next(o for o in kept if right[o] >= right[name] and cost[o] <= cost[name])
            dominated[name] = f"{better} is at least as fast and as accurate"
    return tuple(kept), dominated


def _named(features: str, present: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """The features that a user asked for, all of which must be columns."""
    names = tuple(name.strip() for name in features.split(","))
    if not set(names) <= set(present):
        # not columns of the file: a named set of the schema, perhaps
        try:
            names = resolve_names(features)
        except InputError:
            if len(names) == 1 and "+" in names[0]:
                raise
    for position, name in enumerate(names):
        if name not in present:
            raise InputError(
                f"--features names {name!r}, which {path} has not; it has {list(present)}"
            )
        if name in names[:position]:
            raise InputError(f"--features names {name!r} twice; each may occur once")
    return names


def _check_order(order: Sequence[str], known: Sequence[str], where: str) -> None:
    for position, name in enumerate(order):
        if name not in known:
            raise InputError(
                f"--order names {name!r}, which does not occur in {where}; there are {list(known)}"
            )
        if name in order[:position]:
            raise InputError(f"--order names {name!r} twice; each may occur once")
