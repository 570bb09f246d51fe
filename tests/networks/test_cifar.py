from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptive.errors import InputError
from adaptive.networks.cifar import fetch_cifar10
from adaptive.networks.images import read_folder


class Stand:
    """Stands in for torchvision's data set: eight images of two classes, and a download."""

    classes = ("cat", "dog")

    def __init__(self, root: str, train: bool, download: bool) -> None:
        assert download
        (Path(root) / "archive").mkdir(parents=True, exist_ok=True)
        self.level = 200 if train else 50

    def __iter__(self):
        for row in range(8):
            pixels = np.full((32, 32, 3), self.level + row, np.uint8)
            yield Image.fromarray(pixels), row % 2

    def __len__(self) -> int:
        return 8


def test_cifar10_becomes_a_folder_per_class(tmp_path: Path) -> None:
    folder = fetch_cifar10(tmp_path / "new" / "cifar10", Stand)
    assert sorted(p.name for p in folder.iterdir()) == ["test", "train"]
    train, test = read_folder(folder / "train"), read_folder(folder / "test")
    assert train.classes == ["cat", "dog"]
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert train.images[0, 0, 0].tolist() == [200] * 3
    assert test.images[-1, 0, 0].tolist() == [57] * 3
    with pytest.raises(InputError, match="is not empty"):
        fetch_cifar10(folder, Stand)


def test_a_failed_download_leaves_nothing(tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    with pytest.raises(InputError, match=r"cannot be downloaded \(no route to host\)"):
        fetch_cifar10(tmp_path / "cifar10", refuse)
    assert list(tmp_path.iterdir()) == []
