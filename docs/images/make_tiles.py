"""Draw docs/images/tiles.png: a made scene, its changed tiles, and what ran of each layer.

    python docs/images/make_tiles.py NETWORK.onnx

The network reads float32 (n, 3, rows, columns). Two squares move before a still ground with noise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from tiles import draw

from adaptive.candidate import InputSpec
from adaptive.engines.tiles.engine import TileEngine
from adaptive.engines.tiles.state import Thresholds


def scene(rows: int, columns: int, frame: int, random: np.random.Generator) -> np.ndarray:
    """One frame, (1, 3, rows, columns)."""
    y, x = np.mgrid[:rows, :columns] / max(rows, columns)
    ground = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(5 * (x - y))])
    ground += random.normal(scale=0.01, size=ground.shape)
    for left, top, side in ((20 + 3 * frame, 60, 28), (150 - 2 * frame, 140, 40)):
        ground[:, top : top + side, left : left + side] = np.array([1.5, -0.5, 0])[:, None, None]
    return ground.astype(np.float32)[None]


def main() -> None:
    """Draw it."""
    engine = TileEngine.open(Path(sys.argv[1]))
    rows, columns = engine.shape[2:]
    state = engine.state(Thresholds(0.2, {engine.cut.source: 0.1}), always=True)
    random = np.random.default_rng(0)
    for frame in range(4):
        image = scene(rows, columns, frame, random)
        engine.run_streams([state], image)
    draw(
        engine,
        state,
        image,
        InputSpec(rows, "float32", "NCHW"),
        Path(__file__).parent / "tiles.png",
    )


if __name__ == "__main__":
    main()
