"""Dynamic batching: requests that want the same network within a moment run it together."""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.checks import number, whole
from adaptive.errors import InputError
from adaptive.limits import Limits
from adaptive.routing import progress
from adaptive.routing.photo import Found, Inputs
from adaptive.routing.running import Networks
from adaptive.segments import Run

#: So many of the last runs of a network on as many images say how long the next may take.
_RECENT = 20

#: How much longer than the slowest of them it may take, as a factor and in seconds.
_SLACK, _LATE_S = 1.25, 0.001


#: Is told of a run: segment, images, seconds.
Ran = Callable[[str, int, float], object]


class Telling(Networks):
    """Networks that tell of every run.

    Parameters
    ----------
    bundle, engines : of Networks
    ran : is told
    """

    def __init__(self, bundle: Bundle, engines: Mapping[str, Any], ran: Ran) -> None:
        super().__init__(bundle, engines)
        self.ran = ran

    def execute(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        """Run one segment, and tell of it; see `Networks.execute`."""
        progress.expect(len(rows))
        began = perf_counter()
        found = super().execute(run, rows)
        self.ran(run.segment, len(rows), perf_counter() - began)
        return found


class Batching(Telling):
    """Networks whose runs, asked for from several threads, are gathered into batches.

    Every request drives its own walk through the policy in a thread of its own. When one comes
    to a network it waits for others that come to the same one, at most `window_ms` and until
    there are `max_batch` images; whoever came first runs it for all. A network or exit has a
    gathering of its own, and no thread of its own. Each request is handed the part of the batch
    that is its own.

    A policy that lets a request with a deadline start knows what it takes alone, and a batch takes
    longer. So it joins others only where all are expected to be done in time, and runs alone, at
    once, where they are not. A batch that it is in grows no further than that, and leaves when it
    must. Where a batch fails, each request runs alone again, so that an image that breaks a
    network breaks no other answer.

    Another server is asked by each request for itself, since each has a deadline of its own that
    ends it; whoever answers there may gather them.

    Parameters
    ----------
    bundle, engines, ran : of Telling
    window_ms : how long the first of a batch waits at most
    max_batch : images that run together at most
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Any],
        ran: Ran,
        window_ms: float,
        max_batch: int,
    ) -> None:
        self.window_ms = number(window_ms, "a batch window of")
        if not (self.window_ms >= 0 and math.isfinite(self.window_ms)):
            raise InputError(f"a batch window of {window_ms} ms is not a number of 0 or more")
        self.max_batch = whole(max_batch, "max_batch", 1)
        super().__init__(bundle, engines, ran)
        self._gathering: dict[Run, _Batch] = {}
        self._spent_s: dict[Run, dict[int, deque[float]]] = {}
        self._lock = threading.Lock()
        self._request = threading.local()

    @contextmanager
    def until(self, limits: Limits) -> Iterator[None]:
        """While this lasts, runs of this thread do not wait longer than `limits` allow."""
        remaining_ms = float(np.min(limits.remaining_ms))
        if remaining_ms < math.inf:
            self._request.due = perf_counter() + remaining_ms / 1e3
        try:
            yield
        finally:
            self._request.due = math.inf

    def execute(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        """Run one segment together with whoever wants it now; see `Networks.execute`."""
        if run.segment in self.remote:
            return super().execute(run, rows)
        found: list[Found] = []
        for begin in range(0, len(rows), self.max_batch):
            found += self._join(run, rows[begin : begin + self.max_batch])
        return found

    def _join(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        """Join the batch that is gathered for `run`, or begin one; what it found for `rows`."""
        due = getattr(self._request, "due", math.inf)
        progress.expect(self.max_batch)  # for whoever runs them together with others
        with self._lock:
            batch = self._gathering.get(run)
            if batch is not None:
                size = len(batch.rows) + len(rows)
                ends = perf_counter() + self._takes_s(run, size)
                if size > self.max_batch or batch.due < ends <= due:
                    self._leave(run, batch)  # it cannot take these in
                    batch = None
                elif ends > due:
                    batch = None  # which goes on gathering, and these run beside it
            first = batch is None
            if batch is None:
                batch = _Batch(perf_counter() + self.window_ms / 1e3)
                self._gathering.setdefault(run, batch)
            begin = len(batch.rows)
            batch.rows.extend(rows)
            batch.due = min(batch.due, due)
            latest = batch.due - self._takes_s(run, len(batch.rows))
            if len(batch.rows) >= self.max_batch or self._gathering[run] is not batch:
                self._leave(run, batch)
            elif latest < batch.leaves:
                batch.leaves = latest
                batch.changed.set()
        if first:
            self._gather(run, batch)
        else:
            batch.done.wait()
        if batch.failed:
            return [found for row in rows for found in self._run(run, [row])]
        return batch.found[begin : begin + len(rows)]

    def _gather(self, run: Run, batch: _Batch) -> None:
        """Wait until the batch leaves, and run it."""
        while not batch.left:
            wait = batch.leaves - perf_counter()
            if wait <= 0 or not batch.changed.wait(wait):
                with self._lock:
                    self._leave(run, batch)
                break
            batch.changed.clear()
        try:
            batch.found = self._run(run, batch.rows)
        except Exception:
            if len(batch.rows) == 1:
                raise
            batch.failed = True  # then everyone runs alone, the first one too
        except BaseException:
            batch.failed = True
            raise
        finally:
            batch.done.set()

    def _leave(self, run: Run, batch: _Batch) -> None:
        """Let nobody join any more; the lock is held."""
        batch.left = True
        if self._gathering.get(run) is batch:
            del self._gathering[run]
        batch.changed.set()

    def _run(self, run: Run, rows: Sequence[Inputs]) -> list[Found]:
        began = perf_counter()
        found = super().execute(run, rows)
        spent = perf_counter() - began
        with self._lock:
            sizes = self._spent_s.setdefault(run, {})
            sizes.setdefault(len(rows), deque(maxlen=_RECENT)).append(spent)
        return found

    def _takes_s(self, run: Run, size: int) -> float:
        """Seconds that a run on so many images may take; the lock is held.

        From the slowest recent runs: one on fewer images, as much longer as there are more now,
        or one on more, which takes no less. 0 where nothing ran yet.
        """
        known = self._spent_s.get(run)
        if not known:
            return 0.0
        return _LATE_S + _SLACK * min(max(s) * max(1.0, size / n) for n, s in known.items())


class _Batch:
    """Images that will run together, by what the network reads of each.

    Attributes
    ----------
    rows, found : what goes in, and what came out for each
    leaves : when it stops waiting for more, by `perf_counter`
    due : when the first of them is due
    left : whether it has left
    """

    def __init__(self, leaves: float) -> None:
        self.leaves = leaves
        self.due = math.inf
        self.rows: list[Inputs] = []
        self.found: list[Found] = []
        self.left = False
        self.failed = False
        self.changed = threading.Event()
        self.done = threading.Event()
