"""Labels of three kinds of files become one form, and nothing that is wrong is passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive.errors import InputError, TableError
from adaptive.tasks.coco import coco_rows, read_coco
from adaptive.tasks.detections import Detections
from adaptive.tasks.labels import KINDS, BoxLabels, TrueBoxes
from adaptive.tasks.voc import read_voc
from adaptive.tasks.yolo_text import read_yolo

LABELS = ("cat", "dog", "tv")
SIZES = {"a.jpg": (100, 50), "b.png": (80, 80)}


def kinds(labels: BoxLabels) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for flaw in labels.flaws:
        found.setdefault(flaw.kind, []).append(flaw.where)
    return found


# COCO -----------------------------------------------------------------------------------------


def coco(tmp_path: Path, **changed: Any) -> Path:
    content = {
        "images": [
            {"id": 9, "file_name": "a.jpg", "width": 100, "height": 50},
            {"id": 4, "file_name": "b.png", "width": 80, "height": 80},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 18, "bbox": [10, 5, 30, 20], "area": 77.5},
            {"id": 2, "image_id": 9, "category_id": 17, "bbox": [0, 0, 9.5, 5], "iscrowd": 1},
        ],
    }
    content.update(changed)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def annotation(**changed: Any) -> dict[str, Any]:
    return {"id": 5, "image_id": 9, "category_id": 17, "bbox": [1, 1, 5, 5], **changed}


def test_coco_becomes_corners_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    labels = read_coco(coco(tmp_path), LABELS, SIZES)
    assert labels.names == ("b.png", "a.jpg")
    assert labels.flaws == ()
    empty, held = labels.boxes
    assert len(empty) == 0
    assert held.boxes.tolist() == [[10, 5, 40, 25], [0, 0, 9.5, 5]]
    assert held.classes.tolist() == [1, 0]
    assert held.crowd.tolist() == [False, True]
    assert held.area.tolist() == [77.5, 47.5]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"bbox": [200, 1, 5, 5]}, "outside"),
        ({"bbox": [-9, 1, 9, 5]}, "outside"),
        ({"bbox": [1, 1, 0, 5]}, "no area"),
        ({"bbox": [1, 1, 5, -5]}, "no area"),
        ({"bbox": [1, 1, 5]}, "unreadable"),
        ({"bbox": "1 1 5 5"}, "unreadable"),
        ({"bbox": [1, 1, 5, True]}, "unreadable"),
        ({"bbox": [1, 1, 5, 10**400]}, "unreadable"),
        ({"area": "much"}, "unreadable"),
        ({"iscrowd": 2}, "unreadable"),
        ({"category_id": 99}, "unknown class"),
        ({"category_id": None}, "unknown class"),
    ],
)
def test_coco_boxes_that_are_wrong_are_named_and_left_out(tmp_path, changed, kind) -> None:
    path = coco(tmp_path, annotations=[annotation(), annotation(id=6, **changed)])
    labels = read_coco(path, LABELS, SIZES)
    assert [len(one) for one in labels.boxes] == [0, 1]
    assert [where.split(" (")[0] for where in kinds(labels)[kind]] == ["a.jpg annotation 6"]
    assert len(labels.flaws) == 1
    assert labels.summary()[0].startswith(f"1 {KINDS[kind]}: a.jpg annotation 6")


def test_coco_boxes_that_reach_far_beyond_the_image_are_named_and_kept(tmp_path: Path) -> None:
    boxes = [annotation(bbox=[90, 40, 11, 11]), annotation(id=6, bbox=[90, 40, 12, 5])]
    labels = read_coco(coco(tmp_path, annotations=boxes), LABELS, SIZES)
    assert kinds(labels) == {"beyond": ["a.jpg annotation 6"]}
    assert labels.boxes[1].boxes.tolist() == [[90, 40, 101, 51], [90, 40, 102, 45]]


def test_coco_images_and_labels_without_each_other_are_named(tmp_path: Path) -> None:
    images = [
        {"id": 9, "file_name": "a.jpg"},
        {"id": 10, "file_name": "a.jpg"},
        {"id": 11, "file_name": "gone.jpg"},
    ]
    boxes = [annotation(), annotation(id=6, image_id=11), annotation(id=7, image_id=3)]
    labels = read_coco(coco(tmp_path, images=images, annotations=boxes), LABELS, SIZES)
    assert labels.names == ("a.jpg",)
    assert kinds(labels) == {
        "twice": ["a.jpg"],
        "imageless": ["gone.jpg", "annotation 7 (image 3)"],
        "unlabelled": ["b.png"],
    }


def test_coco_images_of_another_size_are_left_out(tmp_path: Path) -> None:
    sizes = {"a.jpg": (50, 100), "b.png": (80, 80)}  # turned upright since
    labels = read_coco(coco(tmp_path), LABELS, sizes)
    assert labels.names == ("b.png",)
    assert kinds(labels) == {"other size": ["a.jpg (100x50, really 50x100)"]}


def test_coco_names_are_found_by_their_last_part(tmp_path: Path) -> None:
    sizes = {"val/a.jpg": (100, 50), "x/b.png": (80, 80), "y/b.png": (80, 80)}
    labels = read_coco(coco(tmp_path), LABELS, sizes)
    assert labels.names == ("val/a.jpg",)
    assert kinds(labels) == {"imageless": ["b.png"], "unlabelled": ["x/b.png", "y/b.png"]}


def test_coco_classes_have_other_names(tmp_path: Path) -> None:
    path = coco(tmp_path, categories=[{"id": 17, "name": "tvmonitor"}, {"id": 18, "name": "dog"}])
    assert "unknown class" in kinds(read_coco(path, LABELS, SIZES))
    labels = read_coco(path, LABELS, SIZES, {"tvmonitor": "tv"})
    assert labels.boxes[1].classes.tolist() == [1, 2]
    with pytest.raises(InputError, match="'tvmonitor' stands for 'television', which is no label"):
        read_coco(path, LABELS, SIZES, {"tvmonitor": "television"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be a JSON object"),
        ("{", "is not JSON"),
        ('{"images": []}', "needs 'annotations'"),
        ('{"images": [1], "annotations": [], "categories": []}', "needs 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "no image has labels"),
        ('{"images": [{"id": "9"}], "annotations": [], "categories": []}', "image 0: 'id' is '9'"),
        ('{"images": [{"id": 9}], "annotations": [], "categories": []}', "'file_name' is None"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1.5}]}', "category 0: 'id'"),
    ],
)
def test_files_that_are_no_coco_labels_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(TableError, match=said):
        read_coco(path, LABELS, SIZES)


def test_results_are_coco_rows() -> None:
    found = Detections.of([[1, 2, 4, 8]], [0.5], [1])
    row = {"image_id": 7, "category_id": 18, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}
    assert coco_rows(found, 7, [17, 18]) == [row]
    json.dumps(coco_rows(found, 7, [17, 18]))


# YOLO -----------------------------------------------------------------------------------------


def yolo(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tmp_path / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_yolo_shares_become_pixels(tmp_path: Path) -> None:
    folder = yolo(tmp_path, a="1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2\n", b="", classes="cat\ndog")
    labels = read_yolo(folder, LABELS, SIZES)
    assert labels.flaws == ()
    assert labels.names == ("a.jpg", "b.png")
    assert np.allclose(labels.boxes[0].boxes, [[40, 15, 60, 35], [0, 0, 20, 10]])
    assert labels.boxes[0].classes.tolist() == [1, 0]
    assert np.allclose(labels.boxes[0].area, [400, 200])
    assert len(labels.boxes[1]) == 0


def test_yolo_polygons_become_the_boxes_around_them(tmp_path: Path) -> None:
    labels = read_yolo(yolo(tmp_path, a="2 0.1 0.2 0.5 0.4 0.3 0.8", b=""), LABELS, SIZES)
    assert np.allclose(labels.boxes[0].boxes, [[10, 10, 50, 40]])


def test_yolo_files_in_folders_belong_to_images_in_folders(tmp_path: Path) -> None:
    folder = yolo(tmp_path, sub__a="0 0.5 0.5 1 1")
    labels = read_yolo(folder, LABELS, {"sub/a.jpg": (10, 10)})
    assert labels.names == ("sub/a.jpg",)


def test_yolo_flaws_are_named_by_file_and_line(tmp_path: Path) -> None:
    lines = "3 .5 .5 .1 .1\n0.5 .5 .5 .1 .1\n1 .5 .5 0 .1\n1 2 .5 .1 .1\n1 nan .5 .1 .1\n0 1 1 1 1"
    lines += "\ninf .5 .5 .1 .1"
    labels = read_yolo(yolo(tmp_path, a=lines, gone="0 .5 .5 .1 .1"), LABELS, SIZES)
    assert kinds(labels) == {
        "unknown class": ["a.txt line 1 (3)", "a.txt line 2 (0.5)", "a.txt line 7 (inf)"],
        "no area": ["a.txt line 3"],
        "outside": ["a.txt line 4"],
        "unreadable": ["a.txt line 5"],
        "beyond": ["a.txt line 6"],
        "imageless": ["gone.txt"],
        "unlabelled": ["b.png"],
    }
    assert len(labels.boxes[0]) == 1


@pytest.mark.parametrize(
    "line", ["0 .5 .5 .1", "cat .5 .5 .1 .1", "0 .5 .5 .1 .1 .9", "nan 1 1 1 1"]
)
def test_yolo_lines_of_another_form_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(TableError, match=r"a.txt line 2: .* is not a class and the four numbers"):
        read_yolo(yolo(tmp_path, a=f"0 .5 .5 .1 .1\n{line}\n"), LABELS, SIZES)


def test_yolo_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(TableError, match="not UTF-8"):
        read_yolo(tmp_path, LABELS, SIZES)


def test_images_that_would_share_a_label_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'a.jpg' and 'a.png' would share one label file"):
        read_yolo(tmp_path, LABELS, {"a.jpg": (1, 1), "a.png": (1, 1)})


@pytest.mark.parametrize("read", [read_yolo, read_voc])
def test_a_folder_that_is_not_there_or_has_no_labels_is_refused(tmp_path: Path, read) -> None:
    with pytest.raises(InputError, match="no folder of label files"):
        read(tmp_path / "gone", LABELS, SIZES)
    with pytest.raises(TableError, match="no image has labels"):
        read(tmp_path, LABELS, SIZES)


# VOC ------------------------------------------------------------------------------------------

OBJECT = """<object><name>{}</name><difficult>{}</difficult>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"""


def voc(folder: Path, name: str, *objects: tuple[Any, ...], size: str = "", file: str = "") -> Path:
    filename = f"<filename>{file}</filename>" if file else ""
    body = "".join(OBJECT.format(*one) for one in objects)
    (folder / name).write_text(f"<annotation>{filename}{size}{body}</annotation>")
    return folder


def test_voc_objects_become_boxes_and_difficult_ones_crowds(tmp_path: Path) -> None:
    size = "<size><width>100</width><height>50</height><depth>3</depth></size>"
    voc(tmp_path, "a.xml", ("dog", 0, 10, 5, 40, 25), ("tvmonitor", 1, 0.5, 0, 9, 9), size=size)
    voc(tmp_path, "other.xml", file="b.png")
    labels = read_voc(tmp_path, LABELS, SIZES, {"tvmonitor": "tv"})
    assert labels.flaws == ()
    assert labels.names == ("a.jpg", "b.png")
    assert labels.boxes[0].boxes.tolist() == [[10, 5, 40, 25], [0.5, 0, 9, 9]]
    assert labels.boxes[0].classes.tolist() == [1, 2]
    assert labels.boxes[0].crowd.tolist() == [False, True]


def test_voc_flaws_are_named_by_file_and_object(tmp_path: Path) -> None:
    voc(
        tmp_path,
        "a.xml",
        ("cow", 0, 1, 1, 5, 5),
        ("dog", 0, 1, 1, 1, 5),
        ("dog", 0, 200, 1, 205, 5),
        ("dog", 0, "x", 1, 5, 5),
        ("dog", "maybe", 1, 1, 5, 5),
        ("dog", 0, "inf", 1, "inf", 5),
    )
    voc(tmp_path, "b.xml", size="<size><width>81</width><height>80</height></size>")
    voc(tmp_path, "gone.xml")
    labels = read_voc(tmp_path, LABELS, SIZES)
    assert labels.names == ("a.jpg",)
    assert kinds(labels) == {
        "unknown class": ["a.xml object 1 ('cow')"],
        "no area": ["a.xml object 2"],
        "outside": ["a.xml object 3"],
        "unreadable": [f"a.xml object {n}" for n in (4, 5, 6)],
        "other size": ["b.xml (81x80, really 80x80)"],
        "imageless": ["gone.xml"],
    }


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "{}"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><filename>&c;</filename></annotation>"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB.format("ha" * 100), "declares the document type 'annotation'"),
        ('<!DOCTYPE annotation SYSTEM "file:///etc/passwd"><annotation/>', "document type"),
        ("<annotation>&c;</annotation>", "not XML that can be read"),
        ("<annotation>", "not XML that can be read"),
        ("", "not XML that can be read"),
        ("<html/>", "has no <annotation>"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "not XML that can be read"),
    ],
)
def test_files_that_are_no_voc_labels_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(TableError, match=said):
        read_voc(tmp_path, LABELS, SIZES)


def test_a_document_type_in_another_encoding_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(BOMB.split("?>")[1].format("ha").encode("utf-16"))
    with pytest.raises(TableError, match="document type"):
        read_voc(tmp_path, LABELS, SIZES)


def test_summaries_name_the_first_and_count_the_rest(tmp_path: Path) -> None:
    sizes = {**SIZES, **{f"{i}.jpg": (9, 9) for i in range(5)}}
    labels = read_yolo(yolo(tmp_path, a="", b=""), LABELS, sizes)
    assert labels.summary(named=2) == ["5 images without labels: 0.jpg, 1.jpg, ..."]


def test_true_boxes_of_wrong_types_are_refused() -> None:
    good = TrueBoxes.of([[0, 0, 2, 3]], [1])
    assert good.area.tolist() == [6]
    with pytest.raises(InputError, match="true classes are float64"):
        TrueBoxes(good.boxes, good.area, good.crowd, good.area)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not finite"):
        TrueBoxes.of([[0, 0, np.nan, 3]], [1])
    with pytest.raises(InputError, match="true class -1"):
        TrueBoxes.of([[0, 0, 2, 3]], [-1])
