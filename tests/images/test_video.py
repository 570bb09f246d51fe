from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.images.camera import Camera

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


def reds(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame[..., 0].mean()) / 10) for frame in frames]


def test_a_file_delivers_every_frame_as_rgb(video: Path) -> None:
    with Camera(video) as camera:
        frames = list(camera)
        assert camera.number == FRAMES
        assert not camera.live
    assert {(f.shape, f.dtype.name) for f in frames} == {((48, 64, 3), "uint8")}
    assert reds(frames) == list(range(FRAMES))
    assert abs(float(frames[5][..., 2].mean()) - 200) < 5


def test_every_third_frame_starts_with_the_first(video: Path) -> None:
    with Camera(str(video), every=3) as camera:
        numbers, frames = [], []
        for frame in camera:
            numbers.append(camera.number)
            frames.append(frame)
    assert numbers == [1, 4, 7, 10]
    assert reds(frames) == [0, 3, 6, 9]


def test_a_slow_reader_of_a_live_source_gets_the_newest_frame(video: Path) -> None:
    with Camera(video, live=True) as camera:
        frames = iter(camera)
        next(frames)
        first = camera.number
        wait_for(lambda: not camera_threads())  # it has read all by now
        last = next(frames)
        assert camera.number == FRAMES
        assert reds([last]) == [FRAMES - 1]
        assert list(frames) == []
    assert first <= FRAMES


def test_frames_that_are_kept_are_not_overwritten(video: Path) -> None:
    with Camera(video) as camera:
        frames = iter(camera)
        first = next(frames)
        before = first.copy()
        list(frames)
    assert (first == before).all()


def test_closing_a_live_source_ends_its_thread_and_its_frames(video: Path) -> None:
    camera = Camera(video, live=True)
    frames = iter(camera)
    next(frames)
    camera.close()
    assert list(frames) == []
    assert not camera_threads()
    camera.close()


def test_closing_a_file_ends_its_frames(video: Path) -> None:
    camera = Camera(video)
    frames = iter(camera)
    next(frames)
    camera.close()
    assert list(frames) == []


def test_a_camera_that_is_not_there_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="camera 97 cannot be opened"):
        Camera(97)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.md"
    text.write_text("no video\n" * 50)
    with pytest.raises(InputError, match=r"notes\.md is not a video"):
        Camera(text)
    with pytest.raises(InputError, match="is a folder"):
        Camera(tmp_path)
    with pytest.raises(InputError, match="there is no video"):
        Camera(tmp_path / "absent.avi")
    with pytest.raises(InputError, match="0 or more"):
        Camera(-1)
    with pytest.raises(InputError, match="every"):
        Camera(text, every=0)


@pytest.mark.parametrize("live", [False, True])
def test_a_video_without_a_frame_is_an_error(tmp_path: Path, video: Path, live: bool) -> None:
    data = video.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: data.index(b"00dc")])  # all headers, no frame
    with pytest.raises(InputError, match=r"no(t a video| frames)"), Camera(cut, live) as camera:
        list(camera)


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
    with Camera(cut, every=every) as camera:
        assert camera.left_out is None
        delivered = len(list(camera))
        found = re.fullmatch(
            r".*cut\.\w+ ended after (\d+) of 30 frames; the rest is cut off or damaged",
            camera.left_out or "",
        )
        assert found
        assert 12 <= int(found[1]) <= 16
        assert delivered == -(-int(found[1]) // every)
    with Camera(noise, every=every) as camera:
        list(camera)
        assert camera.left_out is None


def test_a_video_that_is_left_before_its_end_lacks_nothing(noise: Path) -> None:
    with Camera(noise) as camera:
        frames = iter(camera)
        next(frames)
        camera.close()
        assert list(frames) == []
        assert camera.left_out is None


def camera_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "camera"]


def wait_for(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
