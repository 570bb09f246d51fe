"""The images of an experiment: a folder, or a place that fsspec reaches, listed with labels."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from adaptive.errors import InputError
from adaptive.experiments.store import StoreError, answered, file_system, passing
from adaptive.imagefiles import SUFFIXES
from adaptive.outcomes.labelled import UNLABELLED, list_images, list_unlabelled


class ImagesAway(StoreError):
    """The place of images did not answer for too long; another try may succeed."""


@dataclass(frozen=True)
class Imagery:
    """Images with their labels.

    Attributes
    ----------
    root : the folder or URL, as a worker is told it
    stamps : one an image; another one where the file changed
    omitted, notes : sentences
    """

    root: str
    names: tuple[str, ...]
    labels: tuple[int, ...]
    stamps: tuple[str, ...]
    omitted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def find_images(
    images: str,
    folder: Path,
    classes: Sequence[str],
    table: Path | None,
    unlabelled: bool,
    limit: int | None,
) -> Imagery:
    """The images at a path, relative to `folder`, or at a URL; see `list_images`."""
    if "://" in images:
        return _elsewhere(images.rstrip("/"), classes, table, unlabelled, limit)
    root = (folder / Path(images).expanduser()).resolve()
    if unlabelled:
        found = list_unlabelled(root, limit)
    else:
        found = list_images(root, classes, table, limit)
    stamps = tuple(_stamp(root / name) for name in found.names)
    return _present(
        Imagery(str(root), found.names, found.labels, stamps, found.omitted, found.notes)
    )


def _present(listed: Imagery) -> Imagery:
    """The images that are there, of those that a table of labels names.

    Raises
    ------
    InputError
        when none is.
    """
    there = [row for row, stamp in enumerate(listed.stamps) if stamp]
    missing = [name for name, stamp in zip(listed.names, listed.stamps) if not stamp]
    if not missing:
        return listed
    told = f"{len(missing)} of {len(listed)} labelled images are not in {listed.root}: {missing[0]}"
    told += " and others" if len(missing) > 1 else ""
    if not there:
        raise InputError(told)
    return Imagery(
        listed.root,
        tuple(listed.names[row] for row in there),
        tuple(listed.labels[row] for row in there),
        tuple(listed.stamps[row] for row in there),
        (*listed.omitted, told),
        listed.notes,
    )


def _stamp(path: Path) -> str:
    """What changes when a file does; a file that is not there has none."""
    try:
        told = os.stat(path)
    except OSError:
        return ""
    return f"{told.st_size}-{told.st_mtime_ns}"


def _elsewhere(
    url: str, classes: Sequence[str], table: Path | None, unlabelled: bool, limit: int | None
) -> Imagery:
    files, root = file_system(url)
    try:
        told = answered(lambda: files.find(root, detail=True), f"the place of images {url}")
    except FileNotFoundError:
        raise InputError(f"there are no images at {url}") from None
    known = {}
    for path, entry in told.items():
        name = str(path)[len(root) :].lstrip("/")
        if Path(name).suffix.lower() in SUFFIXES:
            tag = entry.get("ETag") or entry.get("mtime") or entry.get("LastModified") or ""
            known[name] = f"{entry.get('size')}-{str(tag).strip(chr(34))}"
    if not known:
        raise InputError(f"there are no images at {url}")
    # Labels are checked by the same lines as a folder's: by empty files of the same names.
    with _hollow(known) as hollow:
        if unlabelled:
            found = list_unlabelled(hollow, limit)
        elif table is not None:
            found = list_images(hollow, classes, table, limit)
        else:
            found = list_images(hollow, classes, None, limit)
    stamps = tuple(known.get(name, "") for name in found.names)
    labels = found.labels if not unlabelled else (UNLABELLED,) * len(found.names)
    return _present(Imagery(url, found.names, labels, stamps, found.omitted, found.notes))


@contextlib.contextmanager
def _hollow(names: dict[str, str]) -> Iterator[Path]:
    """A folder with empty files of these names."""
    root = Path(tempfile.mkdtemp(prefix="adaptive-names-"))
    try:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield root
    finally:
        shutil.rmtree(root)


@contextlib.contextmanager
def fetched(root: str, names: Sequence[str]) -> Iterator[Path]:
    """The folder that images lie in; those of a URL are fetched for as long as the block runs.

    Raises
    ------
    InputError
        when this machine does not have the folder, or may not read a file of the URL.
    ImagesAway
        when the URL does not answer for too long.
    """
    if "://" not in root:
        if not Path(root).is_dir():
            raise InputError(
                f"this machine has no folder {root}; mount it here too, or give the images as a "
                "URL that workers reach, such as s3://BUCKET/PREFIX"
            )
        yield Path(root)
        return
    local = Path(tempfile.mkdtemp(prefix="adaptive-images-"))
    try:
        for name, content in _contents(root, names).items():
            path = local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield local
    finally:
        shutil.rmtree(local, ignore_errors=True)


def _contents(root: str, names: Sequence[str]) -> dict[str, bytes]:
    """Files of a URL by their names; those that are not there are left out."""
    files, prefix = file_system(root)

    def ask() -> dict[str, bytes]:
        told = files.cat([f"{prefix}/{name}" for name in names], on_error="return")
        found = {}
        for name in names:
            content = told.get(f"{prefix}/{name}")
            if isinstance(content, bytes):
                found[name] = content
            elif isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                if passing(content):
                    raise content
                raise InputError(f"{root}/{name} cannot be fetched: {content}") from content
        return found

    try:
        return answered(ask, f"the place of images {root}")
    except StoreError as error:
        raise ImagesAway(str(error)) from error
