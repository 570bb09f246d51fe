"""One camera's state: the last frame that was computed, and its answer."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np

from adaptive.checks import shown
from adaptive.errors import InputError
from adaptive.limits import UNLIMITED, Limits
from adaptive.prediction import Prediction, Reused
from adaptive.tasks.detections import Detections
from adaptive.video.computed import LastComputed
from adaptive.video.gate import CUT, FIRST, STILL, FrameGate
from adaptive.video.view import View

#: Streams that a router holds at a time.
MOST_STREAMS = 64


class Kept(NamedTuple):
    """What an answer was given to.

    asked : all that the answer depends on beside the frame
    """

    shape: Tuple[int, ...]
    asked: Tuple[Any, ...]
    answer: Any
    frame: int


class Stream:
    """Answers the frames of one camera, and computes only those that changed.

    Made by `Router.stream`. Threads may share one; its frames are answered one after the other.

    Parameters
    ----------
    name : of the camera
    gate : what still counts as the same frame
    view : what of a frame is compared
    classify, detect : answer a frame that is computed
    close : called once when the stream is closed

    Attributes
    ----------
    frames : how many were asked
    counts : frames by what became of them: "still" were reused, and "first", "moved", "light",
        "cut" and "old" were computed, each for that reason
    """

    def __init__(
        self,
        name: str,
        gate: FrameGate,
        view: View,
        classify: Callable[..., Prediction],
        detect: Callable[..., Detections],
        close: Callable[[Stream], None],
    ) -> None:
        self.name = name
        self.gate = gate
        self.frames = 0
        self.counts: Counter[str] = Counter()
        self._view = view
        self._computed = LastComputed(gate)
        self._ways = {"classify": classify, "detect": detect}
        self._close = close
        self._kept: Kept | None = None
        self._last_s: float | None = None
        self._lock = threading.Lock()

    def classify(
        self,
        frame: np.ndarray,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        *,
        time_s: float | None = None,
    ) -> Prediction:
        """Answer one frame as `Router.classify` does, or with the last answer if nothing changed.

        Parameters
        ----------
        frame : ndarray (height, width, 3), uint8, RGB
        limits, explain : as for `Router.classify`; where they are others than the last answer's,
            the frame is computed
        time_s : when the frame is shown, for its age; by the clock when left out. Where it goes
            back, somebody sought, and the frame is computed.

        Returns
        -------
        A prediction; `reused` says from which frame it is, and how old, or is None where it was
        computed. Only computed ones are shown to observers and audited.

        Raises
        ------
        InputError
            when the frame is no such array.
        """
        found: Prediction = self._answer("classify", frame, limits, explain, time_s)
        return found

    def detect(
        self,
        frame: np.ndarray,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        *,
        time_s: float | None = None,
    ) -> Detections:
        """Find the objects of one frame, as `classify` does for classes."""
        found: Detections = self._answer("detect", frame, limits, explain, time_s)
        return found

    def reset(self) -> None:
        """Forget the last answer: the camera was moved, or opened again."""
        with self._lock:
            self._kept = self._last_s = None
            self._computed = LastComputed(self.gate)

    def close(self) -> None:
        """Give the stream's place back; a later frame is still answered, and computed."""
        self.reset()
        self._close(self)

    @property
    def reused(self) -> float:
        """The share of frames that were not computed."""
        return self.counts[STILL] / max(self.frames, 1)

    def _answer(
        self, way: str, frame: np.ndarray, limits: Limits, explain: bool, time_s: float | None
    ) -> Any:
        if (
            not isinstance(frame, np.ndarray)
            or frame.dtype != np.uint8
            or frame.ndim != 3
            or frame.shape[2] != 3
            or not frame.size
        ):
            raise InputError(
                f"frame {shown(frame)} is no array (height, width, 3) of uint8, RGB; a stream "
                "compares pixels, so decode it first"
            )
        with self._lock:
            began = perf_counter()
            now_s = monotonic() if time_s is None else float(time_s)
            asked = (way, explain, *_told(limits))
            picture = self._view.picture(frame)
            what = self._look(picture, frame.shape, asked, now_s)
            kept, self._last_s = self._kept, now_s
            number = self.frames + 1
            if what == STILL:
                assert kept is not None
                ms = {"gate": (perf_counter() - began) * 1e3}
                ms["total"] = ms["gate"]
                was = Reused(kept.frame, number - kept.frame, now_s - self._computed.time_s)
                answer = replace(kept.answer, ms=ms, path=(), reused=was)
            else:
                self._kept = None  # nothing half-made is left where the answer fails
                answer = self._ways[way](frame, limits, explain)
                self._computed.accept(picture, now_s, what, answer)
                self._kept = Kept(frame.shape, asked, answer, number)
            self.frames = number
            self.counts[what] += 1
            return answer

    def _look(
        self, picture: np.ndarray, shape: Tuple[int, ...], asked: Tuple[Any, ...], now_s: float
    ) -> str:
        """What becomes of a frame."""
        kept = self._kept
        if kept is None or kept.asked != asked:
            self._computed.lose()
            return FIRST
        if kept.shape != shape or (self._last_s is not None and now_s < self._last_s):
            self._computed.lose()
            return CUT
        return self._computed.judge(picture, now_s).what


def _told(limits: Limits) -> Tuple[float, ...]:
    """The numbers of one image's limits."""
    return (
        float(limits.remaining_ms),
        float(limits.remaining_mj),
        limits.preference,
        float(limits.allowance_ms),
    )


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
        classify: Callable[..., Prediction],
        detect: Callable[..., Detections],
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
            made = Stream(name, wanted, view, classify, detect, self._forget)
            self._streams[name] = made
            return made

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            if self._streams.get(stream.name) is stream:
                del self._streams[stream.name]
