"""YOLO's text files: one an image, a line a box, in shares of the image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import List, Sequence

from adaptive.errors import InputError, TableError
from adaptive.tasks.labels import BoxLabels, Flaw, LabelsInProgress, Sizes, by_stem

#: Text files that stand beside labels and are none.
_OTHERS = ("classes.txt", "obj.names", "train.txt", "val.txt", "test.txt")


def read_yolo(folder: Path, labels: Sequence[str], sizes: Sizes) -> BoxLabels:
    """Read the true boxes from a folder of text files, images in the order of their names.

    A line is `class x y width height`: the class's index, then the centre and the sides as shares
    of the image. A line of a polygon, `class x1 y1 x2 y2 x3 y3 ...`, gives the box around it.
    `a/b.txt` belongs to the image `a/b` of any suffix; an empty file says that nothing is there.

    Raises
    ------
    InputError
        when the folder is not there, a file is not of that form, or no image has labels.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of label files")
    stems = by_stem(sizes, str(folder))
    found = LabelsInProgress(labels, sizes)
    for path in sorted(folder.rglob("*.txt")):
        name = path.relative_to(folder).as_posix()
        stem = name[: -len(".txt")]
        if path.name in _OTHERS and stem not in stems:
            continue
        if found.begin(stems.get(stem, name), name):
            for number, line in enumerate(_lines(path), 1):
                if line.strip():
                    _add(found, stems[stem], line.split(), f"{name} line {number}", folder)
    return found.done(str(folder))


def _lines(path: Path) -> List[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as exc:
        raise TableError(f"label file {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise TableError(f"label file {path} is not UTF-8 text: {exc}") from exc


def _add(
    found: LabelsInProgress, name: str, words: Sequence[str], where: str, folder: Path
) -> None:
    try:
        kind, *shares = (float(word) for word in words)
    except ValueError:
        shares, kind = [], math.nan
    if kind != kind or not (len(shares) == 4 or (len(shares) >= 6 and len(shares) % 2 == 0)):
        raise TableError(
            f"{folder}/{where}: {' '.join(words)[:60]!r} is not a class and the four numbers of a "
            "box, or the points of a polygon"
        )
    if not 0 <= kind < len(found.labels) or kind != int(kind):  # it may be infinite
        found.flaws.append(Flaw("unknown class", f"{where} ({words[0]})"))
        return
    if not all(map(math.isfinite, shares)):
        found.flaws.append(Flaw("unreadable", where))
        return
    width, height = found.sizes[name]
    if len(shares) == 4:
        x, y, across, down = shares
        box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
    else:
        box = (min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2]))
    corners = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    found.add(name, corners, int(kind), where)
