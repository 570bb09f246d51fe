"""Drift by condition: whether live images are taken under conditions that calibration had not so.

Every image whose features are known counts for its most probable condition. For each condition
two hypotheses are bet against, that its chance is at any image at most the upper, and at least the
lower, 99% confidence bound of its share of the calibration images (Clopper and Pearson 1934, all
bounds together by Bonferroni); see `adaptive.monitoring.betting`. The e-value is the mean over
conditions, both directions, bets and starts, so by Ville's inequality it ever reaches 1 / alpha
with probability at most alpha while live images are as calibration's were.

No network has to run for this and no label is needed, so it tells of what may come before an
audit can see that answers have changed.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.checks import number
from adaptive.errors import InputError
from adaptive.files import Fields, check_format
from adaptive.monitoring.betting import ODDS, Capital, factors, rate_bound
from adaptive.monitoring.decisions import FORMAT as LOG_FORMAT
from adaptive.monitoring.decisions import Decision, bundle_hash, policy_hash
from adaptive.monitoring.logged import lines_of
from adaptive.policy.base import Policy
from adaptive.premodel.base import Premodel
from adaptive.premodel.shares import ConditionShares, conditions_of, known_shares

log = logging.getLogger("adaptive.monitoring.conditions")

FORMAT = 1

#: Confidence of the bounds on the calibration images' shares, all together.
CONFIDENCE = 0.99

#: Weight of a new image in the recent shares.
_RECENT = 0.01

#: More images than this are a mistake in a state.
_MOST = 1e15


@dataclass(frozen=True)
class Shift:
    """That conditions were others than in calibration, from one time to another.

    Attributes
    ----------
    since, until : seconds since 1970: when it most likely began, and when it was last seen
    counts : images of each condition between the two
    """

    since: float
    until: float
    counts: tuple[int, ...]

    @property
    def images(self) -> int:
        """How many images there were between the two."""
        return sum(self.counts)

    def risen(self, shares: ConditionShares) -> int:
        """The condition whose share has grown most."""
        own = np.array(self.counts) / self.images
        return int((own - np.array(shares.shares)).argmax())

    def words(self, shares: ConditionShares, goes_on: bool) -> str:
        """One sentence: when, which condition, its share then and in calibration."""
        condition = self.risen(shares)
        now = f"{100 * self.counts[condition] / self.images:.0f}% of {self.images:,} images"
        looks = f'"{shares.looks[condition]}"'
        had = f"{shares.of} had {100 * shares.shares[condition]:.0f}%"
        if goes_on:
            return f"since {_moment(self.since)}, {now} are {looks}; {had}"
        return f"from {_moment(self.since)} to {_moment(self.until)}, {now} were {looks}; {had}"


class ConditionMonitor:
    """Counts live images by condition, and alarms when their shares are not calibration's.

    Its state is bounded: arrays of conditions, bets and starts, however many images come.

    Parameters
    ----------
    premodel : knows the conditions
    shares : of the images that live ones are compared with
    every : whether all decisions with features count; where the policy goes by none, only those
        of audited requests are a fair sample
    alpha : probability that the alarm is ever raised while images are as calibration's, over
        unlimited time and looked at after every image
    clock : seconds since 1970

    Attributes
    ----------
    images, counts : seen so far, in all and by condition
    alarm_at : the number of images when the e-value first reached 1 / alpha, or None
    change : what was seen when it was last that high, or None
    """

    name = "conditions"

    def __init__(
        self,
        premodel: Premodel,
        shares: ConditionShares,
        every: bool = True,
        alpha: float = 0.01,
        clock: Callable[[], float] = time.time,
    ) -> None:
        count = len(shares.counts)
        if premodel.conditions != count or count < 2:
            raise InputError(
                f"shares of {count} conditions cannot be watched with a premodel that knows "
                f"{premodel.conditions}; two or more are needed"
            )
        self.alpha = alpha = number(alpha, "alpha")
        if not 0 < alpha < 1:
            raise InputError(f"alpha {alpha} is not between 0 and 1")
        self.premodel, self.shares, self.every = premodel, shares, every
        self._clock = clock
        each = 1 - (1 - CONFIDENCE) / (2 * count)
        own = [rate_bound(shares.images, c, each) for c in shares.counts]
        others = [rate_bound(shares.images, shares.images - c, each) for c in shares.counts]
        #: lowest and highest share of each condition that is no cause for alarm
        self.bounds = tuple((1 - low, high) for low, high in zip(others, own))
        # By condition of an image: what the bets that each share is higher, and then that each
        # is lower, are multiplied by.
        rose, fell = np.stack([factors(b) for b in own]), np.stack([factors(b) for b in others])
        hit = np.eye(count, dtype=int)
        rows = np.arange(count)
        self._moves = [
            np.concatenate([rose[rows, hit[c]].ravel(), fell[rows, 1 - hit[c]].ravel()])
            for c in range(count)
        ]
        self._lock = threading.Lock()
        self.reset()

    def __repr__(self) -> str:
        return (
            f"ConditionMonitor({self.shares.words()}; {self.images} images"
            f"{', ALARM' if self.alarm else ''})"
        )

    def reset(self) -> None:
        """Forget all images, and the alarm."""
        with self._lock:
            conditions = len(self.shares.counts)
            bets = 2 * conditions * len(ODDS)
            self.images = 0
            self.counts = np.zeros(conditions, np.int64)
            self.recent = np.zeros(conditions)
            self.alarm_at: int | None = None
            self.change: Shift | None = None
            self._capital = Capital(bets)
            # Of each bet the start that pays best, and what had been counted until then.
            self._best = np.full(bets, -np.inf)
            self._since = np.zeros(bets)
            self._before = np.zeros((bets, conditions), np.int64)

    @property
    def alarm(self) -> bool:
        """Whether shares were ever others than calibration's, as far as alpha allows to say so."""
        return self.alarm_at is not None

    @property
    def e_value(self) -> float:
        """Evidence against "images are as calibration's" as it stands; 1 is none."""
        return math.exp(min(self._capital.log_e, 700.0))

    def observe(self, decision: Decision) -> None:
        """Take in a decision; one whose features are not known tells nothing."""
        features = decision.features
        if features is None or (decision.audit is None and not self.every):
            return
        if self.see(features, self._clock()):
            log.warning("images are taken under other conditions: %s", self.words())

    def see(self, features: Mapping[str, float], at: float) -> bool:
        """Take in an image by its features, and return whether it raises the alarm.

        Nothing is counted where a feature is missing.

        at : when it was taken, seconds since 1970
        """
        if any(name not in features for name in self.premodel.features):
            return False
        x = np.array([[features[name] for name in self.premodel.features]])
        return self._raised(int(conditions_of(self.premodel, x)[0]), at)

    def update(self, condition: int, at: float) -> bool:
        """Take in an image of a condition, and return whether there is an alarm."""
        self._raised(condition, at)
        return self.alarm

    def _raised(self, condition: int, at: float) -> bool:
        move = self._moves[condition]
        with self._lock:
            beginning = self._capital.beginning
            fresh = self._best < beginning
            self._best = np.where(fresh, beginning, self._best) + move
            self._since[fresh] = at
            self._before[fresh] = self.counts
            self._capital.update(move)
            self.images += 1
            self.counts[condition] += 1
            weight = max(_RECENT, 1 / self.images)
            self.recent *= 1 - weight
            self.recent[condition] += weight
            high = self._capital.log_e >= -math.log(self.alpha)
            raised = high and not self.alarm
            if raised:
                self.alarm_at = self.images
            if high:
                bet = int(self._best.argmax())
                counts = (self.counts - self._before[bet]).tolist()
                self.change = Shift(float(self._since[bet]), at, tuple(counts))
        return raised

    @property
    def goes_on(self) -> bool:
        """Whether the change still shows in the recent shares."""
        if self.change is None:
            return False
        low, high = self.bounds[self.change.risen(self.shares)]
        now = float(self.recent[self.change.risen(self.shares)])
        return self._capital.log_e >= -math.log(self.alpha) and not low <= now <= high

    def words(self) -> str:
        """One sentence: since when which condition is more common than in calibration, or none."""
        if self.change is not None:
            return self.change.words(self.shares, self.goes_on)
        if not self.images:
            return "no image has been judged by condition yet"
        return (
            f"{self.images:,} images, under conditions that are not shown to be others than "
            f"{self.shares.of} had"
        )

    def status(self) -> dict[str, Any]:
        """Where the monitor stands, as JSON values."""
        with self._lock:
            change = self.change
            live = zip(self.shares.looks, self.shares.shares, self.bounds, self.counts.tolist())
            return {
                "of": self.shares.of,
                "alpha": self.alpha,
                "images": self.images,
                "conditions": [
                    {
                        "description": looks,
                        "share": share,
                        "bounds": list(bounds),
                        "images": count,
                        "live": count / self.images if self.images else None,
                        "recent": float(recent) if self.images else None,
                    }
                    for (looks, share, bounds, count), recent in zip(live, self.recent)
                ],
                "e_value": self.e_value,
                "alarm": self.alarm,
                "alarm_at": self.alarm_at,
                "since": None if change is None else change.since,
                "until": None if change is None else change.until,
                "goes_on": self.goes_on,
                "words": self.words(),
            }

    def watches_as(self, other: ConditionMonitor | None) -> bool:
        """Whether the other one asks the same question, so that its answers count here too."""
        return other is not None and (self._asks() == other._asks())

    def _asks(self) -> dict[str, Any]:
        training = {n: v for n, v in self.premodel.training_.items() if n != "examples"}
        known = {"features": list(self.premodel.features), "training": training}
        asked = {**self.shares.to_json(), **known, "every": self.every, "alpha": self.alpha}
        return dict(json.loads(json.dumps(asked, default=str)))

    def to_json(self) -> dict[str, Any]:
        """All that `restore` needs to go on, so that a restart is no fresh chance of an error."""
        with self._lock:
            change = self.change
            seen = self.images > 0
            return {
                "format": FORMAT,
                "asks": self._asks(),
                "counts": self.counts.tolist(),
                "recent": self.recent.tolist(),
                "alarm_at": self.alarm_at,
                "change": None if change is None else [change.since, change.until, *change.counts],
                "log_capital": self._capital.logs.tolist() if seen else [],
                "best": self._best.tolist() if seen else [],
                "since": self._since.tolist() if seen else [],
                "before": self._before.ravel().tolist() if seen else [],
            }

    def restore(self, values: Mapping[str, Any], where: str = "the conditions state") -> None:
        """Go on from what `to_json` gave, of a monitor that asks the same.

        Raises
        ------
        BundleError, InputError
            for values that are no such state.
        """
        fields = Fields(dict(values), where)
        check_format(fields, FORMAT)
        if fields.get("asks", dict) != self._asks():
            raise InputError(f"{where} is of other conditions, or of other images' shares of them")
        conditions = len(self.shares.counts)
        counts = fields.numbers("counts")
        images = int(_counted(where, "counts", counts).sum())
        bets = 2 * conditions * len(ODDS) if images else 0
        lengths = {"counts": conditions, "recent": conditions, "before": bets * conditions}
        lengths.update(dict.fromkeys(("log_capital", "best", "since"), bets))
        found = {name: np.array(fields.numbers(name)) for name in lengths}
        for name, length in lengths.items():
            if len(found[name]) != length:
                raise InputError(f"{where}: {name!r} has {len(found[name])} numbers, not {length}")
        change = fields.numbers("change", default=None)
        if change is not None and len(change) != 2 + conditions:
            raise InputError(f"{where}: 'change' has {len(change)} numbers, not {2 + conditions}")
        before = _counted(where, "before", found["before"]).reshape(-1, conditions)
        if (before > found["counts"]).any() or (
            change is not None and not 1 <= _counted(where, "change", change[2:]).sum() <= images
        ):
            raise InputError(f"{where} counts other images than the {images} that it says")
        alarm_at = fields.get("alarm_at", int, default=None)
        self.reset()
        with self._lock:
            self.images, self.alarm_at = images, alarm_at
            self.counts, self.recent = found["counts"].astype(np.int64), found["recent"]
            if change is not None:
                self.change = Shift(change[0], change[1], tuple(int(c) for c in change[2:]))
            if images:
                self._capital.seen, self._capital.logs = images, found["log_capital"]
                self._best, self._since = found["best"], found["since"]
                self._before = before


def _counted(where: str, name: str, values: Any) -> np.ndarray:
    """Numbers of images, int64; an InputError where they are none."""
    found = np.asarray(values, np.float64)
    if not ((found >= 0) & (found < _MOST) & (found == np.floor(found))).all():
        raise InputError(f"{where}: {name!r} holds what is no number of images")
    return found.astype(np.int64)


def condition_monitor_of(
    bundle: Bundle, policy: Policy | None = None, clock: Callable[[], float] = time.time
) -> ConditionMonitor | None:
    """The monitor for a bundle; None where nothing is known of its images' conditions.

    policy : that is asked in place of the bundle's own
    """
    from adaptive.features.schema import SCHEMA

    asked = bundle.policy if policy is None else policy
    premodel = asked.premodel or bundle.premodel
    shares = known_shares(premodel, bundle.certificate if policy is None else None)
    if premodel is None or shares is None or len(shares.counts) < 2:
        return None
    if premodel.schema_version not in (None, SCHEMA.version):
        return None
    return ConditionMonitor(premodel, shares, asked.needs_features, clock=clock)


def conditions_in_log(path: Path, bundle: Bundle) -> ConditionMonitor | None:
    """A monitor that has seen the decisions of a log, its older files too, that this bundle made.

    None where nothing is known of the bundle's images' conditions.

    Raises
    ------
    InputError
        when the log cannot be read, or is of a newer format.
    """
    monitor = condition_monitor_of(bundle)
    if monitor is None:
        return None
    networks, policy = bundle_hash(bundle), policy_hash(bundle.policy)
    for line in lines_of(path):
        try:
            fields = Fields(json.loads(line), "a decision")
            form, at = fields.get("format", int), fields.get("time", float)
            features = fields.get("features", dict, default=None)
            ours = (fields.get("bundle", str), fields.get("schema", int, default=None))
            audited = fields.get("audit", str, default=None) is not None
            every = monitor.every and fields.get("policy", str) == policy
            if features is not None:
                features = {n: float(v) for n, v in features.items() if v is not None}
        except (InputError, ValueError, TypeError, RecursionError):
            continue  # `Logged` counts them
        if form > LOG_FORMAT:
            check_format(fields, LOG_FORMAT)
        if features is None or ours != (networks, monitor.premodel.schema_version):
            continue
        if audited or every:
            monitor.see(features, at)
    return monitor


def _moment(at: float) -> str:
    """A time as people say it, in the machine's own zone."""
    return time.strftime("%A %d %b %H:%M %Z", time.localtime(at)).strip()
