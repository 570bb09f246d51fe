"""The exact test of a paired difference in {-1, 0, 1}: its p-value over all of the null.

Of n independent images L are lost and G gained, with probabilities l and g; the null is
l - g >= epsilon. Outcomes are ordered by Tango's score z (1998, Statistics in Medicine 17,
891-908), and the p-value is the largest probability, under any (l, g) of the null, of a z at
least as high as the one seen: an exact unconditional test, as in Sidik 2003 (Statistics in
Medicine 22, 265-278).

*The largest lies on the boundary.* z falls with L and rises with G. Write a = L / n, b = G / n,
q for the likeliest P(gain) on the boundary and V = 2 q + epsilon (1 - epsilon), so that
z = sqrt(n) (epsilon - a + b) / sqrt(V). The likelihood's equations give epsilon - a + b = mu V,
where a = (1 + mu epsilon - mu) (q + epsilon) and b = (1 + mu epsilon + mu) q, so that
mu <= 1 / (1 - epsilon). For mu >= 0, q grows with a, hence z falls; and z rises with b just when
V >= mu (1 - epsilon) (q - epsilon^2), which holds because V >= q - epsilon^2. For mu < 0
exchange losses and gains. So the outcomes with z >= t stay such when a loss becomes a tie or a
tie a gain, and moving a point of the null in this way to where l - g = epsilon can only make
them more probable.

*The boundary has one parameter left*, the discordance l + g. Following Berger and Boos 1994
(JASA 89, 1012-1016), it is maximised over a 1 - GAMMA confidence interval for the discordance
and GAMMA is added. Moving with l + g fixed, that is turning losses into gains, keeps the
interval's promise where (l, g) is not on the boundary.

*Between grid points the maximum is bounded*, not hoped for. By Cauchy and Schwarz the second
derivative of a probability f along the boundary is at most sqrt(2 f) n i, with i the Fisher
information of one image; where that says nothing, a cell is bounded by its corner with the
fewest losses and the most gains.
"""

from __future__ import annotations

import math

import numpy as np

#: What is given away to look only at discordances that the images leave possible.
GAMMA = 1e-6

#: Probability beyond the largest discordance that is summed; added to the p-value.
_REST = 1e-10

#: Distance of two grid points, in standard errors of the discordance.
_STEP = 0.1

#: Numbers in one block of the table (grid points x discordant images).
_BLOCK = 1_000_000


def exact_tail(images: int, losses: int, gains: int, epsilon: float, gamma: float = GAMMA) -> float:
    """p-value of "P(loss) - P(gain) >= epsilon" for independent images."""
    if images == 0:
        return 1.0
    observed = (losses + gains) / images
    low, high = _interval(observed, math.log(2 / gamma) / images)
    most = _interval(high, math.log(1 / _REST) / images, reverse=True)[1]
    last = min(images, math.floor(most * images) + 1)
    seen = float(score(images, np.array([losses]), np.array([gains]), epsilon)[0])
    fewest = _staircase(images, last, seen - 1e-9 * max(1.0, abs(seen)), epsilon)
    # The rarer of loss and gain runs along the boundary from 0 to (1 - |epsilon|) / 2.
    span = (1 - abs(epsilon)) / 2
    ends = [min(max((d - abs(epsilon)) / 2 / span, 0.0), 1.0) for d in (low, high)]
    start, stop = (math.asin(math.sqrt(e)) for e in ends)
    points = 2 + math.ceil((stop - start) * 2 * math.sqrt(images) / _STEP)
    rarer = span * np.sin(np.linspace(start, stop, points)) ** 2
    loss, gain = rarer + max(epsilon, 0.0), rarer + max(-epsilon, 0.0)
    value = _probability(images, fewest, loss, gain)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = 1 / loss + 1 / gain + 4 / np.maximum(1 - loss - gain, 0.0)
        information = np.diff(rarer) ** 2 * images * np.maximum(each[1:], each[:-1])
    steep = ~(information < 1)
    # f <= higher end + excess sqrt(f) between two points, a quadratic in sqrt(f).
    excess = np.where(steep, 0.0, information) * (math.sqrt(2) / 8)
    higher = np.maximum(value[1:], value[:-1])
    bound = ((excess + np.sqrt(excess**2 + 4 * higher)) / 2) ** 2
    bound[steep] = _probability(images, fewest, loss[:-1][steep], gain[1:][steep])
    return min(1.0, float(bound.max()) + gamma + _REST)


def score(images: int, losses: np.ndarray, gains: np.ndarray, epsilon: float) -> np.ndarray:
    """Tango's z of "P(loss) - P(gain) = epsilon", positive where the drop is less.

    losses, gains : ndarray (k,)
    """
    # The likeliest P(gain) on the boundary is the larger root of a quadratic.
    linear = (2 * images - losses + gains) * epsilon - losses - gains
    root = np.sqrt(np.maximum(linear**2 + 8.0 * images * gains * epsilon * (1 - epsilon), 0.0))
    variance = (root - linear) / 2 + images * epsilon * (1 - epsilon)
    surplus = images * epsilon - losses + gains
    # Only with no discordant image at epsilon 0 is there no variance, and no surplus either.
    return np.asarray(surplus / np.sqrt(np.where(variance > 0, variance, 1.0)))


def _staircase(images: int, last: int, statistic: float, epsilon: float) -> np.ndarray:
    """For 0..last discordant images, the fewest gains with such a statistic; one too many if none.

    From one to the next it stays or rises by one, since an added loss asks for no fewer gains
    and an added gain for none beyond itself.
    """
    discordant = np.arange(last + 1)
    fails, holds = np.full(last + 1, -1), discordant + 1
    while (open_ := np.flatnonzero(holds - fails > 1)).size:
        middle = (fails[open_] + holds[open_]) // 2
        found = score(images, discordant[open_] - middle, middle, epsilon)
        good = found >= statistic
        holds[open_[good]] = middle[good]
        fails[open_[~good]] = middle[~good]
    return holds


def _probability(images: int, fewest: np.ndarray, loss: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Probability of at least `fewest[m]` gains among m discordant images, shape of `loss`.

    Given m, the gains are binomial. With S(m, k) = P(at least k of m), S(m + 1, k) is
    S(m, k) + share * P(k - 1 of m), so all of them follow from the first by sums.
    """
    last = len(fewest) - 1
    m = np.arange(last + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, images + 1)))])
    among = factorial[images] - factorial[m] - factorial[images - m]
    # Chance of the step from m to m + 1 discordant images, with the old and the raised bar.
    old, raised = fewest[:-1], np.diff(fewest) > 0
    up = _choose(factorial, m[:-1], old - 1)
    down = np.where(raised, _choose(factorial, m[1:], np.where(raised, old, 0)), -np.inf)
    found = np.empty(len(loss))
    rows = max(1, _BLOCK // (last + 1))
    for first in range(0, len(loss), rows):
        part = slice(first, first + rows)
        both = np.minimum(loss[part] + gain[part], 1.0)[:, np.newaxis]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(both > 0, gain[part, np.newaxis] / both, 0.0)
            win, lose = np.log(share), np.log1p(-share)
            gained, lost = _times(old, win), _times(m[1:] - old, lose)
            more, less = np.exp(up + gained + lost), np.exp(down + gained + lost)
            count = np.exp(among + _times(m, np.log(both)) + _times(images - m, np.log1p(-both)))
        tails = np.empty(count.shape)
        tails[:, 0] = float(fewest[0] == 0)
        np.cumsum(more - less, axis=1, out=tails[:, 1:])
        tails[:, 1:] += tails[:, :1]
        found[part] = (count * np.clip(tails, 0.0, 1.0)).sum(axis=1)
    return found


def _choose(factorial: np.ndarray, n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Logarithm of "n over k"; minus infinity where k is not within 0..n."""
    inside = (k >= 0) & (k <= n)
    k = np.where(inside, k, 0)
    return np.where(inside, factorial[n] - factorial[k] - factorial[n - k], -np.inf)


def _times(count: np.ndarray, log: np.ndarray) -> np.ndarray:
    """count * log with 0 * -inf = 0."""
    return np.asarray(np.where(count == 0, 0.0, count * log))


def _interval(share: float, width: float, reverse: bool = False) -> tuple[float, float]:
    """All shares whose Kullback-Leibler divergence from `share` is at most `width` (Chernoff).

    Of the observed share to the true one, or, with `reverse`, of a possible one to the true one.
    """
    ends = []
    for outer in (0.0, 1.0):
        good, bad = share, outer
        for _ in range(60):
            middle = (good + bad) / 2
            pair = (middle, share) if reverse else (share, middle)
            if _divergence(*pair) <= width:
                good = middle
            else:
                bad = middle
        ends.append(bad)
    return ends[0], ends[1]


def _divergence(p: float, q: float) -> float:
    value = 0.0
    for a, b in ((p, q), (1 - p, 1 - q)):
        if a > 0:
            value += math.inf if b <= 0 else a * math.log(a / b)
    return value
