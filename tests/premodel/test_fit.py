from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from adaptive.errors import AdaptiveError, InputError, MissingExtra
from adaptive.installed import pip_line
from adaptive.premodel import fit
from adaptive.premodel.fit import TRAINERS, fit_chain
from adaptive.premodel.knn_chain import KNNChain


def test_training_without_scikit_learn_says_what_to_install(monkeypatch):
    for module in ("sklearn", "sklearn.preprocessing", "sklearn.neighbors"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=re.escape(pip_line("premodel"))):
        KNNChain(["a"], ["x"]).fit(np.arange(9.0)[:, None], np.ones((9, 1), int))


class TestWithScikitLearn:
    @pytest.fixture(autouse=True)
    def _needs(self):
        pytest.importorskip("sklearn", reason="training needs scikit-learn")

    @pytest.fixture
    def images(self):
        generator = np.random.default_rng(0)
        X = generator.normal(size=(60, 3))
        outcomes = np.stack([X[:, 0] > 0, X[:, 0] > -1], axis=1).astype(int)
        return X, outcomes

    def test_trained_says_what_was_done(self, images):
        X, outcomes = images
        trained = fit_chain(X, outcomes, ("a", "b", "c"), ("x", "y"), k=3, schema_version=1)
        assert isinstance(trained.premodel, KNNChain)
        assert trained.premodel.features == ("a", "b", "c")
        assert (trained.premodel.k, trained.premodel.schema_version) == (3, 1)
        assert trained.dropped == ()
        assert (trained.compared, trained.tied) == (60, 0)
        assert len(trained.levels) == 2
        assert TRAINERS["knn"] is fit_chain

    def test_columns_that_never_vary_are_dropped(self, images):
        X, outcomes = images
        X = np.c_[np.full(60, 3.0), X, np.full(60, -0.1), 1e16 + np.arange(60) % 2 * 1e-9]
        trained = fit_chain(X, outcomes, tuple("abcdef"), ("x", "y"))
        assert trained.dropped == ("a", "e", "f")
        assert trained.premodel.features == ("b", "c", "d")
        np.testing.assert_array_equal(
            trained.premodel.predict(X[:, 1:4]),
            fit_chain(X[:, 1:4], outcomes, ("b", "c", "d"), ("x", "y")).premodel.predict(X[:, 1:4]),
        )

    def test_ties_are_counted_and_not_compared(self):
        X = np.arange(40.0)[:, None] // 10
        outcomes = (np.arange(40) % 2)[:, None]
        trained = fit_chain(X, outcomes, ("a",), ("x",))
        assert (trained.compared, trained.tied) == (0, 40)

    def test_a_difference_from_scikit_learn_is_an_error(self, images, monkeypatch):
        class Contrary:
            def predict(self, X):
                return np.full(len(X), 2)

        monkeypatch.setattr(fit, "fit_levels", lambda chain: (Contrary(), Contrary()))
        with pytest.raises(AdaptiveError, match="scikit-learn answers training image 0 differ"):
            fit_chain(*images, ("a", "b", "c"), ("x", "y"))

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"k": 61}, "60 rows are fewer than k = 61 neighbours"),
            ({"X": np.full((60, 3), np.nan)}, "feature 'a' of image 0 is nan; it must be finite"),
            ({"X": np.full((60, 3), 1e101)}, "feature 'a' of image 0 is 1e.101; at most 1e.100"),
            ({"X": np.ones((60, 3))}, "every feature has the same value on all 60 images"),
            ({"X": np.ones((60, 2))}, r"features have shape \(60, 2\)"),
            ({"outcomes": np.ones((60, 2))}, "the best candidate is 'x' on all 60 images"),
            ({"outcomes": np.zeros((60, 2))}, "the best candidate is 'none' on all 60 images"),
            ({"outcomes": np.full((60, 2), 0.5)}, "only 0 and 1 are allowed"),
            ({"scaling": "robust"}, r"scaling 'robust' is not one of \['standard', 'minmax'\]"),
            ({"X": np.zeros((0, 3)), "outcomes": np.zeros((0, 2))}, "0 rows are fewer than k = 5"),
        ],
    )
    def test_fit_chain_refuses(self, images, change, sentence):
        X, outcomes = images
        good = {
            "X": X,
            "outcomes": outcomes,
            "features": ("a", "b", "c"),
            "candidates": ("x", "y"),
        }
        with pytest.raises(InputError, match=sentence):
            fit_chain(**{**good, **change})
