from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="cross-validation needs scikit-learn")

from adaptive.errors import InputError
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.report import cross_validate

CHAIN = KNNChain(["a"], ["small", "big"], k=3)


def groups(counts=(20, 20, 20)):
    """Three far groups: small is best, big is best, none is."""
    X = np.concatenate([1000.0 * g + np.arange(n) for g, n in enumerate(counts)])[:, None]
    outcomes = np.repeat([[1, 1], [0, 1], [0, 0]], counts, axis=0)
    return X, outcomes


def test_separate_groups_are_told_apart():
    report = cross_validate(CHAIN, *groups())
    assert report.accuracy == 1
    assert report.fold_accuracy == (1,) * 5
    assert report.classes == ("small", "big", "none")
    assert report.confusion == ((20, 0, 0), (0, 20, 0), (0, 0, 20))
    assert report.macro == {"precision": 1, "recall": 1, "f1": 1}
    assert report.per_class["none"] == {"precision": 1, "recall": 1, "f1": 1, "images": 20}
    assert report.stratified
    assert report.notes == ()
    assert report.top1 is None
    assert report.commonest_share == pytest.approx(1 / 3)
    assert not hasattr(CHAIN, "table_")


def test_scores_follow_from_the_confusion_table():
    generator = np.random.default_rng(0)
    outcomes = generator.integers(0, 2, (200, 2))
    report = cross_validate(CHAIN, generator.normal(size=(200, 1)), outcomes, measured=True)
    counts = np.array(report.confusion)
    assert counts.sum() == report.rows == 200
    assert report.accuracy == pytest.approx(np.trace(counts) / 200)
    for i, name in enumerate(report.classes):
        scores = report.per_class[name]
        assert scores["images"] == counts[i].sum()
        assert scores["recall"] == pytest.approx(counts[i, i] / counts[i].sum())
        assert scores["precision"] == pytest.approx(counts[i, i] / counts[:, i].sum())
        assert scores["f1"] == pytest.approx(
            2 * counts[i, i] / (counts[i].sum() + counts[:, i].sum())
        )
    for key, value in report.macro.items():
        assert value == pytest.approx(np.mean([s[key] for s in report.per_class.values()]))
    assert report.top1["always small"] == outcomes[:, 0].mean()
    assert report.top1["oracle"] == outcomes.any(axis=1).mean()
    assert 0 < report.top1["chain"] <= report.top1["oracle"]


def test_top1_asks_the_last_one_where_all_say_no():
    X, outcomes = groups()
    outcomes[X[:, 0] >= 2000] = [[0, 0]] * 20
    report = cross_validate(CHAIN, X, outcomes, measured=True)
    assert report.top1 == {
        "chain": pytest.approx(2 / 3),
        "always small": pytest.approx(1 / 3),
        "always big": pytest.approx(2 / 3),
        "oracle": pytest.approx(2 / 3),
    }


def test_areas_are_averaged_over_parts_and_may_be_unknown():
    X, outcomes = groups()
    outcomes = np.c_[outcomes[:, 0], np.ones(60, int)]
    outcomes[0, 1] = 0
    report = cross_validate(CHAIN, X, outcomes)
    assert report.chances["small"] == {"auc": 1.0, "brier": 0.0, "base": pytest.approx(2 / 9)}
    assert report.chances["big"]["auc"] is not None  # of the one part that has both outcomes
    outcomes[0, 1] = 1
    report = cross_validate(CHAIN, X, outcomes)
    assert report.chances["big"] == {"auc": None, "brier": 0.0, "base": 0.0}
    assert "big         -  0.000  0.000" in report.to_text()


def test_the_seed_decides():
    generator = np.random.default_rng(1)
    data = generator.normal(size=(80, 1)), generator.integers(0, 2, (80, 2))
    assert cross_validate(CHAIN, *data, seed=3) == cross_validate(CHAIN, *data, seed=3)
    assert cross_validate(CHAIN, *data, seed=3) != cross_validate(CHAIN, *data, seed=4)


def test_a_rare_class_means_plain_parts_and_a_note():
    report = cross_validate(CHAIN, *groups((20, 20, 3)))
    assert not report.stratified
    assert report.folds == 5
    assert report.notes == ("parts are not stratified: 'none' is the best of only 3 images",)
    assert "note: parts are not stratified" in report.to_text()


def test_too_few_images_for_the_folds():
    with pytest.raises(InputError, match="61 folds of 60 images are asked for; from 2 to 60 are"):
        cross_validate(CHAIN, *groups(), folds=61)
    with pytest.raises(InputError, match="with one of 2 parts held out, 2 rows are fewer than k"):
        cross_validate(CHAIN, *groups((2, 2, 0)), folds=2)


def test_text_and_json():
    report = cross_validate(CHAIN, *groups((20, 10, 10)), measured=True)
    assert (
        report.to_text()
        == """\
5-fold cross-validation on 40 images (stratified, seed 0)
best candidate chosen: 100.0% (always 'small': 50.0%)

class  precision  recall     F1  images
small      1.000   1.000  1.000      20
big        1.000   1.000  1.000      10
none       1.000   1.000  1.000      10
macro      1.000   1.000  1.000      40

best \\ chosen  small  big  none
small             20    0     0
big                0   10     0
none               0    0    10

chance    AUC  Brier   base
small   1.000  0.000  0.250
big     1.000  0.000  0.188

top-1 on these images
chain                  75.0%
always small           50.0%
always big             75.0%
oracle                 75.0%"""
    )
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert values["format"] == 1
    assert values["confusion"] == [[20, 0, 0], [0, 10, 0], [0, 0, 10]]
