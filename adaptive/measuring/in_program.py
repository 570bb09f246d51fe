"""The outcome table of a router's candidates, measured in the program that holds them."""

from __future__ import annotations

import datetime
import os
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from adaptive.checks import is_number, shown
from adaptive.errors import InputError
from adaptive.evaluation.replay import rank_of
from adaptive.features.schema import SCHEMA, resolve_names
from adaptive.images.decode import ImageLike, read_once
from adaptive.images.decoded import decode_image
from adaptive.images.preprocess import needed_short
from adaptive.jetson.board import board_profile
from adaptive.measuring.feature_times import FeatureTimes
from adaptive.measuring.profiling import WARM_UP, entry_of, run_each
from adaptive.outcomes.labelled import LabelledImages, list_images
from adaptive.outcomes.quality import check_quality
from adaptive.outcomes.table import PARTS, Outcomes, OutcomeTable
from adaptive.routing.extractors import Extractor, check_apart, names_of, origin_of
from adaptive.routing.judging import timed_features
from adaptive.routing.own_answers import OwnAnswers, OwnOutput
from adaptive.routing.photo import Photo
from adaptive.routing.router import Router

#: Says what an answer is worth, given the truth: a number from 0 to 1, True or False.
Judge = Callable[[Any, Any], Any]


class _Said(NamedTuple):
    """What one candidate said of one image, and what that took."""

    quality: float
    top5: bool
    confidence: float
    ms: float
    scale: float
    normalise: float


class _Listed(NamedTuple):
    """Images by name, each with what is right of it."""

    names: tuple[str, ...]
    images: Iterable[ImageLike]
    truths: Sequence[Any]


def profile(
    router: Router,
    images: str | Path | LabelledImages | Iterable[ImageLike],
    truths: Sequence[Any] | None = None,
    *,
    judge: Judge | None = None,
    quality: str = "quality",
    names: Sequence[str] | None = None,
    features: str | Sequence[str] | None = "all+extra",
    extractor: Extractor | None = None,
    progress: bool = True,
) -> OutcomeTable:
    """Run every candidate of a router on images, one at a time, and note what it said and took.

    Parameters
    ----------
    images : a folder with one sub-folder a class, labelled images, or, with `truths`, images of
        any kind that a router takes
    truths : of each image what is right: the name or the index of its class; for answers that
        are no classes whatever `judge` compares with
    judge : for answers that are no classes, judge(answer, truth) is what an answer is worth, from
        0 to 1, such as the overlap of two masks; True and False where it is right or wrong
    quality : what that number is called, in columns and sentences
    names : of the images, each once; by these they fall into the parts that tune, calibrate and
        test. Paths stand for themselves when left out, other images are numbered.
    features : of this library, to train a premodel on; None computes none
    extractor : computes features of one's own, which become columns beside those
    progress : a bar on standard error, where that is a terminal

    Raises
    ------
    InputError
        when images and truths do not go together, a candidate of the router is not open, or the
        judge says something else.
    ImageError
        when an image cannot be read.
    """
    bundle, networks = router.bundle, router.networks
    if isinstance(networks, OwnAnswers) is not (judge is not None):
        raise InputError(
            "judge is needed for answers that are no classes, and for those alone; it says "
            "judge(answer, truth) -> 0..1"
        )
    if judge is not None:
        check_quality(quality, PARTS)
    networks.check_open(bundle.names, [])
    listed = _listed(images, truths, names, bundle.labels, judge is not None)
    asked = () if features is None else resolve_names(features)
    order = sorted(bundle.candidates, key=lambda c: len(networks.chains[c.name]))
    short = max(needed_short(c.input) for c in bundle.candidates)
    pictures = iter(listed.images)
    first = next(pictures)
    photo = Photo(decode_image(first, short, router.max_pixels))
    for _ in range(WARM_UP):
        networks.warm_up(bundle.names, photo)
    timed_features(photo.image, asked)
    own = () if extractor is None else names_of(extractor)
    check_apart(own, asked)
    columns, times = (*asked, *own), FeatureTimes(asked, own)
    said: dict[str, list[_Said]] = {name: [] for name in bundle.names}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in bundle.names}
    through: dict[str, list[float]] = {name: [] for name in networks.segments.through}
    decode_ms, features_ms, rows = [], [], []
    shown_bar = tqdm(
        zip(chain([first], pictures), listed.truths),
        total=len(listed.names),
        unit="image",
        desc="profiling",
        disable=None if progress else True,
    )
    for image, truth in shown_bar:
        opened = decode_image(image, short, router.max_pixels, extractor is not None)
        values, spent_ms = timed_features(opened, columns, own, extractor)
        rows.append(values)
        features_ms.append(spent_ms)
        decode_ms.append(opened.ms)
        photo, prepared = run_each(networks, order, opened)
        for name in bundle.names:
            output, parts = photo.done[name], prepared.get(name, (0.0, 0.0))
            if isinstance(output, OwnOutput):
                worth, best = _worth(judge, output.answers[0], truth), False
            else:
                assert output.probabilities is not None
                rank = int(rank_of(output.probabilities, np.array([truth]))[0])
                worth, best = float(rank == 0), rank < 5
                kept[name].append(output.probabilities[0].astype(np.float16))
            sure, ms = float(output.confidence[0]), photo.ms[name] + sum(parts)
            said[name].append(_Said(worth, best, sure, ms, *parts))
        times.take(opened, extractor)
        for name, spent in through.items():
            spent.append(photo.ms[f"{name}:through"] + sum(prepared.get(name, ())))
    classes = judge is None
    about = {
        "candidates": [entry_of(c) for c in bundle.candidates],
        "reference": bundle.reference,
        "board": board_profile(1),
        "date": datetime.date.today().isoformat(),
        "warm_up": WARM_UP,
        **({"classes": len(bundle.labels)} if classes else {"quality": quality}),
        "feature_ms": times.median(),
        **({} if extractor is None else {"extractor": origin_of(extractor)}),
        **({"features": list(asked), "schema": SCHEMA.to_json()} if asked else {}),
    }
    return OutcomeTable(
        listed.names,
        np.array(listed.truths, np.int64) if classes else np.zeros(len(listed.names), np.int64),
        columns,
        np.stack(rows),
        {
            c.name: _outcomes(said[c.name], c.after, through.get(c.name), classes)
            for c in bundle.candidates
        },
        np.array(decode_ms),
        np.array(features_ms),
        {name: np.stack(found) for name, found in kept.items()} if classes else {},
        about,
    )


def _worth(judge: Judge | None, answer: Any, truth: Any) -> float:
    assert judge is not None
    worth = judge(answer, truth)
    told = isinstance(worth, (bool, np.bool_)) or is_number(worth)
    if not told or not 0 <= float(worth) <= 1:
        raise InputError(f"judge said {shown(worth)}; a number from 0 to 1 is needed")
    return float(worth)


def _outcomes(
    said: Sequence[_Said], after: str | None, through: list[float] | None, classes: bool
) -> Outcomes:
    columns = _Said(*zip(*said))  # type: ignore[arg-type]
    reads = after is None
    return Outcomes(
        np.array(columns.quality, bool if classes else np.float64),
        np.array(columns.top5, bool) if classes else None,
        np.array(columns.confidence),
        np.array(columns.ms),
        after=after,
        through=None if through is None else np.array(through),
        scale=np.array(columns.scale) if reads else None,
        normalise=np.array(columns.normalise) if reads else None,
    )


def _listed(
    images: str | Path | LabelledImages | Iterable[ImageLike],
    truths: Sequence[Any] | None,
    names: Sequence[str] | None,
    labels: Sequence[str],
    own: bool,
) -> _Listed:
    if isinstance(images, (str, Path)):
        images = list_images(Path(images), labels)
    if isinstance(images, LabelledImages):
        if truths is not None or names is not None:
            raise InputError("labelled images bring their names and classes; give them alone")
        root = images.root
        return _Listed(images.names, (root / name for name in images.names), images.labels)
    if truths is None:
        raise InputError("truths are needed: what is right of each image, in the images' order")
    pictures = list(images)
    if len(pictures) != len(truths) or not pictures:
        raise InputError(
            f"there are {len(pictures)} images and {len(truths)} truths; one for each is needed"
        )
    if names is None:
        names = [
            os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image-{number:06}"
            for number, image in enumerate(pictures)
        ]
    if len(set(names)) != len(pictures):
        raise InputError(
            f"{len(pictures)} images have {len(set(names))} names; each needs one of its own"
        )
    right = truths if own else [_class(truth, labels) for truth in truths]
    return _Listed(tuple(names), map(read_once, pictures), right)


def _class(truth: Any, labels: Sequence[str]) -> int:
    if isinstance(truth, str):
        if list(labels).count(truth) != 1:
            raise InputError(f"class {truth!r} is not one of the {len(labels)} labels, or twice")
        return list(labels).index(truth)
    if not is_number(truth) or truth != int(truth) or not 0 <= truth < len(labels):
        raise InputError(
            f"class {shown(truth)} is neither a label nor an index from 0 to {len(labels) - 1}"
        )
    return int(truth)
