"""What a router serves, as JSON values."""

from __future__ import annotations

from typing import Any, Sequence

from adaptive.bundle.bundle import Bundle
from adaptive.engines.choose import EngineChoice
from adaptive.monitoring.conditions import ConditionMonitor
from adaptive.policy.base import Policy
from adaptive.premodel.shares import examples_of, known_shares

#: So many of the bundle's labels are named, each up to so many characters.
FIRST_LABELS, LONGEST_LABEL = 10, 100


def description(
    bundle: Bundle, policy: Policy, features: Sequence[str], choice: EngineChoice | None
) -> dict[str, Any]:
    """Candidates, policy, certificate, and what runs them.

    Parameters
    ----------
    policy : that answers, which need not be the bundle's
    features : that it goes by, or an explanation may tell
    choice : which engine runs the networks, and why; None where that is not known
    """
    from adaptive.policy.files import policy_to_json

    return {
        "task": bundle.task,
        "candidates": [
            {
                "name": c.name,
                "ms": c.ms,
                "after": c.after,
                "sha256": c.sha256,
                "untrained": c.untrained,
            }
            for c in bundle.candidates
        ],
        "labels": len(bundle.labels),
        "first_labels": [label[:LONGEST_LABEL] for label in bundle.labels[:FIRST_LABELS]],
        "embedded": bundle.embedded,
        "reference": bundle.reference,
        "policy": policy_to_json(policy),
        "features": list(features),
        "certificate": bundle.certificate,
        "board": dict(bundle.board),
        "engine": None if choice is None else choice.to_json(),
    }


def conditions_told(
    bundle: Bundle, policy: Policy, monitor: ConditionMonitor | None
) -> dict[str, Any] | None:
    """The conditions that the premodel knows, as JSON values; None where it knows none.

    Each has its description and, where that is known, its share of the calibration images and of
    live ones, and small pictures of it; "words" is a sentence about the shares, or None where
    they are not compared.
    """
    premodel = policy.premodel or bundle.premodel
    if premodel is None or not premodel.conditions:
        return None
    if monitor is not None:
        told = monitor.status()
    else:
        own = bundle.certificate if policy == bundle.policy else None
        shares = known_shares(premodel, own)
        known = [None] * premodel.conditions if shares is None else list(shares.shares)
        told = {
            "of": None if shares is None else shares.of,
            "conditions": [
                {"description": looks, "share": share}
                for looks, share in zip(premodel.descriptions(), known)
            ],
            "words": None,
        }
    for one, pictures in zip(told["conditions"], examples_of(premodel)):
        one["examples"] = pictures
    return told
