"""Drift: whether live answers differ from the reference's more often than calibration allows.

On audited requests the policy's answer is compared with the reference's: the answer that it gives
without limits. Calibration knows of none, and whoever sends them could raise an alarm at will. The
monitor tests, after each, the hypothesis that at every audit the chance of a disagreement is at
most `bound`, the upper confidence bound of the calibration images' disagreement rate.

With X_t = 1 for a disagreement, a bet b in [0, 1 / bound) and any start s, the capital
prod over i = s..t of (1 + b (X_i - bound)) is in expectation at most 1 under the hypothesis
(testing by betting: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables
by betting", JRSS B 86, section 4). The e-value is the mean of that capital over a grid of bets
and a distribution over starts s, which keeps the monitor quick when the drift begins late, as in
the e-detectors of Shin, Ramdas and Rinaldo 2024, here with weights that sum to one. By Ville's
inequality it reaches 1 / alpha at any time, ever, with probability at most alpha.
"""

from __future__ import annotations

import logging
import math
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping

import numpy as np

from adaptive.checks import number
from adaptive.errors import InputError
from adaptive.files import Fields, check_format, read_json, write_json
from adaptive.monitoring.decisions import Decision

log = logging.getLogger("adaptive.monitoring.drift")

FORMAT = 1

#: Odds of a disagreement that are bet on, as multiples of the odds at the bound.
_ODDS = np.array([1.15, 1.3, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7, 10, 15, 25, 50, 100])

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
        odds = bound / (1 - bound) * _ODDS
        rates = odds / (1 + odds)
        # 1 + b (X - bound) is the likelihood ratio of these rates against the bound.
        self._log_if = (np.log((1 - rates) / (1 - bound)), np.log(rates / bound))
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
            self._log_capital = np.full(len(_ODDS), -np.inf)

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
        return math.exp(min(self._log_e(), 700.0))

    def observe(self, decision: Decision) -> None:
        """Take in a decision; one that was not audited tells nothing."""
        departs = decision.departs
        if departs is not None:
            self.update(departs)

    def update(self, disagrees: bool) -> bool:
        """Take in one audit, and return whether there is an alarm."""
        with self._lock:
            begin = _unspent(self.audits) - _unspent(self.audits + 1)
            self.audits += 1
            self.disagreements += bool(disagrees)
            weight = max(_RECENT, 1 / self.audits)
            self.recent += weight * (bool(disagrees) - self.recent)
            capital = np.logaddexp(self._log_capital, math.log(begin))
            self._log_capital = capital + self._log_if[bool(disagrees)]
            raised = not self.alarm and self._log_e() >= -math.log(self.alpha)
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

    def _log_e(self) -> float:
        top = float(self._log_capital.max())
        bets = 0.0
        if top > -math.inf:
            bets = top + math.log(float(np.mean(np.exp(self._log_capital - top))))
        else:
            bets = -math.inf
        return float(np.logaddexp(bets, math.log(_unspent(self.audits))))

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
                "log_capital": self._log_capital.tolist() if self.audits else [],
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
        if len(capital) != (len(_ODDS) if audits else 0):
            raise InputError(f"{where} has {len(capital)} bets, not {len(_ODDS)}")
        recent = fields.get("recent", float)
        alarm_at = fields.get("alarm_at", int, default=None)
        self.reset()
        with self._lock:
            self.audits, self.disagreements = audits, count
            self.recent, self.alarm_at = recent, alarm_at
            if audits:
                self._log_capital = np.array(capital)


def monitor_of(certificate: Mapping[str, Any] | None) -> Monitor | None:
    """The monitor for a policy with this certificate; None where that counts no disagreements."""
    if not certificate or certificate.get("disagreements") is None:
        return None
    fields = Fields(dict(certificate), "the certificate")
    images, count = fields.get("images", int), fields.get("disagreements", int)
    bound = rate_bound(images, count, CONFIDENCE)
    return Monitor(bound) if bound < 1 else None


@contextmanager
def resumed(monitor: Monitor | None, log_path: Path | None) -> Iterator[None]:
    """Go on from LOG.drift.json if it is this monitor's, and write it when the block ends.

    Without it each start of a server would be a fresh chance of a false alarm.
    """
    if monitor is None or log_path is None:
        yield
        return
    path = log_path.with_name(log_path.name + ".drift.json")
    if path.exists():
        try:
            monitor.restore(read_json(path, "the drift state"), path.name)
        except InputError as error:
            log.warning("drift is watched from the start: %s", error)
    try:
        yield
    finally:
        try:
            write_json(path, monitor.to_json())
        except OSError as error:
            log.error("the drift state %s cannot be written: %s", path, error.strerror)


def rate_bound(images: int, count: int, confidence: float) -> float:
    """The rate under which `count` or fewer of `images` have probability 1 - confidence.

    The upper end of the exact interval of Clopper and Pearson 1934 ("The use of confidence or
    fiducial limits illustrated in the case of the binomial", Biometrika 26).
    """
    if images < 1 or not 0 <= count <= images or not 0 < confidence < 1:
        raise InputError(
            f"no bound from {count} disagreements in {images} images at confidence {confidence}"
        )
    if count == images:
        return 1.0
    ways = np.concatenate([[0.0], np.cumsum(np.log(images - np.arange(count)))])
    ways[1:] -= np.cumsum(np.log(np.arange(1, count + 1)))
    hits = np.arange(count + 1)
    low, high = count / images, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        logs = ways + hits * math.log(rate) + (images - hits) * math.log1p(-rate)
        top = float(logs.max())
        if top + math.log(float(np.exp(logs - top).sum())) > math.log(1 - confidence):
            low = rate
        else:
            high = rate
        if high - low < 1e-12:
            break
    return high


def _unspent(audits: int) -> float:
    """Share of the starting capital that is kept for starts after so many audits.

    It falls so slowly that a start after t audits still gets about 1 / (t log(t)^2).
    """
    return 1 / (1 + math.log1p(audits))
