"""`adaptive worker`: runs shards of experiments from a queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

import click

from adaptive.cli.settings import configurable


@configurable
@click.command(name="worker")
@click.option(
    "--queue", required=True, metavar="URL", help="redis://HOST:PORT/DB, as given to run."
)
@click.option(
    "--store", required=True, metavar="URL", help="A folder, or such as s3://BUCKET/PREFIX."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Workers to start; one that ends is started again.",
)
@click.option(
    "--board",
    metavar="MODEL",
    help="What this machine is called where times are asked for; its own model when left out.",
)
@click.option(
    "--heartbeat",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds without a sign of life after which a worker's shard goes to another.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 3600),
    default=25.0,
    show_default=True,
    help="Seconds that a worker goes on with its shard when it is told to stop; then it puts the "
    "shard back.",
)
def command(
    queue: str, store: str, processes: int, board: str | None, heartbeat: float, grace: float
) -> None:
    """Run shards from a queue until SIGTERM or Ctrl-C.

    Results go into the store, and a shard whose result is there is not run again. Times are only
    measured for experiments that name this machine's model. Needs the extra `fleet`.
    """
    if processes > 1:
        sys.exit(_supervise(processes))
    from adaptive.experiments.queue import work_queue
    from adaptive.experiments.store import open_store
    from adaptive.experiments.work import board_model

    opened = open_store(store)
    named = board or board_model()
    work_queue(
        queue,
        opened,
        named,
        heartbeat,
        grace,
        lambda line: click.echo(line),
        lambda: click.echo(f"working for {store}, board {named!r}"),
    )


def _supervise(processes: int) -> int:
    """Keep so many workers running; told to stop, stop them."""
    words = [w for w in sys.argv[1:] if not w.startswith("--processes=")]
    while "--processes" in words:
        place = words.index("--processes")
        del words[place : place + 2]
    environment = {**os.environ, "ADAPTIVE_PROCESSES": "1"}
    line = [sys.executable, "-m", "adaptive.cli", *words, "--processes", "1"]
    stopping: list[int] = []

    def told(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    # A group of its own, so that Ctrl-C reaches the children through this one alone.
    children = [subprocess.Popen(line, env=environment, start_new_session=True)
                for _ in range(processes)]  # fmt: skip
    began = [time.monotonic()] * processes
    while not stopping:
        time.sleep(0.2)
        for place, child in enumerate(children):
            if child.poll() is None or stopping:
                continue
            if child.returncode == 2:  # bad input; starting again would not help
                stopping.append(0)
                break
            click.echo(f"a worker ended with {child.returncode}; another is started", err=True)
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began[place])))
            children[place] = subprocess.Popen(line, env=environment, start_new_session=True)
            began[place] = time.monotonic()
    for child in children:
        if child.poll() is None:
            child.terminate()
    codes = [child.wait() for child in children]
    return max((abs(code) for code in codes), default=0)
