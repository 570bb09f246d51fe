"""The page's charts: accuracy against time, and reliability diagrams."""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
from markupsafe import Markup

from adaptive.evaluation.evaluation import Evaluation, Row
from adaptive.evaluation.ranking import Reliability
from adaptive.intervals import concave_hull, front
from adaptive.outcomes.quality import quality_words
from adaptive.report.svg import (
    Labels,
    Scale,
    box,
    circle,
    diamond,
    figure,
    line,
    path,
    text,
)

WIDTH, HEIGHT = 760.0, 470.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 22.0, 16.0, 52.0

#: Times that differ by more than this factor are drawn on a logarithmic axis.
_SPREAD = 6.0

SMALL = 220.0


def accuracy_chart(evaluation: Evaluation, cascades: Sequence[Row] = ()) -> Markup:
    """Quality against mean time: fixed candidates, blind mixes, cascades, oracle, policy."""
    fixed, chosen = evaluation.fixed, evaluation.policy
    rows = [*fixed, *cascades, evaluation.oracle, chosen]
    x, y = _axes(rows)
    cost = [r.ms.value for r in fixed]
    accuracy = [r.quality.value for r in fixed]
    best = front(cost, accuracy)
    stairs = _steps([(cost[i], accuracy[i]) for i in best], x, y)
    hull = [(cost[i], accuracy[i]) for i in concave_hull(cost, accuracy)]
    mixes = _straight(hull, x, y)
    points = [(x(r.ms.value), y(r.quality.value)) for r in cascades]
    body = (
        _grid(x, y, quality_words(evaluation.quality)) + path(stairs, "front") + path(mixes, "mix")
    )
    if points:
        body += path(points, "cascade") + "".join(
            circle(a, b, 2.6, "cascade-dot") for a, b in points
        )
    labels = Labels((_LEFT + 2, _TOP, WIDTH - 4, HEIGHT - _BOTTOM - 2))
    for drawn in (stairs, mixes, points):
        labels.keep_clear_along(drawn)
    for r in [*fixed, evaluation.oracle, chosen]:
        labels.keep_clear(x(r.ms.value), y(r.quality.value), 6)
    for i, r in enumerate(fixed):
        a, b = x(r.ms.value), y(r.quality.value)
        body += _bars(r, x, y, "span")
        body += circle(a, b, 5, "fixed" if i in best else "fixed hollow")
    a, b = x(evaluation.oracle.ms.value), y(evaluation.oracle.quality.value)
    body += diamond(a, b, 6.5, "oracle")
    c, d = x(chosen.ms.value), y(chosen.quality.value)
    body += _bars(chosen, x, y, "span strong") + circle(c, d, 7, "policy")
    body += labels.put(c, d, f"this policy ({chosen.name})", "name strong", 12)
    body += labels.put(a, b, "oracle", "name")
    for r in sorted(fixed, key=lambda r: -r.quality.value):
        name = next(iter(r.shares))
        body += labels.put(x(r.ms.value), y(r.quality.value), name, "name")
    description = "; ".join(
        f"{r.name}: {100 * r.quality.value:.1f}% in {r.ms.value:.3g} ms"
        for r in [chosen, *fixed, evaluation.oracle]
    )
    return figure("front", "Accuracy against time", description, (WIDTH, HEIGHT), body)


def _axes(rows: Sequence[Row]) -> tuple[Scale, Scale]:
    low = min(r.ms.value for r in rows)
    high = max(r.ms.value for r in rows)
    logarithmic = low > 0 and high / low > _SPREAD
    if logarithmic:
        room = (high / low) ** 0.06
        x = Scale(low / room, high * room * 1.05, _LEFT, WIDTH - _RIGHT, True)
    else:
        room = 0.08 * (high - low) or 0.1 * high or 1.0
        x = Scale(max(0.0, low - room), high + room, _LEFT, WIDTH - _RIGHT)
    bottom = min(r.quality.low for r in rows)
    top = max(r.quality.high for r in rows)
    room = 0.04 * (top - bottom) or 0.02
    y = Scale(max(0.0, bottom - room), min(1.0, top + room), HEIGHT - _BOTTOM, _TOP)
    return x, y


def _grid(x: Scale, y: Scale, quality: str) -> str:
    body = ""
    for value in y.ticks(6):
        body += line(_LEFT, y(value), WIDTH - _RIGHT, y(value), "grid")
        body += text(_LEFT - 8, y(value) + 4, f"{100 * value:.3g}", "tick", "end")
    for value in x.ticks(7):
        body += line(x(value), HEIGHT - _BOTTOM, x(value), HEIGHT - _BOTTOM + 5, "axis")
        body += text(x(value), HEIGHT - _BOTTOM + 19, f"{value:g}", "tick", "middle")
    body += line(_LEFT, HEIGHT - _BOTTOM, WIDTH - _RIGHT, HEIGHT - _BOTTOM, "axis")
    scale = ", logarithmic" if x.logarithmic else ""
    body += text(
        WIDTH - _RIGHT,
        HEIGHT - 10,
        f"mean milliseconds an image after decoding{scale}",
        "tick",
        "end",
    )
    body += text(_LEFT, HEIGHT - 10, f"↑ {quality}, %", "tick")
    return body


def _bars(row: Row, x: Scale, y: Scale, kind: str) -> str:
    a, b = x(row.ms.value), y(row.quality.value)
    return line(a, y(row.quality.low), a, y(row.quality.high), kind) + line(
        x(row.ms.low), b, x(row.ms.high), b, kind
    )


def _steps(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The front as stairs: at any time, the best that takes no longer."""
    drawn: list[tuple[float, float]] = []
    for i, (cost, accuracy) in enumerate(points):
        if i:
            drawn.append((x(cost), y(points[i - 1][1])))
        drawn.append((x(cost), y(accuracy)))
    return [*drawn, (x.end, drawn[-1][1])]


def _straight(
    points: Sequence[tuple[float, float]], x: Scale, y: Scale
) -> list[tuple[float, float]]:
    """Mixes of neighbouring points, straight in milliseconds whatever the axis."""
    drawn: list[tuple[float, float]] = []
    for (a, b), (c, d) in zip(points, points[1:]):
        shares = np.linspace(0, 1, 25)
        drawn += [(x(a + s * (c - a)), y(b + s * (d - b))) for s in shares]
    return drawn or [(x(a), y(b)) for a, b in points]


def reliability_chart(name: str, title: str, found: Reliability) -> Markup:
    """What confidences promise against what they keep; bar width shows nothing but the bin."""
    left, end, bottom = 34.0, SMALL - 16.0, SMALL - 32.0
    x, y = Scale(0, 1, left, end), Scale(0, 1, bottom, 8.0)
    body = ""
    for value in (0.0, 0.5, 1.0):
        body += line(left, y(value), end, y(value), "grid")
        body += text(left - 6, y(value) + 4, f"{100 * value:g}", "tick", "end")
        body += text(x(value), bottom + 15, f"{100 * value:g}", "tick", "middle")
    most = max(int(found.count.max()), 1)
    for low, high, count in zip(found.edges, found.edges[1:], found.count):
        tall = 0.28 * (bottom - 8) * count / most
        body += box(x(low) + 1, bottom - tall, x(high) - x(low) - 2, tall, "count")
    body += line(x(0), y(0), x(1), y(1), "diagonal")
    points = []
    for mean, right in zip(found.confidence, found.right):
        if right is None or math.isnan(mean):
            continue
        body += line(x(mean), y(right.low), x(mean), y(right.high), "span strong")
        points.append((x(mean), y(right.value)))
    body += path(points, "kept") + "".join(circle(a, b, 3.2, "policy") for a, b in points)
    body += text((left + end) / 2, SMALL - 3, "confidence, %", "tick", "middle")
    description = "; ".join(
        f"confidence {100 * mean:.0f}%: {100 * right.value:.0f}% right of {count} images"
        for mean, right, count in zip(found.confidence, found.right, found.count)
        if right is not None
    )
    return figure(name, title, description, (SMALL, SMALL), body)
