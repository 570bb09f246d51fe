from __future__ import annotations

import weakref

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.images.decoded import DecodedImage, decode_image
from adaptive.policy.history import Output
from adaptive.routing.photo import Photo

PIXELS = np.random.default_rng(0).integers(0, 256, (260, 300, 3), np.uint8)


def test_an_answered_photo_holds_no_pixels() -> None:
    image = decode_image(PIXELS, 256, 10**6)
    tensor, pixels = weakref.ref(image.tensor(InputSpec(32, scale=255.0))), weakref.ref(image)
    took = image.ms
    said, state = Output(np.ones(1), None), (np.zeros((1, 4)),)
    photo = Photo(image, {"a": 1.0}, {"a": said}, {"a": 1}, {"a": state})
    del image
    photo = photo.finished()
    assert tensor() is None
    assert pixels() is None
    assert photo.image.pixels.size == photo.image.working.size == 0
    assert photo.image.ms == took > 0
    assert photo.carried == {}
    assert photo.done["a"].confidence == 1


def test_decoding_is_not_among_what_an_answer_spent() -> None:
    photo = Photo(DecodedImage(PIXELS, PIXELS, 7.0), {"features": 2.0, "premodel": 3.0})
    assert photo.spent_ms() == 5.0


def test_held_states_are_copies_of_views_alone() -> None:
    batch = np.arange(8.0).reshape(2, 4)
    own = np.ones((1, 4))
    photo = Photo(DecodedImage(PIXELS, PIXELS), carried={"net@1": (batch[:1], own)})
    view, kept = photo.holding_own().carried["net@1"]
    assert view.base is None
    np.testing.assert_array_equal(view, batch[:1])
    assert kept is own
