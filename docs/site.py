"""What the site has beyond the files of docs/: the table of requests, from the OpenAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARK = "<!-- requests -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page; puts the table where its mark stands."""
    return markdown.replace(MARK, requests()) if MARK in markdown else markdown


def requests() -> str:
    """A Markdown table of every request that the server answers."""
    document = json.loads((ROOT / "serving" / "openapi.json").read_text(encoding="utf-8"))
    lines = ["| request | what it is for | answers |", "|---|---|---|"]
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            if "responses" in about:
                codes = ", ".join(sorted(about["responses"]))
                words = about.get("summary", "").replace("|", "\\|")
                lines.append(f"| `{method.upper()} {path}` | {words} | {codes} |")
    return "\n".join(lines)
