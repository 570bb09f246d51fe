"""Training with scikit-learn, and the check that the board will answer as scikit-learn does."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Sequence, Type

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
from adaptive.premodel.condense import cost_of_condensing
from adaptive.premodel.estimator import Estimator
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.mixture import Mixture
from adaptive.premodel.outcome_knn import OutcomeKNN
from adaptive.premodel.registry import KINDS, premodel_class
from adaptive.premodel.scaling import Scaling

#: values beyond this would overflow when they are squared
LARGEST = 1e100

#: so many training images are compared with scikit-learn
COMPARED = 500

#: chances of the kinds that are no neighbours may differ from scikit-learn's by this
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes
    ----------
    premodel : fitted, without the dropped features
    dropped : features that have the same value on every image, to the grid's precision
    levels : of the neighbours' kinds, scikit-learn's own classifiers, one a candidate, fitted on
        the premodel's table
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
    X, outcomes, varies = _checked(X, outcomes, features, candidates, scaling)
    chain = KNNChain(_kept(features, varies), candidates, k, scaling, schema_version)
    return _fit_neighbours(chain, X, outcomes, features, varies)


def fit_outcome_knn(
    X: np.ndarray,
    outcomes: np.ndarray,
    features: Sequence[str],
    candidates: Sequence[str],
    k: int = 50,
    scaling: str = "standard",
    schema_version: int | None = None,
    weights: str = "uniform",
) -> Trained:
    """Train one nearest-neighbour search over outcomes; as `fit_chain`, see `OutcomeKNN`."""
    X, outcomes, varies = _checked(X, outcomes, features, candidates, scaling)
    names = _kept(features, varies)
    premodel = OutcomeKNN(names, candidates, k, scaling, schema_version, weights)
    return _fit_neighbours(premodel, X, outcomes, features, varies)


def fit_estimator(
    kind: Type[Estimator],
    X: np.ndarray,
    outcomes: np.ndarray,
    features: Sequence[str],
    candidates: Sequence[str],
    schema_version: int | None = None,
    **settings: Any,
) -> Trained:
    """Train a premodel of another kind, and compare it with scikit-learn's chances.

    Parameters
    ----------
    kind : the class, whose `__init__` says which `settings` there are
    X, outcomes, features, candidates, schema_version : as in `fit_chain`

    Raises
    ------
    InputError, MissingExtra
        as `fit_chain` does.
    AdaptiveError
        when scikit-learn gives other chances.
    """
    X, outcomes, varies = _checked(X, outcomes, features, candidates, "standard")
    premodel = kind(_kept(features, varies), candidates, schema_version=schema_version, **settings)
    theirs = premodel.learn(X[:, varies], outcomes)
    _check_choice(outcomes, candidates)
    rows = _some(len(X))
    asked = X[rows][:, varies]
    difference = np.abs(premodel.predict(asked) - theirs(asked)).max(axis=1)
    if not (difference <= TOLERANCE).all():
        raise _different(int(rows[difference.argmax()]))
    return Trained(premodel, _dropped(features, varies), (), len(rows), 0)


def fit_mixture(
    X: np.ndarray,
    outcomes: np.ndarray,
    features: Sequence[str],
    candidates: Sequence[str],
    k: int | None = None,
    seed: int = 0,
    schema_version: int | None = None,
    unlabelled: np.ndarray | None = None,
) -> Trained:
    """Train a mixture of conditions; as `fit_estimator`, see `Mixture`.

    unlabelled : ndarray (n, features) of images without outcomes that conditions are found on
    """
    if unlabelled is not None:
        _, _, varies = _checked(X, outcomes, features, candidates, "standard")
        unlabelled = check_X(unlabelled, features)[:, varies]
    return fit_estimator(
        Mixture, X, outcomes, features, candidates, schema_version,
        k=k, seed=seed, unlabelled=unlabelled,
    )  # fmt: skip


def _checked(
    X: np.ndarray,
    outcomes: np.ndarray,
    features: Sequence[str],
    candidates: Sequence[str],
    scaling: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X and outcomes, checked, and which features vary: shape (features,), bool."""
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
    return X, outcomes, varies


def _kept(features: Sequence[str], varies: np.ndarray) -> list[str]:
    return [name for name, keep in zip(features, varies) if keep]


def _dropped(features: Sequence[str], varies: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, keep in zip(features, varies) if not keep)


def _check_choice(outcomes: np.ndarray, candidates: Sequence[str]) -> None:
    best = np.unique(first_yes(outcomes))
    if len(best) == 1:
        only = "none" if best[0] == NONE else candidates[int(best[0])]
        raise InputError(
            f"the best candidate is {only!r} on all {len(outcomes)} images; there is nothing to "
            "choose, at least two different answers are needed"
        )


def _fit_neighbours(
    premodel: KNNChain,
    X: np.ndarray,
    outcomes: np.ndarray,
    features: Sequence[str],
    varies: np.ndarray,
) -> Trained:
    premodel.fit(X[:, varies], outcomes)
    _check_choice(outcomes, premodel.candidates)
    if len(premodel.table_) < len(X):
        premodel.training_["condensed"] = cost_of_condensing(premodel, X[:, varies], outcomes)
    levels = fit_levels(premodel)
    compared, tied = _compare(premodel, levels)
    return Trained(premodel, _dropped(features, varies), levels, compared, tied)


#: what `--classifier` names -> what trains it
TRAINERS: dict[str, Callable[..., Trained]] = {
    "knn": fit_chain,
    "outcome-knn": fit_outcome_knn,
    **{
        name.replace("_", "-"): partial(fit_estimator, kind)
        for name, kind in KINDS.items()
        if issubclass(kind, Estimator)
    },
    "mixture": fit_mixture,
}


def trainer(name: str) -> Callable[..., Trained]:
    """What trains a classifier: one of `TRAINERS`, or an `Estimator` of another package, by kind.

    Raises
    ------
    InputError
        when there is none.
    """
    if name in TRAINERS:
        return TRAINERS[name]
    kind = premodel_class(name)
    if kind is None or not issubclass(kind, Estimator):
        raise InputError(f"classifier {name!r} is not one of {list(TRAINERS)}, nor an Estimator")
    return partial(fit_estimator, kind)


#: those of them that look for neighbours: they take `k` and `scaling`, the others `seed`
NEIGHBOURS = ("knn", "outcome-knn")


def fit_levels(chain: KNNChain) -> tuple[Any, ...]:
    """scikit-learn's classifier for each level of a fitted chain, on the chain's own table."""
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as exc:
        raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
    table = chain.table_.astype(np.float64)
    return tuple(
        KNeighborsClassifier(n_neighbors=chain.k, algorithm="brute").fit(table, outcome)
        for outcome in chain.outcomes_.T
    )


def _compare(chain: KNNChain, levels: Sequence[Any]) -> tuple[int, int]:
    """Ask both on some of the training images; a difference would be a bug, and is an error."""
    rows = _some(len(chain.table_))
    clear = rows[~chain.ties(chain.table_[rows])]
    if len(clear):
        queries = chain.table_[clear].astype(np.float64)
        ours = chain.votes(queries) > chain.k / 2
        theirs = np.stack([level.predict(queries) for level in levels], axis=1)
        if (ours != theirs).any():
            raise _different(int(clear[(ours != theirs).any(axis=1)][0]))
    return len(clear), len(rows) - len(clear)


def _some(rows: int) -> np.ndarray:
    """The rows of the training images that are compared, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, COMPARED).astype(np.int64))


def _different(row: int) -> AdaptiveError:
    return AdaptiveError(
        f"scikit-learn answers training image {row} differently; this is a bug, please report "
        "it with the table"
    )
