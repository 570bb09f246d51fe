from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.intervals import concave_hull, front, mean, quantile, random_mix, share


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_values(right: int, n: int, low: float, high: float) -> None:
    found = share(np.arange(n) < right)
    assert found.value == pytest.approx(right / n)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
    mirrored = share(np.arange(n) >= right)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


@given(st.integers(1, 500), st.integers(0, 500))
def test_share_stays_within_0_and_1_around_its_value(n: int, right: int) -> None:
    found = share(np.arange(n) < min(right, n))
    assert 0 <= found.low <= found.value <= found.high <= 1


def covered(estimate: object, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high  # type: ignore[attr-defined]


def test_intervals_cover_what_they_should() -> None:
    draw = np.random.default_rng(0)
    trials = 1500
    hits = {"share": 0, "mean": 0, "quantile": 0}
    p95 = math.exp(0.5 * 1.6448536269514722)
    for _ in range(trials):
        hits["share"] += covered(share(draw.random(120) < 0.7), 0.7)
        hits["mean"] += covered(mean(draw.choice([-1, 0, 1], 150, p=[0.1, 0.75, 0.15])), 0.05)
        hits["quantile"] += covered(quantile(np.exp(0.5 * draw.normal(size=300)), 0.95), p95)
    for name, count in hits.items():
        assert 0.93 < count / trials < 0.985, name


def test_mean_and_quantile_against_numpy() -> None:
    values = np.random.default_rng(1).exponential(size=200)
    found = mean(values)
    half = 1.959963984540054 * values.std(ddof=1) / math.sqrt(200)
    assert (found.value, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half)
    )
    tail = quantile(values, 0.95)
    assert tail.value == pytest.approx(np.quantile(values, 0.95))
    assert {tail.low, tail.high} <= set(values.tolist())
    assert tail.low < tail.value < tail.high


@pytest.mark.parametrize("n", [1, 2])
def test_few_images_still_give_valid_json(n: int) -> None:
    values = np.linspace(1, 2, n)
    for found in (share(values > 1.5), mean(values), quantile(values, 0.95)):
        again = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert again["value"] == pytest.approx(found.value)
    assert (mean(np.ones(1)).low, mean(np.ones(1)).high) == (-math.inf, math.inf)
    assert mean(np.ones(1)).to_json() == {"value": 1.0, "low": None, "high": None}


POINTS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=7).map(
    lambda points: ([float(c) for c, _ in points], [a / 12 for _, a in points])
)


def best_blind(costs: list[float], right: list[float], budget: float) -> float | None:
    """The highest accuracy of any mix of two that costs at most `budget`; None if none does."""
    found = [a for c, a in zip(costs, right) if c <= budget]
    for one, two in itertools.permutations(range(len(costs)), 2):
        if costs[one] <= budget < costs[two]:
            share_two = (budget - costs[one]) / (costs[two] - costs[one])
            found.append(right[one] + share_two * (right[two] - right[one]))
    return max(found, default=None)


@given(POINTS, st.floats(0.5, 13))
def test_no_blind_choice_beats_the_random_mix(
    points: tuple[list[float], list[float]], cost: float
) -> None:
    costs, right = points
    mix = random_mix(costs, right, cost)
    values = mix.apply([np.array([a]) for a in right])[0]
    spent = mix.apply([np.array([c]) for c in costs])[0]
    best = best_blind(costs, right, cost)
    assert 0 <= mix.share_first <= 1
    assert spent == pytest.approx(mix.cost)
    if best is None:  # nothing is that cheap, so it is the best of the cheapest
        assert spent == min(costs)
        assert values == max(a for c, a in points_of(points) if c == min(costs))
    else:
        assert spent <= cost + 1e-9
        assert values == pytest.approx(best)


def points_of(points: tuple[list[float], list[float]]) -> list[tuple[float, float]]:
    return list(zip(*points))


@given(POINTS)
def test_concave_hull_against_brute_force(points: tuple[list[float], list[float]]) -> None:
    costs, right = points
    hull = concave_hull(costs, right)
    at = [(costs[i], right[i]) for i in hull]
    assert at == sorted(at)
    assert all(a[1] < b[1] for a, b in zip(at, at[1:]))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(at, at[1:])]
    assert all(a > b - 1e-12 for a, b in zip(slopes, slopes[1:]))
    for cost, accuracy in points_of(points):  # no point lies above it
        assert accuracy <= best_blind([c for c, _ in at], [a for _, a in at], cost) + 1e-9
    for point in at:
        rest = [p for p in points_of(points) if p != point]
        below = best_blind([c for c, _ in rest], [a for _, a in rest], point[0]) if rest else None
        assert below is None or below < point[1] + 1e-9


@given(POINTS)
def test_front_against_brute_force(points: tuple[list[float], list[float]]) -> None:
    found = front(*points)
    everything = points_of(points)
    expected = {
        p for p in everything
        if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in everything)
    }  # fmt: skip
    assert [everything[i] for i in found] == sorted(expected)
    assert set(concave_hull(*points)) <= set(found)
