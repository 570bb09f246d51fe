"""What a user asks of a policy, and the tuning that answers it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping

import numpy as np

from adaptive.certificate import (
    P_VALUES,
    Certificate,
    Counts,
    bound_on_drop,
    first_failure,
    images_needed,
)
from adaptive.errors import InputError
from adaptive.intervals import EXCEEDED, conformal_upper, fewest
from adaptive.parts import Split
from adaptive.policy.base import Policy
from adaptive.policy.gain import Gain
from adaptive.premodel.base import Premodel
from adaptive.replay import Replay, replay
from adaptive.table import OutcomeTable
from adaptive.tuning.build import build_policy, learn_gains
from adaptive.tuning.gains import Learned
from adaptive.tuning.members import Members
from adaptive.tuning.search import choose
from adaptive.tuning.trial import Choice, Trial

#: Mean costs between the cheapest candidate's and the reference's that are tried for a promise.
BUDGETS = 24

FOLDS = 5


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes
    ----------
    policy : what to serve; None when nothing can be promised
    certificate : what is promised about it, where a promise was asked for
    reason : why this policy, or why none, in words
    choice : the winning trial and how the families compared
    needed : about how many calibration images would be needed, where nothing could be promised
    """

    policy: Policy | None
    reason: str
    choice: Choice | None = None
    certificate: Certificate | None = None
    needed: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Tuner:
    """Searches policies on the tuning part of a table and tests promises on the rest.

    Parameters
    ----------
    table : outcomes of images that no candidate was trained on
    split : which of them tune and which calibrate; with `calibration` all tune
    calibration : a table of other images to test promises on
    premodel : for hybrids; one that was trained on the tuning part of `table`
    learned_here : whether it was, so that its chances there must be cross-fitted
    reference : what an accuracy drop is measured against; the most accurate when left out
    cost : "ms" or "mj"
    premodel_ms : what one prediction is charged with
    kind : only policies of this kind, "fixed", "cascade" or "hybrid"
    """

    def __init__(
        self,
        table: OutcomeTable,
        split: Split | None = None,
        calibration: OutcomeTable | None = None,
        premodel: Premodel | None = None,
        learned_here: bool = True,
        reference: str | None = None,
        cost: str = "ms",
        premodel_ms: float = 0.0,
        seed: int = 0,
        kind: str | None = None,
    ) -> None:
        self.split = split or Split()
        if calibration is not None:
            self.split = Split(1.0, 0.0, 0.0, self.split.seed)
        self.tune = table.select(self.split.rows(table.images, "tune"))
        self.calibration = calibration or table.select(self.split.rows(table.images, "calibrate"))
        if len(self.tune) < 50:
            raise InputError(f"{len(self.tune)} tuning images are too few; at least 50 are needed")
        shared = set(self.tune.images) & set(self.calibration.images)
        if shared:
            raise InputError(
                f"{len(shared)} images both tune and calibrate, such as {min(shared)!r}; a "
                "promise needs images of its own"
            )
        self.premodel = premodel
        self.premodel_ms = premodel_ms
        self.seed = seed
        self.kind = kind
        self.cost = {n: _mean_cost(self.tune, n, cost) for n in self.tune.candidates}
        self.members = Members.of(self.tune, self.cost, self._path_cost(cost), seed)
        accuracy = [float(self.tune.top1(n).mean()) for n in self.tune.candidates]
        self.reference = reference or self.tune.candidates[int(np.argmax(accuracy))]
        self.tune.of(self.reference)
        self._learned: dict[tuple[str, ...], Learned] = {}
        self.chances: np.ndarray | None = None
        self.charge = 0.0
        if premodel is not None:
            names = tuple(premodel.features)
            X = self.tune.feature_columns(names)
            if learned_here:
                own = _cross_fitted(premodel, X, self.tune, seed)
            else:
                own = premodel.predict(X)
            known = {n: own[:, i] for i, n in enumerate(premodel.candidates)}
            # NaN keeps a candidate that the premodel does not judge out of hybrids.
            unknown = np.full(len(self.tune), np.nan)
            self.chances = np.column_stack([known.get(n, unknown) for n in self.tune.candidates])
            if cost == "ms":
                self.charge = float(self.tune.features_cost(names).mean()) + premodel_ms

    def within(self, budget: float) -> Tuned:
        """The most accurate policy with a mean cost of at most `budget`."""
        choice = choose(self.members, budget, self.chances, self.charge, self.kind)
        policy = self._build(choice)
        return Tuned(policy, choice.reason, choice)

    def by_deadline(self, deadline_ms: float, budget: float = math.inf) -> Tuned:
        """The most accurate policy with which a new image ends within `deadline_ms`.

        An image's time is that of its longest way through the policy: decoding, features,
        premodel and networks as they were measured on that image, together. The policy is chosen
        by the tuning images' times, and what is said of it stands on the calibration images':
        a new image exceeds their conformal quantile with probability at most 1%, whichever way
        it takes. The policy also carries such a time for each candidate, so that at run time it
        starts nothing that could hardly finish.

        Raises
        ------
        InputError
            when not even the fastest candidate is in time.
        """
        # Chosen with half of what may exceed, so that other images hardly ever undo the choice.
        strict = EXCEEDED / 2 if len(self.tune) >= fewest(EXCEEDED / 2) else EXCEEDED
        known: dict[tuple[str, tuple[str, ...]], float] = {}

        def longest(trial: Trial) -> float:
            key = (trial.kind, trial.path)
            if key not in known:
                known[key] = conformal_upper(self._whole_ms(trial, self.tune), strict)
            return known[key]

        alone = {
            n: conformal_upper(_distinct(self.tune, self.tune.decode_ms + self.tune.ms(n)), strict)
            for n in self.tune.candidates
        }
        if min(alone.values()) > deadline_ms:
            fastest = min(alone, key=lambda n: alone[n])
            raise InputError(
                f"a deadline of {deadline_ms:g} ms cannot be kept: the fastest candidate, "
                f"{fastest}, takes up to {alone[fastest]:.4g} with decoding"
            )
        most = min(budget, sum(self.cost.values()))
        choice = choose(
            self.members, most, self.chances, self.charge, self.kind,
            lambda trial: longest(trial) <= deadline_ms,
        )  # fmt: skip
        checked = self.calibration if len(self.calibration) else self.tune
        part = "calibration" if checked is self.calibration else "tuning"
        upper = conformal_upper(self._whole_ms(choice.trial, checked))
        counted = "decoding and networks"
        if choice.trial.kind in ("hybrid", "premodel"):
            counted = "decoding, features, premodel and networks"
        measured = (
            f"{counted} together take longer than {upper:.4g} ms with probability at most "
            f"{100 * EXCEEDED:g}%, whichever way an image takes, by the times of {len(checked)} "
            f"{part} images"
        )
        if checked is self.tune:
            measured += ", which also chose it"
        if upper > deadline_ms:
            return Tuned(
                None,
                f"infeasible: of the most accurate policy that was in time on the tuning images, "
                f"{measured}, which is more than {deadline_ms:g}; ask for a shorter deadline",
                choice,
            )
        policy = self._build(choice, self.upper_ms())
        return Tuned(policy, f"{measured}; {choice.reason}", choice)

    def certified(self, epsilon: float, delta: float, bound: str = "exact") -> Tuned:
        """The cheapest policy promised to be at most `epsilon` below the reference.

        Policies of rising cost are found on the tuning images and put in the order of their
        p-values there; on the calibration images they are tested in that order until the first
        failure, and the cheapest that passed is taken.
        """
        if bound not in P_VALUES:
            raise InputError(f"bound {bound!r} is not one of {list(P_VALUES)}")
        if not 0 < delta < 1:
            raise InputError(f"delta {delta} is not between 0 and 1")
        if not -1 < epsilon < 1:
            raise InputError(f"an accuracy drop of {epsilon} is not between -1 and 1")
        if not len(self.calibration):
            raise InputError("no images calibrate; give a split with a calibration part")
        test = P_VALUES[bound]
        tried = self._ladder()
        seen = [self._counts(t.policy, self.tune) for t in tried]  # type: ignore[arg-type]
        before = [test(c, epsilon) for c in seen]
        # Many p-values are exactly 1, or the least there is: of those the smaller drop first.
        order = np.lexsort(([c.drop for c in seen], before))
        counts = [self._counts(tried[i].policy, self.calibration) for i in order]  # type: ignore[arg-type]
        p_values = [test(c, epsilon) for c in counts]
        passed = first_failure(p_values, delta)
        details = {
            "tested_in_order": [
                {
                    "policy": tried[i].policy.kind,  # type: ignore[union-attr]
                    "candidates": list(tried[i].policy.candidates),  # type: ignore[union-attr]
                    "cost": tried[i].choice.trial.cost,  # type: ignore[union-attr]
                    "p_value_tuning": before[i],
                    "p_value": p_values[place],
                    "losses": counts[place].losses,
                    "gains": counts[place].gains,
                }
                for place, i in enumerate(order)
            ]
        }
        if passed == 0:
            return self._infeasible(tried, counts, order, epsilon, delta, bound, details)
        place = min(range(passed), key=lambda p: tried[order[p]].choice.trial.cost)  # type: ignore[union-attr]
        chosen = tried[order[place]]
        certificate = Certificate(
            self.reference,
            epsilon,
            delta,
            bound,
            counts[place].images,
            counts[place].losses,
            counts[place].gains,
            p_values[place],
            bound_on_drop(counts[place], delta, bound),
            self.seed,
            len(tried),
            self._disagreements(chosen.policy),  # type: ignore[arg-type]
            board=dict(self.tune.meta.get("board") or {}),
        )
        cost = chosen.choice.trial.cost  # type: ignore[union-attr]
        reason = (
            f"cheapest of the {passed} certified policies out of {len(tried)}: mean cost "
            f"{cost:.4g}, {self.cost[self.reference] / cost:.2f} times less than "
            f"{self.reference}'s; {chosen.reason}"
        )
        return Tuned(chosen.policy, reason, chosen.choice, certificate, None, details)

    def abstaining(self, tuned: Tuned, below: float) -> Tuned:
        """The same policy, with no answer where its score is below `below`; says what is left.

        Nothing else changes: who is asked, and what a promise counts, which is the best guess.
        """
        assert tuned.policy is not None
        policy = replace(tuned.policy, abstain_below=below)
        done = self._replayed(policy, self.tune)
        kept = ~done.abstained
        right = f", {100 * done.top1[kept].mean():.2f}% of them right" if kept.any() else ""
        reason = (
            f"{tuned.reason}; with scores below {below:g} left to a person it answers "
            f"{100 * kept.mean():.1f}% of the tuning images{right}"
        )
        if not policy.exponents:
            reason += "; the table holds no probabilities, so these scores are not calibrated"
        certificate = tuned.certificate
        if certificate is not None:
            certificate = replace(certificate, abstain_below=below)
        return replace(tuned, policy=policy, reason=reason, certificate=certificate)

    def upper_ms(self, exceeded: float = EXCEEDED) -> dict[str, float]:
        """For each candidate, asked first, a time that a new run exceeds hardly ever.

        exceeded : with at most this probability, over the calibration images' times
        """
        table = self.calibration if len(self.calibration) else self.tune
        return {
            n: conformal_upper(_distinct(table, table.ms(n)), exceeded) for n in table.candidates
        }

    def _whole_ms(self, trial: Trial, table: OutcomeTable) -> np.ndarray:
        """Each image's milliseconds from its bytes to the end of its longest way, (n,)."""
        if trial.kind == "premodel":
            networks = np.max([table.ms(n) for n in trial.path], axis=0)
        else:
            networks = table.path_ms(trial.path)
        whole = table.decode_ms + networks
        if trial.kind in ("hybrid", "premodel") and self.premodel is not None:
            whole = whole + table.features_cost(tuple(self.premodel.features)) + self.premodel_ms
        return _distinct(table, whole)

    def _path_cost(self, cost: str) -> Callable[[tuple[str, ...]], float]:
        """Mean cost of asking candidates one after the other, in the objective's unit."""

        def of(path: tuple[str, ...]) -> float:
            if cost == "ms":
                return float(self.tune.path_ms(path).mean())
            spent = self.tune.path_mj(path)
            assert spent is not None  # `_mean_cost` has looked
            return float(spent.mean())

        return of

    def _ladder(self) -> list[Tuned]:
        """The best policy at each of a series of mean costs, and the reference itself."""
        low = min(self.cost.values())
        high = max(self.cost[self.reference], low)
        found: list[Tuned] = []
        for budget in np.geomspace(low * 1.0001, high, BUDGETS):
            try:
                tuned = self.within(float(budget))
            except InputError:
                continue  # no policy of this kind is that cheap
            if tuned.policy not in [t.policy for t in found]:
                found.append(tuned)
        if not found:
            raise InputError(f"no {self.kind} policy is as cheap as {self.reference}")
        return found

    def _counts(self, policy: Policy, table: OutcomeTable) -> Counts:
        return Counts.of(table.top1(self.reference), self._replayed(policy, table).top1)

    def _replayed(self, policy: Policy, table: OutcomeTable) -> Replay:
        chances = None
        if policy.needs_features and table is self.tune and self.chances is not None:
            where = [self.tune.candidates.index(n) for n in policy.candidates]
            chances = self.chances[:, where]
        return replay(policy, table, chances=chances)

    def _disagreements(self, policy: Policy) -> int | None:
        """On how many calibration images the policy answers another class than the reference."""
        table = self.calibration
        if not all(n in table.probabilities for n in (*policy.candidates, self.reference)):
            return None
        answer = replay(policy, table, answers=True).answer
        reference = table.probabilities_of(self.reference).argmax(axis=1)
        return int(np.sum(answer != reference))

    def _build(self, choice: Choice, upper_ms: dict[str, float] | None = None) -> Policy:
        trial = choice.trial
        chances: np.ndarray | None = None
        gains: tuple[Gain, ...] = ()
        if trial.kind == "hybrid" and self.chances is not None:
            where = [self.tune.candidates.index(n) for n in trial.path]
            chances = self.chances[:, where]
            if trial.learned:
                if trial.path not in self._learned:
                    self._learned[trial.path] = learn_gains(trial, self.tune, self.members, chances)
                learned = self._learned[trial.path]
                gains = learned.gains(learned.price(trial.cost - self.charge, own=True))
        return build_policy(trial, self.tune, self.members, self.premodel, chances, upper_ms, gains)

    def _infeasible(
        self,
        tried: list[Tuned],
        counts: list[Counts],
        order: np.ndarray,
        epsilon: float,
        delta: float,
        bound: str,
        details: Mapping[str, Any],
    ) -> Tuned:
        first = counts[0]
        both = self._counts(tried[order[0]].policy, self.tune)  # type: ignore[arg-type]
        images = first.images + both.images
        needed = images_needed(
            (first.losses + both.losses) / images,
            (first.gains + both.gains) / images,
            epsilon,
            delta,
            bound,
        )
        reason = (
            f"infeasible: on {first.images} calibration images the most promising policy lost "
            f"{first.losses} and gained {first.gains} images against {self.reference}, which "
            f"does not show a drop of at most {100 * epsilon:g} points at "
            f"{100 * (1 - delta):g}% confidence"
        )
        if needed is None:
            reason += "; at these rates no number of images would"
        elif needed > first.images:
            reason += f"; about {needed - first.images:,} more labelled images would be needed"
        else:
            reason += "; the tuning images promised more, so a few more images may do"
        return Tuned(None, reason, tried[order[0]].choice, None, needed, details)


def _distinct(table: OutcomeTable, ms: np.ndarray) -> np.ndarray:
    """Times of images, each measurement once: those from a board may be of other, fewer images."""
    times = table.meta.get("times")
    return ms if not times or times.get("same_images") else np.unique(ms)


def _mean_cost(table: OutcomeTable, name: str, cost: str) -> float:
    if cost == "ms":
        return float(table.ms(name).mean())
    if cost != "mj":
        raise InputError(f"cost {cost!r} is neither ms nor mj")
    spent = table.path_mj((name,))
    if spent is None:
        raise InputError(
            f"the outcome table holds no energies ({name}:mj); profile with energy to tune for it"
        )
    return float(spent.mean())


def _cross_fitted(premodel: Premodel, X: np.ndarray, table: OutcomeTable, seed: int) -> np.ndarray:
    """Chances for images that the premodel learned from, each by a twin that did not see it."""
    outcomes = np.column_stack([table.top1(n) for n in premodel.candidates]).astype(np.uint8)
    fold = np.random.default_rng(seed).permutation(len(X)) % FOLDS
    chances = np.empty((len(X), len(premodel.candidates)))
    for part in range(FOLDS):
        twin = premodel.unfitted().fit(X[fold != part], outcomes[fold != part])
        chances[fold == part] = twin.predict(X[fold == part])
    return chances
