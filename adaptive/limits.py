"""What one image may cost, and what its sender prefers, as values.

router.classify(image, Limits(remaining_ms=40))                       # due in 40 ms
router.classify(image, Limits(preference=PREFERENCES["accurate"]))    # rather right than fast
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from adaptive.checks import is_number, number, numbers
from adaptive.errors import InputError

PREFERENCES = {"fast": -1.0, "balanced": 0.0, "accurate": 1.0}

Number = Union[float, np.ndarray]


@dataclass
class Limits:
    """Budgets that are still left; each a number for all images or an array of shape (n,).

    Attributes
    ----------
    remaining_ms : milliseconds left until the answer is due. A candidate is not started unless
        its upper time fits (`Policy.upper_ms`), and an image that nothing fits gets no answer.
        Images that are answered together share what is left.
    remaining_mj : millijoules left, held against the mean energies (`Policy.costs_mj`)
    preference : -1 (fast) to 1 (accurate); 0 follows the policy as it was tuned
    allowance_ms : milliseconds that the image may cost, held against the mean times
        (`Policy.costs_ms`). Not a deadline: whatever it is, the cheapest candidate may answer.
    """

    remaining_ms: Number = math.inf
    remaining_mj: Number = math.inf
    preference: float = 0.0
    allowance_ms: Number = math.inf

    def __post_init__(self) -> None:
        for name in ("remaining_ms", "remaining_mj", "allowance_ms"):
            value = getattr(self, name)
            if type(value) is not float:  # which most are, and need no more than the next line
                value = _amounts(value, name)
                setattr(self, name, value)
            # A number that is not itself is NaN; much quicker than asking numpy.
            if np.isnan(value).any() if isinstance(value, np.ndarray) else value != value:
                raise InputError(f"{name} is not a number")
        if type(self.preference) is not float:
            self.preference = _preference(self.preference)
        if not -1 <= self.preference <= 1:
            raise InputError(f"preference {self.preference} is not between -1 and 1")

    def of_bucket(self, name: str) -> bool:
        """Whether a bucket, and not the request, set what is left under that name."""
        return False

    def rows(self, chosen: Any) -> Limits:
        """The same for some of the images: `chosen` indexes the arrays."""
        values = (self.remaining_ms, self.remaining_mj, self.allowance_ms)
        if not any(isinstance(v, np.ndarray) and v.ndim for v in values):
            return self
        ms, mj, allowance = (
            v[chosen] if isinstance(v, np.ndarray) and v.ndim else v for v in values
        )
        return Limits(ms, mj, self.preference, allowance)


def _amounts(value: Any, name: str) -> Number:
    """A number, or one for each image, as a float or an array of floats."""
    if is_number(value):
        return number(value, name)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.float64:
        return value.copy()
    return np.asarray(numbers(value, name))


def _preference(value: Any) -> float:
    if isinstance(value, str) and value in PREFERENCES:
        raise InputError(
            f"preference {value!r} is a word; give the number PREFERENCES[{value!r}], "
            f"{PREFERENCES[value]:g}"
        )
    return number(value, "preference")


UNLIMITED = Limits()
