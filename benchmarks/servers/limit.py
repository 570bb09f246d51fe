"""The work alone, without a server: `python limit.py adaptive BUNDLE IMAGE`, or the peers'.

Reads a number of seconds from each line of standard input, works so long on the same bytes that
the server gets, and answers with a line of JSON: requests, wall seconds, CPU seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Callable, Sequence

HERE = Path(__file__).resolve()


class Limit:
    """A process that does the work in-process, when it is asked to.

    Parameters
    ----------
    python : runs it
    arguments : as above
    core : where it runs
    """

    def __init__(self, python: str, arguments: Sequence[str], core: int | None) -> None:
        from servers.process import pinned

        self._process = subprocess.Popen(
            [python, str(HERE), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: pinned(core),
        )

    def run(self, seconds: float) -> dict[str, float]:
        """Requests, wall seconds and CPU seconds of one block."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.communicate()


def worker(kind: str, served: str) -> Callable[[bytes], object]:
    """What answers one image."""
    if kind == "adaptive":
        from adaptive import Router

        router = Router.load(served)
        router.warm_up()
        return router.classify
    sys.path.insert(0, str(HERE.parents[1] / "peers"))
    from network import Network

    return Network(served).classify


def main() -> None:
    kind, served, image_path = sys.argv[1:]
    image, work = Path(image_path).read_bytes(), worker(kind, served)
    for line in sys.stdin:
        end, count = perf_counter() + float(line), 0
        began, spent = perf_counter(), process_time()
        while perf_counter() < end:
            work(image)
            count += 1
        done: dict[str, Any] = {
            "requests": count,
            "seconds": perf_counter() - began,
            "cpu_s": process_time() - spent,
        }
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
