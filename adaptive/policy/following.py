"""Fit exponents that follow the image: log-linear in its traits, shrunk to the common ones.

w_k(x) = w_k * exp(a_k + b_k . t(x)) with the common exponents w_k of `policy.likelihood`, traits
t(x) of the image (see `Premodel.judge`) and a penalty on b. In w the likelihood is convex; in a
and b it is not, so Gauss-Newton steps start from the common ones and go on while they help.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adaptive.policy.exponents import STEEPEST
from adaptive.policy.likelihood import PENALTY, Fitted, centred_on, moments

#: What squared slopes cost, in images.
SHRINK = 30.0

#: Steps at most; five are usual.
STEPS = 12


@dataclass(frozen=True)
class Following:
    """Exponents of a set of networks that follow the image.

    Attributes
    ----------
    weights : ndarray (k,), by all images
    slopes : ndarray (k, t), by all images
    traits : ndarray (n, t), of the images that they are judged on
    without : ndarray (parts, k, 1 + t), for each part log weight and slopes by the others
    """

    weights: np.ndarray
    slopes: np.ndarray
    traits: np.ndarray
    without: np.ndarray

    def each(self, fold: np.ndarray) -> np.ndarray:
        """For each image its weights by the parts that it is not in, (n, k)."""
        own = self.without[fold]
        exponent = np.einsum("nkt,nt->nk", own[:, :, 1:], self.traits)
        return np.asarray(np.exp(own[:, :, 0] + np.clip(exponent, -STEEPEST, STEEPEST)))


def fit_following(
    logs: np.ndarray,
    label: np.ndarray,
    traits: np.ndarray,
    common: Fitted,
    copies: np.ndarray | None = None,
    fold: np.ndarray | None = None,
    judged: np.ndarray | None = None,
) -> Following:
    """The exponents of one set; parameters as in `fit_exponents`.

    Parameters
    ----------
    traits : ndarray (n, t)
    common : of the same set, without traits; one that is 0 there stays 0
    judged : traits of the images that they are judged on, where these are more
    """
    k, n, _ = logs.shape
    part = np.zeros(n, np.intp) if fold is None else fold
    parts = int(part.max()) + 1
    F = np.column_stack([np.ones(n), traits])
    width = F.shape[1]
    # Part by part, so that each is a slice and need not be picked out at every step.
    order = np.argsort(part, kind="stable")
    ends = np.searchsorted(part[order], np.arange(parts), side="right").tolist()
    slices = [slice(*pair) for pair in zip([0, *ends], ends)]
    insides = [F[order[own]] for own in slices]
    centred = centred_on(logs, label)
    with np.errstate(divide="ignore"):
        base = np.log(common.weights)
    free = common.weights > 0
    theta = np.zeros((k, width))
    pull = np.tile(np.r_[PENALTY, np.full(width - 1, SHRINK)], k)

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        exponent = np.clip(theta[:, 1:] @ traits.T, -STEEPEST, STEEPEST)
        weights = np.exp(base[:, np.newaxis] + theta[:, :1] + exponent)
        value, slope, bend = moments(centred, copies, weights)
        gradient = np.zeros((parts, k * width))
        curvature = np.zeros((parts, k * width, k * width))
        factors, slope, bend = weights[:, order], slope[:, order], bend[:, :, order]
        for i in range(k):
            here = slice(i * width, (i + 1) * width)
            each = slope[i] * factors[i]
            for one, (own, inside) in enumerate(zip(slices, insides)):
                gradient[one, here] = each[own] @ inside
            for j in range(i + 1):
                there = slice(j * width, (j + 1) * width)
                both = bend[i, j] * factors[i] * factors[j]
                for one, (own, inside) in enumerate(zip(slices, insides)):
                    curvature[one, here, there] = (inside * both[own, np.newaxis]).T @ inside
                    curvature[one, there, here] = curvature[one, here, there].T
        loss = float(value.sum()) + 0.5 * float(pull @ theta.ravel() ** 2)
        return gradient, curvature, weights, loss

    def step(gradient: np.ndarray, curvature: np.ndarray) -> np.ndarray:
        slope = gradient + pull * theta.ravel()
        found = -np.linalg.solve(curvature + np.diag(pull), slope).reshape(k, width)
        return np.asarray(np.where(free[:, np.newaxis], found, 0.0))

    gradient, curvature, _, loss = at(theta)
    for _ in range(STEPS):
        whole = step(gradient.sum(axis=0), curvature.sum(axis=0))
        if np.abs(whole).max() < 1e-3:
            break
        share = 1.0
        while share > 1e-2:
            following = at(theta + share * whole)
            if following[3] < loss:
                break
            share /= 2
        else:
            break
        theta = theta + share * whole
        gradient, curvature, _, loss = following
    without = np.empty((parts, k, 1 + traits.shape[1]))
    for one in range(parts):
        others = step(gradient.sum(axis=0) - gradient[one], curvature.sum(axis=0) - curvature[one])
        without[one] = theta + others
    without[:, :, 0] += base
    return Following(
        np.exp(base + theta[:, 0]), theta[:, 1:], traits if judged is None else judged, without
    )
