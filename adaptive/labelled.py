"""Labelled images on disk: a folder a class, or a CSV with the columns image and label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from adaptive.csvfile import read_csv
from adaptive.errors import InputError, TableError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})


@dataclass(frozen=True)
class LabelledImages:
    """Image names relative to `root`, each with the index of its class."""

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


def list_images(
    root: Path, labels: Sequence[str], table: Path | None = None, limit: int | None = None
) -> LabelledImages:
    """Find the labelled images in `root`.

    Parameters
    ----------
    root : folder with one sub-folder a class, or, with `table`, the folder that the table's
        names are relative to
    labels : class names; a sub-folder or a label in the table must be one of them, and in the
        table it may also be a class's index
    table : CSV with the columns `image` and `label`
    limit : take only the first so many, of the table's or the sorted order

    Raises
    ------
    InputError
        when a class is unknown, an image stands twice, or there is none.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder of images")
    found = _from_table(root, labels, table) if table else _from_folders(root, labels)
    if not found.names:
        raise InputError(f"no labelled images in {root}")
    if limit is None or limit >= len(found):
        return found
    return LabelledImages(root, found.names[:limit], found.labels[:limit])


def _from_folders(root: Path, labels: Sequence[str]) -> LabelledImages:
    index = {name: position for position, name in enumerate(labels)}
    folders = sorted(p for p in root.iterdir() if p.is_dir())
    if not folders:
        raise InputError(
            f"{root} has no sub-folders; give one folder a class, or --labels with a CSV that has "
            "the columns image and label"
        )
    names: list[str] = []
    classes: list[int] = []
    for folder in folders:
        if folder.name not in index:
            raise InputError(
                f"folder {folder.name!r} is none of the {len(labels)} classes, "
                f"{_some(labels)}; rename it or give --labels"
            )
        members = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        for member in members:
            if not _is_text(member):
                raise InputError(
                    f"{folder.name}/{member!r} has a name that is not UTF-8; rename it"
                )
        names += [f"{folder.name}/{member}" for member in members]
        classes += [index[folder.name]] * len(members)
    return LabelledImages(root, tuple(names), tuple(classes))


def _from_table(root: Path, labels: Sequence[str], table: Path) -> LabelledImages:
    columns = read_csv(table)
    columns.need(["image", "label"])
    names = columns.unique("image", path=True)
    index = {name: position for position, name in enumerate(labels)}
    classes: list[int] = []
    for row, cell in enumerate(columns.filled("label")):
        if cell in index:
            classes.append(index[cell])
        elif cell.isascii() and cell.isdigit() and len(cell) < 10 and int(cell) < len(labels):
            classes.append(int(cell))
        else:
            raise columns.error(
                row, "label", f"a class name or an index from 0 to {len(labels) - 1} is needed"
            )
    if not (root / names[0]).exists() and not any((root / n).exists() for n in names[:100]):
        raise TableError(f"{table.name} names images that are not in {root}, such as {names[0]!r}")
    return LabelledImages(root, tuple(names), tuple(classes))


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in labels[:3])
    return shown + (", …" if len(labels) > 3 else "")
