"""What every premodel must do, whatever its kind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.premodel.base import NONE, Premodel, first_yes
from adaptive.premodel.registry import KINDS, load_premodel

FITTED = {"knn_chain": "random_chain"}


def test_every_kind_is_under_contract():
    assert set(FITTED) == set(KINDS)


@pytest.fixture(params=sorted(KINDS))
def fitted(request):
    return request.getfixturevalue(FITTED[request.param])(rows=300, features=5)


def test_attributes(fitted):
    premodel, _ = fitted
    assert isinstance(premodel, Premodel)
    assert KINDS[premodel.kind]
    assert isinstance(premodel.features, tuple)
    assert isinstance(premodel.candidates, tuple)
    assert premodel.schema_version is None or isinstance(premodel.schema_version, int)
    json.dumps(premodel.training_)


def test_predict_gives_one_chance_a_candidate(fitted):
    premodel, X = fitted
    chances = premodel.predict(X)
    assert chances.shape == (len(X), len(premodel.candidates))
    assert chances.dtype == np.float64
    assert chances.min() >= 0
    assert chances.max() <= 1


def test_predict_of_one_image_equals_the_batch_bit_for_bit(fitted):
    premodel, X = fitted
    queries = np.vstack([X[:40], X[:40] + 0.01])
    batch = premodel.predict(queries)
    single = np.vstack([premodel.predict(x[None]) for x in queries])
    np.testing.assert_array_equal(batch, single)
    np.testing.assert_array_equal(premodel.predict(np.asfortranarray(queries)), batch)


def test_predict_of_no_image(fitted):
    premodel, X = fitted
    assert premodel.predict(X[:0]).shape == (0, len(premodel.candidates))


def test_predict_leaves_its_input_alone(fitted):
    premodel, X = fitted
    before = X.copy()
    premodel.predict(X)
    premodel.explain(X[0])
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predict_refuses_what_is_not_finite_and_names_the_feature(fitted, value):
    premodel, X = fitted
    bad = X[:3].copy()
    bad[2, 1] = value
    with pytest.raises(InputError, match="feature 'f1' of image 2 is"):
        premodel.predict(bad)


def test_predict_refuses_another_shape(fitted):
    premodel, X = fitted
    for bad in (X[0], X[:, :-1], X[None]):
        with pytest.raises(InputError, match="features have shape"):
            premodel.predict(bad)


def test_predict_takes_huge_values(fitted):
    premodel, X = fitted
    assert np.isfinite(premodel.predict(np.full((1, X.shape[1]), 1.7e308))).all()
    assert np.isfinite(premodel.predict(np.full((1, X.shape[1]), -1.7e308))).all()


def test_explain_agrees_with_predict_and_is_json(fitted):
    premodel, X = fitted
    for x in X[:20]:
        chances = premodel.predict(x[None])
        told = json.loads(json.dumps(premodel.explain(x), allow_nan=False))
        assert told["chances"] == dict(zip(premodel.candidates, chances[0]))
        choice = int(first_yes(chances)[0])
        assert told["choice"] == (None if choice == NONE else premodel.candidates[choice])


def test_save_and_load_predict_the_same(fitted, tmp_path):
    premodel, X = fitted
    premodel.training_ = {"source": "x.csv"}
    premodel.save(tmp_path / "p")
    loaded = load_premodel(tmp_path / "p")
    assert type(loaded) is type(premodel)
    assert loaded.features == premodel.features
    assert loaded.candidates == premodel.candidates
    assert loaded.schema_version == premodel.schema_version
    assert loaded.training_ == {"source": "x.csv"}
    np.testing.assert_array_equal(loaded.predict(X), premodel.predict(X))


def test_save_writes_the_same_bytes_again(fitted, tmp_path):
    premodel, _ = fitted
    premodel.save(tmp_path / "a")
    load_premodel(tmp_path / "a").save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_save_replaces_only_a_premodel_and_only_with_force(fitted, tmp_path):
    premodel, _ = fitted
    premodel.save(tmp_path / "p")
    with pytest.raises(InputError, match="exists; give --force"):
        premodel.save(tmp_path / "p")
    premodel.save(tmp_path / "p", force=True)
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is no premodel; --force replaces only a premodel"):
        premodel.save(home, force=True)
    assert (home / "thesis.txt").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "p"]


def test_unfitted_keeps_the_settings_and_knows_nothing(fitted):
    premodel, X = fitted
    other = premodel.unfitted()
    assert type(other) is type(premodel)
    assert other.features == premodel.features
    assert other.candidates == premodel.candidates
    with pytest.raises(InputError, match="not fitted"):
        other.predict(X)


def test_fit_returns_self_and_learns(fitted):
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    premodel, X = fitted
    other = premodel.unfitted()
    outcomes = np.stack([X[:, 0] > 0, X[:, 0] <= 0, X[:, 0] > 9], axis=1).astype(int)
    assert other.fit(X, outcomes) is other
    assert (first_yes(other.predict(X)) == first_yes(outcomes)).mean() > 0.8


def test_first_yes_is_the_first_majority():
    chances = np.array([[0.6, 1.0], [0.5, 0.6], [0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    assert first_yes(chances).tolist() == [0, 1, NONE, NONE, 0]
    assert first_yes(chances, threshold=0.4).tolist() == [0, 0, 0, NONE, 0]
    assert first_yes(chances, threshold=0.6).tolist() == [1, NONE, NONE, NONE, 0]
    assert int(first_yes(chances[1])) == 1
    assert first_yes(chances[:0]).shape == (0,)
