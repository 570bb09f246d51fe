"""Exponents that follow the image: found again, shrunk, stored, one image as in a batch."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.errors import BundleError, InputError
from adaptive.limits import UNLIMITED
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import STEEPEST, Exponents, pooled
from adaptive.policy.files import policy_from_json, policy_to_json
from adaptive.policy.following import fit_following
from adaptive.policy.gain import Gain
from adaptive.policy.history import History, Output
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.likelihood import fit_exponents
from adaptive.premodel.mixture import Mixture

NAMES = ("small", "large")


def drawn(slopes: np.ndarray, n: int = 6000, seed: int = 0):
    """Logarithms of two networks' probabilities, traits, and labels by exponents that follow."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(2, n, 8))
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    traits = generator.normal(size=(n, slopes.shape[1]))
    weights = np.array([0.6, 0.9]) * np.exp(traits @ slopes.T)
    joint = np.einsum("nk,knc->nc", weights, logs)
    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
    reach = np.cumsum(joint / joint.sum(axis=1, keepdims=True), axis=1)
    label = (generator.random((n, 1)) > reach[:, :-1]).sum(axis=1)
    return logs.astype(np.float32), label, traits


def test_slopes_are_found_again():
    truth = np.array([[0.4, 0.0], [-0.3, 0.0]])
    logs, label, traits = drawn(truth)
    found = fit_following(logs, label, traits, fit_exponents(logs, label))
    np.testing.assert_allclose(found.slopes, truth, atol=0.08)
    np.testing.assert_allclose(found.weights, [0.6, 0.9], atol=0.06)


def test_traits_that_tell_nothing_are_shrunk_to_the_common_exponents():
    logs, label, traits = drawn(np.zeros((2, 3)), 400)
    common = fit_exponents(logs, label)
    found = fit_following(logs, label, traits, common)
    assert np.abs(found.slopes).max() < 0.1
    np.testing.assert_allclose(found.weights, common.weights, atol=0.05)


def test_an_image_is_judged_by_weights_that_did_not_see_its_part():
    logs, label, traits = drawn(np.array([[0.4], [-0.3]]), 300)
    fold = np.arange(300) % 5
    common = fit_exponents(logs, label, fold=fold)
    found = fit_following(logs, label, traits, common, fold=fold)
    own = found.each(fold)
    rest = fold != 2
    alone = fit_following(logs[:, rest], label[rest], traits[rest], fit_exponents(logs, label))
    expected = alone.weights * np.exp(np.clip(traits[~rest] @ alone.slopes.T, -1.5, 1.5))
    np.testing.assert_allclose(own[fold == 2], expected, rtol=0.05)


def test_a_weight_of_nothing_stays_nothing():
    logs, label, traits = drawn(np.array([[0.4], [-0.3]]), 300)
    common = fit_exponents(logs, label)
    common.weights[0] = 0.0
    found = fit_following(logs, label, traits, common)
    assert found.weights[0] == 0
    assert not found.slopes[0].any()


def test_weights_follow_up_to_a_limit():
    following = Exponents((0, 1), (0.5, 1.0), ((1.0,), (-1.0,)))
    found = following.of(np.array([[0.5], [100.0]]))
    np.testing.assert_allclose(found[0], [0.5 * np.exp(0.5), np.exp(-0.5)])
    np.testing.assert_allclose(found[1], [0.5 * np.exp(STEEPEST), np.exp(-STEEPEST)])


def mixture():
    generator = np.random.default_rng(3)
    arrays = {
        "floor": np.zeros(2),
        "scale": np.ones(2),
        "offset": np.zeros(2),
        "weight": np.array([0.5, 0.5]),
        "mean": np.array([[-2.0, 0], [2, 0]]),
        "factor": np.stack([np.eye(2)] * 2),
        "rate": np.array([[0.8, 0.4], [0.3, 0.9]]),
    }
    return Mixture.from_arrays(["a", "b"], NAMES, arrays), generator.normal(size=(40, 2)) * 2


def following_policy():
    premodel, _ = mixture()
    slopes = ((0.3, -0.2, 0.1, 0.0), (-0.3, 0.2, 0.0, 0.1))
    exponents = (
        Exponents((0,), (1.1,), (slopes[0],)),
        Exponents((1,), (0.9,)),
        Exponents((0, 1), (0.5, 0.7), slopes),
    )
    coefficients = np.array([[0.1, -0.4, 0, 0, 0.1, -0.1, 0, 0.2]])
    gains = (Gain((0,), ((1,),), coefficients),)
    return Hybrid(
        NAMES, premodel, thresholds=(0.0,), signal="margin", gains=gains, exponents=exponents
    )


def test_policies_are_the_same_for_one_image_as_for_many():
    policy, (_, X) = following_policy(), mixture()
    numbers = policy.chances(X)
    assert numbers.shape == (40, 2 + 4)
    raw = np.random.default_rng(0).dirichlet(np.ones(5), (2, 40)).astype(np.float32)
    outputs = tuple(Output(p.max(axis=1), p) for p in raw)
    many = History((0,), outputs[:1], numbers)
    both = History((0, 1), outputs, numbers)
    choices, answers = policy.next(many, UNLIMITED), policy.answer(both)
    assert len(set(choices.tolist())) == 2
    for row in range(40):
        own = np.array([row])
        one = History((0,), (outputs[0].rows(own),), policy.chances(X[own]))
        assert policy.next(one, UNLIMITED)[0] == choices[row]
        alone = History((0, 1), tuple(o.rows(own) for o in outputs), policy.chances(X[own]))
        np.testing.assert_allclose(policy.answer(alone)[0], answers[row], rtol=1e-6)
    weights = policy.exponents[2].of(numbers[:, 2:])
    plain = np.exp(sum(w[:, None] * np.log(p) for w, p in zip(weights.T, raw)))
    np.testing.assert_allclose(answers, plain / plain.sum(axis=1, keepdims=True), rtol=1e-4)


def test_pooled_takes_weights_for_each_image():
    members = list(np.random.default_rng(0).dirichlet(np.ones(4), (2, 3)))
    weights = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    found = pooled(members, weights)
    np.testing.assert_allclose(found[0], members[0][0], rtol=1e-5)
    np.testing.assert_allclose(found[1], members[1][1], rtol=1e-5)
    np.testing.assert_allclose(found[2], pooled(members, (0.5, 0.5))[2], rtol=1e-5)


def test_json_holds_slopes_and_what_does_not_fit_is_refused():
    policy = following_policy()
    values = policy_to_json(policy)
    read = policy_from_json(values, policy.premodel)
    assert read == policy
    assert read.exponents[2].slopes == policy.exponents[2].slopes
    values["exponents"][2]["slopes"] = [[0.1], [0.2]]
    with pytest.raises(BundleError, match="must have 4 numbers, one for each trait"):
        policy_from_json(values, policy.premodel)
    values["exponents"][2]["slopes"] = [[0.1] * 4]
    with pytest.raises(BundleError, match="need as many rows of slopes"):
        policy_from_json(values, policy.premodel)
    with pytest.raises(InputError, match="must have 0 numbers"):
        Cascade(NAMES, thresholds=(0.5,), exponents=policy.exponents)


def test_without_a_premodel_common_exponents_answer():
    policy = following_policy()
    raw = np.random.default_rng(0).dirichlet(np.ones(5), (2, 4)).astype(np.float32)
    outputs = tuple(Output(p.max(axis=1), p) for p in raw)
    found = policy.answer(History((0, 1), outputs))
    np.testing.assert_allclose(found, pooled(list(raw), (0.5, 0.7)), rtol=1e-6)


def test_a_cascade_goes_by_gains_of_the_signal_alone():
    gain = Gain((0,), ((1,),), np.array([[0.5, -1.0, 0, 0]]))
    cascade = Cascade(NAMES, thresholds=(0.0,), gains=(gain,))
    history = History((0,), (Output(np.array([0.4, 0.6])),))
    np.testing.assert_array_equal(cascade.next(history, UNLIMITED), [1, -1])
    assert policy_from_json(policy_to_json(cascade)) == cascade
    assert "as the top promises a gain" in cascade.words()
    wide = Gain((0,), ((1,),), np.ones((1, 8)))
    with pytest.raises(InputError, match="needs 4 coefficients a way"):
        Cascade(NAMES, thresholds=(0.0,), gains=(wide,))
