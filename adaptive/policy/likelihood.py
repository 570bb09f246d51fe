"""Fit the exponents of p ~ prod p_k ** w_k by likelihood: convex, so there is one answer.

Projected Newton steps: each is the minimum of the quadratic model inside the bounds, found by
coordinate descent where it lies on one, and is halved until the likelihood rises enough (Armijo).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from adaptive.errors import InputError

#: No weight is above it, and a set's sum not below one over it: temperatures of 0.05 to 20.
MOST = 20.0

#: What holds weights together that the images do not tell apart, in images.
PENALTY = 0.1

#: Of more images than this, some are asked first where to start: most steps are then cheap.
COARSE = 1000

#: Steps below it, of the largest weight, are the last; the next would be its square.
LAST, LAST_COARSE = 1e-2, 0.1

#: Numbers held at a time, for each network; they stay in the processor's cache.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Slopes:
    """The negative log-likelihood at some weights, as sums over the images of each part.

    Attributes
    ----------
    value : summed over all images
    gradient : ndarray (parts, k)
    curvature : ndarray (parts, k, k)
    """

    value: float
    gradient: np.ndarray
    curvature: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """Weights of a set of networks.

    Attributes
    ----------
    weights : ndarray (k,), by all images
    without : ndarray (parts, k), for each part the weights by all other images
    """

    weights: np.ndarray
    without: np.ndarray

    def each(self, fold: np.ndarray) -> np.ndarray:
        """For each image the weights without its part, (n, k)."""
        return np.asarray(self.without[fold])


def fit_exponents(
    logs: np.ndarray,
    label: np.ndarray,
    copies: np.ndarray | None = None,
    fold: np.ndarray | None = None,
    penalty: float = PENALTY,
    start: Sequence[float] = (),
) -> Fitted:
    """The weights w >= 0 at which prod p_k ** w_k, normalised, gives the labels most likelihood.

    Those without a part are one more Newton step, from the weights by all: a part is a small
    share of the images, so a second step would change nothing that is seen.

    Parameters
    ----------
    logs : ndarray (k, n, columns), logarithms of the networks' probabilities
    label : ndarray (n,), column of each image's label
    copies : ndarray (n, columns), how many classes a column stands for; one each when left out
    fold : ndarray (n,), the part of each image, from 0; one part when left out
    penalty : what squared distance from equal weights that sum to one costs, in images
    start : each network's weight alone, where known: the likelier of these and of their share
        is where the steps begin, which changes how many there are

    Raises
    ------
    InputError
        without an image.
    """
    k, n, _ = logs.shape
    if not n:
        raise InputError("exponents are fitted to at least one image, and there is none")
    part = np.zeros(n, np.intp) if fold is None else fold
    inside = (part[:, np.newaxis] == np.arange(int(part.max()) + 1)).astype(np.float64)
    centred = centred_on(logs, label)
    weights = np.full(k, 1 / k)
    if start:
        few = slice(None, None, max(1, n // (COARSE // 2)))
        some = None if copies is None else copies[few]
        starts = [np.clip(start, 0.05, MOST) * share for share in (1.0, k**-0.5, 1 / k)]
        values = [moments(centred[:, few], some, each)[0].sum() for each in starts]
        weights = starts[int(np.argmin(values))]
    if n > COARSE:
        few = slice(None, None, n // (COARSE // 2))
        some = None if copies is None else copies[few]
        every = np.ones((len(inside[few]), 1))
        weights, _ = _climbed(centred[:, few], some, every, weights, penalty, LAST_COARSE)
    weights, without = _climbed(centred, copies, inside, weights, penalty, LAST)
    return Fitted(weights, without)


def centred_on(logs: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The logarithms (k, n, columns) less those of each image's label."""
    return np.asarray(logs - logs[:, np.arange(len(label)), label][:, :, np.newaxis])


def _climbed(
    centred: np.ndarray,
    copies: np.ndarray | None,
    inside: np.ndarray,
    weights: np.ndarray,
    penalty: float,
    last: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest weights (k,), and for each part (parts, k) those without it.

    inside : ndarray (n, parts), 1 where an image is in a part
    """
    k = len(centred)
    equal, pull = np.full(k, 1 / k), penalty * np.eye(k)

    def loss(at: Slopes, weights: np.ndarray) -> float:
        return at.value + 0.5 * penalty * float(((weights - equal) ** 2).sum())

    here = _slopes(centred, copies, inside, weights)
    step = np.zeros(k)
    for _ in range(50):
        gradient = here.gradient.sum(axis=0) + penalty * (weights - equal)
        step = _bounded_step(weights, gradient, here.curvature.sum(axis=0) + pull)
        if np.abs(step).max() <= last * max(float(weights.max()), 1 / MOST):
            break
        before, share = loss(here, weights), 1.0
        while share > 1e-6:
            following = np.clip(weights + share * step, 0.0, MOST)
            there = _slopes(centred, copies, inside, following)
            if loss(there, following) <= before + 1e-4 * share * float(gradient @ step):
                break
            share /= 2
        else:
            step = np.zeros(k)  # as near as the numbers' precision allows
            break
        weights, here = following, there
    without = np.empty((inside.shape[1], k))
    for one in range(len(without)):
        gradient = here.gradient.sum(axis=0) - here.gradient[one] + penalty * (weights - equal)
        curvature = here.curvature.sum(axis=0) - here.curvature[one] + pull
        others = weights + _bounded_step(weights, gradient, curvature)
        without[one] = _not_all_zero(np.clip(others, 0.0, MOST))
    return _not_all_zero(np.clip(weights + step, 0.0, MOST)), without


def _slopes(
    centred: np.ndarray, copies: np.ndarray | None, inside: np.ndarray, weights: np.ndarray
) -> Slopes:
    k = len(centred)
    value, slope, bend = moments(centred, copies, weights)
    gradient = (slope @ inside).T
    curvature = (bend.reshape(k * k, -1) @ inside).T.reshape(-1, k, k)
    return Slopes(float(value.sum()), gradient, curvature)


def moments(
    centred: np.ndarray, copies: np.ndarray | None, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each image's negative log-likelihood (n,), and how it follows its weights.

    Parameters
    ----------
    centred : ndarray (k, n, columns), see `centred_on`
    weights : ndarray (k,), or (k, n) where each image has its own

    Returns
    -------
    The values, their first derivatives by the weights (k, n) and their second ones (k, k, n).
    """
    k, n, columns = centred.shape
    value, slope, bend = np.empty(n), np.empty((k, n)), np.empty((k, k, n))
    block = max(1, _BLOCK // columns)
    each = weights.ndim == 2
    for begin in range(0, n, block):
        rows = slice(begin, min(begin + block, n))
        own = centred[:, rows]
        factors = weights[:, rows, np.newaxis].astype(np.float32) if each else weights
        joint = factors[0] * own[0]
        for weight, values in zip(factors[1:], own[1:]):
            joint += weight * values
        highest = joint.max(axis=1)
        joint -= highest[:, np.newaxis]
        np.exp(joint, out=joint)
        if copies is not None:
            joint *= copies[rows]
        total = joint.sum(axis=1)
        value[rows] = np.log(total) + highest
        joint /= total[:, np.newaxis]
        means = np.empty((k, len(joint)))
        for i in range(k):
            weighted = joint * own[i]
            means[i] = weighted.sum(axis=1)
            for j in range(i + 1):
                both = np.einsum("nc,nc->n", weighted, own[j])
                bend[i, j, rows] = bend[j, i, rows] = both - means[i] * means[j]
        slope[:, rows] = means
    return value, slope, bend


def _bounded_step(weights: np.ndarray, gradient: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Where gradient . d + d' curvature d / 2 is least with weights + d in 0..MOST."""
    low, high = -weights, MOST - weights
    if np.linalg.cond(curvature) < 1e12:
        step = -np.linalg.solve(curvature, gradient)
        if ((step >= low) & (step <= high)).all():
            return np.asarray(step)
    step = np.zeros(len(weights))
    for _ in range(500):
        largest = 0.0
        for i in range(len(step)):
            slope = gradient[i] + curvature[i] @ step
            wanted = step[i] - slope / curvature[i, i] if curvature[i, i] > 0 else (
                step[i] if slope == 0 else (low[i] if slope > 0 else high[i])
            )  # fmt: skip
            wanted = min(max(wanted, low[i]), high[i])
            largest = max(largest, abs(wanted - step[i]))
            step[i] = wanted
        if largest <= 1e-9 * MOST:
            break
    return step


def _not_all_zero(weights: np.ndarray) -> np.ndarray:
    """The weights, raised alike where networks that tell nothing would leave no order at all."""
    short = 1 / MOST - float(weights.sum())
    return weights + short / len(weights) if short > 0 else weights
