from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptive import InputError, TableError
from adaptive.labelled import LabelledImages, list_images

LABELS = ("cat", "dog", "eel")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("dog/b.JPG", "dog/a.png", "dog/notes.txt", "cat/z.webp", "eel/x.gif", "cat/y.bmp"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "images" / "readme.txt").touch()
    return tmp_path / "images"


def table(root: Path, text: str) -> Path:
    path = root.parent / "labels.csv"
    path.write_text(text)
    return path


def test_a_folder_a_class(root: Path) -> None:
    found = list_images(root, LABELS)
    assert found.names == ("cat/y.bmp", "cat/z.webp", "dog/a.png", "dog/b.JPG", "eel/x.gif")
    assert found.labels == (0, 0, 1, 1, 2)
    assert len(found) == 5


def test_the_index_is_that_of_the_labels_not_of_the_folders(root: Path) -> None:
    assert list_images(root, ("eel", "none", "dog", "cat")).labels == (3, 3, 2, 2, 0)


def test_limit_takes_the_first(root: Path) -> None:
    assert list_images(root, LABELS, limit=3).names == ("cat/y.bmp", "cat/z.webp", "dog/a.png")
    assert len(list_images(root, LABELS, limit=99)) == 5


def test_a_table_of_names_and_indices(root: Path) -> None:
    path = table(root, "label,image,more\ndog,dog/a.png,1\n2,eel/x.gif,2\n0,gone.png,3\n")
    assert list_images(root, LABELS, path) == LabelledImages(
        root, ("dog/a.png", "eel/x.gif", "gone.png"), (1, 2, 0)
    )


def test_a_class_that_is_called_by_a_number_goes_before_an_index(root: Path) -> None:
    path = table(root, "image,label\ndog/a.png,1\n")
    assert list_images(root, ("1", "0"), path).labels == (0,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,class\nx,1\n", "labels.csv has no column 'label'; it has ['image', 'class']"),
        ("image,label\ndog/a.png,cow\n", "line 2, column 'label' holds 'cow'; a class name or an"),
        ("image,label\ndog/a.png,3\n", "holds '3'; a class name or an index from 0 to 2 is needed"),
        ("image,label\ndog/a.png,-1\n", "holds '-1'"),
        ("image,label\ndog/a.png,1.0\n", "holds '1.0'"),
        ("image,label\ndog/a.png," + "9" * 5000 + "\n", "holds '9999"),
        ("image,label\ndog/a.png,\n", "line 2, column 'label' is empty"),
        ("image,label\n,1\n", "line 2, column 'image' is empty"),
        ("image,label\na,1\na,1\n", "line 3, column 'image' holds 'a', which line 2 has already"),
        ("image,label\na,1\nb,1\n", "labels.csv names images that are not in "),
        ("image,label\n", "has a header but no row"),
    ],
)
def test_a_table_that_cannot_be_used(text: str, says: str, root: Path) -> None:
    with pytest.raises(TableError) as caught:
        list_images(root, LABELS, table(root, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_class_is_named(root: Path) -> None:
    with pytest.raises(InputError, match=r"folder 'dog' is none of the 2 classes, 'cat', 'eel'; "):
        list_images(root, ("cat", "eel"))


def test_folders_without_images(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone is no folder of images"):
        list_images(tmp_path / "gone", LABELS)
    with pytest.raises(InputError, match="has no sub-folders; give one folder a class, or --label"):
        list_images(root / "dog", LABELS)
    (tmp_path / "none" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="no labelled images in"):
        list_images(tmp_path / "none", LABELS)


def test_a_name_that_is_not_utf8_is_refused(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root / "cat") + b"/\xe9.png"))).touch()
    with pytest.raises(InputError, match=r"cat/'.udce9.png' has a name that is not UTF-8; rename"):
        list_images(root, LABELS)
