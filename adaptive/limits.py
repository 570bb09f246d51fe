"""What one image may cost, and what its sender prefers, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Union

import numpy as np

from adaptive.errors import InputError

PREFERENCES = {"fast": -1.0, "balanced": 0.0, "accurate": 1.0}

Number = Union[float, np.ndarray]


@dataclass(frozen=True)
class Limits:
    """Budgets that are still left; each a number for all images or an array of shape (n,).

    Attributes
    ----------
    remaining_ms : milliseconds left until the answer is due
    remaining_mj : millijoules left
    preference : -1 (fast) to 1 (accurate); 0 follows the policy as it was tuned
    """

    remaining_ms: Number = math.inf
    remaining_mj: Number = math.inf
    preference: float = 0.0

    def __post_init__(self) -> None:
        for name in ("remaining_ms", "remaining_mj"):
            if np.isnan(getattr(self, name)).any():
                raise InputError(f"{name} is not a number")
        if not -1 <= self.preference <= 1:
            raise InputError(f"preference {self.preference} is not between -1 and 1")


UNLIMITED = Limits()
