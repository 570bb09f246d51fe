"""Decisions as they were made, for whoever watches, and a log of them as JSON lines."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import logging
import math
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol

import numpy as np

from adaptive.bundle.bundle import Bundle, candidate_to_json
from adaptive.checks import shown, whole
from adaptive.errors import InputError
from adaptive.limits import Limits
from adaptive.policy.base import Policy
from adaptive.policy.files import policy_to_json
from adaptive.prediction import Prediction

log = logging.getLogger("adaptive.monitoring.decisions")

FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """What one candidate said of an image.

    Attributes
    ----------
    probabilities : ndarray (classes,)
    ms : its own preprocessing plus its run; the increment after `after` for an exit
    audit : whether it ran only for an audit
    together : on how many images it ran at once; `ms` is this one's share of that
    agreement : of boxes in an audit, F1 against the reference's; None otherwise
    """

    probabilities: np.ndarray = field(repr=False)
    ms: float
    after: str | None = None
    audit: bool = False
    together: int = 1
    agreement: float | None = None

    @property
    def index(self) -> int:
        """Its answer; of equals the lower index."""
        return int(np.argmax(self.probabilities))

    @property
    def confidence(self) -> float:
        """The highest probability."""
        return float(np.max(self.probabilities))


@dataclass(frozen=True)
class Decision:
    """One answered request, with all that was found out about it.

    Attributes
    ----------
    prediction : the answer
    outcomes : every candidate that ran, by name
    features : by name, where they were computed, for the answer or for an audit
    features_ms, schema : what they took, and the version of their schema; None for a user's own
    audit : the scope of the audit, or None where the request was not audited
    reference : name of the candidate that an audit compares with
    policy, bundle : what was asked, see `policy_hash` and `bundle_hash`
    limited : whether limits, a bucket or a preference may have changed the answer
    own : index of what an audited policy answers without them; None where it abstains
    agreement : of an audited answer in boxes, its F1 against the reference's; None otherwise
    """

    prediction: Prediction
    outcomes: Mapping[str, Outcome]
    features: Mapping[str, float] | None = None
    features_ms: float | None = None
    schema: int | None = None
    audit: str | None = None
    reference: str | None = None
    policy: str = ""
    bundle: str = ""
    limits: Limits = field(default_factory=Limits)
    request_id: str | None = None
    limited: bool = False
    own: int | None = None
    agreement: float | None = None

    @property
    def disagrees(self) -> bool | None:
        """Whether an audited answer is another one than the reference's; None where unknown.

        Where the policy abstained with a guess, that is compared, as a certificate counts it;
        without one it disagrees with every answer. A reference that ran without an audit does not
        count: it runs where images are hard. Boxes are other ones where their F1 against the
        reference's is below 1.
        """
        if self.agreement is not None:
            return self.agreement < 1
        answer = None if self.reference is None else self.outcomes.get(self.reference)
        if self.audit is None or answer is None:
            return None
        said = self.prediction.index
        return (self.prediction.guess if said is None else said) != answer.index

    @property
    def departs(self) -> bool | None:
        """Whether the policy by itself gives an audited image another answer than the reference.

        Unlike `disagrees` it does not depend on what the request allowed, or a bucket, so that
        it tells of the policy that was calibrated. None where it is unknown.
        """
        if self.disagrees is None or not self.limited:
            return self.disagrees
        if self.agreement is not None:  # what boxes it would have found is not asked
            return None
        assert self.reference is not None
        return self.own != self.outcomes[self.reference].index

    def to_json(self, probabilities: bool = False) -> dict[str, Any]:
        """As plain JSON values; with `probabilities` also those, in 16 bits and base64."""
        answer = self.prediction
        line: dict[str, Any] = {
            "format": FORMAT,
            "request": self.request_id,
            "policy": self.policy,
            "bundle": self.bundle,
            "label": answer.label,
            "index": answer.index,
            "guess": answer.guess,
            "score": _number(answer.score),
            "candidate": answer.candidate,
            "path": list(answer.path),
            "outcomes": {n: _outcome(o, probabilities) for n, o in self.outcomes.items()},
            "features": _numbers(self.features),
            "features_ms": None if self.features_ms is None else round(self.features_ms, 4),
            "schema": self.schema,
            "chances": _numbers(answer.votes),
            "ms": {step: round(ms, 4) for step, ms in answer.ms.items()},
            "limits": _limits(self.limits),
            "audit": self.audit,
            "reference": None,
        }
        if self.agreement is not None:
            line["agreement"] = round(self.agreement, 6)
        if self.disagrees is not None and self.reference is not None:
            line["reference"] = {
                "name": self.reference,
                "index": self.outcomes[self.reference].index,
            }
        return line


class Observer(Protocol):
    """Whoever is shown every decision. Called from the threads that answer, several at once."""

    def observe(self, decision: Decision) -> None:
        """Take in one decision. What this raises is logged, and the request is answered."""


class DecisionLog:
    """Every decision as one JSON line, appended to a file that is rotated by size.

    A line is one write to the end of the file, so lines from several threads do not mix. When a
    write fails, because the disk is full, say, the line is lost and counted, the first failure
    is logged, and serving goes on. Lines are not synced: a power cut may lose the last ones, and
    half a line, which readers leave out.

    Parameters
    ----------
    path : the newest file; older ones are PATH.1 (newer) to PATH.{keep - 1} (oldest)
    max_bytes : a file is rotated before it grows longer than this
    keep : number of files in all; the oldest is deleted
    probabilities : keep the probabilities of audited requests, 2.7 bytes a class and candidate,
        so that policies that average or look at margins can be replayed
    clock : seconds since 1970

    Raises
    ------
    InputError
        when the file cannot be opened, or another process writes to it.
    """

    name = "log"

    def __init__(
        self,
        path: str | Path,
        max_bytes: int = 64_000_000,
        keep: int = 4,
        probabilities: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(f"the decision log {shown(path)} is no path")
        self.path = Path(path)
        self.max_bytes = whole(max_bytes, "max_bytes", 1)
        self.keep = whole(keep, "keep", 1)
        self.probabilities = probabilities
        self.written = self.failures = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._file: int | None = None
        self._size = 0
        self._torn = False
        try:
            self._open()
        except OSError as exc:
            busy = isinstance(exc, BlockingIOError)
            why = "another process writes to it" if busy else exc.strerror
            raise InputError(f"the decision log {self.path} cannot be opened: {why}") from exc

    def __repr__(self) -> str:
        return f"DecisionLog({str(self.path)!r}, {self.written} written)"

    def observe(self, decision: Decision) -> None:
        """Append one decision."""
        values = decision.to_json(self.probabilities and decision.audit is not None)
        values = {"time": round(self._clock(), 3), **values}
        text = json.dumps(values, allow_nan=False, separators=(",", ":"))
        line = text.encode("ascii") + b"\n"
        with self._lock:
            if self._closed:
                return
            try:
                self._append(line)
                self.written += 1
                return
            except OSError as exc:
                failure = exc
                self.failures += 1
                first = self.failures == 1
        if first:
            log.error(
                "the decision log %s cannot be written, and lines are lost while serving goes "
                "on: %s",
                self.path,
                failure.strerror,
            )

    def _append(self, line: bytes) -> None:
        if self._file is None or (self._size and self._size + len(line) > self.max_bytes):
            self._rotate()
        assert self._file is not None
        if self._torn:
            line = b"\n" + line
        written = os.write(self._file, line)
        self._size += written
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, "only a part of a line could be written")

    def _rotate(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            if self.keep == 1:
                self.path.unlink()
        if self.path.exists():
            for number in range(self.keep - 2, -1, -1):
                older = numbered(self.path, number)
                if older.exists():
                    os.replace(older, numbered(self.path, number + 1))
        self._open()

    def _open(self) -> None:
        self._file = _locked(self.path)
        self._size = os.fstat(self._file).st_size
        # A line that a crash or a full disk cut off must not swallow the next one.
        self._torn = self._size > 0 and os.pread(self._file, 1, self._size - 1) != b"\n"

    def status(self) -> dict[str, Any]:
        """Lines written and lost, as JSON values."""
        return {"path": str(self.path), "written": self.written, "failures": self.failures}

    def close(self) -> None:
        """Close the file; what is shown later is not logged."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> DecisionLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def numbered(path: Path, number: int) -> Path:
    """The log's file of that age: 0 is the one that is written to."""
    return path if number == 0 else path.with_name(f"{path.name}.{number}")


def policy_hash(policy: Policy) -> str:
    """16 hexadecimal digits of what the policy and its premodel are."""
    values = policy_to_json(policy)
    if policy.premodel is not None:
        premodel = policy.premodel
        values["premodel"] = [premodel.kind, list(premodel.features), premodel.training_]
    return _digest(values)


def bundle_hash(bundle: Bundle) -> str:
    """16 hexadecimal digits of what a bundle's candidates answer: networks and labels, no times."""
    candidates = [candidate_to_json(c) for c in bundle.candidates]
    for entry in candidates:
        del entry["ms"], entry["mj"]
        entry.pop("through", None)  # which answers nothing
    return _digest([candidates, list(bundle.labels), bundle.reference])


def _digest(values: object) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _locked(path: Path) -> int:
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise
    except OSError:
        pass  # a file system without locks
    return file


def _outcome(outcome: Outcome, probabilities: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "index": outcome.index,
        "confidence": _number(outcome.confidence),
        "ms": round(outcome.ms, 4),
    }
    if outcome.after is not None:
        values["after"] = outcome.after
    if outcome.audit:
        values["audit"] = True
    if outcome.together > 1:
        values["together"] = outcome.together
    if outcome.agreement is not None:
        values["agreement"] = round(outcome.agreement, 6)
    elif probabilities:
        halves = np.asarray(outcome.probabilities, "<f2").tobytes()
        values["probabilities"] = base64.b64encode(halves).decode("ascii")
    return values


def _limits(limits: Limits) -> dict[str, float] | None:
    """The limits that the request came with, None where it had none."""
    given = {
        name: float(np.min(getattr(limits, name)))
        for name in ("remaining_ms", "remaining_mj", "preference", "allowance_ms")
    }
    kept = {n: v for n, v in given.items() if math.isfinite(v) and (n != "preference" or v)}
    return kept or None


def _numbers(values: Mapping[str, float] | None) -> dict[str, float | None] | None:
    return None if values is None else {name: _number(value) for name, value in values.items()}


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
