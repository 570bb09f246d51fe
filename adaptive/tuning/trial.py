"""A policy that was tried on the tuning images, and the choice among many."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Trial:
    """A policy without thresholds, and who goes on.

    Attributes
    ----------
    family : key of `search.FAMILIES`
    path : candidates in order
    shares : share of all images that reach each candidate after the first
    average : whether all that ran answers, with fitted exponents, or only the last
    shift, start_share : of a hybrid
    price : chance that a unit of cost is worth, of a premodel policy and of learned gains
    told : whether learned gains go by what the premodel says
    follows : what fitted exponents follow: nothing (""), "conditions" or "features"
    right : ndarray (n,), bool, whether the policy was right on each tuning image
    foreseen : ndarray (n,), what was to be expected of that, by which policies are compared: see
        `Members.foreseen`
    cost : mean cost
    """

    family: str
    path: tuple[str, ...]
    shares: tuple[float, ...]
    right: np.ndarray = field(repr=False)
    foreseen: np.ndarray = field(repr=False)
    cost: float
    signal: str = "top"
    average: bool = False
    shift: float = 0.0
    start_share: float = 0.0
    price: float = 0.0
    told: bool = False
    follows: str = ""

    @property
    def learned(self) -> bool:
        """Whether it goes by learned gains instead of thresholds."""
        return self.family in ("learned cascade", "learned hybrid")

    @property
    def kind(self) -> str:
        """The kind of policy that it becomes."""
        if self.family in ("fixed", "premodel"):
            return self.family
        return "hybrid" if self.family in ("hybrid", "learned hybrid") else "cascade"


@dataclass(frozen=True)
class Choice:
    """The trial that won at one budget, and how the families compared.

    Attributes
    ----------
    expected : cross-validated top-1 of the trial's family, which is not flattered by the choice
    families : cross-validated top-1 of every family that had a trial
    reason : one sentence
    """

    trial: Trial
    expected: float
    families: dict[str, float]
    reason: str
