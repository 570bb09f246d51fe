"""Many cameras' streams: a router's, by name, and a server's, which come and go."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from time import monotonic
from typing import Callable, Dict, Hashable

from adaptive.checks import shown
from adaptive.errors import InputError
from adaptive.video.gate import FrameGate
from adaptive.video.stream import Stream, Ways
from adaptive.video.view import View

#: Streams that a router or a server holds at a time.
MOST_STREAMS = 64

#: Seconds after which a server forgets a stream that sends nothing.
IDLE_S = 60.0


class Streams:
    """A router's streams by name, so many at most."""

    def __init__(self) -> None:
        self._streams: Dict[str, Stream] = {}
        self._lock = threading.Lock()

    def open(
        self,
        name: str,
        gate: FrameGate | None,
        view: View,
        ways: Ways,
    ) -> Stream:
        """The stream of that name; made where there is none.

        Raises
        ------
        InputError
            when there are too many, or there is one with another gate.
        """
        if gate is not None and not isinstance(gate, FrameGate):
            raise InputError(f"gate {shown(gate)} is no FrameGate; FrameGate() makes one")
        with self._lock:
            found = self._streams.get(name)
            if found is not None:
                if gate is not None and gate != found.gate:
                    raise InputError(
                        f"the stream {name!r} is open with the gate {found.gate}; close it first"
                    )
                return found
            if len(self._streams) >= MOST_STREAMS:
                raise InputError(
                    f"{MOST_STREAMS} streams are open, and no more may be; close one first"
                )
            wanted = FrameGate() if gate is None else gate
            made = Stream(name, wanted, view, ways, self._forget)
            self._streams[name] = made
            return made

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            if self._streams.get(stream.name) is stream:
                del self._streams[stream.name]


class PassingStreams:
    """Streams that nobody closes: the least recently used one goes where there are too many.

    Parameters
    ----------
    gate : what still counts as the same frame
    view : what of a frame is compared
    ways : what computes the answer to a frame
    most : streams at a time
    idle_s : seconds after which one that sends nothing is forgotten
    clock : tells seconds

    Attributes
    ----------
    dropped : how many had to go for others
    """

    def __init__(
        self,
        gate: FrameGate,
        view: View,
        ways: Ways,
        most: int = MOST_STREAMS,
        idle_s: float = IDLE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.gate = gate
        self.most = most
        self.idle_s = idle_s
        self.dropped = 0
        self._view = view
        self._ways = ways
        self._clock = clock
        self._streams: OrderedDict[Hashable, Stream] = OrderedDict()
        self._used_s: Dict[Hashable, float] = {}
        self._gone: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._forget_idle()
            return len(self._streams)

    def stream(self, owner: Hashable, name: str) -> Stream:
        """An owner's stream of that name; made where there is none. Nobody else gets it."""
        key = owner, name
        with self._lock:
            self._forget_idle()
            found = self._streams.get(key)
            if found is None:
                while len(self._streams) >= self.most:
                    self._forget(next(iter(self._streams)))
                    self.dropped += 1
                found = self._streams[key] = Stream(name, self.gate, self._view, self._ways)
            self._streams.move_to_end(key)
            self._used_s[key] = self._clock()
            return found

    def counts(self) -> Counter[str]:
        """Frames of all streams so far, by what became of them."""
        with self._lock:
            return sum((s.counts for s in self._streams.values()), Counter(self._gone))

    def _forget_idle(self) -> None:
        now_s = self._clock()
        while self._streams:
            oldest = next(iter(self._streams))
            if now_s - self._used_s[oldest] <= self.idle_s:
                return
            self._forget(oldest)

    def _forget(self, key: Hashable) -> None:
        self._gone.update(self._streams.pop(key).counts)
        del self._used_s[key]
