"""Gates: what they compare, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.video.gate import FrameGate, changed_blocks, changed_pixels, histograms


@pytest.mark.parametrize(
    "text", ["margin:0.2:0.05:2", "difference:25:0.01:1", "histogram:0.01:0:0.65"]
)
def test_a_gate_is_read_as_it_is_written(text: str) -> None:
    assert str(FrameGate.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("margin", "margin:0.2:0.1:1"),
        ("margin:0.1", "margin:0.1:0.1:1"),
        ("difference", "difference:15:0:1"),
        ("difference:20", "difference:20:0:1"),
        ("histogram", "histogram:0.01:0.01:1"),
    ],
)
def test_what_a_text_leaves_out_is_usual_for_its_kind(text: str, whole: str) -> None:
    assert str(FrameGate.parse(text)) == whole


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sift", "compare 'sift' is neither"),
        ("difference:x", "is no gate"),
        ("difference:1:2:3:4", "is no gate"),
        ("difference:256", "threshold 256 is not between 0 and 255"),
        ("difference:0.5", "threshold 0.5 is less than one of 255 levels"),
        ("margin:1.5", "threshold 1.5 is not between 0 and 1"),
        ("histogram:2", "threshold 2 is not between 0 and 1"),
        ("difference:20:1.5", "share 1.5 is not"),
        ("difference:20:0:-1", "age_s -1 is not at least 0"),
    ],
)
def test_a_wrong_gate_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        FrameGate.parse(text)


@pytest.mark.parametrize("size", [(180, 320), (61, 83), (5, 3)])
def test_changed_tiles_are_those_of_a_plain_loop(size: tuple) -> None:
    rng = np.random.default_rng(1)
    before = rng.integers(0, 200, (*size, 3), np.uint8)
    now = before.copy()
    for row, column in zip(rng.integers(0, size[0], 9), rng.integers(0, size[1], 9)):
        now[row, column, rng.integers(3)] += 30
    tiles = [
        (now[r : r + 8, c : c + 8].astype(int) - before[r : r + 8, c : c + 8]).max() > 25
        for r in range(0, size[0], 8)
        for c in range(0, size[1], 8)
    ]
    assert changed_pixels(before, now, 25) == pytest.approx(np.mean(tiles))
    assert changed_pixels(before, now, 30) == 0


def test_histograms_are_those_of_a_plain_loop() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (80, 160, 3), np.uint8)
    found = histograms(frame)
    for block in (0, 13, 63):
        row, column = divmod(block, 8)
        pixels = frame[row * 10 : row * 10 + 10, column * 20 : column * 20 + 20]
        for channel in range(3):
            counts = np.bincount(pixels[..., channel].ravel() // 16, minlength=16)
            assert found[channel, :, block] == pytest.approx(counts / 200)
    other = frame.copy()
    other[:10, :20] = 255 - other[:10, :20] // 4
    assert changed_blocks(frame, other, 0.01) == 1 / 64
