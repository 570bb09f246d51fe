"""Labelled images on disk: a folder a class, or a CSV with the columns image and label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, Sequence

from adaptive.csvfile import Columns, read_csv
from adaptive.errors import InputError, TableError
from adaptive.imagefiles import SUFFIXES, files_below, is_hidden, is_text, passed_over

__all__ = ["SUFFIXES", "UNLABELLED", "LabelledImages", "list_images", "list_unlabelled"]

#: Stands for the class of an image that nobody has labelled.
UNLABELLED = -1


@dataclass(frozen=True)
class LabelledImages:
    """Image names relative to `root`, each with the index of its class, or `UNLABELLED`.

    Attributes
    ----------
    omitted : what was left out, in sentences
    notes : what was decided on the way, in sentences
    """

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    omitted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: Iterable[int]) -> LabelledImages:
        """Some of them, by row number, in that order."""
        chosen = list(rows)
        return replace(
            self,
            names=tuple(self.names[row] for row in chosen),
            labels=tuple(self.labels[row] for row in chosen),
        )


def list_images(
    root: Path, labels: Sequence[str], table: Path | None = None, limit: int | None = None
) -> LabelledImages:
    """Find the labelled images in `root`.

    Parameters
    ----------
    root : folder with one sub-folder a class, which may have folders below it; or, with `table`,
        the folder that the table's names are relative to
    labels : class names; a sub-folder must be one of them. The table's labels are either all
        class names or all indices of classes
    table : CSV with the columns `image` and `label`
    limit : take only the first so many, of the table's or the sorted order

    Raises
    ------
    InputError
        when a class is unknown or stands for two, an image stands twice, or there is none.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder of images")
    found = _from_table(root, labels, table) if table else _from_folders(root, labels)
    if not found.names:
        raise InputError(f"no labelled images in {root}" + "".join(f"; {o}" for o in found.omitted))
    if limit is None or limit >= len(found):
        return found
    return LabelledImages(
        root, found.names[:limit], found.labels[:limit], found.omitted, found.notes
    )


def list_unlabelled(root: Path, limit: int | None = None) -> LabelledImages:
    """All images in `root` and the folders below it, sorted, of classes that nobody knows.

    Raises
    ------
    InputError
        when there is no image, or the name of one is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder of images")
    found = files_below(root)
    if not found.images:
        raise InputError(f"no images in {root}; {sorted(SUFFIXES)} are read")
    for name in found.images:
        if not is_text(name):
            raise InputError(f"{name!r} has a name that is not UTF-8; rename it")
    omitted = tuple(passed_over(found.others, f"folder {root}"))
    names = found.images[:limit]
    return LabelledImages(root, names, (UNLABELLED,) * len(names), omitted)


def _from_folders(root: Path, labels: Sequence[str]) -> LabelledImages:
    index = _positions(labels)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name))
    if not folders:
        raise InputError(
            f"{root} has no sub-folders; give one folder a class, or --labels with a CSV that has "
            "the columns image and label"
        )
    for folder in folders:
        if folder.name not in index:
            raise InputError(
                f"folder {folder.name!r} is none of the {len(labels)} classes, "
                f"{_some(labels)}; rename it, move it away or give --labels"
            )
        if len(index[folder.name]) > 1:
            raise InputError(
                f"folder {folder.name!r} may be any of the classes {index[folder.name]}, which are "
                "all called so; give --labels with a CSV that has the classes' indices"
            )
    names: list[str] = []
    classes: list[int] = []
    others: list[str] = []
    omitted: list[str] = []
    empty: list[str] = []
    loose = sorted(p.name for p in root.iterdir() if _is_image(p.name) and p.is_file())
    if loose:
        images = "image" if len(loose) == 1 else "images"
        omitted.append(f"{len(loose)} {images} in no class folder, such as {loose[0]!r}")
    for folder in folders:
        found = files_below(folder)
        for member in found.images:
            if not is_text(member):
                raise InputError(
                    f"{folder.name}/{member!r} has a name that is not UTF-8; rename it"
                )
        names += [f"{folder.name}/{member}" for member in found.images]
        classes += [index[folder.name][0]] * len(found.images)
        others += [f"{folder.name}/{member}" for member in found.others]
        if not found.images:
            empty.append(folder.name)
    omitted += passed_over(others, "the class folders")
    if empty:
        omitted.append(f"class folders without an image: {_some(empty, 10)}")
    return LabelledImages(root, tuple(names), tuple(classes), tuple(omitted))


def _from_table(root: Path, labels: Sequence[str], table: Path) -> LabelledImages:
    columns = read_csv(table)
    columns.need(["image", "label"])
    names = columns.unique("image", path=True)
    classes, notes = _read_labels(columns, labels)
    if not (root / names[0]).exists() and not any((root / n).exists() for n in names[:100]):
        raise TableError(f"{table.name} names images that are not in {root}, such as {names[0]!r}")
    return LabelledImages(root, tuple(names), tuple(classes), notes=tuple(notes))


def _read_labels(columns: Columns, labels: Sequence[str]) -> tuple[list[int], list[str]]:
    """The classes that a table's column means, read as names throughout or as indices throughout.

    Returns
    -------
    The classes' indices, and what was decided where both readings were possible.
    """
    index = _positions(labels)
    cells = columns.filled("label")
    indices = [_as_index(cell, len(labels)) for cell in cells]
    nameless = next((row for row, cell in enumerate(cells) if cell not in index), None)
    no_index = next((row for row, own in enumerate(indices) if own is None), None)
    for row, cell in enumerate(cells):
        if cell not in index and indices[row] is None:
            raise columns.error(
                row, "label", f"a class name or an index from 0 to {len(labels) - 1} is needed"
            )
    if nameless is not None and no_index is not None:
        raise columns.error(
            max(nameless, no_index),
            "label",
            f"line {columns.lines[min(nameless, no_index)]} holds "
            f"{cells[min(nameless, no_index)]!r}; give class names throughout, or indices "
            "throughout",
        )
    if nameless is not None:
        return [own for own in indices if own is not None], []
    for row, cell in enumerate(cells):
        if len(index[cell]) > 1:
            raise columns.error(
                row,
                "label",
                f"the classes {index[cell]} are all called so; give the classes' indices, from 0 "
                f"to {len(labels) - 1}, throughout",
            )
    classes = [index[cell][0] for cell in cells]
    if no_index is None and classes != indices:
        return classes, [
            f"the labels in {columns.path.name} are read as class names; they could also be read "
            "as indices, which are other classes. Write class names that are no numbers to be sure"
        ]
    return classes, []


def _as_index(cell: str, classes: int) -> int | None:
    if cell.isascii() and cell.isdigit() and len(cell) < 10 and int(cell) < classes:
        return int(cell)
    return None


def _positions(labels: Sequence[str]) -> dict[str, list[int]]:
    """Which classes each name stands for."""
    found: dict[str, list[int]] = {}
    for position, name in enumerate(labels):
        found.setdefault(name, []).append(position)
    return found


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not is_hidden(name)


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (", …" if len(names) > most else "")
