from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.premodel.base import first_yes
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import LIMIT, STEPS, Scaling

PLAIN = Scaling("standard", np.ones(1), np.zeros(1))


def line(points, outcomes, k, **options):
    """A chain on one feature that is not rescaled."""
    table = PLAIN.grid(np.array(points, np.float64)[:, None])
    names = [f"net{j}" for j in range(np.shape(outcomes)[1])]
    return KNNChain.from_arrays(["x"], names, PLAIN, table, outcomes, k, **options)


def test_chances_are_the_neighbours_shares_and_the_first_majority_wins():
    chain = line([0, 1, 2, 10, 11, 12], [[1, 1], [1, 1], [0, 1], [0, 1], [0, 1], [0, 0]], k=3)
    chances = chain.predict(np.array([[1.0], [11.0]]))
    np.testing.assert_array_equal(chances, [[2 / 3, 1], [0, 2 / 3]])
    assert first_yes(chances).tolist() == [0, 1]


def test_an_even_k_needs_more_than_half():
    chain = line([0, 1, 2, 3], [[1], [1], [0], [0]], k=4)
    chances = chain.predict(np.array([[0.0]]))
    assert chances.tolist() == [[0.5]]
    assert first_yes(chances).tolist() == [-1]


def test_ties_at_the_kth_distance_go_to_the_lower_row():
    chain = line([2, -2, 0, 2, -2], [[1], [0], [1], [0], [1]], k=2)
    assert chain.nearest(np.array([[0.0]])).tolist() == [[2, 0]]
    assert chain.predict(np.array([[0.0]])).tolist() == [[1.0]]
    assert chain.ties(np.array([[0.0], [-8192.0]])).tolist() == [True, False]
    assert chain.ties(np.array([[4096.0]])).tolist() == [True]
    assert line([0, 1, 3], [[1], [0], [1]], k=1).ties(np.array([[0.0], [2048.0]])).tolist() == [
        False,
        True,
    ]


def test_k_equal_to_the_rows_is_the_class_balance():
    chain = line([0, 1, 2, 3], [[1], [1], [1], [0]], k=4)
    assert chain.predict(np.array([[100.0]])).tolist() == [[0.75]]
    assert chain.ties(np.array([[0.0]])).tolist() == [False]


def test_explain_tells_rows_distances_and_votes():
    chain = line([0, 1, 5], [[0, 1], [1, 1], [1, 0]], k=2)
    assert chain.explain(np.array([0.25])) == {
        "choice": "net1",
        "chances": {"net0": 0.5, "net1": 1.0},
        "k": 2,
        "neighbours": [
            {"row": 0, "distance": 0.25, "votes": {"net0": 0, "net1": 1}},
            {"row": 1, "distance": 0.75, "votes": {"net0": 1, "net1": 1}},
        ],
    }
    assert chain.explain(np.array([5.0]))["choice"] == "net0"


def test_scaling_rounds_to_the_grid_and_clips():
    X = np.array([[1e300], [-1e300], [1 / STEPS], [0.4 / STEPS], [1.0]])
    assert PLAIN.grid(X)[:, 0].tolist() == [LIMIT, -LIMIT, 1, 0, STEPS]
    minmax = Scaling("minmax", np.array([0.5]), np.array([0.25]))
    assert minmax.grid(np.array([[1.0]])).tolist() == [[0.75 * STEPS]]


def test_min_max_scaling_predicts(chain_of):
    X = np.array([[0.0, 100], [1, 200], [2, 300], [3, 900]])
    chain = chain_of(X, [[0], [0], [1], [1]], k=1, kind="minmax")
    assert chain.scaling == "minmax"
    assert chain.predict(X).tolist() == [[0], [0], [1], [1]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"k": 5}, "4 rows are fewer than k = 5 neighbours"),
        ({"k": 0}, "k is 0; a whole number of at least 1 is needed"),
        ({"k": True}, "k is True"),
        ({"k": 2.0}, r"k is 2\.0"),
        ({"features": []}, "at least one feature"),
        ({"features": ["x", "x"]}, "feature 'x' occurs twice"),
        ({"features": [f"f{i}" for i in range(513)]}, "at most 512 are allowed"),
        ({"features": ["x", "y"]}, r"the scaling has \(1,\) and \(1,\) numbers"),
        ({"candidates": []}, "at least one candidate"),
        ({"candidates": ["a", "a"]}, "candidate 'a' occurs twice"),
        ({"candidates": ["a b", "c"]}, "'a b' is no candidate name"),
        ({"candidates": ["a", "none"]}, "no candidate may be called 'none'"),
        ({"candidates": ["a"]}, r"outcomes have shape \(4, 2\); \(4, 1\) is needed"),
        ({"outcomes": np.full((4, 2), 2)}, "the outcome of 'a' on image 0 is 2; only 0 and 1"),
        ({"outcomes": np.full((4, 2), np.nan)}, "only 0 and 1 are allowed"),
        ({"scaling": Scaling("robust", np.ones(1), np.zeros(1))}, "'robust' is not one of"),
        ({"scaling": Scaling("standard", np.zeros(1), np.zeros(1))}, "not above 0"),
        ({"scaling": Scaling("standard", np.ones(1), np.full(1, np.nan))}, "holds NaN"),
        ({"table": np.full((4, 1), 2.0**22)}, "whole numbers from -2097152 to 2097152"),
        ({"table": np.full((4, 1), np.nan)}, "whole numbers"),
        ({"table": np.full((4, 1), 0.5)}, "whole numbers"),
        ({"table": np.full((4, 1), np.iinfo(np.int32).min, np.int32)}, "whole numbers"),
    ],
)
def test_from_arrays_refuses(change, sentence):
    good = {
        "features": ["x"],
        "candidates": ["a", "b"],
        "scaling": PLAIN,
        "table": np.zeros((4, 1)),
        "outcomes": np.zeros((4, 2), int),
        "k": 3,
    }
    with pytest.raises(InputError, match=sentence):
        KNNChain.from_arrays(**{**good, **change})


def test_many_rows_use_the_tree_and_agree_with_brute_force(random_chain):
    pytest.importorskip("scipy", reason="the tree needs scipy")
    from adaptive.premodel.neighbours import BruteForce

    chain, X = random_chain(rows=12_000, features=3)
    queries = np.vstack([X[:300], np.round(X[:300], 1)])
    by_tree = chain.predict(queries)
    chain._search = BruteForce(chain.table_)
    np.testing.assert_array_equal(by_tree, chain.predict(queries))


def test_repr_names_what_matters():
    assert repr(line([0, 1], [[0], [1]], k=1)) == (
        "KNNChain(1 features, candidates=('net0',), k=1, scaling='standard', schema_version=None)"
    )
