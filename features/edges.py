"""The edges: how long they are, which way they run, and the object that the longest outlines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Tuple

import numpy as np

from adaptive.features.catalogue import BINS, LENGTH_ENDS
from adaptive.opencv import cv2

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Canny's hysteresis: |dx| + |dy| of Sobel above HIGH starts an edge, above LOW continues it.
LOW, HIGH = 100, 200

Gradient = Tuple["NDArray[np.int16]", "NDArray[np.int16]"]
_NONE = [0.0] * BINS
_ENDS = np.array(LENGTH_ENDS)
#: Bounds of the bins of angle as tangents, rising. The first and the last stretch are the middle
#: bin, since the tangent leaps from +inf to -inf at a right angle.
_TURNS = [math.tan(sevenths * math.pi / BINS) for sevenths in (4, 5, 6, 0, 1, 2, 3)]


class EdgeLines(NamedTuple):
    """Every edge of an edge map.

    Attributes
    ----------
    labels : ndarray of shape (height, width), int32: the number of each pixel's edge, 0 = none
    at : ndarray, the same numbers for the edge pixels alone, in reading order
    sizes : ndarray, pixels of each edge by its number; sizes[0] is 0
    """

    labels: NDArray[np.int32]
    at: NDArray[np.int32]
    sizes: NDArray[np.intp]


def gradient(luma: NDArray[np.uint8]) -> Gradient:
    """Sobel's 3x3 derivatives to the right and downwards, borders replicated."""
    derivatives: Any = cv2.spatialGradient(luma, borderType=cv2.BORDER_REPLICATE)
    dx, dy = derivatives
    return dx, dy


def edges(derivatives: Gradient) -> NDArray[np.uint8]:
    """Canny's edge map (Canny 1986), 255 on edges: L1 magnitude, hysteresis 100 and 200."""
    edge_map: Any = cv2.Canny(*derivatives, LOW, HIGH)
    return edge_map  # type: ignore[no-any-return]


def edge_pixels(edge_map: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Flat positions of the edge pixels, in reading order."""
    return np.flatnonzero(edge_map != 0)


def lines(edge_map: NDArray[np.uint8], positions: NDArray[np.intp]) -> EdgeLines:
    """Tell the edges apart: one edge is one 8-connected set of edge pixels."""
    # with few edges, as here, Wu's algorithm is quicker than the default
    labels: Any = cv2.connectedComponentsWithAlgorithm(edge_map, 8, cv2.CV_32S, cv2.CCL_WU)[1]
    at = labels.ravel().take(positions)
    return EdgeLines(labels, at, np.bincount(at, minlength=1))


def edge_length(found: EdgeLines) -> list[float]:
    """Share of the edges in each of seven bins of length, 0..1 each; zeros without edges.

    An edge's length is its number of pixels, and the bins are 1-3, 4-7, 8-15, 16-31, 32-63,
    64-127 and 128 pixels or more. (The arc length of its contour would run along both sides of
    a line and take three times as long.)
    """
    count = found.sizes.size - 1
    if not count:
        return _NONE
    bins = _ENDS.searchsorted(found.sizes[1:], side="right")
    return [share / count for share in np.bincount(bins, minlength=BINS).tolist()]


def edge_angle(derivatives: Gradient, positions: NDArray[np.intp]) -> list[float]:
    """Share of the edge pixels in each of seven bins of angle, 0..1 each; zeros without edges.

    The angle is that of the edge, at right angles to Sobel's gradient, anticlockwise from the
    horizontal: [0, 180) degrees in seven equal bins, every pixel counting the same.
    """
    count = positions.size
    if not count:
        return _NONE
    dx, dy = (derivative.ravel().take(positions) for derivative in derivatives)
    with np.errstate(divide="ignore"):
        tangents = np.divide(dx, dy, dtype=np.float32)
    # Ratios of whole numbers this small come nowhere near a bound but 0: rounding is harmless.
    below = [0, *(int(np.count_nonzero(tangents < turn)) for turn in _TURNS), count]
    rising = [high - low for low, high in zip(below, below[1:])]
    counts = [*rising[4:7], rising[7] + rising[0], *rising[1:4]]
    return [share / count for share in counts]


def main_object(found: EdgeLines, positions: NDArray[np.intp]) -> tuple[float, float]:
    """Area by perimeter (pixels) and aspect ratio of the main object; zeros without edges.

    The main object is what the edge with the most pixels outlines; of equals, the one met first
    in reading order. Area and perimeter are those of the convex hull of the edge's pixel
    centres, because an edge map's outlines have gaps: one missing pixel would turn the enclosed
    area into nothing. A straight edge has 0. The aspect ratio is width / height of the upright
    box around its pixels.
    """
    if not positions.size:
        return 0.0, 0.0
    label = int(found.sizes.argmax())
    equal = found.sizes == found.sizes[label]
    if np.count_nonzero(equal) > 1:
        label = int(found.at[equal[found.at].argmax()])
    of_object = positions[found.at == label].astype(np.int32)
    width = found.labels.shape[1]
    rows = of_object // width
    # the ends of each row have the same hull and box as all pixels, and are few
    ends = np.ones(of_object.size, np.bool_)
    ends[1:-1] = (rows[1:-1] != rows[:-2]) | (rows[1:-1] != rows[2:])
    rows = rows[ends]
    points = np.empty((rows.size, 2), np.int32)
    points[:, 0] = of_object[ends] - rows * width
    points[:, 1] = rows
    hull = cv2.convexHull(points)
    _, _, width, height = cv2.boundingRect(hull)
    perimeter = cv2.arcLength(hull, True)
    return (cv2.contourArea(hull) / perimeter if perimeter else 0.0), width / height
