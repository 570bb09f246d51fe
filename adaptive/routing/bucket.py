"""A token bucket: caps the mean cost of an image, whatever images come."""

from __future__ import annotations

import logging
import math
import threading
from typing import Any, Sequence

from adaptive.checks import chosen, number
from adaptive.errors import InputError

log = logging.getLogger("adaptive.routing.bucket")

UNITS = ("ms", "mj")


class Bucket:
    """A mean cost that answered images may not exceed, in milliseconds or millijoules.

    Each image brings `mean` tokens, up to `burst` in the bucket, which starts full; what it
    costs is taken out. The image that is being answered holds what it may cost at most and releases
    what it did not use, so that images answered side by side cannot spend the same tokens.
    When the next candidate costs more than the image holds, the policy may not go on to it, and
    starts at one that can be paid for, the cheapest if need be. There is no clock in here: an
    image is the unit, and costs are handed in.

    The promise. When the first n images to arrive have been answered, for every n and whatever
    they are, they have cost together at most

        burst + (n - 1) * mean,        so in the mean at most  mean + (burst - mean) / n,

    provided that what every image costs, features and the cheapest candidate, is at most `mean`.
    It is exact where runs cost what was expected of them. Where measured times are charged, a
    run that was begun because its expected cost could be paid may take longer; its excess is
    then missing in the bucket, later images make up for it, and the bound grows by the largest
    excess of a single run for each image that is answered at the same time. Where even the
    cheapest takes more than `mean` it is still asked, since every image is to be answered: the
    bound grows by that excess, `debt` in `status` says how far, and a warning is logged.

    Parameters
    ----------
    mean : tokens that each image brings
    burst : tokens that the bucket can hold; 20 images' worth when left out. A candidate that
        costs more than this is never asked.
    unit : "ms" or "mj"

    Raises
    ------
    InputError
        for numbers that are not finite or above 0, or a burst below the mean.
    """

    def __init__(self, mean: float, burst: float | None = None, unit: str = "ms") -> None:
        mean = number(mean, "a bucket's mean")
        burst = 20 * mean if burst is None else number(burst, "a bucket's burst")
        if not (mean > 0 and math.isfinite(burst)):
            raise InputError(f"a bucket's mean {mean} and burst {burst} must be numbers above 0")
        if burst < mean:
            raise InputError(f"a burst of {burst:g} {unit} is below the mean of {mean:g} {unit}")
        self.mean = mean
        self.burst = burst
        self.unit = chosen(unit, "a bucket's unit", UNITS)
        self.level = self.burst
        self.images = 0
        self.spent = 0.0
        self._lock = threading.Lock()
        self._warned = False

    def __repr__(self) -> str:
        return f"Bucket(mean={self.mean:g}, burst={self.burst:g}, unit={self.unit!r})"

    def check(self, candidates: Sequence[str], costs: Sequence[float]) -> None:
        """Say whether candidates of these mean costs can be served under the cap.

        Raises
        ------
        InputError
            when even the cheapest costs more than the mean.
        """
        cheapest = min(costs)
        if cheapest > self.mean:
            raise InputError(
                f"no policy keeps a mean of {self.mean:g} {self.unit} an image: "
                f"{candidates[list(costs).index(cheapest)]!r}, the cheapest that this one asks, "
                f"costs {cheapest:g} {self.unit}"
            )
        for name, cost in zip(candidates, costs):
            if cost > self.burst:
                log.warning(
                    "%s costs %g %s, more than the burst of %g: it is never asked",
                    name,
                    cost,
                    self.unit,
                    self.burst,
                )

    def open(self, most: float) -> float:
        """Take in one more image's tokens, and hold what it may cost.

        Parameters
        ----------
        most : what the image costs if every candidate is asked

        Returns
        -------
        What it may cost, to be handed to `close`; 0 or less when the bucket is in debt.
        """
        with self._lock:
            self.images += 1
            self.level = min(self.burst, self.level + self.mean)
            held = min(most, self.level)
            self.level -= max(held, 0.0)
            return held

    def close(self, held: float, spent: float) -> None:
        """The image that got `held` from `open` is done and has cost `spent`."""
        with self._lock:
            self.spent += spent
            self.level = min(self.burst, self.level + max(held, 0.0) - spent)
            warn = self.level < -self.burst and not self._warned
            self._warned |= warn
        if warn:
            log.warning(
                "the mean of %g %s an image cannot be kept: features and the cheapest candidate "
                "alone cost more than that; it is at %g",
                self.mean,
                self.unit,
                self.spent / self.images,
            )

    def status(self) -> dict[str, Any]:
        """Where the bucket stands, as JSON values."""
        with self._lock:
            return {
                "unit": self.unit,
                "mean": self.mean,
                "burst": self.burst,
                "level": self.level,
                "debt": max(0.0, -self.level),
                "images": self.images,
                "spent_mean": self.spent / self.images if self.images else None,
            }
