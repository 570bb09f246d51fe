"""Sends shards, looks into the store for what is done, and sends again what is missing."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Callable, Iterable, Mapping

from adaptive.experiments.engine import ShardEngine, Unreachable
from adaptive.experiments.shard import Shard
from adaptive.experiments.store import Store

log = logging.getLogger("adaptive.experiments")

#: Seconds between two looks into the store.
POLL_S = 0.5

#: Seconds after which missing shards are sent again by an engine that cannot tell what waits.
AGAIN_S = 600.0

#: Seconds for which a queue that cannot be reached is tried again.
PATIENCE_S = 600.0

#: Seconds between two warnings of a queue that stays away.
TOLD_S = 60.0


@dataclass(frozen=True)
class Progress:
    """How far shards are."""

    total: int
    done: int
    failed: Mapping[str, str]


def carry_out(
    shards: Mapping[str, Shard],
    store: Store,
    engine: ShardEngine,
    watch: Callable[[Progress], None] = lambda progress: None,
    poll_s: float = POLL_S,
    again_s: float = AGAIN_S,
    patience_s: float = PATIENCE_S,
) -> Mapping[str, str]:
    """Have every shard run that has no result; by key, why those cannot be run that failed.

    Another coordinator may do the same at the same time. What failed before is tried anew.

    Raises
    ------
    Unreachable
        when the queue cannot be reached for too long.
    StoreError
        when the store cannot.
    """
    done = store.names("results") & shards.keys()
    missing = [key for key in shards if key not in done]
    if not missing:
        watch(Progress(len(shards), len(shards), {}))
        return {}
    known = store.names("shards")
    for key in store.names("failed") & set(missing):
        forgive(key, store)
    for key in missing:
        if key not in known:
            store.put(f"shards/{key}", shards[key].to_bytes())
    failed: dict[str, str] = {}
    sent: dict[str, float] = {}
    reached = time.monotonic()
    told = -TOLD_S
    pause = min(0.02, poll_s)
    while True:
        try:
            # First what waits, then what is done: a shard that ends between is found in one.
            waiting = engine.waiting()
            missing = _missing(shards, store, failed)
            _send(missing, waiting, shards, engine, sent, again_s)
            reached = time.monotonic()
        except Unreachable as error:
            if time.monotonic() - reached > patience_s:
                raise
            if time.monotonic() > told + TOLD_S:
                told = time.monotonic()
                log.warning("%s; tried again for %.0f minutes", error, patience_s / 60)
            missing = _missing(shards, store, failed)
        watch(Progress(len(shards), len(shards) - len(missing) - len(failed), dict(failed)))
        if not missing:
            return failed
        time.sleep(pause)
        pause = min(pause * 1.5, poll_s)


def forgive(key: str, store: Store) -> None:
    """Forget that a shard failed, and who began on it."""
    store.remove(f"failed/{key}")
    for attempt in store.names(f"attempts/{key}"):
        store.remove(f"attempts/{key}/{attempt}")


def why_failed(key: str, store: Store) -> str:
    """Why a shard cannot be run."""
    try:
        told = json.loads(store.get(f"failed/{key}"))
    except (KeyError, ValueError):
        return "nobody says why"
    images = told.get("images") or ["no image"]
    return f"{told.get('count', 0)} images from {images[0]}: {told['why']}"


def _missing(shards: Mapping[str, Shard], store: Store, failed: dict[str, str]) -> list[str]:
    done = store.names("results")
    for key in (store.names("failed") & shards.keys()) - failed.keys() - done:
        failed[key] = why_failed(key, store)
    return [key for key in shards if key not in done and key not in failed]


def _send(
    missing: Iterable[str],
    waiting: set[str] | None,
    shards: Mapping[str, Shard],
    engine: ShardEngine,
    sent: dict[str, float],
    again_s: float,
) -> None:
    """Send what was never sent, or was lost."""
    now = time.monotonic()
    for key in missing:
        if waiting is None:
            lost = now - sent.get(key, -again_s) >= again_s
        else:
            lost = key not in waiting
        if lost:
            if key in sent:
                log.info("shard %s was lost, and is sent again", key)
            engine.submit(key, shards[key])
            sent[key] = now
