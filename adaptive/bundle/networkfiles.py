"""The files of candidates in their folder: put there, found, taken away."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Iterator, Sequence

from adaptive.bundle.bundle import OWN_NAMES
from adaptive.candidate import Candidate
from adaptive.engines.onnxfile import read_header
from adaptive.errors import InputError
from adaptive.files import writing


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder`, which is made for it and goes where nothing came of it."""
    if not folder.parent.is_dir():
        raise InputError(f"the folder {folder.parent} that {folder.name} goes into does not exist")
    folder.mkdir(exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".adding.", dir=folder))
    try:
        yield stage
    finally:
        shutil.rmtree(stage)
        if not any(folder.iterdir()):
            folder.rmdir()


def move_in(stage: Path, folder: Path) -> None:
    """Move all files of one folder into another, those of the same name are replaced."""
    for path in sorted(p for p in stage.rglob("*") if p.is_file()):
        target = folder / path.relative_to(stage)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def put_network(model: Path, stage: Path, name: str, link: bool) -> str:
    """Copy a network and its weights outside; the name of its file, with the folder it lies in.

    Links are followed. With `link` the files are hard-linked and not copied.

    Raises
    ------
    InputError
        when it is no file, its weights are missing or lie elsewhere, or cannot be linked.
    """
    if not model.is_file():
        raise InputError(f"{model} is no file; name an ONNX file")
    external = read_header(model).external
    file = f"{name}.onnx"
    if not external:
        if file in OWN_NAMES:
            raise InputError(f"a folder of candidates has its own {file!r}; give another --name")
        _copy(model, stage / file, link)
        return file
    # The file names them itself, and two exporters call them alike: each gets a folder.
    inside = Path(f"{name}.external")
    for weights in external:
        place = PurePosixPath(weights)
        if place.is_absolute() or ".." in place.parts or "\\" in weights:
            raise InputError(
                f"{model.name} keeps weights in {weights!r}, outside its own folder; save it again "
                "with its weights beside it or inside"
            )
        if weights == file:
            raise InputError(f"{model.name} keeps weights in {weights!r}; give another --name")
        if not (model.parent / weights).is_file():
            raise InputError(
                f"{model.name} keeps weights in {weights!r}, which is not in {model.parent}; put "
                "it there"
            )
        _copy(model.parent / weights, stage / inside / weights, link)
    _copy(model, stage / inside / file, link)
    return (inside / file).as_posix()


def _copy(source: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not link:
        with writing(target):
            shutil.copyfile(source, target)
        return
    try:
        os.link(os.path.realpath(source), target)
    except OSError as exc:
        raise InputError(
            f"{source} cannot be hard-linked into {target.parent.parent}: {exc.strerror}; leave "
            "--link out to copy it"
        ) from exc


def files_of(folder: Path, candidates: Sequence[Candidate]) -> set[str]:
    """Every file that candidates need."""
    found = set()
    for candidate in candidates:
        for file in candidate.files:
            found.add(file)
            for name in read_header(folder / file).external:
                found.add((PurePosixPath(file).parent / name).as_posix())
    return found


def remove_files(folder: Path, files: set[str]) -> tuple[str, ...]:
    """Remove files and the folders that are empty then; their names, sorted."""
    for file in files:
        (folder / file).unlink()
        for parent in PurePosixPath(file).parents:
            if parent.parts and not any((folder / parent).iterdir()):
                (folder / parent).rmdir()
    return tuple(sorted(files))
