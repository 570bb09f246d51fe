"""Boxes in a network's input find their way back to the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.candidate import InputSpec
from adaptive.errors import InputError
from adaptive.images.preprocess import source_box
from adaptive.tasks.placement import (
    Rectangle,
    cropped,
    fitted,
    shortened,
    stretched,
)

sides = st.integers(1, 3000)
sizes = st.tuples(sides, sides)


def test_fit_to_the_top_left_leaves_padding_right_or_below() -> None:
    placed = fitted((480, 640), (416, 416), "top-left")
    assert placed.target == Rectangle(0, 0, 416, 312)
    assert placed.undo(np.array([[0, 0, 416, 312]])).tolist() == [[0, 0, 640, 480]]


def test_fit_in_the_middle_leaves_padding_on_two_sides() -> None:
    placed = fitted((480, 640), (320, 320))
    assert placed.target == Rectangle(0, 40, 320, 240)
    assert placed.undo(np.array([[32, 40, 160, 160]])).tolist() == [[64, 0, 320, 240]]


def test_fit_into_an_input_that_is_no_square() -> None:
    assert fitted((100, 100), (240, 320)).target == Rectangle(40, 0, 240, 240)


def test_stretch_scales_the_two_sides_alone() -> None:
    placed = stretched((200, 400), (100, 100))
    assert placed.undo(np.array([[10, 10, 50, 50]])).tolist() == [[40, 20, 200, 100]]


def test_crop_moves_boxes_by_what_was_cut_off() -> None:
    placed = cropped((200, 400), (100, 100))
    assert placed.source == Rectangle(100, 0, 200, 200)
    assert placed.undo(np.array([[0, 0, 100, 50]])).tolist() == [[100, 0, 300, 100]]


def test_the_short_side_decides_unless_the_long_one_grows_too_long() -> None:
    assert shortened((480, 640), 800, 1333).target == Rectangle(0, 0, 1067, 800)
    assert shortened((300, 1000), 800, 1333).target == Rectangle(0, 0, 1333, 400)


@given(sizes, st.integers(1, 900))
def test_crop_cuts_as_preprocessing_does(size: tuple[int, int], side: int) -> None:
    top, left, height, width = source_box(*size, InputSpec(side, resize="cover"))
    assert cropped(size, (side, side)).source == Rectangle(left, top, width, height)


@given(sizes, sizes, st.sampled_from(["centre", "top-left", "stretch", "crop"]))
def test_undo_undoes_apply(image: tuple[int, int], size: tuple[int, int], how: str) -> None:
    if how == "stretch":
        placed = stretched(image, size)
    elif how == "crop":
        placed = cropped(image, size, 0.875)
    else:
        placed = fitted(image, size, how)
    target = placed.target
    assert 0 <= target.left <= target.left + target.width <= size[1]
    assert 0 <= target.top <= target.top + target.height <= size[0]
    boxes = np.array([[0.0, 0.0, image[1], image[0]], [1.5, 0.25, 2.5, 7.0]])
    assert np.allclose(placed.undo(placed.apply(boxes)), boxes, atol=1e-6)


def test_sizes_and_places_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(InputError, match="0x5 pixels"):
        stretched((5, 0), (10, 10))
    with pytest.raises(InputError, match="'centre', 'top-left'"):
        fitted((5, 5), (10, 10), "middle")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="share"):
        cropped((5, 5), (10, 10), 1.5)
