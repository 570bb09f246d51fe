"""From a crop to numbers, by the shortest way: only what is asked for, nothing twice."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Sequence

import numpy as np

from adaptive.features.brightness import brightness, grey, perceived_brightness
from adaptive.features.edges import (
    edge_angle,
    edge_length,
    edge_pixels,
    edges,
    gradient,
    lines,
    main_object,
)
from adaptive.features.hue import hue
from adaptive.features.keypoints import keypoints
from adaptive.features.schema import SCHEMA, check_image, resolve_names
from adaptive.features.sharpness import laplacian, noise

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Stage(NamedTuple):
    """One computation, and the names of those whose results it takes."""

    run: Callable[..., Any]
    needs: tuple[str, ...]


#: Every stage after those that it needs. One that bears the name of a group of features gives
#: their values, in the order in which they stand in the schema; the others are intermediates.
STAGES: dict[str, Stage] = {
    "grey": Stage(grey, ("pixels",)),
    "keypoints": Stage(keypoints, ("grey",)),
    "brightness": Stage(brightness, ("grey",)),
    "perceived_brightness": Stage(perceived_brightness, ("pixels",)),
    "gradient": Stage(gradient, ("grey",)),
    "edges": Stage(edges, ("gradient",)),
    "edge_pixels": Stage(edge_pixels, ("edges",)),
    "lines": Stage(lines, ("edges", "edge_pixels")),
    "edge_length": Stage(edge_length, ("lines",)),
    "edge_angle": Stage(edge_angle, ("gradient", "edge_pixels")),
    "hue": Stage(hue, ("pixels",)),
    "main_object": Stage(main_object, ("lines", "edge_pixels")),
    "laplacian": Stage(laplacian, ("grey",)),
    "noise": Stage(noise, ("grey",)),
}


class Plan(NamedTuple):
    """What has to run for some features.

    Attributes
    ----------
    names : the features asked for
    steps : (stage, function, needs), every one after those that it needs
    values : for each name, the stage that gives it and the position in what that returns
    """

    names: tuple[str, ...]
    steps: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...]
    values: tuple[tuple[str, int], ...]


def extract(crop: NDArray[np.uint8], names: str | Sequence[str]) -> NDArray[np.float64]:
    """Compute features of a crop.

    Parameters
    ----------
    crop : ndarray of shape (height, width, 3), uint8, RGB, as `Schema.crop` cuts it. Any size is
        taken, but the features' ranges are those of crops of at most 128x128.
    names : which features, as `resolve_names` takes them

    Returns
    -------
    ndarray of shape (len(names),), float64
        in the order of `names`; always finite, and 0 where a feature is undefined.

    Raises
    ------
    ImageError
        when `crop` is not such an array.
    InputError
        when there is no feature of that name.
    """
    plan = plan_for(names if isinstance(names, str) else tuple(names))
    check_image(crop)
    results: dict[str, Any] = {"pixels": crop}
    for stage, run, needs in plan.steps:
        results[stage] = run(*[results[need] for need in needs])
    return np.array([results[stage][position] for stage, position in plan.values])


@lru_cache(maxsize=256)
def plan_for(names: str | tuple[str, ...]) -> Plan:
    """Choose the stages that some features need."""
    names = resolve_names(names)
    values = tuple(_place(name) for name in names)
    wanted: set[str] = set()
    for stage, _ in values:
        wanted |= stages_of(stage)
    steps = tuple((stage, *STAGES[stage]) for stage in STAGES if stage in wanted)
    return Plan(names, steps, values)


def stages_of(stage: str) -> set[str]:
    """A stage and all that it needs, directly or not."""
    found = {stage}
    for need in STAGES[stage].needs:
        if need in STAGES:
            found |= stages_of(need)
    return found


def _place(name: str) -> tuple[str, int]:
    group = SCHEMA.feature(name).group
    members = [feature.name for feature in SCHEMA.features if feature.group == group]
    return group, members.index(name)
