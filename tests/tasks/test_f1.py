"""F1 of an image, and the threshold that makes its mean highest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.tasks.detections import Detections
from adaptive.tasks.f1 import best_threshold, image_f1
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match

SQUARE = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]


def f1(truth: list[TrueBoxes], found: list[Detections], threshold: float = 0.0) -> list[float]:
    return image_f1(Truth.of(truth), match(truth, found), threshold).tolist()


def test_right_wrong_and_missed_boxes_count() -> None:
    truth = [TrueBoxes.of([SQUARE, FAR], [0, 1])] * 2
    right = Detections.of([SQUARE, FAR], [0.9, 0.8], [0, 1])
    mixed = Detections.of([SQUARE, FAR, FAR], [0.9, 0.8, 0.3], [0, 0, 2])
    assert f1(truth, [right, mixed]) == [1.0, 2 / 5]
    assert f1(truth, [right, mixed], 0.85) == [2 / 3, 2 / 3]
    assert f1(truth, [right, mixed], 0.95) == [0.0, 0.0]


def test_an_image_without_objects_and_without_boxes_counts_one() -> None:
    nothing = TrueBoxes.of([], [])
    assert f1([nothing, nothing], [Detections.none(), Detections.of([FAR], [0.5], [0])]) == [1, 0]
    assert f1([nothing], [Detections.of([FAR], [0.5], [0])], 0.6) == [1]


def test_a_threshold_keeps_the_scores_that_equal_it() -> None:
    truth = [TrueBoxes.of([SQUARE], [0])]
    found = [Detections.of([SQUARE], [0.1], [0])]  # 0.1 in float32 is a little more
    assert f1(truth, found, float(found[0].scores[0])) == [1.0]


def test_crowds_are_neither_hit_nor_missed() -> None:
    truth = [TrueBoxes.of([SQUARE, FAR], [0, 0], [False, True])]
    found = [Detections.of([SQUARE, [52, 52, 55, 55]], [0.9, 0.8], [0, 0])]
    assert f1(truth, found) == [1.0]


def test_an_overlap_of_a_half_is_enough() -> None:
    truth = [TrueBoxes.of([SQUARE], [0])]
    assert f1(truth, [Detections.of([[0, 0, 10, 5]], [0.9], [0])]) == [1.0]
    assert f1(truth, [Detections.of([[0, 0, 10, 4.99]], [0.9], [0])]) == [0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 5))
def test_no_threshold_is_better_than_the_best(seed: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        count = generator.integers(0, 4)
        places = generator.choice(6, count, replace=False) * 20
        truth.append(TrueBoxes.of([[x, 0, x + 10, 10] for x in places], [0] * count))
        count = generator.integers(0, 7)
        places = generator.integers(0, 6, count) * 20
        scores = generator.integers(0, 6, count) / 5
        found.append(Detections.of([[x, 0, x + 10, 10] for x in places], scores, [0] * count))
    counted, matches = Truth.of(truth), match(truth, found)
    best = best_threshold(counted, matches)
    own = image_f1(counted, matches, best).mean()
    tried = {t: image_f1(counted, matches, t).mean() for t in [*np.arange(6) / 5, 1.1]}
    assert own == pytest.approx(max(tried.values()), abs=1e-12)
    # of equal scores' means the highest score: at any above it the mean is lower
    scores = {float(score) for score in matches.scores if score > best}
    assert all(image_f1(counted, matches, score).mean() < own - 1e-12 for score in scores)


def test_where_no_box_is_right_none_is_best() -> None:
    truth = [TrueBoxes.of([], [])]
    matches = match(truth, [Detections.of([FAR], [0.7], [0])])
    best = best_threshold(Truth.of(truth), matches)
    assert best > 0.7
    assert image_f1(Truth.of(truth), matches, best).tolist() == [1.0]
    assert best_threshold(Truth.of(truth), match(truth, [Detections.none()])) == 1.0
