"""What a candidate's answer is worth on an image: one number in 0..1, and what it is called."""

from __future__ import annotations

import re

import numpy as np

from adaptive.errors import InputError
from adaptive.intervals import Estimate, mean, share

#: Whether the class was right, and whether it was the class that the reference gives.
TOP1, AGREEMENT = "top1", "agreement"

#: F1 of boxes where the reference's stand for the true ones.
BOX_AGREEMENT = "f1_agreement"

#: Qualities by which the reference is always right.
AGREEMENTS = (AGREEMENT, BOX_AGREEMENT)

#: Qualities of classes: of averaged probabilities they are known too, from the table's labels.
OF_CLASSES = (TOP1, AGREEMENT)

#: How qualities are written in sentences and on axes; others by their own name.
_WORDS = {TOP1: "top-1", AGREEMENT: "agreement", "f1": "F1", BOX_AGREEMENT: "F1 agreement"}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def check_quality(name: str, taken: tuple[str, ...] = ()) -> str:
    """The name of a quality, which is the end of a column's name.

    Raises
    ------
    InputError
        when it is no such name, or means another column already.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"quality {name!r} is no name; letters, digits, '_' and '-' are allowed, a letter first"
        )
    if name in taken:
        raise InputError(f"quality {name!r} is the name of another column; {list(taken)} are taken")
    return name


def quality_words(name: str) -> str:
    """A quality in a sentence: "top-1", "F1"."""
    return _WORDS.get(name, name)


def is_binary(values: np.ndarray) -> bool:
    """Whether every quality is 0 or 1."""
    return values.dtype == bool or bool(np.all((values == 0) | (values == 1)))


def mean_quality(values: np.ndarray) -> Estimate:
    """The mean with its 95% interval: Wilson's where all are 0 or 1, else the normal one in 0..1.

    values : ndarray (n,), in 0..1
    """
    if is_binary(values):
        return share(values)
    found = mean(values)
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))


def right_or_wrong(quality: np.ndarray, seed: int = 0) -> np.ndarray:
    """Graded qualities as right or wrong, for what learns from right and wrong alone.

    Each image has a threshold of its own, and what reaches above it is right. Thresholds lie
    evenly in 0..1, in an order drawn by `seed`, so that the chance of being right is the expected
    quality. All candidates of an image share one: a better answer is never wrong where a worse
    one is right. Qualities of 0 and 1 stay what they are.

    Parameters
    ----------
    quality : ndarray (n, candidates), in 0..1

    Returns
    -------
    ndarray (n, candidates), uint8
    """
    if is_binary(quality):
        return quality.astype(np.uint8)
    count = len(quality)
    place = np.random.default_rng(seed).permutation(count)
    return (quality > ((place + 0.5) / count)[:, np.newaxis]).astype(np.uint8)
