"""What is made of a network sees images as that network sees them where it is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="copies are made with onnx")

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import InputSpec
from adaptive.errors import ImageError
from adaptive.networks.compression.recipes import photographs
from adaptive.networks.copies import CopyRecipe, Parts
from adaptive.networks.served_inputs import longest_short, served_inputs
from adaptive.outcomes.labelled import LabelledImages
from adaptive.policy.cascade import Cascade
from adaptive.routing.router import Router

SIDES = {"little": 32, "usual": 224, "large": 320, "huge": 640}


class Recording:
    """An engine that keeps what it was given, and is never sure."""

    def __init__(self) -> None:
        self.given: list[np.ndarray] = []

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        self.given.append(inputs[0].copy())
        return [np.full((len(inputs[0]), 3), 1 / 3, np.float32)]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """Two photographs in which every scale matters, of different shapes."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for name, size in (("a.jpg", (900, 1400)), ("b.jpg", (1500, 1000))):
        pixels = generator.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=95)
    return LabelledImages(folder, ("a.jpg", "b.jpg"), (0, 1))


def bundle_of(folder: Path, names: tuple[str, ...]) -> Bundle:
    like = Bundle.read(folder).candidate("cheap")
    spec = InputSpec(8, "uint8", "NHWC", "crop")
    made = tuple(replace(like, name=n, input=replace(spec, size=SIDES[n])) for n in names)
    return replace(Bundle.read(folder), candidates=made, reference=None)


@pytest.mark.parametrize(
    "names", [tuple(SIDES), ("large",), ("little", "usual"), ("usual", "large")]
)
def test_inputs_are_those_that_the_engines_get_when_served(
    names: tuple[str, ...], images: LabelledImages, tiny_candidates: Path
) -> None:
    bundle = bundle_of(tiny_candidates, names)
    engines = {name: Recording() for name in names}
    policy = Cascade(names, thresholds=(1.0,) * (len(names) - 1))
    with Router(bundle, engines, policy) as router:
        for name in images.names:
            router.classify(images.root / name)
    short = longest_short(bundle)
    parts = Parts(images, CopyRecipe(int8=("cpu",), calibrate=1))
    for candidate in bundle.candidates:
        served = engines[candidate.name].given[-2:]
        made = served_inputs(images, candidate, short)
        np.testing.assert_array_equal(np.concatenate(made), np.concatenate(served))
        dealt = parts.pixels(candidate, short)
        np.testing.assert_array_equal(dealt.calibrate[0], served[0])
        np.testing.assert_array_equal(dealt.check[0], served[1])


def test_squares_that_judge_a_pruned_network_are_as_served(
    images: LabelledImages, tiny_candidates: Path
) -> None:
    like = bundle_of(tiny_candidates, ("large", "huge"))
    large = replace(like.candidates[0], input=InputSpec(320, "uint8", "NHWC", "cover"))
    bundle = replace(like, candidates=(large, like.candidates[1]))
    engines = {"large": Recording(), "huge": Recording()}
    with Router(bundle, engines, Cascade(("large", "huge"), thresholds=(1.0,))) as router:
        router.classify(images.root / "a.jpg")
    made = photographs(images, 320, ["red", "green"], longest_short(bundle))
    np.testing.assert_array_equal(made.images[:1], engines["large"].given[-1])
    assert list(made.labels) == [0, 1]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, tiny_candidates: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    broken = LabelledImages(tmp_path, ("broken.jpg",), (0,))
    bundle = bundle_of(tiny_candidates, ("usual",))
    with pytest.raises(ImageError, match=r"^broken.jpg: .*; leave it out of the images$"):
        served_inputs(broken, bundle.candidates[0], longest_short(bundle))
