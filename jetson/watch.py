"""Notice at run time that the board is no longer as fast as when its times were measured.

A watch looks at the board once a second, in a thread of its own: at the power mode, at what
slows the machine because of heat or current, and first of all at whether this is the board that
the times come from. While something is different, the policy's times are multiplied by what the
candidates take now over what they were measured to take, so that deadlines and budgets hold; and
the log and the router's status say so.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from contextlib import contextmanager
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Protocol, Sequence

from adaptive.jetson.board import board_profile
from adaptive.jetson.mode import mode_of
from adaptive.jetson.state import BoardState
from adaptive.jetson.sysfs import Sysfs

if TYPE_CHECKING:
    from adaptive.bundle.bundle import Bundle
    from adaptive.monitoring.decisions import Decision

log = logging.getLogger("adaptive.jetson.watch")

#: Seconds between two looks.
INTERVAL_S = 1.0

#: Runs of a candidate that its present time is taken from: the median of the last so many, once
#: there were as many as the second number.
RECENT, ENOUGH = 50, 5

#: Seconds without anything that slows the machine after which it counts as no longer slowed.
#: Alerts come and go many times a minute.
QUIET_S = 10.0

#: Factors are applied when one of them has changed by more than this share.
NOTICEABLE = 0.05


class BoardWatch:
    """Watches the board for one router. An observer of its decisions.

    Parameters
    ----------
    expected_ms : by candidate, the mean time of its own run where the times were measured
    chains : by candidate, those that must run before it, and itself; itself alone when left out
    board : profile of the board that the times come from
    rescale : is given a factor for each candidate, and an empty mapping when all is as before;
        None where times cannot be rescaled
    """

    name = "board"

    def __init__(
        self,
        expected_ms: Mapping[str, float],
        chains: Mapping[str, Sequence[str]] | None = None,
        board: Mapping[str, Any] | None = None,
        rescale: Callable[[Mapping[str, float]], None] | None = None,
        sysfs: Sysfs | None = None,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._expected = dict(expected_ms)
        self._chains = dict(chains or {name: (name,) for name in expected_ms})
        self._rescale = rescale
        self._sysfs = sysfs
        self._interval_s = interval_s
        self._clock = clock
        self._state = BoardState.read(sysfs)
        here = board_profile(sysfs=sysfs)
        self._elsewhere = _elsewhere(board or {}, here)
        # Of another board's modes nothing follows; then the one at the start counts as normal.
        told = None if self._elsewhere else mode_of(board)
        self._measured_in = told or self._state.mode
        self._slowed: tuple[str, ...] = ()
        self._slowed_at = -float("inf")
        self._reasons: tuple[str, ...] = ()
        self._factors: dict[str, float] = {}
        self._recent: dict[str, deque[float]] = {}
        self._shares: dict[str, deque[float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"BoardWatch({list(self._reasons)})"

    @property
    def tells(self) -> bool:
        """Whether this machine tells anything that could be watched."""
        return self._state.tells or self._elsewhere is not None

    @property
    def factors(self) -> dict[str, float]:
        """What each candidate's times are multiplied with now; empty when they are as measured."""
        return dict(self._factors)

    def observe(self, decision: Decision) -> None:
        """Take in what the candidates of one decision took.

        The times to compare with are of one image alone. A share of a batch is kept apart.
        """
        with self._lock:
            for name, outcome in decision.outcomes.items():
                times = self._recent if outcome.together == 1 else self._shares
                times.setdefault(name, deque(maxlen=RECENT)).append(outcome.ms)

    def poll(self) -> None:
        """Look at the board once."""
        before, self._state = self._state, BoardState.read(self._sysfs)
        reasons = self._look(before)
        if reasons != self._reasons:
            self._tell(reasons)
            with self._lock:
                self._recent.clear()  # what ran before the change says nothing about now
                self._shares.clear()
        factors = self._measure() if reasons else {}
        if not reasons and self._factors:
            self._apply({})
        elif any(abs(f / self._factors.get(n, 1.0) - 1) > NOTICEABLE for n, f in factors.items()):
            self._apply(factors)

    def status(self) -> dict[str, Any]:
        """Where it stands, as JSON values."""
        mode, measured = self._state.mode, self._measured_in
        return {
            "mode": None if mode is None else mode.to_json(),
            "measured_in": None if measured is None else measured.to_json(),
            "slowed_by": list(self._slowed),
            "warnings": list(self._reasons),
            "factors": {name: round(factor, 3) for name, factor in self._factors.items()},
        }

    def __enter__(self) -> BoardWatch:
        self._thread = threading.Thread(target=self._run, name="board-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        complained = False
        while True:
            try:
                self.poll()
            except Exception:
                if not complained:
                    complained = True
                    log.exception("the board could not be looked at; images are answered all along")
            if self._stop.wait(self._interval_s):
                return

    def _look(self, before: BoardState) -> tuple[str, ...]:
        """Why times may be off now, in words; empty when nothing speaks for it."""
        state, now = self._state, self._clock()
        active = state.slowed_since(BoardState(events=before.events)) or ()
        if active:
            self._slowed, self._slowed_at = active, now
        elif now - self._slowed_at >= QUIET_S:
            self._slowed = ()
        reasons = [] if self._elsewhere is None else [self._elsewhere]
        if None not in (state.mode, self._measured_in) and (
            state.mode.number != self._measured_in.number  # type: ignore[union-attr]
        ):
            reasons.append(
                f"the power mode is {state.mode}, and the times were measured in "
                f"{self._measured_in}"
            )
        if self._slowed:
            reasons.append("heat or current slows the board")
        return tuple(reasons)

    def _tell(self, reasons: tuple[str, ...]) -> None:
        new = [reason for reason in reasons if reason not in self._reasons]
        self._reasons = reasons
        if new:
            log.warning(
                "%s%s; %s",
                "; ".join(new),
                f" ({', '.join(self._slowed)})" if self._slowed else "",
                "times are rescaled by what the candidates take now"
                if self._rescale is not None
                else "deadlines and budgets may not be kept",
            )
        elif not reasons:
            log.info("the board is again as it was when the times were measured")

    def _measure(self) -> dict[str, float]:
        """For every candidate what it takes now over what it is expected to take."""
        with self._lock:
            now = {n: median(ms) for n, ms in self._recent.items() if len(ms) >= ENOUGH}
            shares = {n: median(ms) for n, ms in self._shares.items() if len(ms) >= ENOUGH}
        for name in shares.keys() - now.keys():
            # Alone an image takes at least its share of a batch. So a share can show that the
            # board is slower, and never that it is faster.
            if shares[name] > self._expected.get(name, math.inf):
                now[name] = shares[name]
        known = [name for name in now if name in self._expected]
        if not known:
            return {}
        common = median(now[name] / self._expected[name] for name in known)
        factors = {}
        for name, chain in self._chains.items():
            # Of an exit asked first, what ran of its chain counts; of what never ran, the rest's.
            ran = [member for member in chain if member in known]
            whole = sum(self._expected[member] for member in ran)
            factors[name] = sum(now[member] for member in ran) / whole if ran else common
        return factors

    def _apply(self, factors: dict[str, float]) -> None:
        if self._rescale is None:
            return
        self._factors = factors
        self._rescale(factors)
        if factors:
            shown = ", ".join(f"{name} x{factor:.2f}" for name, factor in factors.items())
            log.warning("times rescaled: %s", shown)


def _elsewhere(board: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """A sentence when times come from another machine than this one; None where unknown."""
    for key in ("machine", "model"):
        theirs, ours = board.get(key), here.get(key)
        if theirs is not None and ours is not None and theirs != ours:
            return (
                f"the times were measured on {board.get('model') or theirs}, and this is "
                f"{here.get('model') or ours}; adaptive profile --latency-only measures them here"
            )
    return None


class Watched(Protocol):
    """What a watch asks of a router; `adaptive.routing.router.Router` has it."""

    bundle: Bundle

    def add_observer(self, observer: Any) -> None:
        """Show decisions to one more observer."""

    def rescale(self, factors: Mapping[str, float]) -> None:
        """Multiply the policy's times."""


@contextmanager
def watching(
    router: Watched, sysfs: Sysfs | None = None, interval_s: float = INTERVAL_S
) -> Iterator[BoardWatch | None]:
    """Watch the board while the block runs; None where the machine tells nothing to watch."""
    from adaptive.candidate import run_order

    candidates = router.bundle.candidates
    watch = BoardWatch(
        {c.name: c.ms for c in candidates if c.ms is not None},
        run_order({c.name: c.after for c in candidates}),
        router.bundle.board,
        router.rescale,
        sysfs,
        interval_s,
    )
    if not watch.tells:
        yield None
        return
    router.add_observer(watch)
    with watch:
        yield watch
