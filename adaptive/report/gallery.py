"""Which images go where: the easiest, the hardest and the wrongly routed, and thumbnails."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Sequence

import numpy as np
from PIL import Image, ImageOps

from adaptive.errors import ImageError
from adaptive.evaluation.replay import ABSTAINED, Replay
from adaptive.outcomes.quality import is_binary, quality_words
from adaptive.outcomes.table import OutcomeTable

#: Images shown of each kind.
SHOWN = 12

#: Side of a thumbnail in pixels, and its JPEG quality.
SIDE, QUALITY = 132, 72


@dataclass(frozen=True)
class Picture:
    """One image of the table.

    Attributes
    ----------
    name, label : its own and its class's
    caption : what happened with it
    data : a JPEG as a data: URI, or None
    """

    name: str
    label: str
    caption: str
    data: str | None = None


@dataclass(frozen=True)
class GalleryGroup:
    """Images of one kind: what the kind is, how many there are, and the first of them."""

    title: str
    definition: str
    count: int
    pictures: tuple[Picture, ...]


@dataclass
class Thumbnails:
    """Small copies of images in a folder; what cannot be read is listed.

    Parameters
    ----------
    folder : that the table's names are relative to, or None for no thumbnails at all
    side : of each, in pixels
    """

    folder: Path | None
    side: int = SIDE
    unreadable: list[str] = field(default_factory=list)

    def of(self, name: str) -> str | None:
        """A data: URI, or None for an image that cannot be read or lies elsewhere."""
        if self.folder is None:
            return None
        # The decoder comes with OpenCV, which only thumbnails need here.
        from adaptive.images.decode import decode

        parts = PurePosixPath(name)
        try:
            if parts.is_absolute() or ".." in parts.parts:
                raise ImageError(f"{name!r} lies outside the folder of images")
            pixels = decode(self.folder / name, self.side)
        except ImageError:
            self.unreadable.append(name)
            return None
        small = ImageOps.fit(Image.fromarray(pixels), (self.side, self.side))
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=QUALITY, optimize=True)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def groups(
    done: Replay,
    table: OutcomeTable,
    labels: Sequence[str],
    thumbnails: Thumbnails,
    shown: int = SHOWN,
) -> tuple[GalleryGroup, ...]:
    """The easiest, the hardest and the wrongly routed images, each kind defined in a sentence."""
    quality = np.stack([table.quality(n) for n in table.candidates])
    if not is_binary(quality):
        return _graded_groups(quality, done, table, labels, thumbnails, shown)
    right = quality.astype(bool)
    sure = np.mean([table.of(n).confidence for n in table.candidates], axis=0)
    own = np.stack([table.quality(n) for n in done.policy.candidates]).astype(bool).any(axis=0)
    answered = np.where(done.abstained, -1.0, done.confidence)
    kinds = (
        (
            "The easiest",
            "Every candidate of the table is right; those come first of which the candidates "
            "are surest on average.",
            np.asarray(right.all(axis=0)),
            -sure,
        ),
        (
            "The hardest",
            "No candidate of the table is right; those come first of which the candidates are "
            "least sure on average.",
            np.asarray(~right.any(axis=0)),
            sure,
        ),
        (
            "Wrongly routed",
            "The policy's answer is wrong although at least one of its candidates is right by "
            "itself; its surest mistakes come first.",
            np.asarray(own & (done.quality == 0)),
            -answered,
        ),
    )
    return _groups(kinds, done, table, labels, thumbnails, shown)


#: A best answer that is worth less is a hard image's; an answer that is so much worse than the
#: best of the policy's candidates was routed wrongly.
_HARD, _WORSE = 0.5, 0.1


def _graded_groups(
    quality: np.ndarray,
    done: Replay,
    table: OutcomeTable,
    labels: Sequence[str],
    thumbnails: Thumbnails,
    shown: int,
) -> tuple[GalleryGroup, ...]:
    """The same kinds where an answer is worth more or less."""
    words = quality_words(table.quality_name)
    best = quality.max(axis=0)
    own = np.stack([table.quality(n) for n in done.policy.candidates]).max(axis=0)
    kinds = (
        (
            "The easiest",
            f"Every candidate of the table has the same {words}, and it is not nothing; those "
            "with the highest come first.",
            (quality.min(axis=0) == best) & (best > 0),
            -best,
        ),
        (
            "The hardest",
            f"No candidate of the table reaches a {words} of {100 * _HARD:g}%; those with the "
            "lowest come first.",
            best < _HARD,
            best,
        ),
        (
            "Wrongly routed",
            f"The policy's answer has a {words} at least {100 * _WORSE:g} points below the best "
            "that one of its candidates has by itself; the largest losses come first.",
            own - done.quality >= _WORSE,
            done.quality - own,
        ),
    )
    return _groups(kinds, done, table, labels, thumbnails, shown)


def _groups(
    kinds: Sequence[tuple[str, str, np.ndarray, np.ndarray]],
    done: Replay,
    table: OutcomeTable,
    labels: Sequence[str],
    thumbnails: Thumbnails,
    shown: int,
) -> tuple[GalleryGroup, ...]:
    found = []
    for title, definition, member, order in kinds:
        rows = np.flatnonzero(member)
        first = rows[np.argsort(order[rows], kind="stable")[:shown]]
        pictures = [_picture(int(r), done, table, labels, thumbnails) for r in first]
        found.append(GalleryGroup(title, definition, len(rows), tuple(pictures)))
    return tuple(found)


def _picture(
    row: int, done: Replay, table: OutcomeTable, labels: Sequence[str], thumbnails: Thumbnails
) -> Picture:
    name, label = table.images[row], int(table.label[row])
    position = int(done.candidate[row])
    if position == ABSTAINED:
        unsure = done.confidence[row]
        caption = "no answer" + ("" if np.isnan(unsure) else f", {100 * unsure:.0f}% sure")
    else:
        asked = [c for c, ran in zip(done.policy.candidates, done.ran[row]) if ran]
        caption = (
            f"{_worth(done, table, row)}, {100 * done.confidence[row]:.0f}% sure, "
            f"by {' then '.join(asked)}"
        )
    known = labels[label] if label < len(labels) else f"class {label}"
    if not table.of_classes:
        known = ""
    # ImageNet's labels begin with a WordNet number and list synonyms.
    short = re.sub(r"^n\d{8} ", "", known.split(",")[0])
    return Picture(name, short, caption, thumbnails.of(name))


def _worth(done: Replay, table: OutcomeTable, row: int) -> str:
    if table.binary:
        return "right" if done.quality[row] else "wrong"
    return f"{quality_words(table.quality_name)} {100 * done.quality[row]:.0f}%"


def needed_by_answered(done: Replay, table: OutcomeTable) -> tuple[list[str], np.ndarray]:
    """Images by the fastest of the policy's candidates with the best answer, and by who answered.

    Returns
    -------
    names of the rows, the last "none", and counts, ndarray (m + 1, m + 1): the last column
    holds abstentions
    """
    names = sorted(done.policy.candidates, key=lambda n: float(table.ms(n).mean()))
    where = [done.policy.candidates.index(n) for n in names]
    right = np.stack([table.quality(n) for n in names])
    needed = np.where(right.max(axis=0) > 0, right.argmax(axis=0), len(names))
    counts = np.zeros((len(names) + 1, len(names) + 1), int)
    for column, position in enumerate([*where, ABSTAINED]):
        counts[:, column] = np.bincount(
            needed[done.candidate == position], minlength=len(names) + 1
        )
    return [*names, "none"], counts
