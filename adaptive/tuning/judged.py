"""What a premodel says of the tuning images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Sequence

import numpy as np

from adaptive.policy.gain import log_odds


@dataclass(frozen=True)
class Judged:
    """What a premodel says of n images, and what it costs to ask it.

    Attributes
    ----------
    chances : ndarray (n, m), a column a candidate, each image's by a premodel that did not learn
        from its outcomes; NaN for a candidate that is not judged
    traits : ndarray (n, t), see `Premodel.judge`
    conditions : how many of the traits are what gains go by, the probabilities of conditions
    charge : what features and premodel cost
    needed : standard errors by which gains must be foretold better for it to be used
    """

    chances: np.ndarray = field(repr=False)
    traits: np.ndarray | None = field(default=None, repr=False)
    conditions: int = 0
    charge: float = 0.0
    needed: float = 2.0

    @cached_property
    def key(self) -> int:
        """Tells what two premodels say of the same images apart."""
        told = b"" if self.traits is None else self.traits.tobytes()
        return hash((self.chances.tobytes(), told, self.conditions, self.charge, self.needed))

    def knows(self, columns: Sequence[int]) -> bool:
        """Whether it judges these candidates."""
        return not np.isnan(self.chances[:, list(columns)]).any()

    def told(self, columns: Sequence[int]) -> np.ndarray:
        """What gains along a path of these candidates go by, see `policy.gain.describe`."""
        if self.conditions:
            assert self.traits is not None
            return self.traits[:, : self.conditions]
        return log_odds(self.chances[:, list(columns)])

    @cached_property
    def hardness(self) -> Judged:
        """One that knows of each image only how hard this one takes it to be for all networks."""
        easy = np.nanmean(self.chances, axis=1, keepdims=True)
        return Judged(self.chances, easy, 1, self.charge, self.needed)

    def followed(self, what: str) -> slice:
        """Which traits exponents follow: those of "conditions" or of "features"."""
        return slice(self.conditions) if what == "conditions" else slice(self.conditions, None)

    def numbers(self, columns: Sequence[int], traits: bool) -> np.ndarray:
        """As a policy of these candidates is shown them, see `Policy.chances`."""
        own = self.chances[:, list(columns)]
        if not traits or self.traits is None:
            return own
        return np.concatenate([own, self.traits], axis=1)
