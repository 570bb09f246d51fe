"""Boxes drawn on an image, each with its label and score, and a line on who found them."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from adaptive.errors import AdaptiveError
from adaptive.tasks.detections import Detections

#: Colours of classes, RGB, one after the other; all are told apart on light and on dark.
COLOURS = (
    (230, 60, 50), (40, 120, 220), (40, 160, 70), (240, 160, 20), (150, 70, 200), (0, 170, 180),
    (220, 70, 150), (140, 110, 30), (90, 100, 240), (110, 170, 20),
)  # fmt: skip


def drawn(image: np.ndarray, found: Detections) -> np.ndarray:
    """A copy of an image with the boxes on it, the surest on top.

    Parameters
    ----------
    image : ndarray of shape (height, width, 3), uint8, RGB, of the size that the boxes are in
    """
    from adaptive.opencv import cv2

    canvas = np.ascontiguousarray(image).copy()
    unit = max(0.4, min(canvas.shape[:2]) / 900)
    labels = found.labels or tuple(map(str, found.classes.tolist()))
    for row in range(len(found) - 1, -1, -1):
        colour = COLOURS[int(found.classes[row]) % len(COLOURS)]
        x1, y1, x2, y2 = (round(float(side)) for side in found.boxes[row])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, max(1, round(2 * unit)))
        _text(canvas, f"{labels[row]} {found.scores[row]:.2f}", (x1, y1), colour, unit)
    if found.path:
        who = found.candidate or "no answer"
        line = f"{who}  ({' > '.join(found.path)}, {found.ms.get('total', 0.0):.0f} ms)"
        _text(canvas, line, (0, canvas.shape[0]), (40, 40, 40), unit)
    return canvas


def encoded(image: np.ndarray) -> bytes:
    """An RGB image as the bytes of a JPEG."""
    from adaptive.opencv import cv2

    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise AdaptiveError("an image could not be written as JPEG")
    return bytes(data.tobytes())


def _text(
    canvas: np.ndarray,
    text: str,
    corner: Tuple[int, int],
    colour: Tuple[int, int, int],
    unit: float,
) -> None:
    """White text on a bar of a colour, whose lower left corner is there, or as near as it fits."""
    from adaptive.opencv import cv2

    plain = text.encode("ascii", "replace").decode()  # all that the font has
    thick = max(1, round(1.3 * unit))
    (width, height), below = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, unit, thick)
    high = height + below + 2
    left = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = max(high, min(corner[1], canvas.shape[0]))
    cv2.rectangle(canvas, (left, bottom - high), (left + width, bottom), colour, -1)
    place = (left, bottom - below)
    cv2.putText(
        canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, unit, (255, 255, 255), thick, cv2.LINE_AA
    )
