"""Where in a frame of a static camera something moves: boxes by background subtraction.

finder = MovingObjects()
for frame in frames:
    boxes = finder.find(frame)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptive.checks import finite, whole
from adaptive.errors import InputError
from adaptive.opencv import cv2

#: Frames at a camera's or a clip's beginning that only teach what the background is.
WARM_UP = 10

#: A frame of which more than this share moves shows another light or place, and no object.
EVERYTHING = 0.6

#: What is added around a box, a share of its longer side on each side.
MARGIN = 0.1


class MovingObjects:
    """Boxes of what moves before a background that is learnt as it goes.

    The background is a mixture of Gaussians at each pixel (Zivkovic 2004), as OpenCV's MOG2 has
    it; shadows count as background. Frames must come in order and be of one camera; a frame of
    another size begins anew.

    Parameters
    ----------
    short : the frame is scaled down to this shorter side first, pixels
    least : smallest moving area that is an object, a share of the frame
    most : objects of a frame, the largest first

    Raises
    ------
    InputError
        when one of them is not what it is to be.
    """

    def __init__(self, short: int = 240, least: float = 0.001, most: int = 20) -> None:
        self.short = whole(short, "short", 16)
        self.least = finite(least, "least")
        self.most = whole(most, "most", 1)
        if not 0 < self.least < 1:
            raise InputError(f"least {self.least:g} is no share of the frame between 0 and 1")
        self.reset()

    def reset(self) -> None:
        """Forget the background: the camera was moved, or opened again."""
        self._model: Any = None
        self._shape: tuple[int, ...] = ()
        self._seen = 0

    def find(self, frame: np.ndarray) -> np.ndarray:
        """Boxes of the objects that move, and learn from the frame.

        Parameters
        ----------
        frame : ndarray (height, width, 3), uint8, RGB

        Returns
        -------
        ndarray (k, 4), int64: x1 y1 x2 y2 in pixels of the frame, the largest first.
        """
        if frame.shape != self._shape:
            self.reset()
            self._shape = frame.shape
            self._model = cv2.createBackgroundSubtractorMOG2(500, 16, True)
        height, width = frame.shape[:2]
        scale = min(1.0, self.short / min(height, width))
        small: Any = frame
        if scale < 1:
            sides = max(1, round(width * scale)), max(1, round(height * scale))
            small = cv2.resize(frame, sides, interpolation=cv2.INTER_AREA)
        mask = self._model.apply(small)
        self._seen += 1
        if self._seen <= WARM_UP:
            return np.empty((0, 4), np.int64)
        mask = (mask == 255).astype(np.uint8)  # shadows are 127
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
        mask = cv2.dilate(mask, kernel, iterations=2)
        if np.count_nonzero(mask) > EVERYTHING * mask.size:
            return np.empty((0, 4), np.int64)
        _, _, found, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        found = found[1:]  # the first is the background
        found = found[found[:, cv2.CC_STAT_AREA] >= self.least * mask.size]
        order = np.argsort(-found[:, cv2.CC_STAT_AREA], kind="stable")[: self.most]
        left, top, wide, tall = found[order, :4].astype(np.int64).T
        ratio = np.array([width / small.shape[1], height / small.shape[0]] * 2)
        corners = np.stack([left, top, left + wide, top + tall], axis=1) * ratio
        boxes: np.ndarray = np.rint(corners).astype(np.int64)
        return boxes


def crop_of(frame: np.ndarray, box: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """What a network is shown of an object: its box and some of what is around it.

    The part is a square where the frame has room for one, since most networks read a square.

    Parameters
    ----------
    frame : ndarray (height, width, 3), uint8
    box : x1 y1 x2 y2 in pixels of the frame

    Returns
    -------
    ndarray (height, width, 3), uint8, a copy of at least one pixel.
    """
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = (float(side) for side in box)
    side = max(x2 - x1, y2 - y1, 1.0) * (1 + 2 * margin)
    wide, tall = min(round(side), width), min(round(side), height)
    left = int(np.clip(round((x1 + x2 - wide) / 2), 0, width - wide))
    top = int(np.clip(round((y1 + y2 - tall) / 2), 0, height - tall))
    return np.array(frame[top : top + max(tall, 1), left : left + max(wide, 1)])
