"""What commands that say who is on images share: options, what finds people, what is printed."""

from __future__ import annotations

import functools
import json
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import click
import numpy as np
from tqdm import tqdm

from adaptive.errors import ImageError
from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.routing.crops import naming, parts_of
from adaptive.routing.router import Router
from adaptive.video.embedding import open_embedders
from adaptive.video.identified import Embedder, Identified, Oracle, embeddings_of, identify
from adaptive.video.identity import IdentityStore, editing

Box = Tuple[int, int, int, int]

#: Finds faces or persons: an image to the parts of it that show one, surest first.
Parts = Callable[[np.ndarray], List[Tuple[np.ndarray, Box]]]


class PeopleOptions(NamedTuple):
    """How people are found and embedded.

    networks : file that lists the embedding networks
    detector : bundle that finds faces or persons; None takes each image for one
    least : score from which a detector's box shows somebody
    label : class of the boxes that show somebody; None takes those of every class
    """

    networks: Path
    detector: Path | None
    least: float
    label: str | None = None


networks_option = click.option(
    "--networks",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.json",
    help="The embedding networks, cheap first.",
)


def finding_options(required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command --networks, --detector, --least and --class, as one argument `finding`.

    required : whether --detector is
    """
    without = "" if required else "; without it each image shows one"

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def found(
            *arguments: Any,
            networks: Path,
            detector: Path | None,
            least: float,
            label: str | None,
            **options: Any,
        ) -> Any:
            finding = PeopleOptions(networks, detector, least, label)
            return command(*arguments, finding=finding, **options)

        for option in (
            click.option(
                "--class",
                "label",
                metavar="NAME",
                help="Class of the detector's boxes that show somebody, such as person; all "
                "classes when left out.",
            ),
            click.option(
                "--least",
                type=click.FloatRange(0, 1),
                default=0.7,
                show_default=True,
                help="Score from which a detector's box shows somebody.",
            ),
            click.option(
                "--detector",
                type=click.Path(path_type=Path),
                required=required,
                metavar="BUNDLE",
                help=f"Finds faces or persons{without}.",
            ),
            networks_option,
        ):
            found = option(found)
        return found

    return decorated


oracle_option = click.option(
    "--oracle",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Classifiers whose classes are names, asked about whom no network matches.",
)
learn_option = click.option(
    "--learn",
    is_flag=True,
    help="Update the means of those who are found, and add others as unknown-1, -2, ….",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


class People:
    """A store, the networks whose embeddings it has, and what finds people."""

    def __init__(
        self,
        store: IdentityStore,
        embedders: Sequence[Embedder],
        parts: Parts,
        oracle: Oracle | None,
    ) -> None:
        self.store = store
        self.embedders = embedders
        self.parts = parts
        self.oracle = oracle

    def surest(
        self, paths: Sequence[Path], passed: List[str]
    ) -> Iterator[Tuple[Path, Dict[str, np.ndarray]]]:
        """Each image's surest person, by an embedding of each network; a bar on a terminal.

        passed : where it is told what was left out
        """
        bar = tqdm(paths, unit="image", disable=None, leave=False)
        for path, image in images_of(bar, passed):
            found = self.parts(image)
            if found:
                yield path, dict(embeddings_of(self.embedders, found[0][0]))
            else:
                passed.append(f"{path}: the detector finds nobody")

    def answers(self, image: np.ndarray, learn: bool) -> Iterator[Tuple[Box, Identified]]:
        """Who is on an image, and where."""
        for crop, box in self.parts(image):
            yield box, identify(self.store, self.embedders, crop, self.oracle, learn)


@contextmanager
def opened_parts(finding: PeopleOptions) -> Iterator[Parts]:
    """What finds people; without a detector an image shows one."""
    if finding.detector is None:
        yield _whole
        return
    with Router.load(finding.detector) as finder:
        yield parts_of(finder, finding.least, finding.label)


@contextmanager
def opened_people(
    store: Path, finding: PeopleOptions, edit: bool, oracle: Path | None = None
) -> Iterator[People]:
    """All that says who is on an image; where `edit`, the store is written at the end."""
    with ExitStack() as stack:
        own = stack.enter_context(editing(store)) if edit else IdentityStore.read(store)
        embedders = open_embedders(finding.networks)
        own.check_networks([e.network for e in embedders])
        parts = stack.enter_context(opened_parts(finding))
        names = None
        if oracle is not None:
            names = naming(stack.enter_context(Router.load(oracle)))
        yield People(own, embedders, parts, names)


class PeopleSeen:
    """Prints who was found, and counts."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.by: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    def show(self, about: Dict[str, Any], box: Box, answer: Identified) -> None:
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

    def end(self, left_out: Sequence[str]) -> None:
        """Print how many, who, and which network answered which share; exit with 1 on omissions."""
        count = sum(self.by.values())
        by = ", ".join(f"{name} {100 * n / count:.1f}%" for name, n in self.by.most_common())
        who = ", ".join(f"{name} {n}" for name, n in self.names.most_common(10))
        summary = f"{count} found: {who}; answered by {by}" if count else "nobody was found"
        click.echo(summary, err=self.as_json)
        end(left_out)


def images_of(paths: Sequence[Path], passed: List[str]) -> Iterator[Tuple[Path, np.ndarray]]:
    """Images one after the other; those that cannot be read are told."""
    for path in paths:
        try:
            yield path, decode(path, MAX_PIXELS)
        except ImageError as error:
            passed.append(str(error))


def end(left_out: Sequence[str]) -> None:
    """Tell what was left out, and exit with 1 where that is something."""
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    if left_out:
        sys.exit(1)


def _whole(image: np.ndarray) -> List[Tuple[np.ndarray, Box]]:
    height, width = image.shape[:2]
    return [(image, (0, 0, width, height))]
