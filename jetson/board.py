"""What machine a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def board_profile(threads: int = 1) -> dict[str, Any]:
    """Machine, processor, runtime and threads, as JSON values that go with every measurement."""
    profile: dict[str, Any] = {
        "model": _model(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": threads,
    }
    try:
        import onnxruntime
    except ImportError:
        return profile
    profile["onnxruntime"] = onnxruntime.__version__
    return profile


def _model() -> str | None:
    try:
        # The device tree's strings end in a NUL byte.
        return Path("/proc/device-tree/model").read_text().rstrip("\0\n") or None
    except (OSError, UnicodeDecodeError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware"):
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()
