"""Evidence by betting: the capital of a gambler who must not win while nothing has changed.

With X_t in {0, 1}, a bet b in [0, 1 / bound) and any start s, the capital
prod over i = s..t of (1 + b (X_i - bound)) is in expectation at most 1 while each X has, given
all before, a chance of at most `bound` (testing by betting: Waudby-Smith and Ramdas 2024,
"Estimating means of bounded random variables by betting", JRSS B 86, section 4). The e-value is
the mean of that capital over a grid of bets and a distribution over starts s, which keeps it quick
when a change begins late, as in the e-detectors of Shin, Ramdas and Rinaldo 2024, here with
weights that sum to one. By Ville's inequality it reaches 1 / alpha at any time, ever, with
probability at most alpha.
"""

from __future__ import annotations

import math

import numpy as np

from adaptive.errors import InputError

#: Odds of a hit that are bet on, as multiples of the odds at the bound.
ODDS = np.array([1.15, 1.3, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7, 10, 15, 25, 50, 100])


def factors(bound: float) -> np.ndarray:
    """Logarithms of what each bet is multiplied by, shape (2, bets): after a miss, after a hit.

    1 + b (X - bound) is the likelihood ratio of a higher rate against the bound. Nothing is
    higher than a bound of 1, and below a bound of 0 there is nothing to bet on: then all are 0.
    """
    if not 0 < bound < 1:
        return np.zeros((2, len(ODDS)))
    odds = bound / (1 - bound) * ODDS
    rates = odds / (1 + odds)
    return np.stack([np.log((1 - rates) / (1 - bound)), np.log(rates / bound)])


class Capital:
    """What bets have come to, each the sum over its starts.

    Parameters
    ----------
    bets : how many there are, of equal weight

    Attributes
    ----------
    seen : how many X there were
    logs : logarithm of each bet's capital, ndarray (bets,)
    """

    def __init__(self, bets: int) -> None:
        self.seen = 0
        self.logs = np.full(bets, -np.inf)

    @property
    def beginning(self) -> float:
        """Logarithm of the weight of a start at the next X."""
        return math.log(_unspent(self.seen) - _unspent(self.seen + 1))

    def update(self, logs: np.ndarray) -> None:
        """Take in one X, after which each bet is multiplied by exp(logs), shape (bets,)."""
        self.logs = np.logaddexp(self.logs, self.beginning) + logs
        self.seen += 1

    @property
    def log_e(self) -> float:
        """Logarithm of the e-value, the starts to come included."""
        top = float(self.logs.max())
        bets = -math.inf
        if top > -math.inf:
            bets = top + math.log(float(np.mean(np.exp(self.logs - top))))
        return float(np.logaddexp(bets, math.log(_unspent(self.seen))))


def rate_bound(images: int, count: int, confidence: float) -> float:
    """The rate under which `count` or fewer of `images` have probability 1 - confidence.

    The upper end of the exact interval of Clopper and Pearson 1934 ("The use of confidence or
    fiducial limits illustrated in the case of the binomial", Biometrika 26).
    """
    if images < 1 or not 0 <= count <= images or not 0 < confidence < 1:
        raise InputError(f"no bound from {count} in {images} images at confidence {confidence}")
    if count == images:
        return 1.0
    ways = np.concatenate([[0.0], np.cumsum(np.log(images - np.arange(count)))])
    ways[1:] -= np.cumsum(np.log(np.arange(1, count + 1)))
    hits = np.arange(count + 1)
    low, high = count / images, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        logs = ways + hits * math.log(rate) + (images - hits) * math.log1p(-rate)
        top = float(logs.max())
        if top + math.log(float(np.exp(logs - top).sum())) > math.log(1 - confidence):
            low = rate
        else:
            high = rate
        if high - low < 1e-12:
            break
    return high


def _unspent(seen: int) -> float:
    """Share of the starting capital that is kept for starts after so many X.

    It falls so slowly that a start after t of them still gets about 1 / (t log(t)^2).
    """
    return 1 / (1 + math.log1p(seen))
