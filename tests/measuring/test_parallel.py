from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from adaptive import Bundle, EngineError, ImageError, InputError
from adaptive.measuring import parallel
from adaptive.measuring.parallel import fill_times, outcomes, sample
from adaptive.measuring.profiling import Profiler
from adaptive.outcomes.labelled import LabelledImages, list_images
from adaptive.outcomes.table import OutcomeTable

COLOURS = ("blue", "green", "red")


def test_a_sample_is_even_and_no_larger_than_asked() -> None:
    assert sample(10, 3) == [0, 4, 9]
    assert sample(2, 200) == [0, 1]
    assert len(sample(3000)) == 200


def row(image: str, ms: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"image": image, "small": {"top1": 1}}
    if ms is not None:
        found.update({"decode:ms": 1.0, "features:ms": 2.0})
        found["small"] = {"top1": 1, "ms": ms, "scale": ms / 4, "normalise": ms / 8}
    return found


def test_images_without_times_get_each_measured_one_as_often() -> None:
    rows = [row("a", 1.0), row("b", 2.0), *(row(f"c{i}", None) for i in range(6))]
    filled, timed = fill_times(rows)
    assert timed == 2
    assert [r["image"] for r in filled] == [r["image"] for r in rows]
    assert sorted(r["small"]["ms"] for r in filled) == [1.0] * 4 + [2.0] * 4
    assert all(r["small"]["scale"] == r["small"]["ms"] / 4 for r in filled)
    with pytest.raises(InputError, match="no image has times"):
        fill_times([row("a", None)])


def length(path: Path, label: int) -> int:
    if path.name == "bad":
        raise ImageError("bad cannot be read")
    if path.name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return len(path.name) + label


def lengths() -> Callable[[Path, int], int]:
    return length


def test_outcomes_come_in_the_images_order_and_an_unreadable_one_says_why() -> None:
    paths = [Path("x" * n) for n in range(1, 20)]
    paths[7] = Path("bad")
    found = list(outcomes(lengths, paths, list(range(19)), 2))
    expected: list[object] = [2 * n + 1 for n in range(19)]
    expected[7] = "bad cannot be read"
    assert found == expected


def test_a_process_that_dies_is_told_of_in_a_sentence() -> None:
    with pytest.raises(EngineError, match="a process that found outcomes died"):
        list(outcomes(lengths, [Path("deadly")] * 3, [0] * 3, 1))


def test_what_cannot_be_handed_over_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be handed to other processes"):
        list(outcomes(lambda: length, [Path("x")], [0], 2))


@pytest.fixture
def images(tiny_images: Path) -> LabelledImages:
    found = list_images(tiny_images, COLOURS, tiny_images / "labels.csv", limit=25)
    return LabelledImages(found.root, (*found.names, "missing.png"), (*found.labels, 0))


@pytest.mark.slow
def test_two_processes_find_the_outcomes_of_one_bit_for_bit(
    tiny_candidates: Path, images: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.measuring.profiling.sample", partial(sample, most=6))
    profiler = Profiler(Bundle.read(tiny_candidates))
    said = [profiler.profile(images, tmp_path / f"{jobs}.csv", jobs=jobs) for jobs in (1, 2)]
    profiler.close()
    assert said[0] == said[1]
    assert len(said[0]) == 1
    one, two = (OutcomeTable.read(tmp_path / f"{jobs}.csv") for jobs in (1, 2))
    assert one.images == two.images
    assert (one.X == two.X).all()
    assert one.meta.get("times") is None
    # The image that cannot be read stands in the sample too, as its last.
    assert two.meta["times"] == {"of": "some of the images", "images": 5, "same_images": False}
    for name in one.candidates:
        for part in ("quality", "top5", "confidence"):
            assert (getattr(one.of(name), part) == getattr(two.of(name), part)).all()
        assert one.probabilities_of(name).tobytes() == two.probabilities_of(name).tobytes()
        assert len(np.unique(two.of(name).ms)) <= 5


def test_times_alone_take_no_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptive.cli import main

    monkeypatch.setattr("sys.argv", ["adaptive", "profile", "--latency-only", "--jobs", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no --jobs" in capsys.readouterr().err
    assert parallel.cores() >= 1
