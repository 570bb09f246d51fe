"""CIFAR-10 through torchvision, as a folder-per-class data set like any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable

from tqdm import tqdm

from adaptive.errors import InputError, MissingExtra
from adaptive.files import folder_aside


def fetch_cifar10(folder: Path, dataset: Callable[..., Any] | None = None) -> Path:
    """Download CIFAR-10 (Krizhevsky 2009) and write `folder/{train,test}/CLASS/NNNNN.png`.

    Parameters
    ----------
    dataset : makes the data set, `torchvision.datasets.CIFAR10` unless given

    Raises
    ------
    InputError
        when `folder` holds something already, or the images cannot be downloaded.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; name a new folder for CIFAR-10")
    if dataset is None:
        try:
            from torchvision.datasets import CIFAR10
        except ImportError as exc:
            raise MissingExtra("downloading CIFAR-10", "torchvision", "train") from exc
        dataset = CIFAR10
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_aside(folder) as aside:
        download = aside / "download"
        for part in ("train", "test"):
            try:
                images = dataset(str(download), train=part == "train", download=True)
            except (OSError, RuntimeError) as exc:
                raise InputError(
                    f"CIFAR-10 cannot be downloaded ({exc}); give a folder of images of your own"
                ) from exc
            for name in images.classes:
                (aside / part / name).mkdir(parents=True)
            for row, (image, label) in enumerate(tqdm(images, desc=part, unit="image")):
                image.save(aside / part / images.classes[label] / f"{row:05}.png")
        shutil.rmtree(download, ignore_errors=True)
    return folder
