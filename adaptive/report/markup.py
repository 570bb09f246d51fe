"""Small pieces of HTML; whatever is put into them as text is escaped."""

from __future__ import annotations

from typing import Sequence

from adaptive.intervals import Estimate
from adaptive.report.svg import escape

#: What a comparison came to -> CSS class and words.
BADGES = {
    True: ("yes", "✓ pays"),
    False: ("no", "✕ does not pay"),
    None: ("open", "? not shown"),
}


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page with a heading."""
    body = "".join(parts)
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>{body}</section>'


def paragraph(content: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(content)}</p>' if kind else f"<p>{escape(content)}</p>"


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], marked: int = -1
) -> str:
    """A table that scrolls by itself where it is too wide.

    head : plain text
    rows : ready HTML cells, the first of each the row's heading
    marked : the row to point out
    """
    heads = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = ""
    for number, row in enumerate(rows):
        first, *rest = row
        cells = "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in rest)
        mark = ' class="this"' if number == marked else ""
        body += f'<tr{mark}><th scope="row">{first}</th>{cells}</tr>'
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></figure>"
    )


def details(summary: str, body: str) -> str:
    """Something to unfold."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def badge(pays: bool | None) -> str:
    """What a comparison came to, by sign, word and colour."""
    kind, words = BADGES[pays]
    return f'<span class="badge {kind}">{words}</span>'


def bar(share: float, full: float = 1.0) -> str:
    """A share as a number and a bar, which is full at `full`."""
    width = 100 * min(share / full, 1.0) if full > 0 else 0.0
    return f'{100 * share:.1f}%<span class="bar"><i style="width:{width:.1f}%"></i></span>'


def span(e: Estimate) -> str:
    """The interval of a difference, in points."""
    return f"95% interval {100 * e.low:+.2f} to {100 * e.high:+.2f}"


def points(e: Estimate) -> str:
    """A difference in points with its interval."""
    return f"{100 * e.value:+.2f}<small>{100 * e.low:+.2f} to {100 * e.high:+.2f}</small>"


def area(e: Estimate) -> str:
    """An area under the curve with its interval."""
    return f"{e.value:.3f}<small>{e.low:.3f}–{e.high:.3f}</small>"


def breakable(content: str) -> str:
    """Escaped text that a narrow column may break after an underscore."""
    return escape(content).replace("_", "_<wbr>")
