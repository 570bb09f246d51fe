"""The page: one HTML document that needs nothing else, neither hosts nor scripts."""

from __future__ import annotations

import json
from typing import Any

from adaptive.jetson.board import board_lines
from adaptive.report.content import Content
from adaptive.report.markup import badge, breakable, paragraph, section, span
from adaptive.report.sections import features, front, gallery, routes, signals
from adaptive.report.style import STYLE
from adaptive.report.svg import escape

#: The answer to the page's question.
ANSWERS = {
    True: "Yes, routing pays.",
    False: "No, routing does not pay.",
    None: "These images do not show whether routing pays.",
}


def page(content: Content) -> str:
    """The whole document."""
    body = "".join(
        part(content)
        for part in (_verdict, _promise, front, routes, gallery, signals, features, _origin)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        f"<title>Does routing pay? {escape(content.origin.bundle)}</title>"
        f"<style>{STYLE}</style></head><body>{_head(content)}<main>{body}</main></body></html>\n"
    )


def _head(content: Content) -> str:
    found, evaluation = content.verdict, content.evaluation
    chosen, mix = evaluation.policy, evaluation.over_mix
    tiles = [
        (
            f"{100 * chosen.top1.value:.2f}%",
            "top-1",
            f"95% interval {100 * chosen.top1.low:.1f} to {100 * chosen.top1.high:.1f}",
        ),
        (
            f"{chosen.ms.value:.3g} ms",
            "mean time an image",
            f"one in twenty takes {chosen.p95_ms.value:.3g} ms or more",
        ),
        (
            f"{100 * mix.value:+.2f}",
            "points against a random choice of networks in the same time",
            span(mix),
        ),
    ]
    over = evaluation.over_reference
    reference = next((r for r in evaluation.fixed if evaluation.reference in r.shares), None)
    if over is not None and reference is not None:
        times = reference.ms.value / chosen.ms.value
        ratio = f"{times:.2f} times less time" if times >= 1 else f"{1 / times:.2f} times the time"
        against = f"points against always {evaluation.reference}, in {ratio}"
        tiles.append((f"{100 * over.value:+.2f}", against, span(over)))
    shown = "".join(
        f"<li><b>{escape(number)}</b><span>{breakable(what)}</span><small>{escape(how)}</small></li>"
        for number, what, how in tiles
    )
    return (
        '<header><p class="question">Does routing pay? '
        f"{escape(content.origin.bundle)} on {evaluation.images:,} images of "
        f"{escape(content.origin.table)}</p><h1>{ANSWERS[found.pays]}</h1>"
        f'{paragraph(found.overall(), "lead")}<ul class="tiles">{shown}</ul></header>'
    )


def _verdict(content: Content) -> str:
    found = content.verdict
    rows = [(c.pays, c.words()) for c in found.shown()] + [
        (b.pays, b.words()) for b in found.break_even
    ]
    items = "".join(f"<li>{badge(pays)}<p>{escape(words)}</p></li>" for pays, words in rows)
    cautions = "".join(paragraph(c, "soft") for c in found.cautions)
    return section(
        "verdict",
        "The verdict",
        paragraph(
            "Every difference is paired over the same images, with the time for features and "
            "premodel charged. It pays when the whole 95% interval lies above 0, does not when "
            "it lies below, and neither is shown when 0 is inside.",
            "soft",
        ),
        f'<ul class="findings">{items}</ul>{cautions}',
    )


def _promise(content: Content) -> str:
    origin = content.origin
    if origin.certificate is None:
        body = paragraph(
            "There is no certificate: nothing is promised about this policy's accuracy on other "
            "images. adaptive tune --max-accuracy-drop makes one, or says why it cannot."
        )
    else:
        body = f"<blockquote>{escape(origin.certificate)}</blockquote>"
    note = paragraph(origin.promise_note, "soft") if origin.promise_note else ""
    return section("promise", "What is promised", body, note)


def _origin(content: Content) -> str:
    origin, meta = content.origin, content.meta
    board = meta.get("board")
    lines: list[tuple[str, Any]] = [
        ("bundle", origin.bundle),
        ("table", f"{origin.table}, {origin.part}"),
        ("SHA-256 of the table", origin.sha256),
        ("measured", _date(content) or "the table does not say when"),
    ]
    if isinstance(board, dict) and board:
        lines += board_lines(board)
    else:
        lines.append(("board", "the table does not say on which machine"))
    lines += [(k.replace("_", " "), meta[k]) for k in ("threads", "warm_up") if k in meta]
    shown = {k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in lines}
    body = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in shown.items())
    return section(
        "origin",
        "Where this comes from",
        f"<dl>{body}</dl>",
        paragraph("Made by", "soft"),
        f"<pre>{escape(origin.command)}</pre>",
    )


def _date(content: Content) -> str | None:
    for key in ("date", "measured", "created"):
        for place in (content.meta, content.meta.get("board")):
            if isinstance(place, dict) and isinstance(place.get(key), str):
                return str(place[key])
    return None
