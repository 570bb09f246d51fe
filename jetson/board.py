"""What machine a measurement was made on, and in what state."""

from __future__ import annotations

import os
import platform
from typing import Any, Mapping

from adaptive.jetson.clocks import clocks
from adaptive.jetson.mode import ask_nvpmodel, mode_of
from adaptive.jetson.release import release
from adaptive.jetson.state import BoardState
from adaptive.jetson.sysfs import Sysfs


def board_profile(
    threads: int = 1, before: BoardState | None = None, sysfs: Sysfs | None = None
) -> dict[str, Any]:
    """Machine, processor, runtime and threads, as JSON values that go with every measurement.

    On a Jetson also L4T, JetPack and power mode; wherever the machine tells them clocks,
    temperatures (°C, by thermal zone) and whether something slowed it. What it does not tell is
    left out.

    Parameters
    ----------
    threads : threads inside a network
    before : the state when the measurement began, for one that ends now: then
        `temperatures_c` are from its beginning and `temperatures_after_c` from its end
    """
    tree = sysfs or Sysfs()
    profile: dict[str, Any] = {
        "model": _model(tree),
        "machine": platform.machine(),
        "processor": _processor(tree),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": threads,
    }
    try:
        import onnxruntime
    except ImportError:
        pass
    else:
        profile["onnxruntime"] = onnxruntime.__version__
    now = BoardState.read(tree)
    mode = now.mode
    if mode is None and sysfs is None:
        mode = ask_nvpmodel()
    slowed = now.slowed_since(before or now)
    found: dict[str, Any] = {
        **release(tree),
        "mode": None if mode is None else mode.to_json(),
        "clocks": clocks(tree),
        "temperatures_c": dict((before or now).temperatures_c),
        "temperatures_after_c": {} if before is None else dict(now.temperatures_c),
        "throttled": None if slowed is None else bool(slowed),
        "throttled_by": None if not slowed else list(slowed),
    }
    profile.update({name: value for name, value in found.items() if value not in (None, {})})
    return profile


def board_lines(profile: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A board profile as (name, text) for a person, also one that an older version wrote."""
    lines: list[tuple[str, str]] = []
    for name, value in profile.items():
        if value is None:
            continue
        label = name.replace("_", " ")
        if name == "mode":
            lines.append(("power mode", str(mode_of(profile) or value)))
        elif name == "clocks" and isinstance(value, dict):
            lines += _clock_lines(value)
        elif name.startswith("temperatures") and isinstance(value, dict):
            shown = ", ".join(f"{zone} {degrees:g} °C" for zone, degrees in value.items())
            lines.append((label[: -len(" c")], shown))
        elif isinstance(value, bool):
            lines.append((label, "yes" if value else "no"))
        elif isinstance(value, list):
            lines.append((label, ", ".join(map(str, value))))
        else:
            lines.append((label, str(value)))
    return lines


def _clock_lines(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if "online" in values:
        lines.append(("cores online", str(values["online"])))
    entries = [(f"cores {e.get('cores', '?')}", e) for e in values.get("cpu", [])]
    if "gpu" in values:
        entries.append(("gpu", values["gpu"]))
    for name, entry in entries:
        parts = [f"{entry['mhz']:g} MHz"] if "mhz" in entry else []
        if "max_mhz" in entry:
            parts.append(f"at most {entry['max_mhz']:g}")
        if entry.get("limit_mhz") not in (None, entry.get("max_mhz")):
            parts.append(f"could do {entry['limit_mhz']:g}")
        if "governor" in entry:
            parts.append(f"governor {entry['governor']}")
        lines.append((name, ", ".join(parts)))
    return lines


def _model(sysfs: Sysfs) -> str | None:
    return sysfs.text("proc/device-tree/model") or sysfs.text("sys/class/dmi/id/product_name")


def _processor(sysfs: Sysfs) -> str:
    for line in (sysfs.text("proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware"):
            return value.strip()
    return platform.processor() or platform.machine()
