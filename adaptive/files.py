"""Files that are written whole or not at all, and names that stay inside their folder."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Iterator

from adaptive.errors import BundleError, InputError


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def inside(folder: Path, name: object, what: str) -> Path:
    """The path of `name` in `folder`, refused when it leaves the folder or goes through a link.

    Raises
    ------
    BundleError
        for an absolute name, `..`, a link, or a file that is not there.
    """
    if not isinstance(name, str) or not name:
        raise BundleError(f"{what} must name a file in the folder, not {name!r}")
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise BundleError(f"{what} {name!r} leaves its folder; names are relative, without '..'")
    path = folder
    try:
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise BundleError(f"{what} {name!r} goes through the symbolic link {part!r}")
        there = path.exists()
    except OSError as exc:  # a name that is too long for the file system, or a locked folder
        raise BundleError(f"{what} {name[:60]!r} cannot be looked up: {exc.strerror}") from exc
    if not there:
        raise BundleError(f"{what} {name!r} is not in {folder}")
    return path


def refuse_existing(path: Path, force: bool) -> None:
    """Raise InputError when `path` exists and may not be replaced."""
    if path.exists() and not force:
        raise InputError(f"{path} exists; give --force to replace it")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} that {path.name} goes into does not exist")


def refuse_folder(path: Path) -> None:
    """Raise InputError when a file is to be written where a folder stands."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write")


#: Errors of writing that name no file: the disk, the quota or the file is full.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path, aside: Path | None = None) -> Iterator[None]:
    """Have an error of the block that says that there is no room name `path` as the file.

    aside : the folder that is written in the place of `path`, whose files are named as there
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL and (exc.filename is None or aside is not None):
            named = str(path)
            if exc.filename is not None and str(exc.filename).startswith(f"{aside}{os.sep}"):
                named += str(exc.filename)[len(str(aside)) :]
            raise OSError(exc.errno, os.strerror(exc.errno), named) from exc
        if exc.errno is None and "requested and" in str(exc):  # numpy, which wrote less
            raise OSError(errno.ENOSPC, "could not be written whole", str(path)) from exc
        raise


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well, else removed."""
    aside = path.with_name(path.name + ".partial")
    try:
        with writing(path):
            yield aside
        os.replace(aside, path)
    finally:
        aside.unlink() if aside.exists() else None


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; name a folder to write")
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    aside.chmod(0o755)
    try:
        with writing(path, aside):
            yield aside
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            os.replace(path, old)
        os.replace(aside, path)
        if old is not None:
            shutil.rmtree(old)
    finally:
        if aside.exists():
            shutil.rmtree(aside)


def write_json(path: Path, value: object) -> None:
    """Write JSON aside, then rename it; NaN and infinities are refused."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    with written_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object; `what` names it in errors.

    Raises
    ------
    BundleError
        when it is missing, no JSON, no object, or holds NaN or an infinity.
    """

    def refuse(constant: str) -> float:
        raise BundleError(f"{what} {path} holds {constant}; numbers must be finite")

    try:
        # Some programs write a byte order mark, which is none of the text.
        value = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=refuse)
    except FileNotFoundError as exc:
        raise BundleError(f"{what} {path} is missing") from exc
    except OSError as exc:
        raise BundleError(f"{what} {path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, ValueError, RecursionError) as exc:
        if isinstance(exc, BundleError):
            raise
        raise BundleError(f"{what} {path} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BundleError(f"{what} {path} must be a JSON object, not {type(value).__name__}")
    return value


class Fields:
    """Typed access to a JSON object, with errors that say where a wrong value stands."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise BundleError(f"{where} must be an object, not {_kind(values)}")
        self.values: dict[str, Any] = values
        self.where = where

    def get(self, name: str, *kinds: type, default: Any = ...) -> Any:
        """The value under `name`, which must be of one of `kinds`; a default makes it optional.

        A JSON null counts as absent. Numbers must be finite; true and false are no numbers.
        """
        value = self.values.get(name)
        if value is None:
            if default is ...:
                raise BundleError(f"{self.where} has no {name!r}")
            return default
        if isinstance(value, bool) and bool not in kinds:
            raise self.wrong(name, value, kinds)
        if float in kinds and isinstance(value, int):
            try:
                value = float(value)
            except OverflowError:
                raise self.wrong(name, value, kinds) from None
        if not isinstance(value, kinds):
            raise self.wrong(name, value, kinds)
        if isinstance(value, float) and not math.isfinite(value):
            raise BundleError(f"{self.where}: {name!r} is {value}; it must be finite")
        return value

    def numbers(self, name: str, default: Any = ...) -> Any:
        """A list of finite numbers as a tuple of floats."""
        values = self.get(name, list, default=default)
        if values is default:
            return default
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise BundleError(f"{self.where}: {name!r} holds {_shown(value)}, not a number")
            if not _is_finite(value):
                raise BundleError(f"{self.where}: {name!r} holds {value}; it must be finite")
        return tuple(float(value) for value in values)

    def texts(self, name: str, default: Any = ...) -> Any:
        """A list of strings as a tuple."""
        values = self.get(name, list, default=default)
        if values is default:
            return default
        for value in values:
            if not isinstance(value, str):
                raise BundleError(f"{self.where}: {name!r} holds {_shown(value)}, not a string")
        return tuple(values)

    def wrong(self, name: str, value: object, kinds: tuple[type, ...]) -> BundleError:
        """The error for a value of the wrong type."""
        wanted = " or ".join(_NAMES.get(kind, kind.__name__) for kind in kinds)
        return BundleError(f"{self.where}: {name!r} is {_kind(value)}, not {wanted}")


_NAMES: dict[type, str] = {
    str: "a string",
    float: "a number",
    int: "a whole number",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}


def _kind(value: object) -> str:
    return f"{type(value).__name__} {_shown(value)}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = "nested too deeply to show"
    return text if len(text) < 40 else text[:37] + "..."


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def check_format(fields: Fields, newest: int) -> None:
    """Refuse a file of a newer format than this version reads."""
    number = fields.get("format", int)
    if not 1 <= number <= newest:
        raise BundleError(
            f"{fields.where} has format {number}; this version of adaptive reads up to {newest}"
        )
