"""Qualities between 0 and 1, and that a quality of 0 and 1 is top-1 under another name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.evaluation.evaluation import evaluate, oracle_row, text_table
from adaptive.evaluation.verdict import verdict
from adaptive.intervals import share
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.files import policy_to_json
from adaptive.premodel.fit import fit_outcome_knn
from adaptive.tuning.certificate import (
    Counts,
    betting_p_value,
    bound_on_drop,
    exact_p_value,
    graded_images_needed,
    images_needed,
    score_p_value,
)
from adaptive.tuning.objectives import Tuner

NAMES = ("small", "middle", "large")


def table(seed: int = 0, count: int = 600, graded: bool = False, name: str = "top1"):
    """Three candidates whose confidence tells something of what their answers are worth."""
    draw = np.random.default_rng(seed)
    hard = draw.random(count)
    outcomes = {}
    for place, one in enumerate(NAMES):
        level = np.clip(1.15 - hard * (1.2 - 0.35 * place) + draw.normal(0, 0.15, count), 0, 1)
        quality = level if graded else (level > 0.5)
        if not graded and name != "top1":
            quality = quality.astype(np.float64)
        confidence = np.clip(level + draw.normal(0, 0.1, count), 0.01, 1)
        ms = np.full(count, (1.0, 3.0, 9.0)[place])
        outcomes[one] = Outcomes(quality, None, confidence, ms)
    X = np.column_stack([hard + draw.normal(0, 0.3, count), draw.random(count)])
    return OutcomeTable(
        tuple(f"{row}.png" for row in range(count)),
        np.zeros(count, np.int64),
        ("f", "g"),
        X,
        outcomes,
        np.zeros(count),
        np.zeros(count),
        meta={"quality": name, "schema": {"version": None}} if name != "top1" else {},
    )


def tuner(of: OutcomeTable, premodel: bool = False) -> Tuner:
    learned = None
    if premodel:
        pytest.importorskip("sklearn", reason="fitting neighbours needs scikit-learn")
        own = of.right_or_wrong(NAMES)
        learned = fit_outcome_knn(of.X, own, of.features, NAMES, k=20).premodel
    return Tuner(of, Split(0.5, 0.5, 0.0), premodel=learned, reference="large")


@pytest.mark.parametrize("premodel", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_zeros_and_ones_under_another_name_are_top1_to_the_bit(seed: int, premodel: bool) -> None:
    as_top1, as_hit = table(seed), table(seed, name="hit")
    results = []
    for of in (as_top1, as_hit):
        found = tuner(of, premodel)
        tuned = found.within(4.0)
        certified = found.certified((0.02, 0.05), 0.1, "exact")
        assert certified.policy is not None
        report = evaluate(tuned.policy, of, "large")
        results.append(
            (
                policy_to_json(tuned.policy),
                policy_to_json(certified.policy),
                {**certified.certificate.to_json(), "quality": "", "claim": ""},
                tuned.choice.families,
                report.over_mix,
                report.over_reference,
                oracle_row(of),
                verdict(tuned.policy, of).comparisons[0].difference,
            )
        )
    assert results[0] == results[1]
    assert "points of hit" in text_table(evaluate(tuned.policy, as_hit, "large"))


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 20), st.floats(-0.3, 0.5))
@settings(max_examples=100, deadline=None)
def test_betting_on_differences_is_betting_on_counts(
    ties: int, losses: int, gains: int, epsilon: float
) -> None:
    differences = np.repeat([0.0, 1.0, -1.0], [ties, losses, gains])
    graded = Counts(len(differences), losses, gains, differences)
    counted = Counts(len(differences), losses, gains)
    assert betting_p_value(graded, epsilon) == pytest.approx(
        betting_p_value(counted, epsilon), rel=1e-9
    )


def test_counts_of_grades_are_sums() -> None:
    counts = Counts.of(np.array([1.0, 0.5, 0.25]), np.array([0.5, 0.75, 0.25]))
    assert (counts.images, counts.losses, counts.gains) == (3, 0.5, 0.25)
    assert counts.graded
    assert counts.drop == pytest.approx(0.25 / 3)
    plain = Counts.of(np.array([True, False]), np.array([0.0, 1.0]))
    assert (plain.losses, plain.gains, plain.graded) == (1, 1, False)


def test_bounds_for_right_and_wrong_refuse_grades() -> None:
    counts = Counts.of(np.array([1.0, 0.5]), np.array([0.5, 0.75]))
    for test in (exact_p_value, score_p_value):
        with pytest.raises(InputError, match="take the betting bound"):
            test(counts, 0.1)
    with pytest.raises(InputError, match="iou lies between 0 and 1 too; take the betting bound"):
        tuner(table(graded=True, name="iou")).certified(0.02, 0.05, "exact")


def test_a_graded_certificate_is_tuned_and_said() -> None:
    of = table(3, 4000, graded=True, name="iou")
    found = tuner(of, premodel=True)
    assert found.default_bound == "betting"
    tuned = found.certified(0.02, 0.05, found.default_bound)
    assert tuned.certificate is not None
    words = tuned.certificate.words()
    assert "iou is at most 2 points below large's on images like them" in words
    assert "summed over the images" in words
    assert tuned.certificate.drop_bound <= 0.02
    assert tuned.policy.kind != "fixed"  # a policy that never changes proves little


def test_what_cannot_be_promised_says_how_many_images_would_do() -> None:
    of = table(3, 200, graded=True, name="iou")
    found = tuner(of)
    found.kind = "cascade"
    tuned = found.certified(0.0005, 0.05, "betting")
    assert tuned.policy is None
    assert "infeasible: on 106 calibration images" in tuned.reason
    assert "in sum against large" in tuned.reason
    differences = np.repeat([0.0, 1.0, -1.0], [90, 5, 5])
    graded = graded_images_needed(Counts(100, 5, 5, differences), 0.02, 0.05)
    assert graded == pytest.approx(images_needed(0.05, 0.05, 0.02, 0.05), rel=0.1)
    lost = Counts(4, 2, 0, np.array([0.5, 0.5, 0.5, 0.5]))
    assert graded_images_needed(lost, 0.1, 0.05) is None


@pytest.mark.slow
def test_a_graded_promise_is_broken_as_rarely_as_it_says() -> None:
    """Betting at the boundary: the mean difference is epsilon, so every claim is false."""
    draw = np.random.default_rng(5)
    delta, epsilon, false = 0.1, 0.05, 0
    for _ in range(2000):
        lost = np.where(draw.random(400) < 0.1, draw.beta(2, 2, 400), 0.0)  # its mean is 0.05
        counts = Counts(400, float(lost.sum()), 0.0, lost)
        false += bound_on_drop(counts, delta) <= epsilon
    assert share(np.arange(2000) < false).low <= delta


def test_the_oracle_takes_the_fastest_of_the_best() -> None:
    of = table(1, 50, graded=True, name="iou")
    quality = np.stack([of.quality(name) for name in NAMES])
    found = oracle_row(of)
    assert found.quality.value == pytest.approx(quality.max(axis=0).mean())
    assert found.top5 is None
    expected = np.array([1.0, 3.0, 9.0])[quality.argmax(axis=0)].mean()
    assert found.ms.value == pytest.approx(expected)


def test_averages_of_a_users_own_quality_are_refused() -> None:
    from adaptive.evaluation.replay import replay
    from adaptive.policy.cascade import Cascade

    of = table(1, 40, graded=True, name="iou")
    chances = np.full((40, 2), 0.5, np.float16)
    of = replace(of, probabilities=dict.fromkeys(NAMES, chances))
    policy = Cascade(
        ("small", "large"), costs_ms=(1.0, 9.0), thresholds=(1.0,), combine="geometric"
    )
    with pytest.raises(InputError, match="iou of averaged answers is not in the outcome table"):
        replay(policy, of)
