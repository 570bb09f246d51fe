"""The page: one HTML document that needs nothing else, neither hosts nor scripts."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from adaptive.evaluation.evaluation import Evaluation
from adaptive.jetson.board import board_lines
from adaptive.outcomes.quality import quality_words
from adaptive.report.charts import accuracy_chart, reliability_chart
from adaptive.report.content import Content

#: Signals in the order of their columns, and the columns' names.
SIGNALS = {
    "top": "top probability",
    "margin": "margin",
    "entropy": "entropy",
    "top at T": "top, scaled",
    "margin at T": "margin, scaled",
    "entropy at T": "entropy, scaled",
    "agreement": "agreement",
    "neighbours": "neighbours",
    "premodel": "premodel",
}


def page(content: Content) -> str:
    """The whole document."""
    environment = Environment(
        loader=PackageLoader("adaptive.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=format, percent=_percent, breakable=_breakable, quality_words=quality_words
    )
    judged: dict[str, dict[str, Any]] = {}
    for row in content.signals.rows:
        judged.setdefault(row.candidate, {})[row.signal] = row
    return environment.get_template("page.html").render(
        content=content,
        times=_times(content.evaluation),
        routed=_routed(content.evaluation),
        signals={s: words for s, words in SIGNALS.items() if any(s in j for j in judged.values())},
        judged=judged,
        facts=_facts(content),
        accuracy_chart=accuracy_chart,
        reliability_chart=reliability_chart,
    )


def _percent(share: float, form: str) -> str:
    """A share in hundredths."""
    return format(100 * share, form)


def _breakable(text: str) -> Markup:
    """Text that a narrow column may break after an underscore."""
    return escape(text).replace("_", Markup("_<wbr>"))


def _times(evaluation: Evaluation) -> float | None:
    """How many times the policy's mean time the reference takes; None without one."""
    if evaluation.over_reference is None:
        return None
    for row in evaluation.fixed:
        if evaluation.reference in row.shares:
            return row.ms.value / evaluation.policy.ms.value
    return None


def _routed(evaluation: Evaluation) -> list[str]:
    """Candidates that answer an image of the policy, the random mix or the oracle."""
    rows = (evaluation.policy, evaluation.mix, evaluation.oracle)
    names = dict.fromkeys(n for r in (*evaluation.fixed, evaluation.policy) for n in r.shares)
    return [n for n in names if any(r.shares.get(n, 0) for r in rows)]


def _facts(content: Content) -> dict[str, Any]:
    """Where the numbers come from, by name."""
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
    return {k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in lines}


def _date(content: Content) -> str | None:
    for key in ("date", "measured", "created"):
        for place in (content.meta, content.meta.get("board")):
            if isinstance(place, dict) and isinstance(place.get(key), str):
                return str(place[key])
    return None
