"""Why one image took the way that it took: step by step, and among which images it stands."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.errors import AdaptiveError
from adaptive.limits import Limits
from adaptive.policy.base import History, Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.gain import bar
from adaptive.policy.walk import Walk
from adaptive.premodel.base import Premodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.routing.photo import Photo


@dataclass(frozen=True)
class Judgement:
    """What one candidate said, and what the policy held it against.

    Attributes
    ----------
    candidate, label, score : the candidate, its own best class, and the probability of that
    signal, value : what the policy looks at, and how much of it there was, 0..1; of the answer
        as it stood then, so of the average where answers are averaged. None where the policy
        does not look at answers
    threshold : below which another candidate is asked; None where there is none
    gains : where the policy goes by them, for each way on what it promises, as a chance of being
        right less what the time is worth
    bar : what a gain must exceed
    """

    candidate: str
    label: str
    score: float
    signal: str | None = None
    value: float | None = None
    threshold: float | None = None
    gains: tuple[tuple[tuple[str, ...], float], ...] | None = None
    bar: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; what is not finite is null."""
        gains = None
        if self.gains is not None:
            gains = [{"ask": list(way), "gain": gain} for way, gain in self.gains]
        return {
            "candidate": self.candidate,
            "label": self.label,
            "score": self.score,
            "signal": self.signal,
            "value": self.value,
            "threshold": self.threshold,
            "gains": gains,
            "bar": _finite(self.bar),
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


@dataclass(frozen=True, eq=False)
class Explanation:
    """What only a request that asks for it is told.

    Attributes
    ----------
    steps : what ran, in order
    neighbours : of a premodel that goes by its nearest neighbours, else None
    standing : of the features, or None where there are none
    extra : steps of `ms` that were taken for this explanation alone
    crop : ndarray of shape (height, width, 3), uint8, RGB: the pixels that features see
    area : left, top, width and height of those, as shares of the image's width and height
    """

    steps: tuple[Judgement, ...]
    neighbours: Neighbours | None
    standing: Standing | None
    extra: tuple[str, ...]
    crop: np.ndarray
    area: tuple[float, float, float, float]

    def to_json(self, edges: bool = False) -> dict[str, Any]:
        """As plain JSON values; with `edges` also the edge map."""
        value: dict[str, Any] = {
            "steps": [step.to_json() for step in self.steps],
            "neighbours": None if self.neighbours is None else self.neighbours.to_json(),
            "standing": None if self.standing is None else self.standing.to_json(),
            "extra": list(self.extra),
        }
        if edges:
            picture = base64.b64encode(edge_png(self.crop)).decode()
            value["edges"] = {"png": picture, "area": list(self.area)}
        return value


def explain(
    policy: Policy,
    premodel: Premodel | None,
    judged_by_it: Sequence[str],
    labels: Sequence[str],
    walk: Walk,
    photo: Photo,
    names: Sequence[str],
    limits: Limits,
) -> Explanation:
    """Say how one photo came to its answer.

    Parameters
    ----------
    policy : what decided
    premodel, judged_by_it : what judged, and which candidates; None where nothing did
    labels : class names
    walk : of this one photo, finished
    names : of the photo's features
    limits : of the request
    """
    from adaptive.features.schema import SCHEMA

    (route,) = walk.routes()
    steps = []
    for count in range(1, len(route.path) + 1):
        history = History(route.path[:count], route.outputs[:count], walk.chances)
        steps.append(judged(policy, labels, history, limits))
    crop = SCHEMA.crop(photo.working)
    height, width = photo.working.shape[:2]
    rows, columns = crop.shape[:2]
    top, left = (height - rows) // 2, (width - columns) // 2
    taken = [step for step in ("features", "premodel") if step in photo.ms]
    neighbours = standing = None
    if photo.features is not None:
        neighbours = neighbours_of(premodel, photo.features, judged_by_it)
        standing = standing_of(premodel, photo.features, names)
    return Explanation(
        tuple(steps),
        neighbours,
        standing,
        () if policy.needs_features else tuple(taken),
        crop.copy(),  # a view would keep the whole image alive
        (left / width, top / height, columns / width, rows / height),
    )


def judged(policy: Policy, labels: Sequence[str], history: History, limits: Limits) -> Judgement:
    """What the candidate that ran last said, and what the policy held that against."""
    values = history.outputs[-1].probabilities
    assert values is not None
    best = int(values[0].argmax())
    last = history.path[-1]
    said = (policy.candidates[last], labels[best], float(values[0, best]))
    if not isinstance(policy, Cascade):
        return Judgement(*said)
    value = float(np.asarray(policy.score(history)).ravel()[0])
    promised = policy.promised(history)
    if promised is not None:
        gains = tuple(
            (tuple(policy.candidates[c] for c in way), float(gain))
            for way, gain in zip(promised[0], promised[1][0])
        )
        return Judgement(*said, policy.signal, value, None, gains, bar(limits.preference))
    threshold = None
    if last < len(policy.candidates) - 1:
        threshold = float(np.asarray(policy.asked_below(history, limits)).ravel()[0])
    return Judgement(*said, policy.signal, value, threshold)


def neighbours_of(
    premodel: Premodel | None, features: np.ndarray, candidates: Sequence[str]
) -> Neighbours | None:
    """The nearest neighbours and which candidates were right on them; None without such."""
    if not isinstance(premodel, KNNChain):
        return None
    told = premodel.explain(features)["neighbours"]
    right = {name: tuple(int(n["votes"][name]) for n in told) for name in candidates}
    return Neighbours(tuple(n["distance"] for n in told), right)


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
    import cv2

    from adaptive.features.brightness import grey
    from adaptive.features.edges import edges, gradient

    found = edges(gradient(grey(np.ascontiguousarray(crop))))
    done, encoded = cv2.imencode(".png", found, [cv2.IMWRITE_PNG_BILEVEL, 1])
    if not done:
        raise AdaptiveError("the edge map could not be written as PNG")
    return bytes(encoded.tobytes())


def _finite(value: float | None) -> float | None:
    return value + 0.0 if value is not None and math.isfinite(value) else None  # no -0.0
