"""What is compared of a frame: the part that networks see, at about their scale."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.candidate import InputSpec
from adaptive.images.pixels import Pixels
from adaptive.video.view import View

CROP, COVER = InputSpec(224), InputSpec(224, resize="cover")
FIT = InputSpec(416, resize="fit")


@pytest.mark.parametrize(
    ("inputs", "size", "part"),
    [
        ([COVER], (360, 640), (0, 140, 360, 360, 1)),
        ([CROP], (360, 640), (22, 162, 315, 315, 1)),
        ([COVER], (240, 320), (0, 40, 240, 240, 0)),  # 120 is too much less than 224
        ([CROP, COVER], (360, 640), (0, 140, 360, 360, 1)),
        ([FIT], (360, 640), (0, 0, 360, 640, 1)),  # of which it sees 416x234,
        ([COVER], (1080, 1920), (0, 420, 1080, 1080, 2)),
        ([InputSpec(32, resize="cover")], (1080, 1920), (0, 420, 1080, 1080, 3)),
        ([Pixels()], (360, 640), (0, 0, 360, 640, 1)),
        ([], (360, 640), (0, 0, 360, 640, 1)),
        ([COVER], (20, 30), (0, 5, 20, 20, 0)),
    ],
)
def test_the_part_is_what_networks_see(inputs: list, size: tuple, part: tuple) -> None:
    assert View.of(inputs).part(*size) == part


def test_features_see_the_whole_frame() -> None:
    assert View.of([COVER], whole=True).part(360, 640) == (0, 0, 360, 640, 1)


def test_a_picture_is_the_mean_of_four_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (361, 641, 3), np.uint8)
    view = View.of([COVER])
    top, left, height, width, halvings = view.part(361, 641)
    assert halvings == 1
    part = frame[top : top + height, left : left + width][:360, :360].astype(int)
    means = part.reshape(180, 2, 180, 2, 3).mean(axis=(1, 3))
    assert np.abs(view.picture(frame).astype(int) - means).max() <= 0.5


def test_a_picture_shares_nothing_with_its_frame() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    kept = View.of([COVER]).picture(frame)
    frame[:] = 9  # a caller may reuse its buffer
    assert kept.max() == 0
