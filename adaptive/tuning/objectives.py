"""What a user asks of a policy, and the tuning that answers it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.evaluation.replay import Replay, replay
from adaptive.intervals import EXCEEDED, conformal_upper, fewest
from adaptive.outcomes.compared import check_compared
from adaptive.outcomes.parts import Split
from adaptive.outcomes.quality import quality_words
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.gain import Gain
from adaptive.premodel.base import Premodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.shares import ConditionShares, count_conditions
from adaptive.tuning.build import build_policy, learn_gains
from adaptive.tuning.certificate import (
    P_VALUES,
    Certificate,
    Counts,
    bound_on_drop,
    first_failure,
    graded_images_needed,
    images_needed,
    points,
)
from adaptive.tuning.crossed import cross_judged
from adaptive.tuning.gains import Learned
from adaptive.tuning.hypotheses import Hypothesis, Tuned, checked_drops, in_order, summary_of
from adaptive.tuning.judged import Judged
from adaptive.tuning.learned import learned_trials
from adaptive.tuning.members import Members
from adaptive.tuning.search import choose
from adaptive.tuning.trial import Choice, Trial

#: Mean costs between the cheapest candidate's and the reference's that are tried for a promise.
BUDGETS = 24

FOLDS = 5

#: What `Tuner.learned` makes -> whether gains go by the premodel, and what exponents follow.
MAKES = {
    "": (False, ""),
    "conditions": (True, ""),
    "conditions, exponents": (True, "conditions"),
    "exponents by conditions": (False, "conditions"),
    "exponents": (False, "features"),
}

#: Standard errors that chances of few neighbours need, which are noisy: see `gate`.
NEIGHBOURS_NEED = 3.0


class Tuner:
    """Searches policies on the tuning part of a table and tests promises on the rest.

    Parameters
    ----------
    table : outcomes of images that no candidate was trained on
    split : which of them tune and which calibrate; with `calibration` all tune
    calibration : a table of other images to test promises on
    premodel : for hybrids; one that was trained on the tuning part of `table`
    learned_here : whether it was, so that its chances there must be cross-fitted
    reference : what an accuracy drop is measured against; when left out the most accurate, or
        the one that the table's agreement is with
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
        accuracy = [float(self.tune.quality(n).mean()) for n in self.tune.candidates]
        best = self.tune.agrees_with or self.tune.candidates[int(np.argmax(accuracy))]
        self.reference = reference or best
        self.tune.of(self.reference)
        check_compared(self.tune, self.calibration, self.reference)
        self._learned: dict[tuple[object, ...], Learned] = {}
        self._tried: list[Tuned] | None = None
        self.judged: Judged | None = None
        if premodel is not None:
            names = tuple(premodel.features)
            X = self.tune.feature_columns(names, premodel.own_features)
            if learned_here:
                own = _cross_fitted(premodel, X, self.tune, seed)
            else:
                own = premodel.predict(X)
            known = {n: own[:, i] for i, n in enumerate(premodel.candidates)}
            # NaN keeps a candidate that the premodel does not judge out of hybrids.
            unknown = np.full(len(self.tune), np.nan)
            charge = 0.0
            if cost == "ms":
                charge = float(self.tune.features_cost(names).mean()) + premodel_ms
            self.judged = Judged(
                np.column_stack([known.get(n, unknown) for n in self.tune.candidates]),
                premodel.judge(X)[:, len(premodel.candidates) :] if premodel.traits else None,
                premodel.conditions,
                charge,
                NEIGHBOURS_NEED if isinstance(premodel, KNNChain) else Judged.needed,
            )

    @property
    def charge(self) -> float:
        """What features and premodel cost an image."""
        return 0.0 if self.judged is None else self.judged.charge

    def within(self, budget: float) -> Tuned:
        """The most accurate policy with a mean cost of at most `budget`."""
        choice = choose(self.members, budget, self.judged, self.kind)
        policy = self._build(choice)
        return Tuned(policy, choice.reason, choice)

    def learned(self, budget: float, make: str = "") -> Tuned:
        """The best policy with learned gains of one make, whatever the gate says of it.

        make : "" for the learned cascade, "conditions" for gains that go by the premodel,
            "conditions, exponents" where exponents do too, "exponents by conditions" where only
            they do, "exponents" where only they do and go by the features

        Raises
        ------
        InputError
            when none fits the budget, or there is no premodel.
        """
        told, follows = MAKES[make]
        judged = self.judged if make else None
        if make and judged is None:
            raise InputError("learned gains that go by a premodel need one")
        found = list(learned_trials(self.members, budget, judged, told, follows))
        if not found:
            raise InputError(f"no policy with learned gains has a mean cost of at most {budget:g}")
        trial, quality, _ = cross_judged(found, self.members.fold)
        expected = float(quality.mean())
        reason = f"only {trial.family} was asked for"
        choice = Choice(trial, expected, {trial.family: expected}, reason)
        return Tuned(self._build(choice), reason, choice)

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
            self.members, most, self.judged, self.kind,
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

    @property
    def default_bound(self) -> str:
        """exact, or betting where answers are not right or wrong alone."""
        return "exact" if self.tune.binary and self.calibration.binary else "betting"

    def certified(
        self,
        epsilon: float | Sequence[float],
        delta: float,
        bound: str = "exact",
        take: float | None = None,
    ) -> Tuned:
        """The cheapest policy promised to be at most `epsilon` below the reference.

        Policies of rising cost are found on the tuning images. Each of them with each drop is
        one hypothesis, and all are put in an order by the tuning images alone. On the
        calibration images they are tested in that order, each at the whole delta, until the
        first failure. Since the order was fixed before, the promises of all that passed hold
        together with probability at least 1 - delta, whichever of them is taken (fixed sequence
        testing, `certificate.first_failure`).

        Parameters
        ----------
        epsilon : a drop, or several that are to hold together
        take : of which drop the policy is wanted; the smallest that is certified when left out
        """
        drops = checked_drops(epsilon, delta, bound, take)
        if bound != "betting" and not (self.tune.binary and self.calibration.binary):
            raise InputError(
                f"the {bound} bound is for answers that are right or wrong, and "
                f"{quality_words(self.tune.quality_name)} lies between 0 and 1 too; take the "
                "betting bound (--bound betting)"
            )
        if not len(self.calibration):
            raise InputError("no images calibrate; give a split with a calibration part")
        if self._tried is None:
            self._tried = self._ladder()
        tried = self._tried
        family = self._family(tried, drops, bound)
        passed = first_failure([one.p_value for one in family], delta)
        details = {
            "tested_in_order": [
                {
                    "policy": one.policy.kind,
                    "candidates": list(one.policy.candidates),
                    "drop": one.drop,
                    "cost": one.cost,
                    "p_value_tuning": one.before,
                    "p_value": one.p_value,
                    "losses": one.counts.losses,
                    "gains": one.counts.gains,
                }
                for one in family
            ]
        }
        held = {one.drop for one in family[:passed]}
        wanted = take if take is not None else min(held, default=max(drops))
        own = [one for one in family[:passed] if one.drop == wanted]
        summary = summary_of(drops, family[:passed])
        if not own:
            first = next(one for one in family if one.drop == wanted)
            return self._infeasible(first, delta, bound, summary, details)
        chosen = min(own, key=lambda one: one.cost)
        certificate = Certificate(
            self.reference,
            wanted,
            delta,
            bound,
            chosen.counts.images,
            chosen.counts.losses,
            chosen.counts.gains,
            chosen.p_value,
            bound_on_drop(chosen.counts, delta, bound),
            self.seed,
            len(family),
            self._disagreements(chosen.policy),
            drops if len(drops) > 1 else (),
            board=dict(self.tune.meta.get("board") or {}),
            conditions=self._conditions(),
            quality=self.tune.quality_name,
        )
        reason = (
            f"{summary}cheapest of the {len(own)} certified policies out of {len(tried)}: mean "
            f"cost {chosen.cost:.4g}, {self.cost[self.reference] / chosen.cost:.2f} times less "
            f"than {self.reference}'s; {chosen.tuned.reason}"
        )
        return Tuned(chosen.policy, reason, chosen.tuned.choice, certificate, None, details)

    def _family(
        self, tried: Sequence[Tuned], drops: Sequence[float], bound: str
    ) -> list[Hypothesis]:
        """Every policy with every drop, in the order in which they are tested."""
        p_value = P_VALUES[bound]
        seen = [self._counts(tuned.policy, self.tune) for tuned in tried]  # type: ignore[arg-type]
        found = [self._counts(t.policy, self.calibration) for t in tried]  # type: ignore[arg-type]
        family = [
            Hypothesis(tuned, drop, p_value(before, drop), before, p_value(counts, drop), counts)
            for tuned, before, counts in zip(tried, seen, found)
            for drop in drops
        ]
        return in_order(family, drops)

    def abstaining(self, tuned: Tuned, below: float) -> Tuned:
        """The same policy, with no answer where its score is below `below`; says what is left.

        Nothing else changes: who is asked, and what a promise counts, which is the best guess.
        """
        assert tuned.policy is not None
        policy = replace(tuned.policy, abstain_below=below)
        done = self._replayed(policy, self.tune)
        kept = ~done.abstained
        right = ""
        if kept.any():
            mean = f"{100 * done.quality[kept].mean():.2f}%"
            words = quality_words(self.tune.quality_name)
            right = f", {mean} of them right" if self.tune.of_classes else f", mean {words} {mean}"
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
        return Counts.of(table.quality(self.reference), self._replayed(policy, table).quality)

    def _replayed(self, policy: Policy, table: OutcomeTable) -> Replay:
        chances = None
        if policy.needs_features and table is self.tune and self.judged is not None:
            where = [self.tune.candidates.index(n) for n in policy.candidates]
            chances = self.judged.numbers(where, policy.needs_traits)
        return replay(policy, table, chances=chances)

    def _conditions(self) -> ConditionShares | None:
        """How many calibration images are of each of the premodel's conditions."""
        if self.premodel is None or not self.premodel.conditions:
            return None
        X = self.calibration.feature_columns(self.premodel.features, self.premodel.own_features)
        return count_conditions(self.premodel, X)

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
        gains: tuple[Gain, ...] = ()
        if trial.learned:
            key = (trial.family, trial.path, trial.told, trial.follows)
            if key not in self._learned:
                self._learned[key] = learn_gains(
                    trial, self.tune, self.members, self.premodel, self.judged
                )
            learned = self._learned[key]
            charge = self.charge if trial.kind == "hybrid" else 0.0
            gains = learned.gains(learned.price(trial.cost - charge, own=True))
        return build_policy(
            trial, self.tune, self.members, self.premodel, self.judged, upper_ms, gains
        )

    def _infeasible(
        self, first: Hypothesis, delta: float, bound: str, summary: str, details: Mapping[str, Any]
    ) -> Tuned:
        counts, seen = first.counts, first.seen
        images = counts.images + seen.images
        if counts.differences is not None and seen.differences is not None:
            both = np.concatenate([counts.differences, seen.differences])
            lost, gained = counts.losses + seen.losses, counts.gains + seen.gains
            needed = graded_images_needed(Counts(images, lost, gained, both), first.drop, delta)
        else:
            needed = images_needed(
                (counts.losses + seen.losses) / images,
                (counts.gains + seen.gains) / images,
                first.drop,
                delta,
                bound,
            )
        kind = "in sum" if counts.graded else "images"
        reason = (
            f"{summary}infeasible: on {counts.images} calibration images the most promising "
            f"policy lost {counts.losses:.6g} and gained {counts.gains:.6g} {kind} against "
            f"{self.reference}, which does not show a drop of at most {points(first.drop)} at "
            f"{100 * (1 - delta):.12g}% confidence"
        )
        if needed is None:
            reason += "; at these rates no number of images would"
        elif needed > counts.images:
            reason += f"; {self._more(needed - counts.images)}"
        else:
            reason += "; the tuning images promised more, so a few more images may do"
        return Tuned(None, reason, first.tuned.choice, None, needed, details)

    def _more(self, images: int) -> str:
        """How many more images are needed, and of which part."""
        said = f"about {images:,} more calibration images would be needed"
        share = self.split.calibrate
        if 0 < share < 1:
            said += (
                f", which at this split ({100 * share:g}% calibrate) takes about "
                f"{math.ceil(images / share):,} more labelled images in all"
            )
        return said


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
    outcomes = table.right_or_wrong(premodel.candidates)
    fold = np.random.default_rng(seed).permutation(len(X)) % FOLDS
    chances = np.empty((len(X), len(premodel.candidates)))
    for part in range(FOLDS):
        twin = premodel.relearned(X[fold != part], outcomes[fold != part])
        chances[fold == part] = twin.predict(X[fold == part])
    return chances
