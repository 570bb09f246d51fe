"""`adaptive classify`: answer image files, or what a camera sees, here or by a server."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter, deque
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Iterator, Protocol, Sequence

import click

from adaptive.cli.engines import engine_options
from adaptive.cli.extractor import extractor_option, told
from adaptive.cli.features import ImagePath, find_images
from adaptive.cli.frames import frame_options, frames_of
from adaptive.engines.choose import EngineOptions
from adaptive.errors import ImageError, InputError
from adaptive.files import refuse_existing, written_aside
from adaptive.images.decode import ImageLike
from adaptive.images.video import VideoFrame, VideoReader
from adaptive.prediction import Prediction
from adaptive.report.steps import StepTimes
from adaptive.routing.extractors import Extractor
from adaptive.routing.router import Router
from adaptive.video.gate import FrameGate

#: Frames over which the frames per second are counted.
WINDOW = 30


@click.command(name="classify")
@click.argument("images", nargs=-1, type=ImagePath(), metavar="[IMAGE_OR_DIR]...")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Folder to answer from, instead of the embedded default.",
)
@click.option("--url", help="Ask the server there instead of running networks here.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Send the first key of FILE, where the server asks for one.",
)
@frame_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--explain", is_flag=True, help="Also features, the premodel's votes, and why.")
@click.option(
    "--compare",
    is_flag=True,
    help="At the end, what the bundle's reference alone takes for these images, measured.",
)
@click.option(
    "--times",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="At the end, where the time went: a table by path and step, and its picture in FILE.svg.",
)
@click.option("--force", is_flag=True, help="Replace an existing FILE.svg of --times.")
@click.option(
    "--top",
    type=click.IntRange(1, 5),
    default=1,
    show_default=True,
    help="Labels in a line of text; JSON has always five.",
)
@extractor_option("What computes the features of your own that the bundle's premodel reads.")
@engine_options
def command(
    images: tuple[Path, ...],
    bundle: Path | None,
    url: str | None,
    key_file: Path | None,
    camera: str | None,
    video: str | None,
    patience: float | None,
    frames: int | None,
    every: int | None,
    reuse: str | None,
    as_json: bool,
    explain: bool,
    compare: bool,
    times: Path | None,
    force: bool,
    top: int,
    extractor: Extractor | None,
    engines: EngineOptions,
) -> None:
    """Answer images (folders with all below them), a camera's frames or a video's.

    Images that cannot be read are listed and the others go on; the exit code is then 1, and so it
    is where a video ends early. A camera that vanishes is waited for. Ctrl-C ends it with a
    summary.
    """
    if (len(images) > 0) + (camera is not None) + (video is not None) != 1:
        raise InputError("name images, or --camera SOURCE, or --video FILE, and only one of them")
    if images and (frames or every):
        raise InputError("--frames and --every count the frames of --camera or --video")
    if patience is not None and camera is None:
        raise InputError("--patience is how long --camera is waited for; name a camera")
    if url is not None and bundle is not None:
        raise InputError("--url asks a server, which has a bundle of its own; leave --bundle out")
    if url is not None and engines != EngineOptions():
        raise InputError("--url asks a server, which has an engine of its own; leave --engine out")
    if url is not None and extractor is not None:
        raise InputError("--url asks a server; name the extractor where that one is started")
    if key_file is not None and url is None:
        raise InputError("--key-file holds the key of a server; name the server with --url")
    if compare and (url is not None or not images or as_json or extractor is not None):
        raise InputError(
            "--compare is a sentence about image files and a bundle; leave --url, --camera, "
            "--video, --json and --extractor out"
        )
    if times is not None and not images:
        raise InputError("--times is about image files; leave --camera and --video out")
    if times is not None:
        refuse_existing(times, force)
    if reuse is not None and (images or url is not None):
        raise InputError("--reuse is for --camera or --video, answered here")
    gate = None if reuse is None else FrameGate.parse(reuse)
    lines = AnswerPrinter(as_json, explain, top)
    if images:
        found, passed = listed(images)
        for line in passed:
            click.echo(f"left out: {line}", err=True)
        taken = StepTimes()
        with _answerer(bundle, url, key_file, engines, explain, extractor) as router:
            if compare:
                from adaptive.cli.comparing import compared, reference_alone

                assert isinstance(router, Router)
                with reference_alone(router, bundle, engines) as alone:
                    alone.warm_up()
                    left_out = classify_files(router, found, lines, taken)
                    click.echo(compared(router, alone, found))
            else:
                left_out = classify_files(router, found, lines, taken)
        if times is not None:
            with written_aside(times) as aside:
                aside.write_text(taken.drawing(), encoding="utf-8")
            click.echo(taken.table(), err=as_json)  # what reads JSON lines gets nothing else
        sys.exit(1 if left_out or passed else 0)
    reader = frames_of(camera, video, every or 1, patience)
    with _answerer(bundle, url, key_file, engines, explain, extractor) as router, reader:
        classify_frames(router, reader, lines, frames, gate)
    if reader.lost.rest is not None:
        click.echo(f"left out: {reader.lost.rest}", err=True)
        sys.exit(1)


class Answerer(Protocol):
    """A router, or a client of a server that has one."""

    def classify(self, image: ImageLike, *, explain: bool = ...) -> Prediction:
        """Answer one image."""
        ...


@contextmanager
def _answerer(
    bundle: Path | None,
    url: str | None,
    key_file: Path | None,
    engines: EngineOptions,
    explain: bool,
    extractor: Extractor | None,
) -> Iterator[Answerer]:
    if url is not None:
        from adaptive.client.client import (  # whoever asks no server need not load it
            Client,
            read_key,
        )

        key = None if key_file is None else read_key(key_file)
        with Client(url, api_key=key) as client:
            yield client
        return
    with Router.load(bundle, engine=engines, extractor=extractor) as router:
        if explain:
            click.echo(f"engine {router.engine}", err=True)
            if extractor is not None:
                click.echo(told(extractor), err=True)
        router.warm_up()
        yield router


class AnswerPrinter:
    """How an answer is printed: as text or JSON, with an explanation or without."""

    def __init__(self, as_json: bool = False, explain: bool = False, top: int = 1) -> None:
        self.as_json = as_json
        self.explain = explain
        self.top = top

    def json(self, answer: Prediction, **about: object) -> str:
        """One JSON object: what it is about, then the prediction."""
        return json.dumps({**about, **answer.to_json(self.explain)})

    def labels(self, answer: Prediction) -> str:
        """The best labels with their scores, or that there is none."""
        sure = "" if answer.calibrated else " (not calibrated)"
        if answer.label is None:
            guess = [f", best guess {label} {p:.3f}{sure}" for label, p in answer.top5[:1]]
            return "".join(("abstained", *guess))
        best = answer.top5[: self.top]
        return ", ".join(f"{label} {score:.3f}" for label, score in best) + sure

    def explanation(self, answer: Prediction) -> str:
        """Why this path was taken, in indented lines."""
        meant = (
            "calibrated: of answers with a score of 0.8, say, eight in ten are right"
            if answer.calibrated
            else "what the network says, which is no calibrated probability"
        )
        conditions = "" if answer.explanation is None else answer.explanation.condition_words()
        parts = [
            ("why", answer.reason),
            ("path", " > ".join(answer.path) or "nothing ran"),
            ("score", meant if answer.top5 else ""),
            ("condition", conditions),
            ("ms", _pairs(answer.ms)),
            ("votes", _pairs(answer.votes or {})),
            ("features", _pairs(answer.features or {})),
        ]
        return "\n".join(f"    {name}: {text}" for name, text in parts if text)


def classify_files(
    router: Answerer, images: Sequence[Path], lines: AnswerPrinter, taken: StepTimes
) -> int:
    """Print one line for each image, and list those that cannot be read on stderr.

    taken : adds up what their steps took

    Returns
    -------
    The number of images that could not be read.

    Raises
    ------
    InputError
        when not one can be.
    """
    left_out: list[ImageError] = []
    for image in images:
        try:
            answer = router.classify(image, explain=lines.explain)
        except ImageError as error:
            left_out.append(error)
            if len(images) > 1:
                click.echo(f"left out: {error}", err=True)
            continue
        taken.add(answer)
        if lines.as_json:
            click.echo(lines.json(answer, image=str(image)))
            continue
        who = "" if answer.candidate is None else f" {answer.candidate}"
        name = click.format_filename(image)
        click.echo(f"{name}: {lines.labels(answer)}{who} {answer.ms['total']:.1f} ms")
        if lines.explain:
            click.echo(lines.explanation(answer))
    if len(left_out) == len(images):
        if len(images) == 1:
            raise left_out[0]
        raise InputError(f"none of the {len(images)} images can be read")
    return len(left_out)


def classify_frames(
    router: Answerer,
    reader: VideoReader,
    lines: AnswerPrinter,
    frames: int | None = None,
    gate: FrameGate | None = None,
) -> None:
    """Print one line for each frame until the frames end or Ctrl-C, then a summary.

    With a gate a router's last answer is reused where nothing changed.

    On a terminal the line is written over the last one.
    """
    total = Total()
    live = sys.stdout.isatty() and not (lines.as_json or lines.explain)
    try:
        for frame, answer in _answers(router, reader, lines.explain, frames, gate):
            total.add(answer)
            if lines.as_json:
                when = round(frame.time_s, 3)
                fps = round(total.fps, 2)
                click.echo(lines.json(answer, frame=frame.number, time_s=when, fps=fps))
                continue
            line = (
                f"frame {frame.number}  {lines.labels(answer)}  {answer.candidate or '-'}  "
                f"{_way(answer)}  {answer.ms['total']:.1f} ms  "
                f"{total.fps:.1f} fps"
            )
            if live:
                columns = shutil.get_terminal_size().columns
                click.echo(f"\r{line[: columns - 1]}\x1b[K", nl=False)
            else:
                click.echo(line)
                if lines.explain:
                    click.echo(lines.explanation(answer))
    except KeyboardInterrupt:
        pass
    finally:
        if live and total.count:
            click.echo()
        # what reads JSON lines gets nothing else
        lost = reader.lost.words()
        click.echo(total.summary() + (f"; {lost}" if lost else ""), err=lines.as_json)


class Total:
    """What the frames of a run add up to."""

    def __init__(self) -> None:
        self.count = 0
        self.candidates: Counter[str] = Counter()
        self.ms = 0.0
        self.reused = 0
        self._ends: deque[float] = deque([perf_counter()], WINDOW + 1)

    def add(self, answer: Prediction) -> None:
        """Count one frame."""
        self.count += 1
        self.candidates[answer.candidate or "abstained"] += 1
        self.ms += answer.ms["total"]
        self.reused += answer.reused is not None
        self._ends.append(perf_counter())

    @property
    def fps(self) -> float:
        """Frames answered a second, over the last ones."""
        return (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9)

    def summary(self) -> str:
        """One line: frames, who answered which share, mean time."""
        if self.count == 0:
            return "0 frames"
        shares = ", ".join(
            f"{name} {100 * count / self.count:.1f} %"
            for name, count in self.candidates.most_common()
        )
        reused = f"; {self.reused} reused" if self.reused else ""
        return f"{self.count} frames: {shares}; mean {self.ms / self.count:.1f} ms{reused}"


def _answers(
    router: Answerer,
    reader: VideoReader,
    explain: bool,
    frames: int | None,
    gate: FrameGate | None,
) -> Iterator[tuple[VideoFrame, Prediction]]:
    camera = None if gate is None or not isinstance(router, Router) else router.stream(gate=gate)
    openings = reader.openings
    for count, frame in enumerate(reader, start=1):
        if camera is None:
            answer = router.classify(frame.image, explain=explain)
        else:
            if reader.openings != openings:  # it was gone, and may look elsewhere now
                camera.reset()
                openings = reader.openings
            answer = camera.classify(frame.image, explain=explain, time_s=frame.time_s)
        yield frame, answer
        if count == frames:
            return


def _way(answer: Prediction) -> str:
    """What ran for a frame, or how old its answer is."""
    if answer.reused is not None:
        return f"reused, {answer.reused.age_s:.2f} s old"
    return " > ".join(answer.path) or "-"


def listed(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Files as named, missing ones too, and all images below each folder; each once.

    The sentences are about what lies in folders and is not read.
    """
    found: dict[Path, None] = {}
    passed: list[str] = []
    for path in paths:
        below, beside = find_images([path]) if path.is_dir() else ([path], [])
        found.update(dict.fromkeys(below))
        passed += beside
    return list(found), passed


def _pairs(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
