from __future__ import annotations

import numpy as np
import pytest

from adaptive.premodel.condense import condensed_words
from adaptive.premodel.neighbours import BRUTE_ROWS, condensed_rows
from adaptive.premodel.outcome_knn import OutcomeKNN


def images(rows: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Two candidates, the first right where the first feature is high."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, features))
    sure = generator.random((rows, 2)) < 0.9
    return X, np.column_stack([(X[:, 0] > 0) == sure[:, 0], sure[:, 1]]).astype(np.uint8)


def test_few_rows_or_few_features_are_all_kept() -> None:
    assert condensed_rows(BRUTE_ROWS, 31) is None
    assert condensed_rows(100_000, 7) is None


def test_kept_rows_are_distinct_ascending_and_the_same_every_time() -> None:
    kept = condensed_rows(25_000, 11)
    assert kept is not None
    assert len(kept) == BRUTE_ROWS
    assert (np.diff(kept) > 0).all()
    assert kept[-1] < 25_000
    np.testing.assert_array_equal(kept, condensed_rows(25_000, 11))


def test_fit_stores_the_kept_rows_with_their_outcomes() -> None:
    pytest.importorskip("sklearn", reason="fitting needs scikit-learn")
    X, outcomes = images(12_000, 11)
    premodel = OutcomeKNN([f"f{i}" for i in range(11)], ["small", "big"]).fit(X, outcomes)
    kept = condensed_rows(*X.shape)
    np.testing.assert_array_equal(premodel.outcomes_, outcomes[kept])
    np.testing.assert_array_equal(premodel.table_, premodel.scaling_.grid(X[kept]))


def test_training_says_what_condensing_costs() -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")
    from adaptive.premodel.fit import fit_outcome_knn

    X, outcomes = images(12_000, 11)
    names = [f"f{i}" for i in range(11)]
    trained = fit_outcome_knn(X, outcomes, names, ["small", "big"])
    cost = trained.premodel.training_["condensed"]
    assert (cost["kept"], cost["of"], cost["asked"]) == (10_000, 12_000, 1000)
    # The neighbours know the first feature's sign, so both choose alike nearly everywhere.
    assert cost["same"] > 0.9
    assert cost["right"] == pytest.approx(cost["right_with_all"], abs=0.03)
    assert cost["right"] > 0.8
    assert cost["difference"] < 0.1
    words = condensed_words(cost)
    assert words.startswith("condensed: 10,000 of the 12,000 images are kept")
    small = fit_outcome_knn(X[:3000], outcomes[:3000], names, ["small", "big"])
    assert "condensed" not in small.premodel.training_
