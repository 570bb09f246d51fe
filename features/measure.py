"""What each feature costs."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.features.extract import plan_for, stages_of
from adaptive.features.schema import check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def measure(
    crop: NDArray[np.uint8], names: str | Sequence[str], repeats: int = 20
) -> dict[str, float]:
    """Share out the milliseconds of one `extract` among the features asked for.

    Each stage's time is its median over the repeats, split evenly among the asked-for features
    that need it: the seven hues carry a seventh of the hue histogram each, but `hue1` asked for
    alone carries all of it, and the grey image is shared by all that look at it. What belongs
    to no stage (checks, the answer's array) is split among all. So the shares add up to what
    these features cost together, and a feature's share depends on its company.

    Parameters
    ----------
    crop, names : as for `extract`
    repeats : how often to run, after one run to warm up

    Raises
    ------
    ImageError, InputError
        as `extract` does, and when `repeats` is below 1.
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise InputError(f"repeats {repeats!r} is not a whole number >= 1")
    key = names if isinstance(names, str) else tuple(names)
    plan = plan_for(key)
    seconds: dict[str, list[float]] = {stage: [] for stage, _, _ in plan.steps}
    rest: list[float] = []
    for _ in range(1 + repeats):
        start = perf_counter()
        plan = plan_for(key)
        check_image(crop)
        results: dict[str, Any] = {"pixels": crop}
        spent = 0.0
        for stage, run, needs in plan.steps:
            before = perf_counter()
            results[stage] = run(*[results[need] for need in needs])
            took = perf_counter() - before
            seconds[stage].append(took)
            spent += took
        np.array([results[stage][position] for stage, position in plan.values])
        rest.append(perf_counter() - start - spent)
    shares = dict.fromkeys(plan.names, _median_ms(rest) / len(plan.names))
    needed = {name: stages_of(stage) for name, (stage, _) in zip(plan.names, plan.values)}
    for stage, times in seconds.items():
        users = [name for name in plan.names if stage in needed[name]]
        for name in users:
            shares[name] += _median_ms(times) / len(users)
    return shares


def _median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds[1:]) * 1e3
