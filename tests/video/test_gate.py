"""Gates: what they compare, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.tasks.detections import Detections
from adaptive.video.computed import LastComputed
from adaptive.video.gate import STILL, FrameGate, changed_blocks, changed_pixels, histograms
from adaptive.video.sensitivity import boxes_f1, boxes_moved, doubt


@pytest.mark.parametrize(
    "text", ["margin:0.2:0.05:2", "difference:25:0.01:1", "histogram:0.01:0:0.65"]
)
def test_a_gate_is_read_as_it_is_written(text: str) -> None:
    assert str(FrameGate.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("margin", "margin:0.4:0.1:1"),
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


class Flickering:
    """A detector that sees a box move on, and one whose score is unsure come and go."""

    def __init__(self, gate: FrameGate, doubtful: bool, step: int = 0) -> None:
        self.last = LastComputed(gate)
        self.doubtful = doubtful
        self.step = step
        self.number = 0

    def frame(self, grey: int) -> str:
        """What becomes of the next frame, a quarter of which is as light as this."""
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:32, :32] = grey
        left = 40.0 + self.step * self.number
        unsure = [0.28 + 0.04 * (self.number % 2)] * 3 if self.doubtful else [0.05] * 3
        answer = Detections.of(
            [[left, 0, left + 40, 40], *[[200, 0, 240, 40]] * 3], [0.9, *unsure], [0, 1, 2, 3]
        )
        what = self.last.judge(picture, self.number / 25).what
        if what != STILL:
            self.last.accept(picture, self.number / 25, what, answer)
        self.number += 1
        return what


def test_boxes_are_reused_where_little_is_expected_to_be_lost() -> None:
    sure, unsure = (Flickering(FrameGate("margin", age_s=9), doubt) for doubt in (False, True))
    greys = [100, 104] * 20
    told = [[street.frame(grey) for grey in greys] for street in (sure, unsure)]
    assert told[0][:6] == ["first", *["learning"] * 4, STILL]
    assert told[0].count(STILL) == 35  # nothing is ever lost, and no pixel differs by 15
    assert STILL not in told[1]  # three of four boxes come and go


def test_boxes_are_reused_once_where_something_moves() -> None:
    street = Flickering(FrameGate("margin", age_s=9), doubtful=False)
    told = [street.frame(grey) for grey in [100, 130, 160] * 6]
    assert told[5:11] == [STILL, "moved", STILL, "moved", STILL, "moved"]


def test_moved_boxes_are_those_that_f1_counts() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        first = rng.uniform(0, 300, (rng.integers(0, 7), 2))
        boxes = np.concatenate([first, first + rng.uniform(20, 60, first.shape)], axis=1)
        scores, classes = rng.uniform(0.1, 1, len(boxes)), rng.integers(0, 2, len(boxes))
        kept = rng.random(len(boxes)) < 0.8
        moved = boxes[kept] + rng.uniform(-14, 14, (int(kept.sum()), 1))
        before = Detections.of(boxes, scores, classes)
        now = Detections.of(moved, rng.permutation(scores[kept]), classes[kept])
        assert boxes_moved(before, now) == pytest.approx(2 - 2 * boxes_f1(before, now))


def test_equal_boxes_of_which_one_goes_lose_one() -> None:
    box, one = [10, 10, 50, 50], [0.9]
    two, single = Detections.of([box] * 2, one * 2, [0, 0]), Detections.of([box], one, [0])
    assert boxes_moved(two, two) == 0
    assert boxes_moved(two, single) == boxes_moved(single, two) == pytest.approx(2 - 4 / 3)
    assert boxes_moved(two, Detections.of([[90, 90, 99, 99]], one, [0])) == 2


def test_doubt_grows_with_the_boxes_that_may_come_and_go() -> None:
    boxes = [[0, 0, 9, 9], [20, 0, 29, 9]]
    clear, near = (Detections.of(boxes, scores, [0, 0]) for scores in ([0.9, 0.8], [0.9, 0.3]))
    assert doubt(clear) == pytest.approx(0.6)
    assert doubt(near) == pytest.approx(0.6 + 2 * 1 / 2)
    assert doubt(clear.above(1.0)) == pytest.approx(0.6)  # no box at all
