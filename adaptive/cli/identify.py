"""`adaptive identify`: who is on images, by a store of names that somebody made on purpose."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import click
import numpy as np

from adaptive.cli.classify import listed
from adaptive.cli.features import ImagePath
from adaptive.errors import ImageError, InputError
from adaptive.files import refuse_existing
from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.routing.crops import parts_of
from adaptive.routing.router import Router
from adaptive.video.embedding import open_embedders
from adaptive.video.identified import Embedder, identify
from adaptive.video.identity import IdentityStore, editing
from adaptive.video.identity_tuning import promise, rates, tune_thresholds

#: Finds faces or persons: an image to the parts of it that show one, surest first.
Parts = Callable[[np.ndarray], List[Tuple[np.ndarray, Tuple[int, int, int, int]]]]

store_argument = click.argument("store", type=click.Path(path_type=Path))
networks_option = click.option(
    "--networks",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.json",
    help="The embedding networks, cheap first.",
)
detector_option = click.option(
    "--detector",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Finds faces or persons; without it each image shows one.",
)

least_option = click.option(
    "--least",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="Score from which a detector's box shows somebody.",
)


@click.group(name="identify")
def command() -> None:
    """Who is on images, by a store of names and embeddings; no image is kept.

    Embeddings of faces and persons are personal data.
    """


@command.command()
@store_argument
@networks_option
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="NETWORK=DISTANCE",
    help="Largest distance, 1 - cosine, that is a match; `tune` chooses better.",
)
@click.option("--force", is_flag=True, help="Replace a store that is there.")
def make(store: Path, networks: Path, thresholds: Tuple[str, ...], force: bool) -> None:
    """Make an empty STORE of these networks' embeddings."""
    refuse_existing(store, force)
    embedders = open_embedders(networks)
    chosen: Dict[str, float] = {}
    for text in thresholds:
        name, _, value = text.partition("=")
        try:
            chosen[name] = float(value)
        except ValueError as exc:
            raise InputError(f"--threshold {text!r} is not NETWORK=DISTANCE") from exc
    IdentityStore([e.network for e in embedders], chosen).save(store)
    click.echo(f"made {store}: nobody is in it")


@command.command()
@store_argument
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=ImagePath(), metavar="IMAGE_OR_DIR...")
@networks_option
@detector_option
@least_option
def add(
    store: Path,
    name: str,
    images: Tuple[Path, ...],
    networks: Path,
    detector: Path | None,
    least: float,
) -> None:
    """Add NAME to STORE by images of that person, or more images of one who is there.

    Exit code 1 where an image cannot be read, or the detector finds nobody on it.
    """
    paths, passed = listed(images)
    with editing(store) as opened, opened_networks(opened, networks, detector, least) as (
        embedders,
        parts,
    ):
        taken = 0
        for path, image in _read(paths, passed):
            found = parts(image)
            if not found:
                passed.append(f"{path}: the detector finds nobody")
                continue
            crop, _ = found[0]
            embeddings = {e.network.name: e.run(crop) for e in embedders}
            if name in opened:
                opened.update(name, embeddings)
            else:
                opened.add(name, embeddings)
            taken += 1
        if not taken:
            raise InputError(f"none of the {len(paths)} images shows anybody; nothing was added")
    click.echo(f"{name}: {taken} images taken in")
    _end(passed)


@command.command()
@store_argument
@click.argument("images", nargs=-1, required=True, type=ImagePath(), metavar="IMAGE_OR_DIR...")
@networks_option
@detector_option
@least_option
@click.option(
    "--learn",
    is_flag=True,
    help="Update the means of those who are found, and add others as unknown-1, -2, ….",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def match(
    store: Path,
    images: Tuple[Path, ...],
    networks: Path,
    detector: Path | None,
    least: float,
    learn: bool,
    as_json: bool,
) -> None:
    """Who of STORE is on images (folders with all below them); it is only read without --learn."""
    paths, passed = listed(images)
    with read_or_edit(store, learn) as opened, opened_networks(
        opened, networks, detector, least
    ) as (
        embedders,
        parts,
    ):
        seen = People(as_json)
        for path, image in _read(paths, passed):
            for crop, box in parts(image):
                answer = identify(opened, embedders, crop, learn=learn)
                seen.show({"image": str(path)}, box, answer)
        click.echo(seen.summary(), err=as_json)
    _end(passed)


@command.command(name="list")
@store_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_names(store: Path, as_json: bool) -> None:
    """All names of STORE, and what is promised of its thresholds."""
    opened = IdentityStore.read(store)
    if as_json:
        told = {
            "names": opened.names(),
            "networks": [network._asdict() for network in opened.networks],
            "thresholds": opened.thresholds,
            "certificate": opened.certificate,
        }
        click.echo(json.dumps(told))
        return
    for name, count in opened.names().items():
        click.echo(f"{name}: {count} embeddings")
    limits = ", ".join(f"{name} {value:.4g}" for name, value in opened.thresholds.items())
    click.echo(f"{len(opened)} names; thresholds: {limits or 'none, so nobody is matched'}")
    click.echo(opened.certificate.get("claim", "Nothing is promised of them."))


@command.command()
@store_argument
@click.argument("old")
@click.argument("new")
def rename(store: Path, old: str, new: str) -> None:
    """Give OLD, such as unknown-7, the name NEW."""
    with editing(store) as opened:
        opened.rename(old, new)


@command.command()
@store_argument
@click.argument("name")
@click.argument("into")
def merge(store: Path, name: str, into: str) -> None:
    """NAME and INTO are one person: NAME goes."""
    with editing(store) as opened:
        opened.merge(name, into)


@command.command()
@store_argument
@click.argument("names", nargs=-1, required=True)
def forget(store: Path, names: Tuple[str, ...]) -> None:
    """Delete all that STORE has of these names."""
    with editing(store) as opened:
        for name in names:
            opened.forget(name)
    click.echo(f"forgotten: {', '.join(names)}")


@command.command()
@store_argument
@click.argument("people", type=click.Path(path_type=Path, exists=True, file_okay=False))
@networks_option
@detector_option
@least_option
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Of photographs of people who are not in the store, this share may get a name of it.",
)
@click.option(
    "--delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Probability with which the promise may be broken.",
)
def tune(
    store: Path,
    people: Path,
    networks: Path,
    detector: Path | None,
    least: float,
    rate: float,
    delta: float,
) -> None:
    """Choose STORE's thresholds on PEOPLE, a folder with a folder of photographs for each person.

    They are chosen on every second person, and what is promised comes from the others. Nobody of
    PEOPLE is added to STORE.
    """
    passed: List[str] = []
    with editing(store) as opened, opened_networks(opened, networks, detector, least) as (
        embedders,
        parts,
    ):
        rows: Dict[str, List[np.ndarray]] = {e.network.name: [] for e in embedders}
        names: List[str] = []
        for folder in sorted(p for p in people.iterdir() if p.is_dir()):
            paths, beside = listed([folder])
            passed += beside
            for path, image in _read(paths, passed):
                found = parts(image)
                if not found:
                    passed.append(f"{path}: the detector finds nobody")
                    continue
                for embedder in embedders:
                    rows[embedder.network.name].append(embedder.run(found[0][0]))
                names.append(folder.name)
        persons = sorted(set(names))
        if len(persons) < 4:
            raise InputError(
                f"{people} has photographs of {len(persons)} persons; four are the fewest to tune "
                "and to judge on"
            )
        of = np.array(names)
        tunes = np.isin(of, persons[::2])
        every = {name: np.stack(own) for name, own in rows.items()}
        chosen = tune_thresholds(
            {name: own[tunes] for name, own in every.items()}, of[tunes].tolist(), rate
        )
        others = {name: own[~tunes] for name, own in every.items()}
        said = promise(others, of[~tunes].tolist(), chosen, rate, delta)
        found_rates = rates(others, of[~tunes].tolist(), chosen)
        opened.set_thresholds(chosen, said.to_json())
    click.echo(", ".join(f"{name} {value:.4f}" for name, value in chosen.items()))
    for what, of_it in (("right", found_rates.right), ("wrong", found_rates.wrong)):
        interval = f"{100 * of_it.low:.1f} to {100 * of_it.high:.1f}"
        click.echo(f"persons in the store: {100 * of_it.value:.1f}% {what} ({interval})")
    click.echo(said.words())
    _end(passed)


class People:
    """Prints who was found, and counts."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.by: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    def show(self, about: Dict[str, Any], box: Sequence[int], answer: Any) -> None:
        """Print one person."""
        self.by[answer.by or "nobody"] += 1
        self.names[answer.name or "unknown"] += 1
        if self.as_json:
            click.echo(json.dumps({**about, "box": list(box), **answer.to_json()}))
            return
        where = ", ".join(f"{key} {value}" for key, value in about.items())
        near = "" if answer.distance is None else f", distance {answer.distance:.3f}"
        who = answer.name or "unknown"
        new = " (new)" if answer.new else ""
        click.echo(f"{where}: {who}{new}, by {answer.by or 'nobody'}{near}")

    def summary(self) -> str:
        """One line: how many, who, and which network answered which share."""
        count = sum(self.by.values())
        if not count:
            return "nobody was found"
        by = ", ".join(f"{name} {100 * n / count:.1f}%" for name, n in self.by.most_common())
        who = ", ".join(f"{name} {n}" for name, n in self.names.most_common(10))
        return f"{count} found: {who}; answered by {by}"


@contextmanager
def read_or_edit(store: Path, learn: bool) -> Iterator[IdentityStore]:
    """A store to read, or to change where it is to learn."""
    if learn:
        with editing(store) as opened:
            yield opened
    else:
        yield IdentityStore.read(store)


@contextmanager
def opened_networks(
    store: IdentityStore, networks: Path, detector: Path | None, least: float
) -> Iterator[Tuple[List[Embedder], Parts]]:
    """The store's networks, open, and what finds people."""
    embedders = open_embedders(networks)
    store.check_networks([e.network for e in embedders])
    if detector is None:
        yield embedders, _whole
        return
    with Router.load(detector) as router:
        yield embedders, parts_of(router, least)


def _whole(image: np.ndarray) -> List[Tuple[np.ndarray, Tuple[int, int, int, int]]]:
    height, width = image.shape[:2]
    return [(image, (0, 0, width, height))]


def _read(paths: Sequence[Path], passed: List[str]) -> Iterator[Tuple[Path, np.ndarray]]:
    """Images one after the other; those that cannot be read are told."""
    for path in paths:
        try:
            yield path, decode(path, MAX_PIXELS)
        except ImageError as error:
            passed.append(str(error))


def _end(passed: Sequence[str]) -> None:
    for line in passed:
        click.echo(f"left out: {line}", err=True)
    if passed:
        sys.exit(1)
