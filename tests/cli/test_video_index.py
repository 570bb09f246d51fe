from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from box_candidates import box_candidates
from click.testing import CliRunner, Result
from moving_squares import GREEN, RED, write_clip
from network_camera import NetworkCamera

from adaptive.cli.video import command
from adaptive.errors import AdaptiveError
from adaptive.video.index import VideoIndex


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "squares.avi")


@pytest.fixture(scope="module")
def index(clip: Path, tiny_candidates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "index"
    made = ("index", clip, "-o", folder, "--bundle", tiny_candidates, "--json")
    both = ("--cheap", "net@1", "--cheap", "net@2", "--k", 1)
    result = run(*made, *both, "--threshold", 0.3, "--gate", "none")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert (said["frames"], said["looked"]) == (90, 90)
    assert said["objects"] >= len(RED) + len(GREEN)
    return folder


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def refused(says: str, *arguments: Any) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, AdaptiveError), result.output
    assert says in str(result.exception)


def test_a_query_gives_intervals_a_page_and_thumbnails(
    index: Path, clip: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    asked = ("query", index, "red", "--bundle", tiny_candidates, "--strong", "strong")
    page, pictures = tmp_path / "seen.html", tmp_path / "pictures"
    result = run(*asked, "--json", "--page", page, "--thumbnails", pictures)
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    spans = [(i["first_frame"], i["last_frame"]) for i in said["intervals"]]
    assert (RED[0], RED[-1]) in spans or spans == [(RED[0], RED[-1])]
    assert said["right"] <= said["judged"]
    text = page.read_text()
    assert text.count("<tr><td>") == len(spans)
    assert "<script" not in text
    assert "data:" not in text
    assert len(list(pictures.iterdir())) == len(spans)
    result = run(*asked)
    assert f"frames {RED[0]} to {RED[-1]} of squares.avi" in result.output


def test_the_classes_are_listed(index: Path) -> None:
    result = run("query", index, "--classes", "--json")
    assert set(json.loads(result.output)) <= {"blue", "green", "red"}
    assert json.loads(result.output)["red"] >= 1


def test_a_clip_that_moved_away_is_told(
    index: Path, clip: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    asked = ("query", index, "red", "--bundle", tiny_candidates, "--strong", "strong")
    there = ("--thumbnails", tmp_path / "pictures", "--clips", tmp_path)
    assert f"frames {RED[0]} to {RED[-1]} of squares.avi" in run(*asked, *there).output
    refused("the clip 'squares.avi' is not at", *asked, *there)
    (tmp_path / "squares.avi").write_bytes(b"another")
    refused("is not the clip 'squares.avi' that was indexed", *asked, *there)
    shutil.copyfile(clip, tmp_path / "squares.avi")
    assert run(*asked, *there).exit_code == 0


def test_what_cannot_be_is_refused_in_a_sentence(
    index: Path, clip: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    refused("know no class 'car'", "query", index, "car", "--bundle", tiny_candidates)
    refused("--bundle FOLDER has the network that judges", "query", index, "red")
    refused("'soon' is no time; 75, 1:15", "query", index, "red", "--from", "soon")
    refused("is no index of video", "query", tmp_path, "red", "--bundle", tiny_candidates)
    out = ("-o", tmp_path / "new", "--bundle", tiny_candidates)
    refused("name clips, or --camera SOURCE, and only one", "index", *out)
    refused("name clips, or --camera SOURCE, and only one", "index", clip, "--camera", 0, *out)
    refused("is no file; name clips", "index", tmp_path / "gone.avi", *out)
    refused("is no time such as", "index", clip, "--start", "yesterday", *out)
    refused("candidate 'other' is not in the bundle", "index", clip, "--cheap", "other", *out)
    assert not (tmp_path / "new").exists()


def test_detectors_file_their_boxes(clip: Path, tmp_path: Path) -> None:
    bundle = box_candidates(tmp_path / "detectors")
    folder = tmp_path / "index"
    made = ("index", clip, "-o", folder, "--bundle", bundle, "--threshold", 0.4)
    result = run(*made, "--frames", 40, "--name", "yard", "--start", "2026-11-26T08:00:00")
    assert result.exit_code == 0, result.output
    result = run("query", folder, "--classes", "--json")
    kinds = list(json.loads(result.output))
    assert kinds
    result = run("query", folder, kinds[0], "--bundle", bundle, "--strong", "large", "--json",
                 "--from", "2026-11-26T07:00:00", "--camera", "yard")  # fmt: skip
    said = json.loads(result.output)
    assert said["right"] == said["judged"] > 0


def test_detectors_look_at_each_so_many_th_frame(
    clip: Path, tiny_candidates: Path, tmp_path: Path
) -> None:
    bundle = box_candidates(tmp_path / "detectors")
    folder = tmp_path / "index"
    made = ("index", clip, "-o", folder, "--bundle", bundle, "--gate", "none", "--json")
    part = run(*made, "--every", 4, "--frames", 10)
    assert json.loads(part.output)["looked"] == 3  # the first, the fifth and the ninth
    refused("every 4 and not 3", *made, "--every", 3)
    rest = json.loads(run(*made, "--every", 4).output)
    assert (rest["frames"], rest["looked"]) == (80, 20)
    with VideoIndex(folder) as index:
        assert index.settings.every == 4
    moving = ("index", clip, "-o", tmp_path / "moving", "--bundle", tiny_candidates)
    refused("is for detectors", *moving, "--every", 2)


CTRL_C = """
import sys, time
from adaptive.cli.frames import until_ctrl_c
where, frames = sys.argv[1], iter(lambda: time.sleep(30 if where == "waiting" else 0) or 1, None)
done = 0
print("runs", flush=True)
with until_ctrl_c(frames) as until:
    for _ in until:
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            pass
        done += 1
print("done", done, flush=True)
"""


@pytest.mark.parametrize("where", ["waiting", "working"])
def test_ctrl_c_lets_the_work_on_a_frame_end(where: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, where], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said == ("done 0\n" if where == "waiting" else "done 1\n")


def test_a_camera_is_called_by_its_address_without_the_password(
    tiny_candidates: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    with NetworkCamera() as camera:
        made = ("index", "--camera", camera.url, "-o", folder, "--bundle", tiny_candidates)
        result = run(*made, "--frames", 5)
    assert result.exit_code == 0, result.output
    assert "5 frames" in result.output
    assert "secret" not in result.output
    with VideoIndex(folder) as index:
        (clip,) = index.clips()
    assert clip.done
    assert clip.camera == clip.path
    assert "127.0.0.1" in clip.path
    assert "secret" not in str(clip)


def test_an_index_is_tuned_on_other_clips_than_it_is_judged_on(clip: Path, tmp_path: Path) -> None:
    bundle = box_candidates(tmp_path / "detectors")
    other = tmp_path / "other.avi"
    shutil.copyfile(clip, other)
    asked = ("tune-index", clip, "--bundle", bundle, "--strong", "large", "--frames", 40)
    red = ("--cheap", "small", "--cheap", "large", "--class", "red", "--k", 1, "--k", 3)
    result = run(*asked, *red, "--judge", other, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert said["judged"]["red"] == said["chose"]["red"]  # the clips are alike
    assert min(said["judged"]["red"][part] for part in ("precision", "recall")) >= 0.99
    assert said["k"] in (1, 3)
    assert 0 < said["judged"]["red"]["frames_with_it"] <= 40
    lines = run(*asked, *red).output.splitlines()
    assert lines[1].startswith("red, on the clips that chose (")
    made = ("index", clip, "-o", tmp_path / "index", "--bundle", bundle, *lines[0].split())
    assert run(*made, "--frames", 40).exit_code == 0  # its first line is what index takes
    with VideoIndex(tmp_path / "index") as index:
        settings = index.settings
    options = lines[0].split()
    assert list(settings.candidates) == options[1:-10:2]
    assert (settings.k, settings.least, settings.threshold) == (
        int(options[-9]),
        *map(float, options[-7:-3:2]),
    )
    assert (settings.every, settings.gate) == (int(options[-3]), options[-1])
    refused("chooses and judges", *asked, *red, "--judge", clip)
    refused("know no class 'car'", *asked, "--cheap", "small", "--class", "car")
    refused("candidate 'x' is not in", *asked, "--cheap", "x", "--class", "red")
