"""A page that shows where and when something was seen; it plays nothing and holds no pictures."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, Dict, List, Sequence, Tuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from adaptive.report import svg
from adaptive.video.index import Clip
from adaptive.video.query import Interval, QueryAnswer

#: Width of the drawings, and height of a time line.
WIDTH, BAR = 720.0, 26.0

#: Intervals of a clip that the table lists.
LISTED = 500


def seen_page(seen: QueryAnswer, clips: Sequence[Clip]) -> str:
    """The whole document.

    Parameters
    ----------
    seen : the answer
    clips : all of the index, so that those in which nothing was seen stand there too
    """
    environment = Environment(
        loader=PackageLoader("adaptive.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    own: Dict[int, List[Interval]] = defaultdict(list)
    for interval in seen.intervals:
        own[interval.clip.id].append(interval)
    parts: List[Dict[str, Any]] = []
    for clip in clips:
        intervals = own[clip.id]
        parts.append(
            {
                "clip": clip,
                "when": _when(clip, intervals),
                "where": _where(clip, intervals),
                "intervals": intervals[:LISTED],
                "more": max(0, len(intervals) - LISTED),
                "seconds": sum(i.to_s - i.from_s for i in intervals),
            }
        )
    return environment.get_template("seen.html").render(seen=seen, parts=parts, clock=clock)


def clock(time_s: float, start_s: float) -> str:
    """A time as people read it: of the day where the clip has a start, else in the clip."""
    if start_s > 0:
        return datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M:%S")
    minutes, seconds = divmod(max(time_s, 0.0), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:05.2f}" if hours else f"{minutes}:{seconds:05.2f}"


def _when(clip: Clip, intervals: Sequence[Interval]) -> Any:
    """A time line with a bar for each interval."""
    long_s = max(clip.until_s, 1e-3)
    body = svg.box(0, 0, WIDTH, BAR, "line")
    for interval in intervals:
        left = WIDTH * (interval.from_s - clip.start_s) / long_s
        wide = max(1.0, WIDTH * (interval.to_s - interval.from_s) / long_s)
        body += svg.box(left, 0, min(wide, WIDTH - left), BAR, "seen")
    told = f"{len(intervals)} intervals of {clock(long_s, 0)}"
    return svg.figure(f"when-{clip.id}", "When", told, (WIDTH, BAR), body)


def _where(clip: Clip, intervals: Sequence[Interval]) -> Any:
    """The frame's outline, and around each interval's objects a rectangle."""
    size: Tuple[float, float] = (float(max(clip.width, 1)), float(max(clip.height, 1)))
    body = svg.box(0, 0, *size, "line")
    for interval in intervals[:LISTED]:
        x1, y1, x2, y2 = interval.box
        body += svg.box(x1, y1, x2 - x1, y2 - y1, "place")
    told = f"rectangles around what was seen in a frame of {clip.width} by {clip.height} pixels"
    return svg.figure(f"where-{clip.id}", "Where", told, size, body)
