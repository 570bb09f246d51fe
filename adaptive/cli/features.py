"""`adaptive features`: a CSV of features, one row an image."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import click

from adaptive.cli.extractor import extractor_option
from adaptive.csvlines import write_lines
from adaptive.errors import ImageError, InputError
from adaptive.features.provenance import beside, write_beside
from adaptive.features.schema import resolve_names
from adaptive.files import refuse_existing, written_aside
from adaptive.imagefiles import SUFFIXES, files_below, is_text, passed_over

if TYPE_CHECKING:
    from adaptive.routing.extractors import Extractor


class ImagePath(click.Path):
    """A path that is not empty, as of a variable that was not set: that would be the folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is empty."""
        if not os.fspath(value):
            raise InputError("the path of an image is empty")
        return super().convert(value, param, ctx)


@click.command(name="features")
@click.argument("images", nargs=-1, required=True, type=ImagePath(), metavar="IMAGE_OR_DIR...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="X.csv")
@click.option(
    "--features",
    default="all",
    show_default=True,
    help="paper7, all, extra, all+extra, or names separated by commas.",
)
@extractor_option("What computes features of your own, which become columns after these.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    images: tuple[Path, ...],
    output: Path,
    features: str,
    extractor: Extractor | None,
    force: bool,
) -> None:
    """Write the features of images into a CSV, one row an image; folders with all below them.

    X.json beside X.csv says that the numbers are this library's; keep the two together.

    Images that cannot be read are listed and left out; the exit code is then 1.
    """
    names = resolve_names(features)
    if output.suffix == ".json":
        raise InputError(f"{output} is the name of what goes beside the table; name a CSV file")
    refuse_existing(output, force)
    refuse_existing(beside(output), force)
    if output.is_dir():
        raise InputError(f"{output} is a folder; name the CSV file to write")
    found, passed = find_images(images)
    left_out = [*passed, *write_features(found, output, names, extractor)]
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    sys.exit(1 if left_out else 0)


def find_images(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Files as named, and every image file below a folder, sorted; each once.

    Returns
    -------
    The images, and what lies in the folders and may be an image but is not read, in sentences.

    Raises
    ------
    InputError
        when a path is not there, or a folder has no image in it.
    """
    found: dict[Path, None] = {}
    passed: list[str] = []
    for path in paths:
        if path.is_dir():
            below = files_below(path)
            if not below.images:
                raise InputError(f"folder {path} holds no image; looked for {sorted(SUFFIXES)}")
            found.update(dict.fromkeys(path / name for name in below.images))
            passed += passed_over(below.others, f"folder {path}")
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"there is no image or folder {path}")
    return list(found), passed


def write_features(
    images: Sequence[Path],
    output: Path,
    names: Sequence[str],
    extractor: Extractor | None = None,
) -> list[str]:
    """Write the CSV and what is beside it; one sentence for each image that cannot be read.

    extractor : computes features of a user's own, which become columns after the named ones

    Raises
    ------
    InputError
        when no image can be read; nothing is written then.
    """
    from tqdm import tqdm

    from adaptive.images.decode import MAX_PIXELS
    from adaptive.images.decoded import decode_image
    from adaptive.routing.extractors import check_apart, names_of
    from adaptive.routing.judging import timed_features

    own = () if extractor is None else names_of(extractor)
    check_apart(own, tuple(names))
    left_out: list[str] = []
    with written_aside(output) as aside:
        with open(aside, "w", newline="", encoding="utf-8") as file:
            write_lines(file, [("image", *names, *own)])
            for path in tqdm(images, unit="image", disable=None):
                if not is_text(str(path)):  # no command could read the table
                    left_out.append(f"{str(path)!r} has a name that is not UTF-8; rename it")
                    continue
                try:
                    image = decode_image(path, 1, MAX_PIXELS, extractor is not None)
                    values, _ = timed_features(image, (*names, *own), own, extractor)
                except ImageError as error:
                    left_out.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                else:
                    write_lines(file, [(path, *values.tolist())])
        if len(left_out) == len(images):
            raise InputError(f"none of {len(images)} images can be read; the first: {left_out[0]}")
        write_beside(output, names)
    return left_out
