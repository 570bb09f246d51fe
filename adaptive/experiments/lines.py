"""On which line of a TOML file a value stands, which Python's reader does not tell."""

from __future__ import annotations

import re
from collections import Counter
from typing import Dict, Tuple, Union

Place = Tuple[Union[str, int], ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[A-Za-z0-9_-]+)*)\s*=""")
#: What brackets and line breaks mean nothing in; the first two may go over several lines.
_QUOTED = re.compile(
    r'''(?P<long>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5})'''
    r"""|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*""",
    re.DOTALL,
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'""")


def lines_of(text: str) -> Dict[Place, int]:
    """Line numbers, from 1, of tables and keys: ("policy", 0, "kind") -> 12."""
    found: Dict[Place, int] = {}
    counted: Counter[Place] = Counter()
    table: Place = ()
    depth = 0
    plain = _QUOTED.sub(_flat, text)
    for number, line in enumerate(plain.split("\n"), 1):
        inside, bare = depth > 0, _QUOTED.sub("", line)
        header = None if inside else _HEADER.match(line)
        if header is None:
            depth += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))
        if header:
            table = ()
            parts = _parts(header[2])
            for count, part in enumerate(parts, 1):
                table = (*table, part)
                last = count == len(parts)
                if last and header[1] == "[[":
                    counted[table] += 1
                if counted[table]:
                    found.setdefault(table, number)
                    table = (*table, counted[table] - 1)
            found.setdefault(table, number)
            continue
        key = None if inside else _KEY.match(line)
        if key:
            place = table
            for part in _parts(key[1]):
                place = (*place, part)
                found.setdefault(place, number)
    return found


def line_at(found: Dict[Place, int], place: Place) -> int:
    """The line of a place, or of the nearest table that holds it."""
    while place and place not in found:
        place = place[:-1]
    return found.get(place, 1)


def _flat(quoted: re.Match[str]) -> str:
    """A text of several lines as as many lines without a word; another one as it is."""
    if quoted["long"] is None:
        return quoted[0]
    return '""' + "\n" * quoted[0].count("\n")


def _parts(text: str) -> list[str]:
    return [m[1] or m[2] or m[0] for m in _PART.finditer(text)]
