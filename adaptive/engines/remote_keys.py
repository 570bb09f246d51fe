"""Bearer keys of other servers, which stand in a file and are no part of a bundle."""

from __future__ import annotations

from pathlib import Path

from adaptive.errors import InputError
from adaptive.remote import check_url, origin


def read_keys(path: Path | None) -> dict[str, str]:
    """Bearer keys by the origin of the server that each is for: a line "https://HOST:PORT KEY".

    A key goes nowhere else: a bundle that names another server gets none.

    Raises
    ------
    InputError
        when the file cannot be read, or a line is not of that form.
    """
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"the file of keys {path} cannot be read: {why}") from exc
    keys = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = line.split()
        if len(parts) != 2:
            raise InputError(f"{path}, line {number}: two words are needed, https://HOST:PORT KEY")
        keys[origin(check_url(parts[0]))] = parts[1]
    return keys
