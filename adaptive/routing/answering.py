"""From the routes that photos took to predictions: labels, costs and reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.policy.change import unreached
from adaptive.policy.walk import Route, Walk
from adaptive.prediction import Prediction
from adaptive.routing.own_answers import OwnOutput
from adaptive.routing.photo import Photo

#: So many of the likeliest classes are told.
BEST = 5

#: Up to so many classes, sorting them as Python numbers is quickest.
FEW = 32


@dataclass(frozen=True)
class Answering:
    """Says what finished photos came to.

    Parameters
    ----------
    labels : class names
    feature_names : of the photos' features
    """

    labels: Sequence[str]
    feature_names: Sequence[str]

    def predictions(
        self, walk: Walk, photos: Sequence[Photo], features: np.ndarray | None
    ) -> list[Prediction]:
        """One prediction a photo, in the photos' order; all of them must be finished.

        features : ndarray (n, d), of the photos; None where the policy goes by none
        """
        answers: dict[int, Prediction] = {}
        for route in walk.routes:
            for place, row in enumerate(route.rows.tolist()):
                photo, own = photos[row], None if features is None else features[row]
                total_ms = photo.image.ms + photo.spent_ms()
                answers[row] = self.prediction(walk, route, place, photo, own, total_ms)
        return [answers[row] for row in range(len(photos))]

    def prediction(
        self,
        walk: Walk,
        route: Route,
        place: int,
        photo: Photo,
        features: np.ndarray | None,
        total_ms: float,
    ) -> Prediction:
        """What one photo came to.

        Parameters
        ----------
        route : of the walk, on which the photo is at `place`
        features : ndarray (d,), or None where nobody asked for them
        total_ms : from its bytes to its answer
        """
        policy, history, row = walk.policy, route.history, int(route.rows[place])
        if len(route.rows) > 1:
            history = history.rows(np.array([place]))
        changes = walk.changes(row) if walk.changed else ()
        why = policy.reason(history, walk.preference, changes)
        missed = unreached(policy.candidates, changes) if changes else ()
        ms = {"decode": photo.image.ms, **photo.ms, "total": total_ms}
        path = tuple([policy.candidates[c] for c in history.path])
        values = votes = None
        if features is not None:
            values = dict(zip(self.feature_names, features.tolist()))
        if history.chances is not None:
            votes = dict(zip(policy.candidates, history.chances[0].tolist()))
        if not path:
            return Prediction(
                *(None, None, None, (), None, path, ms, False, values, votes, why),
                unreached=missed,
            )
        unsure = bool(route.abstained[place])
        said = photo.done[path[-1]]
        if isinstance(said, OwnOutput):
            if unsure:
                why += f"; its confidence of {said.confidence[0]:.2f} is below "
                why += f"{policy.abstain_below:g}, so the policy abstains"
            return Prediction(
                None,
                None,
                float(said.confidence[0]),
                (),
                None if unsure else path[-1],
                path,
                ms,
                features=values,
                votes=votes,
                reason=why,
                answer=None if unsure else said.answers[0],
                unreached=missed,
            )
        if route.probabilities is None:
            chances = history.outputs[-1].probabilities[0]  # type: ignore[index]
        else:
            chances = route.probabilities[place]
        if len(chances) <= FEW:
            numbers = chances.tolist()
            best = sorted(range(len(numbers)), key=numbers.__getitem__, reverse=True)[:BEST]
        else:
            best, left = [], chances.copy()
            for _ in range(BEST):  # several times quicker than sorting; of equals the first
                best.append(int(left.argmax()))
                left[best[-1]] = -np.inf
        top5 = tuple([(self.labels[own], chances.item(own)) for own in best])
        index, (label, score) = best[0], top5[0]
        if unsure:
            why += (
                f"; its best guess, {label}, has a score of {score:.2f}, below "
                f"{policy.abstain_below:g}, so the policy abstains"
            )
        return Prediction(
            label=None if unsure else label,
            index=None if unsure else index,
            score=score,
            top5=top5,
            candidate=None if unsure else path[-1],
            path=path,
            ms=ms,
            calibrated=route.calibrated,
            features=values,
            votes=votes,
            reason=why,
            guess=index,
            unreached=missed,
        )
