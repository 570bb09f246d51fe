"""What is promised: "with probability at least 1 - delta, at most epsilon below the reference".

For each calibration image D is the reference's quality less the policy's, a paired difference in
-1..1, and in {-1, 0, 1} where answers are right or wrong; the claim is mean(D) <= epsilon. A
p-value is for the opposite, mean(D) > epsilon.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.outcomes.quality import AGREEMENT, TOP1, is_binary, quality_words
from adaptive.premodel.shares import ConditionShares
from adaptive.tuning.exact import exact_tail, score

#: Bets of the betting test, as shares of the largest that cannot lose everything.
_BETS = 1 - np.cos(np.linspace(0, math.pi / 2, 41)[1:-1])


@dataclass(frozen=True)
class Counts:
    """How the calibration images fell.

    Attributes
    ----------
    images : number of images
    losses : reference right, policy wrong; of graded qualities the sum of what is lost
    gains : policy right, reference wrong; likewise
    differences : of graded qualities, every image's D, (n,); None where all are in {-1, 0, 1}
    """

    images: int
    losses: float
    gains: float
    differences: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        most = self.images * (1 + 1e-9)
        if min(self.images, self.losses, self.gains) < 0 or self.losses + self.gains > most:
            raise InputError(f"impossible counts {self}")

    @classmethod
    def of(cls, reference: np.ndarray, policy: np.ndarray) -> Counts:
        """Count from two arrays of shape (n,): what each one's answers are worth, 0..1."""
        if is_binary(reference) and is_binary(policy):
            first, second = reference.astype(bool), policy.astype(bool)
            lost = int(np.sum(first & ~second))
            return cls(len(reference), lost, int(np.sum(second & ~first)))
        each = reference.astype(np.float64) - policy.astype(np.float64)
        lost_sum, gained = float(each[each > 0].sum()), float(abs(each[each < 0].sum()))
        return cls(len(each), lost_sum, gained, each)

    @property
    def graded(self) -> bool:
        """Whether qualities lie between 0 and 1 too."""
        return self.differences is not None

    @property
    def drop(self) -> float:
        """The policy's quality below the reference's, as observed."""
        return (self.losses - self.gains) / self.images if self.images else math.nan


def betting_p_value(counts: Counts, epsilon: float) -> float:
    """p-value of "mean(D) > epsilon" that holds for every number of images.

    Waudby-Smith and Ramdas 2024 ("Estimating means of bounded random variables by betting"),
    section 4: with a bet b in [0, 1 / (1 - epsilon)), the capital prod(1 + b (epsilon - D)) is
    at most 1 in expectation when mean(D) >= epsilon, so 1 / capital is a p-value (Markov). Here
    the capital is the mean over a fixed grid of bets, which depends on the counts alone and so
    not on the order of the images.
    """
    _check_epsilon(epsilon)
    return _of_capital(_bet(counts, epsilon))


def _bet(counts: Counts, epsilon: float) -> np.ndarray:
    """Logarithm of what each bet's capital comes to."""
    bets = _BETS / (1 - epsilon)
    if counts.differences is not None:
        bets = bets[:, np.newaxis]
        return np.asarray(np.log1p(bets * (epsilon - counts.differences)).sum(axis=1))
    ties = counts.images - counts.losses - counts.gains
    return np.asarray(
        counts.losses * np.log1p(bets * (epsilon - 1))
        + ties * np.log1p(bets * epsilon)
        + counts.gains * np.log1p(bets * (epsilon + 1))
    )


def _of_capital(logs: np.ndarray) -> float:
    """1 / capital, the mean over all bets; at most 1."""
    top = float(logs.max())
    capital_log = top + math.log(float(np.mean(np.exp(logs - top))))
    return min(1.0, math.exp(-max(capital_log, 0.0)))


def score_p_value(counts: Counts, epsilon: float) -> float:
    """Asymptotic p-value of "mean(D) > epsilon" by the score test for paired proportions.

    Tango 1998 (Statistics in Medicine 17, 891-908): the difference is compared with its
    standard error under the constrained maximum likelihood. Needs fewer images than the
    betting test; its promise holds only for many.
    """
    _check_epsilon(epsilon)
    _check_binary(counts, "score")
    if counts.images == 0:
        return 1.0
    losses, gains = np.array([counts.losses]), np.array([counts.gains])
    return 0.5 * math.erfc(float(score(counts.images, losses, gains, epsilon)[0]) / math.sqrt(2))


def exact_p_value(counts: Counts, epsilon: float) -> float:
    """p-value of "mean(D) > epsilon" that holds for every number of independent images.

    The score test with its exact distribution, maximised over what is not known of it
    (`adaptive.tuning.exact`). It needs hardly more images than the score test, and far fewer than
    the betting test, which is also valid where images differ in their distributions. It is never
    below about 1e-5, which is what its rigour costs.
    """
    _check_epsilon(epsilon)
    _check_binary(counts, "exact")
    return exact_tail(counts.images, int(counts.losses), int(counts.gains), epsilon)


def _check_binary(counts: Counts, bound: str) -> None:
    if counts.graded:
        raise InputError(
            f"the {bound} bound counts images that are right or wrong, and these qualities lie "
            "between 0 and 1 too; take the betting bound"
        )


P_VALUES: dict[str, Callable[[Counts, float], float]] = {
    "betting": betting_p_value,
    "exact": exact_p_value,
    "score": score_p_value,
}

#: What each bound asks of the images, as a certificate says it.
BOUNDS = {
    "betting": "finite-sample bound, whatever the distribution of the images",
    "exact": "finite-sample bound, exact for independent images",
    "score": "asymptotic bound, which holds only for many images",
}


def bound_on_drop(counts: Counts, delta: float, bound: str = "betting") -> float:
    """The smallest epsilon that is certified at `delta`, to 1e-6; 1 when none is."""
    test = P_VALUES[bound]
    low, high = -0.999, 0.999
    if test(counts, high) > delta:
        return 1.0
    for _ in range(24):
        middle = (low + high) / 2
        if test(counts, middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def _check_epsilon(epsilon: float) -> None:
    if not -1 < epsilon < 1:
        raise InputError(f"an accuracy drop of {epsilon} is not between -1 and 1")


def first_failure(p_values: Sequence[float], delta: float) -> int:
    """How many hypotheses, in their order, are rejected before the first that is not.

    Fixed sequence testing, as in Angelopoulos et al. 2021 ("Learn then test"): testing in an
    order that was fixed before, each at the full delta, errs with probability at most delta.
    """
    for position, p_value in enumerate(p_values):
        if not p_value <= delta:
            return position
    return len(p_values)


def points(drop: float) -> str:
    """An accuracy drop in words: "2 points"."""
    return f"{100 * drop:g} point" + ("" if drop == 0.01 else "s")


def images_needed(
    losses: float, gains: float, epsilon: float, delta: float, bound: str = "betting"
) -> int | None:
    """About how many images a test needs when losses and gains keep these rates.

    With so many it succeeds about every other time.

    losses, gains : shares of the images, 0..1

    Returns
    -------
    int, or None when no number would do because the drop is not below epsilon
    """
    # The exact test needs about as many as the score test, which takes no time for millions.
    test = betting_p_value if bound == "betting" else score_p_value
    if losses - gains >= epsilon:
        return None
    low, high = 1, 2
    while not _would_pass(test, high, losses, gains, epsilon, delta):
        low, high = high, high * 2
        if high > 10**8:
            return None
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        if _would_pass(test, middle, losses, gains, epsilon, delta):
            high = middle
        else:
            low = middle
    return high


def graded_images_needed(counts: Counts, epsilon: float, delta: float) -> int | None:
    """`images_needed` by the betting test, where images go on to differ as these do."""
    if counts.drop >= epsilon:
        return None
    each = _bet(counts, epsilon) / counts.images
    low, high = 1, 2
    while _of_capital(each * high) > delta:
        low, high = high, high * 2
        if high > 10**8:
            return None
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if _of_capital(each * middle) <= delta else (middle, high)
    return high


def _would_pass(
    test: Callable[[Counts, float], float],
    n: int,
    losses: float,
    gains: float,
    epsilon: float,
    delta: float,
) -> bool:
    counts = Counts(n, min(n, math.ceil(losses * n)), min(n, math.floor(gains * n)))
    return test(counts, epsilon) <= delta


@dataclass(frozen=True)
class Certificate:
    """A promise about a policy, and what it stands on.

    Attributes
    ----------
    epsilon : largest drop of quality below the reference that is promised, 0..1
    delta : probability that the promise is wrong, over the draw of the calibration images
    bound : "betting" (finite-sample), "exact" (finite-sample, for independent images) or
        "score" (asymptotic)
    drop_bound : the smallest drop that these images would have certified
    disagreements : calibration images whose answer is another class than the reference's, which
        audits watch; None where the table holds no probabilities
    drops : all drops that were tested as one family with `epsilon`, whose promises hold together
    earlier : what earlier looks at the same calibration images add to `delta`, in all
    abstain_below : score below which the policy abstains, with its best guess counted here
    conditions : where the premodel knows conditions, how many calibration images are of each
    quality : what the quality is called
    hashes : SHA-256 of what it speaks of, by name
    """

    reference: str
    epsilon: float
    delta: float
    bound: str
    images: int
    losses: float
    gains: float
    p_value: float
    drop_bound: float
    seed: int
    tested: int
    disagreements: int | None = None
    drops: tuple[float, ...] = ()
    earlier: float = 0.0
    abstain_below: float | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    board: Mapping[str, Any] = field(default_factory=dict)
    conditions: ConditionShares | None = None
    quality: str = TOP1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, with the promise in words."""
        return {"format": 1, "claim": self.words(), **asdict(self)}

    def words(self) -> str:
        """The promise as one sentence."""
        more = ""
        if self.earlier:
            more += (
                " These images were asked before, and the probability is that of all promises "
                "made from them."
            )
        if len(self.drops) > 1:
            also = [points(drop) for drop in self.drops if drop != self.epsilon]
            more += f" Tested as one family with {' and '.join(also)}: what was promised of these "
            more += "holds together with it."
        sure = max(0.0, 1 - self.delta - self.earlier)
        return (
            f"With probability at least {100 * sure:.6g}% over the {self.images} "
            f"calibration images, {self._claim()} ({self._fell()}; "
            f"{BOUNDS[self.bound]}).{more}{self._follows()}{self._guesses()}{self._taken_under()}"
        )

    def _claim(self) -> str:
        if self.quality == AGREEMENT:
            share = f"{100 * self.epsilon:g}%"
            return (
                f"the answer differs from {self.reference}'s on at most {share} of images like them"
            )
        words = quality_words(self.quality)
        size = points(self.epsilon)
        return f"{words} is at most {size} below {self.reference}'s on images like them"

    def _fell(self) -> str:
        if self.quality == AGREEMENT:
            return f"{self.losses:g} images differ"
        if float(self.losses).is_integer() and float(self.gains).is_integer():
            return f"{self.losses:g} images lost, {self.gains:g} gained"
        return f"{self.losses:.4g} lost and {self.gains:.4g} gained, summed over the images"

    def _follows(self) -> str:
        if self.quality != AGREEMENT:
            return ""
        return (
            f" So, whatever the right answers are, top-1 is at most {points(self.epsilon)} below "
            f"{self.reference}'s."
        )

    def _taken_under(self) -> str:
        return "" if self.conditions is None else f" These images are: {self.conditions.words()}."

    def _guesses(self) -> str:
        if self.abstain_below is None:
            return ""
        return (
            f" Where it abstains, with a score below {self.abstain_below:g}, its best guess is "
            "counted."
        )
