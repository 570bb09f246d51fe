"""Energy of a PC's processor: RAPL counters under /sys/class/powercap."""

from __future__ import annotations

import threading
from typing import Sequence

from adaptive.errors import InputError
from adaptive.jetson.rails import choose_rails
from adaptive.jetson.sysfs import Sysfs


class Rapl:
    """The meter that adds up packages and their memory.

    Counters begin again at `max_energy_range_uj`, after minutes to hours; a reading at least
    that often is what keeps the sum right.

    Parameters
    ----------
    zones : folders under powercap, by the name of what they count
    """

    name = "RAPL"
    counts = True
    step: float | None = None
    #: The counters move about every millisecond.
    interval_s = 0.01

    def __init__(self, sysfs: Sysfs, zones: dict[str, str], covers: str) -> None:
        self._sysfs = sysfs
        self.rails = tuple(zones)
        self.covers = covers
        self._files = {name: f"{zone}/energy_uj" for name, zone in zones.items()}
        self._ranges = {
            name: sysfs.number(f"{zone}/max_energy_range_uj") for name, zone in zones.items()
        }
        self._last: dict[str, int] = {}
        self._total_uj = 0
        self._lock = threading.Lock()

    @classmethod
    def open(cls, sysfs: Sysfs, rails: Sequence[str] = ()) -> Rapl:
        """Every package with its memory, or the zones named.

        Raises
        ------
        InputError
            when there are none, or this user may not read them.
        """
        zones: dict[str, str] = {}
        for zone in sysfs.find("sys/class/powercap/intel-rapl:*"):
            name = sysfs.text(f"{zone}/name")
            if name is None:
                continue
            outer = zone.rsplit("/", 1)[-1].split(":")
            # A part of a package is named after it: "package-0 dram".
            parent = sysfs.text(f"sys/class/powercap/intel-rapl:{outer[1]}/name")
            zones[name if len(outer) == 2 else f"{parent} {name}"] = zone
        if not zones:
            raise InputError("no RAPL in /sys/class/powercap")
        names: tuple[str, ...]
        if rails:
            names, covers = choose_rails(tuple(zones), rails)
        else:
            # Cores and graphics are parts of the package, memory is not.
            names = tuple(
                n for n in zones if n.startswith("package") and (" " not in n or n.endswith("dram"))
            )
            covers = "processor packages and memory, without the rest of the machine"
            if not names:
                raise InputError(f"RAPL has no package among {list(zones)}; name zones by --rails")
        closed = [n for n in names if sysfs.number(f"{zones[n]}/energy_uj") is None]
        if closed:
            raise InputError(
                f"RAPL's counter /{zones[closed[0]]}/energy_uj cannot be read by this user; run "
                "as root, or make it readable (chmod a+r), knowing that it can leak secrets "
                "(CVE-2020-8694)"
            )
        return cls(sysfs, {name: zones[name] for name in names}, covers)

    def read(self) -> float:
        """mJ since the first reading."""
        with self._lock:
            for name, file in self._files.items():
                now = self._sysfs.number(file)
                if now is None:
                    raise OSError(f"the counter of {name} did not answer")
                spent = now - self._last.get(name, now)
                if spent < 0:
                    spent += (self._ranges[name] or 0) + 1
                self._total_uj += max(spent, 0)
                self._last[name] = now
            return self._total_uj / 1e3

    def close(self) -> None:
        """Nothing to stop."""
