"""True boxes of images, in one form whatever file they came from, and what was left out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.errors import InputError, TableError

#: (width, height) of each upright image, pixels, by its name.
Sizes = Mapping[str, Tuple[int, int]]

#: What may be wrong with labels, and what was done about it.
KINDS: Dict[str, str] = {
    "unlabelled": "images without labels",
    "imageless": "labels without their image",
    "twice": "labels of an image that has others already",
    "other size": "images of another size than their labels say",
    "unreadable": "boxes that are not four finite numbers",
    "unknown class": "boxes of an unknown class",
    "no area": "boxes without area",
    "outside": "boxes that lie outside their image",
    "beyond": "boxes that reach beyond their image by more than a pixel, kept",
}

#: How far a box may reach beyond its image before it is named, pixels.
_BEYOND = 1.0


#: x1 y1 x2 y2, class, crowd, and area where a file says it.
_Box = Tuple[Sequence[float], int, bool, Optional[float]]


class Flaw(NamedTuple):
    """One thing that is wrong with labels: its kind in KINDS, and where it was found."""

    kind: str
    where: str


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """What one image really holds.

    Parameters
    ----------
    boxes : ndarray of shape (k, 4), float64, x1 y1 x2 y2 in pixels of the upright image
    classes : ndarray of shape (k,), int64, indices among the labels
    crowd : ndarray of shape (k,), bool: a region with many objects, neither hit nor missed
    area : ndarray of shape (k,), float64, square pixels: of the object where that is known, else
        of the box
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.boxes)
        for name, kind, shape in (
            ("boxes", np.float64, (count, 4)),
            ("classes", np.int64, (count,)),
            ("crowd", np.bool_, (count,)),
            ("area", np.float64, (count,)),
        ):
            array = getattr(self, name)
            if array.dtype != kind or array.shape != shape:
                raise InputError(
                    f"true {name} are {array.dtype} of the shape {array.shape}; "
                    f"{np.dtype(kind)} of the shape {shape} is needed"
                )
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.area).all()):
            raise InputError("true boxes or areas hold a number that is not finite")
        if self.classes.min(initial=0) < 0:
            raise InputError(f"true class {self.classes.min()} is below 0")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, boxes: Any, classes: Any, crowd: Any = None, area: Any = None) -> TrueBoxes:
        """From lists or arrays; without `crowd` none is one, without `area` it is the box's."""
        corners = np.array(boxes, np.float64).reshape(-1, 4)
        sides = corners[:, 2:] - corners[:, :2]
        return cls(
            corners,
            np.array(classes, np.int64),
            np.zeros(len(corners), bool) if crowd is None else np.array(crowd, bool),
            sides[:, 0] * sides[:, 1] if area is None else np.array(area, np.float64),
        )


@dataclass(frozen=True)
class BoxLabels:
    """The labels of a set of images.

    Attributes
    ----------
    labels : the names of the classes
    names : of the images; those without objects are among them
    boxes : what each of them holds
    flaws : what was wrong, each named
    """

    labels: Tuple[str, ...]
    names: Tuple[str, ...]
    boxes: Tuple[TrueBoxes, ...]
    flaws: Tuple[Flaw, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def summary(self, named: int = 3) -> List[str]:
        """A sentence for each kind of flaw: how many there are, and the first of them."""
        counts = Counter(flaw.kind for flaw in self.flaws)
        sentences = []
        for kind, meaning in KINDS.items():
            if not counts[kind]:
                continue
            first = [flaw.where for flaw in self.flaws if flaw.kind == kind][:named]
            rest = ", ..." if counts[kind] > len(first) else ""
            sentences.append(f"{counts[kind]} {meaning}: {', '.join(first)}{rest}")
        return sentences


class LabelsInProgress:
    """Collects the boxes of images while a file is read, and what is wrong with them.

    Parameters
    ----------
    labels : the names of the classes
    sizes : of the images that there are
    aliases : other names of classes, such as {"tvmonitor": "tv"}
    """

    def __init__(
        self, labels: Sequence[str], sizes: Sizes, aliases: Mapping[str, str] | None = None
    ) -> None:
        self.labels = tuple(labels)
        self.sizes = sizes
        self.flaws: List[Flaw] = []
        self._index = {name: position for position, name in enumerate(self.labels)}
        for alias, name in (aliases or {}).items():
            if name not in self._index:
                raise InputError(f"{alias!r} stands for {name!r}, which is no label")
            self._index.setdefault(alias, self._index[name])
        self._found: Dict[str, List[_Box]] = {}
        self._refused: Set[str] = set()

    def begin(self, name: str, where: str) -> bool:
        """Take up an image; False, and a flaw, where it is not there or has labels already."""
        if name in self._found:
            self.flaws.append(Flaw("twice", where))
        elif name not in self.sizes:
            self.flaws.append(Flaw("imageless", where))
        else:
            self._found[name] = []
            return True
        return False

    def same_size(self, name: str, width: object, height: object, where: str) -> bool:
        """Whether the image is of the size that its labels say; else it is left out."""
        if (width, height) == tuple(self.sizes[name]):
            return True
        real = "{}x{}".format(*self.sizes[name])
        self.flaws.append(Flaw("other size", f"{where} ({width}x{height}, really {real})"))
        del self._found[name]
        self._refused.add(name)
        return False

    def class_of(self, name: object, where: str) -> int | None:
        """A class's index by its name; None, and a flaw, where there is none."""
        found = self._index.get(name) if isinstance(name, str) else None
        if found is None:
            self.flaws.append(Flaw("unknown class", f"{where} ({name!r})"))
        return found

    def add(
        self,
        name: str,
        box: Sequence[float],
        kind: int,
        where: str,
        crowd: bool = False,
        area: float | None = None,
    ) -> None:
        """Add a box, x1 y1 x2 y2, to an image that was begun, or a flaw."""
        width, height = self.sizes[name]
        if not all(map(math.isfinite, box)):
            self.flaws.append(Flaw("unreadable", where))
            return
        x1, y1, x2, y2 = box
        if not (x2 > x1 and y2 > y1):
            self.flaws.append(Flaw("no area", where))
            return
        if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            self.flaws.append(Flaw("outside", where))
            return
        if min(x1, y1) < -_BEYOND or x2 > width + _BEYOND or y2 > height + _BEYOND:
            self.flaws.append(Flaw("beyond", where))
        self._found[name].append((box, kind, crowd, area))

    def done(self, source: str, order: Sequence[str] | None = None) -> BoxLabels:
        """All labels, with a flaw for each image that has none.

        Parameters
        ----------
        source : what was read, for errors
        order : of the images; by name where it is left out

        Raises
        ------
        TableError
            when no image has labels.
        """
        for name in self.sizes:
            if name not in self._found and name not in self._refused:
                self.flaws.append(Flaw("unlabelled", name))
        if not self._found:
            raise TableError(
                f"no image has labels in {source}; there are {len(self.sizes)} images"
                + (f", the first is {next(iter(self.sizes))!r}" if self.sizes else "")
            )
        names = sorted(self._found) if order is None else [n for n in order if n in self._found]
        return BoxLabels(
            self.labels,
            tuple(names),
            tuple(_true_boxes(self._found[name]) for name in names),
            tuple(self.flaws),
        )


def _true_boxes(found: Sequence[_Box]) -> TrueBoxes:
    own = [(b[2] - b[0]) * (b[3] - b[1]) if area is None else area for b, _, _, area in found]
    return TrueBoxes.of(
        [box for box, _, _, _ in found],
        [kind for _, kind, _, _ in found],
        [crowd for _, _, crowd, _ in found],
        own,
    )


def by_stem(sizes: Sizes, source: str) -> Dict[str, str]:
    """The images by their names without the suffix.

    Raises
    ------
    InputError
        when two of them differ in their suffix alone.
    """
    stems: Dict[str, str] = {}
    for name in sizes:
        stem = name.rpartition(".")[0] or name
        if stem in stems:
            raise InputError(
                f"{stems[stem]!r} and {name!r} would share one label file in {source}; "
                "rename one of them"
            )
        stems[stem] = name
    return stems
