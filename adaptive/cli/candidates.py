"""`adaptive candidates`: your own ONNX files as candidates, without writing a manifest."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from adaptive.box_output import BoxOutput
from adaptive.bundle.adding import CheckImages, NoSense, Recipe, add_candidate, remove_candidate
from adaptive.bundle.bundle import Bundle
from adaptive.bundle.elsewhere import Wire, add_remote, is_place, place_of
from adaptive.bundle.labelfile import read_labels
from adaptive.bundle.trying import IMAGES, Check, Setting, check_settings, looked_at
from adaptive.candidate import CHANNELS, LAYOUTS, OUTPUT_KINDS, PLACES, RESIZES, Candidate
from adaptive.cli.engines import engine_options
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.engines.proof import made_up
from adaptive.engines.remote_keys import read_keys
from adaptive.engines.wanted import Wanted
from adaptive.errors import AdaptiveError, EngineError, InputError
from adaptive.outcomes.labelled import list_images
from adaptive.remote import ENCODINGS, LONGEST_MS, origin

#: Class maps that have a name.
CLASS_MAPS = ("coco", "from 1")

FOLDER = click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")


@click.group(name="candidates")
def command() -> None:
    """Make a folder of candidates from ONNX files, and look at one."""


@command.command(name="add")
@click.argument("models", nargs=-1, required=True, type=click.Path(), metavar="MODEL.onnx|URL...")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="Folder of candidates; it is made where it is not there.",
)
@click.option("--name", help="Of the candidate; the file's name when left out.")
@click.option(
    "--labels",
    "labels_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Class names in the order of the outputs: one a line, a CSV with a column name, or JSON. "
    "Not needed where the folder has labels or the file itself.",
)
@click.option(
    "--like",
    metavar="SCALING",
    help="How pixels are scaled: imagenet, 0..1, -1..1, 0..255, caffe, clip, or MEAN/STD such as "
    "0.5,0.5,0.5/0.25,0.25,0.25. Not needed with --check.",
)
@click.option("--resize", type=click.Choice(RESIZES), help="Default crop, the usual one.")
@click.option("--channels", type=click.Choice(CHANNELS), help="Default RGB.")
@click.option("--pad", type=click.IntRange(0, 255), help="With --resize fit: padding's value.")
@click.option("--place", type=click.Choice(PLACES), help="With --resize fit: where the image lies.")
@click.option("--size", metavar="N|HxW", help="Pixels, where the file takes images of any size.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Where the file does not say.")
@click.option(
    "--output-kind",
    type=click.Choice(OUTPUT_KINDS),
    help="What it answers with; found by running it when left out.",
)
@click.option("--decoder", metavar="NAME", help="It finds boxes, which this decoder reads.")
@click.option(
    "--decoder-option",
    "decoder_options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of the decoder; VALUE is JSON.",
)
@click.option(
    "--class-map",
    metavar="MAP",
    help="Of a detector that knows other classes than the labels, or counts them otherwise: coco "
    "(1 to 90 with gaps), 'from 1', or a file with the names that it knows, in its order.",
)
@click.option(
    "--check",
    "images",
    type=click.Path(path_type=Path),
    metavar="IMAGES",
    help="Try what is left out of --like, --channels and --resize on labelled images, one folder "
    "a class, and take what the network is most often right with.",
)
@click.option(
    "--check-labels",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="The images' classes, with columns image and label, in place of folders.",
)
@click.option(
    "--check-limit",
    type=click.IntRange(1),
    default=IMAGES,
    show_default=True,
    help="Images that are tried at most.",
)
@click.option("--reference", is_flag=True, help="Accuracy is compared with this one.")
@click.option("--link", is_flag=True, help="Hard links in place of copies.")
@click.option(
    "--timeout-ms",
    type=click.FloatRange(0, LONGEST_MS, min_open=True),
    default=1000.0,
    show_default=True,
    help="URL: how long one request may take.",
)
@click.option(
    "--encoding",
    type=click.Choice(ENCODINGS),
    default="jpeg",
    show_default=True,
    help="URL: how images are packed for a model that reads encoded ones.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    default=90,
    show_default=True,
    help="URL: of JPEG.",
)
@click.option("--mj", type=click.FloatRange(0), help="URL: millijoules of the network a request.")
@click.option("--mj-per-byte", type=click.FloatRange(0), help="URL: the same a byte.")
@click.option(
    "--remote-keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="URL: bearer keys, each a line https://HOST:PORT KEY.",
)
@click.option("--force", is_flag=True, help="Replace the candidate of that name.")
def add(
    models: tuple[str, ...],
    folder: Path,
    name: str | None,
    labels_path: Path | None,
    like: str | None,
    resize: str | None,
    channels: str | None,
    pad: int | None,
    place: str | None,
    size: str | None,
    layout: str | None,
    output_kind: str | None,
    decoder: str | None,
    decoder_options: tuple[str, ...],
    class_map: str | None,
    images: Path | None,
    table: Path | None,
    check_limit: int,
    reference: bool,
    link: bool,
    timeout_ms: float,
    encoding: str,
    quality: int,
    mj: float | None,
    mj_per_byte: float | None,
    remote_keys: Path | None,
    force: bool,
) -> None:
    """Add MODEL.onnx, or several, to a folder of candidates.

    A URL, http://HOST:PORT/v2/models/MODEL, adds a model on another server that speaks the Open
    Inference Protocol, such as another `adaptive serve`, Triton or KServe.

    Size, type, layout, classes and batch axis are read from the file, and whether it answers with
    probabilities is seen by running it. How pixels are scaled no file says: name it with --like,
    or have it tried with --check. Of several files those that cannot be added are listed, and the
    exit code is 1.
    """
    if images is None and table is not None:
        raise InputError("--check-labels goes with --check")
    if decoder is None and decoder_options:
        raise InputError("--decoder-option goes with --decoder")
    if decoder is None and class_map is not None:
        raise InputError("--class-map goes with --decoder")
    if len(models) > 1 and (name is not None or reference):
        raise InputError("--name and --reference are of one network; add that by itself")
    recipe = Recipe(
        like,
        resize,
        channels,
        pad,
        place,
        _size(size),
        layout,
        output_kind,
        decoder,
        dict(map(_option, decoder_options)),
        _class_map(class_map),
    )
    labels = None if labels_path is None else read_labels(labels_path, 1 if decoder else 2)
    check = None if images is None else CheckImages(images, table, check_limit)
    keys = read_keys(remote_keys)
    wire = Wire(timeout_ms, encoding, quality, mj, mj_per_byte)
    left_out: list[tuple[str, AdaptiveError]] = []
    for model in models:
        watched = None if check else True
        stem = model.rpartition("/")[2] if is_place(model) else Path(model).stem
        with tqdm(unit=" images", desc=stem, disable=watched, leave=False) as bar:
            shared = (name, recipe, labels, check, reference)
            try:
                if is_place(model):
                    own = replace(wire, key=keys.get(origin(place_of(model)[0])))
                    added = add_remote(folder, model, *shared, force, own, bar.update)
                else:
                    added = add_candidate(folder, Path(model), *shared, link, force, bar.update)
            except AdaptiveError as error:
                bar.close()
                if isinstance(error, NoSense):
                    _tell(error.check)
                left_out.append((model, error))
                continue
        if added.check is not None:
            _tell(added.check)
        click.echo(f"{folder}: {described(added.candidate)}")
        for note in added.notes:
            click.echo(f"note: {note}")
    if len(left_out) == len(models):
        raise left_out[0][1]
    for model, reason in left_out:
        click.echo(f"left out: {model}: {reason}", err=True)
    sys.exit(1 if left_out else 0)


@command.command(name="list")
@FOLDER
def list_candidates(folder: Path) -> None:
    """List the candidates of a folder or bundle: what each reads, answers with and takes."""
    bundle = Bundle.read(folder)
    for candidate in bundle.candidates:
        mark = " (reference)" if candidate.name == bundle.reference else ""
        click.echo(f"{described(candidate)}{mark}")
    first = "; ".join(bundle.labels[:3])
    click.echo(f"{len(bundle.labels)} classes: {first}{'; …' if len(bundle.labels) > 3 else ''}")


@command.command(name="check")
@FOLDER
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Labelled images, one folder a class: how often is each candidate right? Of detectors "
    "`adaptive profile` tells that.",
)
@click.option("--labels", "table", type=click.Path(path_type=Path), help="CSV: image,label.")
@click.option("--limit", type=click.IntRange(1), default=IMAGES, show_default=True)
@engine_options
def check(
    folder: Path, images: Path | None, table: Path | None, limit: int, engines: EngineOptions
) -> None:
    """Open and run every candidate of a folder or bundle as its manifest says.

    Exit code 1 when one does not run, answers with what its entry does not say, or is no better
    than guessing on the images.
    """
    if table is not None and images is None:
        raise InputError("--labels goes with --images")
    bundle = Bundle.read(folder)
    if images is not None and bundle.task == "detect":
        raise InputError(
            f"{folder} holds detectors; `adaptive profile --candidates {folder} --images {images} "
            "--labels LABELS -o X.csv` tells what their boxes are worth. Without --images each is "
            "opened and run"
        )
    found = None if images is None else list_images(images, bundle.labels, table)
    wrong = 0
    for candidate in bundle.candidates:
        if candidate.after is not None:
            click.echo(f"{candidate.name}: an exit, which goes on from {candidate.after}")
            continue
        opener = Engines(engines)
        try:
            opened = opener.open([Wanted(candidate.name, folder, candidate)])[candidate.name]
            if candidate.remote is not None:
                opened.run(made_up(candidate.input)[0])
        except EngineError as error:
            click.echo(f"{candidate.name}: {error}", err=True)
            wrong += 1
            continue
        said = list(opener.doubts.values())
        if found is not None:
            setting = Setting("", candidate.input)
            with tqdm(total=len(looked_at(found, limit)), disable=None, leave=False) as bar:
                checked = check_settings(
                    opened, candidate, [setting], found, limit, lambda _: bar.update()
                )
            top1 = checked.best.top1
            click.echo(
                f"{candidate.name}: right on {_percent(top1)} of {checked.best.images} images"
            )
            if not checked.makes_sense:
                said.append(
                    f"no better than always naming one class, {100 * checked.guessing:.1f}%"
                )
        elif not said:
            click.echo(f"{candidate.name}: runs")
        opened.close()
        for line in said:
            click.echo(f"{candidate.name}: {line}", err=True)
        wrong += bool(said)
    sys.exit(1 if wrong else 0)


@command.command(name="remove")
@FOLDER
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(folder: Path, names: tuple[str, ...]) -> None:
    """Take candidates out of a folder, with the files that no other one needs."""
    for name in names:
        files = remove_candidate(folder, name)
        click.echo(f"removed {name}: {', '.join(files) or 'it had no files'}")


def described(candidate: Candidate) -> str:
    """A candidate in one line."""
    spec, output = candidate.input, candidate.output
    height, width = spec.sides
    scaling = ""
    if spec.scale is not None:
        scaling += f"/{spec.scale:g}"
    if spec.mean is not None:
        scaling += " -" + ",".join(f"{v:g}" for v in spec.mean)
    if spec.std is not None:
        scaling += " /" + ",".join(f"{v:g}" for v in spec.std)
    takes = "" if candidate.ms is None else f", {candidate.ms:.3g} ms"
    reads = f"{spec.dtype} {spec.layout} {height}x{width} {spec.channels}"
    scaling = scaling and f" ({scaling.strip()})"
    answers = output.kind if isinstance(output, BoxOutput) else f"{output.classes} {output.kind}"
    at = "" if candidate.remote is None else f", {candidate.remote.place}"
    made = "" if candidate.made is None else f"; {candidate.made}"
    return f"{candidate.name}: {reads}{scaling}, {spec.resize} -> {answers}{takes}{at}{made}"


def _tell(check: Check) -> None:
    """What was tried, as a table, and what is taken."""
    if len(check.tried) > 1:
        click.echo(f"{'scaling':18} channels {'resize':26} images  top-1, 95% interval")
    for tried in check.tried if len(check.tried) > 1 else ():
        setting: Setting = tried.setting
        resizes = ", ".join(s.spec.resize for s in (setting, *tried.same))
        scaling = "pixels as they are" if setting.spec.dtype == "uint8" else setting.scaling
        click.echo(
            f"{scaling:18} {setting.spec.channels:8} {resizes:26} "
            f"{tried.images:6}  {_percent(tried.top1)}"
        )
    for line in check.left_out:
        click.echo(f"left out: {line}", err=True)
    if not check.makes_sense:
        return
    best = check.best
    click.echo(f"taken: {best.setting.words()}, right on {_percent(best.top1)}")
    if check.alike:
        click.echo(
            f"these {best.images} images do not tell it from {len(check.alike)} other "
            f"{'way' if len(check.alike) == 1 else 'ways'}; where you know how the network was "
            "trained, say so by --like, --channels and --resize"
        )


def _percent(top1: Any) -> str:
    return f"{100 * top1.value:.1f}% ({100 * top1.low:.1f} to {100 * top1.high:.1f})"


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise InputError(f"--size {text!r} is neither a number of pixels nor HEIGHTxWIDTH")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


def _class_map(text: str | None) -> str | tuple[str, ...] | None:
    if text is None or text in CLASS_MAPS:
        return text
    if not Path(text).is_file():
        raise InputError(
            f"--class-map {text!r} is neither one of {list(CLASS_MAPS)} nor a file of names"
        )
    return tuple(read_labels(Path(text), 1))


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"--decoder-option {text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
