"""What constructors are handed: numbers, whole numbers and lists, or one sentence why not."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, Iterable

import numpy as np

from adaptive.errors import InputError

#: What a camera's stream may be called over HTTP.
STREAM_NAME = re.compile(r"[A-Za-z0-9._:/+=@-]{1,64}")


def is_number(value: object) -> bool:
    """Whether it is a number, one of numpy's included; True and False are none."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and is_number(value[()])
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def number(value: Any, what: str) -> float:
    """`value` as a float, which may be infinite.

    Raises
    ------
    InputError
        when it is no number, or none that a float can hold.
    """
    if not is_number(value):
        raise InputError(f"{what} {shown(value)} is not a number")
    try:
        return float(value)
    except OverflowError as exc:
        raise InputError(f"{what} {shown(value)} is a number that is too large") from exc


def whole(value: Any, what: str, least: int = 0) -> int:
    """`value` as an int of at least `least`.

    Raises
    ------
    InputError
        when it is anything else; 3.0 is no whole number here.
    """
    if not is_number(value) or isinstance(value, (float, np.floating)) or value < least:
        raise InputError(f"{what} {shown(value)} is not a whole number >= {least}")
    return int(value)


def numbers(values: Any, what: str) -> tuple[float, ...]:
    """A list, tuple or array of numbers as a tuple of floats.

    Raises
    ------
    InputError
        when it is a single number, a text, or holds what is no number.
    """
    if is_number(values):
        raise InputError(f"{what} {shown(values)} is a single number; give a list, [{values}]")
    found = listed(values, what, "numbers")
    for value in found:
        if not isinstance(value, float):  # what is one, as most are, needs no more of a look
            number(value, f"{what} holds {shown(value)}; that")
    return tuple(map(float, found))


def texts(values: Any, what: str) -> tuple[str, ...]:
    """A list or tuple of texts as a tuple.

    Raises
    ------
    InputError
        when it is a single text, or no list.
    """
    if isinstance(values, str):
        raise InputError(f"{what} is the text {values!r}; give a list of names")
    return tuple(listed(values, what, "names"))


def chosen(value: Any, what: str, allowed: Iterable[str]) -> str:
    """`value` where it is one of `allowed`.

    Raises
    ------
    InputError
        when it is not; what is allowed is named.
    """
    known = list(allowed)
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{what} {shown(value)} is not one of {known}")
    return value


def a_path(value: Any, what: str) -> Path:
    """`value` as a path.

    Raises
    ------
    InputError
        when it is neither a text nor a path.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{what} is a folder's name, not {shown(value)}")
    return Path(value)


def shown(value: object) -> str:
    """The value as it is written in a sentence, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def finite(value: Any, what: str) -> float:
    """`value` as a float that is finite.

    Raises
    ------
    InputError
        when it is no finite number.
    """
    if not is_number(value) or not math.isfinite(number(value, what)):
        raise InputError(f"{what} {shown(value)} is not a finite number")
    return float(value)


def listed(values: Any, what: str, of: str) -> list[Any]:
    """The entries of something that has an order; a text, a mapping and a set have none here.

    Raises
    ------
    InputError
        when it has none, or is an array of several dimensions.
    """
    if isinstance(values, (str, bytes, dict, set, frozenset)) or not hasattr(values, "__iter__"):
        raise InputError(f"{what} {shown(values)} is not a list of {of}")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InputError(f"{what} has shape {values.shape}; give one row of {of}")
    return list(values)


def stream_name(name: Any, what: str) -> str:
    """`name` if a request may call a stream so.

    Raises
    ------
    InputError
        when it may not.
    """
    if not isinstance(name, str) or not STREAM_NAME.fullmatch(name):
        raise InputError(
            f"{what} {shown(name)} is no name of a stream; up to 64 letters, digits and "
            "._:/+=@- are"
        )
    return name
