from __future__ import annotations

import functools
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from network_camera import NetworkCamera
from served import served

from adaptive import Router
from adaptive.cli.classify import AnswerPrinter, command
from adaptive.errors import ImageError, InputError
from adaptive.policy.fixed import Fixed
from adaptive.prediction import Prediction
from adaptive.serving.keys import Keys

MAIN = [sys.executable, "-c", "from adaptive.cli import main; main()", "classify"]


def run(*arguments: object) -> click.testing.Result:
    try:
        runner = CliRunner(mix_stderr=False)  # click below 8.2 mixes otherwise
    except TypeError:
        runner = CliRunner()
    return runner.invoke(command, [str(argument) for argument in arguments])


def assert_refused(message: str, *arguments: object, kind: type = InputError) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, kind), result.output
    assert message in str(result.exception)


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (48, 32))
    generator = np.random.default_rng(0)
    colours = generator.integers(60, 200, (count, 3))
    for colour in colours:
        writer.write(np.broadcast_to(colour.astype(np.uint8), (32, 48, 3)).copy())
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "ten.avi", 10)


def test_each_image_is_one_line(tiny_bundle: Path, tiny_images: Path) -> None:
    paths = [tiny_images / "001.png", tiny_images / "000.png"]
    result = run(*paths, "--bundle", tiny_bundle)
    assert result.exit_code == 0, result.output
    with Router.load(tiny_bundle) as router:
        answers = [router.classify(path) for path in paths]
    for line, path, answer in zip(result.stdout.splitlines(), paths, answers):
        assert line.startswith(
            f"{path}: {answer.label} {answer.score:.3f} (not calibrated) {answer.candidate} "
        )
        assert line.endswith(" ms")
    assert len(result.stdout.splitlines()) == 2


def test_a_folder_stands_for_all_images_below_it_sorted(
    tiny_bundle: Path, tiny_images: Path
) -> None:
    result = run(tiny_images, tiny_images / "003.png", "--bundle", tiny_bundle)
    names = [Path(line.split(": ")[0]).name for line in result.stdout.splitlines()]
    assert names == [f"{row:03}.png" for row in range(90)]


def test_json_is_the_prediction_and_the_image(tiny_bundle: Path, tiny_images: Path) -> None:
    path = tiny_images / "002.png"
    result = run(path, tiny_images / "001.png", "--bundle", tiny_bundle, "--json")
    first, _ = [json.loads(line) for line in result.stdout.splitlines()]
    assert first.pop("image") == str(path)
    with Router.load(tiny_bundle) as router:
        expected = router.classify(path).to_json()
    assert first.pop("ms").keys() == expected.pop("ms").keys()
    assert first == expected


def test_explain_says_why(tiny_bundle: Path, tiny_images: Path) -> None:
    path = tiny_images / "002.png"
    answer = json.loads(run(path, "--bundle", tiny_bundle, "--json", "--explain").stdout)
    assert answer["reason"]
    assert "features" in answer
    lines = run(path, "--bundle", tiny_bundle, "--explain").stdout.splitlines()
    assert lines[1] == f"    why: {answer['reason']}"
    assert lines[2].startswith("    path: cheap")
    assert lines[3].startswith("    score: what the network says")
    assert "total" in lines[4]


def test_times_say_where_the_time_went(
    tiny_bundle: Path, tiny_images: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "times.svg"
    arguments = ["--bundle", tiny_bundle, "--times", picture]
    told = run(tiny_images, *arguments)
    assert told.exit_code == 0, told.stderr
    assert "    decode  " in told.stdout
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert_refused("give --force to replace it", tiny_images, *arguments)
    as_json = run(tiny_images, *arguments, "--force", "--json")
    assert "    decode  " in as_json.stderr
    assert all(line.startswith("{") for line in as_json.stdout.splitlines())
    assert_refused(
        "--times is about image files", "--video", "x.mp4", "--times", picture, "--force"
    )


def test_compare_measures_the_reference_alone(
    tiny_bundle: Path, tiny_images: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    paths = [tiny_images / f"{row:03}.png" for row in range(6)]
    result = run(*paths, broken, "--bundle", tiny_bundle, "--compare")
    assert result.exit_code == 1
    with Router.load(tiny_bundle) as router:
        name = router.bundle.reference
        with Router.load(tiny_bundle, policy=Fixed((name,))) as alone:
            same = sum(router.classify(p).label == alone.classify(p).label for p in paths)
    found = re.fullmatch(
        rf"{name} alone: (\S+) ms an image, the policy (\S+), (\S+) times as fast; (\S+) of "
        rf"either are decoding\. The same answer on {same} of 6 images \(median of 5 turns each\)",
        result.stdout.splitlines()[-1],
    )
    assert found is not None
    single, routed, ratio, decode = map(float, found.groups())
    assert ratio == pytest.approx(single / routed, rel=0.1)
    assert 0 <= decode < min(single, routed)


@pytest.mark.parametrize("other", [("--json",), ("--url", "http://127.0.0.1:1")])
def test_compare_is_refused_where_it_cannot_be(tiny_images: Path, other: tuple[str, ...]) -> None:
    result = run(tiny_images / "001.png", "--compare", *other)
    assert "--compare is a sentence about image files and a bundle" in str(result.exception)


def test_whether_a_score_is_calibrated_is_said() -> None:
    sure = Prediction(
        "cat", 0, 0.9, (("cat", 0.9), ("dog", 0.1)), "a", ("a",), {"total": 1.0}, True
    )
    lines = AnswerPrinter(top=2)
    assert lines.labels(sure) == "cat 0.900, dog 0.100"
    assert "score: calibrated: of answers" in lines.explanation(sure)
    unsure = replace(sure, calibrated=False)
    assert lines.labels(unsure) == "cat 0.900, dog 0.100 (not calibrated)"
    nobody = replace(unsure, label=None, index=None, candidate=None)
    assert lines.labels(nobody) == "abstained, best guess cat 0.900 (not calibrated)"
    nothing = replace(nobody, top5=(), score=None)
    assert lines.labels(nothing) == "abstained"
    assert "score:" not in lines.explanation(nothing)


def test_top_shows_more_labels(tiny_bundle: Path, tiny_images: Path) -> None:
    path = tiny_images / "002.png"
    with Router.load(tiny_bundle) as router:
        best = router.classify(path).top5
    shown = run(path, "--bundle", tiny_bundle, "--top", 2).stdout
    assert f": {best[0][0]} {best[0][1]:.3f}, {best[1][0]} {best[1][1]:.3f} " in shown


def test_an_unreadable_image_is_listed_and_the_others_go_on(
    tiny_bundle: Path, tiny_images: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no image")
    absent = tmp_path / "absent.png"
    result = run(text, tiny_images / "001.png", absent, "--bundle", tiny_bundle)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    listed = result.stderr.splitlines()
    assert [line.startswith("left out: ") for line in listed] == [True, True]
    assert str(text) in listed[0]
    assert str(absent) in listed[1]


def test_nothing_readable_is_bad_input(tiny_bundle: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent.png"
    assert_refused("absent.png", absent, "--bundle", tiny_bundle, kind=ImageError)
    assert_refused("none of the 2 images", absent, tmp_path / "b", "--bundle", tiny_bundle)
    assert_refused("holds no image", tmp_path, "--bundle", tiny_bundle)
    assert_refused("the path of an image is empty", "", "--bundle", tiny_bundle)


def test_exactly_one_source_is_asked_for(tiny_images: Path, video: Path) -> None:
    only = "only one of them"
    assert_refused(only)
    assert_refused(only, tiny_images, "--video", video)
    assert_refused(only, "--video", video, "--camera", 0)
    assert_refused("name a camera", "--video", video, "--patience", 3)
    assert_refused("is a file and no camera; read it with --video", "--camera", video)
    assert_refused("--frames and --every", tiny_images, "--frames", 3)
    assert_refused("--frames and --every", tiny_images, "--every", 1)


def test_a_video_is_a_line_a_frame_and_a_summary(tiny_bundle: Path, video: Path) -> None:
    result = run("--video", video, "--bundle", tiny_bundle)
    assert result.exit_code == 0, result.output
    *lines, summary = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"frame {n}" for n in range(1, 11)]
    _, label, candidate, path, ms, fps = lines[0].split("  ")
    assert label.split()[0] in ("blue", "green", "red")
    assert path.split(" > ")[-1] == candidate
    assert ms.endswith(" ms")
    assert fps.endswith(" fps")
    assert summary.startswith("10 frames: ")
    assert summary.endswith(" ms")
    shares = summary.split(": ")[1].split(";")[0].split(", ")
    assert sum(float(share.split()[1]) for share in shares) == pytest.approx(100, abs=0.2)


def test_frames_and_every_choose_frames(tiny_bundle: Path, video: Path) -> None:
    result = run("--video", video, "--bundle", tiny_bundle, "--every", 4, "--json")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["frame"] for answer in answers] == [1, 5, 9]
    assert all(answer["fps"] > 0 and answer["label"] for answer in answers)
    assert result.stderr.startswith("3 frames: ")
    result = run("--video", video, "--bundle", tiny_bundle, "--frames", 2)
    assert len(result.stdout.splitlines()) == 3
    assert result.stdout.splitlines()[-1].startswith("2 frames: ")


def test_a_video_that_is_cut_off_is_done_with_an_omission(
    tiny_bundle: Path, video: Path, tmp_path: Path
) -> None:
    data = video.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: [found.start() for found in re.finditer(b"00dc", data)][6]])
    result = run("--video", cut, "--bundle", tiny_bundle)
    answered = len(result.stdout.splitlines()) - 1
    assert answered in (5, 6)
    assert result.exit_code == 1
    assert result.stderr == (
        f"left out: {cut} ended after {answered} of 10 frames; the rest is cut off or damaged\n"
    )
    stopped = run("--video", cut, "--bundle", tiny_bundle, "--frames", 2)
    assert (stopped.exit_code, stopped.stderr) == (0, "")


def test_frames_are_explained(tiny_bundle: Path, video: Path) -> None:
    result = run("--video", video, "--bundle", tiny_bundle, "--frames", 1, "--explain")
    assert result.stdout.splitlines()[1].startswith("    why: ")


@pytest.fixture(scope="module")
def url(tiny_bundle: Path) -> Iterator[str]:
    with served(tiny_bundle) as server:
        yield server.url


def test_a_server_gives_the_answers_of_its_bundle(
    tiny_bundle: Path, tiny_images: Path, url: str
) -> None:
    paths = [tiny_images / f"{row:03}.png" for row in range(4)]

    def answers(*arguments: object) -> list[dict[str, object]]:
        found = [json.loads(line) for line in run(*paths, "--json", *arguments).stdout.splitlines()]
        for answer in found:
            assert set(answer.pop("ms")) >= {"decode", "total"}
        return found

    assert answers("--url", url) == answers("--bundle", tiny_bundle)
    lines = run(paths[0], "--url", url, "--explain").stdout.splitlines()
    assert lines[0].startswith(f"{paths[0]}: ")
    assert lines[1].startswith("    why: ")


def test_a_server_answers_frames(url: str, video: Path) -> None:
    lines = run("--video", video, "--url", url, "--frames", 3).stdout.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("3 frames: ")


def test_what_a_server_cannot_read_is_listed(tiny_images: Path, url: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no image")
    result = run(text, tiny_images / "001.png", "--url", url)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"left out: {text}: the image is not a JPEG")
    assert len(result.stdout.splitlines()) == 1


def test_a_server_and_a_bundle_exclude_each_other(tiny_bundle: Path, tiny_images: Path) -> None:
    image = tiny_images / "001.png"
    assert_refused("leave --bundle out", image, "--url", "http://b", "--bundle", tiny_bundle)
    assert_refused("name the server with --url", image, "--key-file", tiny_bundle)


def test_a_key_file_opens_a_server(tiny_bundle: Path, tiny_images: Path, tmp_path: Path) -> None:
    keys, image = tmp_path / "keys", tiny_images / "001.png"
    keys.write_text("secret-of-the-board\n")
    with served(tiny_bundle, keys=Keys(keys)) as server:
        assert run(image, "--url", server.url, "--key-file", keys).exit_code == 0
        assert_refused("wants a key", image, "--url", server.url)


def test_a_server_that_is_not_there_exits_with_one_sentence(tiny_images: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = subprocess.run(
        [*MAIN, str(tiny_images / "001.png"), "--url", f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "cannot be reached: Connection refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_camera_that_is_not_there_exits_with_2(tiny_bundle: Path) -> None:
    done = subprocess.run(
        [*MAIN, "--camera", "97", "--bundle", str(tiny_bundle)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("adaptive: camera 97 cannot be opened")
    assert len(done.stderr.splitlines()) == 1


def test_control_c_ends_with_a_summary(tiny_bundle: Path, tmp_path: Path) -> None:
    long = write_video(tmp_path / "long.avi", 20_000)
    process = subprocess.Popen(
        [*MAIN, "--video", str(long), "--bundle", str(tiny_bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("frame 1  ")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    *lines, summary = process.stdout.read().splitlines()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    process.stdout.close()
    process.stderr.close()
    assert summary.endswith(" ms")
    count = int(summary.split(" frames: ")[0])
    assert count < 20_000
    assert count - (len(lines) + 1) in (0, 1)  # it may have come before a line was printed


def test_a_network_camera_s_losses_are_in_the_summary(tiny_bundle: Path) -> None:
    with NetworkCamera(fps=200, size=(48, 32)) as camera:
        result = run("--camera", camera.url, "--frames", 20, "--json", "--bundle", tiny_bundle)
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    numbers = [line["frame"] for line in lines]
    assert len(numbers) == 20
    assert numbers == sorted(set(numbers))
    assert [line["time_s"] for line in lines] == sorted(line["time_s"] for line in lines)
    dropped = numbers[-1] - numbers[0] - 19
    assert ("frames dropped" in result.stderr) == (dropped > 0)
    assert dropped == 0 or result.stderr.endswith(f"; {dropped} frames dropped\n")


def test_a_camera_that_stays_away_is_an_error_after_patience(tiny_bundle: Path) -> None:
    with NetworkCamera(size=(48, 32)) as camera, subprocess.Popen(
        [*MAIN, "--camera", camera.url, "--patience", "0.1", "--bundle", str(tiny_bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("frame ")
        camera.unplug()
        process.stdout.read()
        gone, error = process.stderr.read().splitlines()
    assert process.returncode == 2
    assert gone.endswith("/stream.mjpg stopped; waiting for it")
    assert re.fullmatch(r"adaptive: http://\S+ stopped, and was gone for \d+ s", error)
    assert "secret" not in gone + error


def test_the_frames_of_an_address_are_all_answered(tiny_bundle: Path, video: Path) -> None:
    handler = functools.partial(QuietFiles, directory=str(video.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/{video.name}"
        result = run("--video", url, "--bundle", tiny_bundle)
        server.shutdown()
        thread.join()
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("10 frames: ")


class QuietFiles(SimpleHTTPRequestHandler):
    """The files of a folder, without a log."""

    def log_message(self, *_: object) -> None:
        pass


def test_on_a_terminal_the_line_is_written_over(tiny_bundle: Path, video: Path) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "40", "TERM": "xterm"}
    with subprocess.Popen(
        [*MAIN, "--video", str(video), "--bundle", str(tiny_bundle)],
        stdout=slave,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 4096)
            except OSError:  # the other side has closed
                break
            if not block:
                break
            shown += block
    os.close(master)
    assert process.returncode == 0
    live, summary = shown.decode().splitlines()[-2:]
    lines = live.replace("\x1b[K", "").split("\r")
    assert max(len(line) for line in lines) <= 39
    assert lines[-1].startswith("frame 10  ")
    assert summary.startswith("10 frames: ")


def test_names_that_are_no_text_are_shown(tiny_bundle: Path, tiny_images: Path) -> None:
    odd = Path(os.fsdecode(bytes(tiny_images.parent / "odd-") + b"\xff.png"))
    shutil.copyfile(tiny_images / "001.png", odd)
    done = [
        subprocess.run(
            [*MAIN, str(odd), "--bundle", str(tiny_bundle), *more],
            capture_output=True,
            timeout=60,
        )
        for more in ([], ["--json"])
    ]
    assert [d.returncode for d in done] == [0, 0]
    assert json.loads(done[1].stdout)["image"] == str(odd)


def test_a_still_video_is_answered_by_reuse(tiny_bundle: Path, data: Path) -> None:
    clip = str(data / "video" / "highway_video.avi")
    arguments = ["--video", clip, "--frames", "12", "--bundle", str(tiny_bundle)]
    done = CliRunner().invoke(command, [*arguments, "--reuse", "difference:255:0:0.1"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    # 30 frames a second: each fourth one is computed, the others are at most 0.1 s old
    assert [int(line.split()[1]) for line in lines[:-1] if "reused" not in line] == [1, 5, 9]
    assert lines[-1].endswith("; 9 reused")


def test_reuse_is_for_videos(tiny_images: Path) -> None:
    done = CliRunner().invoke(command, [str(tiny_images / "004.png"), "--reuse", "histogram"])
    assert "--reuse is for --camera or --video" in str(done.exception)
