from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """A small scene: a ramp, a bright box, a dark disc, coloured noise; shape (72, 96, 3)."""
    random = np.random.RandomState(7)
    rows, columns = np.mgrid[:72, :96]
    image = np.stack([rows * 3, columns * 2, 255 - rows * 2], axis=2).astype(np.int64)
    image[10:34, 12:50] = (240, 220, 60)
    image[(rows - 50) ** 2 + (columns - 66) ** 2 < 256] = (20, 30, 90)
    image[40:70, 5:30] += random.randint(-60, 61, (30, 25, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def noise_image() -> np.ndarray:
    """Uniform noise, shape (40, 48, 3)."""
    return np.random.RandomState(3).randint(0, 256, (40, 48, 3)).astype(np.uint8)
