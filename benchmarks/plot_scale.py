"""Draw what `scale.py` measured: `python benchmarks/plot_scale.py FILE.json... -o scale.svg`.

One panel a file, both axes logarithmic; a dashed line shows what proportional growth looks like.
Quantities of different units in one file get panels of their own.
"""

from __future__ import annotations

import argparse
import html
import json
import math
from pathlib import Path
from typing import Any, Sequence

Series = Sequence[Sequence[float]]

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 34, 78
COLOURS = ("#1b6ca8", "#c2571a", "#2f7d4f", "#8a3ea0", "#6b6b6b")

TITLES = {
    "premodel": "premodel: rows of its table",
    "candidates": "number of candidates",
    "tables": "images in the outcome table",
    "images": "pixels of an image",
}


def panels(content: dict[str, Any]) -> list[tuple[str, str, dict[str, Series]]]:
    """(title, unit, series by name) of one file, a panel for each unit."""
    by_unit: dict[str, dict[str, Series]] = {}
    for label, points in content["series"].items():
        name, _, unit = label[:-1].rpartition(" (")
        by_unit.setdefault(unit, {})[name] = points
    part = content["settings"]["part"]
    return [(TITLES.get(part, part), unit, series) for unit, series in by_unit.items()]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten around two numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**k for k in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """A power of ten for an axis."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def panel(title: str, unit: str, series: dict[str, Series]) -> str:
    """One drawing, its corner at 0, 0."""
    xs = [p[0] for points in series.values() for p in points]
    ys = [p[1] for points in series.values() for p in points]
    across, up = decades(min(xs), max(xs)), decades(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x / across[0])) / math.log10(across[-1] / across[0])
        above = (math.log10(y / up[0])) / math.log10(up[-1] / up[0])
        return (
            LEFT + along * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - above * (HEIGHT - TOP - BOTTOM),
        )

    parts = [f'<text x="{LEFT}" y="20" font-weight="bold">{html.escape(title)}, {unit}</text>']
    for x in across:
        here, foot = place(x, up[0])
        parts.append(
            f'<line class="g" x1="{here:.1f}" y1="{TOP}" x2="{here:.1f}" y2="{foot:.1f}"/>'
        )
        parts.append(
            f'<text x="{here:.1f}" y="{foot + 15:.1f}" text-anchor="middle">{short(x)}</text>'
        )
    for y in up:
        left, here = place(across[0], y)
        edge = WIDTH - RIGHT
        parts.append(
            f'<line class="g" x1="{left:.1f}" y1="{here:.1f}" x2="{edge}" y2="{here:.1f}"/>'
        )
        parts.append(
            f'<text x="{left - 6:.1f}" y="{here + 4:.1f}" text-anchor="end">{short(y)}</text>'
        )
    parts.append(proportional(across, up, place))
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        where = [place(x, y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in where]
        row = HEIGHT - BOTTOM + 33 + 14 * number
        parts.append(f'<rect x="{LEFT}" y="{row - 8}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 15}" y="{row + 1}">{html.escape(name)}</text>')
    return "".join(parts)


def proportional(across: list[float], up: list[float], place: Any) -> str:
    """The dashed line of cost in proportion to the work, through the upper right corner."""
    reach = min(across[-1] / across[0], up[-1] / up[0])
    (x1, y1), (x2, y2) = place(across[-1] / reach, up[-1] / reach), place(across[-1], up[-1])
    return (
        f'<line stroke="#999" stroke-dasharray="4 4" x1="{x1:.1f}" y1="{y1:.1f}" '
        f'x2="{x2:.1f}" y2="{y2:.1f}"/>'
    )


def drawing(contents: Sequence[dict[str, Any]]) -> str:
    """The whole SVG, two panels a row."""
    found = [one for content in contents for one in panels(content)]
    rows = (len(found) + 1) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT}" '
        'role="img" font-family="sans-serif" font-size="11" fill="#222">'
        "<title>Cost as the work grows</title>"
        "<desc>Both axes logarithmic; dashed lines show growth in proportion to the work.</desc>"
        "<style>.g{stroke:#ddd}</style>"
        f'<rect width="{2 * WIDTH}" height="{rows * HEIGHT}" fill="#fff"/>'
    ]
    for number, (title, unit, series) in enumerate(found):
        x, y = WIDTH * (number % 2), HEIGHT * (number // 2)
        parts.append(f'<g transform="translate({x} {y})">{panel(title, unit, series)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Read, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in options.files]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(drawing(contents), encoding="utf-8")


if __name__ == "__main__":
    main()
