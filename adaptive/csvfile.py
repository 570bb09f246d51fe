"""A CSV file read strictly: named columns of text, and of numbers that are really numbers."""

from __future__ import annotations

import csv
import math
import posixpath
import re
from array import array
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import numpy as np

from adaptive.errors import TableError

#: Rows whose cells are held together; a million cells as objects of their own take 60 MB.
BLOCK = 8192

#: Between the cells of one column in a block: a CSV file is text, so it occurs in none.
_MARK = "\0"

#: The line that tells Excel the separator, and what a blank line may hold.
_EXCEL, _BLANK = re.compile(r'"?sep=(.)"?', re.IGNORECASE), " \t\r\n"


@dataclass(frozen=True)
class Columns:
    """The cells of a CSV file as text, with the line that each row stands on.

    Every error is a TableError whose one sentence names the file, the line and the column, what
    was found and what is allowed.

    Attributes
    ----------
    path : the file
    header : column names, without surrounding spaces; all different, none empty
    blocks : for each BLOCK rows, and the rest, the cells of each column, joined; see `cells`
    lines : for each row, the line of the file on which it ends; the header is line 1
    """

    path: Path
    header: tuple[str, ...]
    blocks: Sequence[tuple[str, ...]] = field(repr=False)
    lines: Sequence[int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.lines)

    def cells(self, name: str) -> Iterator[list[str]]:
        """One column's cells without surrounding spaces, a block at a time."""
        position = self._position(name)
        for block in self.blocks:
            yield [cell.strip() for cell in block[position].split(_MARK)]

    def error(self, row: int, name: str, allowed: str, found: str | None = None) -> TableError:
        """The error for one cell: where it stands, what it holds and what is allowed."""
        if found is None:
            cell = self.blocks[row // BLOCK][self._position(name)].split(_MARK)[row % BLOCK]
            if len(cell) > 60:
                cell = cell[:57] + "..."
            found = f"holds {cell!r}" if cell.strip() else "is empty"
        return TableError(
            f"{self.path}, line {self.lines[row]}, column {name!r} {found}; {allowed}"
        )

    def need(self, names: Iterable[str]) -> None:
        """Raise TableError unless every one of `names` is a column."""
        for name in names:
            self._position(name)

    def text(self, name: str) -> list[str]:
        """One column's cells without surrounding spaces; they may be empty."""
        return list(chain.from_iterable(self.cells(name)))

    def filled(self, name: str) -> list[str]:
        """One column's cells, none of them empty."""
        cells = self.text(name)
        if not all(cells):
            raise self.error(cells.index(""), name, "it needs a value")
        return cells

    def unique(self, name: str, path: bool = False) -> list[str]:
        """One column's cells, none of them empty and no two alike.

        path : whether they are paths of files, of which `a.png` and `./a.png` are alike
        """
        cells = self.filled(name)
        keys = [posixpath.normpath(cell) for cell in cells] if path else cells
        if len(set(keys)) < len(cells):
            first: dict[str, int] = {}
            for row, (cell, key) in enumerate(zip(cells, keys)):
                if key in first:
                    line, other = self.lines[first[key]], cells[first[key]]
                    before = f"which line {line} has already"
                    before += "" if other == cell else f" as {other!r}"
                    raise self.error(row, name, "each may occur once", f"holds {cell!r}, {before}")
                first[key] = row
        return cells

    def numbers(
        self,
        name: str,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> np.ndarray:
        """One column as finite numbers, within limits where limits are given.

        Returns
        -------
        ndarray of shape (rows,), float64
        """
        values = np.empty(len(self), np.float64)
        begin = 0
        for cells in self.cells(name):
            try:
                if not _plain("".join(cells)):
                    raise ValueError
                values[begin : begin + len(cells)] = list(map(float, cells))
            except ValueError:
                row = next(row for row, cell in enumerate(cells) if not _is_number(cell))
                allowed = "a finite number is needed"
                if _is_number(cells[row].replace(",", ".", 1)):
                    allowed += ", with a decimal point"
                raise self.error(begin + row, name, allowed) from None
            begin += len(cells)
        self._refuse(name, ~np.isfinite(values), "a finite number is needed")
        if above is not None:
            self._refuse(name, ~(values > above), f"a number above {above:g} is needed")
        if at_least is not None:
            self._refuse(name, ~(values >= at_least), f"at least {at_least:g} is needed")
        if at_most is not None:
            self._refuse(name, ~(values <= at_most), f"at most {at_most:g} is allowed")
        return values

    def flags(self, name: str) -> np.ndarray:
        """One column of 0 and 1.

        Returns
        -------
        ndarray of shape (rows,), uint8
        """
        values = self.numbers(name)
        self._refuse(name, (values != 0) & (values != 1), "only 0 and 1 are allowed")
        return values.astype(np.uint8)

    def matrix(self, names: Sequence[str]) -> np.ndarray:
        """Several columns as finite numbers.

        Returns
        -------
        ndarray of shape (rows, len(names)), float64
        """
        values = np.empty((len(self), len(names)), np.float64)
        for position, name in enumerate(names):
            values[:, position] = self.numbers(name)
        return values

    def _position(self, name: str) -> int:
        if name not in self.header:
            raise TableError(
                f"{self.path} has no column {name!r}; it has {_shortened(self.header)}"
            )
        return self.header.index(name)

    def _refuse(self, name: str, wrong: np.ndarray, allowed: str) -> None:
        if wrong.any():
            raise self.error(int(wrong.argmax()), name, allowed)


def read_csv(path: Path | str) -> Columns:
    """Read a CSV file with a header, separated by commas, semicolons or tabs.

    A byte order mark, CRLF line ends, quoted cells, empty lines at the beginning and the end, and
    Excel's line `sep=;` before the header are accepted.

    Raises
    ------
    TableError
        when the file is missing, empty, not UTF-8 or has only a header; when a column name is
        empty or occurs twice; when a row has more or fewer cells than the header.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _parsed(path, file)
    except FileNotFoundError as exc:
        raise TableError(f"{path} is missing; a CSV file is needed") from exc
    except OSError as exc:
        raise TableError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise _not_text(path) from None


def _not_text(path: Path) -> TableError:
    """Where in the file it is not UTF-8."""
    data = path.read_bytes()
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        return TableError(
            f"{path}, line {line} holds the byte {data[exc.start]:#04x}, which is not UTF-8; "
            "save the file as UTF-8 text"
        )
    return TableError(f"{path} changed while it was read; read it again")


def _checked_header(path: Path, cells: Sequence[str], line: int) -> tuple[str, ...]:
    header = tuple(name.strip() for name in cells)
    if not header:
        raise TableError(f"{path} is empty; it needs a header line and at least one row")
    for position, name in enumerate(header):
        if not name:
            raise TableError(f"{path}, line {line}: column {position + 1} has no name")
        if name in header[:position]:
            raise TableError(
                f"{path}, line {line}: columns {header.index(name) + 1} and {position + 1} "
                f"are both called {name!r}; each name may occur once"
            )
    return header


def _parsed(path: Path, file: Iterable[str]) -> Columns:
    """Read the lines of a file; only cells that are joined a block at a time stay in memory."""
    source = _without_nul(path, file)
    first, before, mark = _first_line(source)
    separator = _separator(first) if mark is None else mark
    reader = csv.reader(chain([first], source), delimiter=separator, strict=True)
    blocks: list[tuple[str, ...]] = []
    lines = array("q")
    held: list[list[str]] = []
    blank: int | None = None  # the line of the first empty row; they may stand at the end
    try:
        header = _checked_header(path, next(reader, ()), before + reader.line_num)
        for cells in reader:
            if not cells:
                blank = blank or before + reader.line_num
                continue
            if blank is not None or len(cells) != len(header):
                line, count = (
                    (before + reader.line_num, len(cells)) if blank is None else (blank, 0)
                )
                raise TableError(
                    f"{path}, line {line} has {count} cells; the header has {len(header)} columns"
                )
            held.append(cells)
            lines.append(before + reader.line_num)
            if len(held) == BLOCK:
                blocks.append(tuple(map(_MARK.join, zip(*held))))
                held = []
    except csv.Error as exc:
        raise TableError(f"{path}, line {before + reader.line_num} is not CSV: {exc}") from exc
    if held:
        blocks.append(tuple(map(_MARK.join, zip(*held))))
    if not blocks:
        raise TableError(f"{path} has a header but no row; at least one is needed")
    return Columns(path, header, blocks, lines)


def _without_nul(path: Path, source: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(source, 1):
        if _MARK in line:
            raise TableError(f"{path}, line {number} holds a NUL character; a CSV file is text")
        yield line


def _first_line(source: Iterator[str]) -> tuple[str, int, str | None]:
    """The line of the header, how many lines stand before it, and the separator if one says it."""
    mark = None
    for number, text in enumerate(source):
        said = _EXCEL.fullmatch(text.strip("\r\n")) if mark is None else None
        if said is not None:
            mark = said[1]
        elif text.strip(_BLANK):
            return text, number, mark
    return "", 0, mark


def _separator(text: str) -> str:
    """Comma, semicolon or tab, whichever splits the header into most columns."""
    first = re.split(r"[\r\n]", text[:100_000], maxsplit=1)[0]
    return max(
        (",", ";", "\t"),
        key=lambda mark: max(map(len, csv.reader([first], delimiter=mark)), default=0),
    )


def _plain(text: str) -> bool:
    """Whether no character occurs that Python takes in a number but CSV files do not mean."""
    return "_" not in text and text.isascii()


def _is_number(cell: str) -> bool:
    try:
        return _plain(cell) and math.isfinite(float(cell))
    except ValueError:
        return False


def _shortened(names: Sequence[str]) -> str:
    if len(names) <= 12:
        return str(list(names))
    return f"{list(names[:10])} and {len(names) - 10} more"
