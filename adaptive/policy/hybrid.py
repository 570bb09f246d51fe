"""The hybrid of cascade and premodel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Mapping

import numpy as np

from adaptive.checks import finite
from adaptive.columns import Column, Columns, Many, One, columns_of
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import Limits
from adaptive.policy.base import ADVISES, Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.gain import odds_of
from adaptive.policy.history import History


@dataclass
class Hybrid(Cascade):
    """A cascade whose start and thresholds follow what the premodel expects of the image.

    With the premodel's chance c[j] that candidate j is right, the expected gain of going on
    from j is g[j] = max over k > j of c[k], minus c[j]. The image starts at the first candidate
    whose expected gain is at most `start_gain`, and goes on from j when

        signal < thresholds[j] + shift * (g[j] - typical_gain[j]).

    Parameters
    ----------
    shift : how far one unit of expected gain moves a threshold; 0 leaves the cascade's
    start_gain : gain above which a candidate is not worth starting with; None starts all images
        at the first candidate. With `shift` 0 and `start_gain` None this is the cascade.
    typical_gain : mean expected gain at each candidate but the last, so that the thresholds
        keep their meaning; zeros when left out

    Gains go by the premodel's conditions, or by its chances where it knows no conditions.
    """

    kind: ClassVar[str] = "hybrid"
    premodel_role: ClassVar[str | None] = ADVISES
    plain: ClassVar[bool] = True

    shift: float = 0.0
    start_gain: float | None = None
    typical_gain: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.premodel is None:
            raise InputError("a hybrid policy needs a premodel")
        self._as_numbers("typical_gain")
        self.shift = finite(self.shift, "shift")
        if self.start_gain is not None:
            self.start_gain = finite(self.start_gain, "start_gain")
        if self.typical_gain is not None and (
            len(self.typical_gain) != len(self.thresholds)
            or not np.all(np.isfinite(self.typical_gain))
        ):
            raise InputError(
                f"typical_gain {self.typical_gain} must be {len(self.thresholds)} finite numbers"
            )

    @property
    def needs_traits(self) -> bool:
        """Where gains go by conditions, or exponents follow the image."""
        conditions = self.premodel is not None and self.premodel.conditions > 0
        return super().needs_traits or (conditions and not all(g.alone for g in self.gains))

    @property
    def _told_count(self) -> int:
        if self.premodel is None:
            return 0
        return self.premodel.conditions or len(self.candidates)

    def _told(self, history: History) -> Columns | None:
        told, count = history.told, len(self.candidates)
        if told is None or self.premodel is None:
            return None
        if self.premodel.conditions:
            return told[count : count + self.premodel.conditions]
        found: Columns = history.once(0, "odds", partial(odds_of, told[:count], history.math))
        return found

    def first(self, told: Columns | None, math: Many | One, limits: Limits) -> Column:
        """The first candidate from which going on promises little."""
        if self.start_gain is None:
            return math.all(0)
        if told is None:
            raise InputError("a hybrid policy needs the premodel's chances")
        gains = gains_of(told[: len(self.candidates)], math)
        choice = math.all(len(gains))  # from the last there is no going on
        for candidate in reversed(range(len(gains))):
            choice = math.pick(gains[candidate] <= self.start_gain, candidate, choice)
        return choice

    def words(self) -> str:
        """Who may be asked, and what decides."""
        return (
            f"one or more of {', '.join(self.candidates)}, as network and premodel together "
            f"expect a gain from the next one{self._together()}"
        )

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why an image starts there."""
        if self.start_gain is None:
            return super().why_start(candidate, chances, preference)
        name = self.candidates[candidate]
        return f"{name} is the first from which the premodel expects little of going on"

    def starts(self) -> tuple[int, ...]:
        """Anywhere, where the gain decides."""
        return super().starts() if self.start_gain is None else tuple(range(len(self.candidates)))

    def threshold(self, history: History) -> Column:
        """The cascade's threshold, moved by the expected gain."""
        last = history.path[-1]
        plain = self.thresholds[last]
        if self.shift == 0 or history.told is None:
            return plain
        typical = 0.0 if self.typical_gain is None else self.typical_gain[last]
        gain = gains_of(history.told[: len(self.candidates)], history.math)[last]
        return plain + self.shift * (gain - typical)

    def settings(self) -> dict[str, Any]:
        """The cascade's settings and how the premodel moves them."""
        return {
            **super().settings(),
            "shift": self.shift,
            "start_gain": self.start_gain,
            "typical_gain": None if self.typical_gain is None else list(self.typical_gain),
        }

    @classmethod
    def from_settings(cls, fields: Fields, given: Mapping[str, Any]) -> Policy:
        """Read what the premodel moves, and the cascade's."""
        own = {
            "shift": fields.get("shift", float, default=0.0),
            "start_gain": fields.get("start_gain", float, default=None),
            "typical_gain": fields.numbers("typical_gain", default=None),
        }
        return super().from_settings(fields, {**given, **own})


def expected_gain(chances: np.ndarray) -> np.ndarray:
    """The best later chance minus the own one, shape (n, m); minus infinity for the last.

    chances : ndarray (n, m)
    """
    gain = np.full(chances.shape, -np.inf)
    for candidate, own in enumerate(gains_of(columns_of(chances), Many(len(chances)))):
        gain[:, candidate] = own
    return gain


def gains_of(chances: Columns, math: Many | One) -> Columns:
    """As `expected_gain`, on columns, for all candidates but the last."""
    gains: Columns = []
    later = chances[-1]
    for own in reversed(chances[:-1]):
        gains.insert(0, later - own)
        later = math.most(later, own)
    return gains
