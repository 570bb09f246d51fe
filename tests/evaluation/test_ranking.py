from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.evaluation.ranking import auc, neighbour_signal, rank, reliability
from adaptive.evaluation.signals_quality import signal_table
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.signals import soften
from adaptive.policy.temperature import COOLEST, HOTTEST, fit_temperature
from adaptive.premodel.scoring import area, midranks


def by_hand(score: np.ndarray, right: np.ndarray) -> float:
    above = np.subtract.outer(score[right], score[~right])
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def delong_by_hand(score: np.ndarray, right: np.ndarray) -> float:
    above = np.subtract.outer(score[right], score[~right])
    kernel = (above > 0) + 0.5 * (above == 0)
    rows, columns = kernel.mean(axis=1), kernel.mean(axis=0)
    return float(np.var(rows, ddof=1) / len(rows) + np.var(columns, ddof=1) / len(columns))


scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: 0 < sum(right for _, right in pairs) < len(pairs)
)


@settings(deadline=None)
@given(scored)
def test_area_counts_every_pair_and_ties_by_half(pairs: list[tuple[int, bool]]) -> None:
    score = np.array([s for s, _ in pairs], float)
    right = np.array([r for _, r in pairs])
    found = auc(score, right)
    assert found is not None
    assert found.value == pytest.approx(by_hand(score, right), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_area_equals_scikit_learns(seed: int, levels: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(seed)
    score = draw.integers(0, levels, 200) / levels
    right = draw.random(200) < 0.2 + 0.6 * score
    right[:2] = True, False
    found = auc(score, right)
    assert found is not None
    assert found.value == pytest.approx(metrics.roc_auc_score(right, score), abs=1e-12)


def test_interval_is_delongs() -> None:
    draw = np.random.default_rng(0)
    right = draw.random(150) < 0.6
    score = np.round(draw.normal(right, 1.2), 1)
    found = auc(score, right)
    assert found is not None
    half = 1.959963984540054 * np.sqrt(delong_by_hand(score, right))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_interval_covers_the_true_area() -> None:
    draw = np.random.default_rng(1)
    truth = 0.7602499389065233  # of normals one standard deviation apart: Phi(1 / sqrt(2))
    covered = 0
    for _ in range(400):
        right = draw.random(120) < 0.6
        found = auc(draw.normal(right, 1.0), right)
        assert found is not None
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 400 <= 0.985


def test_perfect_separation_is_not_taken_for_certain() -> None:
    right = np.arange(40) >= 10
    found = auc(np.arange(40.0), right)
    assert found is not None
    assert found.value == 1.0
    assert 0.6 < found.low < 0.8


def test_area_without_both_outcomes_is_none() -> None:
    assert auc(np.arange(5.0), np.ones(5, bool)) is None
    assert auc(np.arange(5.0), np.zeros(5, bool)) is None


def test_difference_of_two_signals_is_paired() -> None:
    draw = np.random.default_rng(2)
    right = draw.random(500) < 0.5
    good = draw.normal(right, 1.0)
    ranked = rank([good, good + draw.normal(0, 0.01, 500), -good], right)
    assert ranked is not None
    assert ranked.over_first[0].value == 0
    # Nearly the same signal: its own interval is far wider than that of the difference.
    near = ranked.over_first[1]
    assert near.high - near.low < 0.1 * (ranked.areas[1].high - ranked.areas[1].low)
    assert ranked.over_first[2].high < 0
    for other, lead in zip(ranked.areas, ranked.over_first):
        assert lead.value == pytest.approx(other.value - ranked.areas[0].value)


def test_area_is_the_same_with_and_without_its_interval() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        score, right = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.6
        ranked = auc(score, right)
        assert ranked is not None
        assert ranked.value == pytest.approx(area(score, right), abs=1e-12)
    assert auc(score, np.ones(40, bool)) is None
    assert np.isnan(area(score, np.ones(40, bool)))


def test_midranks_share_their_mean() -> None:
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_reliability_by_hand() -> None:
    confidence = np.array([0.0, 0.05, 0.1, 0.11, 0.95, 1.0])
    right = np.array([False, True, False, False, True, True])
    found = reliability(confidence, right, bins=10)
    assert found.count.tolist() == [3, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.right[0] is not None
    assert found.right[0].value == pytest.approx(1 / 3)
    assert found.right[2] is None
    assert np.isnan(found.confidence[2])
    expected = 3 / 6 * abs(1 / 3 - 0.05) + 1 / 6 * 0.11 + 2 / 6 * 0.025
    assert found.error == pytest.approx(expected)
    assert found.to_json()["confidence"][2] is None


def drawn(count: int, hidden: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them at the temperature `hidden`."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (count, 6))
    values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = soften(values, hidden).cumsum(axis=1)
    labels = (draw.random((count, 1)) > true).sum(axis=1).clip(0, 5)
    return values, labels


@pytest.mark.parametrize("hidden", [0.5, 1.0, 1.7, 3.0])
def test_temperature_is_found_again(hidden: float) -> None:
    values, labels = drawn(6000, hidden)
    assert fit_temperature(values, labels) == pytest.approx(hidden, rel=0.08)


def test_temperature_is_the_likeliest() -> None:
    values, labels = drawn(300, 1.4, seed=3)
    rows = np.arange(len(labels))

    def loss(temperature: float) -> float:
        return -float(np.log(soften(values, temperature)[rows, labels].astype(float)).mean())

    found = fit_temperature(values.astype(np.float16), labels)
    best = min(np.geomspace(0.2, 8, 400), key=loss)
    assert found == pytest.approx(best, rel=0.02)
    assert loss(found) <= loss(found * 1.03)
    assert loss(found) <= loss(found / 1.03)


def test_temperature_stays_within_its_bounds() -> None:
    values, _ = drawn(50, 1.0)
    assert fit_temperature(values, values.argmax(axis=1)) == pytest.approx(COOLEST, rel=0.01)
    assert fit_temperature(values, values.argmin(axis=1)) == pytest.approx(HOTTEST, rel=0.01)


@pytest.mark.parametrize("labels", [[], [7], [-1], [0, 1]])
def test_temperature_refuses_labels_that_do_not_fit(labels: list[int]) -> None:
    with pytest.raises(InputError):
        fit_temperature(np.full((min(len(labels), 1), 7), 1 / 7), np.array(labels, int))


def test_neighbours_learn_nothing_from_the_image_itself() -> None:
    draw = np.random.default_rng(4)
    values = draw.dirichlet(np.ones(6), 600)
    right = draw.random(600) < 0.5
    found = auc(neighbour_signal(values, right, 1), right)
    assert found is not None
    assert found.low < 0.5 < found.high


def test_neighbours_find_what_probabilities_tell() -> None:
    draw = np.random.default_rng(5)
    values = draw.dirichlet(np.full(6, 0.5), 800)
    right = draw.random(800) < 2 * values.max(axis=1) - 0.7
    found = auc(neighbour_signal(values, right), right)
    assert found is not None
    assert found.value > 0.65


def small_table(count: int = 120, with_probabilities: bool = True) -> OutcomeTable:
    values, labels = drawn(count, 1.3, seed=6)
    top1 = values.argmax(axis=1) == labels
    ones = np.ones(count)
    outcomes = {
        "net": Outcomes(top1, ones > 0, values.max(axis=1), ones),
        "sage": Outcomes(ones > 0, ones > 0, ones, ones * 9),
    }
    return OutcomeTable(
        tuple(f"{i}.jpg" for i in range(count)),
        labels,
        (),
        np.empty((count, 0)),
        outcomes,
        ones,
        ones * 0,
        {"net": values.astype(np.float16)} if with_probabilities else {},
    )


def test_every_signal_is_ranked() -> None:
    table = small_table()
    chances = {"net": np.linspace(0, 1, len(table))}
    found = signal_table(table, chances=chances)
    signals = [row.signal for row in found.rows if row.candidate == "net"]
    assert signals == [
        *("top", "margin", "entropy"),
        *("top at T", "margin at T", "entropy at T"),
        *("neighbours", "premodel"),
    ]
    assert any("sage is right on every image" in sentence for sentence in found.missing)
    assert found.temperatures["net"] == pytest.approx(1.3, rel=0.5)
    expected = auc(chances["net"], table.quality("net"))
    assert found.rows[-1].area == expected


def test_temperature_comes_from_other_images_where_there_are_some() -> None:
    table = small_table()
    values, labels = drawn(4000, 2.5, seed=7)
    ones = np.ones(4000)
    other = replace(
        table,
        images=tuple(str(i) for i in range(4000)),
        label=labels,
        X=np.empty((4000, 0)),
        outcomes={"net": Outcomes(ones > 0, ones > 0, ones, ones)},
        decode_ms=ones,
        features_ms=ones,
        probabilities={"net": values},
    )
    assert signal_table(table, other).temperatures["net"] == pytest.approx(2.5, rel=0.1)


def test_without_probabilities_only_the_top_is_ranked_and_it_says_so() -> None:
    found = signal_table(small_table(with_probabilities=False))
    assert [row.signal for row in found.rows] == ["top"]
    assert any("no probabilities of net, sage" in sentence for sentence in found.missing)
