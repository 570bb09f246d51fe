"""What a router is made of: a bundle that was read, and its networks, open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, NamedTuple

import numpy as np

from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.candidate import positions
from adaptive.checks import shown
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.errors import InputError
from adaptive.limits import Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.conditions import ConditionMonitor, condition_monitor_of
from adaptive.monitoring.decisions import Observer
from adaptive.monitoring.drift import Monitor, monitor_of
from adaptive.policy.base import Policy
from adaptive.routing.bucket import Bucket
from adaptive.routing.running import Networks, ways_of


class Opened(NamedTuple):
    """A bundle, its networks, and whom decisions are shown to."""

    bundle: Bundle
    networks: Networks
    observers: tuple[Observer, ...]


def open_bundle(
    bundle: str | Path | None,
    policy: Policy | None,
    audit: Audit | None,
    observers: Iterable[Observer],
    engine: str | EngineOptions,
    threads: int,
) -> Opened:
    """Read a bundle and open the networks that a policy and audits may ask; see `Router.load`."""
    import adaptive.opencv  # noqa: F401  # every image needs it, so it is told here if it is missing

    read = Bundle.read(default_bundle() if bundle is None else bundle)
    chosen = read.policy if policy is None else policy
    positions(chosen.candidates, read.names, "the bundle")
    names = (*chosen.candidates, *(() if audit is None else audit.names(read)))
    watchers = [*observers]
    if audit is not None and not any(isinstance(o, Monitor) for o in watchers):
        monitor = monitor_of(read.certificate if policy is None else None)
        watchers += [] if monitor is None else [monitor]
    if audit is not None and not any(isinstance(o, ConditionMonitor) for o in watchers):
        conditions = condition_monitor_of(read, policy)
        watchers += [] if conditions is None else [conditions]
    options = engine if isinstance(engine, EngineOptions) else EngineOptions(engine)
    ways, whole = ways_of(chosen), audit is not None
    networks = Networks.open(read, names, threads, ways, whole, Engines(options))
    return Opened(read, networks, tuple(watchers))


def check_kinds(policy: Any, bucket: Any, audit: Any) -> None:
    """Refuse what is taken for something else, before anything is opened."""
    for name, value, kind in (
        ("policy", policy, Policy),
        ("bucket", bucket, Bucket),
        ("audit", audit, Audit),
    ):
        if value is not None and not isinstance(value, kind):
            raise InputError(
                f"{name} {shown(value)} is no {kind.__name__}; make one, and give that"
            )


def check_called(extractor: Any, observers: Any) -> tuple[Observer, ...]:
    """The observers, where they and the extractor can be called as they will be."""
    if extractor is not None and not callable(extractor):
        raise InputError(f"extractor {shown(extractor)} cannot be called with an image")
    if not isinstance(observers, Iterable):
        raise InputError(f"observers {shown(observers)} is no list of observers")
    found = tuple(observers)
    for observer in found:
        if not callable(getattr(observer, "observe", None)):
            raise InputError(f"observer {shown(observer)} has no method observe(decision)")
    return found


def check_limits(limits: Any, count: int | None) -> None:
    """Refuse what are no limits, or none for so many images; None where that is not known."""
    if not isinstance(limits, Limits):
        raise InputError(f"limits {shown(limits)} is no Limits; Limits(remaining_ms=40) is one")
    for name in ("remaining_ms", "remaining_mj", "allowance_ms"):
        value = getattr(limits, name)
        if not isinstance(value, np.ndarray) or not value.ndim or count in (None, len(value)):
            continue
        raise InputError(
            f"{name} has {len(value)} numbers for {count} images; give one for each, or one for all"
        )
