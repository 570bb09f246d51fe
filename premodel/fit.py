"""Training with scikit-learn, and the check that the board will answer as scikit-learn does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

import numpy as np

from adaptive.errors import AdaptiveError, InputError, MissingExtra
from adaptive.premodel.base import (
    NONE,
    Premodel,
    check_names,
    check_outcomes,
    check_X,
    first_yes,
)
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling

#: values beyond this would overflow when they are squared
LARGEST = 1e100

#: so many training images are compared with scikit-learn
COMPARED = 500


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes
    ----------
    premodel : fitted, without the dropped features
    dropped : features that have the same value on every image, to the grid's precision
    levels : scikit-learn's own classifiers, one a candidate, fitted on the premodel's table
    compared : number of training images on which both were asked and agreed
    tied : number of those asked on which they need not agree, since several images lie at the
        k-th distance and scikit-learn does not say which of them vote
    """

    premodel: Premodel
    dropped: tuple[str, ...]
    levels: tuple[Any, ...] = field(repr=False)
    compared: int
    tied: int


def fit_chain(
    X: np.ndarray,
    outcomes: np.ndarray,
    features: Sequence[str],
    candidates: Sequence[str],
    k: int = 5,
    scaling: str = "standard",
    schema_version: int | None = None,
) -> Trained:
    """Train the papers' chain of k-nearest-neighbour classifiers.

    Parameters
    ----------
    X : ndarray of shape (n, features), finite
    outcomes : ndarray of shape (n, candidates), 0 or 1: what each level learns
    features, candidates : names of the columns; candidates in the chain's order
    k : neighbours that vote
    scaling : "standard" or "minmax"
    schema_version : version of the feature schema, or None for a user's own columns

    Raises
    ------
    InputError
        for NaN, infinities or huge values, outcomes other than 0 and 1, fewer rows than k, no
        feature that varies, or outcomes that mean the same choice on every image.
    MissingExtra
        without scikit-learn.
    """
    check_names(features, candidates)
    X = check_X(X, features)
    outcomes = check_outcomes(outcomes, len(X), candidates)
    if (np.abs(X) > LARGEST).any():
        row, column = np.argwhere(np.abs(X) > LARGEST)[0]
        raise InputError(
            f"feature {features[column]!r} of image {row} is {X[row, column]}; at most "
            f"{LARGEST:g} is allowed"
        )
    varies = np.ones(len(features), bool)
    if len(X):
        grid = Scaling.fit(scaling, X).grid(X)
        varies = grid.max(axis=0) > grid.min(axis=0)
    if not varies.any():
        raise InputError(
            f"every feature has the same value on all {len(X)} images; at least one must vary"
        )
    kept = [name for name, keep in zip(features, varies) if keep]
    chain = KNNChain(kept, candidates, k, scaling, schema_version)
    chain.fit(X[:, varies], outcomes)
    best = np.unique(first_yes(outcomes))
    if len(best) == 1:
        only = "none" if best[0] == NONE else candidates[int(best[0])]
        raise InputError(
            f"the best candidate is {only!r} on all {len(X)} images; there is nothing to choose, "
            "at least two different answers are needed"
        )
    levels = fit_levels(chain)
    compared, tied = _compare(chain, levels)
    dropped = tuple(name for name, keep in zip(features, varies) if not keep)
    return Trained(chain, dropped, levels, compared, tied)


#: what `--classifier` names -> what trains it
TRAINERS: dict[str, Callable[..., Trained]] = {"knn": fit_chain}


def fit_levels(chain: KNNChain) -> tuple[Any, ...]:
    """scikit-learn's classifier for each level of a fitted chain, on the chain's own table."""
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as exc:
        raise MissingExtra("training a premodel", "scikit-learn", "train") from exc
    table = chain.table_.astype(np.float64)
    return tuple(
        KNeighborsClassifier(n_neighbors=chain.k, algorithm="brute").fit(table, outcome)
        for outcome in chain.outcomes_.T
    )


def _compare(chain: KNNChain, levels: Sequence[Any]) -> tuple[int, int]:
    """Ask both on some of the training images; a difference would be a bug, and is an error."""
    rows = np.unique(np.linspace(0, len(chain.table_) - 1, COMPARED).astype(np.int64))
    clear = rows[~chain.ties(chain.table_[rows])]
    if len(clear):
        queries = chain.table_[clear].astype(np.float64)
        ours = chain.votes(queries) > chain.k / 2
        theirs = np.stack([level.predict(queries) for level in levels], axis=1)
        if (ours != theirs).any():
            row = int(clear[(ours != theirs).any(axis=1)][0])
            raise AdaptiveError(
                f"scikit-learn answers training image {row} differently; this is a bug, please "
                "report it with the table"
            )
    return len(clear), len(rows) - len(clear)
