"""An explanation says what the policy really did, and costs nothing where nobody asks."""

from __future__ import annotations

import base64
import io
import json
from time import sleep

import numpy as np
import pytest
from PIL import Image

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.features.brightness import grey
from adaptive.features.edges import edges, gradient
from adaptive.features.extract import extract
from adaptive.features.schema import SCHEMA
from adaptive.files import sha256
from adaptive.limits import PREFERENCES, Limits
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import Exponents
from adaptive.policy.files import write_policy
from adaptive.policy.fixed import Fixed
from adaptive.policy.gain import Gain, paths_of
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.fit import fit_outcome_knn
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.routing.bucket import Bucket
from adaptive.routing.router import Router
from adaptive.routing.running import Networks
from adaptive.serving.http import create_app
from adaptive.serving.service import Service


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


@pytest.fixture(scope="module")
def hybrid():
    """Learned gains over the default's networks, advised by neighbours among made images."""
    pytest.importorskip("sklearn", reason="fitting neighbours needs scikit-learn")
    generator = np.random.default_rng(0)
    names = ("avg_brightness", "contrast", "noise")
    X = np.array([extract(SCHEMA.crop(SCHEMA.working(image)), names) for image in images(80)])
    outcomes = generator.integers(0, 2, (80, 3))
    candidates = ("mobilenet", "inception", "resnet")
    premodel = fit_outcome_knn(
        X, outcomes, names, candidates, k=7, schema_version=SCHEMA.version
    ).premodel
    gains = []
    for path, ways in paths_of(3).items():
        rows = generator.normal(0, 0.05, (len(ways), 10))
        rows[:, 0] += 0.1  # worth it where nothing is known
        rows[:, 1] -= 0.3  # the less, the surer
        gains.append(Gain(path, ways, rows))
    policy = Hybrid(
        candidates,
        premodel,
        costs_ms=(0.3, 0.6, 1.4),
        thresholds=(0.0, 0.0),
        signal="margin",
        combine="geometric",
        weights=(1.0, 1.0, 1.0),
        gains=tuple(gains),
    )
    with Router.load(policy=policy) as router:
        yield router


def test_nothing_is_explained_unasked(router):
    assert router.classify(images(1)[0]).explanation is None
    assert "explanation" not in router.classify(images(1)[0]).to_json()


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_gains_decide_as_the_policy_did(hybrid, prefer):
    router = hybrid
    limits = Limits(preference=PREFERENCES[prefer])
    for image in images():
        answer = router.classify(image, limits, explain=True)
        plain = router.classify(image, limits)
        assert (plain.label, plain.path, plain.score) == (answer.label, answer.path, answer.score)
        steps = answer.explanation.steps
        assert tuple(step.candidate for step in steps) == answer.path
        for step, following in zip(steps, [*steps[1:], None]):
            assert step.grounds.signal == router.policy.signal
            if step.grounds.gains is None:
                assert following is None
                continue
            way, gain = max(step.grounds.gains, key=lambda pair: pair[1])
            assert (gain > step.grounds.bar) == (following is not None)
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
                    assert step.grounds.threshold is None
                else:
                    assert (step.grounds.value < step.grounds.threshold) == (number < len(steps))
            assert answer.explanation.extra == ("features", "premodel")
    assert len(asked) > 1


def test_fixed_policy_has_no_signal_and_needs_no_features():
    with Router.load(policy=Fixed(("resnet",))) as router:
        answer = router.classify(images(1)[0], explain=True)
    (step,) = answer.explanation.steps
    assert (step.candidate, step.label, step.score) == ("resnet", answer.label, answer.score)
    assert (step.grounds.signal, step.grounds.threshold, step.grounds.gains) == (None, None, None)
    assert answer.explanation.extra == ("features", "premodel")


def test_score_of_a_step_is_what_the_answer_would_have_with_it_alone():
    policies = (
        Fixed(("resnet",), exponents=(Exponents((0,), (0.5,)),)),
        Cascade(("resnet", "mobilenet"), thresholds=(0.0,), temperatures=(3.0, 2.0)),
    )
    for policy in policies:
        with Router.load(policy=policy) as router:
            answer = router.classify(images(1)[0], explain=True)
        (step,) = answer.explanation.steps
        assert answer.calibrated
        assert (step.label, step.score) == (answer.label, answer.score)


def partial_bundle(tiny_candidates, tmp_path, features, version):
    """A bundle whose premodel judges two candidates, of which its policy asks one."""
    draw = np.random.default_rng(0)
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    table = scaling.grid(draw.normal(size=(9, 2)))
    outcomes = draw.integers(0, 2, (9, 3))
    names = ["cheap", "net@1", "elsewhere"]
    premodel = KNNChain.from_arrays(features, names, scaling, table, outcomes, 3, version)
    output = tmp_path / "bundle"
    write_bundle(output, Bundle.read(tiny_candidates), ByPremodel(("cheap",), premodel))
    write_policy(Cascade(("cheap", "strong"), thresholds=(1.0,)), output / "policy.json")
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["files"]["policy.json"] = sha256(output / "policy.json")
    (output / "manifest.json").write_text(json.dumps(manifest))
    return output


@pytest.fixture
def partial(tiny_candidates, tmp_path):
    features = ["edge_length1", "contrast"]
    return partial_bundle(tiny_candidates, tmp_path, features, SCHEMA.version)


@pytest.fixture
def own(tiny_candidates, tmp_path):
    """The same with features that only an extractor computes."""
    return partial_bundle(tiny_candidates, tmp_path, ["tilt", "distance"], None)


def test_premodel_that_lacks_candidates_of_the_policy_votes_on_the_others(partial, tiny_images):
    image = tiny_images / "000.png"
    with Router.load(partial) as router:
        premodel = router.bundle.premodel
        assert router.classify(image).votes is None
        answer = router.classify(image, explain=True)
        assert answer.path == ("cheap", "strong")
        x = np.array([list(answer.features.values())])
        expected = dict(zip(premodel.candidates, premodel.predict(x)[0].tolist()))
        # What is in no bundle is nobody's vote.
        assert answer.votes == {name: expected[name] for name in ("cheap", "net@1")}
        told = answer.explanation
        assert set(told.neighbours.right) == set(answer.votes)
        for name, votes in told.neighbours.right.items():
            assert np.mean(votes) == pytest.approx(answer.votes[name])
        assert told.extra == ("features", "premodel")
        assert {"features", "premodel"} <= set(answer.ms)
        json.dumps(answer.to_json(1), allow_nan=False)


def test_explain_of_a_partial_premodel_over_http(partial, tiny_images):
    image = (tiny_images / "000.png").read_bytes()
    with Service(partial) as service:
        client = create_app(service, max_body_bytes=1_000_000).test_client()
        answer = client.post("/v1/classify?explain=1", data=image)
    assert answer.status_code == 200
    value = answer.get_json()
    assert set(value["votes"]) == set(value["explanation"]["neighbours"]["right"])
    assert set(value["votes"]) == {"cheap", "net@1"}


def test_premodel_of_another_schema_does_not_vote(partial, tiny_images, monkeypatch):
    with Router.load(partial) as router:
        monkeypatch.setattr(router.bundle.premodel, "schema_version", 999)
        answer = router.classify(tiny_images / "000.png", explain=True)
    assert answer.votes is None
    assert answer.explanation.neighbours is None
    assert answer.explanation.extra == ("features",)


def test_what_only_an_explanation_needs_is_computed_after_the_answer(own, tiny_images):
    done = []

    class Telling:
        def __init__(self, name, engine):
            self.name, self.engine = name, engine

        def run(self, *inputs):
            done.append(self.name)
            return self.engine.run(*inputs)

        def close(self):
            self.engine.close()

    def extractor(image):
        done.append("features")
        return {"tilt": 1.0, "distance": 2.0}

    bundle = Bundle.read(own)
    opened = Networks.open(bundle, ("cheap", "strong"), 1)
    engines = {name: Telling(name, engine) for name, engine in opened.engines.items()}
    with Router(bundle, engines, extractor=extractor) as router:
        router.classify(tiny_images / "000.png", explain=True)
        assert done == ["cheap", "strong", "features"]
        done.clear()
        router.classify(tiny_images / "000.png")
        assert done == ["cheap", "strong"]


def test_explaining_costs_the_bucket_nothing(own, tiny_images):
    policy = Cascade(("cheap", "strong"), thresholds=(1.0,), costs_ms=(0.5, 1.0))
    bucket = Bucket(1000.0)

    def extractor(image):
        sleep(0.2)
        return {"tilt": 1.0, "distance": 2.0}

    with Router.load(own, policy=policy, bucket=bucket, extractor=extractor) as router:
        answer = router.classify(tiny_images / "000.png", explain=True)
    ran = sum(answer.ms[name] for name in answer.path)
    assert bucket.spent == pytest.approx(ran)
    assert answer.ms["features"] >= 200


def test_votes_and_standing_are_those_of_the_training_images(hybrid):
    router, premodel = hybrid, hybrid.policy.premodel
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
