"""What some of the features cost, from the measured shares of all."""

from __future__ import annotations

from typing import Mapping, Sequence

from adaptive.features.schema import SCHEMA


def cost_ms(chosen: Sequence[str], names: Sequence[str], feature_ms: Mapping[str, float]) -> float:
    """About what computing some of the measured features costs, in milliseconds.

    A table holds each feature's share of what all of `names` cost together. Features of one
    group come from one computation, so the first that is asked for carries the shares of all its
    group, and the others are free. What groups share among each other (the grey image, the
    edges) stays divided as it was measured, so a small set costs a little more than this says.
    """
    groups = {_group(name) for name in chosen}
    return float(sum(feature_ms[name] for name in names if _group(name) in groups))


def _group(name: str) -> str:
    return SCHEMA.feature(name).group if name in SCHEMA.names else f"own:{name}"
