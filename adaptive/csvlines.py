"""Lines of a CSV file, quoted so that every reader finds the cells again."""

from __future__ import annotations

import re
from typing import IO, Iterable, Sequence

#: What makes a cell be quoted. Python's own writer leaves a lone carriage return bare before
#: 3.11.9 and 3.12.3, and then no reader finds the end of the line.
_QUOTED = re.compile('[",\r\n]')


def write_lines(file: IO[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows to a file that was opened with newline=""."""
    file.writelines(f"{','.join(map(_cell, row))}\n" for row in rows)


def _cell(value: object) -> str:
    text = str(value)
    if _QUOTED.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text
