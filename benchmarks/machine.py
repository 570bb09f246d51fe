"""What every benchmark says of its machine, and the JSON that `compare.py` reads.

    {"format": 1, "benchmark": "startup", "machine": {...}, "settings": {...}, "paired": true,
     "results": {"import adaptive": {"unit": "ms", "better": "lower",
                                     "samples": [...], "median": 81.2, "p95": 90.4}}}

Where `paired` is true, sample number i of every result was taken in the same round, one after the
other, so that what else the machine did falls on all of them alike.
"""

from __future__ import annotations

import json
import math
import statistics
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping, Sequence

FORMAT = 1


def machine(threads: int = 1) -> dict[str, Any]:
    """Processor, cores, system, runtime, versions, power mode where there is one, and the date.

    Parameters
    ----------
    threads : inside a network
    """
    from adaptive.jetson.board import board_profile

    known = board_profile(threads)
    for name, package in (("numpy", "numpy"), ("opencv", "cv2"), ("pillow", "PIL")):
        try:
            known[name] = __import__(package).__version__
        except ImportError:
            continue
    known["date"] = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return known


def machine_line(known: Mapping[str, Any]) -> str:
    """The machine in one line, for a terminal."""
    parts = [str(known.get("model") or known["processor"])]
    if known.get("model"):
        parts.append(str(known["processor"]))
    parts += [f"{known['cores']} cores", f"{known['threads']} threads a network"]
    mode = known.get("mode")
    if isinstance(mode, dict):
        parts.append(f"power mode {mode.get('name') or mode.get('number')}")
    for name in ("python", "onnxruntime", "numpy", "opencv", "pillow"):
        if name in known:
            parts.append(f"{name} {known[name]}")
    return ", ".join([*parts, str(known["date"])])


def result(samples: Sequence[float], unit: str = "ms", better: str = "lower") -> dict[str, Any]:
    """One quantity's samples with their median and 95th percentile.

    Parameters
    ----------
    better : "lower" or "higher"
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better is {better!r}; 'lower' or 'higher' is needed")
    values = [float(value) for value in samples]
    ordered = sorted(values)
    return {
        "unit": unit,
        "better": better,
        "samples": values,
        "median": statistics.median(ordered),
        "p95": ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)],
    }


def envelope(
    benchmark: str,
    results: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    paired: bool = False,
    threads: int = 1,
    **further: Any,
) -> dict[str, Any]:
    """All that a benchmark found; `further` fields of its own stand beside."""
    return {
        "format": FORMAT,
        "benchmark": benchmark,
        "machine": machine(threads),
        "settings": dict(settings),
        "paired": paired,
        "results": dict(results),
        **further,
    }


def show(content: Mapping[str, Any]) -> None:
    """Print an envelope as a table."""
    print(machine_line(content["machine"]))
    print(", ".join(f"{name} {value}" for name, value in content["settings"].items()))
    width = max(map(len, content["results"]), default=0)
    print(f"{'':{width}} {'median':>12}{'p95':>12}")
    for name, found in content["results"].items():
        print(f"{name:{width}} {found['median']:12.4g}{found['p95']:12.4g} {found['unit']}")


def save(content: Mapping[str, Any], path: Path | None) -> None:
    """Write an envelope, where a path is given."""
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
