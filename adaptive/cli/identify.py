"""`adaptive identify`: who is on images, by a store of names that somebody made on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Tuple

import click
import numpy as np

from adaptive.cli.classify import listed
from adaptive.cli.features import ImagePath
from adaptive.cli.identify_exits import command as train_exits
from adaptive.cli.people import (
    PeopleOptions,
    PeopleSeen,
    end,
    finding_options,
    images_of,
    json_option,
    learn_option,
    networks_option,
    opened_people,
    oracle_option,
)
from adaptive.errors import InputError
from adaptive.files import refuse_existing
from adaptive.video.embedding import open_embedders
from adaptive.video.identity import IdentityStore, editing
from adaptive.video.identity_tuning import promise, rates, tune_thresholds

store_argument = click.argument("store", type=click.Path(path_type=Path))


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
@finding_options()
def add(
    store: Path,
    name: str,
    images: Tuple[Path, ...],
    finding: PeopleOptions,
) -> None:
    """Add NAME to STORE by images of that person, or more images of one who is there.

    Exit code 1 where an image cannot be read, or the detector finds nobody on it.
    """
    paths, passed = listed(images)
    taken = 0
    with opened_people(store, finding, edit=True) as people:
        for _, embeddings in people.surest(paths, passed):
            if name in people.store:
                people.store.update(name, embeddings)
            else:
                people.store.add(name, embeddings)
            taken += 1
        if not taken:
            raise InputError(f"none of the {len(paths)} images shows anybody; nothing was added")
    click.echo(f"{name}: {taken} images taken in")
    end(passed)


@command.command()
@store_argument
@click.argument("images", nargs=-1, required=True, type=ImagePath(), metavar="IMAGE_OR_DIR...")
@finding_options()
@oracle_option
@learn_option
@json_option
def match(
    store: Path,
    images: Tuple[Path, ...],
    finding: PeopleOptions,
    oracle: Path | None,
    learn: bool,
    as_json: bool,
) -> None:
    """Who of STORE is on images (folders with all below them); it is only read without --learn."""
    paths, passed = listed(images)
    told = PeopleSeen(as_json)
    with opened_people(store, finding, learn, oracle) as people:
        for path, image in images_of(paths, passed):
            for box, answer in people.answers(image, learn):
                told.show({"image": str(path)}, box, answer)
    told.end(passed)


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
@finding_options()
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
    finding: PeopleOptions,
    rate: float,
    delta: float,
) -> None:
    """Choose STORE's thresholds on PEOPLE, a folder with a folder of photographs for each person.

    They are chosen on every second person, and what is promised comes from the others. Nobody of
    PEOPLE is added to STORE.
    """
    passed: List[str] = []
    with opened_people(store, finding, edit=True) as opened:
        rows: Dict[str, List[np.ndarray]] = {e.network.name: [] for e in opened.embedders}
        names: List[str] = []
        for folder in sorted(p for p in people.iterdir() if p.is_dir()):
            paths, beside = listed([folder])
            passed += beside
            for _, embeddings in opened.surest(paths, passed):
                for network, embedding in embeddings.items():
                    rows[network].append(embedding)
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
        opened.store.set_thresholds(chosen, said.to_json())
    click.echo(", ".join(f"{name} {value:.4f}" for name, value in chosen.items()))
    for what, of_it in (("right", found_rates.right), ("wrong", found_rates.wrong)):
        interval = f"{100 * of_it.low:.1f} to {100 * of_it.high:.1f}"
        click.echo(f"persons in the store: {100 * of_it.value:.1f}% {what} ({interval})")
    click.echo(said.words())
    end(passed)


command.add_command(train_exits)
