"""Scores become chances: the map rises, loses no order, and is what it was learnt from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.tasks.average_precision import Ranking
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import TrueBoxes
from adaptive.tasks.matching import Truth, match
from adaptive.tasks.score_map import ScoreMap, _pooled


def test_violators_are_pooled() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    middles, means = _pooled(scores, np.array([0.0, 1.0, 0.0, 1.0]))
    assert np.allclose(middles, [0.1, 0.25, 0.4])
    assert np.allclose(means, [0, 0.5, 1])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40))
def test_steps_are_those_of_the_min_max_formula(pairs: list[tuple[int, bool]]) -> None:
    """The isotonic fit at x is max over a <= x of min over b >= x of the mean of a..b."""
    scores = np.array([score / 8 for score, _ in pairs])
    right = np.array([float(answer) for _, answer in pairs])
    values = np.unique(scores)
    sums = np.array([right[scores == value].sum() for value in values])
    counts = np.array([(scores == value).sum() for value in values])
    expected = [
        max(
            min(sums[a : b + 1].sum() / counts[a : b + 1].sum() for b in range(at, len(values)))
            for a in range(at + 1)
        )
        for at in range(len(values))
    ]
    middles, means = _pooled(scores, right)
    assert (np.diff(means) > 0).all()
    assert (np.diff(middles) > 0).all()
    assert np.allclose(np.unique(np.round(expected, 9)), np.round(means, 9))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_the_map_rises_everywhere_within_0_and_1(pairs: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], np.float32)
    fitted = ScoreMap.fit(scores, np.array([answer for _, answer in pairs]))
    mapped = fitted(np.linspace(0, 1, 1001))
    assert (np.diff(mapped) > 0).all()
    assert mapped.min() >= 0
    assert mapped.max() <= 1


@pytest.mark.parametrize("scores", [[1e-16], [0.5, 0.5 + 1e-12], [1 - 1e-12], [0.0, 1.0], [0.0]])
def test_scores_that_can_hardly_be_told_apart_are_learnt_from(scores: list[float]) -> None:
    fitted = ScoreMap.fit(np.array(scores), np.arange(len(scores)) == len(scores) - 1)
    assert len(fitted.scores) <= 3
    assert (np.diff(fitted(np.linspace(0, 1, 101))) > 0).all()


def test_chances_are_learnt() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(20_000)
    fitted = ScoreMap.fit(scores, generator.random(20_000) < scores**2)
    grid = np.linspace(0.05, 0.95, 19)
    assert np.abs(fitted(grid) - grid**2).max() < 0.05


def test_a_map_is_its_knots() -> None:
    fitted = ScoreMap.fit(np.array([0.2, 0.4, 0.6]), np.array([0, 1, 1]))
    again = ScoreMap(fitted.scores, fitted.chances)
    grid = np.linspace(0, 1, 50)
    assert np.array_equal(fitted(grid), again(grid))
    assert np.array_equal(ScoreMap.identity()(grid), grid)


def test_a_candidates_own_average_precision_stays_and_a_mix_gains() -> None:
    """One detector is too sure of itself: its wrong boxes stand before the other's right ones."""
    truth, modest, boastful = [], [], []
    for image in range(40):
        truth.append(TrueBoxes.of([[0, 0, 10, 10]], [0]))
        right = [[0, 0, 10, 10], [50, 0, 60, 10]]
        modest.append(Detections.of(right, [0.4 + image / 1000, 0.1], [0, 0]))
        wrong = image % 2 == 0
        boastful.append(Detections.of([right[int(wrong)]], [0.9 + image / 1000], [0]))
    counted = Truth.of(truth)
    plain = [match(truth, modest), match(truth, boastful)]
    maps = [ScoreMap.learn(one) for one in plain]
    mapped = [own.matches(one) for own, one in zip(maps, plain)]
    before, after = Ranking(counted, plain), Ranking(counted, mapped)
    for candidate in (0, 1):
        alone = np.full(40, candidate)
        assert after.ap(alone) == pytest.approx(before.ap(alone), abs=1e-12)
    mix = np.arange(40) // 20
    assert after.ap(mix) > before.ap(mix) + 0.1
    # the same from boxes with mapped scores, matched anew
    anew = [
        match(truth, [own.detections(d) for d in one]) for own, one in zip(maps, (modest, boastful))
    ]
    assert Ranking(counted, anew).ap(mix) == pytest.approx(after.ap(mix), abs=1e-6)


def test_without_boxes_scores_stay() -> None:
    nothing = match([TrueBoxes.of([], [])], [Detections.none()])
    assert ScoreMap.learn(nothing)(np.array([0.3])).tolist() == [0.3]


@pytest.mark.parametrize(
    ("scores", "chances", "said"),
    [
        ([0, 1], [0, 0.5, 1], "two rows of one length"),
        ([0.1, 1], [0, 1], "from 0 to 1"),
        ([0], [0], "from 0 to 1"),
        ([0, 0.5, 0.5, 1], [0, 0.1, 0.2, 1], "must rise"),
        ([0, 0.5, 1], [0, 0.5, 0.5], "must rise"),
        ([0, np.nan, 1], [0, 0.5, 1], "must rise"),
        ([0, 1], [0, 1.5], "0..1 is allowed"),
    ],
)
def test_knots_that_are_no_map_are_refused(scores, chances, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ScoreMap(np.array(scores, float), np.array(chances, float))


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    with pytest.raises(InputError, match="at least one box"):
        ScoreMap.fit(np.empty(0), np.empty(0))
    with pytest.raises(InputError, match=r"0\.\.1"):
        ScoreMap.fit(np.array([1.5]), np.array([1]))
