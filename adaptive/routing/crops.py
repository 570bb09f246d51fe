"""Asking a router's networks about objects, as an index of video does."""

from __future__ import annotations

from typing import Callable, Collection, List, Sequence, Tuple

import numpy as np

from adaptive.bundle.outputs import require_task
from adaptive.candidate import class_output, positions
from adaptive.errors import InputError
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.routing.photo import Photo
from adaptive.routing.router import Router
from adaptive.tasks.boxes import ious
from adaptive.tasks.detections import Detections

#: Crops that run at a time.
BATCH = 32

#: Overlap from which a strong detector's box is of the object that is asked about.
SAME = 0.3


def asking(
    router: Router, names: Sequence[str], batch: int = BATCH
) -> Callable[[Sequence[np.ndarray]], List[np.ndarray]]:
    """What each of several candidates says of crops; exits of one network share what they run.

    Returns
    -------
    A function of crops, each ndarray (height, width, 3), uint8, RGB. It gives for each candidate
    the probabilities, ndarray (crops, classes), float32.

    Raises
    ------
    InputError
        when the bundle has no such candidate, or it finds boxes; while asking, where the router's
        policy never asks a candidate, so that it is not open.
    """
    bundle = router.bundle
    require_task(bundle.folder.name, bundle.task, "classify")
    positions(names, bundle.names, "the bundle")
    for name in names:
        class_output(bundle.candidate(name))
    networks = router.networks
    networks.check_open(names, [])

    def ask(crops: Sequence[np.ndarray]) -> List[np.ndarray]:
        parts: List[List[np.ndarray]] = [[] for _ in names]
        for first in range(0, len(crops), batch):
            photos = [Photo(router.decode(crop)) for crop in crops[first : first + batch]]
            for own, name in zip(parts, names):
                photos, output = networks.run(name, photos)
                assert output.probabilities is not None
                own.append(output.probabilities)
        empty = np.zeros((0, len(bundle.labels)), np.float32)
        return [np.concatenate(own or [empty]) for own in parts]

    return ask


def detecting(router: Router, names: Sequence[str]) -> Callable[[np.ndarray], List[Detections]]:
    """All boxes that each of several detectors finds in a frame, down to its own threshold.

    Raises
    ------
    InputError
        when the bundle has no such candidate, or it classifies; or the router has it not open.
    """
    bundle = router.bundle
    require_task(bundle.folder.name, bundle.task, "detect")
    positions(names, bundle.names, "the bundle")
    networks = router.networks
    networks.check_open(names, [])

    def detect(image: np.ndarray) -> List[Detections]:
        photos = [Photo(router.decode(image))]
        found: List[Detections] = []
        for name in names:
            photos, output = networks.run(name, photos)
            assert output.boxes is not None
            found.append(output.boxes[0])
        return found

    return detect


def judging(
    router: Router,
) -> Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], List[List[Collection[str]]]]:
    """What a router says of objects in pictures, by its whole policy.

    A classifier is shown each picture, which is the object. A detector is shown each picture, and
    an object is of the classes of those boxes that it overlaps by an IoU of 0.3 or more.

    Returns
    -------
    A function of pictures, and of the objects' boxes in each, ndarray (k, 4). It gives for each
    picture and object the names of its classes; none where the policy abstains.
    """

    def classify(
        pictures: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> List[List[Collection[str]]]:
        answers = router.classify_batch(pictures)
        said = [() if answer.label is None else (answer.label,) for answer in answers]
        return [[label] * len(own) for label, own in zip(said, boxes)]

    def detect(
        pictures: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> List[List[Collection[str]]]:
        found: List[List[Collection[str]]] = []
        for picture, own in zip(pictures, boxes):
            answer = router.detect(picture)
            alike = ious(own.astype(np.float32), answer.boxes) >= SAME
            labels = np.array(answer.labels, object)
            found.append([set(labels[row].tolist()) for row in alike])
        return found

    return detect if router.bundle.task == "detect" else classify


def parts_of(
    router: Router, least: float, label: str | None = None
) -> Callable[[np.ndarray], List[Tuple[np.ndarray, Tuple[int, int, int, int]]]]:
    """The boxes of a score that a detector finds, cut out, surest first.

    label : of these boxes, or None for those of any class

    Raises
    ------
    InputError
        when the detector knows no such class.
    """
    labels = router.bundle.labels
    if label is not None and label not in labels:
        raise InputError(f"the detector knows no class {label!r}; it knows {list(labels)[:20]}")

    def parts(image: np.ndarray) -> List[Tuple[np.ndarray, Tuple[int, int, int, int]]]:
        found = router.detect(image).above(least)
        if label is not None:
            found = found.only(np.array([own == label for own in found.labels], bool))
        height, width = image.shape[:2]
        cut = []
        for row in np.argsort(-found.scores, kind="stable").tolist():
            x1, y1, x2, y2 = np.rint(found.boxes[row]).astype(int).tolist()
            x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
            if x2 - x1 >= 2 and y2 - y1 >= 2:
                cut.append((np.ascontiguousarray(image[y1:y2, x1:x2]), (x1, y1, x2, y2)))
        return cut

    return parts


def naming(router: Router) -> Callable[[np.ndarray], str | None]:
    """An oracle of re-identification: a router whose classes are names; None where it abstains.

    Raises
    ------
    InputError
        when its bundle finds boxes.
    """
    require_task(router.bundle.folder.name, router.bundle.task, "classify")
    return lambda crop: router.classify(crop).label


def policy_of(names: Sequence[str]) -> Fixed | Cascade:
    """A policy under which a router opens all these candidates."""
    if len(names) == 1:
        return Fixed(tuple(names))
    return Cascade(tuple(names), thresholds=(1.0,) * (len(names) - 1))
