"""The options of `adaptive serve` about persons: off, unless a store of identities is named."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

import click

from adaptive.cli.people import PeopleOptions, opened_parts
from adaptive.errors import InputError

if TYPE_CHECKING:
    from adaptive.serving.identities import Identities
    from adaptive.serving.keys import Keys


class PersonsOptions(NamedTuple):
    """Which store a server asks about persons, and how it finds and embeds them.

    keys : who may ask about persons; all who have a key where there are none
    """

    store: Path
    finding: PeopleOptions
    keys: Keys | None


def identity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --identities and what goes with it, as one argument `persons`."""

    @functools.wraps(command)
    def with_persons(
        *arguments: Any,
        identities: Path | None,
        identity_networks: Path | None,
        identity_detector: Path | None,
        identity_least: float,
        identity_class: str | None,
        identity_keys: Path | None,
        **options: Any,
    ) -> Any:
        persons = None
        if identities is not None:
            if identity_networks is None:
                raise InputError("--identities needs --identity-networks, whose embeddings it has")
            finding = PeopleOptions(
                identity_networks, identity_detector, identity_least, identity_class
            )
            persons = PersonsOptions(identities, finding, _keys(identity_keys))
        elif identity_networks or identity_detector or identity_keys:
            raise InputError("--identity-… options are of no use without --identities")
        return command(*arguments, persons=persons, **options)

    for option in reversed(_OPTIONS):
        with_persons = option(with_persons)
    return with_persons


@contextmanager
def opened_identities(persons: PersonsOptions, max_pixels: int) -> Iterator[Identities]:
    """The store with all that says who is on an image.

    Raises
    ------
    AdaptiveError
        when store, networks or detector cannot be used, or do not fit each other.
    """
    from adaptive.serving.identities import Identities
    from adaptive.video.embedding import open_embedders

    embedders = open_embedders(persons.finding.networks)
    with opened_parts(persons.finding) as parts:
        yield Identities(persons.store, embedders, parts, max_pixels)


def _keys(path: Path | None) -> Keys | None:
    from adaptive.serving.keys import Keys

    return None if path is None else Keys(path)


_FILE = click.Path(path_type=Path)

_OPTIONS = (
    click.option(
        "--identities",
        type=_FILE,
        metavar="STORE",
        help="Say who is on an image, by this store of `adaptive identify`, to whoever has a key. "
        "Embeddings are personal data; off when left out.",
    ),
    click.option(
        "--identity-networks",
        type=_FILE,
        metavar="FILE.json",
        help="The store's embedding networks, cheap first.",
    ),
    click.option(
        "--identity-detector",
        type=_FILE,
        metavar="BUNDLE",
        help="Finds faces or persons; without it each image shows one.",
    ),
    click.option(
        "--identity-least",
        type=click.FloatRange(0, 1),
        default=0.7,
        show_default=True,
        help="Score from which a box shows somebody.",
    ),
    click.option(
        "--identity-class",
        metavar="NAME",
        help="Class of the boxes that show somebody; all classes when left out.",
    ),
    click.option(
        "--identity-keys",
        type=_FILE,
        metavar="FILE",
        help="Only these bearer keys may ask about persons; all of --keys when left out.",
    ),
)
