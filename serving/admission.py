"""Admission: how many requests are worked on side by side, and how many may wait for that."""

from __future__ import annotations

import math
import threading
from collections import deque
from time import perf_counter
from typing import Any, Callable, Iterable

from adaptive.errors import BusyError
from adaptive.serving.answers import Answer, refusal

#: Requests that may wait for a place.
QUEUE = 64

#: Requests to paths below this load and close networks; they have a place of their own.
ADMIN = "/v2/repository/"

#: More than can be asked at a time.
_UNBOUNDED = 1 << 30

#: Weight of the newest request in the mean time.
_RECENT = 0.1


class Admission:
    """A bounded number of places, and a bounded queue for them, first come first served.

    Parameters
    ----------
    places : requests that are worked on side by side
    longest : requests that may wait
    """

    def __init__(self, places: int, longest: int) -> None:
        self.places = places
        self.longest = longest
        self.busy = 0
        self.mean_s = 0.0
        self._queue: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Admission({self.busy} of {self.places} busy, {len(self)} of {self.longest} wait)"

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def acquire(self, begin: Callable[[], object]) -> None:
        """Call `begin` as soon as there is a place; whoever has it must `release` it.

        Raises
        ------
        BusyError
            when as many wait already as may.
        """
        with self._lock:
            if self.busy >= self.places:
                if len(self._queue) >= self.longest:
                    busy = f"the server is busy: {self.longest} requests wait already"
                    raise BusyError(busy, self.retry_after_s())
                self._queue.append(begin)
                return
            self.busy += 1
        begin()

    def release(self, spent_s: float) -> None:
        """Hand a place that was used so long to the request that has waited longest."""
        with self._lock:
            self.mean_s += (spent_s - self.mean_s) * (_RECENT if self.mean_s else 1.0)
            if not self._queue:
                self.busy -= 1
                return
            begin = self._queue.popleft()
        begin()

    def retry_after_s(self) -> int:
        """Seconds until all that wait now should have run; at least one."""
        return max(1, math.ceil(self.mean_s * (len(self._queue) + 1) / self.places))


class Admissions:
    """Places for images, for questions that are answered at once, and for loading networks.

    Parameters
    ----------
    threads : images, or the images of one request, that are worked on side by side
    queue : requests that may wait for that
    """

    def __init__(self, threads: int, queue: int = QUEUE) -> None:
        self.images = Admission(threads, queue)
        self.questions = Admission(1, _UNBOUNDED)
        self.admin = Admission(1, _UNBOUNDED)

    @property
    def places(self) -> int:
        """All of them."""
        return self.images.places + self.questions.places + self.admin.places

    def of(self, environ: dict[str, Any]) -> Admission:
        """Where a request asks for a place."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD", "OPTIONS"):
            return self.questions
        return self.admin if environ["PATH_INFO"].startswith(ADMIN) else self.images


class AdmissionMiddleware:
    """Admission for a WSGI server that brings threads of its own: they wait for a place.

    Parameters
    ----------
    app : the application
    admissions : the places
    refused : is told of every refusal; what it returns goes along with the answer
    """

    def __init__(
        self,
        app: Callable[[Any, Any], Iterable[bytes]],
        admissions: Admissions,
        refused: Callable[[dict[str, Any], Answer], tuple[tuple[str, str], ...]],
    ) -> None:
        self.app = app
        self.admissions = admissions
        self._refused = refused

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        environ.setdefault("adaptive.arrived", perf_counter())
        admission, free = self.admissions.of(environ), threading.Event()
        try:
            admission.acquire(free.set)
        except BusyError as error:
            answer = refusal(error, environ)
            more = (*answer.headers, *self._refused(environ, answer))
            return answer._replace(headers=more).send(start_response)
        free.wait()
        began = perf_counter()
        try:
            return self.app(environ, start_response)
        finally:
            admission.release(perf_counter() - began)
