"""Audits: a share of the live requests on which the reference is run as well."""

from __future__ import annotations

import logging
import threading
from typing import Any

from adaptive.bundle.bundle import Bundle
from adaptive.checks import chosen, number, whole
from adaptive.errors import InputError

log = logging.getLogger("adaptive.monitoring.audit")

#: What an audit runs: only the reference, or every candidate of the bundle and the features.
SCOPES = ("reference", "all")

_WORD = (1 << 64) - 1


class Audit:
    """Which requests are audited, and how the audits turned out.

    A request is audited after its answer is decided, and the answer stays what it was. Whether
    it is audited follows from its number and the seed alone, never from the image or its answer,
    so audited requests are a fair sample of all. The audit is over before `classify` returns: an
    audited request takes longer by what the audit ran, and no other one does. That time stands
    in `Prediction.ms` under "audit"; neither "total" nor a bucket counts it.

    Parameters
    ----------
    share : share of the requests, 0..1
    scope : "reference" runs the reference, which is enough to watch for drift. "all" runs every
        candidate of the bundle, so that any other policy can be replayed on these requests
        without bias.
    seed : of the choice
    """

    def __init__(self, share: float, scope: str = "reference", seed: int = 0) -> None:
        self.share = number(share, "an audit's share")
        if not 0 <= self.share <= 1:
            raise InputError(f"an audit's share {share} is not between 0 and 1")
        self.scope = chosen(scope, "an audit's scope", SCOPES)
        self.seed = whole(seed, "an audit's seed")
        self.requests = self.audited = self.disagreements = self.failures = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Audit(share={self.share:g}, scope={self.scope!r}, seed={self.seed})"

    def names(self, bundle: Bundle) -> tuple[str, ...]:
        """The candidates that an audit runs.

        Raises
        ------
        InputError
            when the bundle has no reference.
        """
        if bundle.reference is None:
            raise InputError(
                "the bundle names no reference, so there is nothing to audit against; write "
                '"reference": "NAME" into manifest.json, of the candidates too'
            )
        return bundle.names if self.scope == "all" else (bundle.reference,)

    def wants(self) -> bool:
        """Whether the next request is audited."""
        with self._lock:
            number = self.requests
            self.requests += 1
        return _mixed(_mixed(self.seed & _WORD) ^ number) < self.share * 2.0**64

    def count(self, disagrees: bool) -> None:
        """Take in an audit: whether the answer was another one than the reference's."""
        with self._lock:
            self.audited += 1
            self.disagreements += disagrees

    def failed(self, error: Exception) -> None:
        """Take in an audit that could not be run. The first one is logged, the rest counted."""
        with self._lock:
            self.failures += 1
            first = self.failures == 1
        if first:
            log.warning("an audit failed, and its request was answered all the same: %s", error)

    def status(self) -> dict[str, Any]:
        """The audits so far, as JSON values."""
        with self._lock:
            return {
                "share": self.share,
                "scope": self.scope,
                "requests": self.requests,
                "audited": self.audited,
                "disagreements": self.disagreements,
                "failures": self.failures,
            }


def _mixed(number: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): 64 bits well stirred."""
    number = (number + 0x9E3779B97F4A7C15) & _WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)
