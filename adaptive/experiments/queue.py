"""Shards over a queue: Dramatiq on Redis, with messages that hold a name and nothing else.

The queue only delivers. A worker that is killed stops its heartbeat, and its message goes back;
a message that is lost with Redis is sent again by the coordinator, who looks into the store.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Callable

from adaptive.errors import InputError, MissingExtra
from adaptive.experiments.engine import ShardEngine, Unreachable
from adaptive.experiments.shard import TIMES, Shard, slug
from adaptive.experiments.store import Store, StoreError
from adaptive.experiments.work import Stopped, Work

log = logging.getLogger("adaptive.experiments")

#: Name of the queue. Redis keeps what waits and what runs in the hash "dramatiq:adaptive.msgs".
QUEUE = "adaptive"

#: Name of the actor in a message.
ACTOR = "shard"

#: Seconds without a heartbeat after which a worker counts as dead.
HEARTBEAT_S = 60.0

#: Seconds that a worker that is told to stop goes on with its shard.
GRACE_S = 25.0

#: Dramatiq looks after dead workers with this many of a million commands: with every one. By its
#: default it is one in a thousand, and a quiet queue never gives a dead worker's message back.
_ALWAYS = 1_000_000


def times_queue(board: str) -> str:
    """The queue of shards whose times are to be measured on one kind of machine."""
    return f"{QUEUE}-times-{slug(board)}"


def open_broker(url: str, heartbeat_s: float = HEARTBEAT_S) -> Any:
    """Dramatiq's broker at a Redis URL.

    Raises
    ------
    MissingExtra
        when Dramatiq is not installed.
    InputError
        when the URL is none.
    """
    # A worker holds one message, that which it runs: the next one is for whoever is free.
    os.environ.setdefault("dramatiq_queue_prefetch", "1")
    try:
        from dramatiq.brokers.redis import RedisBroker as broker_class
        from dramatiq.middleware import Retries
    except ImportError:
        raise MissingExtra(f"the queue {url}", "dramatiq[redis]", "fleet") from None
    retries = Retries(max_retries=3, min_backoff=1000, max_backoff=30_000)
    try:
        made: Any = broker_class
        return made(
            url=url,
            middleware=[retries],
            maintenance_chance=_ALWAYS,
            heartbeat_timeout=round(heartbeat_s * 1000),
        )
    except ValueError as exc:
        raise InputError(f"queue {url!r} is no address of a Redis: {exc}") from exc


class QueueEngine(ShardEngine):
    """Sends shards to workers that listen on a queue.

    Parameters
    ----------
    url : redis://HOST:PORT/DB
    heartbeat_s : as the workers have it
    """

    def __init__(self, url: str, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.url = url
        self._broker = open_broker(url, heartbeat_s)
        self._queues = {QUEUE}

    def submit(self, key: str, shard: Shard) -> None:
        """Put a message with the shard's key into the queue."""
        import dramatiq
        import redis

        name = QUEUE
        if shard.kind == TIMES and shard.board is not None:
            name = times_queue(shard.board)
        self._queues.add(name)
        message: Any = dramatiq.Message(
            queue_name=name, actor_name=ACTOR, args=(key,), kwargs={}, options={}
        )
        try:
            self._broker.enqueue(message)
        except redis.RedisError as exc:
            raise Unreachable(f"the queue {self.url} cannot be reached: {exc}") from exc

    def waiting(self) -> set[str]:
        """Keys in the queue's hashes: those that wait, that run, and that are tried again."""
        import redis

        found: set[str] = set()
        try:
            for queue in self._queues:
                for name in (queue, f"{queue}.DQ"):
                    messages = self._broker.client.hvals(f"{self._broker.namespace}:{name}.msgs")
                    found.update(str(json.loads(m)["args"][0]) for m in messages)
        except redis.RedisError as exc:
            raise Unreachable(f"the queue {self.url} cannot be reached: {exc}") from exc
        return found

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()


def work_queue(
    url: str,
    store: Store,
    board: str | None = None,
    heartbeat_s: float = HEARTBEAT_S,
    grace_s: float = GRACE_S,
    say: Callable[[str], None] = print,
    listening: Callable[[], None] = lambda: None,
) -> None:
    """Run shards from a queue until SIGTERM or SIGINT.

    Told to stop, a worker goes on with its shard for `grace_s`, and then puts it back.

    Parameters
    ----------
    listening : called once messages are taken
    """
    stop = threading.Event()
    deadline: list[float] = []

    def told(_signal: int, _frame: FrameType | None) -> None:
        deadline.append(time.monotonic() + grace_s)
        stop.set()

    def stopping() -> bool:
        return bool(deadline) and time.monotonic() > deadline[0]

    work = Work(store, board=board, stopping=stopping)
    broker = open_broker(url, heartbeat_s)
    import dramatiq

    def perform(key: str) -> None:
        began = time.monotonic()
        try:
            came = work.perform(key)
        except Stopped:
            message: Any = dramatiq.Message(
                queue_name=own.queue_name, actor_name=ACTOR, args=(key,), kwargs={}, options={}
            )
            broker.enqueue(message)
            say(f"{key[:12]} is put back")
            return
        except (StoreError, OSError) as error:
            say(f"{key[:12]}: {error}; it is tried again")
            raise
        say(f"{key[:12]} {came} in {time.monotonic() - began:.2f} s")

    # Messages of both queues name one actor.
    own = dramatiq.Actor(
        perform, broker=broker, actor_name=ACTOR, queue_name=QUEUE, priority=0, options={}
    )
    broker.declare_actor(own)
    broker.declare_queue(times_queue(work.board))
    logging.getLogger("dramatiq").setLevel(logging.CRITICAL)
    previous = {s: signal.signal(s, told) for s in (signal.SIGTERM, signal.SIGINT)}
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=200)
    worker.start()
    listening()
    try:
        while not stop.wait(0.2):
            continue
        worker.stop(timeout=round((grace_s + 30) * 1000))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        work.close()
        broker.close()
