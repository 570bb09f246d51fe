"""The board's answers and scikit-learn's are the same, duplicates and ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("sklearn", reason="the comparison needs scikit-learn")

from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from adaptive.errors import InputError
from adaptive.premodel.fit import fit_chain, fit_levels
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import LIMIT, STEPS

SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}


def told_apart(chain, grid):
    """Exact squared distances, made unique by a share of the row number below one step."""
    table = chain.table_.astype(np.int64)
    squares = np.stack([((table - query) ** 2).sum(axis=1) for query in grid.astype(np.int64)])
    rows = len(table)
    assert squares.max() < 2**40
    assert rows < 2**12
    distances = squares + np.arange(rows) / 2.0**12
    assert (np.sort(distances, axis=1)[:, 1:] > np.sort(distances, axis=1)[:, :-1]).all()
    return distances


def assert_identical(chain, X, grid):
    """Ours, and scikit-learn's on the same scaled features, level by level, on all rows."""
    ours = chain.predict(X)
    to_training = told_apart(chain, chain.table_)
    to_queries = told_apart(chain, grid)
    for level, outcome in enumerate(chain.outcomes_.T):
        theirs = KNeighborsClassifier(chain.k, metric="precomputed").fit(to_training, outcome)
        np.testing.assert_array_equal(ours[:, level] > 0.5, theirs.predict(to_queries))
        if outcome.min() < outcome.max():
            np.testing.assert_array_equal(ours[:, level], theirs.predict_proba(to_queries)[:, 1])
    clear = ~chain.ties(grid)
    for level, plain in enumerate(fit_levels(chain)):
        if clear.any():
            np.testing.assert_array_equal(ours[clear, level] > 0.5, plain.predict(grid[clear]))


def scaled_by_sklearn(X, queries, kind):
    scaled = SCALERS[kind]().fit(X).transform(queries)
    return np.clip(np.rint(scaled * STEPS), -LIMIT, LIMIT)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
@pytest.mark.parametrize("k", [1, 2, 4, 5, 17])
def test_real_valued_features(kind, k):
    generator = np.random.default_rng(k)
    X = generator.lognormal(size=(600, 12)) * 10.0 ** generator.integers(-3, 4, 12)
    X[300:340] = X[:40]
    queries = np.vstack([X, generator.permuted(X, axis=0)])
    chain = fit_chain(
        X, generator.integers(0, 2, (600, 3)), tuple("abcdefghijkl"), tuple("xyz"), k, kind
    ).premodel
    grid = chain.scaling_.grid(queries)
    np.testing.assert_array_equal(grid, scaled_by_sklearn(X, queries, kind))
    assert_identical(chain, queries, grid)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_few_different_values_give_ties_everywhere(kind):
    generator = np.random.default_rng(9)
    X = generator.integers(0, 3, (500, 3)).astype(np.float64)
    chain = fit_chain(
        X, generator.integers(0, 2, (500, 2)), tuple("abc"), tuple("xy"), 5, kind
    ).premodel
    grid = chain.scaling_.grid(X)
    assert chain.ties(grid).mean() > 0.9
    assert_identical(chain, X, grid)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_small_table(data):
    rows = data.draw(st.integers(2, 25))
    width = data.draw(st.integers(1, 3))
    values = st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.1, 1e-4, 1e4])
    X = data.draw(arrays(np.float64, (rows, width), elements=values))
    outcomes = data.draw(arrays(np.int8, (rows, 2), elements=st.integers(0, 1)))
    k = data.draw(st.integers(1, rows))
    kind = data.draw(st.sampled_from(["standard", "minmax"]))
    chain = KNNChain([f"f{i}" for i in range(width)], ["a", "b"], k, kind).fit(X, outcomes)
    grid = chain.scaling_.grid(X)
    np.testing.assert_array_equal(grid, scaled_by_sklearn(X, X, kind))
    assert_identical(chain, X, grid)


def test_fit_and_from_arrays_learn_the_same(chain_of):
    generator = np.random.default_rng(4)
    X = generator.normal(size=(50, 3))
    outcomes = generator.integers(0, 2, (50, 2))
    chain = KNNChain(["a", "b", "c"], ["x", "y"]).fit(X, outcomes)
    other = KNNChain.from_arrays(
        chain.features, chain.candidates, chain.scaling_, chain.table_, outcomes
    )
    np.testing.assert_array_equal(chain.predict(X), other.predict(X))
    np.testing.assert_array_equal(chain.predict(X), chain_of(X, outcomes).predict(X))


def test_fit_refuses_fewer_rows_than_k():
    with pytest.raises(InputError, match="0 rows are fewer than k = 5"):
        KNNChain(["a"], ["x"]).fit(np.zeros((0, 1)), np.zeros((0, 1), int))
