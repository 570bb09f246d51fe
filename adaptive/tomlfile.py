"""TOML, which Python reads itself from 3.11 on."""

from __future__ import annotations

import re
from typing import Any

from adaptive.errors import InputError


class TomlError(InputError):
    """A text is not TOML.

    Attributes
    ----------
    line : where, from 1
    """

    def __init__(self, file: str, text: str, why: str) -> None:
        told = re.search(r"at line (\d+), column \d+\)$", why)  # a key may say "line 5" too
        self.line = int(told[1]) if told else max(1, len(text.splitlines()))
        super().__init__(f"{file} is not TOML: {why}")


def parse_toml(text: str, file: str, otherwise: str = "") -> dict[str, Any]:
    """The table of a TOML text.

    Parameters
    ----------
    file : what the text is called in errors
    otherwise : what may be done where this Python has nothing that reads it

    Raises
    ------
    TomlError
        when the text is not TOML.
    InputError
        when this Python has nothing that reads it.
    """
    try:
        import tomllib as toml
    except ImportError:
        try:
            import tomli as toml  # type: ignore[import-not-found, no-redef, unused-ignore]
        except ImportError:
            raise InputError(
                f"{file} is TOML, which Python reads itself from 3.11 on; pip install tomli"
                f"{otherwise}"
            ) from None
    try:
        found: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as exc:
        raise TomlError(file, text, str(exc)) from exc
    return found
