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
from adaptive.images.decoded import DecodedImage, decode_image

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
    image = decode_image(data, SCHEMA.short_side + 1, 10**7)
    assert min(image.pixels.shape[:2]) > SCHEMA.short_side


@pytest.mark.parametrize("size", [(300, 200), (500, 375), (900, 700), (1500, 1100)])
def test_networks_see_the_same_whether_the_large_image_is_held_or_not(
    size: tuple[int, int],
) -> None:
    data = encoded(*size, "PNG")
    held = DecodedImage(decode.decode(data), decode_working(data))
    for resize in ("crop", "cover", "stretch"):
        for side in (32, 224, 256):
            spec = replace(PLAIN, size=side, resize=resize)
            image = decode_image(data, preprocess.needed_short(spec), 10**7)
            np.testing.assert_array_equal(image.tensor(spec), held.tensor(spec))


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
