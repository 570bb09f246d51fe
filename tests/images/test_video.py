from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest
from network_camera import NetworkCamera

from adaptive.errors import InputError
from adaptive.images.video import VideoFrame, VideoReader

#: brightness of the red channel in frame i is 10 * i; blue is always 200
FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "frames.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    assert writer.isOpened()
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), (200, 0, 10 * number), np.uint8))  # BGR
    writer.release()
    return path


def reds(frames: list[VideoFrame]) -> list[int]:
    return [round(float(frame.image[..., 0].mean()) / 10) for frame in frames]


def test_a_file_delivers_every_frame_as_rgb(video: Path) -> None:
    with VideoReader(video) as reader:
        frames = list(reader)
        assert not reader.live
        assert reader.lost.words() == ""
        assert reader.lost.rest is None
    assert {(f.image.shape, f.image.dtype.name) for f in frames} == {((48, 64, 3), "uint8")}
    assert reds(frames) == list(range(FRAMES))
    assert [f.number for f in frames] == list(range(1, FRAMES + 1))
    assert [f.time_s for f in frames] == pytest.approx([i / 25 for i in range(FRAMES)], abs=1e-3)
    assert abs(float(frames[5].image[..., 2].mean()) - 200) < 5


def test_every_third_frame_starts_with_the_first(video: Path) -> None:
    with VideoReader(str(video), every=3) as reader:
        frames = list(reader)
    assert [frame.number for frame in frames] == [1, 4, 7, 10]
    assert [round(frame.time_s * 25) for frame in frames] == [0, 3, 6, 9]
    assert reds(frames) == [0, 3, 6, 9]


def test_a_slow_reader_of_a_live_source_gets_the_newest_frame(video: Path) -> None:
    with VideoReader(video, live=True) as reader:
        time.sleep(0.5)  # it has read most by now
        frames = list(reader)
        assert frames[-1].number == FRAMES
        assert reds(frames[-1:]) == [FRAMES - 1]
        assert reader.lost.dropped == FRAMES - frames[0].number - (len(frames) - 1)


def test_frames_that_are_kept_are_not_overwritten(video: Path) -> None:
    with VideoReader(video) as reader:
        frames = [(frame.image, frame.image.copy()) for frame in reader]
    assert all((kept == copy).all() for kept, copy in frames)


@pytest.mark.parametrize("live", [False, True])
def test_closing_ends_the_frames_and_the_process(video: Path, live: bool) -> None:
    reader = VideoReader(video, live=live).open()
    frames = iter(reader)
    next(frames)
    assert children()
    reader.close()
    assert list(frames) == []
    assert not children()
    reader.close()


def test_closing_from_another_thread_ends_a_wait() -> None:
    with NetworkCamera() as camera, VideoReader(camera.url, live=True) as reader:
        frames = iter(reader)
        next(frames)
        camera.mute()
        threading.Timer(0.3, reader.close).start()
        began = time.monotonic()
        list(frames)
        assert time.monotonic() - began < reader.timeout_s


def test_a_camera_that_is_not_there_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"camera 97 cannot be opened; .*/dev/video97"):
        VideoReader(97).open()
    with pytest.raises(InputError, match=r"camera /dev/video96 cannot be opened"):
        VideoReader("v4l2:///dev/video96?width=640").open()
    assert capfd.readouterr() == ("", "")
    assert not children()


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.md"
    text.write_text("no video\n" * 50)
    with pytest.raises(InputError, match=r"notes\.md is not a video that OpenCV \d"):
        VideoReader(text).open()
    with pytest.raises(InputError, match="every"):
        VideoReader(text, every=0)
    with pytest.raises(InputError, match="patience_s"):
        VideoReader(text, patience_s=-1)
    with pytest.raises(InputError, match="timeout_s"):
        VideoReader(text, timeout_s=0)


@pytest.mark.parametrize("live", [False, True])
def test_a_video_without_a_frame_is_an_error(tmp_path: Path, video: Path, live: bool) -> None:
    data = video.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: data.index(b"00dc")])  # all headers, no frame
    wrong = pytest.raises(InputError, match=r"no(t a video| frames)")
    with wrong, VideoReader(cut, live=live) as reader:
        list(reader)


@pytest.fixture(scope="module", params=["avi", "mkv"])
def noise(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 30 frames that are equally long in the file; mkv tells only how long it is."""
    path = tmp_path_factory.mktemp("video") / f"noise.{request.param}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    assert writer.isOpened()
    for _ in range(30):
        writer.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("every", [1, 4])
def test_a_video_that_is_cut_off_says_how_many_frames_were_read(noise: Path, every: int) -> None:
    data = noise.read_bytes()
    cut = noise.with_name("cut" + noise.suffix)
    cut.write_bytes(data[: len(data) // 2])
    with VideoReader(cut, every=every) as reader:
        assert reader.lost.rest is None
        delivered = len(list(reader))
        found = re.fullmatch(
            r".*cut\.\w+ ended after (\d+) of 30 frames; the rest is cut off or damaged",
            reader.lost.rest or "",
        )
        assert found
        assert 12 <= int(found[1]) <= 16
        assert delivered == -(-int(found[1]) // every)
    with VideoReader(noise, every=every) as reader:
        list(reader)
        assert reader.lost.rest is None


def test_a_video_that_is_left_before_its_end_lacks_nothing(noise: Path) -> None:
    with VideoReader(noise) as reader:
        frames = iter(reader)
        next(frames)
        reader.close()
        assert list(frames) == []
        assert reader.lost.rest is None


def test_a_decoder_that_dies_is_a_sentence_and_not_the_end(video: Path) -> None:
    with VideoReader(video) as reader:
        frames = iter(reader)
        next(frames)
        (child,) = children()
        os.kill(child, 6)
        delivered = 1 + len(list(frames))
        assert 1 <= delivered <= 4  # some may have been decoded ahead
        assert reader.lost.rest == (
            f"{video} crashed its decoder (SIGABRT) after {delivered} of 12 frames; the rest is "
            "cut off or damaged"
        )


@pytest.mark.data
def test_a_file_that_makes_opencv_abort_is_refused() -> None:
    clip = Path(os.environ["ADAPTIVE_DATA"]) / "video" / "damaged_demo.avi"
    if not clip.exists():
        pytest.skip(f"there is no {clip}")
    with pytest.raises(InputError, match="damaged"), VideoReader(clip) as reader:
        list(reader)


def test_a_raw_stream_without_a_count_of_frames_gets_times_by_its_rate(tmp_path: Path) -> None:
    """JPEG pictures one after the other, as some cameras store them."""
    raw = tmp_path / "raw.mjpeg"
    grey = [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(FRAMES)]
    raw.write_bytes(b"".join(cv2.imencode(".jpg", picture)[1].tobytes() for picture in grey))
    with VideoReader(raw) as reader:
        frames = list(reader)
        assert reader.lost.rest is None
    assert reds(frames) == list(range(FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(FRAMES)])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg to write it")
def test_a_variable_rate_keeps_each_frames_own_time(video: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "uneven.mkv"
    command = ["ffmpeg", "-v", "error", "-i", str(video), "-vf", "setpts='N*N/25/TB'"]
    subprocess.run([*command, "-fps_mode", "vfr", "-c:v", "mjpeg", str(uneven)], check=True)
    with VideoReader(uneven) as reader:
        frames = list(reader)
    times = [frame.time_s - frames[0].time_s for frame in frames]
    assert times == pytest.approx([i * i / 25 for i in range(FRAMES)], abs=2e-3)


def test_a_program_that_is_killed_leaves_no_decoder_behind(video: Path) -> None:
    program = (
        "import sys\n"
        "from adaptive.images.video import VideoReader\n"
        "frames = iter(VideoReader(sys.argv[1]))\n"
        "next(frames)\n"
        "print(frames.gi_frame.f_locals['self']._capture._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(video)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        process.kill()
    wait_for(lambda: not alive(child))


def test_the_newest_frame_of_a_network_camera_wins_and_the_others_are_counted() -> None:
    with NetworkCamera(fps=100) as camera, VideoReader(camera.url, live=True) as reader:
        frames = iter(reader)
        first = next(frames)
        time.sleep(0.5)
        late = next(frames)
        assert late.number > first.number + 5
        assert reader.lost.dropped == late.number - first.number - 1
        assert late.image.mean() > first.image.mean() + 5
        assert late.time_s > first.time_s + 0.3


def test_a_camera_that_vanishes_is_waited_for_and_goes_on() -> None:
    said: list[str] = []
    with NetworkCamera() as camera, VideoReader(camera.url, live=True, tell=said.append) as reader:
        frames = iter(reader)
        before = next(frames)
        camera.unplug()
        threading.Timer(0.7, camera.plug_in).start()
        after = before
        while reader.openings == 1:  # what had arrived by then is still delivered
            before, after = after, next(frames)
        assert after.number > before.number
        assert next(frames).number > after.number
        assert reader.lost.outages == 1
        assert 0.3 < reader.lost.outage_s < 30
    assert len(said) == 2
    assert re.fullmatch(r"http://\*\*\*@127.0.0.1:\d+/stream.mjpg stopped; waiting for it", said[0])
    assert re.search(r"is back after \d+\.\d s", said[1])


def test_a_camera_that_says_nothing_counts_as_gone() -> None:
    said: list[str] = []
    with NetworkCamera() as camera, VideoReader(
        camera.url, live=True, timeout_s=0.5, patience_s=0.2, tell=said.append
    ) as reader:
        frames = iter(reader)
        next(frames)
        camera.mute()
        with pytest.raises(InputError, match=r"gave no frame for 0\.5 s, and was gone for \d+ s"):
            list(frames)
    assert "secret" not in said[0]


def test_an_address_where_nobody_is_does_not_show_its_password() -> None:
    with NetworkCamera() as camera:
        camera.unplug()
        with pytest.raises(InputError, match="cannot be opened") as caught:
            VideoReader(camera.url).open()
    assert "secret" not in str(caught.value)
    assert "can this machine reach it" in str(caught.value)


def test_a_size_that_changes_in_mid_stream_is_delivered() -> None:
    with NetworkCamera() as camera, VideoReader(camera.url, live=True) as reader:
        frames = iter(reader)
        assert next(frames).image.shape == (48, 64, 3)
        camera.size = (320, 240)
        shapes = [next(frames).image.shape for _ in range(40)]
        assert shapes[-1][:2] in ((240, 320), (48, 64))  # OpenCV scales where its stream began


def children() -> list[int]:
    """Decoders that this process has started and that run."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and b"decoder.py" in line:
            found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
