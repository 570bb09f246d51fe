"""Matching and average precision against pycocotools, on made hard cases, and by hand."""

from __future__ import annotations

import contextlib
import io
from dataclasses import astuple
from typing import Any, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.coco import coco_rows
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import IOUS, MOST, Matches, Truth, match

#: COCO's number of each class; there are gaps, as in COCO.
NUMBERS = [1, 4, 90]


def judged(truth: Sequence[TrueBoxes], found: Sequence[Detections], images: Any = None) -> Any:
    """The twelve numbers of pycocotools, and its precision by overlap and class."""
    pytest.importorskip("pycocotools", reason="pycocotools, the judge, is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = {
            "images": [{"id": 10 + 3 * image} for image in range(len(truth))],
            "categories": [{"id": number} for number in NUMBERS],
            "annotations": annotations(truth),
        }
        labels.createIndex()
        rows = [
            r for image, one in enumerate(found) for r in coco_rows(one, 10 + 3 * image, NUMBERS)
        ]
        if not rows:  # it cannot read an empty list
            results = COCO()
            results.dataset = {**labels.dataset, "annotations": []}
            results.createIndex()
        else:
            results = labels.loadRes(rows)
        judge = COCOeval(labels, results, "bbox")
        if images is not None:
            judge.params.imgIds = [10 + 3 * int(image) for image in images]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats, judge.eval["precision"][:, :, :, 0, 2].mean(axis=1)


def annotations(truth: Sequence[TrueBoxes]) -> list[dict[str, Any]]:
    rows = []
    for image, one in enumerate(truth):
        sides = np.concatenate([one.boxes[:, :2], one.boxes[:, 2:] - one.boxes[:, :2]], axis=1)
        for box, kind, crowd, area in zip(sides.tolist(), one.classes, one.crowd, one.area):
            rows.append(
                {
                    "id": len(rows) + 1,  # pycocotools takes 0 for "not matched"
                    "image_id": 10 + 3 * image,
                    "category_id": NUMBERS[kind],
                    "bbox": box,
                    "iscrowd": int(crowd),
                    "area": float(area),
                }
            )
    return rows


def ours(truth: Sequence[TrueBoxes], found: Sequence[Detections]) -> Ranking:
    return Ranking(Truth.of(truth), [match(truth, found)])


def made(seed: int, images: int, objects: int, boxes: int, step: int = 8) -> Any:
    """Images of few places and few scores: overlaps at the limits, ties, crowds, absent classes."""
    generator = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(images):
        count = generator.integers(0, objects + 1)
        corner = generator.integers(0, 6, (count, 2)) * step
        true = np.concatenate([corner, corner + generator.integers(1, 14, (count, 2)) * step], 1)
        sides = true[:, 2:] - true[:, :2]
        area = sides.prod(axis=1) * generator.choice([1.0, 0.5, 0.1], count)
        area = np.where(generator.random(count) < 0.2, generator.choice([32**2, 96**2]), area)
        classes = generator.integers(0, 2, count) * 2  # class 1 has no labels
        truth.append(TrueBoxes.of(true, classes, generator.random(count) < 0.25, area))
        count = generator.integers(0, boxes + 1)
        corner = generator.integers(0, 6, (count, 2)) * step
        box = np.concatenate([corner, corner + generator.integers(0, 14, (count, 2)) * step], 1)
        if len(true):  # half of them near a true one
            near = true[generator.integers(0, len(true), count)] + generator.integers(
                -1, 2, (count, 4)
            ) * (step // 4)
            near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
            box = np.where(generator.random((count, 1)) < 0.6, near, box)
        scores = generator.integers(0, 9, count) / 8
        found.append(Detections.of(box, scores, generator.integers(0, 3, count)))
    return truth, found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9), st.integers(1, 6), st.integers(0, 8), st.integers(0, 14))
def test_all_twelve_numbers_are_those_of_pycocotools(
    seed: int, images: int, objects: int, boxes: int
) -> None:
    truth, found = made(seed, images, objects, boxes)
    stats, table = judged(truth, found)
    ranking = ours(truth, found)
    everything = np.zeros(images, int)
    assert np.allclose(astuple(ranking.summary(everything)), stats, rtol=0, atol=1e-9)
    # and class by class, overlap by overlap
    own = np.full((len(IOUS), len(NUMBERS)), -1.0)
    precisions = ranking.precisions(everything)
    own[:, : precisions.shape[1]] = np.nan_to_num(precisions, nan=-1.0)
    assert np.allclose(own, table, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_more_boxes_than_count(seed: int) -> None:
    truth, found = made(seed, 3, 60, 6 * MOST, step=16)
    assert max(np.bincount(one.classes).max() for one in found) > MOST
    stats, _ = judged(truth, found)
    own = ours(truth, found).summary(np.zeros(3, int))
    assert np.allclose(astuple(own), stats, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**9))
def test_a_mix_of_candidates_by_image_is_what_its_boxes_are(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth, first = made(seed, 8, 5, 10)
    candidates = [first, made(seed + 1, 8, 5, 12)[1], made(seed + 2, 8, 5, 6)[1]]
    ranking = Ranking(Truth.of(truth), [match(truth, one) for one in candidates])
    choice = generator.integers(-1, 3, 8)
    there = np.flatnonzero(choice >= 0)
    mixed = [candidates[max(own, 0)][image] for image, own in enumerate(choice)]
    summary = ranking.summary(choice)
    assert ranking.ap(choice) == summary.ap
    if there.size:
        stats, _ = judged(truth, mixed, there)
        assert np.allclose(astuple(summary), stats, rtol=0, atol=1e-9)
        # and the same of these images alone, matched anew
        alone = ours([truth[i] for i in there], [mixed[i] for i in there])
        assert alone.ap(np.zeros(len(there), int)) == pytest.approx(summary.ap, abs=1e-12)


def one_image(boxes: list[list[float]], crowd: Any = None, area: Any = None) -> list[TrueBoxes]:
    return [TrueBoxes.of(boxes, [0] * len(boxes), crowd, area)]


def answers(boxes: list[list[float]], scores: list[float]) -> list[Detections]:
    return [Detections.of(boxes, scores, [0] * len(boxes))]


def hits(matches: Matches) -> list[list[int]]:
    """For each box, at how many of IOUS it is right, and at how many it is ignored."""
    bits = [bin(int(value)).count("1") for value in matches.hits[0]]
    ignored = [bin(int(value)).count("1") for value in matches.ignored[0]]
    return [list(pair) for pair in zip(bits, ignored)]


def test_average_precision_by_hand() -> None:
    # Two objects; the boxes are right, wrong, right: precision 1 up to recall 0.5, then 2/3.
    truth = one_image([[0, 0, 10, 10], [20, 0, 30, 10]])
    found = answers([[0, 0, 10, 10], [50, 0, 60, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7])
    expected = (51 + 50 * 2 / 3) / 101
    assert ours(truth, found).ap(np.zeros(1, int)) == pytest.approx(expected, abs=1e-12)


def test_an_overlap_of_three_quarters_is_right_up_to_three_quarters() -> None:
    truth = one_image([[0, 0, 8, 8]])
    matches = match(truth, answers([[0, 0, 8, 6]], [0.9]))
    assert matches.hits[0].tolist() == [0b111111]
    summary = Ranking(Truth.of(truth), [matches]).summary(np.zeros(1, int))
    assert summary.ap == pytest.approx(0.6)
    assert summary.ap75 == pytest.approx(1.0)


def test_a_true_box_is_taken_once_by_the_surest() -> None:
    truth = one_image([[0, 0, 10, 10]])
    matches = match(truth, answers([[0, 0, 10, 10], [0, 0, 10, 10]], [0.5, 0.9]))
    assert matches.scores.tolist() == pytest.approx([0.9, 0.5])
    assert hits(matches) == [[10, 0], [0, 0]]


def test_a_crowd_takes_many_boxes_and_counts_none() -> None:
    truth = one_image([[0, 0, 100, 100]], crowd=[True])
    matches = match(
        truth, answers([[0, 0, 9, 9], [50, 50, 60, 60], [200, 0, 210, 9]], [0.9, 0.8, 0.7])
    )
    assert hits(matches) == [[10, 10], [10, 10], [0, 0]]
    assert ours(truth, answers([], [])).ap(np.zeros(1, int)) == -1.0


def test_an_object_goes_before_a_crowd_that_overlaps_more() -> None:
    truth = one_image([[0, 0, 100, 100], [0, 0, 10, 6]], crowd=[True, False])
    matches = match(truth, answers([[0, 0, 10, 10]], [0.9]))
    assert matches.hits[0].tolist() == [0b1111111111]
    assert matches.ignored[0].tolist() == [0b1111111000]  # beyond 0.6 the crowd takes it


@pytest.mark.parametrize("area", [100, 10_000])
def test_of_true_boxes_that_overlap_alike_the_last_is_taken(area: int) -> None:
    truth = one_image([[0, 0, 10, 10], [0, 10, 10, 20]], area=[area, area])
    found = answers([[0, 0, 10, 20], [0, 0, 10, 10]], [0.9, 0.8])
    matches = match(truth, found)
    size = 1  # small: true boxes of a large area are ignored, and are taken all the same
    assert matches.hits[size].tolist() == [0b1, 0b1111111111]
    assert (matches.ignored[size] & 1).tolist() == ([0, 0] if area == 100 else [1, 1])
    stats, _ = judged(truth, found)
    assert np.allclose(astuple(ours(truth, found).summary(np.zeros(1, int))), stats, atol=1e-9)


def test_areas_at_the_limits_belong_to_both_sizes() -> None:
    truth = one_image([[0, 0, 32, 32]])
    summary = ours(truth, answers([[0, 0, 32, 32]], [0.5])).summary(np.zeros(1, int))
    assert (summary.ap_small, summary.ap_medium) == pytest.approx((1, 1))
    assert summary.ap_large == -1


def test_without_labels_or_images_there_is_no_number() -> None:
    assert set(astuple(ours([], []).summary(np.zeros(0, int)))) == {-1.0}
    nothing = [TrueBoxes.of([], [])]
    assert ours(nothing, answers([[0, 0, 1, 1]], [0.5])).ap(np.zeros(1, int)) == -1.0


def test_a_class_that_is_not_found_counts_nought() -> None:
    truth = [TrueBoxes.of([[0, 0, 9, 9], [0, 0, 9, 9]], [0, 2])]
    summary = ours(truth, answers([[0, 0, 9, 9]], [0.5])).summary(np.zeros(1, int))
    assert summary.ap == pytest.approx(0.5)
    assert summary.ar_100 == pytest.approx(0.5)


def test_other_scores_may_not_change_the_order() -> None:
    truth = one_image([[0, 0, 10, 10]])
    matches = match(truth, answers([[0, 0, 10, 10], [0, 0, 10, 9]], [0.9, 0.5]))
    assert matches.with_scores(np.array([0.5, 0.5])).scores.tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="match them anew"):
        matches.with_scores(np.array([0.1, 0.2]))
    with pytest.raises(InputError, match="scores"):
        matches.with_scores(np.array([0.1]))


def test_what_does_not_fit_is_refused() -> None:
    truth, found = made(5, 4, 3, 3)
    matches = match(truth, found)
    with pytest.raises(InputError, match="boxes of 3 images cannot be held against 4"):
        match(truth, found[:3])
    with pytest.raises(InputError, match="matches of 4 images do not fit 3"):
        Ranking(Truth.of(truth[:3]), [matches])
    ranking = Ranking(Truth.of(truth), [matches])
    with pytest.raises(InputError, match=r"for 4 images \(4,\) is needed"):
        ranking.ap(np.zeros(3, int))
    with pytest.raises(InputError, match="-1 to 0 are allowed"):
        ranking.ap(np.array([0, 0, 1, 0]))
    with pytest.raises(InputError, match="uint16"):
        Matches(
            4,
            matches.image,
            matches.classes,
            matches.scores,
            matches.rank,
            matches.hits.astype(int),
            matches.ignored,
        )
    with pytest.raises(InputError, match="not among the 1"):
        Matches(1, *astuple(matches)[1:])


def test_matches_of_some_images_are_those_matched_alone() -> None:
    truth, found = made(11, 6, 5, 9)
    some = np.array([1, 2, 5])
    part = match(truth, found).of_images(some)
    alone = match([truth[i] for i in some], [found[i] for i in some])
    for name in ("image", "classes", "scores", "rank", "hits", "ignored"):
        assert np.array_equal(getattr(part, name), getattr(alone, name)), name
