"""Temperatures, and what holds the clocks down because of heat or current."""

from __future__ import annotations

import re

from adaptive.jetson.sysfs import Sysfs

#: Cooling devices that slow the machine: NVIDIA's alerts (`gpu-throttle-alert`), the kernel's
#: `cpufreq-cpu0`, `thermal-cpufreq-0` and `devfreq-17000000.gpu`, and on a PC `Processor` and
#: `intel_powerclamp`. Fans cool without slowing, and `hot-surface-alert` only warns.
_SLOWING = re.compile(r"throttle-alert|cpufreq|devfreq|-balanced$|^Processor$|powerclamp", re.I)


def temperatures(sysfs: Sysfs) -> dict[str, float]:
    """Degrees Celsius by thermal zone; zones that cannot be read now are left out."""
    found: dict[str, float] = {}
    for zone in sysfs.find("sys/class/thermal/thermal_zone*"):
        name = sysfs.text(f"{zone}/type")
        value = sysfs.number(f"{zone}/temp")
        if name is not None and value is not None:
            # Some machines have several zones of one name.
            key = name if name not in found else f"{name} {zone.rsplit('thermal_zone', 1)[1]}"
            found[key] = value / 1e3
    return found


def limits(sysfs: Sysfs) -> tuple[str, ...] | None:
    """Names of the cooling devices that slow the machine now; None where nothing tells."""
    known, active = False, []
    for device in sysfs.find("sys/class/thermal/cooling_device*"):
        name = sysfs.text(f"{device}/type")
        state = sysfs.number(f"{device}/cur_state")
        if name is None or state is None or not _SLOWING.search(name):
            continue
        known = True
        if state > 0:
            active.append(name)
    return tuple(dict.fromkeys(active)) if known else None


def events(sysfs: Sysfs) -> dict[str, int]:
    """How often since it was started the machine has slowed itself, by cause.

    On an Orin: under-voltage and over-current (`oc1_event_cnt` to `oc3_event_cnt` of
    `soctherm_oc`); on a PC: cores and packages that were too hot.
    """
    found: dict[str, int] = {}
    for monitor in sysfs.find("sys/class/hwmon/hwmon*"):
        if sysfs.text(f"{monitor}/name") != "soctherm_oc":
            continue
        for file in sysfs.find(f"{monitor}/oc*_event_cnt"):
            count = sysfs.number(file)
            if count is not None:
                found[file.rsplit("/", 1)[-1]] = count
    for kind in ("core", "package"):
        counts = [
            sysfs.number(file)
            for file in sysfs.find(
                f"sys/devices/system/cpu/cpu*/thermal_throttle/{kind}_throttle_count"
            )
        ]
        if counts:
            found[f"{kind}_throttle_count"] = sum(count or 0 for count in counts)
    return found
