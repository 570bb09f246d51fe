"""The report of an experiment, in its three forms."""

from __future__ import annotations

from typing import Any

from adaptive.report.experiment import lines_of, markdown, page


def told(note: str) -> dict[str, Any]:
    """A report of one table with one candidate and a policy that could not be tuned."""
    line = {"name": "small", "quality": {"value": 0.5, "low": 0.25, "high": 0.75}}
    table = {
        "name": "outcomes",
        "images": 4,
        "quality": "top1",
        "reference": "small",
        "board": {"model": "a board"},
        "times": {"images": 2},
        "baselines": [{**line, "ms": 2.0, "p95_ms": 3.0, "faster": 1.0}],
        "policies": [{"name": "cheap", "failed": "<b>too few</b>"}],
        "notes": [note],
    }
    return {
        "title": "<script>alert(1)</script>",
        "date": "2026-11-26",
        "file": "name = '<i>'",
        "tables": [table],
        "omitted": ["<img src=x>: it cannot be read"],
        "notes": [],
    }


def test_what_is_to_be_noted_of_a_table_is_read_in_each_form() -> None:
    report = told("the answers come from 2 kinds of processor")
    about = (
        "4 images; times after decoding, measured on 2 of them on a board; reference small. "
        "The answers come from 2 kinds of processor."
    )
    assert f"<p>{about}</p>" in page(report)
    assert about in markdown(report).splitlines()
    assert f"outcomes: {about}" in lines_of(report)


def test_no_markup_of_an_experiment_gets_into_its_page() -> None:
    text = page(told("<u>note</u>"))
    for mark in ("<script", "<b>", "<i>", "<img", "<u>"):
        assert mark not in text
    assert "&lt;script&gt;alert(1)" in text
