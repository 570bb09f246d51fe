from __future__ import annotations

import numpy as np
import pytest

from adaptive.premodel.calibration import (
    cross_fitted,
    fit_sigmoid,
    parts_of,
    prior_log_odds,
    sigmoid,
)
from adaptive.premodel.scoring import areas, brier, mean_area


def test_sigmoid_has_no_overflow():
    values = sigmoid(np.array([-1e308, -800.0, 0.0, 1.0, 800.0, 1e308]))
    np.testing.assert_allclose(values, [0, 0, 0.5, 1 / (1 + np.exp(-1)), 1, 1])


def test_prior_is_laplaces_rule_of_succession():
    outcomes = np.array([[1, 0, 1], [1, 0, 0]])
    np.testing.assert_allclose(sigmoid(prior_log_odds(outcomes)), [3 / 4, 1 / 4, 1 / 2])


def test_fit_sigmoid_finds_the_line_that_made_the_outcomes():
    generator = np.random.default_rng(0)
    scores = generator.normal(3, 5, 200_000)
    right = generator.random(200_000) < sigmoid(0.4 * scores - 1)
    slope, shift = fit_sigmoid(scores, right)
    assert slope == pytest.approx(0.4, abs=0.01)
    assert shift == pytest.approx(-1, abs=0.03)


def test_fit_sigmoid_agrees_with_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model", reason="compares with scikit-learn")
    generator = np.random.default_rng(1)
    scores = generator.normal(size=5000)
    right = (generator.random(5000) < sigmoid(2 * scores)).astype(int)
    slope, shift = fit_sigmoid(scores, right)
    model = linear.LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(scores[:, None], right)
    assert slope == pytest.approx(model.coef_[0, 0], abs=5e-3)
    assert shift == pytest.approx(model.intercept_[0], abs=5e-3)


@pytest.mark.parametrize("scores", [np.zeros(10), -np.arange(10.0)])
def test_scores_that_tell_nothing_or_less_give_the_prior(scores):
    right = (np.arange(10) >= 4).astype(int)
    slope, shift = fit_sigmoid(scores, right)
    assert slope == 0
    assert sigmoid(np.array(shift)) == pytest.approx(7 / 12)


def test_separable_scores_stay_finite():
    slope, shift = fit_sigmoid(np.arange(100.0), np.arange(100) >= 50)
    assert 0 < slope < 100
    assert np.isfinite(shift)


def test_cross_fitted_scores_come_from_others():
    X = np.arange(23.0)[:, None]

    def learn(seen, known):
        return lambda asked: np.isin(asked, seen).astype(float)

    assert cross_fitted(learn, X, np.zeros((23, 1)), 0).sum() == 0
    assert np.bincount(parts_of(23, 5, 0)).tolist() == [5, 5, 5, 4, 4]
    assert parts_of(3, 5, 0).max() == 2


def test_areas_count_ties_half_and_know_when_there_is_none():
    chances = np.array([[0.1, 0.5, 1], [0.4, 0.5, 1], [0.35, 0.5, 0], [0.8, 0.5, 0]])
    outcomes = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    np.testing.assert_allclose(areas(chances, outcomes), [0.75, 0.5, np.nan])
    assert mean_area(chances, outcomes) == pytest.approx(0.625)
    assert mean_area(chances[:1], outcomes[:1]) == 0.5
    assert brier(chances[:, 1], outcomes[:, 1]) == 0.25


def test_areas_equal_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    generator = np.random.default_rng(0)
    chances = np.round(generator.random((500, 2)), 1)
    outcomes = generator.integers(0, 2, (500, 2))
    for level, area in enumerate(areas(chances, outcomes)):
        assert area == pytest.approx(metrics.roc_auc_score(outcomes[:, level], chances[:, level]))
