"""Whether a premodel is used: decided once, for all budgets, against what needs none.

A lead at one budget is mostly luck: two policies differ there on the few images near their
thresholds. So questions are put that use every tuning image, and none depends on one budget.

1. Does the premodel foretell what asking another network gains better than confidence alone?
2. Do the networks change places with what it sees? One that only tells hard images from easy ones
   passes the first question, but confidence sorts those nearly as well, and little is gained. So
   it must also foretell gains better than one number could: its own mean chance over all
   networks, which is how easy it takes the image to be.
3. Is a policy that uses it not behind the learned cascade?

Where the second is answered with no, exponents that follow the conditions may still lead, by what
all candidates together foresee: see `_foreseen_lead`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from adaptive.policy.gain import paths_of
from adaptive.tuning.crossed import Taken, cross_judged
from adaptive.tuning.judged import Judged
from adaptive.tuning.learned import followed, gain_paths, gains_of, learned_trials, weighed
from adaptive.tuning.members import Members

#: Budgets, as times less than the most accurate candidate costs.
SPEEDUPS = (2.9, 2.6, 2.3, 2.0, 1.7, 1.4, 1.2, 1.0)

#: Standard errors by which networks must change places. One number for how hard an image is
#: stands for a line, so what bends a little passes two, and by chance three.
PLACES = 3.5

#: Standard errors by which labels must be likelier, and a lead must not be behind.
NEEDED = 2.0


#: What is taken at each budget; None where nothing fits.
Judgements = List[Optional[Taken]]


@dataclass(frozen=True)
class Lead:
    """A mean over images, and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, each: np.ndarray) -> Lead:
        """Of one number an image."""
        return cls(float(each.mean()), float(each.std()) / math.sqrt(len(each)))

    @property
    def errors(self) -> float:
        """How many standard errors it is above nothing."""
        return self.value / self.error if self.error > 0 else 0.0


@dataclass(frozen=True)
class Foretold:
    """How much better gains are foretold, image by image.

    Attributes
    ----------
    right_way : corrections times what they had to correct
    saved : squared error that they took away; less, by what their own errors cost
    """

    right_way: Lead
    saved: Lead

    @property
    def errors(self) -> float:
        """How many standard errors the corrections are on the right side of nothing."""
        return self.right_way.errors


@dataclass(frozen=True)
class Gate:
    """What is decided about a premodel.

    Attributes
    ----------
    taken : whether it is used
    told : whether gains go by what it says
    follows : what exponents follow, see `Trial`
    foretold : against the signal alone, see `foretold`
    beyond : against how hard it takes the image to be
    lead : accuracy over the learned cascade, in the mean over budgets; None where none was tried
    words : one sentence
    """

    taken: bool
    told: bool
    follows: str
    foretold: Foretold
    beyond: Foretold | None
    lead: Lead | None
    words: str


def gate(members: Members, judged: Judged) -> Gate:
    """Decide about a premodel, from the tuning images alone; see the module's text."""
    key = ("gate", judged.key)
    if key not in members.learned:
        members.learned[key] = _decided(members, judged)
    found: Gate = members.learned[key]
    return found


def _decided(members: Members, judged: Judged) -> Gate:
    needed = f"{judged.needed:g} are needed"
    told, beyond, lead = foretold(members, judged, None), None, None
    if told.errors < judged.needed:
        better = "better" if told.errors >= 0 else "worse"
        why = (
            f"it foretells what asking another network gains {abs(told.errors):.1f} standard "
            f"errors {better} than confidence alone does; {needed}"
        )
    else:
        beyond = foretold(members, judged, judged.hardness)
        better = f"{beyond.errors:.1f} standard errors; {PLACES:g} are needed"
        why = (
            "it tells hard images from easy ones, but networks hardly change places with what "
            f"it sees: {better}"
        )
        if beyond.errors >= PLACES:
            why += ", and less squared error"
            if beyond.saved.value > 0:
                follows = "conditions" if _likelier(members, judged, "conditions") else ""
                lead = _lead(
                    _by_budgets(members, judged, True, follows), _by_budgets(members, None)
                )
                if lead is None or lead.errors > -NEEDED:
                    words = (
                        f"the premodel is used: networks change places with what it sees, {better}"
                    )
                    return Gate(True, True, follows, told, beyond, lead, words)
                why = f"with it answers are {-100 * lead.value:.2f} points worse than without"
        if _likelier(members, judged, "conditions"):
            by_gains, alone = (_foreseen_lead(members, judged, told) for told in (True, False))
            better_one = max((by_gains, alone), key=lambda found: found.errors)
            if better_one.errors >= NEEDED:
                words = (
                    "the premodel's conditions weigh the networks: by what all of them come to, "
                    f"that adds {100 * better_one.value:.2f} points, {better_one.errors:.1f} "
                    f"standard errors; {NEEDED:g} are needed"
                )
                use_gains = better_one is by_gains
                return Gate(True, use_gains, "conditions", told, beyond, better_one, words)
    if _likelier(members, judged, "features"):
        weighed = _by_budgets(members, judged, False, "features")
        lead = _lead(weighed, _by_budgets(members, None))
        if lead is not None and lead.errors >= judged.needed:
            words = (
                "the premodel's features weigh the networks: that adds "
                f"{100 * lead.value:.2f} points, {lead.errors:.1f} standard errors; {needed}"
            )
            return Gate(True, False, "features", told, beyond, lead, words)
    return Gate(False, False, "", told, beyond, lead, f"the premodel is left out: {why}")


def foretold(members: Members, judged: Judged, than: Judged | None) -> Foretold:
    """How much better gains are foretold than by another premodel, or by the signal alone.

    Both predictions are cross-fitted, and all ways on all paths that begin on the front count.
    Of each image, the correction times what it had to correct is nothing in the mean where the
    premodel knows nothing that the other does not (Clark and West 2007, Journal of Econometrics
    138, 291-311, for predictions of which one contains the other). The squared error that is
    saved is less than nothing there, since coefficients of nothing are noise.
    """
    right_way, saved = np.zeros(len(members)), np.zeros(len(members))
    for path in gain_paths(members, judged):
        told, blind = gains_of(members, path, judged), gains_of(members, path, than)
        for begun, ways in paths_of(len(path)).items():
            outcome = np.stack([told.right[(*begun, *way)] for way in ways], axis=1)
            gain = outcome - told.right[begun].astype(np.float64)[:, np.newaxis]
            correction = told.values[begun] - blind.values[begun]
            each = correction * (gain - blind.values[begun])
            right_way += each.sum(axis=1)
            saved += (2 * each - correction**2).sum(axis=1)
    return Foretold(Lead.of(right_way), Lead.of(saved))


def _likelier(members: Members, judged: Judged, what: str) -> bool:
    """Whether exponents that follow the image make the labels likelier, on the best paths."""
    if members.logs is None or judged.traits is None or not judged.conditions:
        return False
    paths = {
        trial.path
        for budget in _budgets(members)
        for trial in learned_trials(members, budget, judged)
    }
    shown = followed(members, judged, what)
    gained = np.zeros(len(members))
    for path in sorted(paths):
        gained += shown.likelihood(path) - members.likelihood(path)
    return bool(paths) and Lead.of(gained).errors >= NEEDED


def _budgets(members: Members) -> list[float]:
    best = max(members.names, key=lambda n: float(members.quality[n].mean()))
    return [members.cost[best] / times for times in SPEEDUPS]


def _by_budgets(
    members: Members, judged: Judged | None, told: bool = True, follows: str = ""
) -> Judgements:
    """What is taken at each budget, cross-validated, None where nothing fits."""
    key = ("budgets", None if judged is None else judged.key, told, follows)
    if key not in members.learned:
        found: Judgements = []
        for budget in _budgets(members):
            own = list(learned_trials(members, budget, judged, told, follows))
            found.append(cross_judged(own, members.fold) if own else None)
        members.learned[key] = found
    known: Judgements = members.learned[key]
    return known


def _foreseen_lead(members: Members, judged: Judged, told: bool) -> Lead:
    """What exponents that follow the conditions add, by what is foreseen under the conditions.

    All candidates together say of both answers how likely they are to be right. That scatters a
    third as much as labels do, and is careful: where conditions make a network good that is
    worth nothing otherwise, the pool knows less of it than the labels.
    """
    one = _by_budgets(members, judged, told, "conditions")
    other = _by_budgets(weighed(members, judged), None)
    return _lead(one, other, foreseen=True) or Lead(0.0, 0.0)


def _lead(one: Judgements, other: Judgements, foreseen: bool = False) -> Lead | None:
    """The first's mean over budgets above the other's, as it was seen or as it was foreseen."""
    both = [
        a.foreseen - b.foreseen if foreseen else a.quality - b.quality
        for a, b in zip(one, other)
        if a is not None and b is not None
    ]
    return Lead.of(np.mean(both, axis=0)) if both else None
