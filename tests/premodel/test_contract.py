"""What every premodel must do, whatever its kind."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adaptive.errors import BundleError, InputError
from adaptive.premodel.base import NONE, Premodel, first_yes
from adaptive.premodel.mixture import Mixture
from adaptive.premodel.registry import KINDS, load_premodel


@pytest.fixture
def fitted(kind, random_premodel):
    return random_premodel(kind, rows=300, features=5)


@pytest.fixture
def images(kind):
    """Images of which the first feature tells the first two candidates' outcomes."""
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    X = np.random.default_rng(1).normal(size=(240, 3))
    if kind is Mixture:  # which knows clouds, not sides of one
        X += np.sign(X) * [5, 5, 2]
    return X, np.stack([X[:, 0] > 0, X[:, 0] < 0.5, X[:, 1] + X[:, 2] > 0], axis=1).astype(int)


def trained(kind, X, outcomes):
    settings = {"k": 8} if kind is Mixture else {}
    return kind(
        [f"f{i}" for i in range(X.shape[1])],
        [f"net{j}" for j in range(outcomes.shape[1])],
        **settings,
    ).fit(X, outcomes)


def test_every_kind_is_under_contract(kind):
    assert KINDS[kind.kind] is kind
    assert len(KINDS) == 8


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


def test_judge_gives_the_chances_and_then_traits(fitted):
    premodel, X = fitted
    told = premodel.judge(X[:50])
    assert told.shape == (50, len(premodel.candidates) + premodel.traits)
    np.testing.assert_array_equal(told[:, : len(premodel.candidates)], premodel.predict(X[:50]))
    np.testing.assert_array_equal(np.vstack([premodel.judge(x[None]) for x in X[:50]]), told)
    assert 0 <= premodel.conditions <= premodel.traits
    shares = told[:, len(premodel.candidates) :][:, : premodel.conditions]
    assert shares.min(initial=0) >= 0
    if premodel.conditions:
        np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_relearned_knows_only_the_new_outcomes(kind, images):
    X, outcomes = images
    premodel = trained(kind, X, outcomes)
    before = premodel.predict(X)
    twin = premodel.relearned(X, 1 - outcomes)
    assert twin.traits == premodel.traits
    assert np.mean((twin.predict(X)[:, 0] > 0.5) == (before[:, 0] > 0.5)) < 0.5
    np.testing.assert_array_equal(premodel.predict(X), before)


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
    X = X.copy()
    X[:, 0] += 5 * np.sign(X[:, 0])
    outcomes = np.stack([X[:, 0] > 0, X[:, 0] <= 0, X[:, 0] > 9], axis=1).astype(int)
    assert other.fit(X, outcomes) is other
    assert (first_yes(other.predict(X)) == first_yes(outcomes)).mean() > 0.8


def test_fit_separates_what_a_feature_tells(kind, images):
    premodel = trained(kind, *images)
    chances = premodel.predict(np.array([[-1.5, 0, 0], [1.5, 0, 0]]))
    assert chances[0, 0] < 0.3 < 0.7 < chances[1, 0]
    assert chances[1, 1] < 0.3 < 0.7 < chances[0, 1]


def test_fit_is_deterministic(kind, images, tmp_path):
    for name in "ab":
        trained(kind, *images).save(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_fit_again_forgets_what_was_before(kind, images):
    X, outcomes = images
    premodel = trained(kind, X, 1 - outcomes)
    premodel.fit(X, outcomes)
    np.testing.assert_array_equal(premodel.predict(X), trained(kind, X, outcomes).predict(X))


def test_a_candidate_that_is_always_or_never_right_has_one_chance(kind, images):
    X, outcomes = images
    outcomes = np.c_[outcomes[:, 0], np.ones(240, int), np.zeros(240, int)]
    chances = trained(kind, X, outcomes).predict(np.vstack([X, X * 100]))
    assert np.unique(chances[:, 1:], axis=0).shape == (1, 2)
    assert chances[0, 1] > 0.99
    assert chances[0, 2] < 0.01
    assert np.ptp(chances[:, 0]) > 0.3


def test_a_candidate_that_varies_only_in_some_folds_is_learned(kind, images):
    X, outcomes = images
    outcomes[:, 2] = 0
    outcomes[7, 2] = 1
    chances = trained(kind, X, outcomes).predict(X)
    assert np.isfinite(chances).all()
    assert chances[:, 2].mean() < 0.1


def test_fit_refuses_bad_data(kind, images):
    X, outcomes = images
    bad = X.copy()
    bad[3, 1] = np.nan
    for arguments, sentence in (
        ((bad, outcomes), "feature 'f1' of image 3 is nan; it must be finite"),
        ((X, outcomes[:, :2]), "outcomes have shape"),
        ((X, outcomes * 2), "only 0 and 1 are allowed"),
        ((X[:0], outcomes[:0]), "0 rows are"),
    ):
        with pytest.raises(InputError, match=sentence):
            kind(["f0", "f1", "f2"], ["net0", "net1", "net2"]).fit(*arguments)


def test_load_refuses_every_altered_array(fitted, tmp_path):
    premodel, X = fitted
    premodel.save(tmp_path / "p")
    for file in sorted((tmp_path / "p").glob("*.npy")):
        good = file.read_bytes()
        values = np.load(file)
        np.save(file, np.array([{}], object))
        _refused(tmp_path / "p")
        np.save(file, values[..., :-1] if values.ndim else values)
        _refused(tmp_path / "p")
        np.save(file, values.astype(np.float32))
        _refused(tmp_path / "p")
        if values.dtype.kind == "f":
            np.save(file, np.where(np.arange(values.size).reshape(values.shape), values, np.nan))
            _refused(tmp_path / "p")
        file.write_bytes(good[:-1])
        _refused(tmp_path / "p")
        file.unlink()
        _refused(tmp_path / "p")
        file.symlink_to(tmp_path / "elsewhere")
        _refused(tmp_path / "p")
        file.unlink()
        file.write_bytes(good)
    np.testing.assert_array_equal(load_premodel(tmp_path / "p").predict(X), premodel.predict(X))


def test_load_refuses_every_altered_header(fitted, tmp_path):
    premodel, _ = fitted
    premodel.save(tmp_path / "p")
    path = tmp_path / "p" / "premodel.json"
    good = json.loads(path.read_text())
    changes = [
        {"format": 2},
        {"kind": "oracle"},
        {"features": good["features"][:-1]},
        {"features": [*good["features"][:-1], "f0"]},
        {"candidates": good["candidates"][:-1]},
        {"candidates": []},
        {"schema_version": "1"},
        {"training": []},
    ]
    if "sizes" in good:
        changes += [{"settings": {**good["settings"], "seed": -1}}, {"settings": []}]
        changes += [{"sizes": {**good["sizes"], name: 3}} for name in good["sizes"]]
        changes += [{"sizes": {}}] if good["sizes"] else []
    for change in changes:
        path.write_text(json.dumps({**good, **change}))
        _refused(tmp_path / "p")
    path.write_text(json.dumps(good))
    load_premodel(tmp_path / "p")


def _refused(folder):
    with pytest.raises(BundleError) as caught:
        load_premodel(folder)
    assert "\n" not in str(caught.value)


def test_first_yes_is_the_first_majority():
    chances = np.array([[0.6, 1.0], [0.5, 0.6], [0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    assert first_yes(chances).tolist() == [0, 1, NONE, NONE, 0]
    assert first_yes(chances, threshold=0.4).tolist() == [0, 0, 0, NONE, 0]
    assert first_yes(chances, threshold=0.6).tolist() == [1, NONE, NONE, NONE, 0]
    assert int(first_yes(chances[1])) == 1
    assert first_yes(chances[:0]).shape == (0,)
