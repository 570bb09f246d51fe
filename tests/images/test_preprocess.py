from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive import InputError
from adaptive.candidate import InputSpec
from adaptive.images.preprocess import needed_short, preprocess, source_box

DRAW = np.random.default_rng(0)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def ramp(height: int, width: int) -> np.ndarray:
    y, x = np.meshgrid(np.linspace(0, 255, height), np.linspace(0, 255, width), indexing="ij")
    return np.stack([x, y, (x + y) / 2], axis=2).round().astype(np.uint8)


def weights(count: int, size: int) -> np.ndarray:
    """(size, count): how much of each old pixel goes into each new one.

    Shrinking averages the area that a new pixel covers; growing interpolates between centres.
    """
    found = np.zeros((size, count))
    for new in range(size):
        if size <= count:
            low, high = new * count / size, (new + 1) * count / size
            for old in range(count):
                found[new, old] = max(0.0, min(high, old + 1) - max(low, old)) / (high - low)
        else:
            centre = (new + 0.5) * count / size - 0.5
            below = math.floor(centre)
            for old, share in ((below, 1 - (centre - below)), (below + 1, centre - below)):
                found[new, min(max(old, 0), count - 1)] += share
    return found


def reference(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The tensor in floating point, from the words of the manifest: pixels, not yet rounded."""
    height, width = image.shape[:2]
    short = min(height, width)
    if spec.resize == "stretch":
        cut = image
    else:
        side = short
        if spec.resize == "crop":
            full = round(spec.size / 0.875)
            side = spec.size if spec.size <= short <= full else round(spec.size * short / full)
            side = max(1, min(side, short))
        top, left = (height - side) // 2, (width - side) // 2
        cut = image[top : top + side, left : left + side]
    down, across = weights(cut.shape[0], spec.size), weights(cut.shape[1], spec.size)
    scaled: np.ndarray = np.einsum("yh,xw,hwc->yxc", down, across, cut.astype(np.float64))
    return scaled


SIZES = [(40, 48), (64, 64), (33, 100), (100, 33), (16, 16), (18, 17), (20, 90), (7, 9), (300, 200)]


@pytest.mark.parametrize("resize", ["crop", "cover", "stretch"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pixels_against_a_plain_reference(resize: str, height: int, width: int) -> None:
    spec = InputSpec(16, "uint8", "NHWC", resize)
    image = photo(height, width)
    found = preprocess(image, spec)
    assert found.shape == (1, 16, 16, 3)
    assert found.dtype == np.uint8
    mixed = resize == "stretch" and min(height, width) < 16 < max(height, width)
    if not mixed:  # where one side shrinks and the other grows, both are interpolated
        assert np.abs(found[0] - reference(image, spec)).max() <= 1.01


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    "normal",
    [
        {},
        {"scale": 255.0},
        {"scale": 127.5, "mean": (1.0, 1.0, 1.0)},
        {"mean": (123.0, 117.0, 104.0)},
        {"std": (58.0, 57.0, 57.5)},
        {"scale": 255.0, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    ],
    ids=str,
)
def test_numbers_against_a_plain_reference(dtype: str, layout: str, normal: Any) -> None:
    spec = InputSpec(16, dtype, layout, "crop", **normal)
    image = photo(50, 70)
    pixels = preprocess(image, InputSpec(16, "uint8", "NHWC", "crop"))[0].astype(np.float64)
    expected = pixels / (spec.scale or 1)
    expected = (expected - np.array(spec.mean or (0, 0, 0))) / np.array(spec.std or (1, 1, 1))
    found = preprocess(image, spec)
    assert found.dtype == np.dtype(dtype)
    assert found.flags.c_contiguous
    if layout == "NCHW":
        assert found.shape == (1, 3, 16, 16)
        expected = expected.transpose(2, 0, 1)
    tolerance = 2e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(found[0], expected, rtol=tolerance, atol=tolerance)


def test_between_size_and_full_the_middle_is_taken_unscaled() -> None:
    spec = InputSpec(224, "uint8", "NHWC", "crop")
    for height, width in ((227, 227), (224, 300), (256, 256), (250, 227)):
        image = photo(height, width)
        top, left = (height - 224) // 2, (width - 224) // 2
        middle = image[top : top + 224, left : left + 224]
        np.testing.assert_array_equal(preprocess(image, spec)[0], middle)


def test_crop_keeps_the_usual_share_and_cover_the_whole_short_side() -> None:
    crop, cover = InputSpec(224), InputSpec(224, resize="cover")
    assert source_box(512, 1024, crop) == (32, 288, 448, 448)
    assert source_box(512, 1024, cover) == (0, 256, 512, 512)
    assert source_box(512, 1024, InputSpec(224, resize="stretch")) == (0, 0, 512, 1024)
    assert source_box(128, 128, crop) == (8, 8, 112, 112)


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.integers(1, 600),
    st.sampled_from(["crop", "cover", "stretch"]),
)
@settings(max_examples=120)
def test_the_box_lies_inside_and_in_the_middle(
    height: int, width: int, size: int, resize: str
) -> None:
    top, left, high, wide = source_box(height, width, InputSpec(size, resize=resize))
    assert high >= 1
    assert wide >= 1
    assert top >= 0
    assert top + high <= height
    assert left >= 0
    assert left + wide <= width
    assert abs((height - high) - 2 * top) <= 1
    assert abs((width - wide) - 2 * left) <= 1
    assert resize == "stretch" or high == wide


@given(st.integers(1, 900), st.sampled_from(["crop", "cover", "stretch"]), st.integers(0, 500))
@settings(max_examples=120)
def test_an_image_of_the_needed_short_side_is_never_enlarged(
    size: int, resize: str, more: int
) -> None:
    spec = InputSpec(size, resize=resize)
    short = needed_short(spec)
    assert short >= size
    *_, high, wide = source_box(short, short + more, spec)
    assert min(high, wide) >= size


def test_needed_short_of_the_usual_sizes() -> None:
    assert [needed_short(InputSpec(s)) for s in (224, 299, 128, 32)] == [256, 342, 146, 37]
    assert needed_short(InputSpec(224, resize="cover")) == 224
    assert needed_short(InputSpec(224, resize="stretch")) == 224


@pytest.mark.parametrize("resize", ["crop", "cover", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3), (1, 2)])
def test_the_smallest_images_fill_the_tensor(resize: str, height: int, width: int) -> None:
    image = photo(height, width)
    found = preprocess(image, InputSpec(8, "float32", "NCHW", resize, scale=255.0))
    assert found.shape == (1, 3, 8, 8)
    assert np.isfinite(found).all()
    if resize != "stretch" and min(height, width) == 1:
        middle = image[(height - 1) // 2, (width - 1) // 2] / 255
        np.testing.assert_allclose(found[0], np.broadcast_to(middle[:, None, None], (3, 8, 8)))


@pytest.mark.parametrize("resize", ["crop", "cover", "stretch"])
def test_views_of_any_order_give_the_same(resize: str) -> None:
    image = photo(60, 80)
    spec = InputSpec(16, "float32", "NCHW", resize)
    for view in (
        image[::-1, ::-1],
        image[:, :, ::-1],
        image[::2, ::3],
        image.transpose(1, 0, 2),
        np.asfortranarray(image),
    ):
        whole = np.ascontiguousarray(view)
        np.testing.assert_array_equal(preprocess(view, spec), preprocess(whole, spec))
    frozen = image.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(preprocess(frozen, spec), preprocess(image, spec))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_image_is_left_as_it_was(dtype: str) -> None:
    image = photo(16, 16)
    before = image.copy()
    preprocess(image, InputSpec(16, dtype, "NHWC", "stretch"))
    np.testing.assert_array_equal(image, before)


def test_smooth_images_stay_smooth_when_enlarged() -> None:
    found = preprocess(ramp(20, 20), InputSpec(64, "float32", "NHWC", "cover"))[0]
    assert np.abs(np.diff(found, axis=0)).max() < 6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 0}, "not a whole number of pixels >= 1"),
        ({"size": 2.0}, "not a whole number of pixels >= 1"),
        ({"size": True}, "not a whole number of pixels >= 1"),
        ({"size": 10**6}, "above the 8192 pixels allowed"),
        ({"dtype": "int8"}, "input dtype 'int8' is not one of"),
        ({"layout": "CHWN"}, "input layout 'CHWN' is not one of"),
        ({"resize": "pad"}, "input resize 'pad' is not one of"),
        ({"mean": (1.0, 2.0)}, "is not three finite numbers"),
        ({"mean": (1.0, 2.0, math.nan)}, "is not three finite numbers"),
        ({"std": (1.0, 2.0, 0.0)}, "must be above 0"),
        ({"std": (1.0, 2.0, math.inf)}, "is not three finite numbers"),
        ({"scale": 0.0}, "is not a finite number above 0"),
        ({"scale": math.nan}, "is not a finite number above 0"),
        ({"dtype": "uint8", "scale": 255.0}, "a uint8 input takes pixels as they are"),
        ({"size": ()}, "not a whole number of pixels >= 1, or two"),
        ({"size": (4, 4, 4)}, "not a whole number of pixels >= 1, or two"),
        ({"size": (4, 10**6)}, "above the 8192 pixels allowed"),
        ({"resize": "fit", "pad": 256}, "is not one whole number in 0..255, or three"),
        ({"resize": "fit", "pad": (1, 2)}, "is not one whole number in 0..255, or three"),
        ({"resize": "fit", "pad": True}, "is not one whole number in 0..255, or three"),
        ({"resize": "fit", "place": "left"}, "input place 'left' is not one of"),
        ({"channels": "GBR"}, "input channels 'GBR' is not one of"),
        ({"resize": "cover", "pad": 114}, "'cover' pads nothing"),
        ({"resize": "crop", "place": "top-left"}, "'crop' pads nothing"),
    ],
)
def test_specs_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        InputSpec(**{"size": 8, **settings})


def stretched_pixels(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    down, across = weights(image.shape[0], rows), weights(image.shape[1], columns)
    scaled: np.ndarray = np.einsum("yh,xw,hwc->yxc", down, across, image.astype(np.float64))
    return scaled


@pytest.mark.parametrize(
    ("size", "place", "inside"),
    [
        (16, "centre", (2, 0, 12, 16)),  # top, left, height, width of an image of 60 x 80
        (16, "top-left", (0, 0, 12, 16)),
        ((12, 24), "centre", (0, 4, 12, 16)),
        ((24, 16), "top-left", (0, 0, 12, 16)),
        ((12, 16), "centre", (0, 0, 12, 16)),
    ],
)
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_fitted_image_keeps_its_proportions(
    size: Any, place: str, inside: tuple[int, ...], channels: str, layout: str, dtype: str
) -> None:
    image = photo(60, 80)
    spec = InputSpec(size, dtype, layout, "fit", pad=(3, 90, 200), place=place, channels=channels)
    found = preprocess(image, spec)[0]
    if layout == "NCHW":
        found = found.transpose(1, 2, 0)
    expected = np.empty((*spec.sides, 3))
    expected[...] = (3, 90, 200)
    top, left, height, width = inside
    own = stretched_pixels(image, height, width)
    expected[top : top + height, left : left + width] = own[..., :: 1 if channels == "RGB" else -1]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1.01


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_mean_and_std_are_in_the_order_of_the_channels(layout: str) -> None:
    image = photo(16, 16)
    mean, std = (100.0, 110.0, 120.0), (1.0, 2.0, 3.0)
    spec = InputSpec(16, "float32", layout, "stretch", mean, std, channels="BGR")
    expected = (image[..., ::-1].astype(np.float64) - mean) / std
    found = preprocess(image, spec)[0]
    found = found.transpose(1, 2, 0) if layout == "NCHW" else found
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("resize", ["crop", "cover", "stretch", "fit"])
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_inputs_that_are_no_squares_are_filled(
    resize: str, height: int, width: int, rows: int, columns: int
) -> None:
    spec = InputSpec((rows, columns), "uint8", "NHWC", resize)
    assert preprocess(photo(height, width), spec).shape == (1, rows, columns, 3)
    top, left, high, wide = source_box(height, width, spec)
    assert 0 <= top <= top + high <= height
    assert 0 <= left <= left + wide <= width
    if resize in ("crop", "cover") and min(high, wide) > 20:
        assert abs(high / wide - rows / columns) < 0.1 * rows / columns


def test_networks_that_see_other_padding_do_not_share_pixels() -> None:
    from adaptive.images.decoded import decode_image

    image = decode_image(photo(30, 60), 16, 10**6)
    black = image.tensor(InputSpec(16, "uint8", "NHWC", "fit"))
    grey = image.tensor(InputSpec(16, "uint8", "NHWC", "fit", pad=114))
    low = image.tensor(InputSpec(16, "uint8", "NHWC", "fit", pad=114, place="top-left"))
    assert (black[0, 0] == 0).all()
    assert (grey[0, 0] == 114).all()
    assert (low[0, -1] == 114).all()
    assert (low[0, 0] != 114).any()
