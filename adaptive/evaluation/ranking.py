"""How well a signal ranks a candidate's right answers above its wrong ones, and how honest it is.

A signal's quality is the area under the ROC curve of "this candidate is right": the chance that
a right answer, drawn at random, scores above a wrong one. One half is worthless, one perfect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from adaptive.intervals import Z95, Estimate, share
from adaptive.outcomes.quality import mean_quality
from adaptive.premodel.neighbours import search_for
from adaptive.premodel.scaling import Scaling
from adaptive.premodel.scoring import midranks

#: The KNN signal sees the cheap network's so many highest probabilities.
TOP = 5


@dataclass(frozen=True)
class Ranked:
    """Areas of several signals on the same images, and their differences to the first.

    Attributes
    ----------
    areas : one Estimate a signal
    over_first : area minus that of the first signal, paired over the images; zero for the first
    """

    areas: tuple[Estimate, ...]
    over_first: tuple[Estimate, ...]


def rank(scores: Sequence[np.ndarray], right: np.ndarray) -> Ranked | None:
    """Areas under the ROC curve with 95% intervals, ties counting one half.

    DeLong et al. 1988 (Biometrics 44, 837-845), by midranks as in Sun and Xu 2014. Its
    variance is 0 where the signal separates right from wrong without a fault; there the
    interval is Wilson's for as many images as the rarer outcome has, since an area's variance
    is at most that of such a share (Birnbaum and Klose 1957).

    Parameters
    ----------
    scores : ndarrays (n,), finite, higher meaning surer
    right : ndarray (n,), bool

    Returns
    -------
    Ranked, or None where all answers are right or all are wrong
    """
    positive = int(np.count_nonzero(right))
    negative = len(right) - positive
    if not positive or not negative:
        return None
    placed = [_placements(np.asarray(score, np.float64), right) for score in scores]
    leads = [Estimate(0.0, 0.0, 0.0)]
    leads += [_delong(own[0] - placed[0][0], own[1] - placed[0][1]) for own in placed[1:]]
    return Ranked(tuple(_area(*own) for own in placed), tuple(leads))


def auc(score: np.ndarray, right: np.ndarray) -> Estimate | None:
    """One signal's area; see `rank`."""
    ranked = rank([score], right)
    return None if ranked is None else ranked.areas[0]


def _placements(score: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each right image the share of wrong ones below it; for each wrong, of right above."""
    high, low = score[right], score[~right]
    own_right = (midranks(score)[right] - midranks(high)) / len(low)
    own_wrong = 1 - (midranks(score)[~right] - midranks(low)) / len(high)
    return own_right, own_wrong


def _delong(own_right: np.ndarray, own_wrong: np.ndarray) -> Estimate:
    value = float(own_right.mean())
    variance = sum(
        float(np.var(v, ddof=1)) / len(v) if len(v) > 1 else math.inf
        for v in (own_right, own_wrong)
    )
    half = Z95 * math.sqrt(variance)
    return Estimate(value, value - half, value + half)


def _area(own_right: np.ndarray, own_wrong: np.ndarray) -> Estimate:
    plain = _delong(own_right, own_wrong)
    value = min(max(plain.value, 0.0), 1.0)
    if value in (0.0, 1.0):
        few = share(np.full(min(len(own_right), len(own_wrong)), value == 1.0))
        return Estimate(value, few.low, few.high)
    return Estimate(value, max(0.0, plain.low), min(1.0, plain.high))


@dataclass(frozen=True)
class Reliability:
    """What a confidence promises beside what it keeps, in bins of equal width.

    Attributes
    ----------
    edges : ndarray (bins + 1,), from 0 to 1; a bin holds what lies above its lower edge and
        not above its upper one, the first also 0
    count : ndarray (bins,), images
    confidence : ndarray (bins,), their mean confidence, NaN in an empty bin
    right : for each bin the share that is right, None where it is empty
    error : the expected calibration error: |confidence - share right|, weighted by images
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    right: tuple[Estimate | None, ...]
    error: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "edges": self.edges.tolist(),
            "count": self.count.tolist(),
            "confidence": [None if math.isnan(c) else c for c in self.confidence.tolist()],
            "right": [None if r is None else r.to_json() for r in self.right],
            "expected_calibration_error": self.error,
        }


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> Reliability:
    """A reliability diagram's numbers (Guo et al. 2017, section 2).

    confidence, right : ndarrays (n,); confidences in 0..1
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    means = np.full(bins, np.nan)
    shares: list[Estimate | None] = [None] * bins
    error = 0.0
    for b in np.flatnonzero(count):
        inside = place == b
        means[b] = confidence[inside].mean()
        found = mean_quality(right[inside])
        shares[b] = found
        error += count[b] / len(right) * abs(found.value - means[b])
    return Reliability(edges, count, means, tuple(shares), float(error))


def neighbour_signal(
    probabilities: np.ndarray,
    right: np.ndarray,
    neighbours: int | None = None,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Chance of being right by the images whose highest probabilities look alike, cross-fitted.

    An image's TOP highest probabilities, sorted and brought to one scale, are its place; the
    share of right answers among its nearest images of the *other* folds is its signal.

    Parameters
    ----------
    probabilities : ndarray (n, classes)
    right : ndarray (n,), bool
    neighbours : how many vote; the root of the number of images to learn from when left out

    Returns
    -------
    ndarray (n,), 0..1
    """
    n, classes = probabilities.shape
    kept = min(TOP, classes)
    places = np.sort(np.partition(probabilities, classes - kept, axis=1)[:, -kept:], axis=1)
    places = places.astype(np.float64)
    fold = folded(n, folds, seed)
    signal = np.empty(n)
    for part in np.unique(fold):
        learned = np.flatnonzero(fold != part)
        spread = places[learned].std(axis=0)
        scaling = Scaling("standard", np.where(spread > 0, spread, 1.0), places[learned].mean(0))
        wanted = math.isqrt(len(learned)) if neighbours is None else neighbours
        search = search_for(scaling.grid(places[learned]))
        held = fold == part
        near = search.nearest(scaling.grid(places[held]), max(1, min(wanted, len(learned))))
        signal[held] = right[learned][near].mean(axis=1)
    return signal


def folded(n: int, folds: int, seed: int) -> np.ndarray:
    """A fold for each of n images, of sizes that differ by one at most."""
    return np.asarray(np.random.default_rng(seed).permutation(n) % min(folds, n))
