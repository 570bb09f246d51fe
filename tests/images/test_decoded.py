from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptive.candidate import InputSpec
from adaptive.features.schema import SCHEMA
from adaptive.images import decode, preprocess
from adaptive.images import decoded as decoding
from adaptive.images.decode import decode_working
from adaptive.images.decoded import decode_image

PLAIN = InputSpec(32, scale=255.0)
OTHER = replace(PLAIN, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))


def encoded(width: int, height: int, form: str = "JPEG") -> bytes:
    random = np.random.RandomState(width)
    small = Image.fromarray(random.randint(0, 256, (12, 16, 3)).astype(np.uint8))
    stream = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(stream, form)
    return stream.getvalue()


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[int]:
    """How often a function was called since, as the list's length."""
    calls: list[int] = []
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)
    return calls


def test_candidates_that_read_the_same_tensor_share_it() -> None:
    image = decode_image(encoded(300, 260), 256, 10**6)
    assert image.tensor(PLAIN) is image.tensor(InputSpec(32, scale=255.0))
    assert image.tensor(PLAIN) is not image.tensor(OTHER)


def test_candidates_that_differ_in_their_numbers_share_the_scaled_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = counted(monkeypatch, decoding, "scaled")
    image = decode_image(encoded(300, 260), 256, 10**6)
    specs = (PLAIN, OTHER, replace(PLAIN, layout="NHWC"), InputSpec(32, "uint8", "NHWC"))
    for spec in specs:
        expected = preprocess.preprocess(image.working, spec)
        before = len(calls)
        np.testing.assert_array_equal(image.tensor(spec), expected)
        assert len(calls) - before == (spec is PLAIN)
    image.tensor(replace(PLAIN, resize="stretch"))
    image.tensor(replace(PLAIN, size=40))
    assert len(calls) == 3


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(300, 260), (900, 700), (1500, 1100)])
def test_features_see_the_same_whatever_the_networks_want(size: tuple[int, int], form: str) -> None:
    data = encoded(*size, form)
    working = decode_working(data)
    assert min(working.shape[:2]) == SCHEMA.short_side
    for short in (32, 256, 300, 1000):
        image = decode_image(data, short, 10**7)
        np.testing.assert_array_equal(image.working, working)
        assert min(image.pixels.shape[:2]) >= min(short, *size)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_decoded_image_holds_no_large_image_that_no_network_sees(form: str) -> None:
    data = encoded(1500, 1100, form)
    for short in (32, 224, SCHEMA.short_side):
        image = decode_image(data, short, 10**7)
        assert image.pixels is image.working
        assert image.working.base is None or image.working.base.nbytes == image.working.nbytes
        assert image.working.nbytes == SCHEMA.short_side * 349 * 3
        assert image.finer.nbytes < 4 * image.working.nbytes
    image = decode_image(data, SCHEMA.short_side + 1, 10**7)
    assert min(image.pixels.shape[:2]) > SCHEMA.short_side


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(300, 200), (500, 375), (900, 700), (1500, 1100)])
def test_networks_see_the_same_whatever_other_networks_want(
    size: tuple[int, int], form: str
) -> None:
    data = encoded(*size, form)
    held = decode_image(data, 1000, 10**7)
    for resize in ("crop", "cover", "stretch"):
        for side in (32, 200, 224, 256 if resize != "crop" else 224):
            spec = replace(PLAIN, size=side, resize=resize)
            image = decode_image(data, preprocess.needed_short(spec), 10**7)
            np.testing.assert_array_equal(image.tensor(spec), held.tensor(spec))


@pytest.mark.parametrize("resize", ["cover", "stretch", "crop"])
@pytest.mark.parametrize(
    ("size", "part"), [((360, 640), 1), ((500, 400), 1), ((720, 1280), 2), ((1080, 1920), 4)]
)
def test_a_network_s_input_is_scaled_once(size: tuple[int, int], part: int, resize: str) -> None:
    """Not to the scale of features first, and from there by a little once more."""
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    side = 224 if resize != "crop" else 200  # 224 is cut out of the working image as it is
    spec = InputSpec(side, "uint8", "NHWC", resize)
    found = decode_image(pixels, preprocess.needed_short(spec), 10**7).tensor(spec)[0].astype(int)

    whole = Image.fromarray(pixels).reduce(part)  # as Pillow has it before it scales finely
    top, left, height, width = preprocess.source_box(whole.height, whole.width, spec)
    cut = np.asarray(whole)[top : top + height, left : left + width]
    once = cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)
    assert np.abs(found - once).max() <= 2

    box = (left, top, left + width, top + height)
    smooth = np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR, box)).astype(int)
    twice = preprocess.preprocess(SCHEMA.working(pixels), spec)[0]
    assert np.abs(found - smooth).mean() < 0.85 * np.abs(twice - smooth).mean()


def test_a_network_that_sees_much_less_is_scaled_from_the_working_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    image = decode_image(pixels, 224, 10**7)
    sides = {"cover": (32, 128), "crop": (32, 112, 224), "fit": (64,)}
    for resize, small in sides.items():
        for side in small:
            assert image.source(InputSpec(side, resize=resize)) is image.working
    assert image.source(InputSpec(129, resize="cover")) is image.finer is pixels


def test_what_is_held_for_networks_is_bounded() -> None:
    for size in ((511, 1900), (511, 40_000), (1023, 1400), (3000, 4000)):
        image = decode_image(np.zeros((*size, 3), np.uint8), 224, 10**8)
        assert image.finer.nbytes <= max(3 * decode.LARGE, image.working.nbytes)


def test_an_image_is_decoded_once_where_one_scale_serves_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cv2

    calls = counted(monkeypatch, cv2, "imdecode")
    decode_image(encoded(500, 375), 342, 10**7)
    assert len(calls) == 1
    decode_image(encoded(1500, 1100), 600, 10**7)
    assert len(calls) == 3
    loaded = counted(monkeypatch, decode, "_to_rgb")
    decode_image(encoded(1500, 1100, "PNG"), 600, 10**7)
    assert len(loaded) == 1
