"""Objects of one class that look alike, in one pass: each joins the nearest, or begins one.

The leader algorithm (Hartigan 1975, ch. 3), within each class as Focus has it (Hsieh et al. 2018):
a cluster is what lies within a distance of its first object, its centroid here, which never moves.
So what a strong network says of that one object is said of things that look like it, and all that
is ever written of a centroid is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List

import numpy as np

from adaptive.checks import finite, whole
from adaptive.errors import InputError

#: Clusters of a class, and of all classes, that objects may still join; older ones are complete.
PER_CLASS, MOST = 100, 4096


@dataclass
class Cluster:
    """One cluster that objects may join.

    Attributes
    ----------
    number : its own, never given again
    kind : index of its class
    centroid : row of its centroid's features in the index
    used : when an object joined it last, counted in objects
    """

    number: int
    kind: int
    centroid: int
    used: int


class Clusters:
    """The clusters that objects may still join, in bounded memory.

    Parameters
    ----------
    width : numbers of an object's features
    threshold : largest distance of an object from the centroid of its cluster: Euclid's over the
        root of two, which is Hellinger's, 0..1, where features are roots of probabilities
    per_class, most : clusters of one class, and of all; the least recently joined leave first

    Raises
    ------
    InputError
        when one of them is not what it is to be.
    """

    def __init__(
        self, width: int, threshold: float, per_class: int = PER_CLASS, most: int = MOST
    ) -> None:
        self.threshold = finite(threshold, "threshold")
        if self.threshold < 0:
            raise InputError(f"threshold {self.threshold:g} is no distance >= 0")
        self.per_class = whole(per_class, "per_class", 1)
        self.most = whole(most, "most", 1)
        self._rows = np.zeros((64, whole(width, "width", 1)), np.float32)
        self._free = list(range(63, -1, -1))
        self._places: Dict[int, int] = {}  # centroid -> its row here
        self._users: Dict[int, int] = {}  # centroid -> clusters that have it
        self._kinds: Dict[int, List[Cluster]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def nearest(self, kind: int, features: np.ndarray) -> Cluster | None:
        """The cluster of a class that an object with these features joins, or None.

        features : ndarray (width,), float32
        """
        known = self._kinds.get(kind)
        if not known:
            return None
        rows = self._rows[[self._places[cluster.centroid] for cluster in known]]
        rows -= features
        apart = np.einsum("ij,ij->i", rows, rows) / 2
        best = int(np.argmin(apart))
        return known[best] if apart[best] <= self.threshold**2 else None

    def add(self, cluster: Cluster, features: np.ndarray) -> None:
        """Let objects join one more cluster, whose centroid has these features."""
        known = self._kinds.setdefault(cluster.kind, [])
        if len(known) >= self.per_class:
            self._leave(min(known, key=_used))
        elif self._count >= self.most:
            self._leave(min((c for of in self._kinds.values() for c in of), key=_used))
        if cluster.centroid not in self._places:
            if not self._free:
                old = len(self._rows)
                self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
                self._free = list(range(2 * old - 1, old - 1, -1))
            place = self._places[cluster.centroid] = self._free.pop()
            self._rows[place] = features
        self._users[cluster.centroid] = self._users.get(cluster.centroid, 0) + 1
        self._kinds.setdefault(cluster.kind, []).append(cluster)
        self._count += 1

    def forget(self, numbers: Iterable[int]) -> None:
        """Let nothing more join the clusters of these numbers."""
        gone = set(numbers)
        for known in list(self._kinds.values()):
            for cluster in [c for c in known if c.number in gone]:
                self._leave(cluster)

    def _leave(self, cluster: Cluster) -> None:
        known = self._kinds[cluster.kind]
        known.remove(cluster)
        if not known:
            del self._kinds[cluster.kind]
        self._count -= 1
        self._users[cluster.centroid] -= 1
        if not self._users[cluster.centroid]:
            del self._users[cluster.centroid]
            self._free.append(self._places.pop(cluster.centroid))


def _used(cluster: Cluster) -> int:
    return cluster.used
