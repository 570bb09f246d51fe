"""Inline SVG, written by hand: escaped text, scales with round ticks, labels that keep apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from markupsafe import Markup, escape

#: About the width of a character of the charts' text, in units of the drawing.
CHARACTER = 6.6


def figure(name: str, title: str, description: str, size: tuple[float, float], body: str) -> Markup:
    """An SVG drawing that a screen reader announces by its title and description.

    The one place where markup is called safe: `body` is made of the pieces below.
    """
    width, height = size
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line; `kind` is its CSS class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def path(points: Sequence[tuple[float, float]], kind: str) -> str:
    """An open line through points."""
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{text}"/>'


def circle(x: float, y: float, radius: float, kind: str) -> str:
    """A dot."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
        f'height="{max(height, 0):.1f}"/>'
    )


def diamond(x: float, y: float, radius: float, kind: str) -> str:
    """A square on its corner."""
    corners = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
    return (
        f'<polygon class="{kind}" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        + '"/>'
    )


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text that ends, begins or is centred at x."""
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


@dataclass(frozen=True)
class Scale:
    """From a value to a place in the drawing, evenly or by its logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of `value`; what lies outside is put at the edge."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values within the range."""
        if not self.logarithmic:
            return round_ticks(self.low, self.high, count)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 300 else (1,)
        values = [step * 10.0**decade for decade in decades for step in steps]
        return [v for v in values if self.low <= v <= self.high]


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


class Labels:
    """Places texts beside points so that they overlap neither each other nor the points.

    Parameters
    ----------
    bounds : left, top, right, bottom that no text may leave
    """

    def __init__(self, bounds: tuple[float, float, float, float]) -> None:
        self.bounds = bounds
        self.taken: list[tuple[float, float, float, float]] = []

    def keep_clear(self, x: float, y: float, radius: float) -> None:
        """Take the place of a point."""
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def keep_clear_along(self, points: Sequence[tuple[float, float]]) -> None:
        """Take the places along an open line."""
        for (a, b), (c, d) in zip(points, points[1:]):
            steps = max(1, int(math.hypot(c - a, d - b) / 6))
            for k in range(steps + 1):
                self.keep_clear(a + (c - a) * k / steps, b + (d - b) * k / steps, 1.5)

    def put(self, x: float, y: float, content: str, kind: str, gap: float = 9.0) -> str:
        """The text at the first free place around (x, y); the least bad one where none is."""
        width = CHARACTER * len(content)
        best, least = None, math.inf
        for away in (gap, gap + 8, gap + 18, gap + 30, gap + 44):
            for dx, dy, anchor in (
                (away, 4.0, "start"),
                (-away, 4.0, "end"),
                (0.0, away + 11, "middle"),
                (0.0, -away, "middle"),
                (away * 0.8, away + 6, "start"),
                (away * 0.8, -away * 0.7, "start"),
                (-away * 0.8, away + 6, "end"),
                (-away * 0.8, -away * 0.7, "end"),
            ):
                left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
                place = (left, y + dy - 11, left + width, y + dy + 3)
                cost = self._badness(place)
                if cost < least:
                    best, least = (x + dx, y + dy, anchor, place), cost
            if least == 0:
                break
        assert best is not None
        self.taken.append(best[3])
        return text(best[0], best[1], content, kind, best[2])

    def _badness(self, place: tuple[float, float, float, float]) -> float:
        left, top, right, bottom = place
        outside = (
            max(0.0, self.bounds[0] - left)
            + max(0.0, self.bounds[1] - top)
            + max(0.0, right - self.bounds[2])
            + max(0.0, bottom - self.bounds[3])
        )
        overlap = sum(
            max(0.0, min(right, r) - max(left, a)) * max(0.0, min(bottom, d) - max(top, b))
            for a, b, r, d in self.taken
        )
        return 100 * outside + overlap
