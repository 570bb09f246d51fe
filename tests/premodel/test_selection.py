from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scaling needs scikit-learn")

from adaptive.errors import InputError
from adaptive.premodel import selection
from adaptive.premodel.selection import (
    SubsetEvaluation,
    cost_ms,
    drop_correlated,
    select,
    select_by_cost,
)


def images(rows=400, seed=0):
    """Two candidates: one whose outcome a tells, one whose outcome b tells; c and d are noise."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, 4))
    noise = generator.normal(0, 0.5, (rows, 2))
    return X, (X[:, :2] + noise > 0).astype(np.uint8)


NAMES = ("a", "b", "c", "d")


def test_score_is_50_for_nothing_and_noise_and_high_for_what_tells():
    X, outcomes = images(1000)
    evaluation = SubsetEvaluation(X, outcomes)
    assert evaluation.score([]) == 50
    assert evaluation.score([2]) == pytest.approx(50, abs=4)
    assert 65 < evaluation.score([0]) < 80
    assert evaluation.score([0, 1]) > 85
    assert evaluation.score([1, 0]) == evaluation.score([0, 1])


def test_many_images_are_sampled(monkeypatch):
    monkeypatch.setattr(selection, "MOST_ROWS", 300)
    assert SubsetEvaluation(*images()).rows == 300


def test_correlated_pairs_lose_the_one_that_is_more_like_the_rest():
    generator = np.random.default_rng(0)
    base = generator.normal(size=2000)
    near, far = base + generator.normal(0, 0.3, 2000), base + generator.normal(0, 0.4, 2000)
    other = generator.normal(size=2000)
    gone = drop_correlated(np.stack([near, base, far, other], axis=1), ["near", "base", "far", "o"])
    assert [name for name, _, _ in gone] == ["base", "near"]  # near is less unlike "o" than far
    assert gone[0][1] == "near"
    assert gone[0][2] == pytest.approx(1 / np.sqrt(1.09), abs=0.01)


def test_of_equal_columns_the_later_goes_and_a_negative_r_counts():
    X = np.arange(50.0)[:, None] * [1, 1, -1]
    assert [name for name, _, _ in drop_correlated(X, ["a", "b", "c"])] == ["b", "c"]
    assert drop_correlated(X[:, :1], ["a"]) == []
    assert drop_correlated(np.random.default_rng(0).normal(size=(500, 3)), list("abc")) == []


def test_auto_keeps_what_tells_and_drops_twins_and_noise():
    X, outcomes = images()
    X = np.c_[X, X[:, 0] * 2 + 1e-3 * X[:, 3]]
    seen = []
    chosen = select(X, outcomes, (*NAMES, "twin"), progress=seen.append)
    assert len({"a", "twin"} & set(chosen.features)) == 1
    assert "b" in chosen.features
    assert len(chosen.features) < 4
    assert chosen.steps[0].action == "drop"
    assert [step for step in seen if step is not None] == list(chosen.steps)
    scores = [step.score for step in chosen.steps if step.action in ("start", "remove")]
    assert scores == sorted(scores)
    assert all(step.ms is None for step in chosen.steps)
    assert json.loads(json.dumps(chosen.to_json(), allow_nan=False))["features"] == list(
        chosen.features
    )


def test_auto_is_deterministic_and_keeps_the_order_of_the_columns():
    X, outcomes = images()
    assert select(X, outcomes, NAMES, seed=3) == select(X, outcomes, NAMES, seed=3)
    assert select(X[:, ::-1], outcomes, NAMES[::-1]).features[-1] == "a"


def test_auto_cost_buys_what_is_worth_its_time():
    X, outcomes = images()
    dear = dict(zip(NAMES, (1.0, 100.0, 0.01, 0.01)))
    assert select_by_cost(X, outcomes, NAMES, dear, 1.0).features == ("a",)
    assert set(select_by_cost(X, outcomes, NAMES, dear, 1000.0).features) >= {"a", "b"}
    chosen = select_by_cost(X, outcomes, NAMES, dear, 1.0)
    assert chosen.ms_per_point == 1.0
    assert [(step.action, step.feature) for step in chosen.steps[:2]] == [
        ("start", None),
        ("add", "a"),
    ]
    assert chosen.steps[-1].action == "stop"
    assert chosen.steps[-1].ms == 1.0


def test_auto_cost_takes_one_feature_where_none_pays():
    X, outcomes = images()
    chosen = select_by_cost(X, outcomes, NAMES, dict.fromkeys(NAMES, 50.0), 1.0)
    assert len(chosen.features) == 1
    assert "no feature pays for its time" in chosen.steps[1].why


def test_features_of_one_computation_are_paid_for_once():
    each = {"hue1": 0.1, "hue2": 0.1, "hue3": 0.1, "contrast": 0.05, "mine": 1.0}
    names = tuple(each)
    assert cost_ms(["hue1"], names, each) == pytest.approx(0.3)
    assert cost_ms(["hue1", "hue2"], names, each) == pytest.approx(0.3)
    assert cost_ms(["hue2", "contrast"], names, each) == pytest.approx(0.35)
    assert cost_ms(["mine"], names, each) == 1.0
    assert cost_ms([], names, each) == 0.0


def test_refusals():
    X, outcomes = images(19)
    with pytest.raises(InputError, match="19 images are too few to select features; at least 20"):
        select(X, outcomes, NAMES)
    X, outcomes = images()
    with pytest.raises(InputError, match=r"the times of \['d'\] are not known"):
        select_by_cost(X, outcomes, NAMES, {"a": 1, "b": 1, "c": 1}, 1.0)
    with pytest.raises(InputError, match=r"0\.0 ms a point is not a finite number above 0"):
        select_by_cost(X, outcomes, NAMES, dict.fromkeys(NAMES, 1.0), 0.0)
