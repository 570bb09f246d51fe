"""`adaptive profile`: run every candidate on labelled images and write the outcome table."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Mapping

import click

from adaptive.bundle.bundle import Bundle
from adaptive.cli.engines import engine_options
from adaptive.cli.extractor import extractor_option
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.errors import InputError
from adaptive.files import refuse_existing
from adaptive.jetson.meter import open_meter
from adaptive.measuring.energy import SECONDS, Energies, measure
from adaptive.outcomes.labelled import list_images, list_unlabelled
from adaptive.outcomes.quality import mean_quality, quality_words
from adaptive.outcomes.table import OutcomeTable, check_table_name

if TYPE_CHECKING:
    from adaptive.routing.extractors import Extractor


@click.command(name="profile")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path), metavar="[BUNDLE]...")
@click.option(
    "--candidates",
    type=click.Path(path_type=Path),
    help="Folder with manifest.json, labels and ONNX files.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of images, one sub-folder a class unless --labels is given.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="CSV with columns image,label. For detectors COCO's JSON, or a folder of YOLO's text "
    "files or of VOC's XML files.",
)
@click.option(
    "--split",
    help="For detectors: shares that tune, calibrate and test; thresholds of answers, maps of "
    "scores and how sure boxes are is learnt on the first.",
)
@click.option(
    "--unlabelled",
    is_flag=True,
    help="The images have no labels: record whether each answer is the reference's.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="X.csv")
@click.option("--features", default="all+extra", show_default=True, help="Features to record.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(0, 1024),
    default=1,
    show_default=True,
    help="Processes that find the answers; 0 is one a core. With several, times are measured "
    "alone, on 200 of the images.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@click.option(
    "--probabilities/--no-probabilities",
    default=True,
    help="Keep whole probability vectors, which averaging and most signals need.",
)
@click.option(
    "--energy",
    is_flag=True,
    help="Measure millijoules an image too, where the machine has a power sensor.",
)
@click.option(
    "--energy-seconds",
    type=click.FloatRange(0, 3600, min_open=True),
    default=SECONDS,
    show_default=True,
    help="Seconds that each candidate runs for its energy.",
)
@click.option(
    "--rails",
    metavar="A,B",
    help="Power rails to add up for the energy, instead of the whole module's.",
)
@click.option(
    "--latency-only",
    is_flag=True,
    help="Measure the times alone, on this machine, and put them into the BUNDLEs (or folders of "
    "candidates); -o T.csv writes them too, for adaptive tune --times.",
)
@click.option(
    "--size",
    metavar="WxH",
    help="With --latency-only and without --images: pixels of the made-up images.",
)
@extractor_option("What computes features of your own, which become columns of the table too.")
@click.option("--force", is_flag=True, help="Replace an existing table.")
@engine_options
def command(
    bundles: tuple[Path, ...],
    candidates: Path | None,
    images: Path | None,
    labels: Path | None,
    split: str | None,
    unlabelled: bool,
    output: Path | None,
    features: str,
    threads: int,
    jobs: int,
    limit: int | None,
    probabilities: bool,
    energy: bool,
    energy_seconds: float,
    rails: str | None,
    latency_only: bool,
    size: str | None,
    extractor: Extractor | None,
    force: bool,
    engines: EngineOptions,
) -> None:
    """Run every candidate on labelled images, one by one, and record answers and times.

    Stopped, it goes on where it was when called again. Images that cannot be read are listed
    and left out; the exit code is then 1, as it is when an energy is refused because it would be
    finer than the sensor, and when the table is there but looks wrong: no candidate is better
    than guessing, or a network's answers are not what its manifest entry says.

    With --unlabelled the quality of the table is agreement with the reference, which train, tune,
    evaluate and certificates work on as on any other: a drop of 2 points is then an answer that
    differs from the reference's on at most 2% of the images.

    With --latency-only it is BUNDLEs that are named, and nothing is learned about answers.
    """
    folders = [*bundles, *([] if candidates is None else [candidates])]
    if rails is not None and not energy:
        raise InputError("--rails names what --energy is measured on; give --energy too")
    if latency_only and (labels is not None or unlabelled):
        raise InputError(
            "--latency-only looks at no answers, so it takes neither --labels nor --unlabelled"
        )
    if unlabelled and labels is not None:
        raise InputError("--unlabelled is of images without labels; leave it or --labels out")
    if latency_only and jobs != 1:
        raise InputError("--latency-only measures times, which one process does alone; no --jobs")
    energies = None
    if energy:
        energies = EnergyPass(energy_seconds, rails)
        click.get_current_context().call_on_close(energies.meter.close)
    if latency_only:
        pixels = _size(size, images)
        opener = Engines(engines)
        omitted = _times(
            folders,
            images,
            output,
            features,
            threads,
            limit,
            pixels,
            energies,
            force,
            opener,
            extractor,
        )
        sys.exit(1 if omitted else 0)
    if bundles or candidates is None or images is None or output is None or size is not None:
        raise InputError(
            "an outcome table needs --candidates, --images and -o X.csv, and no more folders; "
            "BUNDLEs and --size go with --latency-only"
        )
    from adaptive.measuring.parallel import cores
    from adaptive.measuring.profiling import Profiler

    check_table_name(output)
    refuse_existing(output, force)
    bundle = Bundle.read(candidates)
    profiler: Profiler
    if bundle.task == "detect":
        if unlabelled:
            raise InputError("--unlabelled is not for detectors; their boxes need labels")
        from adaptive.cli.profile_boxes import begin

        profiler, found = begin(
            bundle, images, labels, split, limit, threads, features, Engines(engines), extractor
        )
    elif split is not None:
        raise InputError("--split is for detectors; `adaptive tune` has one for classifiers")
    else:
        if unlabelled:
            found = list_unlabelled(images, limit)
        else:
            found = list_images(images, bundle.labels, labels, limit)
        profiler = Profiler(
            bundle, threads, features, engines=Engines(engines), extractor=extractor
        )
    click.echo(f"engine {profiler.choice}")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    left_out = profiler.profile(found, output, probabilities, energies, jobs or cores())
    profiler.close()
    # As whoever uses it next will read it.
    table = OutcomeTable.read(output)
    click.echo(f"{output}: {len(table)} images, {len(bundle.names)} candidates")
    if bundle.task == "detect":
        from adaptive.cli.profile_boxes import told
    else:
        told = _told
    for line in told(table, output):
        click.echo(line)
    left_out += [*found.omitted, *([] if energies is None else energies.refusals)]
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    doubts = profiler.doubts(table)
    for line in doubts:
        click.echo(f"warning: {line}", err=True)
    sys.exit(1 if left_out or doubts else 0)


def _told(table: OutcomeTable, output: Path) -> Iterator[str]:
    """A line on each candidate: its quality on all images, with the 95% interval, and its time."""
    yield f"  {'candidate':24} {quality_words(table.quality_name):>9}    95% interval {'ms':>8}"
    for name in table.candidates:
        found = mean_quality(table.quality(name))
        interval = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
        mean_ms = table.of(name).ms.mean()
        yield f"  {name:24} {100 * found.value:8.1f}% {interval:>15} {mean_ms:8.2f}"


class EnergyPass:
    """Measures the energies with the machine's meter, and remembers what was refused."""

    def __init__(self, seconds: float, rails: str | None) -> None:
        # Opened first, so that nothing is measured in vain where there is no sensor.
        self.meter = open_meter(rails=[] if rails is None else rails.split(","))
        self.seconds = seconds
        self.refusals: list[str] = []

    def __call__(self, tasks: Mapping[str, Callable[[], object]]) -> Energies:
        """Measure the tasks."""
        found = measure(tasks, self.meter, self.seconds)
        self.refusals += found.refusals
        return found


def _size(text: str | None, images: Path | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise InputError(f"--size {text!r} is not WIDTHxHEIGHT in pixels, such as 1280x720")
    if images is not None:
        raise InputError("--size is of made-up images; leave it or --images out")
    return int(found[1]), int(found[2])


def _times(
    folders: list[Path],
    images: Path | None,
    output: Path | None,
    features: str,
    threads: int,
    limit: int | None,
    size: tuple[int, int] | None,
    energies: EnergyPass | None,
    force: bool,
    engines: Engines,
    extractor: Extractor | None,
) -> bool:
    """Replace the times of bundles; whether something was left out."""
    from adaptive.jetson.board import board_lines
    from adaptive.measuring.times import IMAGES, check_rewritable, measure_times, rewrite_times

    if not folders:
        raise InputError("--latency-only needs the BUNDLEs, or folders of candidates, to measure")
    if output is not None:
        if len(folders) > 1:
            raise InputError(f"{output} can hold the times of one bundle, not of {len(folders)}")
        check_table_name(output)
        refuse_existing(output, force)
    count = limit or IMAGES
    read = [Bundle.read(folder) for folder in folders]
    for bundle in read:
        check_rewritable(bundle, count)
    omitted: list[str] = []
    for folder, bundle in zip(folders, read):
        times, left_out = measure_times(
            bundle, images, count, threads, features, size, energies, engines, extractor
        )
        click.echo(f"engine {engines.choice}")
        if output is not None:
            times.write(output)
            click.echo(f"{output}: times on {len(times.table)} images")
        notes = rewrite_times(bundle, times)
        click.echo(f"{folder}: times replaced by those of this machine")
        for candidate in bundle.candidates:
            now = times.mean_ms(candidate.name)
            before = "" if candidate.ms is None else f", before {candidate.ms:.4g}"
            spent = times.mj(candidate.name)
            joules = "" if spent is None else f", {spent:g} mJ"
            click.echo(f"  {candidate.name:20} {now:9.4g} ms{before}{joules}")
        for name, text in board_lines(times.board):
            if name in ("model", "power mode", "throttled", "throttled by"):
                click.echo(f"  {name}: {text}")
        for note in [*times.disturbed(), *notes]:
            click.echo(f"note: {note}")
        omitted += left_out
    omitted += [] if energies is None else energies.refusals
    for line in omitted:
        click.echo(f"left out: {line}", err=True)
    return bool(omitted)
