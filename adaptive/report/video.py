"""The page of `adaptive video reuse --report`: each clip over time."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adaptive.report import svg
from adaptive.video.gate import FrameGate
from adaptive.video.replay import Replayed
from adaptive.video.reuse import worth

#: Units of the drawing: its width, where time begins and ends, and the rows' heights.
WIDTH, START, END = 720.0, 110.0, 708.0
ROW, GAP = 16.0, 12.0

Rows = Sequence[Tuple[Replayed, FrameGate]]


def video_page(rows: Rows, bundle: str) -> str:
    """The whole document: one figure for each clip under its gate."""
    environment = Environment(
        loader=PackageLoader("adaptive.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        (clip, gate, worth(clip, gate), timeline(f"clip{place}", clip, gate))
        for place, (clip, gate) in enumerate(rows)
    ]
    return environment.get_template("video.html").render(rows=shown, bundle=bundle)


def timeline(name: str, clip: Replayed, gate: FrameGate) -> Markup:
    """Which frames of a clip were computed, how old the others' answers were, and where they fit.

    Three rows over time: a mark for each computed frame; the age of the answer as a line; and
    what agreement was lost, as bars.
    """
    sources = clip.sources[gate]
    times_s = clip.times_s - clip.times_s[0]
    end_s = max(float(times_s[-1]), 1e-3)
    x = svg.Scale(0.0, end_s, START, END)
    step = max((END - START) / len(clip), 0.6)
    computed = np.flatnonzero(sources == np.arange(len(clip)))
    top = 4.0
    parts: List[str] = [svg.text(START - 8, top + 12, "computed", "tick", "end")]
    parts += [svg.box(x(float(times_s[i])), top, step, ROW, "fixed-bar") for i in computed]
    top += ROW + GAP
    ages = times_s - times_s[sources]
    age = svg.Scale(0.0, max(float(ages.max()), 1e-3), top + 2 * ROW, top)
    parts.append(svg.text(START - 8, top + 12, "age", "tick", "end"))
    parts.append(svg.text(START - 8, top + 28, f"up to {ages.max():.2f} s", "tick", "end"))
    parts.append(svg.path([(x(float(t)), age(float(a))) for t, a in zip(times_s, ages)], "kept"))
    top += 2 * ROW + GAP
    lost = 1 - clip.agreement(sources)
    parts.append(svg.text(START - 8, top + 12, "lost", "tick", "end"))
    for i in np.flatnonzero(lost > 0):
        high = ROW * float(lost[i])
        parts.append(svg.box(x(float(times_s[i])), top + ROW - high, step, high, "lost-bar"))
    top += ROW
    parts.append(svg.line(START, top + 2, END, top + 2, "axis"))
    for second in x.ticks(8):
        parts.append(svg.text(x(second), top + 18, f"{second:g} s", "tick", "middle"))
    found = worth(clip, gate)
    told = (
        f"{len(computed)} of {len(clip)} frames were computed, {found.speed_up:.2f} times faster; "
        f"agreement {100 * found.agreement.value:.1f}%."
    )
    return svg.figure(name, f"{clip.name} over time", told, (WIDTH, top + 26), "".join(parts))
