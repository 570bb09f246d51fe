"""Why one image took the way that it took: step by step, and among which images it stands."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.errors import AdaptiveError
from adaptive.limits import Limits
from adaptive.policy.base import Policy
from adaptive.policy.grounds import Grounds
from adaptive.policy.history import History
from adaptive.policy.walk import Walk
from adaptive.premodel.base import Premodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.routing.judging import Judging
from adaptive.routing.photo import Photo


@dataclass(frozen=True)
class Judgement:
    """What one candidate said, and what the policy held it against.

    Attributes
    ----------
    candidate, label, score : the candidate, its own best class, and the score that the answer
        would have if this candidate alone had run; no class where it answers with something of
        its own
    grounds : what the policy held against what
    """

    candidate: str
    label: str | None
    score: float
    grounds: Grounds

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "candidate": self.candidate,
            "label": self.label,
            "score": self.score,
            **self.grounds.to_json(),
        }


@dataclass(frozen=True)
class Neighbours:
    """The premodel's training images that are most like this one, nearest first.

    Attributes
    ----------
    distances : in scaled units
    right : for each candidate that the answer's votes are about, and each neighbour, 1 where
        it was right
    """

    distances: tuple[float, ...]
    right: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        right = {name: list(votes) for name, votes in self.right.items()}
        return {"distances": [round(d, 4) for d in self.distances], "right": right}


@dataclass(frozen=True)
class Standing:
    """Where the features' values lie, 0 lowest and 1 highest.

    Attributes
    ----------
    among : "images": the share of the premodel's training images with a lower value, those with
        the same one counted by half. "range": the place in the range that the schema names
    shares : by feature
    """

    among: str
    shares: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"among": self.among, "shares": dict(self.shares)}


@dataclass(frozen=True)
class Condition:
    """One that an image may have been taken under: what it looks like, and its probability."""

    description: str
    probability: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"description": self.description, "probability": self.probability}


@dataclass(frozen=True, eq=False)
class Explanation:
    """What only a request that asks for it is told.

    Attributes
    ----------
    steps : what ran, in order
    neighbours : of a premodel that goes by its nearest neighbours, else None
    standing : of the features, or None where there are none
    extra : steps of `ms` that were taken for this explanation alone
    conditions : that the premodel knows, most probable first; none where it knows none
    crop : ndarray of shape (height, width, 3), uint8, RGB: the pixels that features see
    area : left, top, width and height of those, as shares of the image's width and height
    """

    steps: tuple[Judgement, ...]
    neighbours: Neighbours | None
    standing: Standing | None
    extra: tuple[str, ...]
    crop: np.ndarray
    area: tuple[float, float, float, float]
    conditions: tuple[Condition, ...] = ()

    def condition_words(self) -> str:
        """The condition that the image was judged under, with its probability; "" without."""
        return "".join(f"{c.description} ({c.probability:.0%})" for c in self.conditions[:1])

    def to_json(self, edges: bool = False) -> dict[str, Any]:
        """As plain JSON values; with `edges` also the edge map."""
        value: dict[str, Any] = {
            "steps": [step.to_json() for step in self.steps],
            "neighbours": None if self.neighbours is None else self.neighbours.to_json(),
            "standing": None if self.standing is None else self.standing.to_json(),
            "extra": list(self.extra),
            "conditions": [condition.to_json() for condition in self.conditions],
        }
        if edges:
            picture = base64.b64encode(edge_png(self.crop)).decode()
            value["edges"] = {"png": picture, "area": list(self.area)}
        return value


def explanation_of(
    walk: Walk,
    photo: Photo,
    features: np.ndarray | None,
    votes: Mapping[str, float] | None,
    judging: Judging,
    labels: Sequence[str],
    limits: Limits,
) -> Explanation:
    """Say how one photo came to its answer.

    Parameters
    ----------
    walk : of this one photo, finished
    features : ndarray (d,), of the photo; None where they cannot be computed
    votes : the premodel's numbers by candidate; None where it was not asked
    judging : what computed both
    labels : class names
    limits : of the request
    """
    from adaptive.features.schema import SCHEMA

    (route,) = walk.routes
    policy, steps = walk.policy, []
    for count in range(1, len(route.path) + 1):
        history = History(route.path[:count], route.outputs[:count], walk.chances)
        steps.append(judged(policy, labels, history, limits))
    crop = SCHEMA.crop(photo.image.working)
    height, width = photo.image.working.shape[:2]
    rows, columns = crop.shape[:2]
    top, left = (height - rows) // 2, (width - columns) // 2
    taken = [step for step in ("features", "premodel") if step in photo.ms]
    neighbours = standing = None
    conditions: tuple[Condition, ...] = ()
    if features is not None:
        premodel = None if votes is None else judging.premodel
        neighbours = neighbours_of(premodel, features, tuple(votes or ()))
        standing = standing_of(premodel, features, judging.names)
        conditions = judged_under(premodel, features)
    return Explanation(
        tuple(steps),
        neighbours,
        standing,
        () if policy.needs_features else tuple(taken),
        crop.copy(),  # a view would keep the whole image alive
        (left / width, top / height, columns / width, rows / height),
        conditions,
    )


def judged(policy: Policy, labels: Sequence[str], history: History, limits: Limits) -> Judgement:
    """What the candidate that ran last said, and what the policy held that against."""
    last = history.path[-1]
    alone = History((last,), history.outputs[-1:], history.chances)
    values = history.outputs[-1].probabilities
    name, grounds = policy.candidates[last], policy.grounds(history, limits)
    if values is None:  # an answer of its own
        return Judgement(name, None, float(history.outputs[-1].confidence[0]), grounds)
    best = int(values[0].argmax())
    answer = policy.answer(alone)
    score = values[0, best] if answer is None else answer[0, best]
    return Judgement(name, labels[best], float(score), grounds)


def neighbours_of(
    premodel: Premodel | None, features: np.ndarray, candidates: Sequence[str]
) -> Neighbours | None:
    """The nearest neighbours and which candidates were right on them; None without such."""
    if not isinstance(premodel, KNNChain):
        return None
    told = premodel.explain(features)["neighbours"]
    right = {name: tuple(int(n["votes"][name]) for n in told) for name in candidates}
    return Neighbours(tuple(n["distance"] for n in told), right)


def judged_under(premodel: Premodel | None, features: np.ndarray) -> tuple[Condition, ...]:
    """Under which conditions the image was taken, most probable first."""
    if premodel is None or not premodel.conditions:
        return ()
    found = zip(premodel.descriptions(), premodel.posterior(features[np.newaxis])[0].tolist())
    return tuple(sorted((Condition(*one) for one in found), key=lambda c: -c.probability))


def standing_of(
    premodel: Premodel | None, features: np.ndarray, names: Sequence[str]
) -> Standing | None:
    """Where the features lie: among the training images, or else in the schema's range."""
    from adaptive.features.schema import SCHEMA

    if isinstance(premodel, KNNChain):
        own = premodel.scaling_.grid(features[np.newaxis])
        table = premodel.table_
        shares = ((table < own).mean(axis=0) + (table <= own).mean(axis=0)) / 2
        return Standing("images", dict(zip(names, shares.tolist())))
    found = {}
    for name, value in zip(names, features.tolist()):
        if premodel is None or name in premodel.own_features:
            return None
        feature = SCHEMA.feature(name)
        found[name] = min(max((value - feature.low) / (feature.high - feature.low), 0.0), 1.0)
    return Standing("range", found)


def edge_png(crop: np.ndarray) -> bytes:
    """The edge map that features are taken from, as a grey PNG, white on edges.

    crop : ndarray of shape (height, width, 3), uint8, RGB
    """
    from adaptive.features.brightness import grey
    from adaptive.features.edges import edges, gradient
    from adaptive.opencv import cv2

    found = edges(gradient(grey(np.ascontiguousarray(crop))))
    done, encoded = cv2.imencode(".png", found, [cv2.IMWRITE_PNG_BILEVEL, 1])
    if not done:
        raise AdaptiveError("the edge map could not be written as PNG")
    return bytes(encoded.tobytes())
