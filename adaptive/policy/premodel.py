"""The papers' policy: the premodel names one candidate, and that one answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Mapping

import numpy as np

from adaptive.checks import chosen, number
from adaptive.columns import Column, Columns, Many, One, leading
from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.limits import Limits
from adaptive.policy.base import CHOOSES, Policy
from adaptive.policy.change import prefers
from adaptive.policy.history import History
from adaptive.policy.on_columns import OnColumns
from adaptive.policy.spending import STOP

ON_ABSTAIN = ("strongest", "abstain")
RULES = ("first-yes", "utility")


@dataclass
class ByPremodel(OnColumns):
    """The candidate that the premodel's chances speak for.

    Rule "first-yes", Taylor et al. 2018 (doi 10.1145/3211332.3211336), section 3: a chain of
    classifiers, the first of the order whose chance is above one half. Rule "utility": the one
    with the highest chance - price * cost_ms, of equals the first; the chance of a right answer
    less what its time is worth.

    Parameters
    ----------
    on_abstain : when the premodel says no to all, or no utility is above 0: "strongest" asks the
        last of the order by "first-yes" and the best all the same by "utility"; "abstain"
        answers nothing (label null)
    rule : "first-yes" or "utility"
    price : chance that a millisecond is worth, for "utility". A preference p weighs chances by
        1 + p and times by 1 - p: at 1 the likeliest starts; at -1 the cheapest, the first of the
        order at price 0, and none with on_abstain "abstain", for chances count nothing then
    costs_ms : as in `Policy`; "utility" needs them
    """

    kind: ClassVar[str] = "premodel"
    premodel_role: ClassVar[str | None] = CHOOSES
    plain: ClassVar[bool] = True

    on_abstain: str = "strongest"
    rule: str = "first-yes"
    price: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.premodel is None:
            raise InputError("a premodel policy needs a premodel")
        chosen(self.on_abstain, "on_abstain", ON_ABSTAIN)
        chosen(self.rule, "rule", RULES)
        self.price = number(self.price, "price")
        if self.rule == "utility":
            self._check_utility()
        elif self.price != 0:
            raise InputError(f'price {self.price} belongs to rule "utility"')

    def _check_utility(self) -> None:
        if self.costs_ms is None:
            raise InputError('rule "utility" needs costs_ms, a time for each candidate')
        if not np.isfinite(self.costs_ms).all():
            raise InputError(f"costs_ms {list(self.costs_ms)} must be finite")
        if not (np.isfinite(self.price) and self.price >= 0):
            raise InputError(f"price {self.price} is not a finite number of at least 0")

    @property
    def weighs_times(self) -> bool:
        """By utility."""
        return self.rule == "utility"

    def first(self, told: Columns | None, math: Many | One, limits: Limits) -> Column:
        """The first yes of each image's chances, or the best utility."""
        if told is None:
            raise InputError("a premodel policy needs the premodel's chances")
        chances = told[: len(self.candidates)]
        strongest = self.on_abstain == "strongest"
        if self.rule == "utility":
            utilities = self.utilities(chances, limits.preference)
            best, most = leading(utilities, math)
            return best if strongest else math.pick(most > 0, best, STOP)
        choice = math.all(len(chances) - 1 if strongest else STOP)
        for candidate in reversed(range(len(chances))):
            choice = math.pick(chances[candidate] > 0.5, candidate, choice)
        return choice

    def utilities(self, chances: Columns, preference: float) -> Columns:
        """What each candidate is worth: its chance less the price of its time."""
        return [
            (1 + preference) * chance - (1 - preference) * (cost * self.price)
            for chance, cost in zip(chances, self.costs_ms or ())
        ]

    def next(self, history: History, limits: Limits) -> Column:
        """Always STOP."""
        return history.math.all(STOP)

    def why_start(self, candidate: int, chances: np.ndarray | None, preference: float) -> str:
        """Why an image starts there."""
        name = self.candidates[candidate]
        if self.rule == "utility":
            if self._moved(chances, preference):
                return f"{prefers(preference)}, and then no candidate is worth more than {name}"
            return f"the premodel's chance for {name}, less the price of its time, is the highest"
        if chances is not None and chances[0, : len(self.candidates)].max() <= 0.5:
            return f"the premodel expects no candidate to be right, which calls for {name}"
        return f"the premodel expects {name} to be the first that is right"

    def why_none(self, chances: np.ndarray | None, preference: float) -> str:
        """Why an image gets no answer."""
        if self.rule == "first-yes":
            return "the premodel expects no candidate to be right, so the policy abstained"
        if self._moved(chances, preference):
            return f"{prefers(preference)}, and then none is worth its time: the policy abstained"
        return "no candidate's chance is worth the price of its time, so the policy abstained"

    def _moved(self, chances: np.ndarray | None, preference: float) -> bool:
        """Whether a preference made one image start elsewhere."""
        if chances is None or preference == 0:
            return False
        plain, preferred = (self.start(chances, 1, Limits(preference=p)) for p in (0.0, preference))
        return bool(plain[0] != preferred[0])

    def words(self) -> str:
        """Who chooses among whom."""
        return f"the premodel chooses one of {', '.join(self.candidates)} for each image"

    def settings(self) -> dict[str, Any]:
        """The rule, and what happens when the premodel abstains."""
        return {"on_abstain": self.on_abstain, "rule": self.rule, "price": self.price}

    @classmethod
    def from_settings(cls, fields: Fields, given: Mapping[str, Any]) -> Policy:
        """Read the rule."""
        own = {
            "on_abstain": fields.get("on_abstain", str, default="strongest"),
            "rule": fields.get("rule", str, default="first-yes"),
            "price": fields.get("price", float, default=0.0),
        }
        return super().from_settings(fields, {**given, **own})
