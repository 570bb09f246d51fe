"""What reuse is worth on a clip: numbers that are known beforehand."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from adaptive.bundle.bundle import default_bundle
from adaptive.cli.video import command
from adaptive.cli.video_tiles import words, worth_of
from adaptive.engines.tiles.state import Thresholds
from adaptive.errors import InputError
from adaptive.files import sha256
from adaptive.images.video import VideoFrame
from adaptive.prediction import Prediction
from adaptive.tasks.detections import Detections
from adaptive.video import tile_tuning
from adaptive.video.gate import FrameGate
from adaptive.video.replay import replayed
from adaptive.video.reuse import tuned, worth
from adaptive.video.view import View

GATE = FrameGate("difference", 25, 0.0, 10.0)


def frames(greys: list) -> list:
    """At 10 frames a second."""
    return [
        VideoFrame(i + 1, i / 10, np.full((24, 32, 3), grey, np.uint8))
        for i, grey in enumerate(greys)
    ]


def by_light(image: np.ndarray) -> Prediction:
    grey = int(image[0, 0, 0])
    label = "light" if grey >= 100 else "dark"
    return Prediction(label, 0, abs(grey - 100) / 100, (), "light", ("light",), {"total": 1.0})


def test_agreement_and_age_are_those_counted_by_hand() -> None:
    # computed: 90, 120 (30 levels on), 60; 110 is reused from 90 and is another class
    clip = replayed(
        "made", frames([90, 90, 110, 90, 120, 120, 60, 60, 60, 60]), by_light, [GATE], View()
    )
    assert clip.sources[GATE].tolist() == [0, 0, 0, 0, 4, 4, 6, 6, 6, 6]
    found = worth(clip, GATE)
    assert found.agreement.value == pytest.approx(0.9)
    assert found.reused == pytest.approx(0.7)
    assert found.worst_age_s == pytest.approx(0.3)
    assert found.sure is None  # no score reaches 0.5


def boxed(image: np.ndarray) -> Detections:
    """One box, as far to the right as the image is light."""
    left = float(image[0, 0, 0])
    return Detections.of([[left, 0, left + 100, 100]], [0.9], [0])


def test_boxes_are_judged_by_f1_with_those_of_the_frame_itself() -> None:
    gate = FrameGate("difference", 40, 0.0, 10.0)
    # the box moves by 20, an overlap of 0.67, by 40, one of 0.43, and back; none wakes the gate
    clip = replayed("made", frames([100, 120, 140, 100, 140]), boxed, [gate], View())
    assert clip.sources[gate].tolist() == [0, 0, 0, 0, 0]
    assert clip.agreement(clip.sources[gate]).tolist() == [1, 1, 0, 1, 0]
    found = worth(clip, gate)
    assert found.agreement.value == pytest.approx(0.6)
    assert (found.variation, found.bands) == (None, {})


def test_bands_and_variation_are_those_counted_by_hand() -> None:
    def graded(image: np.ndarray) -> Prediction:
        p = int(image[0, 0, 0]) / 200
        label, score = ("light", p) if p >= 0.5 else ("dark", 1 - p)
        other = "dark" if label == "light" else "light"
        return Prediction(label, 0, score, ((label, score), (other, 1 - score)), "a", ("a",), {})

    clip = replayed("made", frames([90, 110, 110, 160, 160]), graded, [GATE], View())
    assert clip.sources[GATE].tolist() == [0, 0, 0, 3, 3]
    found = worth(clip, GATE)
    # 90 is dark, 0.55 sure; 110 light, 0.55; 160 light, 0.8
    assert found.bands == {0.5: (pytest.approx(1 / 3), 0.6), 0.75: (1.0, 0.4)}
    assert found.variation == pytest.approx(2 * 0.1 / 5)
    assert found.sure == pytest.approx(3 / 5)
    assert found.at_least < found.agreement.value


def test_every_nth_frame_is_mixed_between_whole_numbers() -> None:
    clip = replayed("made", frames([0, 200] * 6), by_light, [GATE], View())
    assert clip.every_nth(1.0) == 1.0
    assert clip.every_nth(1 / 2) == pytest.approx(0.5)
    assert clip.every_nth(3 / 4) == pytest.approx(0.75)


def test_a_gate_is_chosen_only_where_it_beats_every_nth_frame() -> None:
    slow = [frame for grey in (0, 0, 0, 0, 200, 200, 200, 200, 0, 200) for frame in [grey] * 3]
    pays = replayed("still", frames(slow), by_light, [GATE], View())
    pays.gate_ms[GATE] = 0.0  # times are not what is tested
    assert tuned([pays], 0.0) == GATE
    never = replayed("moving", frames([0, 200] * 15), by_light, [GATE], View())
    assert tuned([never], 0.5) is None


def test_the_command_says_what_it_found(tiny_bundle: Path, data: Path) -> None:
    clip = str(data / "video" / "highway_video.avi")
    arguments = ["reuse", clip, "--bundle", str(tiny_bundle), "--frames", "30"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "30 frames, gate margin:0.4:0.1:1" in done.output
    assert "every n-th frame at equal cost" in done.output


def test_gates_are_chosen_on_the_other_clips_and_drawn(
    tiny_bundle: Path, data: Path, tmp_path: Path
) -> None:
    clips = [str(data / "video" / name) for name in ("highway_video.avi", "street_cars.mp4")]
    page = tmp_path / "page.html"
    arguments = ["reuse", *clips, "--bundle", str(tiny_bundle), "--frames", "12", "--json"]
    done = CliRunner().invoke(command, [*arguments, "--cross", "--report", str(page)])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["clip"] for row in rows] == [Path(c).name for c in clips for _ in range(2)]
    assert rows[0]["gate"] == rows[2]["gate"] == "margin:0.4:0.1:1"
    text = page.read_text()
    assert text.count("<svg") >= 2
    assert "of 12 frames were computed" in text
    again = CliRunner().invoke(command, [*arguments, "--report", str(page)])
    assert isinstance(again.exception, InputError)
    assert "exists" in str(again.exception)


def test_tiles_are_worth_what_is_counted_by_hand() -> None:
    seen = frames([90, 110, 110, 90])  # dark, light, light, dark; tiles miss the last
    stale = iter(["dark", "light", "light", "light"])

    def slow(image: np.ndarray) -> Prediction:
        time.sleep(0.02)
        return by_light(image)

    def tiled(image: np.ndarray, time_s: float) -> Prediction:
        return replace(by_light(image), label=next(stale))

    (told,) = worth_of("made", seen, slow, {"tiles": tiled})
    assert (told["frames"], told["agreement"]) == (4, 0.75)
    assert told["speed_up"] > 2
    assert told["every_nth"] < 0.75
    assert told["pays"]
    assert told["half_interval"] is None  # all of it is one block, and JSON has no infinity
    assert "with tiles, agrees by 75.0% (one block" in words(told)
    with pytest.raises(InputError, match="made has 1 frames"):
        worth_of("made", seen[:1], slow, {"tiles": lambda image, time_s: by_light(image)})


def test_boxes_of_tiles_are_worth_their_f1() -> None:
    def stale(image: np.ndarray, time_s: float) -> Detections:
        return Detections.of([[100.0, 0, 200, 100]], [0.9], [0])

    # by 20 an overlap of 0.67, by 40 one of 0.43
    (told,) = worth_of("made", frames([100, 120, 140, 100]), boxed, {"tiles": stale})
    assert (told["agreement"], told["agreement_sure"]) == (0.75, None)


def nano(data: Path, folder: Path) -> Path:
    """A bundle of the shared YOLOX-nano."""
    folder.mkdir()
    name = "yolox_nano_416.onnx"
    (folder / name).write_bytes((data / "detection" / "models" / name).read_bytes())
    (folder / "labels.txt").write_text("\n".join(str(i) for i in range(80)) + "\n")
    entry = {
        "name": "nano",
        "file": name,
        "sha256": sha256(folder / name),
        "input": {
            "size": 416, "dtype": "float32", "layout": "NCHW", "resize": "fit", "mean": None,
            "std": None, "scale": None, "pad": 114, "place": "top-left", "channels": "BGR",
        },
        "output": {"kind": "boxes", "decoder": "yolox", "classes": 80, "threshold": 0.05},
    }  # fmt: skip
    files = {"labels.txt": sha256(folder / "labels.txt")}
    manifest = {"format": 1, "task": "detect", "labels": "labels.txt", "reference": None}
    (folder / "manifest.json").write_text(
        json.dumps({**manifest, "candidates": [entry], "files": files})
    )
    return folder


@pytest.mark.slow
def test_thresholds_of_a_detector_are_tuned_and_shown_with_the_gate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_tuning, "WORTH", 0.0)  # whether they pay here is not what is tested
    monkeypatch.setattr(tile_tuning, "STEPS", (0.1,))
    bundle = nano(data, tmp_path / "detector")
    clips = [str(data / "video" / name) for name in ("street_cars.mp4", "highway_video.avi")]
    arguments = ["reuse", clips[0], "--tune", clips[1], "--frames", "4", "--json"]
    arguments += ["--tiles", str(tmp_path / "t.json"), "--bundle", str(bundle)]
    done = CliRunner().invoke(command, [*arguments, "--gate", "margin"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    gate = f"the gate {FrameGate()}"
    assert [row["with"] for row in rows] == ["tiles", gate, f"{gate} and tiles"]
    assert min(row["agreement"] for row in rows) > 0.5


@pytest.mark.slow
def test_thresholds_of_tiles_are_tuned_and_kept_where_they_pay(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_tuning, "WORTH", 0.0)  # whether they pay here is not what is tested
    clips = [str(data / "video" / name) for name in ("street_cars.mp4", "highway_video.avi")]
    path = tmp_path / "tiles.json"
    arguments = ["reuse", clips[0], "--tune", clips[1], "--frames", "3", "--json"]
    arguments += ["--tiles", str(path), "--bundle", str(default_bundle())]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [(row["clip"], row["frames"]) for row in rows] == [("street_cars.mp4", 3)] * 3
    kept = Thresholds.read(path)
    assert set(kept.maps)
    monkeypatch.setattr(tile_tuning, "WORTH", 1e9)
    again = CliRunner().invoke(command, arguments)
    assert "exists" in str(again.exception)
    again = CliRunner().invoke(command, [*arguments, "--force"])
    assert again.exit_code == 0, again.output
    assert "tiles do not pay" in again.output
    assert Thresholds.read(path) == kept


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--tiles", "t.json", "--report", "r.html"], "--tiles takes the clips that tune with"),
        (["--cross"], "--cross takes two clips or more"),
        (["--tune", "b.avi", "--gate", "margin"], "leave --gate out"),
        (["--tune", "a.avi"], "a.avi tunes and reports"),
    ],
)
def test_what_cannot_be_chosen_is_one_sentence(more: list, says: str) -> None:
    done = CliRunner().invoke(command, ["reuse", "a.avi", "--bundle", "x", *more])
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)
