"""A pixel's hue depends on its colour alone, not on its place in a row."""

from __future__ import annotations

import platform
from typing import Any

import cv2
import numpy as np
import pytest

from adaptive.features import hue as module
from adaptive.features.catalogue import BINS
from adaptive.features.hue import COLOURED, hue

WIDTHS = [*range(1, 34), 47, 63, 64, 65, 127, 128, 129]


def near_the_limit(height: int, width: int) -> np.ndarray:
    """Colours whose saturation is 25, 25.5 or 26 of 255 about, where rounding decides."""
    generator = np.random.default_rng(width)
    image = generator.integers(0, 256, (height, width, 3))
    largest = generator.integers(30, 256, (height, width))
    few = np.round(largest * generator.choice([25, 25.5, 26], (height, width)) / 255)
    image[..., 0] = largest
    image[..., 1] = largest - few.astype(int)
    image[..., 2] = largest - (few * generator.uniform(0, 1, (height, width))).astype(int)
    exact = generator.uniform(size=(height, width)) < 0.3
    image[exact] = (200, 180, 190)  # a saturation of exactly 25.5
    return image.astype(np.uint8)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_of_whole_blocks_counts_the_same(width: int) -> None:
    image = near_the_limit(7, width)
    pixels = image.reshape(1, -1, 3)
    black = np.zeros((1, -pixels.shape[1] % 16, 3), np.uint8)  # in no bin
    row = np.concatenate([pixels, black], axis=1)
    found = np.array(hue(image)) * pixels.shape[1]
    np.testing.assert_allclose(found, np.array(hue(row)) * row.shape[1], atol=1e-9)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="this is how x86 has always counted"
)
@pytest.mark.parametrize("width", WIDTHS)
def test_on_x86_nothing_changes(width: int) -> None:
    image = near_the_limit(7, width)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    coloured = cv2.inRange(hsv, (0, COLOURED, COLOURED), (255, 255, 255))
    counts = cv2.calcHist([hsv], [0], coloured, [BINS], [0, 180]).ravel()
    assert hue(image) == [count / (7 * width) for count in counts.tolist()]
    assert coloured.any()
    assert width < 8 or not coloured.all()


def test_whole_blocks_are_converted_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default crop is 128 pixels wide, and no copy of it is made."""
    copied: list[Any] = []
    plain = cv2.copyMakeBorder
    monkeypatch.setattr(
        module.cv2, "copyMakeBorder", lambda *a: copied.append(a[0].shape) or plain(*a)
    )
    hue(near_the_limit(128, 128))
    assert copied == []
    hue(near_the_limit(128, 127))
    assert copied == [(128, 127, 3)]
