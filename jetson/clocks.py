"""Clocks: how fast processor cores and GPU run now, and how fast they may."""

from __future__ import annotations

import re
from typing import Any

from adaptive.jetson.sysfs import Sysfs

#: GPUs among the devices of devfreq: TX1, TX2, Xavier, Orin (JetPack 5), Orin (JetPack 6).
_GPU = re.compile(r"gm20b|gp10b|gv11b|ga10b|gpu", re.I)


def clocks(sysfs: Sysfs) -> dict[str, Any]:
    """`online`, `cpu` (one entry a group of cores that share a clock) and `gpu`, in MHz.

    `max_mhz` is what the present power mode allows, `limit_mhz` what the part itself can do.
    What the machine does not tell is left out.
    """
    found: dict[str, Any] = {}
    online = sysfs.text("sys/devices/system/cpu/online")
    if online is not None:
        found["online"] = online
    cpu = [_cores(sysfs, policy) for policy in sysfs.find("sys/devices/system/cpu/cpufreq/policy*")]
    if any(cpu):
        found["cpu"] = [entry for entry in cpu if entry]
    for device in sysfs.find("sys/class/devfreq/*"):
        if _GPU.search(device.rsplit("/", 1)[-1]):
            entry = _entry(sysfs, device, ("cur_freq", "max_freq", None), 1e6, "governor")
            if entry:
                found["gpu"] = entry
                break
    return found


def _cores(sysfs: Sysfs, policy: str) -> dict[str, Any]:
    files = ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
    entry = _entry(sysfs, policy, files, 1e3, "scaling_governor")
    cores = sysfs.text(f"{policy}/affected_cpus")
    return {"cores": cores, **entry} if entry and cores else entry


def _entry(
    sysfs: Sysfs,
    folder: str,
    files: tuple[str | None, str | None, str | None],
    per_mhz: float,
    governor: str,
) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for name, file in zip(("mhz", "max_mhz", "limit_mhz"), files):
        value = None if file is None else sysfs.number(f"{folder}/{file}")
        if value is not None:
            entry[name] = round(value / per_mhz, 1)
    chosen = sysfs.text(f"{folder}/{governor}")
    if chosen is not None:
        entry["governor"] = chosen
    return entry
