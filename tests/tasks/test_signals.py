"""Numbers about boxes, worked out by hand."""

from __future__ import annotations

import pytest

from adaptive.tasks.detections import Detections
from adaptive.tasks.signals import NAMES, box_signals


def test_signals_by_hand() -> None:
    found = Detections.of(
        [[0, 0, 100, 100], [0, 0, 31, 33], [0, 0, 32, 32], [0, 0, 5, 5]],
        [1.0, 0.5, 0.5, 0.1],
        [0, 1, 1, 2],
    )
    signals = box_signals(found, 0.3)
    assert tuple(signals) == NAMES
    assert signals["boxes"] == 3
    assert signals["entropy"] == pytest.approx(0 + 1 + 1 + 0.4689955935892812)
    assert signals["unsure"] == 2
    assert signals["least"] == 0.5
    assert signals["mean"] == pytest.approx(2 / 3)
    assert signals["best"] == 1
    assert signals["small"] == pytest.approx(1 / 3)


def test_without_boxes_all_are_nought() -> None:
    assert box_signals(Detections.none(), 0.3) == dict.fromkeys(NAMES, 0.0)


def test_boxes_that_are_not_shown_are_unsure_still() -> None:
    found = Detections.of([[0, 0, 9, 9]], [0.2], [0])
    signals = box_signals(found, 0.3)
    assert (signals["boxes"], signals["unsure"], signals["best"]) == (0, 1, 0)
