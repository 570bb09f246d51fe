"""Where results lie: a folder, or any place that fsspec reaches, such as an S3 bucket.

An object is whole or not there: a folder's files are written aside and renamed, an object store
puts them whole. So a result that exists is a result that is finished.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Protocol, TypeVar

from adaptive.errors import AdaptiveError, InputError, MissingExtra, ServiceError

log = logging.getLogger("adaptive.experiments")

#: Seconds for which a store that does not answer is asked again.
PATIENCE_S = 120.0

Found = TypeVar("Found")


class StoreError(ServiceError):
    """A store has no room, or did not answer for too long."""


class Store(Protocol):
    """Objects by name; a name is made of letters, digits and "-_.@", in folders parted by "/"."""

    #: the URL or folder, as a worker is told it
    url: str

    def get(self, name: str) -> bytes:
        """An object's bytes; KeyError where there is none."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Put an object whole, in place of one of that name."""
        ...

    def names(self, folder: str) -> set[str]:
        """Names of the objects in a folder, without the folder's."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is removed already."""
        ...


class FolderStore:
    """A folder, also one that several machines mount."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def get(self, name: str) -> bytes:
        """An object's bytes; KeyError where there is none."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def put(self, name: str, content: bytes) -> None:
        """Write the object aside and rename it."""
        path = self.root / name
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(content)
            os.replace(aside, path)
        except OSError as exc:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise StoreError(
                f"{path} cannot be written: {exc.strerror or exc}; what is finished stays, and the "
                "same command goes on from there"
            ) from exc

    def names(self, folder: str) -> set[str]:
        """Names of the objects in a folder, without the folder's."""
        try:
            return {
                entry.name
                for entry in os.scandir(self.root / folder)
                if not entry.name.startswith(".")
            }
        except FileNotFoundError:
            return set()

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        return (self.root / name).is_file()

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is removed already."""
        with contextlib.suppress(FileNotFoundError):
            (self.root / name).unlink()


class ObjectStore:
    """A place that fsspec reaches: s3://BUCKET/PREFIX and the like.

    A store that answers with an error for a while is asked again, longer and longer apart.

    Parameters
    ----------
    options : of fsspec's file system; S3's address and keys otherwise come from the environment,
        AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    patience_s : seconds until a store that does not answer is given up
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S, **options: Any) -> None:
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self._files, self._root = file_system(self.url, **options)

    def get(self, name: str) -> bytes:
        """An object's bytes; KeyError where there is none."""
        try:
            found: bytes = self._again(lambda: self._files.cat_file(self._path(name)))
        except FileNotFoundError:
            raise KeyError(name) from None
        return found

    def put(self, name: str, content: bytes) -> None:
        """Put an object whole."""
        self._again(lambda: self._files.pipe_file(self._path(name), content))

    def names(self, folder: str) -> set[str]:
        """Names of the objects in a folder, without the folder's."""
        try:
            found = self._again(lambda: self._files.ls(self._path(folder), detail=False))
        except FileNotFoundError:
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in found} - {""}

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        return bool(self._again(lambda: self._files.exists(self._path(name))))

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is removed already."""
        with contextlib.suppress(FileNotFoundError):
            self._again(lambda: self._files.rm_file(self._path(name)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _again(self, ask: Callable[[], Found]) -> Found:
        return answered(ask, f"the store {self.url}", self.patience_s)


def answered(ask: Callable[[], Found], what: str, patience_s: float | None = None) -> Found:
    """What a place answers, asked again while it only has errors.

    Parameters
    ----------
    what : the place, for errors
    patience_s : for how long; `PATIENCE_S` when left out

    Raises
    ------
    FileNotFoundError
        when it says that there is no such thing.
    StoreError
        when it does not answer for too long, or with an error that does not pass by itself.
    """
    began, pause = time.monotonic(), 0.2
    patience_s = PATIENCE_S if patience_s is None else patience_s
    while True:
        try:
            return ask()
        except (FileNotFoundError, AdaptiveError):
            raise
        except Exception as exc:  # each file system has errors of its own
            if not passing(exc) or time.monotonic() - began > patience_s:
                raise StoreError(f"{what} does not answer: {exc}") from exc
            log.warning("%s: %s; asked again in %.1f s", what, exc, pause)
            time.sleep(pause)
            pause = min(pause * 2, 10.0)


#: Errors of S3's client, by name since it may not be installed, where this machine has no keys.
_NO_KEYS = {"NoCredentialsError", "PartialCredentialsError"}


def passing(error: Exception) -> bool:
    """Whether an error may pass by itself; no permission, no keys and no bucket do not."""
    lasting = (PermissionError, NotADirectoryError, IsADirectoryError, ValueError, TypeError)
    return not isinstance(error, lasting) and type(error).__name__ not in _NO_KEYS


def file_system(url: str, **options: Any) -> tuple[Any, str]:
    """What fsspec reaches a URL with, and the path in it.

    Raises
    ------
    MissingExtra
        when fsspec is not installed.
    InputError
        when it knows no such address, or lacks the package for it.
    """
    try:
        import fsspec
    except ImportError:
        raise MissingExtra(f"the store {url}", "fsspec", "fleet") from None
    protocol = url.partition("://")[0]
    if protocol == "s3":
        # One session a process and no remembered listings: another worker's result must be seen.
        options = {"use_listings_cache": False, "skip_instance_cache": True, **options}
    try:
        files, root = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as exc:
        raise InputError(f"{url!r} cannot be reached: {exc}") from exc
    return files, str(root).rstrip("/")


def open_store(url: str, **options: Any) -> Store:
    """The store at a URL, or in a folder."""
    if "://" not in url:
        return FolderStore(Path(url))
    if url.startswith("file://"):
        return FolderStore(Path(url[len("file://") :]))
    return ObjectStore(url, **options)
