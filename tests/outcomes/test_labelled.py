from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptive import InputError, TableError
from adaptive.outcomes.labelled import LabelledImages, list_images

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


@pytest.mark.parametrize("labels", [("dog", "eel", "cat"), ("1", "2", "0")])
def test_a_table_of_names_or_of_indices(labels: tuple[str, ...], root: Path) -> None:
    rows = zip(labels, ("dog/a.png,1", "eel/x.gif,2", "gone.png,3"))
    path = table(root, "label,image,more\n" + "".join(f"{a},{b}\n" for a, b in rows))
    assert list_images(root, LABELS, path) == LabelledImages(
        root, ("dog/a.png", "eel/x.gif", "gone.png"), (1, 2, 0)
    )


def cells(root: Path, *labels: str) -> Path:
    return table(root, "image,label\n" + "".join(f"{i}.png,{c}\n" for i, c in enumerate(labels)))


@pytest.fixture
def plainly(root: Path) -> Path:
    for number in range(6):
        (root / f"{number}.png").touch()
    return root


def test_one_cell_that_is_no_name_makes_a_column_of_indices(plainly: Path) -> None:
    """Classes that are called 1, 2, 3, and a table that counts from 0."""
    found = list_images(plainly, ("1", "2", "3"), cells(plainly, "1", "0", "2", "2"))
    assert found.labels == (1, 0, 2, 2)
    assert found.notes == ()
    found = list_images(plainly, ("1", "2", "3"), cells(plainly, "3", "1", "2", "2"))
    assert found.labels == (2, 0, 1, 1)
    assert found.notes == ()  # 3 is no index


def test_a_column_that_can_be_read_both_ways_is_read_as_names_and_said(plainly: Path) -> None:
    found = list_images(plainly, ("2", "0", "1"), cells(plainly, "0", "1", "2"))
    assert found.labels == (1, 2, 0)
    (note,) = found.notes
    assert note.startswith("the labels in labels.csv are read as class names; they could also be")
    assert list_images(plainly, ("2", "0", "1"), cells(plainly, "0"), limit=1).notes == (note,)
    # Where both readings are the same there is nothing to say.
    assert list_images(plainly, ("0", "1", "2"), cells(plainly, "0", "2")).notes == ()


def test_a_column_that_needs_both_readings_is_refused(plainly: Path) -> None:
    says = (
        "labels.csv, line 4, column 'label' holds '2'; line 2 holds 'dog'; give class names "
        "throughout, or indices throughout"
    )
    with pytest.raises(TableError, match=says):
        list_images(plainly, LABELS, cells(plainly, "dog", "eel", "2"))
    with pytest.raises(TableError, match=r"line 3, column 'label' holds 'red'; line 2 holds '0'"):
        list_images(plainly, ("1", "2", "red"), cells(plainly, "0", "red", "1"))


def test_a_name_of_two_classes_is_refused_where_it_is_used(plainly: Path) -> None:
    labels = ("cat", "eel", "cat", "dog")
    says = r"line 3, column 'label' holds 'cat'; the classes \[0, 2\] are all called so; give the"
    with pytest.raises(TableError, match=says):
        list_images(plainly, labels, cells(plainly, "dog", "cat"))
    assert list_images(plainly, labels, cells(plainly, "dog", "eel")).labels == (3, 1)
    assert list_images(plainly, labels, cells(plainly, "0", "2", "3")).labels == (0, 2, 3)
    with pytest.raises(InputError, match=r"folder 'cat' may be any of the classes \[0, 2\]"):
        list_images(plainly, labels)


# What is passed over


def test_folders_below_a_class_are_read_and_hidden_ones_are_not(root: Path) -> None:
    names = ("dog/more/deep/c.jpe", "dog/d.jfif", "dog/.e.png", "dog/.ipynb_checkpoints/a.png")
    names += ("dog/@eaDir/a.png/THUMB.jpg", "__MACOSX/dog/._a.png", ".git/a.png", "cat/Thumbs.db")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dog" / "loop").symlink_to(root / "dog", target_is_directory=True)
    found = list_images(root, LABELS)
    dogs = ("dog/a.png", "dog/b.JPG", "dog/d.jfif", "dog/more/deep/c.jpe")
    assert found.names == ("cat/y.bmp", "cat/z.webp", *dogs, "eel/x.gif")
    assert found.omitted == ()


def test_images_that_are_not_read_are_counted_and_said(root: Path) -> None:
    for name in ("dog/1.tif", "dog/more/2.TIF", "eel/n01440764_10026", "cat/list.csv", "top.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "pig").mkdir()
    (root / "owl").mkdir()
    (root / "owl" / "a.heic").touch()
    found = list_images(root, (*LABELS, "owl", "pig"))
    assert len(found) == 5
    loose, unread, empty = found.omitted
    assert loose == "1 image in no class folder, such as 'top.png'"
    assert unread.startswith(
        "4 files in the class folders (1 .heic, 2 .tif, 1 without a suffix), such as 'dog/1.tif'; "
        ".bmp, .gif, "
    )
    assert empty == "class folders without an image: 'owl', 'pig'"
    assert list_images(root, (*LABELS, "owl", "pig"), limit=2).omitted == found.omitted


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
