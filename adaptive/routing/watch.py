"""Shows every decision to those who watch, after audits have found out what else there is."""

from __future__ import annotations

import logging
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.limits import Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.conditions import ConditionMonitor
from adaptive.monitoring.decisions import (
    Decision,
    DecisionLog,
    Observer,
    Outcome,
    bundle_hash,
    policy_hash,
)
from adaptive.monitoring.drift import Monitor
from adaptive.policy.base import Policy
from adaptive.policy.walk import Walk
from adaptive.prediction import Prediction
from adaptive.routing.detecting import least_of
from adaptive.routing.judging import Judging
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks
from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import agreement

log = logging.getLogger("adaptive.routing.watch")


class _Audited(NamedTuple):
    """What an audit found out.

    Attributes
    ----------
    photo : after it
    own : the class that the policy answers without limits; None where that was not asked, or it
        has no answer
    features : by name, where the audit computed them
    """

    photo: Photo
    own: int | None
    features: dict[str, float] | None


class Watch:
    """Audits a share of the answered photos and hands decisions to observers.

    Parameters
    ----------
    bundle, policy : what answers
    networks : run the audits
    judging : computes the features, in an audit of all
    """

    def __init__(
        self,
        bundle: Bundle,
        policy: Policy,
        networks: Networks,
        judging: Judging,
        audit: Audit | None,
        observers: Sequence[Observer],
    ) -> None:
        self.audit = audit
        self.observers = tuple(observers)
        self.audited = () if audit is None else audit.names(bundle)
        self._reference = bundle.reference
        self._least = least_of(bundle)
        self._after = {c.name: c.after for c in bundle.candidates}
        self._networks = networks
        self._judging = judging
        self._hashes = (policy_hash(policy), bundle_hash(bundle))
        self._schema = None if judging.premodel is None else judging.premodel.schema_version
        self._complained: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Show decisions to one more observer."""
        self.observers = (*self.observers, observer)

    @property
    def watching(self) -> bool:
        """Whether anybody is to see decisions, or an audit may be due."""
        return self.audit is not None or bool(self.observers)

    @property
    def drift(self) -> Monitor | None:
        """What watches for drift, or None."""
        return next((o for o in self.observers if isinstance(o, Monitor)), None)

    @property
    def conditions(self) -> ConditionMonitor | None:
        """What watches the conditions that images are taken under, or None."""
        return next((o for o in self.observers if isinstance(o, ConditionMonitor)), None)

    def status(self) -> dict[str, Any]:
        """Where all that is watched stands, as JSON values; None for what there is not."""
        from adaptive.jetson.watch import BoardWatch

        written = next((o for o in self.observers if isinstance(o, DecisionLog)), None)
        board = next((o for o in self.observers if isinstance(o, BoardWatch)), None)
        parts = {
            "audit": self.audit,
            "drift": self.drift,
            "conditions": self.conditions,
            "log": written,
            "board": board,
        }
        return {name: None if part is None else part.status() for name, part in parts.items()}

    def close(self) -> None:
        """Close the log."""
        for observer in self.observers:
            if isinstance(observer, DecisionLog):
                observer.close()

    def show(
        self,
        photos: Sequence[Photo],
        answers: Sequence[Prediction],
        walk: Walk,
        limits: Limits,
        request_id: str | None = None,
        found: Sequence[Detections] = (),
    ) -> None:
        """Audit what is to be audited, and show all decisions. Raises nothing of its own.

        found : the answers in boxes, where they are that
        """
        if not self.watching:
            return
        wanted = [self.audit is not None and self.audit.wants() for _ in photos]
        audited = self._audit(photos, answers, walk, [row for row, w in enumerate(wanted) if w])
        for row, (photo, answer) in enumerate(zip(photos, answers)):
            decision = self._decision(
                photo, audited.get(row), answer, limits.rows(row), walk.limited(row), request_id
            )
            if found and row in audited:
                decision = self._compared(decision, audited[row].photo, found[row])
            if self.audit is not None and decision.disagrees is not None:
                self.audit.count(decision.disagrees)
            self._hand_out(decision)

    def _decision(
        self,
        photo: Photo,
        audited: _Audited | None,
        answer: Prediction,
        limits: Limits,
        limited: bool,
        request_id: str | None,
    ) -> Decision:
        """What was decided about a photo, and what its audit found out besides."""
        seen = photo if audited is None else audited.photo
        outcomes = {
            name: Outcome(
                output.confidence if output.probabilities is None else output.probabilities[0],
                seen.ms[name],
                self._after[name],
                name not in photo.done,
                seen.together[name],
            )
            for name, output in seen.done.items()
        }
        features = answer.features
        if audited is not None and audited.features is not None:
            features = audited.features
        return Decision(
            answer,
            outcomes,
            features,
            seen.ms["features"] if features else None,
            self._schema if features else None,
            None if audited is None or self.audit is None else self.audit.scope,
            self._reference,
            *self._hashes,
            limits,
            request_id,
            limited,
            None if audited is None else audited.own,
        )

    def _compared(self, decision: Decision, photo: Photo, found: Detections) -> Decision:
        """An audited decision in boxes, held against the reference's: what is worth how much."""
        shown = {
            name: output.boxes[0].above(self._least[name])
            for name, output in photo.done.items()
            if output.boxes is not None
        }
        if self._reference not in shown:
            return decision
        true = shown[self._reference]
        outcomes = {
            name: replace(outcome, agreement=agreement(true, shown[name]))
            for name, outcome in decision.outcomes.items()
        }
        return replace(decision, outcomes=outcomes, agreement=agreement(true, found))

    def _audit(
        self,
        photos: Sequence[Photo],
        answers: Sequence[Prediction],
        walk: Walk,
        rows: Sequence[int],
    ) -> dict[int, _Audited]:
        """The audits of some of the photos, by row; one that failed is not among them.

        Nothing may hurt the answers. An audit that failed counts nothing, not even where the
        reference had run before, since that one runs where images are hard.
        """
        if not rows or self.audit is None:
            return {}
        began = perf_counter()
        found: dict[int, _Audited] = {}
        try:
            found = self._audited(photos, answers, walk, rows)
        except Exception as error:
            if len(rows) == 1:
                self.audit.failed(error)
            else:  # one of them is to blame, and the others are audited all the same
                for row in rows:
                    found.update(self._audit(photos, answers, walk, [row]))
        spent = (perf_counter() - began) * 1e3 / len(rows)
        for row in rows:
            answers[row].ms["audit"] = spent
        return found

    def _audited(
        self,
        photos: Sequence[Photo],
        answers: Sequence[Prediction],
        walk: Walk,
        rows: Sequence[int],
    ) -> dict[int, _Audited]:
        """Run an audit's networks on photos that are answered."""
        chosen = [photos[row] for row in rows]
        for name in self.audited:
            chosen = self._networks.run(name, chosen).photos
        wanted = self.conditions is not None or (
            self.audit is not None and self.audit.scope == "all"
        )
        names = self._judging.names if wanted else ()
        found = {}
        for row, photo in zip(rows, chosen):
            # An exit's time is its increment, which tells nothing without those before it.
            for name in {m for n in photo.done for m in self._networks.chains[n]}:
                ((photo,), _) = self._networks.run(name, [photo])
            own = features = None
            if walk.limited(row) and not self._least:  # whose answers are classes
                photo, own = self._own(photo, walk, row)
            if names and answers[row].features is None:
                (photo,), (values,) = self._judging.describe([photo])
                features = dict(zip(names, values.tolist()))
            found[row] = _Audited(photo, own, features)
        return found

    def _own(self, photo: Photo, walk: Walk, row: int) -> tuple[Photo, int | None]:
        """What the policy answers to a photo without limits; networks that it lacks are run."""
        chances = None if walk.chances is None else walk.chances[row : row + 1]
        start = None if walk.preference else np.array([walk.wanted_start(row)])
        own = Walk(walk.policy, 1, chances, start=start)
        while (step := own.wanted) is not None:
            name = walk.policy.candidates[step.candidate]
            ((photo,), output) = self._networks.run(name, [photo])
            own.feed(step, output)
        (route,) = own.routes
        if not route.path:
            return photo, None
        values = route.probabilities
        if values is None:
            values = route.outputs[-1].probabilities
        return photo, int(np.argmax(values[0]))  # type: ignore[index]

    def _hand_out(self, decision: Decision) -> None:
        for observer in self.observers:
            try:
                observer.observe(decision)
            except Exception:
                if id(observer) not in self._complained:
                    self._complained.add(id(observer))
                    log.exception("%r failed on a decision; the request was answered", observer)
