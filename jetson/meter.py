"""A meter: something that tells what the machine draws. Which one a machine has is found here."""

from __future__ import annotations

from typing import Any, Protocol, Sequence

from adaptive.errors import InputError
from adaptive.jetson.rails import Rails
from adaptive.jetson.rapl import Rapl
from adaptive.jetson.sysfs import Sysfs
from adaptive.jetson.tegrastats import Tegrastats


class Meter(Protocol):
    """What every meter can do.

    Attributes
    ----------
    name : of the sensor
    rails : what is added up
    covers : what that is the draw of, in words
    counts : whether `read` is energy (mJ) since some moment, and not power (mW) now
    step : smallest difference between two readings, in the unit of `read`; None where it is not
        known beforehand
    interval_s : seconds between two readings below which nothing new is to be expected
    """

    name: str
    rails: tuple[str, ...]
    covers: str
    counts: bool
    step: float | None
    interval_s: float

    def read(self) -> float:
        """One reading; OSError when the sensor does not answer."""

    def close(self) -> None:
        """Stop what the meter has started."""


def open_meter(sysfs: Sysfs | None = None, rails: Sequence[str] = ()) -> Meter:
    """The best meter of this machine: INA3221 in sysfs, then tegrastats, then RAPL.

    Parameters
    ----------
    rails : add up these instead of those that make up the whole module

    Raises
    ------
    InputError
        when there is none that can be read; it says what was found and what would help.
    """
    tree = sysfs or Sysfs()
    missing = []
    for kind in (Rails, Tegrastats, Rapl):
        if kind is Tegrastats and sysfs is not None:
            continue  # the program tells of this machine, not of the one below another root
        try:
            return kind.open(tree, rails)
        except InputError as error:
            missing.append(str(error))
    raise InputError("no power can be measured here: " + "; ".join(missing))


def describe(meter: Meter) -> dict[str, Any]:
    """The meter as JSON values, for what is measured with it."""
    unit = "mj" if meter.counts else "mw"
    return {
        "sensor": meter.name,
        "rails": list(meter.rails),
        "covers": meter.covers,
        f"step_{unit}": meter.step,
        "interval_s": meter.interval_s,
    }
