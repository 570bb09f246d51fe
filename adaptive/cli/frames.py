"""The options of commands that answer a camera's or a video's frames, and what they name."""

from __future__ import annotations

import math
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import click
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.images.source import FILE, read_source
from adaptive.images.video import VideoFrame, VideoReader

_OPTIONS = (
    click.option(
        "--camera",
        metavar="SOURCE",
        help="Answer a camera's newest frames: 0, csi://0, v4l2:///dev/video0, rtsp://…, http://… "
        "or a GStreamer pipeline.",
    ),
    click.option(
        "--video", metavar="FILE_OR_URL", help="Answer all frames of a video file or URL."
    ),
    click.option(
        "--patience",
        type=click.FloatRange(0),
        metavar="SECONDS",
        help="Give up when the camera has been gone for so long, instead of waiting for ever.",
    ),
    click.option("--frames", type=click.IntRange(1), help="Stop after so many frames."),
    click.option("--every", type=click.IntRange(1), help="Look at each so-many-th frame only."),
    click.option(
        "--reuse",
        metavar="GATE",
        help="Give the last computed answer to a frame in which nothing changed; "
        "margin:0.4:0.1:1 or another gate that `adaptive video reuse` was asked about.",
    ),
)


def frame_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --camera, --video, --patience, --frames, --every and --reuse."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def frames_of(
    camera: str | None, video: str | None, every: int, patience: float | None
) -> VideoReader:
    """What `--camera` or `--video` names: the newest frames of the one, all of the other."""
    if camera is None:
        assert video is not None
        addressed = "://" in video or " ! " in video
        return VideoReader(video if addressed else Path(video), live=False, every=every)
    source = read_source(camera)
    if source.kind == FILE:
        raise InputError(f"{camera} is a file and no camera; read it with --video")
    return VideoReader(
        camera,
        live=True,
        every=every,
        patience_s=math.inf if patience is None else patience,
        tell=lambda sentence: click.echo(sentence, err=True),
    )


def with_bar(reader: VideoReader, most: int | None) -> Iterator[VideoFrame]:
    """A file's frames, so many at most, with a bar on a terminal."""
    name = reader.source.name
    with tqdm(total=most, desc=name, unit=" frames", disable=None, leave=False) as bar:
        for count, frame in enumerate(reader, start=1):
            yield frame
            bar.update()
            if count == most:
                return


@contextmanager
def until_ctrl_c(frames: Iterator[VideoFrame]) -> Iterator[Iterator[VideoFrame]]:
    """Frames up to Ctrl-C, which lets the work on the last one end; a second Ctrl-C breaks it off.

    While the next frame is waited for there is no work, and the frames end at once.
    """
    waits = asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        if waits or asked:
            raise KeyboardInterrupt
        asked = True

    def given() -> Iterator[VideoFrame]:
        nonlocal waits
        while True:
            try:
                waits = True
                frame = None if asked else next(frames, None)
            except KeyboardInterrupt:
                return
            finally:
                waits = False
            if frame is None:
                return
            yield frame

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield given()
    finally:
        signal.signal(signal.SIGINT, before)
