"""The papers' policy: the premodel names one candidate, and that one answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from adaptive.errors import InputError
from adaptive.limits import Limits
from adaptive.policy.base import STOP, History, Policy
from adaptive.premodel.base import first_yes

ON_ABSTAIN = ("strongest", "abstain")


@dataclass(frozen=True)
class ByPremodel(Policy):
    """The first candidate of the order that the premodel expects to be right.

    Taylor et al. 2018 (doi 10.1145/3211332.3211336), section 3: a chain of classifiers, the
    first yes wins.

    Parameters
    ----------
    on_abstain : when the premodel says no to all: "strongest" asks the last of the order,
        "abstain" answers nothing (label null)
    """

    kind: ClassVar[str] = "premodel"

    on_abstain: str = "strongest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.premodel is None:
            raise InputError("a premodel policy needs a premodel")
        if self.on_abstain not in ON_ABSTAIN:
            raise InputError(f"on_abstain {self.on_abstain!r} is not one of {list(ON_ABSTAIN)}")

    def start(self, chances: np.ndarray | None, count: int, limits: Limits) -> np.ndarray:
        """The first yes of each image's chances."""
        if chances is None:
            raise InputError("a premodel policy needs the premodel's chances")
        choice = first_yes(chances)
        if self.on_abstain == "strongest":
            choice = np.where(choice < 0, len(self.candidates) - 1, choice)
        return choice

    def next(self, history: History, limits: Limits) -> np.ndarray:
        """Always STOP."""
        return np.full(len(history), STOP, np.intp)

    def reason(self, history: History) -> str:
        """Why the image took this path."""
        chosen = self.candidates[history.path[0]]
        if history.chances is not None and history.chances[0].max() <= 0.5:
            return f"the premodel expects no candidate to be right, so {chosen} was asked"
        return f"the premodel expects {chosen} to be the first that is right"

    def settings(self) -> dict[str, Any]:
        """What happens when the premodel abstains."""
        return {"on_abstain": self.on_abstain}
