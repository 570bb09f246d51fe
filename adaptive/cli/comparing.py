"""`adaptive classify --compare`: what the reference alone takes for the same images, measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Sequence

from adaptive.engines.choose import EngineOptions
from adaptive.errors import ImageError, InputError
from adaptive.policy.fixed import Fixed
from adaptive.routing.router import Router

#: Times that both answer each image, in turns, so that a busy moment is one for both.
TURNS = 5


def reference_alone(router: Router, bundle: Path | None, engines: EngineOptions) -> Router:
    """A router over the same bundle that asks its reference for every image.

    Raises
    ------
    InputError
        when the bundle names no reference, or its policy asks nobody else anyway.
    """
    name = router.bundle.reference
    if name is None:
        raise InputError("--compare is with the bundle's reference, and this bundle names none")
    if router.policy.candidates == (name,):
        raise InputError(f"{name} answers every image of this bundle; --compare has nothing to do")
    return Router.load(bundle, policy=Fixed((name,)), engine=engines)


def compared(router: Router, alone: Router, images: Sequence[Path]) -> str:
    """A sentence on the mean time an image, decoding included, and on how often they agree.

    Images that cannot be read are left out.
    """
    times: list[tuple[float, float, float]] = []
    same = 0
    for image in images:
        try:
            turns = [(router.classify(image), alone.classify(image)) for _ in range(TURNS)]
        except ImageError:
            continue
        same += turns[0][0].label == turns[0][1].label
        both = [median(turn[side].ms["total"] for turn in turns) for side in (0, 1)]
        times.append((both[0], both[1], median(turn[0].ms["decode"] for turn in turns)))
    routed, single, decode = (sum(column) / len(times) for column in zip(*times))
    return (
        f"{router.bundle.reference} alone: {single:.2f} ms an image, the policy {routed:.2f}, "
        f"{single / routed:.2f} times as fast; {decode:.2f} of either are decoding. "
        f"The same answer on {same} of {len(times)} images (median of {TURNS} turns each)"
    )
