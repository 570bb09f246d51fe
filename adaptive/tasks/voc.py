"""Pascal VOC's XML: one file an image, an `object` a box."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Mapping, Sequence
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from adaptive.errors import InputError, TableError
from adaptive.tasks.labels import BoxLabels, Flaw, LabelsInProgress, Sizes, by_stem


def read_voc(
    folder: Path, labels: Sequence[str], sizes: Sizes, aliases: Mapping[str, str] | None = None
) -> BoxLabels:
    """Read the true boxes from a folder of XML files, images in the order of their names.

    `a/b.xml` belongs to the image `a/b` of any suffix, or, where there is none, to the one that
    its `filename` names. Objects marked `difficult` are crowds: neither hit nor missed.
    VOC's pixels count from 1 and both ends belong to the box; here `xmin ymin xmax ymax` are taken
    as corners, as most programs write them.

    Raises
    ------
    InputError
        when the folder is not there, a file is not of that form, or no image has labels.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of label files")
    stems = by_stem(sizes, str(folder))
    found = LabelsInProgress(labels, sizes, aliases)
    for path in sorted(folder.rglob("*.xml")):
        where = path.relative_to(folder).as_posix()
        root = _parsed(path)
        name = stems.get(where[: -len(".xml")]) or (root.findtext("filename") or where).strip()
        if not found.begin(name, where):
            continue
        sides = root.findtext("size/width"), root.findtext("size/height")
        width, height = map(_whole, sides)
        if sides != (None, None) and not found.same_size(name, width, height, where):
            continue
        for number, thing in enumerate(root.findall("object"), 1):
            _add(found, name, thing, f"{where} object {number}")
    return found.done(str(folder))


class _Builder(TreeBuilder):
    """Builds a tree, and refuses a document type: entities are declared there, and can explode."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"it declares the document type {name!r}, which is not read")


def _parsed(path: Path) -> Element:
    try:
        text = path.read_bytes()
        parser = XMLParser(target=_Builder())
        parser.feed(text)
        root = parser.close()
    except OSError as exc:
        raise TableError(f"label file {path} cannot be read: {exc.strerror}") from exc
    except (ParseError, ValueError, LookupError) as exc:
        raise TableError(f"label file {path} is not XML that can be read: {exc}") from exc
    if not isinstance(root, Element) or root.tag != "annotation":
        raise TableError(f"label file {path} has no <annotation> at its root, as VOC's have")
    return root


def _add(found: LabelsInProgress, name: str, thing: Element, where: str) -> None:
    kind = found.class_of((thing.findtext("name") or "").strip(), where)
    if kind is None:
        return
    said = [thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        box = [float(side or math.nan) for side in said]
    except ValueError:
        box = [math.nan] * 4
    difficult = (thing.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        found.flaws.append(Flaw("unreadable", where))
        return
    found.add(name, box, kind, where, crowd=difficult == "1")


def _whole(text: str | None) -> object:
    """A side of an image as a number, or the text where it is none."""
    try:
        number = float(text or "")
    except ValueError:
        return text
    return int(number) if math.isfinite(number) and number == int(number) else text
