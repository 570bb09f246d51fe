"""Frames from a camera or a video file, through OpenCV.

A file is what the tests read; no camera was at hand where this was written, so opening a real
device is the one part that has only been tried where there is none.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, Union

import numpy as np

from adaptive.errors import InputError

Source = Union[int, str, Path]

#: What of a video's length may be without frames at its end: a share, and seconds at most.
SLACK, SLACK_S = 0.02, 1.0


class Camera:
    """Iterate over the frames of a camera or a video file; use it in a `with` statement.

    A file delivers every frame. A live camera delivers the newest: frames that come while the
    last one is worked on are dropped, so that what is seen is never older than one frame. A
    thread reads them away. OpenCV's own CAP_PROP_BUFFERSIZE would not do: not every backend
    knows it, and with a buffer of one frame the driver keeps the *oldest* until it is read.

    Parameters
    ----------
    source : index of a camera, from 0, or path of a video file
    live : drop frames that cannot be kept up with; left out, a camera does and a file does not
    every : deliver only each so-many-th frame, the first one included

    Attributes
    ----------
    number : of the frame delivered last, counted from 1 over all that the source gave
    left_out : after the last frame of a file that ended early, a sentence on how many frames
        were read of how many; None where there is nothing to say

    Raises
    ------
    InputError
        when the camera cannot be opened, or the file is no video; while iterating, when there
        is not one frame to read, or a camera stops.
    """

    def __init__(self, source: Source, live: bool | None = None, every: int = 1) -> None:
        if every < 1:
            raise InputError(f"every {every} is not a whole number >= 1")
        self.source = source
        self.live = isinstance(source, int) if live is None else live
        self.every = every
        self.number = 0
        self.left_out: str | None = None
        self._read, self._ms = 0, 0.0
        self._capture: Any = _open(source)
        self._newest = _Newest(self._capture) if self.live else None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Frames of shape (height, width, 3), uint8, RGB, until a file ends."""
        import cv2

        while True:
            frame = self._next() if self._newest is None else self._next_live(self._newest)
            if frame is None:
                break
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if self._capture is not None and (self.number == 0 or isinstance(self.source, int)):
            raise InputError(f"{_name(self.source)} gave {self.number or 'no'} frames and stopped")
        if self._capture is not None and self._newest is None:
            self.left_out = self._missing()

    def close(self) -> None:
        """Give the device or file back; a running iteration ends."""
        if self._newest is not None:
            self._newest.stop()  # its thread closes the capture, which only it may touch
        elif self._capture is not None:
            self._capture.release()
        self._capture = None

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> np.ndarray | None:
        if self._capture is None:
            return None
        skip = self.every - 1 if self.number else 0
        for _ in range(skip):
            if not self._capture.grab():  # not decoded
                return None
            self._count()
        right, frame = self._capture.read()
        if not right:
            return None
        self._count()
        self.number += skip + 1
        result: np.ndarray = frame
        return result

    def _count(self) -> None:
        import cv2

        self._read += 1
        self._ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)

    def _missing(self) -> str | None:
        """What is said of a file that ended before the time that its header says.

        Many containers tell only how long they are, so that the number of frames is an estimate;
        the time must be short too, by more than sound that goes on a little longer.
        """
        import cv2

        frames = round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        if not (frames > self._read + 1 and rate > 0):
            return None
        seconds = frames / rate
        if seconds - self._ms / 1e3 <= max(2.5 / rate, min(SLACK_S, SLACK * seconds)):
            return None
        return (
            f"{_name(self.source)} ended after {self._read} of {frames} frames; the rest is cut "
            "off or damaged"
        )

    def _next_live(self, newest: _Newest) -> np.ndarray | None:
        number, frame = newest.after(self.number + self.every - 1 if self.number else 0)
        if frame is not None:
            self.number = number
        return frame


class _Newest:
    """A thread that reads a capture as fast as it delivers, and keeps the last frame."""

    def __init__(self, capture: Any) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._number = 0
        self._frame: np.ndarray | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def after(self, number: int) -> tuple[int, np.ndarray | None]:
        """Wait for a frame later than `number`; None when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._stopped)
            if self._number <= number:
                return number, None
            return self._number, self._frame

    def stop(self) -> None:
        """End the thread; a driver that hangs is left behind after two seconds."""
        with self._changed:
            self._stopped = True
            self._frame, self._number = None, 0
            self._changed.notify_all()
        self._thread.join(2.0)

    def _read(self) -> None:
        try:
            while not self._stopped:
                right, frame = self._capture.read()
                with self._changed:
                    if not right or self._stopped:
                        break
                    self._frame, self._number = frame, self._number + 1
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            self._capture.release()


def _open(source: Source) -> Any:
    import cv2

    if isinstance(source, int):
        if source < 0:
            raise InputError(f"a camera has an index of 0 or more, not {source}")
        with _quiet(cv2):
            capture = cv2.VideoCapture(source)
        if not capture.isOpened():
            capture.release()
            raise InputError(
                f"camera {source} cannot be opened; is it connected, free, and may you read "
                f"/dev/video{source}?"
            )
        return capture
    path = Path(source)
    if not path.exists():
        raise InputError(f"there is no video {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a video")
    with _quiet(cv2):
        capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{path} is not a video that OpenCV {cv2.__version__} can read")
    return capture


def _name(source: Source) -> str:
    return f"camera {source}" if isinstance(source, int) else str(source)


@contextmanager
def _quiet(cv2: ModuleType) -> Iterator[None]:
    """Keep OpenCV's own warnings off the terminal: the error that follows says it in words."""
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
