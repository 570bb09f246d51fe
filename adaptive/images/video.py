"""Frames of a camera, a stream or a video file, and what was lost of them."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import Callable, Iterator, NamedTuple

import numpy as np

from adaptive.errors import InputError
from adaptive.images.capture import OPENING_S, Capture, Ended, Grabbed
from adaptive.images.source import FILE, Source, read_source

#: What of a video's length may be without frames at its end: a share, and seconds at most.
SLACK, SLACK_S = 0.02, 1.0

#: Seconds that a frame may take to come, of a camera and of a file.
LIVE_S, FILE_S = 10.0, 60.0

#: Seconds between two tries to reach a camera that is gone: the first, and the longest.
FIRST_S, LONGEST_S = 0.5, 5.0


class VideoFrame(NamedTuple):
    """One frame.

    number : its place among all frames that the source gave, from 1; those left out count
    time_s : in a file its own time; of a live source the seconds since the reader was opened
    image : (height, width, 3), uint8, RGB; nothing else writes to it
    """

    number: int
    time_s: float
    image: np.ndarray


@dataclass(frozen=True)
class Lost:
    """What a reader could not deliver.

    dropped : frames of a live source that came while an earlier one was worked on
    outages : how often a live source was gone and came back
    outage_s : how long that was, all together
    rest : of a file that ended early, a sentence on how many frames were read
    """

    dropped: int = 0
    outages: int = 0
    outage_s: float = 0.0
    rest: str | None = None

    def words(self) -> str:
        """What was lost of a live source, in words; empty where nothing was."""
        parts = []
        if self.dropped:
            parts.append(f"{self.dropped} frames dropped")
        if self.outages:
            times = "once" if self.outages == 1 else f"{self.outages} times"
            parts.append(f"gone {times}, for {self.outage_s:.1f} s")
        return ", ".join(parts)


class VideoReader:
    """Iterate over the frames of a camera, a stream or a file; use it in a `with` statement.

    A file delivers every frame, a live source the newest: what comes while the last frame is
    worked on is dropped and counted. A live source that vanishes is waited for and opened again.
    Decoding runs in a process of its own, so that a damaged file, or a driver that hangs, harms
    that process only.

    Parameters
    ----------
    source : index of a camera, an address, a GStreamer pipeline, or the path of a file; see
        `adaptive.images.source`
    live : deliver the newest frame rather than all; left out, cameras, pipelines and rtsp:// do
    every : deliver only each so-many-th frame, the first one included
    patience_s : how long a live source may be gone before that is an error
    timeout_s : how long a frame may take to come before the source counts as gone
    tell : called with one sentence when a live source is gone, and when it is back

    Attributes
    ----------
    lost : what could not be delivered, so far
    openings : how often the source was opened; where this grows, or the shape of the image
        changes, what was kept of earlier frames no longer holds

    Raises
    ------
    InputError
        when the source cannot be opened; while iterating, when there is not one frame, or a live
        source has been gone for longer than `patience_s`.
    """

    def __init__(
        self,
        source: Source,
        *,
        live: bool | None = None,
        every: int = 1,
        patience_s: float = math.inf,
        timeout_s: float | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if every < 1:
            raise InputError(f"every {every} is not a whole number >= 1")
        if not patience_s >= 0:
            raise InputError(f"patience_s {patience_s} is not a number of seconds >= 0")
        if timeout_s is not None and not timeout_s > 0:
            raise InputError(f"timeout_s {timeout_s} is not a number of seconds > 0")
        self.source = read_source(source)
        self.live = self.source.live if live is None else live
        self.every = every
        self.patience_s = patience_s
        self.timeout_s = timeout_s or (LIVE_S if self.live else FILE_S)
        self.tell = tell
        self.lost = Lost()
        self.openings = 0
        self._capture: Capture | None = None
        self._closed = threading.Event()
        self._began = 0.0

    def open(self) -> VideoReader:
        """Open the source, once; iterating does so too."""
        if self._capture is None and not self._closed.is_set():
            self._began = time.monotonic()
            self._capture = self._opened()
        return self

    def close(self) -> None:
        """Give the device or file back; a running iteration ends, from another thread too."""
        self._closed.set()
        if self._capture is not None:
            self._capture.close()

    def __enter__(self) -> VideoReader:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Every frame of a file; the newest frame of a live source until the reader is closed."""
        self.open()
        before = 0  # frames of earlier openings
        last, time_s = 0, -math.inf
        while not self._closed.is_set():
            assert self._capture is not None
            found = self._capture.read(self.every - 1)
            if self._closed.is_set():
                return
            if isinstance(found, Ended):
                if not self._returns:
                    self._finish(found, time_s)
                    return
                if not last:
                    raise InputError(f"{self.source.name} gave no frames: it {_why(found)}")
                before = last
                again = self._reopened(_why(found))
                if again is None:
                    return
                found = again
            number = before + found.count
            if self.live:
                time_s = found.ms / 1e3 - self._began
                if last > before:
                    dropped = max(0, number - last - self.every)
                    self.lost = replace(self.lost, dropped=self.lost.dropped + dropped)
            else:
                time_s = self._time(found, time_s)
            last = number
            yield VideoFrame(number, time_s, found.image)

    @property
    def _returns(self) -> bool:
        """Whether the source may come back when it ends."""
        return self.live and self.source.kind != FILE

    def _opened(self, opening_s: float = OPENING_S) -> Capture:
        capture = Capture(self.source, self.live, self.timeout_s, opening_s).open()
        self.openings += 1
        return capture

    def _reopened(self, why: str) -> Grabbed | None:
        """Wait until the source gives a frame again; None when the reader was closed meanwhile."""
        began, pause = time.monotonic(), FIRST_S
        self._say(f"{self.source.name} {why}; waiting for it")
        while True:
            assert self._capture is not None
            self._capture.close()
            gone = time.monotonic() - began
            if gone >= self.patience_s:
                raise InputError(f"{self.source.name} {why}, and was gone for {gone:.0f} s")
            if self._closed.wait(min(pause, self.patience_s - gone)):
                return None
            pause = min(2 * pause, LONGEST_S)
            try:
                left = max(self.timeout_s, self.patience_s - gone)
                self._capture = self._opened(min(OPENING_S, left))
            except InputError:
                continue
            found = self._capture.read()
            if isinstance(found, Grabbed):
                gone = time.monotonic() - began
                self.lost = replace(
                    self.lost,
                    outages=self.lost.outages + 1,
                    outage_s=self.lost.outage_s + gone,
                )
                self._say(f"{self.source.name} is back after {gone:.1f} s")
                return found

    def _time(self, found: Grabbed, before: float) -> float:
        """When a file's frame is shown; raw streams do not say it, and their rate must do."""
        assert self._capture is not None
        time_s = found.ms / 1e3
        if time_s > before and 0 <= time_s < math.inf:  # some give nonsense below 0
            return time_s
        rate = self._capture.rate or 25.0
        return max((found.count - 1) / rate, before)

    def _finish(self, found: Ended, time_s: float) -> None:
        """Say what a file lacks, if it lacks something."""
        assert self._capture is not None
        name, frames, rate = self.source.name, self._capture.frames, self._capture.rate
        if found.why is not None:
            of = f" of {frames}" if frames else ""
            if not found.count:
                raise InputError(f"{name} {found.why} before the first frame{of}; it is damaged")
            rest = f"{name} {found.why} after {found.count}{of} frames"
            self.lost = replace(self.lost, rest=f"{rest}; the rest is cut off or damaged")
        elif not found.count:
            raise InputError(f"{name} gave no frames and stopped")
        elif _short(found.count, frames, rate, time_s):
            rest = f"{name} ended after {found.count} of {frames} frames"
            self.lost = replace(self.lost, rest=f"{rest}; the rest is cut off or damaged")

    def _say(self, sentence: str) -> None:
        if self.tell is not None:
            self.tell(sentence)


def _short(read: int, frames: int, rate: float, time_s: float) -> bool:
    """Whether a file ended before the time that its header says.

    Many containers tell only how long they are, so that the number of frames is an estimate;
    the time must be short too, by more than sound that goes on a little longer.
    """
    if not (frames > read + 1 and rate > 0):
        return False
    seconds = frames / rate
    return seconds - time_s > max(2.5 / rate, min(SLACK_S, SLACK * seconds))


def _why(ended: Ended) -> str:
    return ended.why or "stopped"
