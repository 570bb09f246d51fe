"""What a policy goes by after a candidate has run, as a value that can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Grounds:
    """What one decision was made by, for one image.

    Attributes
    ----------
    signal, value : what the policy looks at, and how much of it there was, 0..1; of the answer
        as it stood then, so of what several networks come to together. None where the policy
        does not look at answers
    threshold : below which another candidate is asked; None where there is none
    gains : where the policy goes by them, for each way on what it promises, as a chance of being
        right less what the time is worth
    bar : what a gain must exceed
    """

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
            "signal": self.signal,
            "value": self.value,
            "threshold": self.threshold,
            "gains": gains,
            "bar": _finite(self.bar),
        }


def _finite(value: float | None) -> float | None:
    return value + 0.0 if value is not None and math.isfinite(value) else None  # no -0.0
