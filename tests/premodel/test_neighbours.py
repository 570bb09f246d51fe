from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adaptive.premodel import neighbours
from adaptive.premodel.neighbours import BruteForce, KDTree, search_for

SIZE = 1 << 21


def expected(table, queries, k):
    """Sorting in exact integers, the slow way."""
    answers = []
    for query in queries.astype(int).tolist():
        squares = [
            (sum((a - b) ** 2 for a, b in zip(point, query)), row)
            for row, point in enumerate(table.astype(int).tolist())
        ]
        answers.append([row for _, row in sorted(squares)[:k]])
    return np.array(answers)


def tables(largest):
    shapes = st.tuples(st.integers(1, 40), st.integers(1, 4))
    whole = st.integers(-largest, largest)
    return shapes.flatmap(lambda shape: arrays(np.int32, shape, elements=whole))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([1, 2, SIZE]).flatmap(tables), st.data())
def test_brute_force_equals_exact_sorting_with_ties(table, data):
    k = data.draw(st.integers(1, len(table)))
    extra = data.draw(arrays(np.int32, (3, table.shape[1]), elements=st.integers(-SIZE, SIZE)))
    queries = np.vstack([table, extra]).astype(np.float64)
    near = BruteForce(table).nearest(queries, k)
    np.testing.assert_array_equal(near, expected(table, queries, k))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([1, 2, SIZE]).flatmap(tables), st.data())
def test_tree_equals_brute_force_with_ties(table, data):
    pytest.importorskip("scipy", reason="the tree needs scipy")
    k = data.draw(st.integers(1, len(table)))
    queries = table.astype(np.float64)
    np.testing.assert_array_equal(
        KDTree(table).nearest(queries, k), BruteForce(table).nearest(queries, k)
    )


@pytest.mark.parametrize("k", [1, 16, 17, 300])
def test_few_and_many_agree_on_duplicates(k):
    generator = np.random.default_rng(1)
    table = generator.integers(-2, 3, (300, 3), np.int32)
    queries = generator.integers(-2, 3, (50, 3)).astype(np.float64)
    ranks = ((queries[:, None] - table) ** 2).sum(axis=2)
    few = neighbours._smallest_few(ranks.copy(), k)
    np.testing.assert_array_equal(few, neighbours._smallest_many(ranks.copy(), k))
    np.testing.assert_array_equal(few, BruteForce(table).nearest(queries, k))


@pytest.mark.parametrize("k", [20, 50, 300, 500])
@pytest.mark.parametrize("near", [0.0, 1e9])
def test_single_images_get_the_nearest_where_the_sample_misleads(k, near):
    # every eighth row lies nearest of all, or farthest; and many are equally far
    line = np.random.default_rng(4).integers(1, 40, 2000).astype(np.float64)
    line[:: neighbours.STRIDE] = near
    expected = np.argsort(line, kind="stable")[:k]
    found = neighbours._smallest_many(line[np.newaxis].copy(), k)
    np.testing.assert_array_equal(found, expected[np.newaxis])


def test_blocks_change_nothing(monkeypatch):
    generator = np.random.default_rng(2)
    table = generator.integers(-SIZE, SIZE + 1, (100, 3), np.int32)
    queries = generator.integers(-SIZE, SIZE + 1, (37, 3)).astype(np.float64)
    whole = BruteForce(table).nearest(queries, 5)
    monkeypatch.setattr(neighbours, "BLOCK", 250)
    np.testing.assert_array_equal(BruteForce(table).nearest(queries, 5), whole)


def test_blocks_change_nothing_in_the_tree(monkeypatch):
    pytest.importorskip("scipy", reason="the tree needs scipy")
    generator = np.random.default_rng(2)
    table = generator.integers(0, 4, (500, 2), np.int32)
    queries = table.astype(np.float64)
    monkeypatch.setattr(neighbours, "BLOCK", 250)
    np.testing.assert_array_equal(
        KDTree(table).nearest(queries, 5), BruteForce(table).nearest(queries, 5)
    )


def test_512_features_at_the_limit_are_exact():
    table = np.full((3, 512), SIZE, np.int32)
    table[1, 0] -= 1
    table[2, 0] -= 2
    queries = np.full((1, 512), -float(SIZE))
    assert BruteForce(table).nearest(queries, 3).tolist() == [[2, 1, 0]]


def test_search_for_chooses_by_size(caplog):
    pytest.importorskip("scipy", reason="the tree needs scipy")
    generator = np.random.default_rng(3)
    assert isinstance(search_for(np.zeros((10_000, 30), np.int32)), BruteForce)
    table = generator.integers(-50, 50, (10_001, 3), np.int32)
    tree = search_for(table)
    assert isinstance(tree, KDTree)
    queries = generator.integers(-50, 50, (200, 3)).astype(np.float64)
    np.testing.assert_array_equal(tree.nearest(queries, 5), BruteForce(table).nearest(queries, 5))


def test_slow_search_is_logged_once(caplog):
    neighbours._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "adaptive.premodel"):
        for rows in (10_001, 10_002):
            search = search_for(np.zeros((rows, 11), np.int32))
            assert isinstance(search, BruteForce)
    assert [record.getMessage() for record in caplog.records] == [
        "a premodel of more than 10,000 rows and 10 features compares each image with every "
        "row, which is slow; use fewer of either"
    ]


def test_without_scipy_brute_force_is_used_and_logged(monkeypatch, caplog):
    neighbours._warn_once.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "scipy.spatial", None)
    with caplog.at_level(logging.WARNING, "adaptive.premodel"):
        search = search_for(np.zeros((10_001, 2), np.int32))
    assert isinstance(search, BruteForce)
    assert "scipy is not installed" in caplog.text
