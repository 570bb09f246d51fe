"""Millijoules an image: each candidate runs for a block of seconds, and idle power is taken off.

A sensor that answers ten to a thousand times a second cannot see one image. So each candidate
runs again and again on a few images, and a run's energy is

    (mean power of the block - mean power of idle) * seconds of the block / runs.

Idle is measured before the first block and after the last. Every figure comes with its 95%
error, and one that is finer than the sensor allows is refused: its error is more than a tenth of
it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from time import perf_counter, sleep
from typing import Any, Callable, Mapping

from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.jetson.meter import Meter, describe
from adaptive.jetson.sampler import Sampler, Trace

#: Images that a block runs on, one after the other.
IMAGES = 8

#: Seconds of a block, unless told.
SECONDS = 10.0

#: Largest error of a figure that is kept, as a share of it.
TOLERANCE = 0.1

#: Fewest readings that a block must hold.
READINGS = 20


@dataclass(frozen=True)
class Figure:
    """One candidate's energy.

    Attributes
    ----------
    mj : mJ an image, rounded to what its error leaves of it; None where it is refused
    error_mj : half the width of the 95% interval
    runs, seconds, readings : of the block
    power_mw : mean of the block, idle included
    refused : why there is no figure, and what would be needed
    """

    mj: float | None
    error_mj: float
    runs: int
    seconds: float
    readings: int
    power_mw: float
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Energies:
    """What was measured of all candidates.

    Attributes
    ----------
    meter : what with, as JSON
    rate_hz : readings a second, as they came
    idle_mw : mean power of idle; before and after the blocks
    step : the sensor's, see `Trace.seen_step`
    """

    figures: Mapping[str, Figure]
    meter: Mapping[str, Any]
    rate_hz: float
    step: float
    idle_mw: float
    idle_before_mw: float
    idle_after_mw: float
    failures: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mj(self) -> dict[str, float]:
        """The figures that were not refused, by candidate."""
        return {name: f.mj for name, f in self.figures.items() if f.mj is not None}

    @property
    def refusals(self) -> list[str]:
        """One sentence for each that was."""
        return [f"{n}:mj, because {f.refused}" for n, f in self.figures.items() if f.refused]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "meter": dict(self.meter),
            "rate_hz": round(self.rate_hz, 2),
            "step": round(self.step, 6),
            "idle_mw": round(self.idle_mw, 3),
            "idle_before_mw": round(self.idle_before_mw, 3),
            "idle_after_mw": round(self.idle_after_mw, 3),
            "failed_readings": self.failures,
            "confidence": 0.95,
            "tolerance": TOLERANCE,
            **self.settings,
            "candidates": {name: figure.to_json() for name, figure in self.figures.items()},
        }


def measure(
    tasks: Mapping[str, Callable[[], object]],
    meter: Meter,
    seconds: float = SECONDS,
    sampler: Sampler | None = None,
    clock: Callable[[], float] = perf_counter,
    wait: Callable[[float], object] = sleep,
) -> Energies:
    """Measure what one run of each task takes.

    Parameters
    ----------
    tasks : by candidate, what runs it once on the next image
    seconds : of each block, and of idle before and after together
    sampler, clock, wait : read the meter, tell the time in seconds, and let it pass

    Raises
    ------
    InputError
        when `seconds` is not above 0, or the meter does not answer.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"a block of {seconds:g} seconds is not above 0")
    blocks: dict[str, tuple[float, float, int]] = {}

    def idle_for(some: float) -> tuple[float, float]:
        begin = clock()
        wait(some)
        return begin, clock()

    with sampler or Sampler(meter) as reading:
        before = idle_for(seconds / 2)
        for name, task in tqdm(tasks.items(), unit="candidate", desc="energy"):
            blocks[name] = _block(task, seconds, clock)
        after = idle_for(seconds / 2)
    trace = reading.trace()
    idle = Idle.of(trace, before, after)
    return Energies(
        {name: figure(trace, idle, *block) for name, block in blocks.items()},
        describe(meter),
        trace.rate_hz,
        trace.seen_step(),
        idle.power_mw,
        idle.before_mw,
        idle.after_mw,
        reading.failures,
        {"block_seconds": seconds},
    )


def _block(
    task: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> tuple[float, float, int]:
    task()  # what the first run brings into caches is no part of a run
    runs = 0
    begin = end = clock()
    while end - begin < seconds:
        task()
        runs += 1
        end = clock()
    return begin, end, runs


@dataclass(frozen=True)
class Idle:
    """Power of idle, from a stretch before the work and one after it.

    Attributes
    ----------
    noise_mw : 95% error of the mean, that a longer look makes smaller
    fixed_mw : error that it does not: the sensor's blindness, and half of what idle itself has
        moved between the two stretches beyond their noise
    """

    before_mw: float
    after_mw: float
    noise_mw: float
    fixed_mw: float

    @property
    def power_mw(self) -> float:
        """The mean of both stretches."""
        return (self.before_mw + self.after_mw) / 2

    @classmethod
    def of(cls, trace: Trace, before: tuple[float, float], after: tuple[float, float]) -> Idle:
        """From the readings in two stretches."""
        spans = (before, after)
        means = [trace.mean_mw(*span) for span in spans]
        noise = [trace.noise_mw(*span) for span in spans]
        moved = max(0.0, abs(means[1] - means[0]) - sum(noise)) / 2
        blind = max(trace.blind_mw(*span) for span in spans)
        return cls(means[0], means[1], math.hypot(*noise) / 2, moved + blind)


def figure(trace: Trace, idle: Idle, begin: float, end: float, runs: int) -> Figure:
    """The energy of one of `runs` runs between two moments, or why it cannot be told."""
    seconds = end - begin
    power = trace.mean_mw(begin, end)
    rise = power - idle.power_mw
    noise = math.hypot(trace.noise_mw(begin, end), idle.noise_mw)
    fixed = trace.blind_mw(begin, end) + idle.fixed_mw
    error = noise + fixed
    readings = len(trace.within(begin, end))
    per_run = seconds / runs
    refused = None
    if readings < READINGS:
        refused = (
            f"its block held {readings} readings of the sensor, at least {READINGS} are needed; "
            f"at {trace.rate_hz:.3g} a second give --energy-seconds "
            f"{_up(1.2 * READINGS / trace.rate_hz)}"
        )
    elif not error <= TOLERANCE * rise:
        refused = (
            f"{rise * per_run:.2g} mJ with an error of {error * per_run:.2g} mJ is finer than the "
            f"sensor allows in {seconds:.3g} s ({runs:,} runs) at {trace.rate_hz:.3g} readings a "
            f"second and a step of {trace.seen_step():.3g} {'mJ' if trace.counts else 'mW'}; "
            f"{_needed(rise, noise, fixed, seconds, runs)}"
        )
    # Rounded before it is told, so that nobody reads more out of it than was measured.
    mj = None if refused else _rounded(rise * per_run, error * per_run)
    return Figure(
        mj, _rounded(error * per_run, error * per_run), runs, seconds, readings, power, refused
    )


def _needed(rise: float, noise: float, fixed: float, seconds: float, runs: int) -> str:
    """What it would take: noise shrinks as the square root of the time, the rest does not."""
    left = TOLERANCE * rise - fixed
    if left > 0:
        factor = (noise / left) ** 2
        if factor < 1000:
            return (
                f"about {_up(factor * seconds)} s ({math.ceil(factor * runs):,} runs) are needed: "
                f"give --energy-seconds {_up(factor * seconds)}"
            )
    return (
        "no longer block would help: the run raises the power by "
        f"{rise:.3g} mW over idle, and the sensor's steps and the drift of idle alone are worth "
        f"{fixed:.3g} mW"
    )


def _up(seconds: float) -> int:
    """Whole seconds, rounded up to two digits."""
    digits = max(0, len(str(math.ceil(seconds))) - 2)
    return int(math.ceil(seconds / 10**digits) * 10**digits)


def _rounded(value: float, error: float) -> float:
    """`value` to the second digit of its error."""
    if not (error > 0 and math.isfinite(error)):
        return value
    return round(value, 1 - math.floor(math.log10(error)))
