"""How far runs are, by what lies in the store."""

from __future__ import annotations

import json
from typing import Any, Mapping

from adaptive.experiments.coordinator import why_failed
from adaptive.experiments.declared import NAME
from adaptive.experiments.store import Store


def runs(store: Store) -> list[str]:
    """Names of the experiments that ran with this store."""
    return sorted(store.names("runs"))


def record_of(store: Store, name: str) -> Mapping[str, Any] | None:
    """What the store knows of a run; None where there is none of that name."""
    if not NAME.fullmatch(name):
        return None
    try:
        found: Mapping[str, Any] = json.loads(store.get(f"runs/{name}/plan.json"))
    except (KeyError, ValueError):
        return None
    return found


def keys_of(record: Mapping[str, Any]) -> list[str]:
    """Keys of a run's shards, each once."""
    found: dict[str, None] = {}
    for table in record["tables"]:
        if table["times_key"]:
            found[table["times_key"]] = None
        found.update(dict.fromkeys(table["keys"]))
    return list(found)


def progress_of(store: Store, record: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of a run's shards, and why those failed that did."""
    keys = keys_of(record)
    done = store.names("results")
    failed = (store.names("failed") & set(keys)) - done
    begun = (store.names("attempts") & set(keys)) - done - failed
    # A folder stays where an attempt was.
    begun = {key for key in begun if store.names(f"attempts/{key}")}
    return {
        "name": record["name"],
        "state": record["state"],
        "why": record.get("why"),
        "total": len(keys),
        "done": sum(key in done for key in keys),
        "running": len(begun),
        "failed": {key: why_failed(key, store) for key in sorted(failed)},
        "omitted": list(record.get("omitted", [])),
    }


def status_lines(told: Mapping[str, Any]) -> list[str]:
    """The same for a person."""
    why = f": {told['why']}" if told.get("why") else ""
    lines = [
        f"{told['name']}: {told['state']}{why}; {told['done']} of {told['total']} shards done, "
        f"{told['running']} begun, {len(told['failed'])} failed"
    ]
    lines += [f"  failed {key[:12]}: {reason}" for key, reason in told["failed"].items()]
    return lines
