"""Draw where the time of a request goes: `python benchmarks/plot_router.py FILE.json -o X.svg`.

FILE.json is what `router.py` measured. One bar for each way of deciding, as wide as the median of
`classify`; each step takes its share of it. Below it, what cannot be saved: the limit.
"""

from __future__ import annotations

import argparse
import html
import json
from pathlib import Path
from typing import Any

COLOURS = {
    "decode": "#8a929a",
    "features": "#8a3ea0",
    "premodel": "#c2571a",
    "preprocess": "#b9c2ca",
    "network": "#1b6ca8",
    "probabilities": "#5da0cf",
    "policy": "#e0a030",
    "answer": "#2f7d4f",
    "rest": "#6b6b6b",
}
LIMIT = "#d8dde2"
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 10, 70, 26, 66, 58


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    content = json.loads(arguments.file.read_text(encoding="utf-8"))
    arguments.output.write_text(drawing(content), encoding="utf-8")


def drawing(content: dict[str, Any]) -> str:
    """The SVG."""
    ways, results = content["ways"], content["results"]
    longest = max(results[f"{name}: classify"]["median"] for name in ways)
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [legend()]
    for place, (name, way) in enumerate(ways.items()):
        whole = results[f"{name}: classify"]["median"]
        limit = results[f"{name}: limit"]["median"]
        top = TOP + place * GAP
        parts.append(text(LEFT, top - 6, f"{name}: {whole:,.0f} µs, limit {limit:,.0f} µs"))
        x = float(LEFT)
        shares = {step: values["share"] for step, values in way["steps"].items()}
        for step, share in shares.items():
            width = share / sum(shares.values()) * whole * scale
            told = f"{step}: {100 * share:.1f}% in {name}"
            parts.append(rectangle(x, top, width, BAR, COLOURS[step], told))
            if width > 60:
                parts.append(text(x + 4, top + 17, step, "#fff"))
            x += width
        parts.append(text(x + 4, top + 17, f"{whole / limit:.2f}x"))
        parts.append(rectangle(LEFT, top + BAR + 2, limit * scale, 7, LIMIT, f"limit of {name}"))
    height = TOP + len(ways) * GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="12"><title>Where the microseconds of a request go'
        f'</title><rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def legend() -> str:
    """Names of the steps."""
    parts, x = [], float(LEFT)
    for step, colour in COLOURS.items():
        parts += [rectangle(x, 8, 11, 11, colour, step), text(x + 15, 18, step)]
        x += 30 + 6.4 * len(step)
    return "".join(parts)


def rectangle(x: float, y: float, width: float, height: float, colour: str, told: str) -> str:
    """A filled one, with a tooltip."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}">'
        f"<title>{html.escape(told)}</title></rect>"
    )


def text(x: float, y: float, words: str, colour: str = "#222") -> str:
    """One line of it."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{html.escape(words)}</text>'


if __name__ == "__main__":
    main()
