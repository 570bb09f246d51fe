"""The page's sections with charts, tables and images."""

from __future__ import annotations

from adaptive.report.charts import accuracy_chart, reliability_chart
from adaptive.report.content import Content
from adaptive.report.gallery import Group
from adaptive.report.markup import area, bar, breakable, details, paragraph, points, section, table
from adaptive.report.svg import escape
from adaptive.report.use import DEFINITION

#: Features in sight; the others are folded away.
SHOWN_FEATURES = 10

SIGNAL_WORDS = {
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


_LEGEND = (
    ('<circle class="policy" cx="14" cy="6" r="5"/>', "this policy, with 95% intervals"),
    ('<circle class="fixed" cx="14" cy="6" r="4"/>', "one candidate for all, on the front"),
    ('<circle class="fixed hollow" cx="14" cy="6" r="4"/>', "dominated candidate"),
    ('<line class="front" x1="0" y1="6" x2="28" y2="6"/>', "Pareto front of candidates"),
    ('<line class="mix" x1="0" y1="6" x2="28" y2="6"/>', "blind random mixes"),
    ('<line class="cascade" x1="0" y1="6" x2="28" y2="6"/>', "best confidence cascades"),
    ('<polygon class="oracle" points="14,0 20,6 14,12 8,6"/>', "oracle: the fastest that is right"),
)


def front(content: Content) -> str:
    """The chart of accuracy against time, and its numbers."""
    evaluation = content.evaluation
    legend = "".join(
        f'<li><svg viewBox="0 0 28 12" aria-hidden="true">{mark}</svg>{escape(words)}</li>'
        for mark, words in _LEGEND
        if content.cascades or "cascade" not in mark
    )
    rows = [*evaluation.fixed, evaluation.mix, evaluation.policy, evaluation.oracle]
    lines = [
        [
            escape(f"policy: {r.name}" if r is evaluation.policy else r.name),
            f"{100 * r.top1.value:.2f}",
            f"{100 * r.top1.low:.1f} to {100 * r.top1.high:.1f}",
            f"{100 * r.top5.value:.2f}",
            f"{r.ms.value:.3f}",
            f"{r.p95_ms.value:.3f}",
        ]
        for r in rows
    ]
    marked = rows.index(evaluation.policy)
    head = ["", "top-1 %", "95% interval", "top-5 %", "mean ms", "p95 ms"]
    numbers = table("Top-1, top-5 and time of everything in the chart", head, lines, marked)
    if content.cascades:
        numbers += details(
            "The cascades in numbers",
            table(
                "The best cascades, chosen at rising mean times",
                ["first asked", "top-1 %", "95% interval", "mean ms"],
                [
                    [
                        escape(", ".join(r.shares)),
                        f"{100 * r.top1.value:.2f}",
                        f"{100 * r.top1.low:.1f} to {100 * r.top1.high:.1f}",
                        f"{r.ms.value:.3f}",
                    ]
                    for r in content.cascades
                ],
            ),
        )
    return section(
        "front-heading",
        "Accuracy against time",
        '<figure><div class="wide" role="region" tabindex="0" aria-label="Accuracy against time">'
        f'{accuracy_chart(evaluation, content.cascades)}</div><ul class="legend">{legend}</ul>'
        f"<figcaption>Times are after decoding, which takes {evaluation.decode_ms:.2f} ms more. "
        "A policy is worth having where it lies above the blind mixes; a premodel where it lies "
        "above the cascades.</figcaption></figure>",
        numbers,
    )


def routes(content: Content) -> str:
    """Shares of the candidates, and whether they are the ones that were needed."""
    evaluation = content.evaluation
    rows = [evaluation.policy, evaluation.mix, evaluation.oracle]
    names = list(dict.fromkeys(n for r in [*evaluation.fixed, evaluation.policy] for n in r.shares))
    names = [n for n in names if any(r.shares.get(n, 0) for r in rows)]
    shares = [[escape(n), *(bar(r.shares.get(n, 0.0)) for r in rows)] for n in names]
    if evaluation.policy.abstained:
        shares.append(["no answer", bar(evaluation.policy.abstained), bar(0), bar(0)])
    total = max(int(content.counts.sum()), 1)
    matrix = [
        [
            escape(needed if needed != "none" else "none is right"),
            *(
                f'<td class="heat" style="--share:{min(100 * c / total, 60):.1f}%">{c:,}'
                f"<small>{100 * c / total:.1f}%</small></td>"
                for c in line
            ),
        ]
        for needed, line in zip(content.needed, content.counts)
    ]
    return section(
        "routes",
        "Who answers",
        table(
            "Share of the images that each candidate answers",
            ["", "this policy", "random mix", "oracle"],
            shares,
        ),
        table(
            "Images by the fastest of the policy's candidates that is right (rows), and by who "
            "answered (columns); on the diagonal nothing is wasted",
            ["fastest that is right", *content.answered],
            matrix,
        ),
        paragraph(
            "Where several networks ran, their answers may be averaged, and the last that ran "
            "counts as the one that answered.",
            "soft",
        ),
    )


def gallery(content: Content) -> str:
    """The easiest, the hardest and the wrongly routed images."""
    total = content.evaluation.images
    parts = [
        f"<h3>{escape(g.title)}</h3>"
        + paragraph(f"{g.definition} {g.count:,} of {total:,} images are such.", "soft")
        + _pictures(g)
        for g in content.groups
    ]
    if not content.with_images:
        parts.insert(0, paragraph("--images DIR adds the pictures themselves.", "soft"))
    if content.unreadable:
        parts.append(
            paragraph("Images that cannot be read: " + ", ".join(content.unreadable), "soft")
        )
    return section("images", "Which images go where", *parts)


def _pictures(group: Group) -> str:
    if not group.pictures:
        return paragraph("None.")
    items = ""
    for p in group.pictures:
        image = f'<img src="{p.data}" alt="{escape(p.label)}" loading="lazy">' if p.data else ""
        items += (
            f'<li>{image}<b title="{escape(p.name)}">{escape(p.label)}</b>'
            f"<span>{breakable(p.caption)}</span>"
            + ("" if p.data else f"<span>{breakable(p.name)}</span>")
            + "</li>"
        )
    shown = f'<ul class="gallery">{items}</ul>'
    return shown if any(p.data for p in group.pictures) else details("Their names", shown)


def signals(content: Content) -> str:
    """How well each signal ranks, and reliability diagrams."""
    ranked = content.signals
    names = list(dict.fromkeys(r.candidate for r in ranked.rows))
    kinds = [k for k in SIGNAL_WORDS if any(r.signal == k for r in ranked.rows)]
    cells = {(r.candidate, r.signal): r for r in ranked.rows}
    rows = []
    for name in names:
        line = [escape(name)]
        for kind in kinds:
            r = cells.get((name, kind))
            mark = ""
            if r is not None and kind != "top" and (r.over_top.low > 0 or r.over_top.high < 0):
                mark = "▲ " if r.over_top.low > 0 else "▼ "
            line.append("" if r is None else mark + area(r.area))
        rows.append(line)
    figures = ""
    for i, c in enumerate(content.calibrations):
        scaled = ""
        if c.temperature is not None and c.error_at is not None:
            scaled = f"; {100 * c.error_at:.1f} at temperature {c.temperature:.2f}"
        chart = reliability_chart(f"reliability{i}", f"Reliability of {c.name}", c.found)
        figures += (
            f"<figure>{chart}<figcaption><b>{breakable(c.name)}</b>calibration error "
            f"{100 * c.found.error:.1f} points{scaled}</figcaption></figure>"
        )
    return section(
        "signals",
        "How well a network knows that it is right",
        paragraph(
            "The area under the ROC curve of “this candidate is right”: the chance that a right "
            "answer gets a higher number than a wrong one; 0.5 is a coin, 1 is perfect. "
            "Intervals are 95%, by DeLong's method. ▲ and ▼ mark signals that are better or "
            "worse than the top probability by a paired interval that excludes 0. Scaled means "
            "at a temperature fitted on other images; agreement, for an exit, is the mean chance "
            "that the exit before it and it give its answer; neighbours is a nearest-neighbour "
            "vote over the network's own five highest probabilities, learned on other images; "
            "premodel is the chance that the features alone give.",
            "soft",
        ),
        table(
            "Area under the ROC curve of each signal",
            ["candidate", *(SIGNAL_WORDS[k] for k in kinds)],
            rows,
        )
        if rows
        else "",
        *(paragraph(f"Not judged: {sentence}.", "soft") for sentence in ranked.missing),
        "<h3>Are confidences honest?</h3>",
        paragraph(
            "Share of right answers, in %, at each confidence; on the dashed line a confidence "
            "means what it says. Bars at the foot show how many images have it. The calibration "
            "error is the mean distance from the line, in points.",
            "soft",
        ),
        f'<div class="multiples">{figures}</div>',
        details("The diagrams in numbers", _reliability_table(content)),
    )


def _reliability_table(content: Content) -> str:
    rows = []
    edges = content.calibrations[0].found.edges
    for b in range(len(edges) - 1):
        line = [f"{100 * edges[b]:.0f} to {100 * edges[b + 1]:.0f}%"]
        for c in content.calibrations:
            right, count = c.found.right[b], int(c.found.count[b])
            line.append(
                "–" if right is None else f"{100 * right.value:.1f}<small>{count:,} images</small>"
            )
        rows.append(line)
    head = ["confidence", *(c.name for c in content.calibrations)]
    return table("Share of right answers in %, by confidence", head, rows)


def features(content: Content) -> str:
    """Each feature's use and cost."""
    if not content.use:
        kind = content.evaluation.policy.name
        return section(
            "features",
            "Features",
            paragraph(
                f"This {kind} policy reads no features, so none is used and none is paid for."
            ),
        )
    most = max(u.changed for u in content.use)
    rows = [
        [
            escape(u.name) + ("" if u.group is None else f"<small>{escape(u.group)}</small>"),
            bar(u.changed, most),
            points(u.worth),
            f"{u.saved_ms:+.3f}",
            "unknown" if u.cost_ms is None else f"{1e3 * u.cost_ms:.1f}",
        ]
        for u in content.use
    ]
    head = ["feature and its group", "changed", "worth, points", "time, ms", "cost, µs"]
    rest = rows[SHOWN_FEATURES:]
    return section(
        "features",
        "What each feature does, and costs",
        paragraph(DEFINITION, "soft"),
        paragraph(
            "Time is by how much the same shuffling changes the mean time. Features of one "
            "group come from one computation; its measured cost is divided among them.",
            "soft",
        ),
        table("Use and cost of the features, the most used first", head, rows[:SHOWN_FEATURES]),
        details(f"The other {len(rest)}", table("Use and cost of the others", head, rest))
        if rest
        else "",
    )
