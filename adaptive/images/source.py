"""Where frames come from: a camera, a stream, a pipeline or a file, told by how it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Union
from urllib.parse import parse_qsl, unquote, urlsplit

from adaptive.errors import InputError

Source = Union[int, str, Path]

#: What a user may write.
FORMS = (
    "a camera's index (0), csi://0, v4l2:///dev/video0, rtsp://…, http://…, a GStreamer pipeline "
    "(source ! … ), or a video file"
)

#: Streams that OpenCV's FFmpeg or GStreamer opens by address.
STREAMS = ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp", "srt")

DEVICE, PIPELINE, STREAM, FILE = "device", "pipeline", "stream", "file"

#: What may stand behind the question mark, and what it is where it does not.
CSI = {"width": 1280, "height": 720, "fps": 30, "flip": 0}
V4L2 = ("width", "height", "fps")

_APPSINK = "appsink drop=true max-buffers=1 sync=false"


@dataclass(frozen=True)
class VideoSource:
    """One source of frames, as it is opened.

    kind : device (an index or a path below /dev), pipeline, stream, or file
    address : what OpenCV is given
    name : what people are told; without the password that an address may hold
    settings : width, height and fps that a device is asked for
    """

    kind: str
    address: int | str
    name: str
    settings: Mapping[str, int] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace, so that the newest is wanted."""
        return self.kind in (DEVICE, PIPELINE) or str(self.address).startswith("rtsp")

    @property
    def cure(self) -> str:
        """What to look at where it cannot be opened."""
        if self.kind == DEVICE:
            path = f"/dev/video{self.address}" if isinstance(self.address, int) else self.address
            return f"; is it connected, free, and may you read {path}?"
        if self.kind == STREAM:
            return "; is the address right, and can this machine reach it?"
        return ""


def read_source(given: Source) -> VideoSource:
    """Tell what kind of source `given` is.

    Raises
    ------
    InputError
        when it is none, a file is not there, or an address has settings that are not known.
    """
    if isinstance(given, Path):
        return _file(given)
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise InputError(f"a source of frames is {FORMS}, not {given!r}")
    if isinstance(given, int) or re.fullmatch(r"-?\d+", given):
        index = int(given)
        if index < 0:
            raise InputError(f"a camera has an index of 0 or more, not {index}")
        return VideoSource(DEVICE, index, f"camera {index}")
    if " ! " in given:
        whole = given if "appsink" in given else f"{given} ! videoconvert ! {_BGR} ! {_APPSINK}"
        return VideoSource(PIPELINE, whole, f"the pipeline {_masked(given)!r}")
    if given.startswith("/dev/"):
        return VideoSource(DEVICE, given, f"camera {given}")
    scheme, colon, _ = given.partition("://")
    if not colon:
        return _file(Path(given))
    if scheme in STREAMS:
        return VideoSource(STREAM, given, _masked(given))
    if scheme == "file":
        return _file(Path(unquote(urlsplit(given).path)))
    if scheme == "v4l2":
        path = urlsplit(given).path
        if not path.startswith("/dev/"):
            raise InputError(f"{given} names no device; write v4l2:///dev/video0")
        return VideoSource(DEVICE, path, f"camera {path}", _settings(given, V4L2))
    if scheme == "csi":
        return _csi(given)
    raise InputError(f"{_masked(given)} is no source of frames that is known; one is {FORMS}")


_BGR = "video/x-raw,format=BGR"


def _csi(given: str) -> VideoSource:
    """A Jetson's camera by its own element; the ISP's frames are copied out of its memory once."""
    number = urlsplit(given).netloc or "0"
    if not number.isdigit():
        raise InputError(
            f"{given} names no sensor; write csi://0, or csi://0?width=1280&height=720"
        )
    values = {**CSI, **_settings(given, tuple(CSI))}
    pipeline = (
        f"nvarguscamerasrc sensor-id={number} ! video/x-raw(memory:NVMM),width={values['width']},"
        f"height={values['height']},framerate={values['fps']}/1 ! "
        f"nvvidconv flip-method={values['flip']} ! video/x-raw,format=BGRx ! videoconvert ! "
        f"{_BGR} ! {_APPSINK}"
    )
    return VideoSource(PIPELINE, pipeline, given)


def _settings(given: str, allowed: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for name, text in parse_qsl(urlsplit(given).query, keep_blank_values=True):
        if name not in allowed or not text.isdigit():
            raise InputError(
                f"{given} has {name}={text}; what may stand there are whole numbers for "
                f"{', '.join(allowed)}"
            )
        found[name] = int(text)
    return found


def _file(path: Path) -> VideoSource:
    if not path.exists():
        raise InputError(f"there is no video {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a video")
    return VideoSource(FILE, str(path), str(path))


def _masked(text: str) -> str:
    """An address without user and password."""
    return re.sub(r"://[^/\s@]*@", "://***@", text)
