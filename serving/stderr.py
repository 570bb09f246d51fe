"""What others write to standard error, as lines of the request log that is written there too."""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import os
import re
import sys
import threading
from contextlib import contextmanager, suppress
from typing import Iterator

from adaptive.serving.logs import JsonLines, Lines, line

#: A longer line is cut into several, bytes.
LONGEST = 64 << 10

#: What waits to be read at most, bytes; what comes while so much waits is lost.
_ROOM = 1 << 20

#: Linux's number for setting the size of a pipe, which Python names from 3.10 on.
_SET_PIPE_SIZE = 1031

#: How a terminal is told to change colours.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextmanager
def as_json(lines: Lines) -> Iterator[None]:
    """Have all that is written to standard error become JSON lines, while the block runs.

    Decoders and runtimes of other languages write to the file itself, so a pipe is put in its
    place and read by a thread. Nobody ever waits for that thread: a runtime may write while it
    holds the interpreter's lock, which the thread needs, so what does not fit is lost. Where the
    process dies, the stacks of its threads go to standard error itself.

    Parameters
    ----------
    lines : made before, so that they go to standard error itself
    """
    try:
        itself = os.dup(2)
    except OSError:  # it is closed, and nobody will read anything
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(OSError):  # over the user's limit
        fcntl.fcntl(writing, _SET_PIPE_SIZE, _ROOM)
    reader = threading.Thread(target=_read, args=(reading, lines), name="stderr", daemon=True)
    reader.start()
    _flush()
    os.dup2(writing, 2)
    os.close(writing)
    told = faulthandler.is_enabled()
    faulthandler.enable(itself)
    warnings, handler = logging.getLogger("py.warnings"), JsonLines(lines)
    warnings.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        warnings.removeHandler(handler)
        _flush()
        os.dup2(itself, 2)  # which closes the pipe, so that the thread ends
        if told:
            faulthandler.enable(2)
        else:
            faulthandler.disable()
        os.close(itself)
        reader.join(2.0)  # a program that was started meanwhile may hold the pipe open


def _read(reading: int, lines: Lines) -> None:
    """Log what comes until the pipe is closed."""
    rest = b""
    while True:
        data = os.read(reading, LONGEST)
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) >= LONGEST or not data:
            whole, rest = [*whole, rest], b""
        for text in whole:
            message = _COLOUR.sub("", text.decode("utf-8", "replace")).strip()
            if message:
                lines.add(line({"level": "warning", "logger": "stderr", "message": message}))
        lines.flush()  # at once, since the process may be about to die
        if not data:
            os.close(reading)
            return


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()
