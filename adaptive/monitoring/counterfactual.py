"""Another policy on a log's audited requests: how often it would have agreed, at what cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adaptive.candidate import positions
from adaptive.errors import InputError
from adaptive.evaluation.replay import replay
from adaptive.intervals import Estimate, mean, share
from adaptive.monitoring.logged import Audited, Logged
from adaptive.policy.base import Policy


@dataclass(frozen=True)
class Counterfactual:
    """What a policy would have done with a log's audited requests.

    Attributes
    ----------
    rows : audited requests that were looked at
    usable : of them, those that hold every outcome that the policy asks for
    agreement : share of the rows on which it gives the reference's answer. With its 95% interval
        where every row is usable; else from the smallest to the largest share that the rows
        allow, since which of them are usable depends on the images.
    shares : of the rows that each candidate answers, in the same way
    ms : mean time, over the usable rows alone; decoding left out
    served_agreement, served_ms : of the answers that were given to these requests
    gain : agreement minus the served one, paired; None where not every row is usable
    """

    logged: Logged
    policy: Policy
    rows: int
    usable: int
    agreement: Estimate
    shares: dict[str, Estimate]
    ms: Estimate | None
    served_agreement: Estimate
    served_ms: Estimate
    gain: Estimate | None

    @property
    def complete(self) -> bool:
        """Whether every row is usable, so that the numbers speak for all requests."""
        return self.usable == self.rows

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "decisions": self.logged.decisions,
            "audited": dict(self.logged.audited),
            "unreadable": self.logged.unreadable,
            "other_bundles": self.logged.elsewhere,
            "scope": self.logged.scope,
            "reference": self.logged.reference,
            "rows": self.rows,
            "usable": self.usable,
            "unbiased": self.complete,
            "agreement": self.agreement.to_json(),
            "shares": {name: value.to_json() for name, value in self.shares.items()},
            "ms": None if self.ms is None else self.ms.to_json(),
            "served_agreement": self.served_agreement.to_json(),
            "served_ms": self.served_ms.to_json(),
            "gain": None if self.gain is None else self.gain.to_json(),
        }

    def text(self) -> str:
        """Lines for a terminal."""
        log, reference = self.logged, self.logged.reference
        audited = sum(log.audited.values())
        lines = [
            f"{log.decisions} decisions; audited: "
            + ", ".join(f"{n} by {scope!r}" for scope, n in sorted(log.audited.items()))
            + f" ({_percent(audited / log.decisions)} of all)"
        ]
        if log.unreadable:
            lines.append(f"left out: {log.unreadable} lines that cannot be read")
        if log.elsewhere:
            lines.append(f"left out: {log.elsewhere} audited decisions of other bundles")
        if audited > self.rows:
            lines.append(f"left out: {audited - self.rows} audits that ran only the reference")
        lines.append(
            f"usable: {self.usable} of {self.rows} audited rows "
            f"({_percent(self.usable / self.rows)})"
        )
        if not self.complete:
            lines.append(
                "The others lack an outcome that this policy asks for, and which do depends on "
                "their images. No single number would be unbiased: shares are from the smallest "
                "to the largest that the log allows, the time is the usable rows' own. Audits of "
                "all candidates (--audit all) leave no such gap."
            )
        lines.append(f"  agrees with {reference:20} {_range(self.agreement, self.complete)}")
        lines += [
            f"  answered by {name:20} {_range(value, self.complete)}"
            for name, value in self.shares.items()
        ]
        if self.ms is not None:
            lines.append(f"  mean ms, features included       {_times(self.ms)}")
        lines.append(f"served: agrees with {reference:12} {_range(self.served_agreement, True)}")
        lines.append(f"served: mean ms                    {_times(self.served_ms)}")
        if self.gain is not None:
            gain = self.gain
            lines.append(
                f"agreement against served, paired: {100 * gain.value:+.2f} points "
                f"({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
            )
        return "\n".join(lines)


def counterfactual(policy: Policy, logged: Logged, premodel_ms: float = 0.0) -> Counterfactual:
    """Replay `policy` on a log's audited requests.

    Raises
    ------
    InputError
        when the log holds nothing of a candidate, of the features or of the probabilities that
        the policy needs.
    """
    premodel = policy.premodel if policy.needs_features else None
    features = () if premodel is None else tuple(premodel.features)
    schema = None if premodel is None else premodel.schema_version
    table, known = logged.table(features, schema)
    positions(policy.candidates, table.outcomes, "the log's audited decisions")
    if not known.features.any():
        whose = "of your own" if schema is None else f"under schema {schema}"
        raise InputError(
            f"no audited decision holds the features {list(features)} {whose}; audits of "
            "all candidates (--audit all) compute the features of the bundle's premodel"
        )
    answers = known.outcomes
    if policy.needs_probabilities:
        answers = known.probabilities
        if not table.probabilities:
            raise InputError("this policy needs probabilities, and the log holds none")
    there = np.stack([answers[name] for name in policy.candidates], axis=1)
    # A walk is right up to the first candidate that never ran, and that one shows in `ran`.
    done = replay(policy, table, premodel_ms=premodel_ms)
    usable = known.features & ~(done.ran & ~there).any(axis=1)

    rows = len(logged.rows)
    missing = rows - int(usable.sum())
    # Where it abstains with a guess the guess counts, as in audits and certificates.
    told = done
    if policy.abstain_below is not None:
        guessing = replace(policy, abstain_below=None)
        told = replay(guessing, table, premodel_ms=premodel_ms)
    agrees = np.where(usable, told.quality, False) if table.binary else told.quality * usable
    shares = {
        name: _share(usable & (done.candidate == position), missing, rows)
        for position, name in enumerate(policy.candidates)
    }
    if (usable & done.abstained).any():
        shares["no answer"] = _share(usable & done.abstained, missing, rows)
    compared = [row for row in logged.rows if row.reference is not None]
    served = np.array([_served(row) for row in compared])
    return Counterfactual(
        logged,
        policy,
        rows,
        rows - missing,
        _share(agrees, missing, rows),
        shares,
        mean(done.ms[usable]) if usable.any() else None,
        _share(served, 0, rows),
        mean(np.array([row.served_ms for row in compared])),
        mean(agrees.astype(float) - served) if not missing else None,
    )


def _served(row: Audited) -> bool | float:
    """What a served answer is worth beside the reference's."""
    if row.agreement is not None:
        return row.agreement
    return row.reference is not None and row.served == row.reference[1]


def _share(found: np.ndarray, missing: int, rows: int) -> Estimate:
    """A share with its interval, or with the bounds that hold whatever the missing rows are.

    Of a graded quality the mean.
    """
    if not missing:
        return share(found) if found.dtype == bool else mean(found)
    count = float(found.sum())
    return Estimate(count / rows, count / rows, (count + missing) / rows)


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _range(value: Estimate, known: bool) -> str:
    if known:
        return f"{_percent(value.value)} ({100 * value.low:.2f} to {100 * value.high:.2f})"
    return f"between {100 * value.low:.2f} and {_percent(value.high)}"


def _times(value: Estimate) -> str:
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
