"""What looks at frames for an index: moving objects one by one, or detectors at whole frames."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Protocol, Sequence

import numpy as np

from adaptive.checks import finite, whole
from adaptive.opencv import cv2
from adaptive.tasks.boxes import ious
from adaptive.tasks.detections import Detections
from adaptive.video.index import BOXES, MOVING
from adaptive.video.objects import MovingObjects, crop_of
from adaptive.video.seen import LONGEST, SeenObject

#: Asks candidates: crops to the probabilities of each candidate, ndarray (crops, classes).
Asked = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

#: Asks detectors: a frame to all boxes of each, surest or not.
Detected = Callable[[np.ndarray], Sequence[Detections]]

#: Boxes that overlap by this much are one object.
SAME = 0.5

#: Side of the small grey picture among a box's features, and how far each kind of features counts.
SIDE = 4
PLACE, SIZE, SCORE, LIGHT = 1.0, 0.25, 0.25, 0.05


class Waiting(NamedTuple):
    """What was found in a frame, before it is filed.

    boxes : ndarray (k, 4), pixels of the frame
    pictures : of each object
    inside : of each, its box in its picture
    objects : of each, where nothing more is to be asked
    """

    boxes: np.ndarray
    pictures: Sequence[np.ndarray]
    inside: np.ndarray
    objects: Sequence[SeenObject] = ()

    @property
    def bytes(self) -> int:
        """Memory of the pictures."""
        return sum({id(picture): picture.nbytes for picture in self.pictures}.values())


class Looker(Protocol):
    """What finds a frame's objects, and says what they may be.

    Attributes
    ----------
    objects : "moving" or "boxes"
    width : numbers of an object's features
    k : classes of an object that each candidate names, or all together
    """

    objects: str
    width: int
    k: int

    def restart(self) -> None:
        """Frames begin, or begin anew."""

    def see(self, image: np.ndarray, passes: bool) -> Waiting | None:
        """Look at the next frame; what is found, where the gate lets it through."""

    def finish(self, waiting: Sequence[Waiting]) -> List[Sequence[SeenObject]]:
        """Ask what is to be asked about what waits, all at once."""


class MovingLooker:
    """Finds what moves before a background, and asks classifiers about each.

    Features are the roots of the last classifier's probabilities.

    Parameters
    ----------
    asked : the classifiers
    classes : how many they know
    k : likeliest classes that each of them names
    finder : finds what moves
    """

    objects = MOVING

    def __init__(
        self, asked: Asked, classes: int, k: int = 4, finder: MovingObjects | None = None
    ) -> None:
        self.asked = asked
        self.width = whole(classes, "classes", 2)
        self.k = whole(k, "k", 1)
        self.finder = MovingObjects() if finder is None else finder

    def restart(self) -> None:
        """Forget the background."""
        self.finder.reset()

    def see(self, image: np.ndarray, passes: bool) -> Waiting | None:
        """Find what moves; the background is learnt from every frame."""
        boxes = self.finder.find(image)
        if not passes:
            return None
        crops = [crop_of(image, box) for box in boxes]
        inside = [[0, 0, crop.shape[1], crop.shape[0]] for crop in crops]
        return Waiting(boxes, crops, np.array(inside, np.int64).reshape(-1, 4))

    def finish(self, waiting: Sequence[Waiting]) -> List[Sequence[SeenObject]]:
        """Ask the classifiers about all objects together."""
        crops = [crop for one in waiting for crop in one.pictures]
        if not crops:
            return [()] * len(waiting)
        answers = self.asked(crops)
        kinds = [
            list(dict.fromkeys(kind for row in rows for kind in row.tolist()))
            for rows in zip(*(likeliest(answer, self.k) for answer in answers))
        ]
        features = stored(np.sqrt(answers[-1]))
        found: List[Sequence[SeenObject]] = []
        place = 0
        for one in waiting:
            found.append(
                [
                    SeenObject(box, kinds[place + n], features[place + n], crop, inside)
                    for n, (box, crop, inside) in enumerate(
                        zip(one.boxes, one.pictures, one.inside)
                    )
                ]
            )
            place += len(one.boxes)
        return found


class BoxLooker:
    """Has cheap detectors look at whole frames; their boxes are the objects.

    Boxes of one place are one object, which may be of all their classes. Its features are where
    and how large it is, how sure the surest box is, and a small grey picture of it: a strong
    detector says the same of what looks the same at the same place.

    Parameters
    ----------
    detected : the cheap detectors
    least : score from which a box is an object
    k : classes of one object, at most
    """

    objects = BOXES
    width = 5 + SIDE * SIDE

    def __init__(self, detected: Detected, least: float = 0.1, k: int = 2) -> None:
        self.detected = detected
        self.least = finite(least, "least")
        self.k = whole(k, "k", 1)

    def restart(self) -> None:
        """Nothing is remembered between frames."""

    def see(self, image: np.ndarray, passes: bool) -> Waiting | None:
        """Ask the detectors."""
        if not passes:
            return None
        found = [own.above(self.least) for own in self.detected(image)]
        firsts, kinds = united(found, self.k)
        boxes = np.concatenate([own.boxes for own in found])[firsts]
        scores = np.concatenate([own.scores for own in found])[firsts]
        if not len(boxes):
            return Waiting(boxes, (), boxes)
        height, width = image.shape[:2]
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        features = box_features(grey, boxes, scores)
        scale = min(1.0, LONGEST / max(height, width))
        small = image
        if scale < 1:
            sides = max(1, round(width * scale)), max(1, round(height * scale))
            small = np.asarray(cv2.resize(image, sides, interpolation=cv2.INTER_AREA))
        inside = np.rint(boxes * scale).astype(np.int64)
        whole_boxes = np.rint(boxes).astype(np.int64)
        objects = [
            SeenObject(box, own, row, small, its)
            for box, own, row, its in zip(whole_boxes, kinds, features, inside)
        ]
        return Waiting(whole_boxes, [small] * len(objects), inside, objects)

    def finish(self, waiting: Sequence[Waiting]) -> List[Sequence[SeenObject]]:
        """Nothing more is to be asked."""
        return [one.objects for one in waiting]


def likeliest(probabilities: np.ndarray, k: int) -> np.ndarray:
    """The k likeliest classes of each row, best first, ndarray (n, k); of equals the first."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


def stored(features: np.ndarray) -> np.ndarray:
    """Features as they are stored, in 16 bits, so that an index that goes on compares the same."""
    return np.asarray(features.astype(np.float16).astype(np.float32))


def united(found: Sequence[Detections], k: int) -> tuple[np.ndarray, List[List[int]]]:
    """Boxes of one place as one object: its surest box, and its classes.

    Returns
    -------
    ndarray (n,): for each object, surest first, the place of its surest box among all boxes, those
    of the first detector before those of the next; and for each up to k classes, surest first
    """
    boxes = np.concatenate([own.boxes for own in found])
    scores = np.concatenate([own.scores for own in found])
    kinds = np.concatenate([own.classes for own in found])
    order = np.argsort(-scores, kind="stable")
    alike = ious(boxes, boxes) >= SAME
    firsts: List[int] = []
    classes: List[List[int]] = []
    owner = np.full(len(boxes), -1)
    for place in order.tolist():
        kind, of = int(kinds[place]), int(owner[place])
        if of < 0:
            owner[alike[place] & (owner < 0)] = len(firsts)
            firsts.append(place)
            classes.append([kind])
        elif kind not in classes[of] and len(classes[of]) < k:
            classes[of].append(kind)
    return np.array(firsts, np.int64), classes


def box_features(grey: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Where and how large boxes are, how sure, and how they look.

    Parameters
    ----------
    grey : ndarray (height, width), uint8, the frame
    boxes : ndarray (n, 4), pixels of the frame
    scores : ndarray (n,)

    Returns
    -------
    ndarray (n, 5 + SIDE * SIDE), float32
    """
    height, width = grey.shape
    features = np.zeros((len(boxes), 5 + SIDE * SIDE), np.float32)
    low, high = boxes[:, :2], boxes[:, 2:]
    frame = np.array([width, height], np.float32)
    features[:, :2] = PLACE * (low + high) / 2 / frame
    features[:, 2:4] = SIZE * np.log(np.maximum(high - low, 1) / frame)
    features[:, 4] = SCORE * scores
    for row, (x1, y1, x2, y2) in zip(features, np.rint(boxes).astype(int).tolist()):
        part = grey[max(y1, 0) : max(y2, y1 + 1, 1), max(x1, 0) : max(x2, x1 + 1, 1)]
        if part.size:
            small = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(-1)
            own = small.astype(np.float32)
            row[5:] = LIGHT * (own - own.mean()) / (own.std() + 16)
    return stored(features)
