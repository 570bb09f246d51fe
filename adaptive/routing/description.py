"""What a router serves, as JSON values."""

from __future__ import annotations

from typing import Any, Sequence

from adaptive.bundle.bundle import Bundle
from adaptive.engines.choose import EngineChoice
from adaptive.policy.base import Policy

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
