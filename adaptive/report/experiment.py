"""The report of an experiment: Markdown for a repository, and a page that needs nothing else."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from adaptive.outcomes.quality import quality_words


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# {report['title']}", "", f"{report['date']}.", ""]
    for table in report["tables"]:
        lines += [f"## {table['name']}", "", about(table), ""]
        for head, rows in tables_of(table):
            lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
            lines.append("")
    if report["omitted"]:
        lines += ["## Left out", "", *(f"- {line}" for line in report["omitted"]), ""]
    return "\n".join(lines)


def page(report: Mapping[str, Any]) -> str:
    """The report as one HTML document."""
    environment = Environment(
        loader=PackageLoader("adaptive.report"), autoescape=True, undefined=StrictUndefined
    )
    parts = [
        {"name": t["name"], "about": about(t), "tables": tables_of(t)} for t in report["tables"]
    ]
    return environment.get_template("experiment.html").render(report=report, parts=parts)


def about(table: Mapping[str, Any]) -> str:
    """Where a table comes from, and what is to be noted of it, in sentences."""
    times = table.get("times") or {}
    board = table.get("board") or {}
    machine = board.get("model") or board.get("processor") or "an unknown machine"
    if times.get("images"):
        measured = f"times after decoding, measured on {times['images']} of them on {machine}"
    else:
        measured = "no times were measured, and every one counts as 1 ms"
    notes = [f" {note[0].upper()}{note[1:]}." for note in table["notes"]]
    return f"{table['images']} images; {measured}; reference {table['reference']}." + "".join(notes)


def tables_of(table: Mapping[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """Head and rows of the tables on candidates and on policies."""
    words = quality_words(table["quality"])
    reference = table["reference"]
    head = ["", f"{words} %", "95% interval", "ms", "p95 ms", f"times faster than {reference}"]
    rows = [
        [
            line["name"],
            f"{100 * line['quality']['value']:.2f}",
            _span(line["quality"]),
            f"{line['ms']:.2f}",
            f"{line['p95_ms']:.2f}",
            f"{line['faster']:.1f}",
        ]
        for line in table["baselines"]
    ]
    found: list[tuple[list[str], list[list[str]]]] = [(head, rows)]
    if table["policies"]:
        head = [
            "policy",
            f"times faster than {reference}",
            f"points above {reference} (95% interval)",
            "above the random mix at equal cost",
            f"{words} %",
            "ms",
            "what it is",
        ]
        found.append((head, [_policy(policy) for policy in table["policies"]]))
    return found


def _policy(told: Mapping[str, Any]) -> list[str]:
    nothing = told.get("failed") or told.get("infeasible")
    if nothing:
        return [str(told["name"]), "", "", "", "", "", str(nothing)]
    claim = f". {told['claim']}" if told.get("claim") else ""
    return [
        str(told["name"]),
        f"{told['faster']:.2f}x",
        _points(told["over_reference"]),
        _points(told["over_mix"]),
        f"{100 * told['quality']['value']:.2f}",
        f"{told['ms']:.2f}",
        f"{told['policy']}{claim}",
    ]


def _span(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}"


def _points(estimate: Mapping[str, float]) -> str:
    return (
        f"{100 * estimate['value']:+.2f} "
        f"({100 * estimate['low']:+.2f} to {100 * estimate['high']:+.2f})"
    )


def lines_of(report: Mapping[str, Any]) -> Sequence[str]:
    """The report for a terminal: Markdown's columns, set apart."""
    found = []
    for table in report["tables"]:
        found += ["", f"{table['name']}: {about(table)}"]
        for head, rows in tables_of(table):
            widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head) - 1)]
            for row in [head, *rows]:
                cells = [
                    row[0].ljust(widths[0]),
                    *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:])),
                    row[-1],
                ]
                found.append("  ".join(cells).rstrip())
            found.append("")
    return found
