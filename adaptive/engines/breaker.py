"""A circuit breaker: what fails again and again is left alone for a while, then tried once."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any, Callable

#: Failures in a row after which nothing is asked for a while.
FAILURES = 3

#: How long it is left alone the first time, and at most; it doubles with each trial that fails.
FIRST_S, LONGEST_S = 2.0, 60.0

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


class Breaker:
    """Says whether something may be asked. Several threads use it at the same time.

    Closed, all may ask. After `failures` in a row it opens, and nobody may. When its time is
    over it is half open: one may try, and whether that goes well closes it or opens it for twice
    as long.

    Parameters
    ----------
    failures : in a row that open it
    first_s, longest_s : how long it stays open
    clock : seconds
    """

    def __init__(
        self,
        failures: int = FAILURES,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._most = failures
        self._first_s, self._longest_s = first_s, longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._wait_s = first_s
        self._until: float | None = None
        self._trying = False
        self._why = ""

    @property
    def state(self) -> str:
        """CLOSED, OPEN or HALF_OPEN."""
        with self._lock:
            if self._until is None:
                return CLOSED
            return HALF_OPEN if self._clock() >= self._until else OPEN

    def ask(self) -> float:
        """0 where one may ask now, and then must tell how it went; else the seconds to wait."""
        with self._lock:
            if self._until is None:
                return 0.0
            left = self._until - self._clock()
            if left > 0:
                return left
            if self._trying:
                return self._first_s
            self._trying = True
            return 0.0

    def succeeded(self) -> bool:
        """It went well; whether that closes the breaker."""
        with self._lock:
            closes = self._until is not None
            self._failed, self._wait_s, self._until = 0, self._first_s, None
            self._trying = False
            return closes

    def failed(self, why: str) -> bool:
        """It did not, for this reason; whether that opens the breaker, which was closed."""
        with self._lock:
            self._failed, self._why = self._failed + 1, why
            tried, self._trying = self._trying, False
            if tried:
                self._wait_s = min(2 * self._wait_s, self._longest_s)
                self._until = self._clock() + self._wait_s
                return False
            if self._until is None and self._failed >= self._most:
                self._until = self._clock() + self._wait_s
                return True
            return False

    def abandoned(self) -> None:
        """Whoever asked learned nothing about it, and another may try."""
        with self._lock:
            self._trying = False

    def status(self) -> dict[str, Any]:
        """As JSON values: its state, failures in a row, and the last failure's reason."""
        return {"state": self.state, "failures": self._failed, "last_failure": self._why or None}
