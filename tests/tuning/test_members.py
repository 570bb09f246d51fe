from __future__ import annotations

import numpy as np

from adaptive.tuning.members import PATHED, Members, ordered


def members(top1: list[float], cost: list[float]) -> Members:
    """Members that are right on the given share of 1000 images."""
    names = tuple(f"n{i:02d}" for i in range(len(top1)))
    right = {name: np.arange(1000) < 1000 * share for name, share in zip(names, top1)}
    sure = {name: np.ones(1000) for name in names}
    return Members(names, np.zeros(1000, int), None, sure, right, dict(zip(names, cost)))


def test_few_candidates_are_all_on_paths() -> None:
    few = members([0.5, 0.4, 0.7], [1, 2, 3])
    assert list(ordered(few, 2)) == [("n00", "n01"), ("n00", "n02")]


def test_of_many_candidates_the_worst_are_on_no_path() -> None:
    top1 = [0.5 + 0.02 * i for i in range(PATHED)] + [0.1, 0.2, 0.3]
    cost = [float(i) for i in range(1, PATHED + 1)] + [1.5, 2.5, 3.5]
    on_paths = {name for path in ordered(members(top1, cost), 3) for name in path}
    assert on_paths == {f"n{i:02d}" for i in range(PATHED)}


def test_of_many_that_lead_the_cheapest_and_the_dearest_stay() -> None:
    count = 64
    many = members([0.3 + 0.01 * i for i in range(count)], [1.0 + i for i in range(count)])
    paths = list(ordered(many, 3))
    on_paths = sorted({name for path in paths for name in path})
    assert len(on_paths) == PATHED
    assert on_paths[0] == "n00"
    assert on_paths[-1] == "n63"
    assert len(paths) == PATHED * (PATHED - 1) * (PATHED - 2) // 6
    costs = [[many.cost[name] for name in path] for path in paths]
    assert all(cost == sorted(cost) for cost in costs)
