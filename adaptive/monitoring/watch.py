"""Shows every decision to those who watch, after audits have found out what else there is."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any, Callable, Sequence

from adaptive.bundle import Bundle
from adaptive.limits import Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import (
    Decision,
    DecisionLog,
    Observer,
    Outcome,
    bundle_hash,
    policy_hash,
)
from adaptive.monitoring.drift import Monitor
from adaptive.photo import Photo
from adaptive.policy.base import Policy
from adaptive.prediction import Prediction
from adaptive.running import Networks

log = logging.getLogger("adaptive.monitoring.watch")


class Watch:
    """Audits a share of the answered photos and hands decisions to observers.

    Parameters
    ----------
    bundle, policy : what answers
    networks : run the audits
    feature_names : what an audit of all computes
    extract : gives photos with their features
    """

    def __init__(
        self,
        bundle: Bundle,
        policy: Policy,
        networks: Networks,
        feature_names: tuple[str, ...],
        extract: Callable[[Sequence[Photo]], Sequence[Photo]],
        audit: Audit | None,
        observers: Sequence[Observer],
    ) -> None:
        from adaptive.features.schema import SCHEMA

        self.audit = audit
        self.observers = tuple(observers)
        self.audited = () if audit is None else audit.names(bundle)
        self._reference = bundle.reference
        self._after = {c.name: c.after for c in bundle.candidates}
        self._networks = networks
        self._names = feature_names
        self._extract = extract
        self._hashes = (policy_hash(policy), bundle_hash(bundle))
        self._schema = SCHEMA.version
        self._complained: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Show decisions to one more observer."""
        self.observers = (*self.observers, observer)

    @property
    def drift(self) -> Monitor | None:
        """What watches for drift, or None."""
        return next((o for o in self.observers if isinstance(o, Monitor)), None)

    def status(self) -> dict[str, Any]:
        """Where audits, drift, log and board stand, as JSON values; None for what there is not."""
        from adaptive.jetson.watch import BoardWatch

        written = next((o for o in self.observers if isinstance(o, DecisionLog)), None)
        board = next((o for o in self.observers if isinstance(o, BoardWatch)), None)
        parts = {"audit": self.audit, "drift": self.drift, "log": written, "board": board}
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
        limits: Limits,
        request_id: str | None = None,
    ) -> None:
        """Audit what is to be audited, and show all decisions. Raises nothing of its own."""
        if self.audit is None and not self.observers:
            return
        ran = [frozenset(photo.done) for photo in photos]
        wanted = [self.audit is not None and self.audit.wants() for _ in photos]
        seen = list(photos)
        chosen = [row for row, w in enumerate(wanted) if w]
        audited = self._run([photos[row] for row in chosen], [answers[row] for row in chosen])
        for row, photo in zip(chosen, audited):
            seen[row] = photo
        for row, (photo, answer) in enumerate(zip(seen, answers)):
            outcomes = {
                name: Outcome(
                    output.probabilities[0],  # type: ignore[index]
                    photo.ms[name],
                    self._after[name],
                    name not in ran[row],
                    photo.together[name],
                )
                for name, output in photo.done.items()
            }
            features = None
            if photo.features is not None:
                features = dict(zip(self._names, map(float, photo.features)))
            decision = Decision(
                answer,
                outcomes,
                features,
                photo.ms["features"] if features else None,
                self._schema if features else None,
                self.audit.scope if self.audit is not None and wanted[row] else None,
                self._reference,
                *self._hashes,
                limits.rows(row),
                request_id,
            )
            if self.audit is not None and decision.disagrees is not None:
                self.audit.count(decision.disagrees)
            self._hand_out(decision)

    def _run(self, photos: Sequence[Photo], answers: Sequence[Prediction]) -> Sequence[Photo]:
        """Photos that are answered, after an audit's networks ran on them too.

        Nothing may hurt the answers: where something fails, the photos are what they were.
        """
        if not photos or self.audit is None:
            return photos
        began = perf_counter()
        try:
            photos = self._audited(photos)
        except Exception as error:
            self.audit.failed(error)
        spent = (perf_counter() - began) * 1e3 / len(photos)
        for answer in answers:
            answer.ms["audit"] = spent
        return photos

    def _audited(self, photos: Sequence[Photo]) -> Sequence[Photo]:
        for name in self.audited:
            photos = self._networks.run(name, photos).photos
        found = []
        for photo in photos:
            # An exit's time is its increment, which tells nothing without those before it.
            for name in {m for n in photo.done for m in self._networks.chains[n]}:
                ((photo,), _) = self._networks.run(name, [photo])
            found.append(photo)
        if self.audit is None or self.audit.scope != "all" or not self._names:
            return found
        bare = [row for row, photo in enumerate(found) if photo.features is None]
        for row, photo in zip(bare, self._extract([found[row] for row in bare])):
            found[row] = photo
        return found

    def _hand_out(self, decision: Decision) -> None:
        for observer in self.observers:
            try:
                observer.observe(decision)
            except Exception:
                if id(observer) not in self._complained:
                    self._complained.add(id(observer))
                    log.exception("%r failed on a decision; the request was answered", observer)
