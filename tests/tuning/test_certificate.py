from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.evaluation.replay import replay
from adaptive.tuning.certificate import (
    BOUNDS,
    P_VALUES,
    Certificate,
    Counts,
    betting_p_value,
    bound_on_drop,
    exact_p_value,
    first_failure,
    images_needed,
    score_p_value,
)
from adaptive.tuning.exact import GAMMA, exact_tail, score
from adaptive.tuning.objectives import Tuner

FINITE = ["betting", "exact"]
EPSILONS = (-0.02, 0.0, 0.005, 0.02, 0.05, 0.2)


def load_benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "certificates.py"
    spec = importlib.util.spec_from_file_location("certificates_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


benchmark = load_benchmark()


def outcomes(n):
    """All (losses, gains) of n images."""
    losses, gains = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    possible = losses + gains <= n
    return losses[possible], gains[possible]


def probabilities(n, losses, gains, loss, gain):
    """Of every outcome, by the multinomial's own formula."""
    factorial = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    ties = n - losses - gains
    found = factorial[n] - factorial[losses] - factorial[gains] - factorial[ties]
    for count, chance in ((losses, loss), (gains, gain), (ties, max(0.0, 1 - loss - gain))):
        log = math.log(chance) if chance > 1e-14 else -math.inf
        found = found + np.where(count > 0, np.maximum(count, 1) * log, 0.0)
    return np.exp(found)


def null_points(epsilon, steps=60):
    """(P(loss), P(gain)) on the null's boundary and inside it."""
    for gain in [0.0, *np.geomspace(1e-4, 0.5, steps)]:
        for further in (0.0, 0.004, 0.05):
            loss = gain + epsilon + further
            if loss >= 0 and loss + gain <= 1:
                yield loss, gain


@pytest.mark.parametrize("n", [1, 10, 40])
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_finite_sample_bounds_hold_by_enumeration(n, epsilon):
    losses, gains = outcomes(n)
    for name in FINITE:
        p = np.array([P_VALUES[name](Counts(n, *o), epsilon) for o in zip(losses, gains)])
        for loss, gain in null_points(epsilon):
            chance = probabilities(n, losses, gains, loss, gain)
            for delta in (0.01, 0.05, 0.3):
                assert chance[p <= delta].sum() <= delta


def test_exact_test_uses_nearly_all_of_delta():
    n, epsilon = 100, 0.05
    losses, gains = outcomes(n)
    near = losses - gains < epsilon * n
    p = np.ones(len(losses))
    p[near] = [
        exact_p_value(Counts(n, *o), epsilon) if sum(o) < 40 else 1.0
        for o in zip(losses[near], gains[near])
    ]
    size = [
        probabilities(n, losses, gains, gain + epsilon, gain)[p <= 0.05].sum()
        for gain in np.linspace(0.001, 0.1, 40)
    ]
    assert 0.045 < max(size) <= 0.05


@pytest.mark.parametrize("n", [1, 9, 30])
@pytest.mark.parametrize("epsilon", [-0.4, -0.02, 0.0, 0.01, 0.3])
def test_score_falls_with_losses_and_rises_with_gains(n, epsilon):
    losses, gains = outcomes(n)
    z = dict(zip(zip(losses.tolist(), gains.tolist()), score(n, losses, gains, epsilon)))
    for (lost, gained), value in z.items():
        if lost:
            assert z[lost - 1, gained] >= value - 1e-9
        if lost + gained < n:
            assert z[lost, gained + 1] >= value - 1e-9


@pytest.mark.parametrize(
    ("n", "losses", "gains", "epsilon"),
    [(30, 1, 4, 0.02), (30, 0, 0, 0.05), (25, 3, 2, 0.2), (30, 2, 9, -0.1), (1, 0, 1, 0.0)],
)
def test_exact_tail_is_the_largest_probability_on_the_boundary(n, losses, gains, epsilon):
    all_losses, all_gains = outcomes(n)
    z = score(n, all_losses, all_gains, epsilon)
    seen = score(n, np.array([losses]), np.array([gains]), epsilon)[0]
    extreme = z >= seen - 1e-9
    rarer = np.linspace(0, (1 - abs(epsilon)) / 2, 3000)
    largest = max(
        probabilities(n, all_losses, all_gains, q + max(epsilon, 0), q + max(-epsilon, 0))[
            extreme
        ].sum()
        for q in rarer
    )
    # With next to nothing given away, all discordances are looked at.
    found = exact_tail(n, losses, gains, epsilon, 1e-300)
    assert largest - 1e-12 <= found <= largest * 1.02 + 1e-5


def test_tango_z_of_a_worked_example():
    # The constrained maximum likelihood, by search instead of by its formula.
    n, losses, gains, epsilon = 44, 4, 1, 0.1
    q = np.linspace(1e-9, 0.45 - 1e-9, 2_000_001)
    log = losses * np.log(q + epsilon) + gains * np.log(q) + 39 * np.log(1 - 2 * q - epsilon)
    best = q[np.argmax(log)]
    z = (n * epsilon - losses + gains) / math.sqrt(n * (2 * best + epsilon - epsilon**2))
    assert score(n, np.array([losses]), np.array([gains]), epsilon)[0] == pytest.approx(z, abs=1e-5)
    p = 0.5 * math.erfc(z / math.sqrt(2))
    assert score_p_value(Counts(n, losses, gains), epsilon) == pytest.approx(p, abs=1e-5)


def test_score_test_errs_where_the_exact_test_does_not():
    n, epsilon, delta = 60, 0.05, 0.05
    losses, gains = outcomes(n)
    boundary = [
        probabilities(n, losses, gains, gain + epsilon, gain)
        for gain in np.geomspace(1e-4, 0.47, 120)
    ]
    size = {}
    for name in ("score", "exact"):
        p = np.array([P_VALUES[name](Counts(n, *o), epsilon) for o in zip(losses, gains)])
        size[name] = max(chance[p <= delta].sum() for chance in boundary)
    assert size["score"] > 1.05 * delta
    assert size["exact"] <= delta


def test_betting_capital_is_fair_at_the_boundary():
    for n, epsilon, gain in ((12, 0.1, 0.05), (20, 0.0, 0.2), (15, -0.05, 0.1)):
        losses, gains = outcomes(n)
        chance = probabilities(n, losses, gains, gain + epsilon, gain)
        p = np.array([betting_p_value(Counts(n, *o), epsilon) for o in zip(losses, gains)])
        # Markov: where capital is above 1 the p-value is its inverse, so E[1 / p; p < 1] <= 1.
        assert (chance / p)[p < 1].sum() <= 1 + 1e-12


@pytest.mark.parametrize("name", P_VALUES)
def test_p_values_of_edges(name):
    test = P_VALUES[name]
    assert test(Counts(0, 0, 0), 0.01) == 1.0
    assert test(Counts(1, 1, 0), 0.01) > 0.5
    assert test(Counts(1000, 0, 1000), 0.01) < 1e-4
    assert test(Counts(1000, 1000, 0), 0.01) == pytest.approx(1.0)
    assert test(Counts(1000, 0, 0), 0.0) >= 0.5
    assert test(Counts(1000, 0, 0), 0.05) < 1e-4
    for epsilon in (-1.0, 1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="not between -1 and 1"):
            test(Counts(10, 1, 1), epsilon)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_p_values_fall_with_gains_and_rise_with_losses(data):
    n = data.draw(st.integers(2, 300))
    losses = data.draw(st.integers(0, n - 1))
    gains = data.draw(st.integers(0, n - 1 - losses))
    epsilon = data.draw(st.sampled_from(EPSILONS))
    for name in ("betting", "score"):
        p = P_VALUES[name](Counts(n, losses, gains), epsilon)
        assert 0 <= p <= 1
        assert P_VALUES[name](Counts(n, losses + 1, gains), epsilon) >= p - 1e-12
        assert P_VALUES[name](Counts(n, losses, gains + 1), epsilon) <= p + 1e-12
    # The exact test's interval moves with the number of discordant images; at a fixed number
    # its order is the score's.
    p = exact_p_value(Counts(n, losses, gains), epsilon)
    assert GAMMA <= p <= 1
    if losses:
        assert exact_p_value(Counts(n, losses - 1, gains + 1), epsilon) <= p + 1e-12


@pytest.mark.parametrize("n", [5000, 10_000])
def test_exact_test_agrees_with_the_score_test_for_many_images(n):
    for share, surplus in ((0.05, 0.002), (0.3, 0.0)):
        losses = round(n * (share + surplus) / 2)
        gains = round(n * (share - surplus) / 2)
        exact, asymptotic = (
            P_VALUES[b](Counts(n, losses, gains), 0.01) for b in ("exact", "score")
        )
        assert exact == pytest.approx(asymptotic, rel=0.06, abs=2 * GAMMA)


def test_exact_test_needs_fewer_images_than_betting():
    assert exact_p_value(Counts(1000, 50, 60), 0.01) < 0.05
    assert betting_p_value(Counts(1000, 50, 60), 0.01) > 0.2


@pytest.mark.parametrize("name", P_VALUES)
def test_bound_on_drop_is_where_the_test_begins_to_pass(name):
    counts = Counts(400, 20, 22)
    bound = bound_on_drop(counts, 0.05, name)
    assert counts.drop < bound < 0.2
    assert P_VALUES[name](counts, bound) <= 0.05 < P_VALUES[name](counts, bound - 1e-4)
    assert bound_on_drop(Counts(1, 1, 0), 0.05, name) == 1.0


def test_first_failure_counts_what_comes_before_it():
    assert first_failure([0.01, 0.05, 0.2, 0.001], 0.05) == 2
    assert first_failure([0.2], 0.05) == 0
    assert first_failure([0.01, math.nan], 0.05) == 1
    assert first_failure([], 0.05) == 0


@pytest.mark.parametrize("name", P_VALUES)
def test_images_needed_falls_with_slack(name):
    needed = [images_needed(0.05, 0.05, e, 0.05, name) for e in (0.05, 0.02, 0.01, 0.005)]
    assert needed == sorted(needed)
    needed = [images_needed(0.05, 0.05, 0.01, delta, name) for delta in (0.2, 0.05, 0.01)]
    assert needed == sorted(needed)
    more = [images_needed(rate, rate, 0.01, 0.05, name) for rate in (0.01, 0.05, 0.2)]
    assert more == sorted(more)


def test_images_needed_of_the_hopeless_is_none():
    assert images_needed(0.05, 0.03, 0.02, 0.05) is None
    assert images_needed(0.05, 0.03, 0.01, 0.05) is None
    assert images_needed(0.05, 0.05 - 1e-9, 1e-9, 0.05) is None


@pytest.mark.parametrize("name", P_VALUES)
def test_images_needed_succeed_about_every_other_time(name):
    n = images_needed(0.06, 0.05, 0.03, 0.05, name)
    drawn = np.random.default_rng(0).multinomial(n, [0.06, 0.05, 0.89], 150)
    often = np.mean([P_VALUES[name](Counts(n, a, b), 0.03) <= 0.05 for a, b, _ in drawn.tolist()])
    assert 0.3 < often < 0.75


@pytest.mark.parametrize("counts", [(-1, 0, 0), (3, 2, 2), (0, 1, 0), (5, -1, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(InputError, match="impossible counts"):
        Counts(*counts)


def test_counts_of_arrays():
    reference = np.array([True, True, False, False, True])
    policy = np.array([True, False, True, False, False])
    counts = Counts.of(reference, policy)
    assert counts == Counts(5, 2, 1)
    assert counts.drop == pytest.approx(0.2)
    assert math.isnan(Counts(0, 0, 0).drop)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ("betting", "finite-sample bound, whatever the distribution of the images"),
        ("exact", "finite-sample bound, exact for independent images"),
        ("score", "asymptotic bound, which holds only for many images"),
    ],
)
def test_a_certificate_says_which_bound_it_has(bound, words):
    certificate = Certificate("big", 0.01, 0.05, bound, 1000, 9, 11, 0.03, 0.008, 0, 24)
    assert certificate.words() == (
        "With probability at least 95% over the 1000 calibration images, top-1 is at most 1 "
        f"point below big's on images like them (9 images lost, 11 gained; {words})."
    )
    values = json.loads(json.dumps(certificate.to_json()))
    assert values["format"] == 1
    assert values["claim"] == certificate.words()
    assert values["bound"] == bound
    assert set(BOUNDS) == set(P_VALUES)


def test_controls_are_what_they_are_called():
    assert benchmark.wald(Counts(100, 0, 0), 0.01) == 0.0
    assert benchmark.wald(Counts(400, 20, 20), 0.01) == pytest.approx(
        0.5 * math.erfc(0.01 / math.sqrt(0.1 / 400) / math.sqrt(2))
    )
    assert benchmark.clopper_pearson_losses(Counts(50, 0, 9), 0.02) == pytest.approx(0.98**50)
    assert benchmark.binomial_tail(10, 0.3, 10) == pytest.approx(1)
    assert benchmark.binomial_quantile(1000, 0.05) == 73


@pytest.mark.parametrize(
    ("images", "discordance", "epsilon"),
    [(100, 0.02, 0.0), (100, 0.05, 0.05), (300, 0.2, 0.02), (500, 0.05, 0.01), (1000, 0.02, 0.005)],
)
def test_violations_at_the_boundary_stay_below_the_binomial_quantile(images, discordance, epsilon):
    draws = 1000
    found = benchmark.certified_rates(images, discordance, epsilon, epsilon, 0.05, draws, 1)
    limit = benchmark.binomial_quantile(draws, 0.05)
    assert all(found[name] <= limit for name in FINITE)
    assert found["betting"] <= found["exact"]


def test_wald_violates_where_the_others_hold():
    found = benchmark.certified_rates(100, 0.01, 0.01, 0.01, 0.05, 1000, 1)
    assert found["NOT OFFERED wald"] > 300
    assert found["exact"] <= benchmark.binomial_quantile(1000, 0.05)


def test_settings_of_the_benchmark_include_the_boundary():
    found = list(benchmark.count_settings())
    assert all(discordance >= abs(drop) for _, discordance, drop, _ in found)
    assert {e for _, _, drop, e in found if drop == e} == set(benchmark.DROPS)


@pytest.mark.slow
@pytest.mark.parametrize("case", [0, 3])
def test_the_whole_procedure_violates_at_most_at_delta(case):
    draws, delta = 60, 0.1
    found = benchmark.violations_of_the_tuner(
        *benchmark.POPULATIONS[case], delta, "exact", draws, 0, tune=80, calibrate=200, size=4000
    )
    assert found["violations"] * draws <= benchmark.binomial_quantile(draws, delta)
    assert found["certified"] > 0


def test_a_family_of_drops_violates_at_most_at_delta():
    """Whichever of them is taken afterwards."""
    kind, reference, _ = benchmark.POPULATIONS[0]
    drops, draws, delta = (0.01, 0.03, 0.06), 60, 0.1
    whole = benchmark.population(kind, 4000)
    best = whole.quality(reference)
    generator = np.random.default_rng(0)
    wrong = promised = 0
    for _ in range(draws):
        tuner = Tuner(
            benchmark.drawn(whole, 80, generator),
            calibration=benchmark.drawn(whole, 200, generator),
            reference=reference,
        )
        false = False
        for drop in drops:
            policy = tuner.certified(drops, delta, take=drop).policy
            if policy is not None:
                promised += 1
                false |= np.mean(best) - np.mean(replay(policy, whole).quality) >= drop
        wrong += false
    assert wrong <= benchmark.binomial_quantile(draws, delta)
    assert promised > draws


def test_a_certificate_counts_earlier_looks():
    one = Certificate("big", 0.01, 0.05, "exact", 900, 10, 12, 0.01, 0.004, 0, 24)
    assert one.words().startswith("With probability at least 95% over the 900 calibration images")
    again = replace(one, earlier=0.05)
    assert again.words().startswith("With probability at least 90% over the 900 calibration")
    assert "These images were asked before" in again.words()
    family = replace(one, drops=(0.03, 0.02, 0.01))
    assert "Tested as one family with 3 points and 2 points" in family.words()


def test_nothing_gained_is_no_negative_zero() -> None:
    counts = Counts.of(np.array([0.5, 0.25]), np.array([0.5, 0.25]))
    assert (str(counts.losses), str(counts.gains)) == ("0.0", "0.0")
