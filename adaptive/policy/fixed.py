"""Policies that look at nothing: one candidate for all, or a draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Mapping

import numpy as np

from adaptive.checks import whole
from adaptive.columns import Column, Columns, Many, One
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import Limits
from adaptive.policy.base import Policy
from adaptive.policy.history import History
from adaptive.policy.on_columns import OnColumns
from adaptive.policy.spending import STOP


@dataclass
class Fixed(OnColumns):
    """Always the first candidate of the order."""

    kind: ClassVar[str] = "fixed"
    plain: ClassVar[bool] = True

    @property
    def always(self) -> str:
        """The first of the order."""
        return self.candidates[0]

    def first(self, told: Columns | None, math: Many | One, limits: Limits) -> Column:
        """The first candidate, for every image."""
        return math.all(0)

    def next(self, history: History, limits: Limits) -> Column:
        """Always STOP."""
        return history.math.all(STOP)

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why an image starts there."""
        return f"every image goes to {self.candidates[candidate]}"

    def words(self) -> str:
        """Who answers."""
        return f"{self.candidates[0]} answers every image"


@dataclass
class Random(OnColumns):
    """Draw one candidate by fixed shares: the baseline that any routing must beat.

    Parameters
    ----------
    shares : share of each candidate, >= 0, summing to one; equal when left out
    seed : of the draw; images drawn one by one and all at once get the same candidates
    """

    kind: ClassVar[str] = "random"
    plain: ClassVar[bool] = True

    shares: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._as_numbers("shares")
        shares = self.shares
        if shares is None:
            shares = (1 / len(self.candidates),) * len(self.candidates)
        if (
            len(shares) != len(self.candidates)
            or not all(share >= 0 for share in shares)
            or not abs(sum(shares) - 1) <= 1e-6
        ):
            raise InputError(
                f"shares {shares} must be {len(self.candidates)} numbers >= 0 that sum to 1"
            )
        self.seed, self.shares = whole(self.seed, "seed"), shares

    @cached_property
    def draws(self) -> np.random.Generator:
        """Where the next draws come from: the one policy that is changed by what it is asked."""
        return np.random.default_rng(self.seed)

    def afresh(self) -> Random:
        """Another that draws from the beginning."""
        return replace(self)

    def first(self, told: Columns | None, math: Many | One, limits: Limits) -> Column:
        """A draw for every image: how many of the edges between shares it does not lie below."""
        draw, edge, passed = math.draw(self.draws), 0.0, math.all(0)
        for share in (self.shares or ())[:-1]:
            edge += share
            passed = passed + (draw >= edge)
        return passed

    def next(self, history: History, limits: Limits) -> Column:
        """Always STOP."""
        return history.math.all(STOP)

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why an image starts there."""
        return f"a draw by fixed shares chose {self.candidates[candidate]}"

    def settings(self) -> dict[str, Any]:
        """Shares and seed."""
        return {"shares": list(self.shares or ()), "seed": self.seed}

    @classmethod
    def from_settings(cls, fields: Fields, given: Mapping[str, Any]) -> Policy:
        """Read shares and seed."""
        shares = fields.numbers("shares", default=None)
        own = {"shares": shares, "seed": fields.get("seed", int, default=0)}
        return super().from_settings(fields, {**given, **own})
