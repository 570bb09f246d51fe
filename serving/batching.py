"""Dynamic batching: requests that want the same network within a moment run it together."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Callable, Iterator, Mapping, Sequence

from adaptive.bundle import Bundle
from adaptive.errors import InputError
from adaptive.limits import Limits
from adaptive.photo import Photo
from adaptive.running import Networks, through_key
from adaptive.segments import Run

#: Weight of the newest run in a network's mean time.
_RECENT = 0.2


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

    def advance(self, run: Run, photos: Sequence[Photo]) -> None:
        """Run one segment on photos, all at once; what it continues from must have run."""
        began = perf_counter()
        super().advance(run, photos)
        self.ran(run.segment, len(photos), perf_counter() - began)


class Batching(Telling):
    """Networks whose runs, asked for from several threads, are gathered into batches.

    Every request drives its own walk through the policy in a thread of its own. When one comes
    to a network it waits for others that come to the same one, at most `window_ms` and until
    there are `max_batch` images; whoever came first runs it for all. A network or exit has a
    gathering of its own, and no thread of its own. Results stand in the photos themselves, so
    there is nothing to be sorted back.

    A request that is due soon is not kept waiting: its batch leaves when it must. Where a batch
    fails, each request runs alone again, so that an image that breaks a network breaks no other
    answer.

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
        if not (window_ms >= 0 and math.isfinite(window_ms)):
            raise InputError(f"a batch window of {window_ms} ms is not a number of 0 or more")
        if max_batch < 1:
            raise InputError(f"max_batch {max_batch} is not a whole number >= 1")
        super().__init__(bundle, engines, ran)
        self.window_ms = window_ms
        self.max_batch = max_batch
        self._gathering: dict[Run, _Batch] = {}
        self._mean_s: dict[Run, float] = {}
        self._lock = threading.Lock()
        self._request = threading.local()

    @contextmanager
    def until(self, limits: Limits) -> Iterator[None]:
        """While this lasts, runs of this thread do not wait longer than `limits` allow."""
        remaining_ms = limits.remaining_ms
        if isinstance(remaining_ms, float) and remaining_ms < math.inf:
            self._request.due = perf_counter() + remaining_ms / 1e3
        try:
            yield
        finally:
            self._request.due = math.inf

    def advance(self, run: Run, photos: Sequence[Photo]) -> None:
        """Run one segment on photos, together with whoever wants it now."""
        self._prepare(run, photos)
        for begin in range(0, len(photos), self.max_batch):
            self._join(run, photos[begin : begin + self.max_batch])

    def _join(self, run: Run, photos: Sequence[Photo]) -> None:
        """Join the batch that is gathered for `run`, or begin one; return when it has run."""
        due = getattr(self._request, "due", math.inf)
        with self._lock:
            batch = self._gathering.get(run)
            if batch is not None and len(batch.photos) + len(photos) > self.max_batch:
                self._leave(run, batch)
                batch = None
            first = batch is None
            if batch is None:
                batch = self._gathering[run] = _Batch(perf_counter() + self.window_ms / 1e3)
            batch.photos.extend(photos)
            latest = due - 2 * self._mean_s.get(run, 0.0)
            if len(batch.photos) >= self.max_batch:
                self._leave(run, batch)
            elif latest < batch.leaves:
                batch.leaves = latest
                batch.changed.set()
        if first:
            self._gather(run, batch)
        else:
            batch.done.wait()
        if batch.failed:
            for photo in photos:
                self._run(run, [photo])

    def _prepare(self, run: Run, photos: Sequence[Photo]) -> None:
        """Preprocess in the thread that asks, so that the batch runs without waiting for it."""
        candidate = self.bundle.candidate(run.segment)
        if candidate.after is not None:
            return
        step = through_key(run.segment) if run.headless else run.segment
        for photo in photos:
            if candidate.input not in photo.tensors:
                began = perf_counter()
                photo.tensor(candidate.input)
                photo.ms[step] += (perf_counter() - began) * 1e3

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
            self._run(run, batch.photos)
        except Exception:
            if len(batch.photos) == 1:
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

    def _run(self, run: Run, photos: Sequence[Photo]) -> None:
        began = perf_counter()
        super().advance(run, photos)
        spent = perf_counter() - began
        mean = self._mean_s.get(run, spent)
        self._mean_s[run] = mean + _RECENT * (spent - mean)


class _Batch:
    """Photos that will run together.

    Attributes
    ----------
    leaves : when it stops waiting for more, by `perf_counter`
    left : whether it has
    """

    def __init__(self, leaves: float) -> None:
        self.leaves = leaves
        self.photos: list[Photo] = []
        self.left = False
        self.failed = False
        self.changed = threading.Event()
        self.done = threading.Event()
