"""What watches goes on after a restart, since a fresh start is a fresh chance of a false alarm."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping, Protocol, Sequence

from adaptive.errors import InputError
from adaptive.files import read_json, write_json

log = logging.getLogger("adaptive.monitoring.resuming")

#: Seconds between two writes of the state; a power cut forgets no more.
EVERY_S = 60.0


class Resumable(Protocol):
    """Something whose state outlives the server."""

    name: str

    def to_json(self) -> dict[str, Any]:
        """All that `restore` needs."""
        ...

    def restore(self, values: Mapping[str, Any], where: str = ...) -> None:
        """Go on from what `to_json` gave; InputError where that is another's."""
        ...


@contextmanager
def resumed(
    watchers: Sequence[Resumable], log_path: Path | None, every_s: float = EVERY_S
) -> Iterator[None]:
    """Go on from LOG.NAME.json, for each that this file is of, and keep it while the block runs.

    The files are written every `every_s` seconds, and when the block ends.
    """
    if not watchers or log_path is None:
        yield
        return
    paths = [log_path.with_name(f"{log_path.name}.{one.name}.json") for one in watchers]
    for one, path in zip(watchers, paths):
        if path.exists():
            try:
                one.restore(read_json(path, f"the {one.name} state"), path.name)
            except InputError as error:
                log.warning("%s is watched from the start: %s", one.name, error)

    def write() -> None:
        for one, path in zip(watchers, paths):
            try:
                write_json(path, one.to_json())
            except OSError as error:
                log.error("the %s state %s cannot be written: %s", one.name, path, error.strerror)

    ended = threading.Event()

    def write_often() -> None:
        while not ended.wait(every_s):
            write()

    thread = threading.Thread(target=write_often, name="adaptive-states", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write()
