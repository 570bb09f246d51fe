"""Gradient boosting: each candidate's log odds are a sum of many small trees."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError, MissingExtra
from adaptive.premodel.calibration import constant, parts_of, prior_log_odds, sigmoid
from adaptive.premodel.estimator import Arrays, Estimator, Settings, check_above_0, check_whole
from adaptive.premodel.forest import NODES, Forest, nodes_of, single

#: more trees than this are not tried; a live prediction walks all of them
MOST_TREES = 60

#: parts of the cross-validation that chooses how many: three, since growing trees is slow
FOLDS = 3

#: share of the images that each tree learns from
SUBSAMPLE = 0.5

LEAF_IMAGES = 20


class GradientBoosting(Estimator):
    """Stochastic gradient boosting, one a candidate (Friedman 2001 and 2002).

    Friedman 2001, doi 10.1214/aos/1013203451; 2002, doi 10.1016/S0167-9473(01)00065-2: every
    tree learns from half of the images. How many trees there are is chosen by the Brier score of
    3-fold cross-validation, the same number for all candidates, which is steadier than a number
    each. (The out-of-bag improvement, which would cost nothing, took 94 trees where features
    tell nothing, and did worse than no tree.) Features are compared in single precision, as
    scikit-learn does. A candidate that is always or never right has its prior chance on every
    image.

    Parameters
    ----------
    features, candidates, schema_version : as in `Premodel`
    trees : for each candidate; None chooses from 1 to MOST_TREES
    depth : comparisons in each tree
    rate : what each tree is shrunk by
    seed : of the halves and folds
    """

    kind = "gradient_boosting"
    SETTINGS: ClassVar[Settings] = {
        "trees": (int,),
        "depth": (int,),
        "rate": (float,),
        "seed": (int,),
    }
    ARRAYS: ClassVar[Arrays] = {
        **NODES,
        "value": ("<f8", ("nodes",)),
        "root": ("<i4", ("candidates", "trees")),
        "intercept": ("<f8", ("candidates",)),
    }

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        trees: int | None = None,
        depth: int = 2,
        rate: float = 0.1,
        seed: int = 0,
        schema_version: int | None = None,
    ) -> None:
        super().__init__(features, candidates, schema_version)
        self.trees = trees
        self.depth = depth
        self.rate = rate
        self.seed = seed

    def _check_settings(self) -> None:
        check_whole("trees", self.trees, 1, optional=True)
        check_whole("depth", self.depth, 1)
        check_above_0("rate", self.rate)
        check_whole("seed", self.seed, 0)

    def _train(
        self, X: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        X = single(X)
        trees = self.trees
        chosen: dict[str, Any] = {}
        if trees is None:
            scores = self._scores(X, outcomes)
            trees = 1 + int(np.argmin(scores))
            chosen = {"trees": trees, "brier": scores[trees - 1]}
        models = self._fit(X, outcomes, trees)
        arrays, theirs = self._assemble(models, trees, outcomes)
        return arrays, chosen, lambda X: theirs(single(X))

    def _scores(self, X: np.ndarray, outcomes: np.ndarray) -> list[float]:
        """The cross-validated Brier score with 1, 2, ... MOST_TREES trees."""
        part = parts_of(len(X), FOLDS, self.seed)
        squares = np.zeros(MOST_TREES)
        for held in range(FOLDS):
            seen = part != held
            models = self._fit(X[seen], outcomes[seen], MOST_TREES)
            prior = sigmoid(prior_log_odds(outcomes[seen]))
            for level, model in enumerate(models):
                right = outcomes[~seen, level]
                if model is None:
                    squares += ((prior[level] - right) ** 2).sum()
                else:
                    for stage, chances in enumerate(model.staged_predict_proba(X[~seen])):
                        squares[stage] += ((chances[:, 1] - right) ** 2).sum()
        return list(squares / outcomes.size)

    def _fit(self, X: np.ndarray, outcomes: np.ndarray, trees: int) -> list[Any]:
        """scikit-learn's ensemble for each candidate, None for one that is always the same."""
        try:
            from sklearn.ensemble import GradientBoostingClassifier
        except ImportError as exc:
            raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
        settings = {
            "n_estimators": trees,
            "learning_rate": self.rate,
            "max_depth": self.depth,
            "subsample": SUBSAMPLE,
            "min_samples_leaf": LEAF_IMAGES,
            "random_state": self.seed % 2**32,
        }
        return [
            None if same else GradientBoostingClassifier(**settings).fit(X, outcome)
            for same, outcome in zip(constant(outcomes), outcomes.T)
        ]

    def _assemble(
        self, models: Sequence[Any], trees: int, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        """The trees of all models as arrays, and what asks the models themselves."""
        # node 0 is a leaf that adds nothing, for candidates that need no trees
        parts = [
            {
                "feature": np.zeros(1),
                "threshold": np.zeros(1),
                "child": np.zeros((1, 2)),
                "value": np.zeros(1),
            }
        ]
        root = np.zeros((len(models), trees))
        intercept = prior_log_odds(outcomes)
        start = 1
        for level, model in enumerate(models):
            if model is None:
                continue
            share = outcomes[:, level].mean()
            intercept[level] = np.log(share / (1 - share))
            for position, stage in enumerate(model.estimators_[:, 0]):
                value = self.rate * stage.tree_.value[:, 0, 0]
                parts.append({**nodes_of(stage.tree_, start), "value": value})
                root[level, position] = start
                start += stage.tree_.node_count
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays.update(root=root, intercept=intercept)
        prior = sigmoid(intercept)

        def theirs(X: np.ndarray) -> np.ndarray:
            columns = [
                np.full(len(X), prior[level]) if model is None else model.predict_proba(X)[:, 1]
                for level, model in enumerate(models)
            ]
            return np.stack(columns, axis=1)

        return arrays, theirs

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        root = arrays["root"]
        self._forest = Forest(
            arrays["feature"],
            arrays["threshold"],
            arrays["child"],
            root.ravel(),
            len(self.features),
        )
        self._shape = root.shape
        self._value, self._intercept = arrays["value"], arrays["intercept"]
        if np.abs(self._value).max() > np.finfo(np.float64).max / 4 / root.shape[1]:
            raise InputError("array 'value' holds numbers too large to add up")
        self._width = root.size

    def _log_odds(self, X: np.ndarray) -> np.ndarray:
        values = self._value.take(self._forest.leaves(single(X))).reshape(-1, *self._shape)
        log_odds: np.ndarray = np.add.reduce(values, axis=-1) + self._intercept
        return log_odds

    def _chances(self, X: np.ndarray) -> np.ndarray:
        return sigmoid(self._log_odds(X))

    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """ "log_odds" by candidate, and how often each feature was "compared" on the way."""
        x = single(X[0])
        compared = dict.fromkeys(self.features, 0)
        for tree in range(len(self._forest.root)):
            for node in self._forest.path(x, tree)[:-1]:
                compared[self.features[self._forest.feature[node]]] += 1
        return {
            "log_odds": dict(zip(self.candidates, self._log_odds(X)[0].tolist())),
            "compared": compared,
        }
