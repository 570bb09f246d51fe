"""Non-maximum suppression against its definition, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.tasks.boxes import ious
from adaptive.tasks.suppression import suppress


def by_definition(boxes, scores, classes, iou, most) -> list[int]:
    kept: list[int] = []
    for row in sorted(range(len(scores)), key=lambda r: (-scores[r], r)):
        rivals = [k for k in kept if classes[k] == classes[row]]
        if all(float(ious(boxes[[k]], boxes[[row]])[0, 0]) <= iou for k in rivals):
            kept.append(row)
    return kept[:most]


@pytest.mark.parametrize("count", [0, 1, 5, 127, 128, 129, 400])
@pytest.mark.parametrize("most", [None, 1, 40])
def test_keeps_what_the_definition_keeps(count: int, most: int | None) -> None:
    generator = np.random.default_rng(count)
    corner = generator.integers(0, 30, (count, 2)).astype(float)
    boxes = np.concatenate([corner, corner + generator.integers(0, 20, (count, 2))], axis=1)
    scores = generator.integers(0, 8, count) / 8  # many ties
    classes = generator.integers(0, 3, count)
    kept = suppress(boxes, scores, classes, 0.5, most)
    assert kept.tolist() == by_definition(boxes, scores, classes, 0.5, most)


@given(st.integers(0, 10_000))
def test_keeps_the_same_of_crowded_boxes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, 4, (30, 2)).astype(float)
    boxes = np.concatenate([corner, corner + generator.integers(1, 6, (30, 2))], axis=1)
    scores, classes = generator.integers(0, 3, 30) / 3, generator.integers(0, 2, 30)
    iou = float(generator.choice([0.0, 0.25, 0.5, 1.0]))
    kept = suppress(boxes, scores, classes, iou)
    assert kept.tolist() == by_definition(boxes, scores, classes, iou, None)


def test_an_overlap_of_the_limit_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], float)
    scores, classes = np.array([0.9, 0.8]), np.zeros(2, int)
    assert suppress(boxes, scores, classes, 0.5).tolist() == [0, 1]
    assert suppress(boxes, scores, classes, 0.49).tolist() == [0]


def test_of_equal_scores_the_earlier_box_stays() -> None:
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]], float)
    assert suppress(boxes, np.full(3, 0.5), np.zeros(3, int), 0.5).tolist() == [0]


def test_boxes_of_other_classes_stay() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 3, float)
    kept = suppress(boxes, np.array([0.1, 0.3, 0.2]), np.array([0, 1, 0]), 0.5)
    assert kept.tolist() == [1, 2]


def test_boxes_without_area_are_nobodys_rivals() -> None:
    boxes = np.array([[5, 5, 5, 5]] * 2, float)
    assert suppress(boxes, np.array([0.1, 0.3]), np.zeros(2, int), 0.5).tolist() == [1, 0]
