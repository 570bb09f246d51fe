"""A bundle to a place that fsspec reaches, such as an S3 store, and from there to a board.

The manifest has the SHA-256 of every file, so that of the manifest stands for all of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Iterator, TypeVar

from adaptive.bundle.bundle import MANIFEST, Bundle, check_output
from adaptive.errors import BundleError, InputError, MissingExtra, ServiceError
from adaptive.files import folder_aside, sha256

#: Bytes of the largest manifest that is read.
LARGEST = 64_000_000

Found = TypeVar("Found")


class Place:
    """A folder of objects that fsspec reaches.

    Parameters
    ----------
    url : s3://BUCKET/PREFIX, https://HOST/PATH, a folder and the like; an S3 store's address and
        keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

    Raises
    ------
    MissingExtra
        when fsspec is not installed.
    InputError
        when it knows no such address, or lacks the package for it.
    """

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as exc:
            raise MissingExtra(f"the place {url}", "fsspec", "fleet") from exc
        self.url = url.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as exc:
            raise InputError(f"{url!r} cannot be reached: {exc}") from exc

    def read(self, name: str) -> bytes:
        """An object's bytes."""
        found: bytes = self._do(name, lambda: self._files.cat_file(f"{self._root}/{name}"))
        return found

    def fetch(self, name: str, target: Path) -> None:
        """Write an object to a file."""
        self._do(name, lambda: self._files.get_file(f"{self._root}/{name}", str(target)))

    def put(self, name: str, source: Path) -> None:
        """Put a file there."""
        parent = f"{self._root}/{name}".rpartition("/")[0]

        def put() -> None:
            if not str(self._files.protocol).count("s3"):
                self._files.makedirs(parent, exist_ok=True)
            self._files.put_file(str(source), f"{self._root}/{name}")

        self._do(name, put)

    def _do(self, name: str, act: Callable[[], Found]) -> Found:
        try:
            return act()
        except FileNotFoundError as exc:
            raise InputError(f"{self.url} has no {name!r}") from exc
        except Exception as exc:  # each file system has errors of its own
            raise ServiceError(f"{self.url} failed on {name!r}: {exc}") from exc


def push(bundle: Path, url: str) -> str:
    """Put a bundle's files in place, its manifest last; the manifest's SHA-256.

    Raises
    ------
    BundleError
        when the bundle cannot be served as it is.
    InputError, ServiceError
        when the place cannot be reached.
    """
    Bundle.read(bundle)
    place = Place(url)
    for name in _named((bundle / MANIFEST).read_bytes()):
        place.put(name, bundle / name)
    place.put(MANIFEST, bundle / MANIFEST)
    return sha256(bundle / MANIFEST)


def pull(url: str, output: Path, expected: str | None = None, force: bool = False) -> Bundle:
    """Fetch a bundle, and put it in place once every file is there and as its manifest says.

    Parameters
    ----------
    expected : SHA-256 of its manifest; nobody looks where it is None
    force : replace a bundle at `output`

    Raises
    ------
    BundleError
        when the manifest is another one, or a file is not as it says.
    InputError, ServiceError
        when `output` may not be written, or the place cannot be reached.
    """
    check_output(output, force)
    place = Place(url)
    manifest = place.read(MANIFEST)
    actual = hashlib.sha256(manifest).hexdigest()
    if expected is not None and actual != expected.lower():
        raise BundleError(
            f"{url} has another bundle than is meant: its manifest's SHA-256 is {actual[:12]}…, "
            f"not {expected[:12]}…"
        )
    names = list(_named(manifest))
    with folder_aside(output) as aside:
        for name in names:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            place.fetch(name, aside / name)
        (aside / MANIFEST).write_bytes(manifest)
        Bundle.read(aside)  # every SHA-256 is looked at here
    return Bundle.read(output)


def _named(manifest: bytes) -> Iterator[str]:
    """Every other file that a manifest names, each within its folder."""
    if len(manifest) > LARGEST:
        raise BundleError(f"{MANIFEST} has {len(manifest)} bytes; {LARGEST} at most are read")
    try:
        value: Any = json.loads(manifest)
        found = list(value.get("files", {}))
        for entry in value["candidates"]:
            found += [entry["file"]] if "file" in entry else []
            found += [entry["through"]["file"]] if entry.get("through") else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BundleError(f"{MANIFEST} is none of a bundle") from exc
    for name in dict.fromkeys(found):
        path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
            raise BundleError(f"{MANIFEST} names {str(name)[:60]!r}, which leaves its folder")
        if name != MANIFEST:
            yield name
