"""An explanation says what the policy really did, and costs nothing where nobody asks."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from adaptive.bundle import default_bundle
from adaptive.features.brightness import grey
from adaptive.features.edges import edges, gradient
from adaptive.features.schema import SCHEMA
from adaptive.limits import PREFERENCES, Limits
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.premodel.registry import load_premodel
from adaptive.router import Router


def images(count: int = 6) -> list[np.ndarray]:
    """Smooth and noisy images of several sizes."""
    generator = np.random.default_rng(3)
    found = []
    for number in range(count):
        height, width = (int(side) for side in generator.integers(40, 400, 2))
        small = generator.integers(0, 256, (5, 7, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((width, height)), np.float64)
        noise = generator.normal(0, 25 * (number % 3), smooth.shape)
        found.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def router():
    with Router.load() as router:
        yield router


def test_nothing_is_explained_unasked(router):
    assert router.classify(images(1)[0]).explanation is None
    assert "explanation" not in router.classify(images(1)[0]).to_json()


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_gains_decide_as_the_policy_did(router, prefer):
    limits = Limits(preference=PREFERENCES[prefer])
    for image in images():
        answer = router.classify(image, limits, explain=True)
        plain = router.classify(image, limits)
        assert (plain.label, plain.path, plain.score) == (answer.label, answer.path, answer.score)
        steps = answer.explanation.steps
        assert tuple(step.candidate for step in steps) == answer.path
        for step, following in zip(steps, [*steps[1:], None]):
            assert step.signal == router.policy.signal
            if step.gains is None:
                assert following is None
                continue
            way, gain = max(step.gains, key=lambda pair: pair[1])
            assert (gain > step.bar) == (following is not None)
            if following is not None:
                assert following.candidate == way[0]


@pytest.mark.parametrize("preference", [-0.5, 0.0, 0.5])
def test_thresholds_decide_as_the_policy_did(preference):
    policy = Cascade(("mobilenet", "inception", "resnet"), thresholds=(0.6, 0.4), signal="margin")
    limits = Limits(preference=preference)
    asked = set()
    with Router.load(policy=policy) as router:
        for image in images(12):
            answer = router.classify(image, limits, explain=True)
            steps = answer.explanation.steps
            asked.add(len(steps))
            for number, step in enumerate(steps, 1):
                if number == len(policy.candidates):
                    assert step.threshold is None
                else:
                    assert (step.value < step.threshold) == (number < len(steps))
            assert answer.explanation.extra == ("features",)
    assert len(asked) > 1


def test_fixed_policy_has_no_signal_and_needs_no_features():
    with Router.load(policy=Fixed(("resnet",))) as router:
        answer = router.classify(images(1)[0], explain=True)
    (step,) = answer.explanation.steps
    assert (step.candidate, step.label, step.score) == ("resnet", answer.label, answer.score)
    assert (step.signal, step.threshold, step.gains) == (None, None, None)
    assert answer.explanation.extra == ("features",)


def test_votes_and_standing_are_those_of_the_training_images(router):
    folder = default_bundle() / "premodel"
    premodel = load_premodel(folder)
    for image in images():
        answer = router.classify(image, explain=True)
        told = answer.explanation
        assert set(told.neighbours.right) == set(router.policy.candidates)
        for name, votes in told.neighbours.right.items():
            assert len(votes) == len(told.neighbours.distances) == premodel.k
            assert np.mean(votes) == pytest.approx(answer.votes[name])
        assert list(told.neighbours.distances) == sorted(told.neighbours.distances)
        x = np.array([list(answer.features.values())])
        below = (premodel.table_ < premodel.scaling_.grid(x)).mean(axis=0)
        level = (premodel.table_ == premodel.scaling_.grid(x)).mean(axis=0)
        expected = dict(zip(premodel.features, below + level / 2))
        assert told.standing.among == "images"
        assert dict(told.standing.shares) == pytest.approx(expected)


def test_edge_map_is_that_of_the_features(router):
    for image in images():
        value = router.classify(image, explain=True).to_json(2)
        picture = value["explanation"]["edges"]
        with Image.open(io.BytesIO(base64.b64decode(picture["png"]))) as opened:
            found = np.asarray(opened.convert("L"))
        working = SCHEMA.working(image)
        crop = np.ascontiguousarray(SCHEMA.crop(working))
        np.testing.assert_array_equal(found, edges(gradient(grey(crop))))
        left, top, width, height = picture["area"]
        rows, columns = working.shape[:2]
        first, beside = round(top * rows), round(left * columns)
        last, right = first + round(height * rows), beside + round(width * columns)
        own = working[first:last, beside:right]
        np.testing.assert_array_equal(own, crop)
        assert 0 <= left <= 1 - width < 1
        assert 0 <= top <= 1 - height < 1


def test_json_holds_no_infinity(router):
    limits = Limits(preference=PREFERENCES["accurate"])
    answer = router.classify(images(1)[0], limits, explain=True)
    text = json.dumps(answer.to_json(2), allow_nan=False)
    assert json.loads(text)["explanation"]["steps"][0]["bar"] is None
    assert "edges" not in router.classify(images(1)[0], explain=True).to_json(1)["explanation"]
