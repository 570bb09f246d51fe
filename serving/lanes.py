"""Lanes: how many requests are worked on side by side, and how many may wait for that."""

from __future__ import annotations

import math
import threading
from collections import deque
from enum import Enum
from typing import Generic, TypeVar

Job = TypeVar("Job")

#: Weight of the newest job in a lane's mean time.
_RECENT = 0.1


class Entry(Enum):
    """What a lane says to a job that would enter."""

    RUNS = "runs"
    WAITS = "waits"
    FULL = "full"


class Lane(Generic[Job]):
    """A bounded number of jobs at work, and a bounded queue behind them, first come first served.

    A lane has no threads: whoever brings a job runs it when `enter` says so, and asks `leave`
    for the next one afterwards.

    Parameters
    ----------
    capacity : jobs that run side by side
    longest : jobs that may wait
    """

    def __init__(self, capacity: int, longest: int) -> None:
        self.capacity = capacity
        self.longest = longest
        self.busy = 0
        self.mean_s = 0.0
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Lane({self.busy} of {self.capacity} at work, {len(self)} of {self.longest} wait)"

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def occupied(self) -> bool:
        """Whether the next job would have to wait."""
        return self.busy >= self.capacity

    def enter(self, job: Job) -> Entry:
        """Let a job run now, or queue it, or turn it away."""
        with self._lock:
            if self.busy < self.capacity:
                self.busy += 1
                return Entry.RUNS
            if len(self._waiting) >= self.longest:
                return Entry.FULL
            self._waiting.append(job)
            return Entry.WAITS

    def leave(self, spent_s: float) -> Job | None:
        """End a job that took so long; the caller runs the one that is returned."""
        with self._lock:
            self.mean_s += (spent_s - self.mean_s) * (_RECENT if self.mean_s else 1.0)
            if self._waiting:
                return self._waiting.popleft()
            self.busy -= 1
            return None

    def retry_after_s(self) -> int:
        """Seconds until all that wait now should have run; at least one."""
        return max(1, math.ceil(self.mean_s * (len(self._waiting) + 1) / self.capacity))
