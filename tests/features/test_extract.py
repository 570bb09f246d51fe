from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import ImageError, InputError
from adaptive.features.edges import edge_angle
from adaptive.features.extract import STAGES, Stage, extract, plan_for, stages_of
from adaptive.features.schema import ALL29, EXTRA, PAPER7, SCHEMA

_spec = importlib.util.spec_from_file_location(
    "features_reference", Path(__file__).with_name("reference.py")
)
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

EVERY = (*ALL29, *EXTRA)
HUES = tuple(name for name in EVERY if name.startswith("hue"))
#: these pass through single precision
ROUNDED = ("avg_perceived_brightness", "perceived_brightness_rms", "area_by_perim")


def named(image: np.ndarray) -> dict[str, float]:
    return dict(zip(EVERY, extract(image, EVERY).tolist()))


def assert_agrees(image: np.ndarray) -> None:
    slow = reference.all_features(image)
    assert set(slow) == set(EVERY)
    for name, value in named(image).items():
        tolerance = 1e-6 if name in ROUNDED else 1e-12
        assert value == pytest.approx(slow[name], rel=tolerance, abs=tolerance), name


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Images of odd sizes: noise, flat, few colours, or extreme pixels only."""
    height = draw(st.one_of(st.integers(1, 12), st.just(128)))
    width = draw(st.one_of(st.integers(1, 12), st.just(128)))
    random = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "flat", "steps", "extreme", "checkerboard"]))
    shape = (height, width, 3)
    if kind == "noise":
        image = random.randint(0, 256, shape)
    elif kind == "flat":
        image = np.zeros(shape) + random.randint(0, 256, 3)
    elif kind == "steps":
        image = random.randint(0, 3, shape) * 100
    elif kind == "extreme":
        image = random.randint(0, 2, (height, width, 1)).repeat(3, axis=2) * 255
    else:
        image = (np.indices((height, width)).sum(axis=0) % 2 * 255)[:, :, None].repeat(3, axis=2)
    return image.astype(np.uint8)


@given(images())
@settings(max_examples=150, deadline=None)
def test_every_value_is_finite_and_in_its_range(image: np.ndarray) -> None:
    for name, value in named(image).items():
        feature = SCHEMA.feature(name)
        assert feature.low <= value <= feature.high, (name, value)


@given(images())
@settings(max_examples=50, deadline=None)
def test_histograms_are_shares(image: np.ndarray) -> None:
    values = named(image)
    lengths = sum(values[f"edge_length{number}"] for number in range(1, 8))
    angles = sum(values[f"edge_angle{number}"] for number in range(1, 8))
    assert angles == pytest.approx(lengths)
    assert lengths == 0 or lengths == pytest.approx(1)
    assert sum(values[f"hue{number}"] for number in range(1, 8)) <= 1 + 1e-12


@given(images(), st.lists(st.sampled_from(EVERY), min_size=1, unique=True))
@settings(max_examples=50, deadline=None)
def test_a_subset_has_the_same_values_in_the_order_asked(
    image: np.ndarray, names: list[str]
) -> None:
    everything = named(image)
    answer = extract(image, names)
    assert answer.dtype == np.float64
    assert answer.shape == (len(names),)
    assert answer.tolist() == [everything[name] for name in names]


def test_scene_agrees_with_reference(scene: np.ndarray) -> None:
    assert_agrees(scene)
    values = named(scene)
    assert all(values[name] > 0 for name in (*PAPER7, *EXTRA))


def test_noise_agrees_with_reference(noise_image: np.ndarray) -> None:
    assert_agrees(noise_image)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_blurred_noise_agrees_with_reference(noise_image: np.ndarray, sigma: float) -> None:
    assert_agrees(cv2.GaussianBlur(noise_image, (0, 0), sigma))


@pytest.mark.parametrize("height", [1, 2, 3, 6, 7, 9])
@pytest.mark.parametrize("width", [1, 2, 3, 6, 7, 33])
def test_odd_sizes_agree_with_reference(height: int, width: int) -> None:
    random = np.random.RandomState(height * 100 + width)
    assert_agrees(random.randint(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (250, 3, 90), (9, 8, 7)]
)
def test_flat_images_agree_with_reference(colour: tuple[int, int, int]) -> None:
    assert_agrees(np.zeros((20, 30, 3), dtype=np.uint8) + np.array(colour, dtype=np.uint8))


def test_every_hue_agrees_with_reference() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1)
    for colour in grid.reshape(-1, 3).astype(np.uint8):
        image = colour[np.newaxis, np.newaxis]
        (hue,) = reference.hue_steps(image) or [None]
        expected = [float(hue is not None and hue * 7 // 180 == number) for number in range(7)]
        assert extract(image, HUES).tolist() == expected, colour


def test_every_angle_agrees_with_its_arc_tangent() -> None:
    dx, dy = np.meshgrid(np.arange(-1020, 1021, 7), np.arange(-1020, 1021, 3))
    dx, dy = dx.ravel().astype(np.int16), dy.ravel().astype(np.int16)
    some = np.flatnonzero((dx != 0) | (dy != 0))
    angles = np.arctan2(dx[some].astype(float), dy[some]) % math.pi
    # just below a full half turn, the remainder may be rounded up to one
    bins = np.floor(angles * 7 / math.pi).astype(int) % 7
    expected = np.bincount(bins, minlength=7) / some.size
    assert edge_angle((dx, dy), some) == expected.tolist()
    for position in some[::997]:
        shares = edge_angle((dx, dy), np.array([position]))
        assert shares.index(1.0) == bins[some == position][0]


def test_equal_edges_take_the_first_in_reading_order() -> None:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    # the lower left bar and the upper right one have edges of the same number of pixels
    image[40:43, 5:25] = 255
    image[10:30, 45:48] = 255
    assert_agrees(image)
    assert named(image)["aspect_ratio"] < 1
    turned = np.ascontiguousarray(image.transpose(1, 0, 2))
    assert_agrees(turned)


@pytest.mark.data
@pytest.mark.skipif("ADAPTIVE_DATA" not in os.environ, reason="ADAPTIVE_DATA is not set")
def test_photographs_agree_with_reference() -> None:
    folder = Path(os.environ["ADAPTIVE_DATA"], "imagenet", "images")
    if not folder.is_dir():
        pytest.skip(f"ADAPTIVE_DATA has no {folder.name} of imagenet")
    for path in sorted(folder.iterdir())[:200:20]:
        decoded = cv2.imread(str(path))
        assert decoded is not None
        image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        assert_agrees(SCHEMA.crop(SCHEMA.working(image)))


def test_undefined_features_are_zero() -> None:
    flat = named(np.full((20, 20, 3), 77, dtype=np.uint8))
    for name in EVERY:
        undefined = SCHEMA.feature(name).undefined != "never"
        assert not undefined or flat[name] == 0, name
    single = named(np.full((1, 1, 3), 200, dtype=np.uint8))
    assert single["noise"] == single["n_keypoints"] == 0
    assert single["avg_brightness"] == 200


def test_known_values_of_a_simple_image() -> None:
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:, 32:] = (255, 0, 0)
    values = named(image)
    assert values["avg_brightness"] == 38  # 0.299 * 255 = 76.2 in one half
    assert values["contrast"] == 38
    assert values["avg_perceived_brightness"] == pytest.approx(0.5 * 255 * 0.299**0.5)
    assert values["hue1"] == 0.5
    # one vertical edge of 64 pixels
    assert values["edge_length6"] == 1
    assert values["edge_angle4"] == 1
    assert values["aspect_ratio"] == pytest.approx(1 / 64)
    assert values["area_by_perim"] == 0


def test_noise_finds_the_deviation_of_gaussian_noise() -> None:
    random = np.random.RandomState(0)
    luma = np.clip(128 + random.normal(0, 12, (128, 128)), 0, 255).round().astype(np.uint8)
    assert extract(luma[:, :, None].repeat(3, axis=2), ["noise"])[0] == pytest.approx(12, rel=0.05)


def test_views_give_what_their_copies_give(scene: np.ndarray) -> None:
    for view in (scene[::-1], scene[:, ::-1], scene[:, :, ::-1], scene[5:40:2, 3:90:3]):
        assert not view.flags["C_CONTIGUOUS"]
        assert extract(view, EVERY).tolist() == extract(view.copy(), EVERY).tolist()


def test_crop_is_read_only_and_left_alone(scene: np.ndarray) -> None:
    image = scene.copy()
    image.flags.writeable = False
    extract(image, EVERY)
    assert (image == scene).all()


SHARED = (
    "cvtColor",
    "spatialGradient",
    "Canny",
    "connectedComponentsWithAlgorithm",
    "calcHist",
    "Laplacian",
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each OpenCV function was called since."""
    counts = dict.fromkeys(SHARED, 0)

    def counted(name: str) -> None:
        original = getattr(cv2, name)

        def wrapper(*args: object, **kwargs: object) -> object:
            counts[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(cv2, name, wrapper)

    for name in SHARED:
        counted(name)
    return counts


def test_two_edge_features_compute_edges_once(scene: np.ndarray, calls: dict[str, int]) -> None:
    extract(scene, ["edge_length3", "edge_angle5"])
    assert calls == {
        "cvtColor": 1,
        "spatialGradient": 1,
        "Canny": 1,
        "connectedComponentsWithAlgorithm": 1,
        "calcHist": 0,
        "Laplacian": 0,
    }


def test_all_features_compute_each_intermediate_once(
    scene: np.ndarray, calls: dict[str, int]
) -> None:
    extract(scene, EVERY)
    # the grey image, perceived brightness, and the hue, saturation, value image
    assert calls == {**dict.fromkeys(SHARED, 1), "cvtColor": 3}


def test_only_what_is_asked_for_is_computed(scene: np.ndarray, calls: dict[str, int]) -> None:
    extract(scene, ["avg_perceived_brightness"])
    assert calls == {**dict.fromkeys(SHARED, 0), "cvtColor": 1}
    extract(scene, ["hue3"])
    assert calls == {**dict.fromkeys(SHARED, 0), "cvtColor": 2, "calcHist": 1}


def test_stages_stand_after_what_they_need() -> None:
    seen = {"pixels"}
    for name, stage in STAGES.items():
        assert isinstance(stage, Stage)
        assert set(stage.needs) <= seen
        seen.add(name)
    assert {feature.group for feature in SCHEMA.features} <= set(STAGES)


def test_each_group_gives_one_value_a_feature(scene: np.ndarray) -> None:
    results = {"pixels": scene}
    for name, stage in STAGES.items():
        results[name] = stage.run(*[results[need] for need in stage.needs])
    for group in {feature.group for feature in SCHEMA.features}:
        members = [feature for feature in SCHEMA.features if feature.group == group]
        assert len(results[group]) == len(members)


def test_stages_of_follows_every_need() -> None:
    assert stages_of("edge_length") == {
        *("grey", "gradient", "edges", "edge_pixels", "lines", "edge_length")
    }
    assert [step[0] for step in plan_for(("hue1", "contrast")).steps] == [
        "grey",
        "brightness",
        "hue",
    ]


@pytest.mark.parametrize(
    "image",
    [
        None,
        [[0, 0, 0]],
        b"\xff\xd8",
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((4, 4, 3), dtype=np.int8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        np.zeros((1, 4, 4, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image: object) -> None:
    with pytest.raises(ImageError, match=r"is no image; it must be an RGB array of shape"):
        extract(image, ALL29)  # type: ignore[arg-type]


def test_an_unknown_feature_is_named(scene: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"feature 'hue8' is unknown; there are .*'hue7'"):
        extract(scene, ["hue1", "hue8"])


def test_a_named_set_is_taken(scene: np.ndarray) -> None:
    assert extract(scene, "paper7").tolist() == extract(scene, list(PAPER7)).tolist()
