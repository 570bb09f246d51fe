"""What reuse is worth on a clip: numbers that are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from adaptive.cli.video import command
from adaptive.images.video import VideoFrame
from adaptive.prediction import Prediction
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
    assert "30 frames, gate margin:0.25:0.05:1" in done.output
    assert "every n-th frame at equal cost" in done.output
