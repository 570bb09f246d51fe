"""Image files in folders, and what lies beside them and is passed over."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Iterable

#: Of files that are read. A file's content decides what it is, its name whether it is looked at.
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif"})

#: Folders and files that programs leave behind: as if they were hidden.
_LITTER = frozenset(
    {"@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found"}
)

#: Suffixes of files that hold no image, whatever else; any other may be one that is not read.
_NO_IMAGE = frozenset(
    f".{name}"
    for names in (
        "txt md csv tsv json jsonl xml yaml yml html htm log py sh",
        "npy npz pkl pt pth onnx mat h5 db lmdb zip tar gz tgz sha256 md5",
    )
    for name in names.split()
)


@dataclass(frozen=True)
class ImageFiles:
    """What lies below a folder, by names relative to it, sorted.

    Attributes
    ----------
    images : files that are read
    others : files that are not, hidden ones left out
    """

    images: tuple[str, ...]
    others: tuple[str, ...]


def files_below(folder: Path) -> ImageFiles:
    """All files in a folder and the folders below it, links to folders included.

    Hidden files and folders, and what file managers leave behind, are passed over.
    """
    images: list[str] = []
    others: list[str] = []
    entered: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        if real in entered:  # by a link that leads back
            folders.clear()
            continue
        entered.add(real)
        below = Path(place).relative_to(folder)
        for name in files:
            if not is_hidden(name):
                own = images if PurePath(name).suffix.lower() in SUFFIXES else others
                own.append((below / name).as_posix())
    return ImageFiles(tuple(sorted(images)), tuple(sorted(others)))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a program."""
    return name.startswith(".") or name.lower() in _LITTER


def is_text(name: str) -> bool:
    """Whether a file's name, as the system gives it, can stand in a UTF-8 file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def passed_over(others: Iterable[str], where: str) -> list[str]:
    """One sentence about files that may be images and are not read; none where there are none."""
    maybe = [name for name in others if PurePath(name).suffix.lower() not in _NO_IMAGE]
    if not maybe:
        return []
    kinds = Counter(PurePath(name).suffix.lower() or "without a suffix" for name in maybe)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    files = "file" if len(maybe) == 1 else "files"
    return [
        f"{len(maybe)} {files} in {where} ({counts}), such as {maybe[0]!r}; "
        f"{', '.join(sorted(SUFFIXES))} are read"
    ]
