"""Fitted exponents: what they are, how they are found, and that the score means one thing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive import BundleError, InputError, Limits, Prediction, Router
from adaptive.evaluation.evaluation import evaluate, policy_row
from adaptive.evaluation.replay import replay
from adaptive.evaluation.verdict import verdict
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import FLOOR, Exponents, logarithms, pooled
from adaptive.policy.files import policy_from_json, policy_to_json
from adaptive.policy.fixed import Fixed
from adaptive.policy.likelihood import MOST, fit_exponents


def drawn(
    weights: tuple[float, ...], n: int = 4000, classes: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of some networks' probabilities, and labels drawn from prod p_k ** w_k."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(len(weights), n, classes))
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    joint = np.tensordot(np.asarray(weights), logs, axes=1)
    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
    reach = np.cumsum(joint / joint.sum(axis=1, keepdims=True), axis=1)
    label = (generator.random((n, 1)) > reach[:, :-1]).sum(axis=1)
    return logs.astype(np.float32), label


def loss(logs: np.ndarray, label: np.ndarray, weights: np.ndarray) -> float:
    joint = np.tensordot(weights, logs.astype(np.float64), axes=1)
    highest = joint.max(axis=1)
    whole = np.log(np.exp(joint - highest[:, np.newaxis]).sum(axis=1)) + highest
    return float((whole - joint[np.arange(len(label)), label]).sum())


@pytest.mark.parametrize("truth", [(0.3,), (1.0,), (2.5,), (0.4, 0.9), (1.2, 0.1, 0.6)])
def test_exponents_are_found_again(truth: tuple[float, ...]) -> None:
    logs, label = drawn(truth)
    np.testing.assert_allclose(fit_exponents(logs, label).weights, truth, atol=0.08)


def test_exponents_are_the_likeliest() -> None:
    logs, label = drawn((0.5, 0.0, 0.8), 600)
    found = fit_exponents(logs, label, penalty=0.0).weights
    best = loss(logs, label, found)
    generator = np.random.default_rng(1)
    for width in (1.0, 0.1, 0.01):
        for step in generator.normal(0, width, (200, 3)):
            assert loss(logs, label, np.clip(found + step, 0, MOST)) >= best - 1e-3


def test_a_network_that_misleads_gets_nothing() -> None:
    logs, label = drawn((1.0, -0.7))
    found = fit_exponents(logs, label).weights
    assert found[1] == 0
    np.testing.assert_allclose(found[0], fit_exponents(logs[:1], label).weights[0], rtol=1e-3)


def test_twins_share_alike_and_nothing_is_left_without_an_order() -> None:
    logs, label = drawn((0.8,))
    twins = fit_exponents(np.concatenate([logs, logs]), label).weights
    assert twins[0] == pytest.approx(twins[1], abs=1e-3)
    assert twins.sum() == pytest.approx(fit_exponents(logs, label).weights[0], rel=1e-3)
    flat = np.full((2, 100, 5), np.log(0.2), np.float32)
    np.testing.assert_allclose(fit_exponents(flat, np.zeros(100, int)).weights, 0.5)
    wrong = logs[:, :200].copy()
    misled = fit_exponents(wrong, wrong[0].argmin(axis=1)).weights
    np.testing.assert_allclose(misled, 1 / MOST)


def test_weights_without_a_part_are_those_that_never_saw_it() -> None:
    logs, label = drawn((0.6, 0.3), 1000)
    fold = np.random.default_rng(2).permutation(1000) % 10
    found = fit_exponents(logs, label, fold=fold)
    for part in range(10):
        kept = fold != part
        own = fit_exponents(logs[:, kept], label[kept]).weights
        np.testing.assert_allclose(found.without[part], own, atol=2e-3)


def test_columns_that_stand_for_several_classes_count_as_often() -> None:
    logs, label = drawn((0.7, 0.5), 500, classes=6)
    label = np.minimum(label, 3)
    # The last two classes are made alike, then told apart by their number alone.
    logs[:, :, 5] = logs[:, :, 4]
    copies = np.ones((500, 5), np.float32)
    copies[:, 4] = 2
    whole = fit_exponents(logs, label).weights
    np.testing.assert_allclose(
        fit_exponents(logs[:, :, :5], label, copies).weights, whole, rtol=1e-4
    )


def test_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="at least one image"):
        fit_exponents(np.zeros((1, 0, 4), np.float32), np.zeros(0, int))


def test_pooled_against_plain_numpy() -> None:
    generator = np.random.default_rng(0)
    members = [generator.dirichlet(np.full(5, 0.3), 50).astype(np.float32) for _ in range(3)]
    weights = (0.4, 0.0, 1.3)
    product = np.prod([np.maximum(p, FLOOR) ** w for p, w in zip(members, weights)], axis=0)
    np.testing.assert_allclose(
        pooled(members, weights), product / product.sum(axis=1, keepdims=True), rtol=1e-4
    )
    certain = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    np.testing.assert_allclose(pooled(certain, (0.5, 0.5)), [[0.5, 0.5]])


def test_probabilities_of_16_bits_are_looked_up() -> None:
    values = np.random.default_rng(0).dirichlet(np.full(300, 0.05), 40).astype(np.float16)
    assert (values == 0).any()
    assert (values < 1e-6).any()
    np.testing.assert_array_equal(
        logarithms(values), np.log(np.maximum(values.astype(np.float32), np.float32(FLOOR)))
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"members": [1, 0], "weights": [1, 1]}, "positions of a set, rising"),
        ({"members": [], "weights": []}, "positions of a set, rising"),
        ({"members": [-1], "weights": [1]}, "positions of a set, rising"),
        ({"members": [0.5], "weights": [1]}, "not a list of positions"),
        ({"members": [0], "weights": [1, 1]}, "1 members need as many exponents"),
        ({"members": [0], "weights": [-1]}, "must be finite, at least 0"),
        ({"members": [0, 1], "weights": [0, 0]}, "not all of them 0"),
        ({"members": [0], "weights": [1e999]}, "must be finite"),
        ({"members": [0, 2], "weights": [1, 1]}, "sets of positions below that"),
        ({"members": [0]}, "has no 'weights'"),
        ("0", "must be an object"),
    ],
)
def test_broken_exponents_are_refused(entry: Any, says: str) -> None:
    values = policy_to_json(Cascade(("a", "b"), thresholds=(0.5,)))
    with pytest.raises(BundleError, match=says):
        policy_from_json({**values, "exponents": [entry]})


def test_a_set_has_its_exponents_once_and_no_other_weights() -> None:
    one = Exponents((0,), (1.0,))
    with pytest.raises(InputError, match="each once"):
        Fixed(("a",), exponents=(one, one))
    for more in ({"temperatures": (1, 2)}, {"combine": "geometric"}, {"weights": (1, 2)}):
        with pytest.raises(InputError, match="exponents take the place of"):
            Cascade(("a", "b"), thresholds=(0.5,), exponents=(one,), **more)  # type: ignore[arg-type]


SETS = (
    Exponents((0,), (0.5,)),
    Exponents((1,), (2.0,)),
    Exponents((0, 1), (0.25, 0.5)),
)
PAIR = ("cheap", "strong")
CALIBRATED: dict[str, Policy] = {
    "fixed": Fixed(("strong",), exponents=(Exponents((0,), (0.4,)),)),
    "averaged": Cascade(PAIR, thresholds=(0.7,), exponents=SETS),
    "on margin": Cascade(PAIR, thresholds=(0.6,), signal="margin", exponents=SETS),
    "the last alone": Cascade(
        PAIR, thresholds=(0.7,), exponents=(*SETS[:2], Exponents((0, 1), (0.0, 2.0)))
    ),
    "by temperatures": Cascade(PAIR, thresholds=(0.7,), temperatures=(2.0, 0.5)),
}


@pytest.mark.parametrize("name", CALIBRATED)
def test_the_score_is_calibrated_live_and_in_a_replay(
    name: str, tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    policy = CALIBRATED[name]
    done = replay(policy, tiny_table)
    images = [tiny_images / image for image in tiny_table.images]
    with Router.load(tiny_candidates, policy=policy) as router:
        answers = [router.classify(image) for image in images]
        batch = router.classify_batch(images)
    for row, (answer, other) in enumerate(zip(answers, batch)):
        assert answer.calibrated
        assert answer.to_json()["calibrated"] is True
        assert answer.candidate == policy.candidates[done.candidate[row]]
        assert answer.score == pytest.approx(done.confidence[row], abs=2e-3)
        assert (other.label, other.calibrated) == (answer.label, True)
        assert other.score == pytest.approx(answer.score, abs=1e-5)


def test_one_network_alone_is_at_its_temperature(tiny_bundle: Path, tiny_images: Path) -> None:
    """The same answer, less sure: p ** (1 / 3), whichever form the temperature is written in."""
    image = tiny_images / "004.png"
    found = {}
    for form, more in {
        "raw": {},
        "temperatures": {"temperatures": (3.0, 3.0)},
        "exponents": {"exponents": (Exponents((0,), (1 / 3,)),)},
    }.items():
        policy = Cascade(PAIR, thresholds=(0.0,), **more)  # type: ignore[arg-type]
        with Router.load(tiny_bundle, policy=policy) as router:
            found[form] = router.classify(image)
    raw, soft = found["raw"], found["exponents"]
    assert not raw.calibrated
    assert found["temperatures"].calibrated
    assert soft.calibrated
    assert found["temperatures"].score == pytest.approx(soft.score, rel=1e-4)
    cube = np.array([p for _, p in raw.top5]) ** (1 / 3)
    np.testing.assert_allclose([p for _, p in soft.top5], cube / cube.sum(), rtol=1e-3)
    assert [label for label, _ in soft.top5] == [label for label, _ in raw.top5]


def test_a_set_without_exponents_says_that_its_score_is_not_calibrated(
    tiny_bundle: Path, tiny_images: Path
) -> None:
    policy = Cascade(PAIR, thresholds=(0.0,), exponents=SETS[:1], upper_ms=(1e6, 1.0))
    with Router.load(tiny_bundle, policy=policy) as router:
        assert router.classify(tiny_images / "004.png").calibrated
        late = router.classify(tiny_images / "004.png", Limits(remaining_ms=1e5))
    assert late.path == ("strong",)
    assert not late.calibrated


def test_without_probabilities_a_table_still_tells_who_answers(tiny_table: OutcomeTable) -> None:
    policy = CALIBRATED["fixed"]
    bare = replace(tiny_table, probabilities={})
    plain, soft = replay(policy, bare), replay(policy, tiny_table)
    np.testing.assert_array_equal(plain.quality, soft.quality)
    np.testing.assert_array_equal(plain.confidence, bare.of("strong").confidence)
    assert (soft.confidence < plain.confidence).all()


# Abstaining


@pytest.mark.parametrize("name", [*CALIBRATED, "raw"])
def test_an_answer_below_the_threshold_is_none_and_its_guess_is_told(
    name: str, tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    plain = CALIBRATED.get(name) or Cascade(PAIR, thresholds=(0.7,))
    before = replay(plain, tiny_table)
    level = float(np.median(before.confidence))
    policy = replace(plain, abstain_below=level)
    done = replay(policy, tiny_table)
    unsure = before.confidence < level
    assert 0 < unsure.sum() < len(unsure)
    np.testing.assert_array_equal(done.abstained, unsure)
    np.testing.assert_array_equal(done.quality, before.quality & ~unsure)
    np.testing.assert_array_equal(done.ran, before.ran)
    np.testing.assert_array_equal(done.confidence, before.confidence)
    row = policy_row(done)
    assert row.abstained == pytest.approx(unsure.mean())
    assert row.answered.value == pytest.approx(before.quality[~unsure].mean())
    told, whole = evaluate(policy, tiny_table), evaluate(plain, tiny_table)
    assert (told.policy.quality, told.policy.top5) == (whole.policy.quality, whole.policy.top5)
    assert (told.over_mix, told.over_reference) == (whole.over_mix, whole.over_reference)
    assert (told.policy.abstained, told.policy.answered) == (row.abstained, row.answered)
    assert verdict(policy, tiny_table).words() == verdict(plain, tiny_table).words()
    images = [tiny_images / image for image in tiny_table.images]
    with Router.load(tiny_candidates, policy=plain) as router:
        answers = [router.classify(image) for image in images]
    with Router.load(tiny_candidates, policy=policy) as router:
        shy = [router.classify(image) for image in images]
        batch = router.classify_batch(images)
    for answer, own, other in zip(answers, shy, batch):
        if abs(answer.score - level) < 2e-3:
            continue  # the table rounds it to the other side
        assert own.abstained == other.abstained == (answer.score < level)
        assert own.path == answer.path
        assert own.score == answer.score
        assert own.top5 == answer.top5
        assert own.guess == answer.index
        values = own.to_json(explain=1)
        assert values["abstained"] is own.abstained
        if own.abstained:
            assert own.label is own.index is own.candidate is None
            assert f"its best guess, {answer.label}, has a score of" in values["reason"]
        else:
            assert (own.label, own.candidate) == (answer.label, answer.candidate)


def test_who_abstains_before_anything_runs_has_no_guess(
    tiny_bundle: Path, tiny_images: Path
) -> None:
    policy = replace(CALIBRATED["averaged"], upper_ms=(50.0, 60.0), abstain_below=1.0)
    with Router.load(tiny_bundle, policy=policy) as router:
        late = router.classify(tiny_images / "004.png", Limits(remaining_ms=0.0))
        unsure = router.classify(tiny_images / "004.png")
    assert late.abstained
    assert (late.guess, late.score, late.top5) == (None, None, ())
    assert unsure.abstained
    assert unsure.guess is not None


def test_an_audit_compares_the_guess_as_a_certificate_does() -> None:
    from adaptive.monitoring.decisions import Decision, Outcome

    common: dict[str, Any] = {"top5": (("a", 0.4),), "path": ("small",), "ms": {}, "score": 0.4}
    shy = Prediction(label=None, index=None, candidate=None, guess=0, **common)
    silent = Prediction(None, None, None, (), None, (), {})
    for said, reference, disagrees in ((shy, 0, False), (shy, 1, True), (silent, 0, True)):
        large = {"large": Outcome(np.eye(2)[reference], 1.0, audit=True)}
        assert Decision(said, large, audit="all", reference="large").disagrees is disagrees


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_chance(level: float) -> None:
    with pytest.raises(InputError, match=r"abstain_below .* is not between 0 and 1"):
        Fixed(("a",), abstain_below=level)


def test_abstaining_survives_a_file() -> None:
    policy = Fixed(("a",), exponents=SETS[:1], abstain_below=0.6)
    assert policy_from_json(policy_to_json(policy)) == policy
    plain = policy_to_json(Fixed(("a",)))
    assert not {"abstain_below", "exponents"} & set(plain)
    assert policy_from_json({**plain, "abstain_below": None, "exponents": []}) == Fixed(("a",))
