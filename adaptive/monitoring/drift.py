"""Drift: whether live answers differ from the reference's more often than calibration allows.

On audited requests the policy's answer is compared with the reference's: the answer that it gives
without limits. Calibration knows of none, and whoever sends them could raise an alarm at will. The
monitor tests, after each, the hypothesis that at every audit the chance of a disagreement is at
most `bound`, the upper confidence bound of the calibration images' disagreement rate.

The evidence is that of `adaptive.monitoring.betting`, with X_t = 1 for a disagreement.
"""

from __future__ import annotations

import logging
import math
import threading
from typing import Any, Mapping

import numpy as np

from adaptive.checks import number
from adaptive.errors import InputError
from adaptive.files import Fields, check_format
from adaptive.monitoring.betting import ODDS, Capital, factors, rate_bound
from adaptive.monitoring.decisions import Decision

log = logging.getLogger("adaptive.monitoring.drift")

FORMAT = 1

#: Confidence of the bound on the calibration images' rate.
CONFIDENCE = 0.99

#: Weight of a new audit in the recent rate.
_RECENT = 0.02


class Monitor:
    """Watches the disagreement rate of audited requests, and alarms when it has risen.

    Parameters
    ----------
    bound : disagreement rate, above 0 and below 1, that is no cause for alarm
    alpha : probability that the alarm is ever raised while the rate stays within the bound,
        over unlimited time and looked at after every audit

    Attributes
    ----------
    audits, disagreements : counts so far
    alarm : whether the e-value has ever reached 1 / alpha; stays until `reset`
    alarm_at : the number of audits when it did, or None
    """

    name = "drift"

    def __init__(self, bound: float, alpha: float = 0.01) -> None:
        self.bound = bound = number(bound, "a disagreement rate of")
        self.alpha = alpha = number(alpha, "alpha")
        if not 0 < bound < 1:
            raise InputError(f"a disagreement rate of {bound} is not between 0 and 1")
        if not 0 < alpha < 1:
            raise InputError(f"alpha {alpha} is not between 0 and 1")
        self._factors = factors(bound)
        self._lock = threading.Lock()
        self.reset()

    @classmethod
    def from_calibration(
        cls, images: int, disagreements: int, alpha: float = 0.01, confidence: float = CONFIDENCE
    ) -> Monitor:
        """Watch for more disagreements than calibration had.

        The bound is the exact upper confidence bound of Clopper and Pearson 1934, so that the
        alarm is false with probability at most alpha + (1 - confidence), over the draw of the
        calibration images and of all audits to come.

        Parameters
        ----------
        images, disagreements : calibration images, and on how many of them the policy's answer
            was another one than the reference's, no answer included
        """
        return cls(rate_bound(images, disagreements, confidence), alpha)

    def __repr__(self) -> str:
        return (
            f"Monitor(bound={self.bound:.4g}, alpha={self.alpha:g}, {self.disagreements} of "
            f"{self.audits} audits disagree{', ALARM' if self.alarm else ''})"
        )

    def reset(self) -> None:
        """Forget all audits, and the alarm."""
        with self._lock:
            self.audits = 0
            self.disagreements = 0
            self.alarm_at: int | None = None
            self.recent = 0.0
            self._capital = Capital(len(ODDS))

    @property
    def alarm(self) -> bool:
        """Whether the rate has risen above the bound, as far as alpha allows to say so."""
        return self.alarm_at is not None

    @property
    def rate(self) -> float | None:
        """Share of all audits that disagreed; None before the first."""
        return self.disagreements / self.audits if self.audits else None

    @property
    def e_value(self) -> float:
        """Evidence against "the rate is within the bound" as it stands; 1 is none."""
        return math.exp(min(self._capital.log_e, 700.0))

    def observe(self, decision: Decision) -> None:
        """Take in a decision; one that was not audited tells nothing."""
        departs = decision.departs
        if departs is not None:
            self.update(departs)

    def update(self, disagrees: bool) -> bool:
        """Take in one audit, and return whether there is an alarm."""
        with self._lock:
            self.audits += 1
            self.disagreements += bool(disagrees)
            weight = max(_RECENT, 1 / self.audits)
            self.recent += weight * (bool(disagrees) - self.recent)
            self._capital.update(self._factors[int(bool(disagrees))])
            raised = not self.alarm and self._capital.log_e >= -math.log(self.alpha)
            if raised:
                self.alarm_at = self.audits
        if raised:
            log.warning(
                "drift: answers differ from the reference's more often than the %.2f %% that "
                "calibration allows: %.1f %% of the last audits, %.1f %% of all %d",
                100 * self.bound,
                100 * self.recent,
                100 * self.disagreements / self.audits,
                self.audits,
            )
        return self.alarm

    def status(self) -> dict[str, Any]:
        """Where the monitor stands, as JSON values."""
        with self._lock:
            return {
                "bound": self.bound,
                "alpha": self.alpha,
                "audits": self.audits,
                "disagreements": self.disagreements,
                "rate": self.rate,
                "recent": self.recent if self.audits else None,
                "e_value": self.e_value,
                "alarm": self.alarm,
                "alarm_at": self.alarm_at,
            }

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs to go on, so that a restart is no fresh chance of an error."""
        with self._lock:
            return {
                "format": FORMAT,
                "bound": self.bound,
                "alpha": self.alpha,
                "audits": self.audits,
                "disagreements": self.disagreements,
                "recent": self.recent,
                "alarm_at": self.alarm_at,
                "log_capital": self._capital.logs.tolist() if self.audits else [],
            }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str = "the drift state") -> Monitor:
        """A monitor that goes on where another one stood; raises as `restore` does."""
        fields = Fields(dict(values), where)
        monitor = cls(fields.get("bound", float), fields.get("alpha", float))
        monitor.restore(values, where)
        return monitor

    def restore(self, values: Mapping[str, Any], where: str = "the drift state") -> None:
        """Go on from what `to_json` gave, of a monitor with the same bound and alpha.

        Raises
        ------
        BundleError, InputError
            for values that are no such state.
        """
        fields = Fields(dict(values), where)
        check_format(fields, FORMAT)
        made_for = (fields.get("bound", float), fields.get("alpha", float))
        if made_for != (self.bound, self.alpha):
            raise InputError(
                f"{where} is for the bound {made_for[0]:g} and alpha {made_for[1]:g}, not for "
                f"{self.bound:g} and {self.alpha:g}"
            )
        audits, count = fields.get("audits", int), fields.get("disagreements", int)
        if not 0 <= count <= audits:
            raise InputError(f"{where} has {count} disagreements in {audits} audits")
        capital = fields.numbers("log_capital")
        if len(capital) != (len(ODDS) if audits else 0):
            raise InputError(f"{where} has {len(capital)} bets, not {len(ODDS)}")
        recent = fields.get("recent", float)
        alarm_at = fields.get("alarm_at", int, default=None)
        self.reset()
        with self._lock:
            self.audits, self.disagreements = audits, count
            self.recent, self.alarm_at = recent, alarm_at
            if audits:
                self._capital.logs, self._capital.seen = np.array(capital), audits


def monitor_of(certificate: Mapping[str, Any] | None) -> Monitor | None:
    """The monitor for a policy with this certificate; None where that counts no disagreements."""
    if not certificate or certificate.get("disagreements") is None:
        return None
    fields = Fields(dict(certificate), "the certificate")
    images, count = fields.get("images", int), fields.get("disagreements", int)
    bound = rate_bound(images, count, CONFIDENCE)
    return Monitor(bound) if bound < 1 else None
