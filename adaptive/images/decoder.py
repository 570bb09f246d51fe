"""The program that decodes frames in a process of its own; `capture.py` starts it.

A damaged file can make OpenCV's decoders abort, and a driver can hang for good: here either harms
nobody. It is run by its path, imports only OpenCV, and is asked over its standard input: one line
`SLOT SKIP` a frame. It answers each with one line of JSON, and writes the frame, RGB, into the
shared memory of that slot.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import resource
import sys
import tempfile
import threading
import time
from typing import Any


class Slot:
    """Memory that the other process sees as well."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None

    def write(self, cv2: Any, frame: Any) -> tuple[int, int]:
        """Put an image there as RGB; returns its height and width."""
        import numpy as np

        height, width = frame.shape[:2]
        size = height * width * 3
        if self._map is None or len(self._map) < size:
            os.posix_fallocate(self._fd, 0, size)  # a full memory is an error here, not a crash
            self._map = mmap.mmap(self._fd, size)
        place = np.frombuffer(self._map, np.uint8, size).reshape(height, width, 3)
        channels = 1 if frame.ndim == 2 else frame.shape[2]
        codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
        if channels not in codes or frame.dtype != np.uint8:
            raise ValueError(f"a frame of {channels} channels, {frame.dtype}; BGR, 8 bit, is read")
        cv2.cvtColor(frame, codes[channels], dst=place)
        return height, width


class Every:
    """All frames of a file, one after the other."""

    def __init__(self, cv2: Any, capture: Any) -> None:
        self._capture, self._at = capture, cv2.CAP_PROP_POS_MSEC
        self._read = 0

    def next(self, skip: int) -> tuple[int, float, Any]:
        """(How many were read, when the last is shown in ms, the frame or None at the end)."""
        for _ in range(skip):
            if not self._capture.grab():  # not decoded
                return self._read, 0.0, None
            self._read += 1
        right, frame = self._capture.read()
        if not right:
            return self._read, 0.0, None
        self._read += 1
        return self._read, self._capture.get(self._at), frame


class Newest:
    """A thread that reads a capture as fast as it delivers, and keeps the last frame.

    OpenCV's CAP_PROP_BUFFERSIZE would not do: not every backend knows it, and with a buffer of
    one frame the driver keeps the *oldest* until it is read.
    """

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._number, self._given, self._ms = 0, 0, 0.0
        self._frame: Any = None
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, skip: int) -> tuple[int, float, Any]:
        """As `Every.next`, of the newest frame that is more than `skip` behind the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > self._given + skip or self._ended)
            if self._number <= self._given + skip:
                return self._number, 0.0, None
            self._given = self._number
            return self._number, self._ms, self._frame

    def _read(self) -> None:
        right = True
        while right:
            try:
                right, frame = self._capture.read()
            except Exception:  # what a backend throws ends the stream, and the answer says so
                right = False
            with self._changed:
                if right:
                    self._frame, self._number = frame, self._number + 1
                    self._ms = time.monotonic() * 1e3  # of the whole machine
                self._ended = not right
                self._changed.notify_all()


def open_capture(cv2: Any, kind: str, address: int | str, settings: dict[str, int]) -> Any:
    """A capture that is open, or the sentence why there is none."""
    if kind == "pipeline":
        if not has_gstreamer(cv2):
            return (
                f"OpenCV {cv2.__version__} here was built without GStreamer, as its wheels are; "
                "use a system's own (python3-opencv, or a Jetson's)"
            )
        capture = cv2.VideoCapture(address, cv2.CAP_GSTREAMER)
    elif kind == "device" and isinstance(address, str):
        capture = cv2.VideoCapture(address, cv2.CAP_V4L2)
    else:
        capture = cv2.VideoCapture(address)
    if not capture.isOpened():
        return ""
    for name, number in settings.items():
        capture.set(getattr(cv2, f"CAP_PROP_FRAME_{name.upper()}", cv2.CAP_PROP_FPS), number)
    return capture


def has_gstreamer(cv2: Any) -> bool:
    """Whether this OpenCV can run a pipeline; a backend may be listed and not be there."""
    registry = cv2.videoio_registry
    asked = getattr(registry, "hasBackend", None)  # 4.6 has it
    known = cv2.CAP_GSTREAMER in registry.getBackends()
    return bool(known and (asked is None or asked(cv2.CAP_GSTREAMER)))


def hear(requests: queue.Queue[tuple[int, int]]) -> None:
    """Pass on what is asked; who asks nothing more wants this process no longer."""
    for line in sys.stdin:
        slot, skip = line.split()
        requests.put((int(slot), int(skip)))
    os._exit(0)


def main() -> None:
    """Open what the argument names, say so, and deliver frames until nobody asks."""
    told = json.loads(sys.argv[1])
    sys.path[:] = told["path"]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests: queue.Queue[tuple[int, int]] = queue.Queue()
    threading.Thread(target=hear, args=(requests,), daemon=True).start()
    import cv2

    def answer(**about: object) -> None:
        answers.write(json.dumps(about) + "\n")

    quiet = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            capture = open_capture(cv2, told["kind"], told["address"], told["settings"])
        except cv2.error as error:
            capture = str(error)
        os.dup2(quiet, 2)
        if isinstance(capture, str):
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            last = [line.strip() for line in lines if line.strip()][-1:]
            answer(refused=capture or "".join(last), version=cv2.__version__)
            return
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    rate = capture.get(cv2.CAP_PROP_FPS)
    answer(frames=frames if 0 < frames < 1e12 else 0, rate=rate if 0 < rate < 1e6 else 0)
    slots = [Slot(fd) for fd in told["slots"]]
    source: Any = Newest(capture) if told["live"] else Every(cv2, capture)
    while True:
        slot, skip = requests.get()
        try:
            count, ms, frame = source.next(skip)
            if frame is None:
                answer(end=count)
                continue
            height, width = slots[slot].write(cv2, frame)
        except (cv2.error, OSError, ValueError) as error:
            answer(failed=str(error))
            continue
        answer(count=count, ms=ms, height=height, width=width)


if __name__ == "__main__":
    main()
