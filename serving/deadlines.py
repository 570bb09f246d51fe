"""Headers by which a request says when its answer is due, and what its sender prefers."""

from __future__ import annotations

import re
from time import perf_counter

from adaptive.errors import DeadlineError, InputError
from adaptive.limits import PREFERENCES, UNLIMITED, Limits
from adaptive.serving.protocols import Headers
from adaptive.serving.record import current

DEADLINE, PREFER = "X-Deadline-Ms", "X-Prefer"

#: A number of milliseconds as people write it; a day is the longest deadline.
_NUMBER = re.compile(r"[0-9]{1,8}(\.[0-9]{1,20})?")
_SHORTEST_MS, _LONGEST_MS = 1.0, 86_400_000.0


def limits_from(headers: Headers) -> Limits:
    """What a request's headers allow, less what it has waited.

    Raises
    ------
    InputError
        when one of them cannot be read.
    DeadlineError
        when nothing is left.
    """
    deadline, prefer = headers.get(DEADLINE), headers.get(PREFER)
    if deadline is None and prefer is None:
        return UNLIMITED
    preference = 0.0
    if prefer is not None:
        word = prefer.strip().lower()
        if word not in PREFERENCES:
            raise InputError(f"{PREFER} {prefer[:40]!r} is not one of {list(PREFERENCES)}")
        preference = PREFERENCES[word]
    if deadline is None:
        return Limits(preference=preference)
    text = deadline.strip()
    allowed = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not _SHORTEST_MS <= allowed <= _LONGEST_MS:
        raise InputError(
            f"{DEADLINE} {deadline[:40]!r} is not a number of milliseconds from "
            f"{_SHORTEST_MS:.0f} to {_LONGEST_MS:.0f}"
        )
    return Limits(remaining_ms=remaining(allowed), preference=preference)


def remaining(allowed_ms: float) -> float:
    """What is left of a request's milliseconds, less what it has waited since it was whole.

    Raises
    ------
    DeadlineError
        when nothing is left.
    """
    record = current()
    waited = 0.0 if record is None else (perf_counter() - record.arrived) * 1e3
    if waited >= allowed_ms:
        raise DeadlineError(
            f"the answer was due after {allowed_ms:g} ms, and the request waited {waited:.2f} ms"
        )
    return allowed_ms - waited
