from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from adaptive.outcomes.table import OutcomeTable

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_drawn_tables_are_outcome_tables(tmp_path: Path) -> None:
    from scale import NAMES, write_drawn

    path = tmp_path / "x.csv"
    write_drawn(path, 500, width=4)
    table = OutcomeTable.read(path)
    assert len(table) == 500
    assert table.candidates == NAMES
    assert table.features == ("f0", "f1", "f2", "f3")
    right = [table.quality(name).mean() for name in NAMES]
    assert right[0] < right[2]
    assert np.isfinite(table.X).all()


def test_found_keeps_results_and_the_series_of_a_plot() -> None:
    from scale import Found

    found = Found()
    found.add("fit", 1000, [1.0, 3.0, 2.0])
    found.add("fit", 10, [9.0], "s", drawn=False)
    assert found.series == {"fit (ms)": [(1000, 2.0)]}
    assert set(found.results) == {"fit, 1,000", "fit, 10"}


def test_drawing_has_every_point_inside_its_panel() -> None:
    from plot_scale import HEIGHT, WIDTH, drawing

    content = {
        "settings": {"part": "tables"},
        "series": {
            "tune (s)": [[1000, 0.5], [1_000_000, 30.0]],
            "tune, peak (MB)": [[1000, 60.0], [1_000_000, 500.0]],
            "a < b (s)": [[1000, 0.01]],
        },
    }
    tree = ElementTree.fromstring(drawing([content]))
    names = [element.text for element in tree.iter() if element.tag.endswith("text")]
    assert "a < b" in names
    assert "images in the outcome table, s" in names
    assert "images in the outcome table, MB" in names
    circles = [element for element in tree.iter() if element.tag.endswith("circle")]
    assert len(circles) == 5
    assert all(0 < float(c.attrib["cx"]) < WIDTH for c in circles)
    assert all(0 < float(c.attrib["cy"]) < HEIGHT for c in circles)
