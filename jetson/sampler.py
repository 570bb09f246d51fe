"""Read a meter again and again in a thread of its own, and integrate what it tells."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Callable

import numpy as np

from adaptive.errors import InputError
from adaptive.jetson.meter import Meter

#: A stretch of time is cut into so many parts to see how far their means scatter.
PARTS = 10

#: 97.5% quantile of Student's t with PARTS - 1 degrees of freedom.
_T = 2.262


@dataclass(frozen=True)
class Trace:
    """Readings over time.

    Attributes
    ----------
    seconds : ndarray (n,), when each was taken, by `perf_counter`, rising
    readings : ndarray (n,), mW, or mJ since some moment where `counts`
    step : smallest difference between two readings, where the meter tells it
    """

    seconds: np.ndarray
    readings: np.ndarray
    counts: bool = False
    step: float | None = None

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def energy_mj(self) -> np.ndarray:
        """mJ from the first reading to each, shape (n,): power by the trapezoidal rule."""
        if self.counts:
            return np.asarray(self.readings - self.readings[0])
        areas = np.diff(self.seconds) * (self.readings[1:] + self.readings[:-1]) / 2
        return np.concatenate([[0.0], np.cumsum(areas)])

    @property
    def rate_hz(self) -> float:
        """Readings a second."""
        return (len(self) - 1) / float(self.seconds[-1] - self.seconds[0])

    def mean_mw(self, begin: float, end: float) -> float:
        """Mean power between two moments."""
        energy = np.interp([begin, end], self.seconds, self.energy_mj)
        return float(energy[1] - energy[0]) / (end - begin)

    def within(self, begin: float, end: float) -> np.ndarray:
        """The readings that were taken between two moments."""
        return np.asarray(self.readings[(self.seconds >= begin) & (self.seconds <= end)])

    def noise_mw(self, begin: float, end: float) -> float:
        """Half the width of the 95% interval of the mean, from the scatter of its parts.

        The stretch is cut into ten parts, whose means are independent enough where a part is
        long against what the load and the sensor do ("batch means"; Student's t).
        """
        cuts = np.linspace(begin, end, PARTS + 1)
        energy = np.interp(cuts, self.seconds, self.energy_mj)
        means = np.diff(energy) / np.diff(cuts)
        return float(_T * np.std(means, ddof=1) / np.sqrt(PARTS))

    def blind_mw(self, begin: float, end: float) -> float:
        """How far the mean may be off because the sensor has steps, however long it is read.

        Where readings jump over at least one step by themselves, their mean is as fine as their
        number allows; where they stand still, the truth is anywhere within half a step. A
        counter is off by a step at either end.
        """
        step = self.seen_step()
        if self.counts:
            return 2 * step / (end - begin)
        inside = self.within(begin, end)
        return step / 2 if len(inside) < 2 or float(np.std(inside)) < step / 2 else 0.0

    def seen_step(self) -> float:
        """The sensor's step: what the meter tells, or a guess from the readings, on the safe side.

        The guess is the median jump of a power reading that changed, or the least rise of a
        counter that rose.
        """
        if self.step is not None:
            return self.step
        jumps = np.abs(np.diff(self.readings))
        jumps = jumps[jumps > 0]
        if not len(jumps):
            return 1.0
        return float(jumps.min() if self.counts else np.median(jumps))


class Sampler:
    """Reads a meter from `with` to the end of the block.

    A reading's time is the middle of the call that made it. One that fails is left out.

    Parameters
    ----------
    interval_s : seconds between two readings; the meter's own when left out
    """

    def __init__(
        self,
        meter: Meter,
        interval_s: float | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.meter = meter
        self.interval_s = meter.interval_s if interval_s is None else interval_s
        self.failures = 0
        self._clock = clock
        self._readings: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def trace(self) -> Trace:
        """What was read so far.

        Raises
        ------
        InputError
            when the meter answered less than twice.
        """
        readings = np.array(self._readings, np.float64).reshape(-1, 2)
        # A clock that stands still between two readings would make power infinite.
        readings = readings[np.concatenate([[True], np.diff(readings[:, 0]) > 0])[: len(readings)]]
        if len(readings) < 2:
            raise InputError(
                f"{self.meter.name} was read {len(readings)} times; {self.failures} readings failed"
            )
        return Trace(readings[:, 0], readings[:, 1], self.meter.counts, self.meter.step)

    def sample(self) -> None:
        """Take one reading now."""
        before = self._clock()
        try:
            value = self.meter.read()
        except OSError:
            self.failures += 1
            return
        self._readings.append(((before + self._clock()) / 2, value))

    def _run(self) -> None:
        due = self._clock()
        while True:
            self.sample()
            due = max(due + self.interval_s, self._clock())
            if self._stop.wait(max(0.0, due - self._clock())):
                self.sample()  # so that the last stretch ends within the readings
                return
