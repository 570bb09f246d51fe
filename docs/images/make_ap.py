"""Draw average precision by epoch: `python docs/images/make_ap.py HISTORY.csv ap.svg`.

HISTORY.csv has columns design, epoch and ap, as `benchmarks/small_detectors.py` writes it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 680, 320, 50, 16, 170, 44
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def drawn(rows: list[dict[str, str]]) -> str:
    """The picture as SVG."""
    last = max(int(row["epoch"]) for row in rows)
    top = 5 * (1 + int(max(100 * float(row["ap"]) for row in rows) // 5))

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * epoch / last

    def y(ap: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ap / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for ap in range(0, top + 1, 5):
        parts.append(f'<path d="M{LEFT} {y(ap):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(ap) + 4:.1f}" text-anchor="end">{ap}</text>')
    for epoch in range(0, last + 1, 5):
        place = f'x="{x(epoch):.1f}" y="{HEIGHT - BOTTOM + 16}"'
        parts.append(f'<text {place} text-anchor="middle">{epoch}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">epochs</text>')
    parts.append(f'<text x="12" y="{TOP}" dy="4">AP</text>')
    designs = list(dict.fromkeys(row["design"] for row in rows))
    for colour, design in zip(COLOURS, designs):
        own = [(x(int(r["epoch"])), y(100 * float(r["ap"]))) for r in rows if r["design"] == design]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in own)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in own]
        end, level = own[-1]
        parts.append(f'<text x="{end + 8:.1f}" y="{level + 4:.1f}" fill="{colour}">{design}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    with open(sys.argv[1], newline="") as history:
        Path(sys.argv[2]).write_text(drawn(list(csv.DictReader(history))), encoding="utf-8")
