from __future__ import annotations

import io
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptive.candidate import InputSpec
from adaptive.features.schema import SCHEMA
from adaptive.images import decode, preprocess
from adaptive.images.decode import decode_working
from adaptive.policy.base import Output
from adaptive.routing.photo import Photo, open_photo

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
    photo = open_photo(encoded(300, 260), 256, 10**6)
    assert photo.tensor(PLAIN) is photo.tensor(InputSpec(32, scale=255.0))
    assert photo.tensor(PLAIN) is not photo.tensor(OTHER)


def test_candidates_that_differ_in_their_numbers_share_the_scaled_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = counted(monkeypatch, preprocess, "scaled")
    photo = open_photo(encoded(300, 260), 256, 10**6)
    specs = (PLAIN, OTHER, replace(PLAIN, layout="NHWC"), InputSpec(32, "uint8", "NHWC"))
    for spec in specs:
        expected = preprocess.normalised(preprocess.scaled(photo.working, spec), spec)
        before = len(calls)
        np.testing.assert_array_equal(photo.tensor(spec), expected)
        assert len(calls) - before == (spec is PLAIN)
    photo.tensor(replace(PLAIN, resize="stretch"))
    photo.tensor(replace(PLAIN, size=40))
    assert len(calls) == len(specs) + 3


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(300, 260), (900, 700), (1500, 1100)])
def test_features_see_the_same_whatever_the_networks_want(size: tuple[int, int], form: str) -> None:
    data = encoded(*size, form)
    working = decode_working(data)
    assert min(working.shape[:2]) == SCHEMA.short_side
    for short in (32, 256, 300, 1000):
        photo = open_photo(data, short, 10**7)
        np.testing.assert_array_equal(photo.working, working)
        assert min(photo.image.shape[:2]) >= min(short, *size)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_photo_holds_no_large_image_that_no_network_sees(form: str) -> None:
    data = encoded(1500, 1100, form)
    for short in (32, 224, SCHEMA.short_side):
        photo = open_photo(data, short, 10**7)
        assert photo.image is photo.working
        assert photo.working.base is None or photo.working.base.nbytes == photo.working.nbytes
        assert photo.working.nbytes == SCHEMA.short_side * 349 * 3
    photo = open_photo(data, SCHEMA.short_side + 1, 10**7)
    assert min(photo.image.shape[:2]) > SCHEMA.short_side


@pytest.mark.parametrize("size", [(300, 200), (500, 375), (900, 700), (1500, 1100)])
def test_networks_see_the_same_whether_the_large_image_is_held_or_not(
    size: tuple[int, int],
) -> None:
    data = encoded(*size, "PNG")
    held = Photo(decode.decode(data), decode_working(data))
    for resize in ("crop", "cover", "stretch"):
        for side in (32, 224, 256):
            spec = replace(PLAIN, size=side, resize=resize)
            photo = open_photo(data, preprocess.needed_short(spec), 10**7)
            np.testing.assert_array_equal(photo.tensor(spec), held.tensor(spec))


def test_an_image_is_decoded_once_where_one_scale_serves_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cv2

    calls = counted(monkeypatch, cv2, "imdecode")
    open_photo(encoded(500, 375), 342, 10**7)
    assert len(calls) == 1
    open_photo(encoded(1500, 1100), 600, 10**7)
    assert len(calls) == 3
    loaded = counted(monkeypatch, decode, "_to_rgb")
    open_photo(encoded(1500, 1100, "PNG"), 600, 10**7)
    assert len(loaded) == 1


def test_an_answered_photo_holds_no_pixels() -> None:
    photo = open_photo(encoded(300, 260), 256, 10**6)
    tensor = weakref.ref(photo.tensor(PLAIN))
    pixels = weakref.ref(photo.pixels)
    photo = photo.answered("a", Output(np.ones(1), None), (np.zeros((1, 4)),), 1.0).finished()
    assert tensor() is None
    assert pixels() is None
    assert photo.image.size == photo.working.size == 0
    assert photo.carried == {}
    assert photo.done["a"].confidence == 1


def test_what_is_found_out_leaves_a_photo_as_it_was() -> None:
    photo = open_photo(encoded(300, 260), 256, 10**6)
    before = dict(photo.ms)
    state = (np.zeros((1, 4)),)
    later = photo.timed("premodel", 2.0).described(np.ones(3), 3.0)
    later = later.run_through("net@1", state, 4.0).answered("net@2", Output(np.ones(1)), (), 5.0)
    assert photo.ms == before
    assert photo.features is None
    assert (photo.done, photo.carried, photo.passed) == ({}, {}, ())
    steps = {"premodel": 2.0, "features": 3.0, "net@1:through": 4.0, "net@2": 5.0}
    assert later.ms == {**before, **steps}
    assert later.passed == ("net@1",)
    assert later.carried == {"net@1": state, "net@2": ()}
    assert later.spent_ms() == 14.0
