"""Log lines as JSON objects, one a line, written together by a thread of their own."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import deque
from functools import lru_cache
from pathlib import Path
from time import gmtime, strftime, time
from typing import Any, Mapping

from adaptive.errors import InputError
from adaptive.serving.record import current

#: Lines wait at most so long before they are written, seconds.
INTERVAL_S = 0.2

#: Lines that may wait; where nobody reads what is written, later ones are lost, and counted.
MOST = 20_000


class Lines:
    """A file, or standard error, that lines are appended to without waiting for it.

    Parameters
    ----------
    path : the file; None for standard error

    Attributes
    ----------
    lost : lines that could not be written

    Raises
    ------
    InputError
        when the file cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lost = 0
        self._waiting: deque[str] = deque()
        self._some = threading.Event()
        self._closed = False
        self._writing = threading.Lock()
        try:
            self._file = self._open()
        except OSError as exc:
            raise InputError(f"the request log {path} cannot be opened: {exc.strerror}") from exc
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"Lines({str(self.path or 'standard error')!r})"

    def add(self, line: str) -> None:
        """Append one line, which must not hold a line break."""
        if len(self._waiting) >= MOST:
            self.lost += 1
            return
        self._waiting.append(line)
        if not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            count = len(self._waiting)
            if not count:
                return
            text = "\n".join([self._waiting.popleft() for _ in range(count)]) + "\n"
            data = memoryview(text.encode("utf-8", "replace"))
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError:  # a full disk, or a pipe that nobody reads
                self.lost += count

    def reopen(self) -> None:
        """Open the file anew, after it was renamed by a rotation."""
        if self.path is None:
            return
        self.flush()
        with self._writing:
            try:
                fresh = self._open()
            except OSError:
                return
            os.close(self._file)
            self._file = fresh

    def close(self) -> None:
        """Write what waits, and end."""
        self._closed = True
        self._some.set()
        self._thread.join(2.0)
        self.flush()
        with self._writing:
            os.close(self._file)
            self._file = os.open(os.devnull, os.O_WRONLY)

    def _open(self) -> int:
        if self.path is None:
            try:
                return os.dup(2)  # of its own, since a pipe may take the place of 2
            except OSError:  # it is closed
                return os.open(os.devnull, os.O_WRONLY)
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closed:
            self._some.wait()
            if not self._closed:
                pause.wait(INTERVAL_S)  # for more lines to come together
            self._some.clear()
            self.flush()


class JsonLines(logging.Handler):
    """Hands the library's own log records to `Lines`, as JSON, with the request's id."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Take in one record."""
        try:
            values: dict[str, Any] = {
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
            request = current()
            if request is not None:
                values["request"] = request.id
                if request.trace is not None:
                    values["trace"] = request.trace
            if record.exc_info and record.exc_info[0] is not None:
                values["traceback"] = logging.Formatter().formatException(record.exc_info)
            self._lines.add(line(values, record.created))
        except Exception:
            self.handleError(record)


def line(values: Mapping[str, Any], seconds: float | None = None) -> str:
    """One line: the time, then the values."""
    now = time() if seconds is None else seconds
    stamp = f"{_second(int(now))}.{int(now % 1 * 1000):03}Z"
    return json.dumps({"time": stamp, **values}, separators=(",", ":"))


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))
