"""Boxes of an image: what is taken, what is refused, and how they are stored."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.tasks.detections import Detections, pack, unpack

BOXES = [[1, 2, 11, 22], [0, 0, 4.5, 4]]


def two() -> Detections:
    return Detections.of(BOXES, [0.9, 0.25], [3, 0])


def test_of_makes_the_types_that_others_read() -> None:
    found = two()
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.classes.dtype == np.int64
    assert found.areas.tolist() == [200.0, 18.0]
    assert len(found) == 2


def test_they_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        two().scores = np.zeros(2, np.float32)  # type: ignore[misc]


def test_none_has_no_boxes() -> None:
    assert len(Detections.none()) == 0
    assert Detections.of([], [], []) == Detections.none()


@pytest.mark.parametrize(
    ("boxes", "scores", "classes", "said"),
    [
        ([[0, 0, 1]], [0.5], [0], r"\(1, 3\)"),
        ([[0, 0, 1, 1]], [0.5, 0.5], [0], r"scores are .*\(2,\)"),
        ([[0, 0, 1, 1]], [0.5], [0, 1], r"classes are .*\(2,\)"),
        ([[0, 0, 1, np.nan]], [0.5], [0], "not finite"),
        ([[0, 0, 1, 1e39]], [0.5], [0], "not finite"),
        ([[0, 0, 1, 1]], [np.nan], [0], "not finite"),
        ([[0, 0, 1, 1]], [1.01], [0], "0..1"),
        ([[0, 0, 1, 1]], [-0.01], [0], "0..1"),
        ([[2, 0, 1, 1]], [0.5], [0], "box 0 is"),
        ([[0, 0, 1, 1], [0, 3, 1, 1]], [0.5, 0.5], [0, 0], "box 1 is"),
        ([[0, 0, 1, 1]], [0.5], [-1], "below 0"),
        ([[0, 0, 1, 1]], [0.5], [1.5], "no whole number"),
        ([["a", 0, 1, 1]], [0.5], [0], "array of numbers"),
    ],
)
def test_what_is_no_box_is_refused(boxes, scores, classes, said) -> None:
    with pytest.raises(InputError, match=said):
        Detections.of(boxes, scores, classes)


def test_other_types_are_refused_where_nothing_is_converted() -> None:
    found = two()
    with pytest.raises(InputError, match="boxes are float64"):
        Detections(found.boxes.astype(float), found.scores, found.classes)


def test_above_keeps_what_reaches_the_threshold() -> None:
    assert two().above(0.25) == two()
    assert two().above(0.3) == Detections.of(BOXES[:1], [0.9], [3])


@given(st.lists(st.integers(0, 4), max_size=6))
def test_packed_boxes_come_back(counts: list[int]) -> None:
    generator = np.random.default_rng(sum(counts))
    found = []
    for count in counts:
        corner = generator.uniform(-5, 5, (count, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(0, 9, (count, 2))], axis=1)
        found.append(
            Detections.of(boxes, generator.uniform(0, 1, count), generator.integers(0, 90, count))
        )
    packed, offsets = pack(found)
    assert packed.dtype == np.float32
    assert np.diff(offsets).tolist() == counts
    assert unpack(packed, offsets) == found


def test_offsets_that_do_not_fit_are_refused() -> None:
    packed, offsets = pack([two(), two()])
    with pytest.raises(InputError, match="rise from 0 to 4"):
        unpack(packed, offsets - 1)
    with pytest.raises(InputError, match=r"\(k, 6\)"):
        unpack(packed[:, :5], offsets)


def test_supervision_takes_them_in_one_line() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    found = two()
    shown = supervision.Detections(
        xyxy=found.boxes, confidence=found.scores, class_id=found.classes
    )
    assert shown.box_area.tolist() == found.areas.tolist()
