"""One camera's state: the last frame that was computed, and its answer."""

from __future__ import annotations

import math
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.checks import shown
from adaptive.errors import DeadlineError, InputError
from adaptive.images.decode import ImageLike, checked_array
from adaptive.images.decoded import DecodedImage
from adaptive.limits import UNLIMITED, Limits
from adaptive.prediction import Prediction, Reused
from adaptive.tasks.detections import Detections
from adaptive.video.computed import LastComputed
from adaptive.video.gate import CUT, FIRST, STILL, FrameGate
from adaptive.video.view import View

#: An answer that was made in so much of the time that is allowed now is reused.
LEAST_TIME = 0.8


class Ways(NamedTuple):
    """What answers a frame that is computed.

    decode : makes pixels of encoded bytes, a path or a file
    classify, detect : as a router's; they take what `decode` gives, too
    forget : called where a stream begins anew: at its first frame, a cut, another size
    alone : whether these must answer the stream's frames, and no batch with others' may
    """

    decode: Callable[[Any], DecodedImage]
    classify: Callable[..., Prediction]
    detect: Callable[..., Detections]
    forget: Callable[[], None] = lambda: None
    alone: bool = False


class StreamRequest(NamedTuple):
    """All that an answer depends on beside the frame."""

    way: str
    explain: bool
    remaining_ms: float
    others: Tuple[float, ...]

    @classmethod
    def of(cls, way: str, limits: Limits, explain: bool) -> StreamRequest:
        """Of one request."""
        others = float(limits.remaining_mj), limits.preference, float(limits.allowance_ms)
        return cls(way, explain, float(limits.remaining_ms), others)

    def answered_by(self, other: StreamRequest) -> bool:
        """Whether the other's answer does: made for the same, and with about as much time."""
        if (self.way, self.explain, self.others) != (other.way, other.explain, other.others):
            return False
        return other.remaining_ms >= LEAST_TIME * self.remaining_ms


class Kept(NamedTuple):
    """The last computed answer, and the frame that it was given to."""

    shape: Tuple[int, ...]
    asked: StreamRequest
    answer: Any
    frame: int


class LookedAt(NamedTuple):
    """A frame that was looked at, and what becomes of it.

    frame : as it came, or decoded where it came encoded
    ms : what looking took
    kept : what is answered with where it is still
    """

    what: str
    frame: Any
    shape: Tuple[int, ...]
    picture: np.ndarray
    time_s: float
    ms: float
    kept: Kept | None


class Stream:
    """Answers the frames of one camera, and computes only those that changed.

    Made by `Router.stream`. Threads may share one; its frames are answered one after the other.

    Parameters
    ----------
    name : of the camera
    gate : what still counts as the same frame
    view : what of a frame is compared
    ways : what computes the answer to a frame
    close : called once when the stream is closed

    Attributes
    ----------
    frames : how many were asked
    counts : frames by what became of them: "still" were reused, and "first", "learning",
        "moved", "light", "cut" and "old" were computed, each for that reason
    """

    def __init__(
        self,
        name: str,
        gate: FrameGate,
        view: View,
        ways: Ways,
        close: Callable[[Stream], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.gate = gate
        self.frames = 0
        self.counts: Counter[str] = Counter()
        self._view = view
        self._ways = ways
        self._close = close
        self._computed = LastComputed(gate)
        self._kept: Kept | None = None
        self._last_s: float | None = None
        self._lock = threading.Lock()

    def classify(
        self,
        frame: ImageLike,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
        *,
        time_s: float | None = None,
    ) -> Prediction:
        """Answer one frame as `Router.classify` does, or with the last answer if nothing changed.

        Parameters
        ----------
        frame : as for `Router.classify`; an ndarray (height, width, 3), uint8, RGB, costs least
        limits, explain, request_id : as for `Router.classify`. Where they are others than the
            last answer's, the frame is computed; a deadline may be up to a fifth longer.
        time_s : when the frame is shown, for its age; by the clock when left out. Where it goes
            back, somebody sought, and the frame is computed.

        Returns
        -------
        A prediction; `reused` says from which frame it is, and how old, or is None where it was
        computed. Only computed ones are shown to observers and audited.

        Raises
        ------
        InputError, ImageError
            when the frame is none, or cannot be read.
        DeadlineError
            when earlier frames of the stream take until the deadline has passed.
        """
        asked = StreamRequest.of("classify", limits, explain)
        with self._held(limits):
            found: Prediction = self._answer(frame, asked, limits, request_id, time_s)
        return found

    def detect(
        self,
        frame: ImageLike,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
        *,
        time_s: float | None = None,
    ) -> Detections:
        """Find the objects of one frame, as `classify` does for classes."""
        asked = StreamRequest.of("detect", limits, explain)
        with self._held(limits):
            found: Detections = self._answer(frame, asked, limits, request_id, time_s)
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

    @contextmanager
    def _held(self, limits: Limits = UNLIMITED) -> Iterator[None]:
        """Answer no other frame meanwhile."""
        left_ms = float(np.min(limits.remaining_ms))
        if not self._lock.acquire(timeout=-1 if math.isinf(left_ms) else max(left_ms, 0) / 1e3):
            raise DeadlineError(
                f"the stream {self.name!r} was answering earlier frames until the deadline passed"
            )
        try:
            yield
        finally:
            self._lock.release()

    def _answer(
        self,
        frame: ImageLike,
        asked: StreamRequest,
        limits: Limits,
        request_id: str | None,
        time_s: float | None,
    ) -> Any:
        seen = self._see(frame, asked, time_s)
        if seen.what == STILL:
            return self._reuse(seen)
        return self._compute(seen, asked, limits, request_id)

    def _compute(
        self, seen: LookedAt, asked: StreamRequest, limits: Limits, request_id: str | None = None
    ) -> Any:
        """The answer of the stream's own ways to a frame."""
        if seen.what in (FIRST, CUT):
            self._ways.forget()
        way = getattr(self._ways, asked.way)
        return self._keep(seen, asked, way(seen.frame, limits, asked.explain, request_id))

    def _see(self, frame: ImageLike, asked: StreamRequest, time_s: float | None) -> LookedAt:
        """Look at a frame. What is computed for it is kept by `_keep`, or else nothing is."""
        began = perf_counter()
        now_s = monotonic() if time_s is None else float(time_s)
        decoded: Any = frame
        if not isinstance(frame, np.ndarray):
            decoded = self._ways.decode(frame)
            pixels: np.ndarray = decoded.pixels
        else:
            decoded = pixels = checked_array(frame)
        picture = self._view.picture(pixels)
        what = self._judge(picture, pixels.shape, asked, now_s)
        self._last_s = now_s
        spent_ms = (perf_counter() - began) * 1e3
        kept = self._kept
        if what != STILL:
            self._kept = None  # nothing half-made is left where the answer fails
        return LookedAt(what, decoded, pixels.shape, picture, now_s, spent_ms, kept)

    def _judge(
        self, picture: np.ndarray, shape: Tuple[int, ...], asked: StreamRequest, now_s: float
    ) -> str:
        """What becomes of a frame."""
        kept = self._kept
        if kept is None or not asked.answered_by(kept.asked):
            self._computed.lose()
            return FIRST
        if kept.shape != shape or (self._last_s is not None and now_s < self._last_s):
            self._computed.lose()
            return CUT
        return self._computed.judge(picture, now_s).what

    def _reuse(self, seen: LookedAt) -> Any:
        """The last answer, for this frame."""
        assert seen.kept is not None
        number = self._count(STILL)
        age_s = seen.time_s - self._computed.time_s
        was = Reused(seen.kept.frame, number - seen.kept.frame, age_s)
        decode = seen.frame.ms if isinstance(seen.frame, DecodedImage) else None
        ms = {} if decode is None else {"decode": decode}
        ms.update(gate=seen.ms - (decode or 0.0), total=seen.ms)
        return replace(seen.kept.answer, ms=ms, path=(), reused=was)

    def _keep(self, seen: LookedAt, asked: StreamRequest, answer: Any) -> Any:
        """Remember what was computed for a frame."""
        self._computed.accept(seen.picture, seen.time_s, seen.what, answer)
        self._kept = Kept(seen.shape, asked, answer, self._count(seen.what))
        return answer

    def _count(self, what: str) -> int:
        self.frames += 1
        self.counts[what] += 1
        return self.frames


def classify_streams(
    pairs: Iterable[Tuple[Stream, ImageLike]],
    classify_batch: Callable[[List[Any], Limits], List[Prediction]],
    limits: Limits,
    times_s: Sequence[float] | None,
) -> List[Prediction]:
    """Answer one frame of each of several streams; see `Router.classify_streams`."""
    given = list(pairs)
    for stream, _ in given:
        if not isinstance(stream, Stream):
            raise InputError(f"{shown(stream)} is no stream; Router.stream makes one")
    streams = [stream for stream, _ in given]
    twice = [stream.name for stream, many in Counter(streams).items() if many > 1]
    if twice:
        raise InputError(f"the stream {twice[0]!r} is there twice; give one frame of each")
    if times_s is not None and len(times_s) != len(given):
        raise InputError(f"{len(given)} frames have {len(times_s)} times; one each is needed")
    asked = StreamRequest.of("classify", limits, False)
    with ExitStack() as held:
        for stream in sorted(streams, key=id):  # in one order, or two calls wait for each other
            held.enter_context(stream._held(limits))
        times = [None] * len(given) if times_s is None else times_s
        seen = [s._see(frame, asked, when) for (s, frame), when in zip(given, times)]
        joined = [
            one.what != STILL and not stream._ways.alone for stream, one in zip(streams, seen)
        ]
        wanted = [frame for (_, frame), joins in zip(given, joined) if joins]
        computed = iter(classify_batch(wanted, limits) if wanted else ())
        answers = []
        for stream, one, joins in zip(streams, seen, joined):
            if joins:
                answers.append(stream._keep(one, asked, next(computed)))
            elif one.what == STILL:
                answers.append(stream._reuse(one))
            else:
                answers.append(stream._compute(one, asked, limits))
        return answers
