"""COCO's JSON: true boxes of a set of images, and rows of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from adaptive.errors import BundleError, TableError
from adaptive.files import read_json
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import BoxLabels, Flaw, LabelsInProgress, Sizes


def read_coco(
    path: Path, labels: Sequence[str], sizes: Sizes, aliases: Mapping[str, str] | None = None
) -> BoxLabels:
    """Read the true boxes from a file of COCO's form, images in the order of their numbers.

    Parameters
    ----------
    path : JSON with `images`, `annotations` and `categories`
    labels : the names of the classes; categories are found among them by name
    sizes : of the images that there are, by their `file_name`, or by its last part where that is
        unique
    aliases : other names of classes

    Raises
    ------
    TableError
        when the file cannot be read, is not of that form, or has labels for no image.
    """
    try:
        content = read_json(path, "label file")
    except BundleError as exc:
        raise TableError(str(exc)) from exc
    images, annotations, categories = (
        _entries(content, name, path) for name in ("images", "annotations", "categories")
    )
    found = LabelsInProgress(labels, sizes, aliases)
    known, order = _begin_images(found, images, path)
    kinds: Dict[int, object] = {}
    for position, entry in enumerate(categories):
        where = f"{path}, category {position}"
        kinds[_identity(entry, "id", where)] = entry.get("name")
    for position, entry in enumerate(annotations):
        _add(found, entry, known, kinds, f"annotation {entry.get('id', f'at {position}')}")
    return found.done(str(path), order)


def coco_rows(
    found: Detections, image_id: int, category_ids: Sequence[int]
) -> List[Dict[str, Any]]:
    """Detections as rows of COCO's results: image_id, category_id, bbox (x y w h), score.

    category_ids : COCO's number of each label
    """
    boxes = found.boxes.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[kind],
            "bbox": box,
            "score": float(score),
        }
        for box, score, kind in zip(boxes.tolist(), found.scores, found.classes)
    ]


def _entries(content: Mapping[str, Any], name: str, path: Path) -> List[Dict[str, Any]]:
    entries = content.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TableError(f"{path} needs {name!r}, a list of objects, as COCO's label files have")
    return entries


def _identity(entry: Mapping[str, Any], name: str, where: str) -> int:
    number = entry.get(name)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TableError(f"{where}: {name!r} is {number!r}; a whole number is needed")
    return number


def _begin_images(
    found: LabelsInProgress, images: Sequence[Mapping[str, Any]], path: Path
) -> Tuple[Dict[int, str | None], List[str]]:
    """The name of each image by its number, None for what is left out; and their order."""
    last: Dict[str, List[str]] = {}
    for name in found.sizes:
        last.setdefault(name.rpartition("/")[2], []).append(name)
    numbers = [_identity(e, "id", f"{path}, image {p}") for p, e in enumerate(images)]
    known: Dict[int, str | None] = {}
    order: List[str] = []
    for number, entry in sorted(zip(numbers, images), key=lambda pair: pair[0]):
        if number in known:
            raise TableError(f"{path} has two images of the number {number}")
        said = entry.get("file_name")
        if not isinstance(said, str):
            raise TableError(f"{path}, image {number}: 'file_name' is {said!r}; a name is needed")
        alike = last.get(said.rpartition("/")[2], [])
        name = said if said in found.sizes or len(alike) != 1 else alike[0]
        known[number] = None
        if not found.begin(name, said):
            continue
        sides = entry.get("width"), entry.get("height")
        if sides == (None, None) or found.same_size(name, *sides, where=said):
            known[number] = name
            order.append(name)
    return known, order


def _add(
    found: LabelsInProgress,
    entry: Mapping[str, Any],
    known: Mapping[int, str | None],
    kinds: Mapping[int, object],
    where: str,
) -> None:
    number = entry.get("image_id")
    if not isinstance(number, int) or number not in known:
        found.flaws.append(Flaw("imageless", f"{where} (image {number!r})"))
        return
    name = known[number]
    if name is None:  # the image has been named
        return
    where = f"{name} {where}"
    category = entry.get("category_id")
    said = kinds.get(category, category) if isinstance(category, int) else category
    kind = found.class_of(said, where)
    if kind is None:
        return
    box, area, crowd = entry.get("bbox"), entry.get("area"), entry.get("iscrowd", 0)
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(map(_number, box))
        or not (area is None or _number(area))
        or crowd not in (0, 1)
    ):
        found.flaws.append(Flaw("unreadable", where))
        return
    x, y, width, height = map(float, box)
    corners = (x, y, x + width, y + height)
    found.add(name, corners, kind, where, bool(crowd), None if area is None else float(area))


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30
