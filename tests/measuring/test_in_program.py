"""The outcome table of a router's own candidates, and what is tuned on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptive import InputError, Model, OutcomeTable, Router, Split, Tuner, evaluate, profile
from adaptive.bundle.bundle import Bundle
from adaptive.evaluation.replay import replay
from adaptive.measuring.profiling import Profiler
from adaptive.outcomes.labelled import list_images

LABELS = ("bright", "dark")


def by_mean(images: list[np.ndarray]) -> np.ndarray:
    """Whole images, and how bright they are."""
    bright = np.clip(np.array([(image.mean() - 128) / 80 + 0.5 for image in images]), 0, 1)
    return np.stack([bright, 1 - bright], axis=1)


def by_corner(images: list[np.ndarray]) -> np.ndarray:
    """The same of a few pixels."""
    return by_mean([image[:2, :2] for image in images])


def photos(count: int, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    draw = np.random.default_rng(seed)
    means = draw.uniform(60, 200, count)
    images = [
        np.clip(draw.normal(mean, 50, (20, 20, 3)), 0, 255).astype(np.uint8) for mean in means
    ]
    return images, [LABELS[int(mean < 128)] for mean in means]


@pytest.fixture
def router():
    with Router.of({"tiny": by_corner, "large": by_mean}, LABELS) as made:
        yield made


def test_a_table_holds_what_each_candidate_says(router: Router) -> None:
    images, labels = photos(30)
    table = profile(router, images, labels, features="noise,contrast", progress=False)
    assert table.images[:2] == ("image-000000", "image-000001")
    assert table.label.tolist() == [LABELS.index(label) for label in labels]
    for name, model in (("tiny", by_corner), ("large", by_mean)):
        said = model(images)
        np.testing.assert_array_equal(table.quality(name), said.argmax(axis=1) == table.label)
        np.testing.assert_allclose(table.of(name).confidence, said.max(axis=1), atol=1e-6)
        np.testing.assert_allclose(table.probabilities_of(name), said, atol=1e-3)
        assert (table.ms(name) > 0).all()
    assert table.features == ("noise", "contrast")
    assert table.schema_version == 1
    assert table.own_features == ()
    assert set(table.feature_ms) == {"noise", "contrast"}


def test_what_is_tuned_on_it_answers_as_the_replay_says(router: Router) -> None:
    images, labels = photos(300)
    table = profile(router, images, labels, features=None, progress=False)
    slow = table.of("large").ms
    slow += 5.0  # a mean is as quick here as a corner
    tuned = Tuner(table, reference="large").within(4.0)
    assert tuned.policy is not None
    done = replay(tuned.policy, table)
    models = {"tiny": by_corner, "large": by_mean}
    with Router.of(models, LABELS, policy=tuned.policy) as serving:
        for row in range(0, 300, 10):
            answer = serving.classify(images[row])
            position = int(done.candidate[row])
            assert answer.candidate == tuned.policy.candidates[position]
    test = table.select(Split().rows(table.images, "test"))
    assert evaluate(tuned.policy, test, "large").policy.ms.value <= 5.5


def test_a_folder_with_a_sub_folder_a_class_is_read(router: Router, tmp_path: Path) -> None:
    images, labels = photos(8)
    for label in LABELS:
        (tmp_path / label).mkdir()
    for number, (image, label) in enumerate(zip(images, labels)):
        Image.fromarray(image).save(tmp_path / label / f"{number}.png")
    table = profile(router, tmp_path, features=None, progress=False)
    listed = list_images(tmp_path, LABELS)
    assert table.images == listed.names
    again = profile(router, listed, features=None, progress=False)
    np.testing.assert_array_equal(table.quality("tiny"), again.quality("tiny"))


def test_paths_are_names_and_other_images_may_have_some(router: Router, tmp_path: Path) -> None:
    Image.fromarray(photos(1)[0][0]).save(tmp_path / "a.png")
    table = profile(router, [tmp_path / "a.png"], [0], features=None, progress=False)
    assert table.images == (str(tmp_path / "a.png"),)
    with open(tmp_path / "a.png", "rb") as file:
        table = profile(router, [file], ["dark"], names=["it"], features=None, progress=False)
    assert table.images == ("it",)


def test_features_of_one_s_own_are_columns_of_one_s_own(router: Router, tmp_path: Path) -> None:
    images, labels = photos(12)
    table = profile(
        router,
        images,
        labels,
        features="noise",
        extractor=lambda image: {"mine": image[0, 0, 0], "other": 2},
        progress=False,
    )
    assert table.features == ("noise", "mine", "other")
    assert table.own_features == ("mine", "other")
    assert table.X[:, 1].tolist() == [image[0, 0, 0] for image in images]
    assert table.feature_ms["mine"] > 0
    table.write(tmp_path / "x.csv")
    assert OutcomeTable.read(tmp_path / "x.csv").own_features == ("mine", "other")
    alone = profile(
        router, images, labels, features=None, extractor=lambda image: {"a": 1}, progress=False
    )
    assert (alone.own_features, alone.schema_version) == (("a",), None)


def test_it_is_the_table_that_the_profiler_makes(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    """A bundle's networks, exits among them, measured both ways: all but the times is equal."""
    bundle = Bundle.read(tiny_candidates)
    listed = list_images(tiny_images, bundle.labels, tiny_images / "labels.csv", limit=20)
    profiler = Profiler(bundle, features="noise")
    profiler.profile(listed, tmp_path / "one.csv")
    with Router(bundle, profiler.networks) as router:
        profile(router, listed, features="noise", progress=False).write(tmp_path / "other.csv")
    one, other = (OutcomeTable.read(tmp_path / name) for name in ("one.csv", "other.csv"))
    assert one.images == other.images
    np.testing.assert_array_equal(one.X, other.X)
    for name in bundle.names:
        np.testing.assert_array_equal(one.quality(name), other.quality(name))
        np.testing.assert_array_equal(one.of(name).confidence, other.of(name).confidence)
        assert one.of(name).after == other.of(name).after
        assert (one.of(name).through is None) == (other.of(name).through is None)


# Answers that are no classes.


def thresholded(least: int) -> Any:
    def segment(images: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        return [(image[:, :, 0] > least, float(image.mean() / 255)) for image in images]

    return segment


@pytest.fixture
def segmenting():
    models = {"tiny": thresholded(128), "large": Model(thresholded(60), output="answers")}
    with Router.of(models, output="answers") as made:
        yield made


def much(answer: np.ndarray, truth: float) -> bool:
    return bool(answer.mean() >= truth)


def test_answers_of_ones_own_are_judged_and_tuned(segmenting: Router) -> None:
    images, _ = photos(200)
    table = profile(segmenting, images, [0.8] * 200, judge=much, features=None, progress=False)
    for name, least in (("tiny", 128), ("large", 60)):
        right = [(image[:, :, 0] > least).mean() >= 0.8 for image in images]
        assert table.quality(name).tolist() == right
    assert table.quality_name == "quality"
    slow = table.of("large").ms
    slow += 5.0
    tuned = Tuner(table, reference="large").within(4.0)
    assert tuned.policy is not None
    models = {"tiny": thresholded(128), "large": thresholded(60)}
    with Router.of(models, output="answers", policy=tuned.policy) as serving:
        paths = {serving.classify(image).path for image in images[:60]}
    assert paths == {("tiny",), ("tiny", "large")}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"truths": None}, "truths are needed"),
        ({"truths": ["dark"]}, "there are 2 images and 1 truths"),
        ({"images": [], "truths": []}, "there are 0 images and 0 truths"),
        ({"truths": ["dark", "cat"]}, "class 'cat' is not one of the 2 labels"),
        ({"truths": [0, 2]}, "class 2 is neither a label nor an index from 0 to 1"),
        ({"truths": [0, 0.5]}, "class 0.5 is neither"),
        ({"names": ["a", "a"]}, "2 images have 1 names"),
        ({"judge": much}, "judge is needed for answers that are no classes, and for those alone"),
        ({"features": "nose"}, "feature 'nose' is unknown"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    router: Router, given: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {"images": photos(2)[0], "truths": [0, 1], **given}
    with pytest.raises(InputError) as refused:
        profile(router, progress=False, **arguments)
    assert words in str(refused.value)


def test_answers_may_be_worth_something_in_between(segmenting: Router, tmp_path: Path) -> None:
    images, _ = photos(60)
    table = profile(
        segmenting,
        images,
        [0] * 60,
        judge=lambda answer, truth: answer.mean(),
        quality="share",
        features=None,
        progress=False,
    )
    assert table.quality("tiny").tolist() == [(image[:, :, 0] > 128).mean() for image in images]
    table.write(tmp_path / "x.csv")
    read = OutcomeTable.read(tmp_path / "x.csv")
    assert read.quality_name == "share"
    np.testing.assert_allclose(read.quality("large"), table.quality("large"), atol=1e-8)
    assert read.of("large").top5 is None


def test_a_judge_says_a_number_in_0_to_1(segmenting: Router) -> None:
    with pytest.raises(InputError, match="judge is needed"):
        profile(segmenting, photos(2)[0], [0, 1], progress=False)
    for said in (1.5, float("nan"), None, "right"):
        with pytest.raises(InputError, match=r"judge said .*; a number from 0 to 1 is needed"):
            profile(segmenting, photos(2)[0], [0, 1], judge=lambda a, b: said, progress=False)  # noqa: B023
    with pytest.raises(InputError, match="quality 'ms' is the name of another column"):
        profile(segmenting, photos(2)[0], [0, 1], judge=much, quality="ms", progress=False)


def test_a_router_without_all_its_networks_is_refused(
    tiny_candidates: Path, tiny_images: Path
) -> None:
    with Router.load(tiny_candidates) as router, pytest.raises(InputError, match="no engine for"):
        profile(router, [tiny_images / "000.png"], [0], progress=False)
