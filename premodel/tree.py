"""One decision tree whose leaves hold every candidate's share of right answers."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError, MissingExtra
from adaptive.premodel.calibration import cross_fitted
from adaptive.premodel.estimator import Arrays, Estimator, Settings, check_whole
from adaptive.premodel.forest import NODES, Forest, nodes_of, single
from adaptive.premodel.scoring import brier

#: depths that cross-validation chooses from; of equally good ones the first
DEPTHS = (1, 2, 3, 4, 5, 6)


class Tree(Estimator):
    """A classification tree (Breiman et al. 1984) for all candidates at once.

    Images that end in one leaf share their chances: each candidate's share of right answers
    among the training images there. It is grown as scikit-learn's regression tree of 0 and 1,
    whose variance is half the Gini impurity, so the splits are those of a classification tree
    by Gini, averaged over candidates. Features are not scaled: thresholds read in their units,
    and are compared in single precision as scikit-learn does.

    Parameters
    ----------
    features, candidates, schema_version : as in `Premodel`
    depth : comparisons until a leaf at most; None chooses from DEPTHS by the Brier score of
        5-fold cross-validation
    leaf_images : training images that a leaf has at least
    seed : of the folds, and of which of two equally good splits is taken
    """

    kind = "tree"
    SETTINGS: ClassVar[Settings] = {"depth": (int,), "leaf_images": (int,), "seed": (int,)}
    ARRAYS: ClassVar[Arrays] = {
        **NODES,
        "chance": ("<f8", ("nodes", "candidates")),
        "images": ("<i4", ("nodes",)),
    }

    def __init__(
        self,
        features: Sequence[str],
        candidates: Sequence[str],
        depth: int | None = None,
        leaf_images: int = 20,
        seed: int = 0,
        schema_version: int | None = None,
    ) -> None:
        super().__init__(features, candidates, schema_version)
        self.depth = depth
        self.leaf_images = leaf_images
        self.seed = seed

    def _check_settings(self) -> None:
        check_whole("depth", self.depth, 1, optional=True)
        check_whole("leaf_images", self.leaf_images, 1)
        check_whole("seed", self.seed, 0)

    def _train(
        self, X: np.ndarray, outcomes: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[np.ndarray], np.ndarray]]:
        X = single(X)
        depth = self.depth
        scores: dict[str, float] = {}
        if depth is None:
            for tried in DEPTHS:

                def learn(
                    seen: np.ndarray, known: np.ndarray, tried: int = tried
                ) -> Callable[[np.ndarray], np.ndarray]:
                    return _chances_of(self._grow(seen, known, tried))

                scores[str(tried)] = brier(cross_fitted(learn, X, outcomes, self.seed), outcomes)
            depth = min(DEPTHS, key=lambda tried: scores[str(tried)])
        model = self._grow(X, outcomes, depth)
        arrays = {
            **nodes_of(model.tree_),
            "chance": model.tree_.value[:, :, 0],
            "images": model.tree_.n_node_samples,
        }
        theirs = _chances_of(model)
        chosen = {"depth": depth, "brier": scores} if scores else {}
        return arrays, chosen, lambda X: theirs(single(X))

    def _grow(self, X: np.ndarray, outcomes: np.ndarray, depth: int) -> Any:
        try:
            from sklearn.tree import DecisionTreeRegressor
        except ImportError as exc:
            raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
        model = DecisionTreeRegressor(
            max_depth=depth, min_samples_leaf=self.leaf_images, random_state=self.seed % 2**32
        )
        return model.fit(X, outcomes.astype(np.float64))

    def _prepare(self, arrays: Mapping[str, np.ndarray]) -> None:
        chance = arrays["chance"]
        if chance.min() < 0 or chance.max() > 1:
            raise InputError("array 'chance' must hold numbers from 0 to 1")
        self._forest = Forest(
            arrays["feature"],
            arrays["threshold"],
            arrays["child"],
            np.zeros(1, np.intp),
            len(self.features),
        )
        self._chance, self._images = chance, arrays["images"]

    def _chances(self, X: np.ndarray) -> np.ndarray:
        if len(X) == 1:
            return self._chance.take(self._forest.path(single(X[0]), 0)[-1:], axis=0)
        return self._chance.take(self._forest.leaves(single(X))[:, 0], axis=0)

    def _reasons(self, X: np.ndarray) -> dict[str, Any]:
        """ "path": every comparison on the way, and "images": how many trained the leaf."""
        x = single(X[0])
        path = self._forest.path(x, 0)
        steps = [
            {
                "feature": self.features[self._forest.feature[node]],
                "value": float(x[self._forest.feature[node]]),
                "threshold": float(self._forest.threshold[node]),
                "above": bool(x[self._forest.feature[node]] > self._forest.threshold[node]),
            }
            for node in path[:-1]
        ]
        return {"path": steps, "images": int(self._images[path[-1]])}


def _chances_of(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    def chances(X: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(X)).reshape(len(X), -1)

    return chances
