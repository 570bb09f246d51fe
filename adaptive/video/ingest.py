"""Frames of a clip or a camera into an index: gate, objects, a cheap network, clusters."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Callable, Iterable, List, Tuple

import numpy as np

from adaptive.images.video import VideoFrame
from adaptive.video.gate import STILL, FrameGate, change
from adaptive.video.index import CAMERA, CLIP, Clip
from adaptive.video.index_writer import IndexWriter
from adaptive.video.lookers import Looker, Waiting
from adaptive.video.seen import SeenFrame
from adaptive.video.view import View

#: Objects, and bytes of pictures, that are filed together, and seconds that a camera's may wait.
OBJECTS, BYTES, WAIT_S = 512, 16_000_000, 2.0

#: Bytes at each end of a file that tell it from others.
_ENDS = 1 << 20


class LastPassed:
    """What a gate remembers of a stream: the last frame that it let through.

    Parameters
    ----------
    gate : None lets every frame through
    every : of the frames that it lets through in turn, only each so-many-th counts, from the first
        one on
    """

    def __init__(self, gate: FrameGate | None, every: int = 1) -> None:
        self.gate = gate
        self.every = every
        self._view = View()
        self.reset()

    def reset(self) -> None:
        """Forget it."""
        self._small: np.ndarray | None = None
        self._time_s = 0.0
        self._passed = 0

    def passes(self, image: np.ndarray, time_s: float) -> bool:
        """Whether a frame is to be looked at: it passes the gate, and its turn has come."""
        if not self._changed(image, time_s):
            return False
        self._passed += 1
        return self._passed % self.every == 1 % self.every

    def _changed(self, image: np.ndarray, time_s: float) -> bool:
        """Whether something changed since the last frame that passed."""
        if self.gate is None:
            return True
        small = self._view.picture(image)
        before = self._small
        if (
            before is not None
            and before.shape == small.shape
            and time_s - self._time_s <= self.gate.age_s
            and change(before, small, self.gate).what == STILL
        ):
            return False
        self._small, self._time_s = small, time_s
        return True


@dataclass
class Ingested:
    """What indexing a clip came to.

    frames : that were read, without those that were in the index already
    looked : of these, that were looked at
    ms : milliseconds by step: gate, look (finding objects and asking networks), index
    """

    frames: int = 0
    looked: int = 0
    objects: int = 0
    ms: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("gate", "look", "index"), 0.0)
    )


class Ingest:
    """Brings frames into an index.

    Parameters
    ----------
    writer : of the index, open
    looker : finds objects, as the index's settings say
    """

    def __init__(self, writer: IndexWriter, looker: Looker) -> None:
        self.writer = writer
        self.looker = looker
        gate = writer.settings.gate
        every = writer.settings.every
        self._newest = LastPassed(FrameGate.parse(gate) if gate else None, every)

    def clip(
        self,
        frames: Iterable[VideoFrame],
        path: Path,
        camera: str | None = None,
        start_s: float = 0.0,
        most: int | None = None,
    ) -> Ingested:
        """A file's frames, all of them; those that an earlier call filed are only looked at.

        Parameters
        ----------
        frames : of the file at `path`
        camera : whose clip it is; the file's name without its suffix when left out
        start_s : when its first frame was, in seconds since 1970; 0 where nobody knows
        most : file no further than this frame; a later call goes on after it

        Raises
        ------
        InputError
            when the index has another clip of this name.
        """
        return self._run(
            frames,
            lambda size: self.writer.begin(
                path.stem if camera is None else camera,
                path.name,
                CLIP,
                str(path.resolve()),
                print_of(path),
                start_s,
                size,
            ),
            most=most,
        )

    def camera(
        self,
        frames: Iterable[VideoFrame],
        camera: str,
        source: str,
        openings: Callable[[], int] = lambda: 1,
    ) -> Ingested:
        """A camera's frames as they come; each call is a run of its own.

        Parameters
        ----------
        openings : how often the camera was opened so far
        """
        now_s = time.time()
        name = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now_s))
        return self._run(
            frames,
            lambda size: self.writer.begin(camera, name, CAMERA, source, "", now_s, size),
            openings=openings,
            wait_s=WAIT_S,
        )

    def _run(
        self,
        frames: Iterable[VideoFrame],
        begin: Callable[[tuple[int, int]], Clip],
        *,
        openings: Callable[[], int] = lambda: 1,
        wait_s: float = float("inf"),
        most: int | None = None,
    ) -> Ingested:
        found = Ingested()
        self._restart()
        opened, clip, waiting = openings(), None, _Pending()
        filed_s = perf_counter()
        for frame in islice(frames, most):
            if clip is None:
                clip = begin(frame.image.shape[:2])
                if clip.done:
                    return found
            if openings() != opened:  # it was gone, and may look elsewhere now
                self._restart()
                opened = openings()
            began = perf_counter()
            passes = self._newest.passes(frame.image, frame.time_s)
            then = perf_counter()
            filed = frame.number <= clip.frames  # by an earlier call, and only looked at again
            seen = self.looker.see(frame.image, passes and not filed)
            waiting.reached(frame)
            if filed:
                continue
            found.ms["gate"] += (then - began) * 1e3
            found.ms["look"] += (perf_counter() - then) * 1e3
            found.frames += 1
            if seen is not None:
                waiting.add(frame, seen)
                found.looked += 1
                found.objects += len(seen.boxes)
            full = waiting.objects >= OBJECTS or waiting.bytes >= BYTES
            if full or perf_counter() - filed_s > wait_s:
                self._file(clip, waiting, found)
                waiting = _Pending(waiting)
                filed_s = perf_counter()
        if clip is not None:
            self._file(clip, waiting, found, done=most is None or waiting.until_frame < most)
        return found

    def _restart(self) -> None:
        self.looker.restart()
        self._newest.reset()

    def _file(self, clip: Clip, waiting: _Pending, found: Ingested, done: bool = False) -> None:
        """Ask about what waits, and write it."""
        began = perf_counter()
        objects = self.looker.finish([seen for _, _, seen in waiting.frames])
        then = perf_counter()
        frames = [
            SeenFrame(number, time_s, own)
            for (number, time_s, _), own in zip(waiting.frames, objects)
        ]
        until_s = waiting.until_s + (waiting.step_s if done else 0.0)
        self.writer.add(clip, frames, waiting.until_frame, until_s, done)
        found.ms["look"] += (then - began) * 1e3
        found.ms["index"] += (perf_counter() - then) * 1e3


class _Pending:
    """Frames that were looked at and are not filed yet, and up to where all is known.

    before : what was filed last
    """

    def __init__(self, before: _Pending | None = None) -> None:
        self.frames: List[Tuple[int, float, Waiting]] = []
        self.objects = self.bytes = 0
        self.until_frame: int = 0 if before is None else before.until_frame
        self.until_s: float = 0.0 if before is None else before.until_s
        self.step_s: float = 0.0 if before is None else before.step_s

    def add(self, frame: VideoFrame, seen: Waiting) -> None:
        """One more frame; its own pixels are not kept."""
        self.frames.append((frame.number, frame.time_s, seen))
        self.objects += len(seen.boxes)
        self.bytes += seen.bytes

    def reached(self, frame: VideoFrame) -> None:
        """Up to this frame all is known."""
        if self.until_frame:
            self.step_s = max(0.0, frame.time_s - self.until_s)
        self.until_frame, self.until_s = frame.number, frame.time_s


def print_of(path: Path) -> str:
    """What tells a file from others: its length, and a SHA-256 of its beginning and end."""
    length = path.stat().st_size
    digest = hashlib.sha256(str(length).encode())
    with open(path, "rb") as file:
        digest.update(file.read(_ENDS))
        file.seek(max(0, length - _ENDS))
        digest.update(file.read(_ENDS))
    return digest.hexdigest()
