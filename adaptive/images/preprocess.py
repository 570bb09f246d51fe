"""An RGB image to the tensor that a candidate's manifest entry asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adaptive.candidate import InputSpec

if TYPE_CHECKING:
    from adaptive.tasks.placement import Placement

#: Share of the scaled short side that the usual evaluation crop keeps (224 of 256).
CROP_SHARE = 0.875


def needed_short(spec: InputSpec) -> int:
    """Short side that an image should have so that `spec` need not enlarge it, pixels."""
    side = max(spec.sides)
    return round(side / CROP_SHARE) if spec.resize == "crop" else side


def source_box(height: int, width: int, spec: InputSpec) -> tuple[int, int, int, int]:
    """The part (top, left, height, width) of an image that becomes the network's input.

    It is cut out first and scaled afterwards: the same pixels as scaling first, for less work.
    Where the input is no square, the part has its proportions.
    """
    if spec.resize in ("stretch", "fit"):
        return 0, 0, height, width
    rows, columns = spec.sides
    least = min(rows, columns)
    # as many pixels of the image as the input's short side is to see
    short = side = min(height * least / rows, width * least / columns)
    if spec.resize == "crop":
        full = round(least / CROP_SHARE)
        # Between the two sizes nothing is scaled: a 227 pixel image gives its middle 224.
        side = least if least <= short <= full else round(least * short / full)
        side = max(1, min(side, short))
    tall, wide = (
        max(1, min(round(side * n / least), m)) for n, m in ((rows, height), (columns, width))
    )
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def scale_of(height: int, width: int, spec: InputSpec) -> float:
    """Pixels of a network's input, along a side, for one of an image of this size."""
    rows, columns = spec.sides
    *_, tall, wide = source_box(height, width, spec)
    both = rows / tall, columns / wide
    return min(both) if spec.resize == "fit" else max(both)


def preprocess(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Cut, scale and normalise one image.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8, RGB

    Returns
    -------
    ndarray of shape (1, height, width, 3) or (1, 3, height, width), of the dtype that `spec`
        names. Where the image shrinks, areas are averaged; where it grows, it is interpolated
        linearly.
    """
    return normalised(scaled(image, spec), spec)


def scaled(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The pixels that a network sees, (height, width, 3), uint8, RGB; a view where nothing changes.

    They depend on `spec.seen` alone.
    """
    if spec.resize == "fit":
        return _fitted(image, spec)
    top, left, height, width = source_box(image.shape[0], image.shape[1], spec)
    return _resized(image[top : top + height, left : left + width], spec.sides)


def placed(height: int, width: int, spec: InputSpec) -> Placement:
    """Where the pixels of an image of this size lie in the network's input."""
    from adaptive.tasks.placement import Placement, Rectangle, fitted

    if spec.resize == "fit":
        return fitted((height, width), spec.sides, spec.place)  # type: ignore[arg-type]
    top, left, tall, wide = source_box(height, width, spec)
    rows, columns = spec.sides
    seen = Rectangle(left, top, wide, tall)
    return Placement((height, width), seen, Rectangle(0, 0, columns, rows))


def _resized(image: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """An image at another height and width; itself where it has them."""
    height, width = image.shape[:2]
    if (height, width) == sides:
        return image
    from adaptive.opencv import cv2

    rows, columns = sides
    shrinks = height >= rows and width >= columns
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (columns, rows), interpolation=method)


def _fitted(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The whole image at its own proportions, with padding around it."""
    target = placed(image.shape[0], image.shape[1], spec).target
    inner = _resized(image, (target.height, target.width))
    if inner.shape[:2] == spec.sides:
        return inner
    pad = (spec.pad,) * 3 if isinstance(spec.pad, int) else spec.pad
    pixels = np.empty((*spec.sides, 3), np.uint8)
    pixels[...] = pad if spec.channels == "RGB" else pad[::-1]
    rows = slice(target.top, target.top + target.height)
    pixels[rows, target.left : target.left + target.width] = inner
    return pixels


def normalised(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Pixels, (height, width, 3), uint8, RGB, as the tensor (1, ...) that `spec` asks for."""
    swapped = spec.channels == "BGR"
    if swapped and (spec.layout == "NHWC" or spec.dtype == "uint8"):
        pixels = pixels[..., ::-1]
    if spec.dtype == "uint8":
        tensor = pixels.transpose(2, 0, 1) if spec.layout == "NCHW" else pixels
        return np.ascontiguousarray(tensor[np.newaxis])
    multiply, add = _affine(spec)
    # whole planes or rows at once: numpy is many times slower along an axis of three
    if spec.layout == "NCHW":
        from adaptive.opencv import cv2

        tensor = np.empty((1, 3, *pixels.shape[:2]), np.float32)
        planes = cv2.split(pixels)
        planes = planes[::-1] if swapped else planes
        for plane, channel, factor, offset in zip(planes, tensor[0], multiply, add):
            channel[...] = plane
            channel *= factor
            channel += offset
    else:
        height, width, _ = pixels.shape
        tensor = np.empty((1, height, width, 3), np.float32)
        tensor[0] = pixels
        rows = tensor.reshape(height, width * 3)
        rows *= np.tile(multiply, width)
        rows += np.tile(add, width)
    return tensor.astype(spec.dtype, copy=False)


def _affine(spec: InputSpec) -> tuple[np.ndarray, np.ndarray]:
    """(pixel / scale - mean) / std as one multiplication and one addition a channel."""
    std = np.asarray(spec.std or (1.0, 1.0, 1.0))
    mean = np.asarray(spec.mean or (0.0, 0.0, 0.0))
    multiply = 1.0 / ((spec.scale or 1.0) * std)
    return multiply.astype(np.float32), (-mean / std).astype(np.float32)
