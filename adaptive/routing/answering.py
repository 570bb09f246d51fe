"""From the routes that photos took to predictions: labels, costs and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.policy.base import History, Policy
from adaptive.policy.walk import Walk
from adaptive.prediction import Prediction
from adaptive.routing.photo import Photo


@dataclass(frozen=True)
class Answering:
    """Says what finished photos came to.

    Parameters
    ----------
    policy : what decided
    labels : class names
    feature_names : of the photos' features
    """

    policy: Policy
    labels: Sequence[str]
    feature_names: Sequence[str]

    def predictions(self, walk: Walk, photos: Sequence[Photo]) -> list[Prediction]:
        """One prediction a photo, in the photos' order; all of them must be finished."""
        answers: dict[int, Prediction] = {}
        for route in walk.routes():
            for position, row in enumerate(route.rows.tolist()):
                photo = photos[row]
                history = route.history
                if len(route.rows) > 1:
                    history = history.rows(np.array([position]))
                values = None
                if route.probabilities is not None:
                    values = route.probabilities[position]
                elif route.path:
                    values = history.outputs[-1].probabilities[0]  # type: ignore[index]
                why = walk.policy.reason(history, walk.preference, walk.changes(row))
                unsure = bool(route.abstained[position])
                answers[row] = self._prediction(photo, history, values, why, unsure)
        return [answers[row] for row in range(len(photos))]

    def _prediction(
        self, photo: Photo, history: History, values: np.ndarray | None, why: str, unsure: bool
    ) -> Prediction:
        features = votes = None
        if photo.features is not None:
            features = dict(zip(self.feature_names, photo.features.tolist()))
        if history.chances is not None:
            votes = dict(zip(self.policy.candidates, history.chances[0].tolist()))
        ms = dict(photo.ms)
        path = tuple(self.policy.candidates[c] for c in history.path)
        if values is None:
            return Prediction(None, None, None, (), None, path, ms, False, features, votes, why)
        best = _best(values, 5)
        index = best[0]
        scores = values.take(best).tolist()
        if unsure:
            why += (
                f"; its best guess, {self.labels[index]}, has a score of {scores[0]:.2f}, below "
                f"{self.policy.abstain_below:g}, so the policy abstains"
            )
        return Prediction(
            label=None if unsure else self.labels[index],
            index=None if unsure else index,
            score=scores[0],
            top5=tuple(zip(map(self.labels.__getitem__, best), scores)),
            candidate=None if unsure else path[-1],
            path=path,
            ms=ms,
            calibrated=self.policy.calibrated(history.path),
            features=features,
            votes=votes,
            reason=why,
            guess=index,
        )


def _best(values: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` highest values, highest first; of equals the lower index first."""
    left = values.copy()
    found = []
    for _ in range(min(count, len(values))):
        best = int(left.argmax())  # prefers the first; several times quicker than partitioning
        found.append(best)
        left[best] = -np.inf
    return found
