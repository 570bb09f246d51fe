"""One opened source of frames, decoded in a process of its own: a crash there is an answer here."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from adaptive.causes import reason
from adaptive.errors import InputError
from adaptive.images.source import FILE, PIPELINE, STREAM, VideoSource

#: Seconds that opening may take; cameras that are far away, or wake up, need some.
OPENING_S = 30.0

#: Frames that shared memory has room for; all but one are decoded ahead where it is a file.
SLOTS = 4


@dataclass(frozen=True)
class Grabbed:
    """One frame: how many the source had given by then, when (ms), and RGB pixels."""

    count: int
    ms: float
    image: np.ndarray


@dataclass(frozen=True)
class Ended:
    """No further frame: how many had been given, and why it ended if not by itself."""

    count: int
    why: str | None = None


class Capture:
    """An open source. `read` gives one frame after the other; `close` ends its process.

    A file's next frames are decoded while the last one is worked on. A live source reads on by
    itself, and `read` gives the newest.

    Parameters
    ----------
    source : what to open
    live : whether the newest frame is wanted, rather than all
    timeout_s, opening_s : how long a frame, and opening, may take
    """

    def __init__(
        self,
        source: VideoSource,
        live: bool,
        timeout_s: float,
        opening_s: float = OPENING_S,
    ) -> None:
        self.source = source
        self.live = live
        self.timeout_s = timeout_s
        self.opening_s = opening_s
        self.frames, self.rate = 0, 0.0
        self._count = 0
        self._asked: list[int] = []  # slots of frames that were asked for, oldest first
        self._free = 0  # the slot that is asked for next
        self._text = b""
        self._maps: dict[int, mmap.mmap] = {}
        self._slots: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> Capture:
        """Start the process and open the source.

        Raises
        ------
        InputError
            when it cannot be opened, with what OpenCV said about it.
        """
        from adaptive.opencv import cv2  # says what to do where there is none

        self._slots = [_memory() for _ in range(SLOTS)]
        told = {
            "path": sys.path,
            "kind": self.source.kind,
            "address": self.source.address,
            "settings": dict(self.source.settings),
            "live": self.live,
            "slots": self._slots,
        }
        environment = {**os.environ, "LIBC_FATAL_STDERR_": "1"}
        # Over UDP a lost packet spoils the picture until the next whole one.
        environment.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
        if not str(self.source.address).startswith("rtsp"):
            del environment["OPENCV_FFMPEG_CAPTURE_OPTIONS"]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("decoder.py")), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=self._slots,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the program that reads the frames
        )
        answer = self._answer(self.opening_s, "did not open")
        if "rate" not in answer:
            said = self._plain(answer.get("refused", answer.get("why", "")))
            self.close()
            raise InputError(self._refusal(said, cv2.__version__))
        self.frames, self.rate = round(answer["frames"]), answer["rate"]
        return self

    def read(self, skip: int = 0) -> Union[Grabbed, Ended]:
        """The next frame after leaving out `skip`; of a live source the newest."""
        if self._process is None:
            return Ended(self._count)
        if not self._asked:
            self._ask(skip if self._count else 0)
        slot = self._asked[0]
        answer = self._answer(self.timeout_s, "gave no frame")
        self._asked = self._asked[1:]
        if "count" not in answer:
            self._count = answer.get("end", self._count)
            return Ended(self._count, answer.get("failed", answer.get("why")))
        while not self.live and len(self._asked) < SLOTS - 1:
            self._ask(skip)
        self._count = answer["count"]
        shape = (answer["height"], answer["width"], 3)
        return Grabbed(self._count, answer["ms"], self._image(slot, shape))

    def close(self) -> None:
        """End the process; a read that waits in another thread ends too."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        for fd in self._slots:
            os.close(fd)
        self._slots, self._maps, self._asked, self._text = [], {}, [], b""

    def _ask(self, skip: int) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        slot, self._free = self._free, (self._free + 1) % SLOTS
        self._asked = [*self._asked, slot]
        with contextlib.suppress(BrokenPipeError):  # it died; that no answer comes says so
            self._process.stdin.write(b"%d %d\n" % (slot, skip))
            self._process.stdin.flush()

    def _answer(self, seconds: float, late: str) -> dict[str, Any]:
        """One line from the process, or `why` there is none; `late` is what did not happen."""
        process = self._process
        if process is None or process.stdout is None:
            return {}
        ends = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        while b"\n" not in self._text:
            left = ends - time.monotonic()
            if left <= 0 or not waiting.poll(left * 1e3):
                return {"why": f"{late} for {seconds:g} s"}
            try:
                block = os.read(process.stdout.fileno(), 65536)
            except (OSError, ValueError):  # another thread has closed it meanwhile
                return {}
            if not block:
                return {"why": _death(process)}
            self._text += block
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _image(self, slot: int, shape: tuple[int, int, int]) -> np.ndarray:
        size = int(np.prod(shape))
        seen = self._maps.get(slot)
        if seen is None or len(seen) < size:
            seen = self._maps[slot] = mmap.mmap(self._slots[slot], size, prot=mmap.PROT_READ)
        return np.frombuffer(seen, np.uint8, size).reshape(shape).copy()

    def _plain(self, said: str) -> str:
        """What OpenCV printed, without its own place and the address with its password."""
        text = said.rpartition(" global ")[2].partition(" ")[2] if " global " in said else said
        text = text.replace(str(self.source.address), self.source.name).strip()
        return reason(InputError(text)) if text else ""

    def _refusal(self, said: str, version: str) -> str:
        if self.source.kind == FILE:
            return f"{self.source.name} is not a video that OpenCV {version} can read"
        why = f": {said}" if said and self.source.kind in (STREAM, PIPELINE) else ""
        return f"{self.source.name} cannot be opened{why}{self.source.cure}"


def _memory() -> int:
    """Memory without a name that two processes can see, as a file descriptor."""
    if hasattr(os, "memfd_create"):  # not every build of Python has it
        return os.memfd_create("frame", 0)
    with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        return os.dup(file.fileno())


def _death(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(5.0)
    except subprocess.TimeoutExpired:
        return "closed its decoder"
    if code < 0:
        return f"crashed its decoder ({signal.Signals(-code).name})"
    return f"ended its decoder (exit code {code})"
