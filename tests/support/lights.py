"""A camera whose light changes, and two networks of which the fast one takes warm light for red."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx_files import colour_network

from adaptive.bundle.bundle import write_candidates
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.files import sha256

CLASSES = ("blue", "green", "red")
#: What the light makes of red, green and blue.
DAY, EVENING = (0.6, 1.0, 1.0), (1.5, 1.1, 1.1)


def frames(
    light: tuple[float, float, float], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (count, 40, 48, 3) of one main colour each in this light, and its class."""
    draw = np.random.default_rng(seed)
    base = draw.uniform(60, 160, (count, 3))
    label = draw.integers(0, 3, count)
    base[np.arange(count), 2 - label] += draw.uniform(5, 90, count)
    pixels = (base[:, None, None, :] + draw.normal(0, 20, (count, 40, 48, 3))) * light
    return np.clip(pixels, 0, 255).astype(np.uint8), label


def candidates(folder: Path, reference: str | None = "slow") -> Path:
    """A slow network, which is the reference, and a fast one."""
    folder.mkdir()
    exact = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32)
    warm = exact * 0.05 + np.array([[0, 0, 0.016], [0, 0, 0], [0, 0, 0]], np.float32)
    colour_network(folder / "fast.onnx", warm, 8)
    colour_network(folder / "slow.onnx", exact * 0.2, 320, "float32", "NCHW")
    specs = {
        "fast": InputSpec(8, "uint8", "NHWC", "stretch"),
        "slow": InputSpec(320, "float32", "NCHW", "stretch"),
    }
    found = [
        Candidate(n, f"{n}.onnx", sha256(folder / f"{n}.onnx"), spec, OutputSpec(3, "logits"))
        for n, spec in specs.items()
    ]
    write_candidates(folder, found, CLASSES, reference=reference)
    return folder
