"""What a decision log tells about another policy: a replay on its audited requests.

Only audited requests are looked at. On any other, which candidates ran, and so what is known,
depends on how hard the image was, and a mean over such rows would be biased. Audits of all
candidates hold every outcome of the bundle, so a replay on them is unbiased; where a row still
lacks an outcome that the policy asks for, only bounds are given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import run_order
from adaptive.errors import InputError
from adaptive.files import Fields, check_format
from adaptive.monitoring.decisions import FORMAT, bundle_hash, numbered
from adaptive.outcomes.table import Outcomes, OutcomeTable

#: Steps of an answer's times that no policy can change.
_NOT_CHARGED = ("decode", "total", "audit")


@dataclass(frozen=True)
class LoggedAnswer:
    """What one candidate said of a logged request."""

    index: int
    confidence: float
    ms: float
    after: str | None = None
    probabilities: np.ndarray | None = field(default=None, repr=False)
    agreement: float | None = None


@dataclass(frozen=True)
class Audited:
    """One audited request.

    Attributes
    ----------
    served : index of the answer that was given, or of the best guess where the policy abstained
        from answering with it; None where there was neither
    served_ms : what that cost, decoding left out
    reference : the reference and the index of its answer, None where the audit failed
    answers : by candidate
    features, features_ms, schema : as in `Decision`
    decode_ms : what decoding took
    name : of its own, from the content of its line, so the same line always bears the same one
    time : seconds since 1970
    together : whether a candidate ran on several images at once
    agreement : of answers in boxes, F1 of the served one against the reference's
    """

    served: int | None
    served_ms: float
    reference: tuple[str, int] | None
    answers: dict[str, LoggedAnswer]
    features: dict[str, float] | None
    features_ms: float
    schema: int | None
    decode_ms: float
    name: str
    time: float
    together: bool
    agreement: float | None = None


@dataclass(frozen=True)
class Logged:
    """The audited requests of a log, and how many others there were.

    Attributes
    ----------
    rows : audited requests of one scope, "all" where there are any, else "reference"
    decisions : lines that could be read
    audited : of them, those that were audited, by scope
    reference : name of the candidate that was compared with
    unreadable : lines that are none of ours, or were cut off
    elsewhere : audited requests of another bundle
    """

    rows: tuple[Audited, ...]
    scope: str
    reference: str
    decisions: int
    audited: dict[str, int]
    unreadable: int = 0
    elsewhere: int = 0

    @property
    def of_boxes(self) -> bool:
        """Whether answers are boxes, whose agreement is graded."""
        return any(row.agreement is not None for row in self.rows)

    @classmethod
    def read(cls, path: str | Path | Sequence[Path], bundle: Bundle | None = None) -> Logged:
        """Read a log with its older files.

        Parameters
        ----------
        path : of the log, or of several, as of several boards that serve the same bundle
        bundle : take only what its candidates answered; needed where the log has several

        Raises
        ------
        InputError
            when the log cannot be read, is of a newer format, holds no audited request, or
            those of several bundles.
        """
        paths = [Path(path)] if isinstance(path, (str, Path)) else list(path)
        return _read(paths, None if bundle is None else bundle_hash(bundle))

    def table(self, features: tuple[str, ...], schema: int | None) -> tuple[OutcomeTable, Known]:
        """The rows as an outcome table in which the reference's answer is the label.

        What a row does not hold has a value that means nothing, and a False in `Known`.

        Parameters
        ----------
        features, schema : what a policy's premodel reads; None for features of a user's own
        """
        rows = [row for row in self.rows if row.reference is not None]
        label = np.array([row.reference[1] for row in rows if row.reference], np.int64)
        names = list(dict.fromkeys(name for row in rows for name in row.answers))
        classes = {
            len(a.probabilities)
            for row in rows
            for a in row.answers.values()
            if a.probabilities is not None
        }
        if len(classes) > 1 or (classes and label.max(initial=0) >= min(classes)):
            raise InputError(f"the log holds probabilities of {sorted(classes)} classes")
        outcomes, known, likely, probabilities = {}, {}, {}, {}
        for name in names:
            found = [row.answers.get(name) for row in rows]
            right = np.array([a is not None and a.index == r for a, r in zip(found, label)], bool)
            worth, top5 = right, None if self.of_boxes else right
            if self.of_boxes:
                worth = np.array([0.0 if a is None else a.agreement or 0.0 for a in found])
            outcomes[name] = Outcomes(
                worth,
                top5,
                np.array([0.0 if a is None else a.confidence for a in found]),
                np.array([0.0 if a is None else a.ms for a in found]),
                None,
                next((a.after for a in found if a is not None), None),
            )
            known[name] = np.array([a is not None for a in found], bool)
            likely[name] = np.array(
                [a is not None and a.probabilities is not None for a in found], bool
            )
            if classes:
                values = np.full((len(rows), max(classes)), 1.0, np.float16)
                for position, answer in enumerate(found):
                    if answer is not None and answer.probabilities is not None:
                        values[position] = answer.probabilities
                probabilities[name] = values
        run_order({name: o.after for name, o in outcomes.items()})
        held = np.array([_holds(row, features, schema) for row in rows], bool)
        table = OutcomeTable(
            tuple(row.name for row in rows),
            label,
            features,
            np.array(
                [
                    [row.features[n] if ok and row.features else 0.0 for n in features]
                    for row, ok in zip(rows, held)
                ]
            ).reshape(len(rows), len(features)),
            outcomes,
            np.array([row.decode_ms for row in rows]),
            np.array([row.features_ms for row in rows]),
            probabilities,
        )
        return table, Known(known, likely, held)


@dataclass(frozen=True)
class Known:
    """Which values of a log's table are real; bool arrays (n,)."""

    outcomes: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    features: np.ndarray


def _holds(row: Audited, features: tuple[str, ...], schema: int | None) -> bool:
    if not features:
        return True
    if row.features is None or row.schema != schema:
        return False
    return all(name in row.features for name in features)


def _read(paths: Sequence[Path], wanted: str | None) -> Logged:
    named = ", ".join(path.name for path in paths)
    decisions = unreadable = elsewhere = 0
    bundles: Counter[str] = Counter()
    audited: dict[str, list[Audited]] = {}
    for line in (line for path in paths for line in lines_of(path)):
        try:
            values = json.loads(line)
            fields = Fields(values, "a decision")
            number = fields.get("format", int)
            if number <= FORMAT:
                scope = fields.get("audit", str, default=None)
                bundle = fields.get("bundle", str)
                row = None if scope is None else _row(fields, line)
        except (InputError, ValueError, RecursionError):
            unreadable += 1
            continue
        check_format(fields, FORMAT)
        decisions += 1
        if scope is None or row is None:
            continue
        if wanted is not None and bundle != wanted:
            elsewhere += 1
            continue
        bundles[bundle] += 1
        audited.setdefault(scope, []).append(row)
    if not audited:
        other = f" of this bundle, and {elsewhere} of others" if wanted is not None else ""
        raise InputError(
            f"{named} holds no audited decision{other}, among {decisions} decisions and "
            f"{unreadable} lines that cannot be read; only audited ones say what other "
            "candidates would have answered (adaptive serve --audit-share)"
        )
    scope = "all" if "all" in audited else "reference"
    rows = tuple(audited.get(scope, ()))
    references = sorted({row.reference[0] for row in rows if row.reference is not None})
    if not references:
        raise InputError(f"every audit in {named} failed, so there is nothing to compare with")
    if len(bundles) > 1 or len(references) > 1:
        raise InputError(
            f"{named} holds audited decisions of several bundles, {dict(bundles)}, compared "
            f"with {references}; name the one that you mean with --bundle"
        )
    counts = {name: len(some) for name, some in audited.items()}
    return Logged(rows, scope, references[0], decisions, counts, unreadable, elsewhere)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a log, oldest first; InputError when a file of it cannot be read."""
    last = 0
    while numbered(path, last + 1).exists():
        last += 1
    try:
        for number in range(last, -1, -1):
            with open(numbered(path, number), "rb") as file:
                yield from (line for line in file if not line.isspace())
    except OSError as exc:
        raise InputError(f"the decision log {path} cannot be read: {exc.strerror}") from exc


def _row(fields: Fields, line: bytes) -> Audited:
    times = Fields(fields.get("ms", dict), "ms")
    charged = [times.get(step, float) for step in times.values if step not in _NOT_CHARGED]
    reference = fields.get("reference", dict, default=None)
    features = fields.get("features", dict, default=None)
    if features is not None:
        given = Fields(features, "features")
        features = {n: given.get(n, float) for n in features if features[n] is not None}
    answers = {}
    together = False
    for name, value in fields.get("outcomes", dict).items():
        answer = Fields(value, name)
        if answer.values.get("confidence") is None:
            continue  # not a number, so nothing could be decided from it
        together = together or answer.get("together", int, default=1) > 1
        answers[name] = LoggedAnswer(
            _index(answer),
            answer.get("confidence", float),
            answer.get("ms", float),
            answer.get("after", str, default=None),
            _probabilities(answer.get("probabilities", str, default=None)),
            _agreement(answer),
        )
    given_answer = fields.get("index", int, default=None)
    return Audited(
        fields.get("guess", int, default=None) if given_answer is None else given_answer,
        float(sum(charged)),
        None if reference is None else _reference(Fields(reference, "reference")),
        answers,
        features,
        fields.get("features_ms", float, default=0.0),
        fields.get("schema", int, default=None),
        times.get("decode", float, default=0.0),
        hashlib.sha256(line.strip()).hexdigest()[:16],
        fields.get("time", float, default=0.0),
        together,
        _agreement(fields),
    )


def _agreement(fields: Fields) -> float | None:
    value: float | None = fields.get("agreement", float, default=None)
    if value is not None and not 0 <= value <= 1:
        raise InputError(f"{fields.where}: agreement {value} is not in 0..1")
    return value


def _reference(fields: Fields) -> tuple[str, int]:
    return fields.get("name", str), _index(fields)


def _index(fields: Fields) -> int:
    index: int = fields.get("index", int)
    if index < 0:
        raise InputError(f"{fields.where}: index {index} is below 0")
    return index


def _probabilities(text: str | None) -> np.ndarray | None:
    if text is None:
        return None
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
    except binascii.Error as exc:
        raise InputError("probabilities are no base64") from exc
    return values if len(values) and bool(np.isfinite(values).all()) else None
