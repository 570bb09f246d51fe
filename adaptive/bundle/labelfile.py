"""Class names as people keep them: a text file, a CSV, or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

from adaptive.csvfile import read_csv
from adaptive.errors import InputError

#: Columns of a CSV that hold a class's name, the first that is there.
_COLUMNS = ("name", "label", "class")


def read_labels(path: Path, least: int = 2) -> tuple[str, ...]:
    """Class names in the order of a network's outputs.

    Parameters
    ----------
    path : a text file with one a line; a CSV with a column name, label or class, and perhaps
        index; or JSON: a list, an object by index (Hugging Face's id2label, Keras's
        class_index), or an object of indices by name
    least : so many are needed; a detector may know one class alone

    Raises
    ------
    InputError
        when it is none of them, has fewer names, or an index is missing.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".json":
            names = _from_json(json.loads(path.read_text(encoding="utf-8")), path)
        elif suffix == ".csv":
            names = _from_csv(path)
        else:
            names = path.read_text(encoding="utf-8").splitlines()
            while names and not names[-1].strip():
                names.pop()
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as exc:
        raise InputError(f"the labels in {path} cannot be read: {exc}") from exc
    return check_labels(names, str(path), least)


def check_labels(names: Sequence[str], where: str, least: int = 2) -> tuple[str, ...]:
    """`names`, where each can stand on a line of its own.

    Raises
    ------
    InputError
        when one is empty or has a line break, or there are fewer than `least`.
    """
    for number, name in enumerate(names):
        if not name.strip() or len(name.splitlines()) != 1:
            raise InputError(f"{where}: the name of class {number} is {name!r}; write one line")
    if len(names) < least:
        needed = "one is" if least == 1 else "two are"
        raise InputError(f"{where} names {len(names)} classes; {needed} needed at least")
    return tuple(names)


def _from_json(value: Any, path: Path) -> list[str]:
    if isinstance(value, dict):
        if all(isinstance(index, int) for index in value.values()):
            value = {str(index): name for name, index in value.items()}
        return _by_index([(str(i), _last(name)) for i, name in value.items()], path)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    raise InputError(f"{path} is neither a list of names nor an object of names by index")


def _last(name: Any) -> Any:
    """Of an entry such as ["n01440764", "tench"] the word that people read."""
    return name[-1] if isinstance(name, list) and name else name


def _from_csv(path: Path) -> list[str]:
    columns = read_csv(path)
    found = [name for name in _COLUMNS if name in columns.header]
    if not found:
        raise InputError(f"{path} has no column called {', '.join(_COLUMNS)}")
    names = columns.filled(found[0])
    return (
        _by_index(list(zip(columns.filled("index"), names)), path)
        if ("index" in columns.header)
        else list(names)
    )


def _by_index(pairs: Sequence[tuple[str, Any]], path: Path) -> list[str]:
    found: dict[int, str] = {}
    for index, name in pairs:
        if not (index.isascii() and index.isdigit()) or not isinstance(name, str):
            raise InputError(f"{path}: {index!r}: {name!r} is no index of a class with its name")
        if int(index) in found:
            raise InputError(f"{path} has two names for class {int(index)}")
        found[int(index)] = name
    missing = [number for number in range(len(found)) if number not in found]
    if missing:
        raise InputError(f"{path} has no name for class {missing[0]}; indices count from 0")
    return [found[number] for number in range(len(found))]
