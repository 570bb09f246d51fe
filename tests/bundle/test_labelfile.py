"""Class names from the files in which people keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptive import InputError
from adaptive.bundle.labelfile import read_labels
from adaptive.bundle.network import labels_inside


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\ndog, wolf\n\n"),
        ("a.csv", 'index,wnid,name\n1,n2,"dog, wolf"\n0,n1,cat\n'),
        ("a.csv", 'label\ncat\n"dog, wolf"\n'),
        ("a.json", '["cat", "dog, wolf"]'),
        ("a.json", '{"1": "dog, wolf", "0": "cat"}'),
        ("a.json", '{"dog, wolf": 1, "cat": 0}'),
        ("a.json", '{"0": ["n1", "cat"], "1": ["n2", "dog, wolf"]}'),
    ],
)
def test_all_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ("cat", "dog, wolf")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "cat\n\ndog\n", "class 1 is ''"),
        ("a.txt", "cat\n", "names 1 classes"),
        ("a.csv", "index,name\n0,cat\n2,dog\n", "no name for class 1"),
        ("a.csv", "index,name\n0,cat\n0,dog\n", "two names for class 0"),
        ("a.csv", "wnid\nn1\n", "no column called"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"a": "b"}', "is no index"),
        ("a.json", "3", "neither a list"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("{0: 'cat', 1: 'dog'}", ("cat", "dog")),
        ("['cat', 'dog']", ("cat", "dog")),
        ("{1: 'cat', 2: 'dog'}", ()),
        ("__import__('os')", ()),
        ("[1, 2]", ()),
        ("", ()),
    ],
)
def test_names_inside_a_file_are_read_and_never_run(names: str, labels: tuple[str, ...]) -> None:
    assert labels_inside({"names": names}) == labels
