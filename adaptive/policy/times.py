"""A policy's times, taken from another measurement or stretched by what a board does now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping

from adaptive.policy.base import Policy


def retimed(
    policy: Policy,
    costs_ms: Mapping[str, float],
    upper_ms: Mapping[str, float] | None = None,
    costs_mj: Mapping[str, float] | None = None,
) -> Policy:
    """The policy with other times, by candidate; what it does not know it does not learn.

    Parameters
    ----------
    costs_ms, upper_ms, costs_mj : as the policy's own. Energies that are not all known are
        dropped, since those of another board tell nothing.
    """
    new: dict[str, Any] = {}
    if policy.costs_ms is not None and not policy.weighs_times:
        new["costs_ms"] = tuple(costs_ms[name] for name in policy.candidates)
    if policy.upper_ms is not None and upper_ms is not None:
        new["upper_ms"] = tuple(upper_ms[name] for name in policy.candidates)
    if policy.costs_mj is not None:
        known = costs_mj or {}
        whole = all(name in known for name in policy.candidates)
        new["costs_mj"] = tuple(known[name] for name in policy.candidates) if whole else None
    return replace(policy, **new)


def rescaled(policy: Policy, factors: Mapping[str, float]) -> Policy:
    """The policy with its times multiplied, by candidate; one that is not named keeps its own."""
    by = [factors.get(name, 1.0) for name in policy.candidates]
    new: dict[str, Any] = {}
    if policy.costs_ms is not None and not policy.weighs_times:
        new["costs_ms"] = tuple(ms * factor for ms, factor in zip(policy.costs_ms, by))
    if policy.upper_ms is not None:
        new["upper_ms"] = tuple(ms * factor for ms, factor in zip(policy.upper_ms, by))
    return replace(policy, **new)
