"""Images with true boxes on disk: labels as COCO's JSON, YOLO's text files or VOC's XML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence, Tuple

from adaptive.errors import ImageError, InputError
from adaptive.imagefiles import SUFFIXES, files_below, is_text, passed_over
from adaptive.images.decode import upright_size
from adaptive.tasks.coco import read_coco
from adaptive.tasks.labels import BoxLabels, TrueBoxes
from adaptive.tasks.voc import read_voc
from adaptive.tasks.yolo_text import read_yolo

#: Kinds of flaws after which nothing is missing.
_KEPT = "kept"


@dataclass(frozen=True)
class BoxedImages:
    """Image names relative to `root`, each with its true boxes.

    Attributes
    ----------
    omitted : what was left out, in sentences
    notes : what else was found, in sentences
    """

    root: Path
    names: Tuple[str, ...]
    boxes: Tuple[TrueBoxes, ...]
    omitted: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def list_boxed(
    root: Path, labels: Sequence[str], source: Path, limit: int | None = None
) -> BoxedImages:
    """Find the images in `root` that have true boxes.

    Parameters
    ----------
    root : folder of images, with those below it
    labels : class names
    source : a JSON file of COCO's form; or a folder, with a text file of YOLO's form or an XML
        file of VOC's for each image
    limit : take only the first so many

    Raises
    ------
    InputError
        when there is no image, the labels cannot be read, they are of no image, or none of the
        images has a box.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder of images")
    below = files_below(root)
    if not below.images:
        raise InputError(f"no images in {root}; {sorted(SUFFIXES)} are read")
    omitted = list(passed_over(_no_labels(below.others), f"folder {root}"))
    sizes: Dict[str, Tuple[int, int]] = {}
    for name in below.images:
        if not is_text(name):
            raise InputError(f"{name!r} has a name that is not UTF-8; rename it")
        try:
            height, width = upright_size(root / name)
        except ImageError as error:
            omitted.append(f"{name}: {error}")
        else:
            sizes[name] = (width, height)
    if not sizes:
        raise InputError("none of the images can be read")
    found = _read(source, labels, sizes)
    sentences = found.summary()
    kept = [s for s in sentences if s.split(":")[0].endswith(_KEPT)]
    omitted += [s for s in sentences if s not in kept]
    most = len(found) if limit is None else min(limit, len(found))
    if all(own.crowd.all() for own in found.boxes[:most]):
        why = "".join(f"; left out: {sentence}" for sentence in sentences)
        raise InputError(
            f"{source} has no box in any of the {most} images, so nothing tells what a detector "
            f"is worth on them{why}"
        )
    return BoxedImages(root, found.names[:most], found.boxes[:most], tuple(omitted), tuple(kept))


def _read(source: Path, labels: Sequence[str], sizes: Dict[str, Tuple[int, int]]) -> BoxLabels:
    if source.is_file():
        return read_coco(source, labels, sizes)
    if not source.is_dir():
        raise InputError(
            f"there are no labels at {source}; name a JSON file of COCO's form, or a folder with a "
            "text file (YOLO) or an XML file (VOC) for each image"
        )
    texts = sum(1 for _ in source.rglob("*.txt"))
    trees = sum(1 for _ in source.rglob("*.xml"))
    if texts == trees > 0:
        raise InputError(
            f"{source} holds {texts} text files (YOLO) and as many XML files (VOC) of labels; name "
            "a folder of one kind"
        )
    # The fewer of two kinds say something else, such as which images are for training.
    if trees > texts:
        return read_voc(source, labels, sizes)
    if texts:
        return read_yolo(source, labels, sizes)
    raise InputError(f"{source} holds neither text files (YOLO) nor XML files (VOC) of labels")


def _no_labels(names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if not name.lower().endswith((".txt", ".xml", ".json", ".yaml"))]
