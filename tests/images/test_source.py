from __future__ import annotations

from pathlib import Path

import pytest

from adaptive.errors import InputError
from adaptive.images.source import VideoSource, read_source


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "a clip.avi"
    path.write_bytes(b"RIFF")
    return path


@pytest.mark.parametrize(
    ("given", "kind", "address", "live"),
    [
        (0, "device", 0, True),
        ("2", "device", 2, True),
        ("/dev/video1", "device", "/dev/video1", True),
        ("v4l2:///dev/video0", "device", "/dev/video0", True),
        ("rtsp://10.0.0.9/live", "stream", "rtsp://10.0.0.9/live", True),
        ("http://10.0.0.9/clip.mp4", "stream", "http://10.0.0.9/clip.mp4", False),
        ("videotestsrc ! appsink", "pipeline", "videotestsrc ! appsink", True),
    ],
)
def test_what_is_written_tells_what_it_is(
    given: object, kind: str, address: object, live: bool
) -> None:
    source = read_source(given)  # type: ignore[arg-type]
    assert (source.kind, source.address, source.live) == (kind, address, live)


def test_a_file_is_a_file_as_path_text_and_address(clip: Path) -> None:
    for given in (clip, str(clip), clip.as_uri()):
        assert read_source(given) == VideoSource("file", str(clip), str(clip))
        assert not read_source(given).live


def test_a_sensor_of_a_jetson_becomes_a_pipeline() -> None:
    source = read_source("csi://1?width=1920&height=1080&flip=2")
    assert source.kind == "pipeline"
    assert source.name == "csi://1?width=1920&height=1080&flip=2"
    assert str(source.address).split(" ! ") == [
        "nvarguscamerasrc sensor-id=1",
        "video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1",
        "nvvidconv flip-method=2",
        "video/x-raw,format=BGRx",
        "videoconvert",
        "video/x-raw,format=BGR",
        "appsink drop=true max-buffers=1 sync=false",
    ]


def test_a_pipeline_without_a_sink_gets_one() -> None:
    source = read_source("v4l2src ! jpegdec")
    assert str(source.address).startswith("v4l2src ! jpegdec ! videoconvert ! ")
    assert str(source.address).endswith("appsink drop=true max-buffers=1 sync=false")


def test_a_device_is_asked_for_a_size() -> None:
    source = read_source("v4l2:///dev/video0?width=640&height=480&fps=15")
    assert source.settings == {"width": 640, "height": 480, "fps": 15}


def test_a_password_is_not_in_the_name() -> None:
    source = read_source("rtsp://admin:secret@10.0.0.9/live")
    assert source.name == "rtsp://***@10.0.0.9/live"
    assert "secret" in str(source.address)
    assert "secret" not in read_source("rtspsrc location=rtsp://a:secret@b/c ! fakesink").name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (-1, "0 or more"),
        ("-1", "0 or more"),
        (True, "a source of frames is"),
        (None, "a source of frames is"),
        ("absent.avi", "there is no video absent.avi"),
        ("ftp://host/clip.mp4", "ftp://host/clip.mp4 is no source of frames that is known"),
        ("csi://left", "names no sensor; write csi://0"),
        ("csi://0?wdth=640", "has wdth=640; .* width, height, fps, flip"),
        ("v4l2:///dev/video0?width=wide", "has width=wide"),
        ("v4l2://video0", "names no device; write v4l2:///dev/video0"),
        (".", "is a folder, not a video"),
    ],
)
def test_what_is_no_source_is_refused_in_one_sentence(given: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_source(given)  # type: ignore[arg-type]
