from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch, which a board does not have")

pytestmark = pytest.mark.train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def pair():
    """One edge, four images: the server puts one right, and one wrong."""
    from federated_routed import Pair

    return Pair(
        confidence=np.array([[0.2, 0.4, 0.6, 0.8]]),
        edge=np.array([[False, True, False, True]]),
        server=np.array([[True, False, False, True]]),
        bytes=100,
    )


def test_thresholds_send_the_least_sure_images_first():
    from federated_routed import curve

    found = curve(pair(), points=4)
    assert [point["sent"] for point in found] == [0.0, 0.25, 0.5, 1.0]
    assert [point["bytes"] for point in found] == [0, 25, 50, 100]
    assert [point["top-1"] for point in found] == [0.5, 0.75, 0.5, 0.5]
    assert [point["random mix"] for point in found] == [0.5] * 4
    assert [point["oracle"] for point in found] == [0.5, 0.75, 0.75, 0.75]


def test_the_lowest_threshold_that_keeps_the_servers_accuracy_is_chosen():
    from federated_routed import chosen_threshold, judged

    threshold = chosen_threshold(pair())
    assert threshold == 0.2  # nothing is below it: the edge alone is as good as the server
    found = judged(pair(), 0.3)
    assert found["top-1"]["value"] == 0.75
    assert found["minus server always"]["value"] == 0.25
    assert found["minus random mix"]["value"] == 0.25
    assert found["bytes"] == 25


def test_the_drawing_has_a_line_for_each_kind():
    from federated_routed import curve, drawing, judged

    curves = {kind: curve(pair(), points=4) for kind in ("float16", "int8")}
    root = ElementTree.fromstring(drawing(curves, {kind: judged(pair(), 0.3) for kind in curves}))
    lines = [e.get("class") for e in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert {"routed float16", "routed int8", "mix int8", "oracle float16"} <= set(lines)


def test_the_table_has_a_line_for_each_answer_and_a_column_for_each_seed():
    from federated_table import differences, table

    def top1(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 1, "high": value + 1}

    traffic = {"up": 2e6, "down": 3e5}
    rows = {
        "FedGKT iid 0": {
            "edge and server": top1(60),
            "edge alone": top1(50),
            "bytes an edge": traffic,
        },
        "FedAvg, small iid 0": {"top-1": top1(55), "bytes an edge": 8e6},
        "FedAvg, small iid 1": {"top-1": top1(56), "bytes an edge": 8e6},
    }
    settings = {"rounds": 10, "edge_epochs": 1, "multiply-adds an image": {"edge": 10**8}}
    lines = table(rows, settings).splitlines()
    assert lines[2] == (
        "| FedGKT: edge and server | alike | 60.0 (59.0 to 61.0) |  |  | 2, 0.3 | 4.00 |"
    )
    assert lines[4] == (
        "| FedAvg, small | alike | 55.0 (54.0 to 56.0) | 56.0 (55.0 to 57.0) | 55.5 | 4.0, 4.0 "
        "| 3.00 |"
    )
    assert list(differences(rows)) == ["iid 0: +5.0 points"]
