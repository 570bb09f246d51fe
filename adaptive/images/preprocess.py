"""An RGB image to the tensor that a candidate's manifest entry asks for."""

from __future__ import annotations

import numpy as np

from adaptive.candidate import InputSpec

#: Share of the scaled short side that the usual evaluation crop keeps (224 of 256).
CROP_SHARE = 0.875


def needed_short(spec: InputSpec) -> int:
    """Short side that an image should have so that `spec` need not enlarge it, pixels."""
    return round(spec.size / CROP_SHARE) if spec.resize == "crop" else spec.size


def source_box(height: int, width: int, spec: InputSpec) -> tuple[int, int, int, int]:
    """The part (top, left, height, width) of an image that becomes the network's input.

    It is cut out first and scaled afterwards: the same pixels as scaling first, for less work.
    """
    if spec.resize == "stretch":
        return 0, 0, height, width
    short = side = min(height, width)
    if spec.resize == "crop":
        full = needed_short(spec)
        # Between the two sizes nothing is scaled: a 227 pixel image gives its middle 224.
        side = spec.size if spec.size <= short <= full else round(spec.size * short / full)
        side = max(1, min(side, short))
    return (height - side) // 2, (width - side) // 2, side, side


def preprocess(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Cut, scale and normalise one image.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8, RGB

    Returns
    -------
    ndarray of shape (1, size, size, 3) or (1, 3, size, size), of the dtype that `spec` names.
        Where the image shrinks, areas are averaged; where it grows, it is interpolated
        linearly.
    """
    return normalised(scaled(image, spec), spec)


def scaled(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The pixels that a network sees, (size, size, 3), uint8, RGB; a view where nothing changes.

    They depend on the size and the resize of `spec` alone.
    """
    top, left, height, width = source_box(image.shape[0], image.shape[1], spec)
    cut = image[top : top + height, left : left + width]
    if (height, width) == (spec.size, spec.size):
        return cut
    from adaptive.opencv import cv2

    shrinks = min(height, width) >= spec.size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(cut, (spec.size, spec.size), interpolation=method)


def normalised(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Pixels, (size, size, 3), uint8, RGB, as the tensor of shape (1, ...) that `spec` asks for."""
    if spec.dtype == "uint8":
        tensor = pixels.transpose(2, 0, 1) if spec.layout == "NCHW" else pixels
        return np.ascontiguousarray(tensor[np.newaxis])
    multiply, add = _affine(spec)
    # whole planes or rows at once: numpy is many times slower along an axis of three
    if spec.layout == "NCHW":
        from adaptive.opencv import cv2

        tensor = np.empty((1, 3, *pixels.shape[:2]), np.float32)
        for plane, channel, factor, offset in zip(cv2.split(pixels), tensor[0], multiply, add):
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
