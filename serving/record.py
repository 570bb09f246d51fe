"""What is known of the request that a thread is working on.

The server's layers hand a request on as WSGI wants it, which has no place for what the service
finds out about it. So it stands beside, for the one thread that works on the request.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
from time import perf_counter
from typing import TYPE_CHECKING

from adaptive.routing import progress

if TYPE_CHECKING:
    from adaptive.prediction import Prediction
    from adaptive.routing.generation import Generation

#: What a client may call its request; another name is replaced by one of ours.
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

#: W3C Trace Context, Level 1: version, trace-id, parent-id, trace-flags.
TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Record:
    """One request, while it is answered.

    Attributes
    ----------
    id : the client's X-Request-Id, or one of ours
    arrived : when it was whole, by `perf_counter`
    trace, parent, flags : of the traceparent that it came with, or None
    span : our own part of that trace
    waited : seconds from then until a thread began with it
    said : the prediction that it was answered with, or None
    generation : the bundle that answers it, once that is known
    """

    __slots__ = (
        "arrived",
        "flags",
        "generation",
        "id",
        "parent",
        "said",
        "span",
        "trace",
        "waited",
    )

    def __init__(self, arrived: float, request_id: str | None, traceparent: str | None) -> None:
        self.arrived = arrived
        self.waited = perf_counter() - arrived
        if request_id is None or not REQUEST_ID.fullmatch(request_id):
            request_id = _fresh_id()
        self.id = request_id
        self.trace: str | None = None
        self.said: Prediction | None = None
        self.generation: Generation | None = None
        found = None if traceparent is None else TRACEPARENT.fullmatch(traceparent.strip())
        if found is not None and _valid(found):
            self.trace, self.parent, self.flags = found[2], found[3], found[4]
            self.span = f"{random.getrandbits(64) or 1:016x}"

    @property
    def traceparent(self) -> str | None:
        """The trace as it is passed on: the same one, with our span as the parent."""
        return None if self.trace is None else f"00-{self.trace}-{self.span}-{self.flags}"


def current() -> Record | None:
    """The record of the request that this thread works on."""
    return getattr(_own, "record", None)


def begin(record: Record) -> None:
    """Make it this thread's record."""
    _own.record = record
    progress.begin()


def end() -> None:
    """The thread's request is answered; what the service held for it is given back."""
    record: Record | None = getattr(_own, "record", None)
    _own.record = None
    progress.end()
    if record is not None and record.generation is not None:
        record.generation.release()
        record.generation = None


def _valid(found: re.Match[str]) -> bool:
    version, trace, parent, _, more = found.groups()
    if version == "ff" or (version == "00" and more):
        return False
    return trace.strip("0") != "" and parent.strip("0") != ""


_own = threading.local()
_numbers = itertools.count(1)
_prefix = os.urandom(5).hex()


def _fresh_id() -> str:
    return f"{_prefix}-{next(_numbers)}"
