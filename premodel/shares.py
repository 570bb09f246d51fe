"""How common each condition was among known images, with which live ones are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

import numpy as np

from adaptive.errors import InputError
from adaptive.files import Fields
from adaptive.premodel.base import Premodel

#: how a kept example begins, and how many characters it has at most
PICTURE, LONGEST_PICTURE = "data:image/jpeg;base64,", 20_000


@dataclass(frozen=True)
class ConditionShares:
    """Counts of images by condition.

    An image counts for its most probable condition alone, so that counts are whole numbers, and
    exact bounds hold for them.

    Attributes
    ----------
    looks : what each condition looks like, in words
    counts : images of each
    of : which images these are: "calibration", or the "training" images of the premodel
    """

    looks: tuple[str, ...]
    counts: tuple[int, ...]
    of: str = "calibration"

    def __post_init__(self) -> None:
        if len(self.looks) != len(self.counts) or not self.looks:
            raise InputError(f"{len(self.counts)} counts for {len(self.looks)} conditions")
        if min(self.counts) < 0 or self.images < 1:
            raise InputError(f"counts {list(self.counts)} are not of images")

    @property
    def images(self) -> int:
        """How many images were counted."""
        return sum(self.counts)

    @property
    def shares(self) -> tuple[float, ...]:
        """Each condition's share, 0..1."""
        return tuple(count / self.images for count in self.counts)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"looks": list(self.looks), "counts": list(self.counts), "of": self.of}

    def words(self) -> str:
        """Each condition with its share, in one phrase."""
        told = zip(self.shares, self.looks)
        return "; ".join(f"{100 * share:.0f}% {looks}" for share, looks in told)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> ConditionShares:
        """What `to_json` gave; InputError for anything else."""
        fields = Fields(dict(values), where)
        looks, counts = fields.get("looks", list), fields.get("counts", list)
        if not all(isinstance(look, str) for look in looks):
            raise InputError(f"{where} describes conditions by what are no texts")
        if not all(isinstance(c, int) and not isinstance(c, bool) for c in counts):
            raise InputError(f"{where} counts images by what are no whole numbers")
        return cls(tuple(looks), tuple(counts), fields.get("of", str))


def conditions_of(premodel: Premodel, X: np.ndarray) -> np.ndarray:
    """Each image's most probable condition; of equals the first. Shape (n,), int64.

    X : ndarray of shape (n, features), float64, finite
    """
    return np.asarray(premodel.posterior(X).argmax(axis=1))


def count_conditions(
    premodel: Premodel, X: np.ndarray, of: str = "calibration"
) -> ConditionShares | None:
    """Count images by condition; None without images, or where the premodel knows no conditions.

    X : ndarray of shape (n, features), float64, finite
    """
    if not premodel.conditions or not len(X):
        return None
    counts = np.bincount(conditions_of(premodel, X), minlength=premodel.conditions)
    return ConditionShares(premodel.descriptions(), tuple(counts.tolist()), of)


def surest(posterior: np.ndarray, condition: int, most: int) -> list[int]:
    """Rows of the images of a condition, those first for which it is most probable.

    posterior : ndarray (n, conditions)
    """
    rows = np.flatnonzero(posterior.argmax(axis=1) == condition)
    order = np.argsort(-posterior[rows, condition], kind="stable")[:most]
    return [int(row) for row in rows[order]]


def examples_of(premodel: Premodel) -> list[list[str]]:
    """Small pictures of each condition as data: URIs, where `adaptive train` kept some."""
    kept = premodel.training_.get("examples")
    found: list[list[str]] = []
    for condition in range(premodel.conditions):
        own = kept[condition] if isinstance(kept, list) and condition < len(kept) else []
        texts = [p for p in own if isinstance(p, str)] if isinstance(own, list) else []
        found.append([p for p in texts if p.startswith(PICTURE) and len(p) <= LONGEST_PICTURE])
    return found


def known_shares(
    premodel: Premodel | None, certificate: Mapping[str, Any] | None
) -> ConditionShares | None:
    """What a bundle says of its images' conditions: its certificate, or else its premodel.

    None where neither says anything, as in bundles of before, or where what is said is about
    other conditions than the premodel's.
    """
    if premodel is None or not premodel.conditions:
        return None
    for values in ((certificate or {}).get("conditions"), premodel.training_.get("conditions")):
        if not isinstance(values, Mapping):
            continue
        found = ConditionShares.from_json(values, "what is said of conditions")
        if found.looks == premodel.descriptions():
            return found
    return None
