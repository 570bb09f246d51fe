"""A folder of two tiny detectors that find fixed boxes where an image is bright."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx_files import box_network

from adaptive.files import sha256

LABELS = ("red", "green", "blue")

#: Corners in pixels of an input of 32 by 32, one box for each class.
NEAR = np.array([[0, 0, 8, 8], [8, 8, 24, 24], [16, 0, 32, 16]])
FAR = np.array([[0, 0, 8, 7], [9, 8, 24, 24], [16, 0, 32, 16]])


def entry(name: str, folder: Path, **output: Any) -> dict[str, Any]:
    return {
        "name": name,
        "file": f"{name}.onnx",
        "sha256": sha256(folder / f"{name}.onnx"),
        "input": {"dtype": "uint8", "layout": "NHWC", "size": 32, "resize": "fit", "pad": 0},
        "output": {"kind": "boxes", "decoder": "proposals", "threshold": 0.2, **output},
    }


def write_manifest(folder: Path, entries: list[dict[str, Any]], **more: Any) -> Path:
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    manifest = {
        "format": 1,
        "task": "detect",
        "labels": "labels.txt",
        "reference": entries[-1]["name"],
        "candidates": entries,
        "files": {"labels.txt": sha256(folder / "labels.txt")},
        **more,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def box_candidates(folder: Path) -> Path:
    """Two detectors: `small`, whose boxes are a little off, and `large`, the reference."""
    folder.mkdir(parents=True, exist_ok=True)
    box_network(folder / "small.onnx", FAR, 32)
    box_network(folder / "large.onnx", NEAR, 32)
    return write_manifest(folder, [entry("small", folder), entry("large", folder)])
