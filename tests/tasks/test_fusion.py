"""Weighted box fusion, worked out by hand from the paper's steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.tasks.detections import Detections
from adaptive.tasks.fusion import fuse


def one(box: list[float], score: float, kind: int = 0) -> Detections:
    return Detections.of([box], [score], [kind])


def test_boxes_that_overlap_become_their_mean_by_score() -> None:
    fused = fuse([one([0, 0, 10, 10], 0.9), one([2, 0, 12, 10], 0.6)])
    # (0.9 x 0 + 0.6 x 2) / 1.5; score the mean, found by two of two
    assert np.allclose(fused.boxes, [[0.8, 0, 10.8, 10]])
    assert np.allclose(fused.scores, [0.75])


def test_what_one_of_three_found_is_trusted_a_third() -> None:
    fused = fuse([one([0, 0, 10, 10], 0.9), Detections.none(), Detections.none()])
    assert np.allclose(fused.scores, [0.3])


def test_weights_pull_box_and_score() -> None:
    fused = fuse([one([0, 0, 10, 10], 0.9), one([2, 0, 12, 10], 0.6)], weights=[1, 3])
    # members 0.9 x 1 and 0.6 x 3
    assert np.allclose(fused.boxes[0, 0], (0.9 * 0 + 1.8 * 2) / 2.7)
    assert np.allclose(fused.scores, [(0.9 + 1.8) / 4])
    alone = fuse([one([0, 0, 10, 10], 0.9), Detections.none()], weights=[1, 3])
    assert np.allclose(alone.scores, [0.9 / 4])


def test_a_detectors_own_rivals_do_not_count_twice() -> None:
    twice = Detections.of([[0, 0, 10, 10], [0, 0, 10, 10]], [0.8, 0.4], [0, 0])
    assert np.allclose(fuse([twice]).scores, [0.6])


def test_classes_are_not_mixed_and_the_surest_comes_first() -> None:
    fused = fuse([one([0, 0, 10, 10], 0.5), one([0, 0, 10, 10], 0.9, 1)])
    assert fused.classes.tolist() == [1, 0]
    assert np.allclose(fused.scores, [0.45, 0.25])


def test_a_box_joins_the_cluster_that_it_overlaps_most() -> None:
    first = Detections.of([[0, 0, 10, 10], [0, 4, 10, 14]], [0.9, 0.8], [0, 0])
    fused = fuse([first, one([0, 3.5, 10, 13.5], 0.7)], iou=0.45)
    assert len(fused) == 2
    assert np.allclose(fused.boxes[np.argmin(fused.boxes[:, 1])], [0, 0, 10, 10])


def test_at_most_so_many_are_kept() -> None:
    many = Detections.of([[20 * i, 0, 20 * i + 9, 9] for i in range(5)], np.arange(5) / 5, [0] * 5)
    assert np.allclose(fuse([many], most=2).scores, [0.8, 0.6])
    assert len(fuse([many])) == 4  # a score of nought has no say


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_fused_boxes_lie_among_those_that_were_fused(seed: int, detectors: int) -> None:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(detectors):
        count = generator.integers(0, 9)
        corner = generator.uniform(0, 9, (count, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(1, 9, (count, 2))], axis=1)
        found.append(Detections.of(boxes, generator.random(count), generator.integers(0, 2, count)))
    fused = fuse(found)
    assert np.array_equal(fused.scores, np.sort(fused.scores)[::-1])
    for kind in np.unique(fused.classes):
        own = np.concatenate([one.boxes[one.classes == kind] for one in found])
        boxes = fused.boxes[fused.classes == kind]
        assert (boxes >= own.min(axis=0) - 1e-4).all()
        assert (boxes <= own.max(axis=0) + 1e-4).all()


def test_what_cannot_be_fused_is_refused() -> None:
    with pytest.raises(InputError, match="no detector"):
        fuse([])
    for weights in ([1.0], [1.0, 0.0], [1.0, np.nan]):
        with pytest.raises(InputError, match="2 detectors need as many weights"):
            fuse([Detections.none()] * 2, weights)
