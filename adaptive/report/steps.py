"""Where the time of answers went: by path and step, as a table and as a picture."""

from __future__ import annotations

import html
from typing import Mapping, NamedTuple

from adaptive.prediction import Prediction

#: What every answer may have beside its networks, and the colour of each; networks take the others
#: in turn.
STEPS = {"decode": "#8a929a", "features": "#8a3ea0", "premodel": "#c2571a"}
NETWORKS = ("#1b6ca8", "#5da0cf", "#2f7d4f", "#7fb88f", "#e0a030", "#b9c2ca")
REST = "#444444"

#: Of the picture, pixels: its width, what is left free around it, a bar, and from one to the next.
WIDTH, MARGIN, BAR, STEP = 860, 10, 26, 52


class Way(NamedTuple):
    """The answers that took one path.

    Attributes
    ----------
    path : candidates that ran, in order
    answers : how many of them
    ms : by step, the mean of its milliseconds; "rest" is what no step took
    """

    path: tuple[str, ...]
    answers: int
    ms: Mapping[str, float]

    @property
    def total(self) -> float:
        """Mean milliseconds of an answer."""
        return sum(self.ms.values())

    @property
    def words(self) -> str:
        """Who was asked, how often, and how long that took."""
        return f"{' > '.join(self.path) or 'nothing ran'}: {self.answers}, {self.total:.3f} ms each"


class StepTimes:
    """Adds up what the steps of answers took."""

    def __init__(self) -> None:
        self._ms: dict[tuple[str, ...], dict[str, float]] = {}
        self._count: dict[tuple[str, ...], int] = {}

    def add(self, answer: Prediction) -> None:
        """Take in one answer. One that was reused from another frame took no step."""
        if answer.reused is not None:
            return
        own = self._ms.setdefault(answer.path, {})
        self._count[answer.path] = self._count.get(answer.path, 0) + 1
        steps = {step: ms for step, ms in answer.ms.items() if step != "total"}
        rest = max(0.0, answer.ms["total"] - sum(steps.values()))
        for step, ms in {**steps, "rest": rest}.items():
            own[step] = own.get(step, 0.0) + ms

    @property
    def ways(self) -> list[Way]:
        """One for each path, that of most answers first."""
        return [
            Way(path, count, {step: ms / count for step, ms in self._ms[path].items()})
            for path, count in sorted(self._count.items(), key=lambda one: -one[1])
        ]

    def table(self) -> str:
        """The means in lines of text, by path."""
        lines = []
        for way in self.ways:
            lines.append(way.words)
            lines += [
                f"    {step:24}{ms:10.3f} ms{100 * ms / (way.total or 1):7.1f} %"
                for step, ms in way.ms.items()
            ]
        return "\n".join(lines)

    def drawing(self) -> str:
        """The same as SVG: a bar for each path, of which each step takes its share."""
        ways = self.ways
        scale = (WIDTH - 2 * MARGIN) / max((way.total for way in ways), default=1.0)
        colours = _colours(ways)
        parts, x = [], float(MARGIN)
        for step, colour in colours.items():
            parts += [_rectangle(x, 8, 11, 11, colour, step), _text(x + 15, 18, step)]
            x += 30 + 6.6 * len(step)
        top = 48
        for way in ways:
            parts.append(_text(MARGIN, top - 6, way.words))
            x = float(MARGIN)
            for step, ms in way.ms.items():
                told = f"{step}: {ms:.3f} ms, {100 * ms / (way.total or 1):.1f}%"
                parts.append(_rectangle(x, top, ms * scale, BAR, colours[step], told))
                x += ms * scale
            top += STEP
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
            'font-family="sans-serif" font-size="12"><title>Where the time of answers went'
            f'</title><rect width="{WIDTH}" height="{top}" fill="#fff"/>{"".join(parts)}</svg>\n'
        )


def _colours(ways: list[Way]) -> dict[str, str]:
    """Each step's colour, in the order in which steps are taken."""
    taken = dict.fromkeys(step for way in ways for step in way.ms)
    colours = {step: colour for step, colour in STEPS.items() if step in taken}
    networks = [step for step in taken if step not in (*STEPS, "rest")]
    for place, step in enumerate(networks):
        colours[step] = NETWORKS[place % len(NETWORKS)]
    return {**colours, "rest": REST}


def _rectangle(x: float, y: float, width: float, height: float, colour: str, told: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}">'
        f"<title>{html.escape(told)}</title></rect>"
    )


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#222">{html.escape(words)}</text>'
