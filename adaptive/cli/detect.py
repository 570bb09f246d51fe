"""`adaptive detect`: find objects in image files, or in what a camera or a video shows."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import click
import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.bundle.outputs import require_task
from adaptive.cli.classify import listed
from adaptive.cli.engines import engine_options
from adaptive.cli.extractor import extractor_option
from adaptive.cli.features import ImagePath
from adaptive.cli.frames import frame_options, frames_of
from adaptive.engines.choose import EngineOptions
from adaptive.errors import BundleError, ImageError, InputError, TableError
from adaptive.files import read_json, refuse_existing, write_json
from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.images.drawing import drawn, encoded
from adaptive.images.video import VideoReader
from adaptive.routing.extractors import Extractor
from adaptive.routing.router import Router
from adaptive.tasks.coco import coco_rows
from adaptive.tasks.detections import Detections
from adaptive.video.gate import FrameGate
from adaptive.video.stream import Stream


@click.command(name="detect")
@click.argument("images", nargs=-1, type=ImagePath(), metavar="[IMAGE_OR_DIR]...")
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Of detectors.")
@frame_options
@click.option("--least", type=click.FloatRange(0, 1), help="Only boxes of this score or more.")
@click.option(
    "--draw",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write each image or frame there, with its boxes on it.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--coco",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the boxes of image files there as rows of COCO's results.",
)
@click.option(
    "--coco-labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="COCO's label file, for the numbers of images and categories in those rows; without it "
    "an image's number is that of its name, or its place, and a category's the class's plus one.",
)
@click.option("--explain", is_flag=True, help="Also why, and the premodel's votes.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@extractor_option("What computes the features of your own that the bundle's premodel reads.")
@engine_options
def command(
    images: Tuple[Path, ...],
    bundle: Path,
    camera: str | None,
    video: str | None,
    patience: float | None,
    frames: int | None,
    every: int | None,
    reuse: str | None,
    least: float | None,
    draw: Path | None,
    as_json: bool,
    coco: Path | None,
    coco_labels: Path | None,
    explain: bool,
    force: bool,
    extractor: Extractor | None,
    engines: EngineOptions,
) -> None:
    """Find objects in images (folders with all below them), a camera's frames or a video's.

    Images that cannot be read are listed and the others go on; the exit code is then 1, and so it
    is where a video ends early. Ctrl-C ends a camera with a summary.
    """
    if (len(images) > 0) + (camera is not None) + (video is not None) != 1:
        raise InputError("name images, or --camera SOURCE, or --video FILE, and only one of them")
    if images and (frames or every):
        raise InputError("--frames and --every count the frames of --camera or --video")
    if patience is not None and camera is None:
        raise InputError("--patience is how long --camera is waited for; name a camera")
    if coco is not None and not images:
        raise InputError("--coco writes the boxes of image files; name images")
    if coco_labels is not None and coco is None:
        raise InputError("--coco-labels numbers the rows of --coco FILE; give that too")
    if reuse is not None and images:
        raise InputError("--reuse is for --camera or --video; an image file has no last frame")
    gate = None if reuse is None else FrameGate.parse(reuse)
    if coco is not None:
        refuse_existing(coco, force)
    read = Bundle.read(bundle)
    require_task(read.folder.name, read.task, "detect")
    numbers = None if coco is None else Numbers.read(coco_labels, read.labels)
    with Router.load(bundle, engine=engines, extractor=extractor) as router:
        router.warm_up()
        seen = Seen(least, as_json, explain, None if draw is None else Drawings(draw, force))
        if images:
            sys.exit(_files(router, images, seen, coco, numbers))
        with frames_of(camera, video, every or 1, patience) as reader:
            stream = None if gate is None else router.stream(gate=gate)
            _frames(router, reader, seen, frames, stream)
        if reader.lost.rest is not None:
            click.echo(f"left out: {reader.lost.rest}", err=True)
            sys.exit(1)


class Drawings:
    """A folder of images with boxes on them.

    Parameters
    ----------
    folder : it is made where there is none
    force : replace images that are there
    """

    def __init__(self, folder: Path, force: bool) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--draw {folder} is no folder")
        self.folder = folder
        self._force = force
        self._names: Counter[str] = Counter()

    def write(self, name: str, pixels: np.ndarray, found: Detections) -> None:
        """Write one; of two that are called alike, the second gets a number."""
        self._names[name] += 1
        count = self._names[name]
        path = self.folder / (f"{name}.jpg" if count == 1 else f"{name}-{count}.jpg")
        self.folder.mkdir(parents=True, exist_ok=True)
        refuse_existing(path, self._force)
        path.write_bytes(encoded(drawn(pixels, found)))


class Seen:
    """Prints and draws what was found, and counts it.

    Parameters
    ----------
    least : only boxes of this score or more; None leaves them as they are answered
    """

    def __init__(
        self, least: float | None, as_json: bool, explain: bool, drawings: Drawings | None
    ) -> None:
        self.least = least
        self.as_json = as_json
        self.explain = explain
        self.drawings = drawings
        self.count = self.boxes = 0
        self.ms = 0.0
        self.candidates: Counter[str] = Counter()
        self._began = perf_counter()

    def detect(self, router: Router, image: Any) -> Detections:
        """Ask for the boxes of one image."""
        found = router.detect(image, explain=self.explain)
        return found if self.least is None else found.above(self.least)

    def show(self, about: Mapping[str, Any], found: Detections, pixels: Any) -> None:
        """Print one image's boxes, and draw them.

        pixels : makes the image's own pixels
        """
        self.count += 1
        self.boxes += len(found)
        self.ms += found.ms["total"]
        self.candidates[found.candidate or "abstained"] += 1
        if self.drawings is not None:
            (value,) = about.values()
            name = f"frame-{value:06d}" if isinstance(value, int) else Path(value).stem
            self.drawings.write(name, pixels(), found)
        if self.as_json:
            click.echo(json.dumps({**about, **found.to_json(self.explain)}))
            return
        what = ", ".join(f"{n} {label}" for label, n in Counter(found.labels).most_common())
        names = " ".join(
            click.format_filename(v) if isinstance(v, str) else f"frame {v}" for v in about.values()
        )
        who = found.candidate or "abstained"
        who += "" if found.reused is None else f", reused, {found.reused.age_s:.2f} s old,"
        click.echo(f"{names}: {what or 'nothing'}  {who} {found.ms['total']:.1f} ms")
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels):
            click.echo(f"    {label} {score:.3f}  " + " ".join(f"{side:.1f}" for side in box))
        if self.explain:
            click.echo(f"    why: {found.reason}")
            if found.votes:
                votes = ", ".join(f"{name} {vote:.4g}" for name, vote in found.votes.items())
                click.echo(f"    votes: {votes}")

    def summary(self) -> str:
        """One line: images, boxes, who answered which share, mean time."""
        if not self.count:
            return "0 images"
        shares = ", ".join(
            f"{name} {100 * count / self.count:.1f} %"
            for name, count in self.candidates.most_common()
        )
        fps = self.count / max(perf_counter() - self._began, 1e-9)
        return (
            f"{self.count} images, {self.boxes} boxes: {shares}; mean {self.ms / self.count:.1f} "
            f"ms, {fps:.1f} a second"
        )


class Numbers:
    """COCO's numbers of images and categories.

    Parameters
    ----------
    images : by the last part of a file's name; None goes by the names themselves
    categories : of each label
    """

    def __init__(self, images: Dict[str, int] | None, categories: Sequence[int]) -> None:
        self.images = images
        self.categories = categories

    @classmethod
    def read(cls, path: Path | None, labels: Sequence[str]) -> Numbers:
        """Those of a label file, or such as every program can read.

        Raises
        ------
        TableError
            when it is no label file of COCO's form, or lacks a label of the bundle.
        """
        if path is None:
            return cls(None, range(1, len(labels) + 1))
        try:
            content = read_json(path, "label file")
            images = {Path(e["file_name"]).name: int(e["id"]) for e in content["images"]}
            known = {e["name"]: int(e["id"]) for e in content["categories"]}
        except (BundleError, KeyError, TypeError, ValueError) as exc:
            raise TableError(f"{path} is no label file of COCO's form: {exc}") from exc
        missing = [label for label in labels if label not in known]
        if missing:
            raise TableError(f"{path} has no category {missing[0]!r}, which the bundle finds")
        return cls(images, [known[label] for label in labels])

    def of(self, paths: Sequence[Path]) -> List[int]:
        """Each image's number: that of its name where all are numbers, else its place from 1.

        Raises
        ------
        InputError
            when the label file does not know one.
        """
        if self.images is not None:
            for path in paths:
                if path.name not in self.images:
                    raise InputError(f"--coco-labels has no image {path.name!r}")
            (name, count), *_ = Counter(path.name for path in paths).most_common(1)
            if count > 1:
                raise InputError(
                    f"{count} images are called {name!r}, and --coco-labels knows them by that; "
                    "name one folder of them"
                )
            return [self.images[path.name] for path in paths]
        stems = [path.stem for path in paths]
        if all(stem.isascii() and stem.isdigit() for stem in stems):
            found = [int(stem) for stem in stems]
            if len(set(found)) == len(found):
                return found
        return list(range(1, len(paths) + 1))


def _files(
    router: Router,
    images: Sequence[Path],
    seen: Seen,
    coco: Path | None,
    numbers: Numbers | None,
) -> int:
    """Find what is in image files; the exit code."""
    paths, passed = listed(images)
    for line in passed:
        click.echo(f"left out: {line}", err=True)
    ids = [] if numbers is None else numbers.of(paths)
    rows: List[Dict[str, Any]] = []
    errors: List[ImageError] = []
    for place, path in enumerate(paths):
        try:
            found = seen.detect(router, path)
        except ImageError as error:
            errors.append(error)
            click.echo(f"left out: {error}", err=True)
            continue
        seen.show({"image": str(path)}, found, lambda p=path: decode(p, MAX_PIXELS))
        if numbers is not None:
            rows += coco_rows(found, ids[place], numbers.categories)
    if len(errors) == len(paths):
        raise (
            errors[0]
            if len(paths) == 1
            else InputError(f"none of the {len(paths)} images can be read")
        )
    if coco is not None:
        write_json(coco, rows)
        click.echo(f"wrote {coco}: {len(rows)} boxes", err=True)
    if seen.count > 1:
        click.echo(seen.summary(), err=seen.as_json)
    return 1 if errors or passed else 0


def _frames(
    router: Router, reader: VideoReader, seen: Seen, most: int | None, camera: Stream | None
) -> None:
    """Find what is in frames, until they end or Ctrl-C, then a summary."""
    openings = reader.openings
    try:
        for frame in islice(reader, most):
            if camera is None:
                found = seen.detect(router, frame.image)
            else:
                if reader.openings != openings:  # it was gone, and may look elsewhere now
                    camera.reset()
                    openings = reader.openings
                answer = camera.detect(frame.image, explain=seen.explain, time_s=frame.time_s)
                found = answer if seen.least is None else answer.above(seen.least)
            seen.show({"frame": frame.number}, found, lambda f=frame.image: f)
    except KeyboardInterrupt:
        pass
    finally:
        lost = reader.lost.words()
        click.echo(seen.summary() + (f"; {lost}" if lost else ""), err=seen.as_json)
