from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from adaptive.errors import ImageError, InputError
from adaptive.features.schema import ALL29, EXTRA, PAPER7, SCHEMA, Schema, resolve_names


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(height + width).randint(0, 256, (height, width, 3)).astype("u1")


def test_names_are_those_of_the_papers() -> None:
    expected = (
        "n_keypoints",
        "avg_brightness",
        "brightness_rms",
        "avg_perceived_brightness",
        "perceived_brightness_rms",
        "contrast",
        *(f"edge_length{number}" for number in range(1, 8)),
        *(f"edge_angle{number}" for number in range(1, 8)),
        *(f"hue{number}" for number in range(1, 8)),
        "area_by_perim",
        "aspect_ratio",
    )
    assert expected == ALL29
    assert len(ALL29) == 29
    assert EXTRA == ("laplacian_deviation", "noise")
    assert SCHEMA.names == (*ALL29, *EXTRA)
    assert set(PAPER7) < set(ALL29)


def test_every_feature_says_what_it_is() -> None:
    for feature in SCHEMA.features:
        assert feature.formula
        assert "doi" in feature.source
        assert feature.unit in {"count", "grey level", "share", "pixel", "1"}
        assert math.isfinite(feature.low)
        assert feature.low < feature.high < math.inf


def test_schema_is_frozen_and_reads_well() -> None:
    with pytest.raises(FrozenInstanceError):
        SCHEMA.version = 2  # type: ignore[misc]
    assert repr(SCHEMA) == "Schema(version=1, short_side=256, crop_side=128, linear_below=2)"


def test_feature_is_found_by_name() -> None:
    assert SCHEMA.feature("noise").name == "noise"
    with pytest.raises(InputError, match=r"feature 'nose' is unknown; there are \['n_keypoints'"):
        SCHEMA.feature("nose")


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("paper7", PAPER7),
        ("all", ALL29),
        ("extra", EXTRA),
        ("all+extra", (*ALL29, *EXTRA)),
        ("all + paper7", ALL29),
        ("hue2, noise", ("hue2", "noise")),
        (["noise", "hue2"], ("noise", "hue2")),
        (("contrast",), ("contrast",)),
    ],
)
def test_resolve_names_takes_sets_and_names(spec: object, names: tuple[str, ...]) -> None:
    assert resolve_names(spec) == names  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("paper8", r"feature 'paper8' is unknown; there are the sets \['paper7', 'all', 'extra'\]"),
        ("hue1,nothing", r"feature 'nothing' is unknown; .*'aspect_ratio'"),
        ("all+nothing", r"feature 'all\+nothing' is unknown"),
        ("hue1,,noise", r"feature '' is unknown"),
        (["hue1", "hue1"], "feature 'hue1' is named twice"),
        ("", "no feature is named"),
        ([], "no feature is named"),
    ],
)
def test_resolve_names_refuses_what_is_not_there(spec: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_names(spec)  # type: ignore[arg-type]


def test_json_round_trip_is_equal() -> None:
    text = json.dumps(SCHEMA.to_json())
    assert Schema.from_json(json.loads(text), "table.json") == SCHEMA
    assert json.loads(text)["version"] == 1


@pytest.mark.parametrize("version", [2, 0, "1", None, True, [1]])
def test_another_version_is_refused_naming_both(version: object) -> None:
    data = {**SCHEMA.to_json(), "version": version}
    with pytest.raises(InputError, match=r"table.json .* version .*, but .* version 1"):
        Schema.from_json(data, "table.json")


@pytest.mark.parametrize("data", [None, [], "1", {}, {"crop_side": 128}])
def test_what_is_no_schema_is_refused(data: object) -> None:
    with pytest.raises(InputError, match=r"table.json names no feature schema"):
        Schema.from_json(data, "table.json")


@pytest.mark.parametrize(
    "change",
    [{"crop_side": 96}, {"short_side": None}, {"linear_below": 3}, {"features": ["hue1"]}],
)
def test_the_same_version_with_other_rules_is_refused(change: dict[str, object]) -> None:
    (key,) = change
    with pytest.raises(InputError, match=f"table.json has {key} .* but version 1 has"):
        Schema.from_json({**SCHEMA.to_json(), **change}, "table.json")


@pytest.mark.parametrize(
    ("height", "width"), [(256, 256), (256, 999), (100, 300), (1, 1), (1, 5000), (128, 128)]
)
def test_working_leaves_small_images_alone(height: int, width: int) -> None:
    image = image_of(height, width)
    assert SCHEMA.working(image) is image


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (257, 257, (256, 256)),
        (375, 500, (256, 341)),
        (500, 375, (341, 256)),
        (512, 512, (256, 256)),
        (300, 3001, (256, 2561)),
        (1024, 1025, (256, 256)),
    ],
)
def test_working_scales_the_short_side(height: int, width: int, expected: tuple[int, int]) -> None:
    scaled = SCHEMA.working(image_of(height, width))
    assert scaled.shape == (*expected, 3)
    assert scaled.dtype == np.uint8
    assert SCHEMA.working(scaled) is scaled


def test_working_averages_areas_from_a_factor_of_two() -> None:
    image = image_of(512, 512)
    blocks = image.reshape(256, 2, 256, 2, 3).astype(np.int64).sum(axis=(1, 3))
    assert np.abs(SCHEMA.working(image) - blocks / 4).max() <= 0.5


def test_working_interpolates_below_a_factor_of_two() -> None:
    image = np.zeros((384, 384, 3), dtype=np.uint8)
    image[:, ::3] = 240
    # the middle of the third output column lies a quarter beyond the fourth input column
    assert (SCHEMA.working(image)[:, 2] == 180).all()


def test_crop_is_a_view_of_the_middle() -> None:
    image = image_of(256, 341)
    crop = SCHEMA.crop(image)
    assert crop.shape == (128, 128, 3)
    assert np.shares_memory(crop, image)
    assert (crop == image[64:192, 106:234]).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 300), (300, 5), (128, 128), (90, 100)])
def test_crop_of_a_small_image_is_never_resized(height: int, width: int) -> None:
    crop = SCHEMA.crop(image_of(height, width))
    assert crop.shape == (min(height, 128), min(width, 128), 3)


def test_crop_refuses_what_was_not_scaled() -> None:
    with pytest.raises(ImageError, match=r"500x375 is no working image.*Schema.working first"):
        SCHEMA.crop(image_of(375, 500))


@pytest.mark.parametrize("method", [SCHEMA.working, SCHEMA.crop])
def test_working_and_crop_refuse_what_is_no_image(method: object) -> None:
    for wrong in (np.zeros((5, 5, 3)), np.zeros((5, 5), dtype=np.uint8), "photo.jpg"):
        with pytest.raises(ImageError, match="is no image; it must be an RGB array"):
            method(wrong)  # type: ignore[operator]


def test_importing_the_schema_loads_no_opencv() -> None:
    code = "import sys, adaptive.features.schema; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
