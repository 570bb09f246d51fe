"""What the search keeps between budgets is what it would make anew at each."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.limits import Limits
from adaptive.tuning.gains import Learned
from adaptive.tuning.members import Members
from adaptive.tuning.search import trials

NAMES = ("small", "middle", "large")


def members(count: int = 300) -> Members:
    """Confidences of few values, so that many are equal."""
    draw = np.random.default_rng(4)
    label = np.zeros(count, np.intp)
    confidence = {n: draw.integers(1, 9, count) / 8 for n in NAMES}
    quality = {n: draw.random(count) < sure for n, sure in zip(NAMES, (0.6, 0.7, 0.8))}
    cost = dict(zip(NAMES, (1.0, 2.0, 4.0)))
    return Members(NAMES, label, None, confidence, quality, cost)


def test_of_three_the_least_sure_go_on_twice_and_of_equals_the_least_sure_before() -> None:
    table = members()
    found = [t for t in trials(table, 2.5) if t.path == NAMES and t.shares and len(t.shares) == 2]
    assert len(found) > 3
    for trial in found:
        second, third = (round(share * len(table)) for share in trial.shares)
        early, late = table.confidence["small"], table.confidence["middle"]
        on = np.argsort(early, kind="stable")[:second]
        further = on[np.argsort(late[on], kind="stable")[:third]]
        right = table.quality["small"].copy()
        right[on] = table.quality["middle"][on]
        right[further] = table.quality["large"][further]
        np.testing.assert_array_equal(trial.right, right)


@pytest.mark.parametrize("count", [2, 3])
def test_images_walk_where_most_is_promised_after_its_price(count: int) -> None:
    draw = np.random.default_rng(count)
    n = 200
    paths = {2: [(0,), (0, 1)], 3: [(0,), (1,), (0, 1), (0, 2), (0, 1, 2)]}[count]
    ways = {(0,): [(1,)]} if count == 2 else {(0,): [(1,), (2,), (1, 2)], (0, 1): [(2,)]}
    values = {path: draw.normal(0, 0.2, (n, len(own))) for path, own in ways.items()}
    worth = {path: draw.random(n) for path in paths}
    step = {path: 1.0 + path[-1] for path in paths}
    if count == 3:
        values[1,] = draw.normal(0, 0.2, (n, 1))  # nobody starts there
    learned = Learned(count, worth, worth, step.__getitem__, values, {}, values)
    for price in (0.0, 0.05, 0.2):
        right, _, cost = learned.walk(price)
        for image in range(n):
            path, spent = (0,), step[0,]
            while path in ways:
                after = [sum(step[(*path, *way[:end])] for end in range(1, len(way) + 1))
                         for way in ways[path]]  # fmt: skip
                net = values[path][image] - price * np.array(after)
                if not net.max() > 0:
                    break
                path = (*path, ways[path][int(net.argmax())][0])
                spent += step[path]
            assert (right[image], cost[image]) == (worth[path][image], spent)


def test_limits_of_many_images_are_their_own() -> None:
    left = np.array([1.0, 2.0])
    limits = Limits(remaining_ms=left)
    left[0] = 9.0
    assert np.asarray(limits.remaining_ms).tolist() == [1.0, 2.0]
