"""Make an outcome table: run every candidate on every labelled image, one image at a time.

A run that is stopped goes on where it was: each image's outcomes are appended to files in
`X.csv.profiling/` before the next image is begun, and only a whole table is put in place.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
from functools import partial
from itertools import cycle
from pathlib import Path, PurePath
from time import sleep
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from adaptive.bundle.bundle import Bundle, input_to_json, output_to_json
from adaptive.candidate import Candidate
from adaptive.engines.choose import EngineChoice, EngineOptions, Engines
from adaptive.errors import ImageError, InputError, UnreachableError
from adaptive.evaluation.replay import rank_of
from adaptive.features.schema import SCHEMA, resolve_names
from adaptive.files import writing
from adaptive.images.decode import MAX_PIXELS, ImageLike, decode
from adaptive.images.decoded import DecodedImage, decode_image, warm_up_image
from adaptive.images.preprocess import needed_short
from adaptive.jetson.board import board_profile
from adaptive.jetson.mode import PowerMode, power_mode
from adaptive.jetson.state import BoardState
from adaptive.jetson.sysfs import Sysfs
from adaptive.measuring.doubts import labels_doubt
from adaptive.measuring.energy import IMAGES as ENERGY_IMAGES
from adaptive.measuring.energy import Energies
from adaptive.measuring.feature_times import FeatureTimes
from adaptive.measuring.parallel import outcomes, sample
from adaptive.measuring.partial import Partial
from adaptive.outcomes.labelled import UNLABELLED, LabelledImages
from adaptive.outcomes.quality import AGREEMENT
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Output
from adaptive.routing.extractors import Extractor, check_apart, names_of, origin_of
from adaptive.routing.judging import timed_features
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks
from adaptive.segments import Run, through_key

log = logging.getLogger("adaptive.measuring.profiling")

#: Runs of each network before anything is timed.
WARM_UP = 5

#: How often a candidate on another server is asked for one image, and how long is waited between.
PATIENCE, LONGEST_WAIT_S = 6, 10.0


class Profiler:
    """Runs the candidates of a bundle on images and records what they said and cost.

    Parameters
    ----------
    bundle : the candidates and labels
    threads : threads inside a network
    features : names or a group of features to record
    sysfs : where the machine tells its power mode; another root is for tests
    engines : opens the networks; by the best engine that really runs when left out
    extractor : computes features of a user's own, which become columns too
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 1,
        features: str = "all+extra",
        sysfs: Sysfs | None = None,
        engines: Engines | None = None,
        extractor: Extractor | None = None,
    ) -> None:
        self.bundle = bundle
        self.threads = threads
        self._sysfs = sysfs
        self._options = EngineOptions() if engines is None else engines.options
        self._extractor = extractor
        self._own = () if extractor is None else names_of(extractor)
        self._asked, self._ours = features, resolve_names(features)
        check_apart(self._own, self._ours)
        self.features = (*self._ours, *self._own)
        self._short = max(needed_short(c.input) for c in bundle.candidates)
        names = bundle.names
        # Asked one by one, an exit is reached through those before it, without their heads.
        ways = [(name,) for name in names]
        self.networks = Networks.open(bundle, names, threads, ways, True, engines)
        nothing_here = EngineChoice("none", "every candidate runs on another server")
        self.choice = self.networks.choice or nothing_here
        # An exit runs after what it continues from, whatever the manifest's order.
        chains = self.networks.chains
        self._order = sorted(bundle.candidates, key=lambda c: len(chains[c.name]))

    def profile(
        self,
        images: LabelledImages,
        output: Path,
        keep_probabilities: bool = True,
        energies: Callable[[Mapping[str, Callable[[], object]]], Energies] | None = None,
        jobs: int = 1,
    ) -> list[str]:
        """Write the outcome table of `images` to `output`; return what was left out, with why.

        Parameters
        ----------
        energies : measures the energy of a run of each candidate, in a second pass
        jobs : processes; with several, times are measured alone, on some of the images first, and
            the others are given theirs (`adaptive.measuring.parallel`)

        Raises
        ------
        InputError
            when no image could be read, images are not labelled and there is no reference to hold
            answers against, a stopped run was made with other settings or in another
            power mode, or the power mode changes meanwhile.
        """
        if UNLABELLED in images.labels and self.bundle.reference is None:
            raise InputError(
                f"{self.bundle.folder} names no reference, whose answers images without labels are "
                'held against; write "reference": "NAME" into its manifest.json'
            )
        # First, so that a network that cannot run leaves nothing behind.
        self.warm_up(images.root / name for name in one_of_each_kind(images.names))
        before = BoardState.read(self._sysfs)
        fingerprint = self._fingerprint(images, keep_probabilities)
        partial = self.partial(output, fingerprint, keep_probabilities)
        left_out = dict(partial.left_out)
        todo = [i for i in range(len(images)) if images.names[i] not in partial.seen]
        with writing(partial.folder), partial, tqdm(
            total=len(images), initial=len(images) - len(todo), unit="image", desc="profiling"
        ) as bar:
            for index, found in self._found(images, todo, jobs):
                name = images.names[index]
                if isinstance(found, str):
                    left_out[name] = found
                    partial.skip(name, found)
                else:
                    row, answers = found
                    self._require_mode(before.mode)
                    partial.append({"image": name, **row}, answers)
                bar.update()
        partial.order = {name: place for place, name in enumerate(images.names)}
        partial.require_rows()
        spent = None
        if energies is not None:
            sample = [images.root / n for n in images.names if n not in left_out][:ENERGY_IMAGES]
            spent = energies(self.tasks(sample))
            self._require_mode(before.mode)
        with writing(partial.folder):
            partial.finish(self._meta(images, before, spent), self._energies(spent))
        return [f"{name}: {why}" for name, why in left_out.items()]

    def _energies(self, spent: Energies | None) -> dict[str, float]:
        """Millijoules by candidate: as measured here, and what the network is said to cost."""
        found = {} if spent is None else dict(spent.mj)
        for name in found:
            candidate, moved = self.bundle.candidate(name), self._bytes(name)
            if candidate.remote is not None and moved is not None:
                found[name] += candidate.remote.network_mj(*moved)
        return found

    def _bytes(self, name: str) -> tuple[float, float] | None:
        """Bytes sent and received for an image by a candidate on another server."""
        engine = self.networks.engines.get(name)
        requests = getattr(engine, "requests", 0)
        return (engine.sent / requests, engine.received / requests) if engine and requests else None

    def _entry(self, candidate: Candidate) -> dict[str, Any]:
        """What the table says of a candidate; of one on another server, what goes over the wire."""
        moved = self._bytes(candidate.name)
        if candidate.remote is None:
            return entry_of(candidate)
        told = {}
        if moved is not None:
            told = {"bytes_sent": round(moved[0]), "bytes_received": round(moved[1])}
        return {**entry_of(candidate), "remote": {**candidate.remote.to_json(), **told}}

    def patient_outcome(
        self, path: Path, label: int, timed: bool = True
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As `outcome`; a server that cannot be reached is given some time to come back.

        Nothing of what failed is in the times.
        """
        for attempt in range(PATIENCE):
            try:
                return self.outcome(path, label, timed)
            except UnreachableError as error:
                if attempt == PATIENCE - 1:
                    raise
                log.warning("%s; it is asked again", error)
                sleep(min(error.retry_after_s, LONGEST_WAIT_S))
        raise AssertionError

    def _found(
        self, images: LabelledImages, todo: Sequence[int], jobs: int
    ) -> Iterator[tuple[int, Any]]:
        """Number of an image, and its row and probabilities, or why it cannot be read."""
        chosen = set(sample(len(images))) if jobs > 1 else set(todo)
        for index in todo:
            if index in chosen:
                try:
                    yield (
                        index,
                        self.patient_outcome(
                            images.root / images.names[index], images.labels[index]
                        ),
                    )
                except ImageError as error:
                    yield index, str(error)
        rest = [index for index in todo if index not in chosen]
        if rest:
            paths = [images.root / images.names[i] for i in rest]
            labels = [images.labels[i] for i in rest]
            yield from zip(rest, outcomes(self.elsewhere(), paths, labels, jobs))

    def elsewhere(self) -> Callable[[], Callable[[Path, int], Any]]:
        """What makes, in another process, what finds outcomes as this one does."""
        return partial(
            _finder,
            type(self),
            self.bundle.folder,
            self.threads,
            self._asked,
            self._options,
            self._extractor,
        )

    def outcome(
        self, path: Path, label: int, timed: bool = True
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """One image's row and every candidate's probabilities, shape (1, classes).

        Of an image that is not labelled the reference's answer is the label. Where nothing is
        `timed`, what runs for its time alone is left out, and so are the times.

        It runs as it is served. Only the inputs are made before the networks run, so that a
        candidate is charged with its own even where another one reads the same.
        """
        sized = self.bundle.task == "detect"
        image = decode_image(path, self._short, MAX_PIXELS, self._extractor is not None, sized)
        features, features_ms = timed_features(image, self.features, self._own, self._extractor)
        photo, prepared = run_each(self.networks, self._order, image, timed)
        if label == UNLABELLED:
            assert self.bundle.reference is not None
            said = photo.done[self.bundle.reference].probabilities
            assert said is not None
            label = int(said[0].argmax())
        answers: dict[str, np.ndarray] = {}
        row: dict[str, Any] = {"label": label, "features": features.tolist()}
        if timed:
            row.update({"decode:ms": image.ms, "features:ms": features_ms})
        for candidate in self._order:
            name = candidate.name
            output = photo.done[name]
            if output.probabilities is not None:
                answers[name] = output.probabilities
            own = prepared.get(name, ())
            row[name] = self.said(output, label)
            if timed:
                row[name]["ms"] = photo.ms[name] + sum(own)
                row[name].update(zip(("scale", "normalise"), own))
            if through_key(name) in photo.ms:
                row[name]["through"] = photo.ms[through_key(name)] + sum(own)
        return row, answers

    def said(self, output: Output, label: int) -> dict[str, Any]:
        """What is recorded of a candidate's answer to one image."""
        found = output.probabilities
        assert found is not None
        rank = int(rank_of(found, np.array([label]))[0])
        return {
            "top1": int(rank == 0),
            "top5": int(rank < 5),
            "confidence": float(found.max()),
        }

    def partial(self, output: Path, fingerprint: Mapping[str, Any], keep: bool) -> Partial:
        """The rows as they come, of a run that is begun or goes on."""
        return Partial(output, fingerprint, self.bundle, keep)

    def tasks(self, images: Sequence[ImageLike]) -> dict[str, Callable[[], object]]:
        """By candidate, what runs it once on the next of these images, as `outcome` times it.

        An exit goes on from states that are kept, so its run is the increment alone.
        """
        sized = self.bundle.task == "detect"
        photos = [
            Photo(decode_image(image, self._short, MAX_PIXELS, sized=sized)) for image in images
        ]

        def task(candidate: Candidate) -> Callable[[], object]:
            runs, again = [Run(candidate.name, False)], cycle(list(photos))
            if candidate.after is None:
                return lambda: self.networks.advance(
                    runs, [Photo(next(again).image.unprepared())], again=True
                )
            return lambda: self.networks.advance(runs, [next(again)], again=True)

        found = {}
        for candidate in self._order:
            found[candidate.name] = task(candidate)
            photos = [self.networks.run(candidate.name, [p]).photos[0] for p in photos]
        return found

    def warm_up(self, images: Iterable[Path]) -> None:
        """Run whatever is timed a few times on a grey image, and decode these images.

        The first image of a kind loads its decoder, which no later one does.
        """
        for image in images:
            try:
                decode_image(image, self._short, MAX_PIXELS)
            except ImageError:
                continue
        grey = decode_image(warm_up_image(self._short), self._short, MAX_PIXELS)
        timed_features(grey, self._ours)
        for _ in range(WARM_UP):
            self.networks.warm_up(self.bundle.names, Photo(grey))

    def doubts(self, table: OutcomeTable) -> list[str]:
        """What makes the table that was profiled look wrong, in sentences."""
        found = [f"{name}: {doubt}" for name, doubt in self.networks.doubts.items()]
        untrained = [c.name for c in self.bundle.candidates if c.untrained]
        labels = labels_doubt(table, len(self.bundle.labels), untrained)
        return found if labels is None else [labels, *found]

    def close(self) -> None:
        """Close the engines."""
        self.networks.close()

    def _fingerprint(self, images: LabelledImages, keep: bool) -> dict[str, Any]:
        listed = json.dumps([images.names, images.labels])
        fingerprint = {
            "candidates": [entry_of(c) for c in self.bundle.candidates],
            "outputs": [output_to_json(c.output) for c in self.bundle.candidates],
            "features": list(self.features),
            "schema": SCHEMA.version,
            "threads": self.threads,
            "engine": [self.choice.engine, self.choice.precision],
            "probabilities": keep,
            "folder": str(images.root.resolve()),
            "images": hashlib.sha256(listed.encode()).hexdigest(),
        }
        if self._extractor is not None:
            fingerprint["extractor"] = origin_of(self._extractor)
        mode = self._mode()
        if mode is not None:
            fingerprint["power mode"] = mode.to_json()
        found: dict[str, Any] = json.loads(json.dumps(fingerprint))
        return found

    def _mode(self) -> PowerMode | None:
        return power_mode(self._sysfs or Sysfs())

    def _require_mode(self, mode: PowerMode | None) -> None:
        """Times of different power modes do not go into one table."""
        now = self._mode()
        if now != mode:
            raise InputError(
                f"the power mode changed from {mode} to {now} meanwhile; what was measured before "
                "is kept: set the mode back and give the same command to go on"
            )

    def feature_times(self, paths: Iterable[Path]) -> dict[str, float]:
        """Milliseconds of each feature by itself, on the first of these images that can be read."""
        times = FeatureTimes(self._ours, self._own)
        for path in paths:
            try:
                pixels = decode(path)
            except ImageError:
                continue
            whole = partial(decode, path, MAX_PIXELS, MAX_PIXELS)
            image = DecodedImage(pixels, SCHEMA.working(pixels), native=whole)
            times.take(image, self._extractor)
            if times.done:
                break
        return times.median()

    def _meta(
        self, images: LabelledImages, before: BoardState, energies: Energies | None
    ) -> dict[str, Any]:
        board = board_profile(self.threads, before, self._sysfs)
        if board.get("throttled"):
            log.warning(
                "the board was slowed meanwhile (%s): these times are longer than a cool board's",
                ", ".join(board["throttled_by"]),
            )
        return {
            "candidates": [self._entry(c) for c in self.bundle.candidates],
            **({"quality": AGREEMENT} if UNLABELLED in images.labels else {}),
            "reference": self.bundle.reference,
            "classes": len(self.bundle.labels),
            "features": list(self.features),
            "schema": SCHEMA.to_json(),
            "feature_ms": self.feature_times(images.root / name for name in images.names),
            "board": board,
            "engine": self.choice.to_json(),
            **({} if self._extractor is None else {"extractor": origin_of(self._extractor)}),
            "threads": self.threads,
            "date": datetime.date.today().isoformat(),
            "warm_up": WARM_UP,
            **({} if energies is None else {"energy": energies.to_json()}),
        }


def _finder(
    kind: type[Profiler],
    folder: Path,
    threads: int,
    features: str,
    options: EngineOptions,
    extractor: Extractor | None,
) -> Callable[[Path, int], Any]:
    """A profiler of this process, which finds outcomes without times."""
    made = kind(Bundle.read(folder), threads, features, None, Engines(options), extractor)
    return partial(_untimed, made)


def _untimed(
    profiler: Profiler, path: Path, label: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    row, answers = profiler.patient_outcome(path, label, False)
    return row, {name: values.astype(np.float16) for name, values in answers.items()}


def run_each(
    networks: Networks, order: Sequence[Candidate], image: DecodedImage, timed: bool = True
) -> tuple[Photo, dict[str, tuple[float, float]]]:
    """Run every candidate on one image, one after the other; the milliseconds of preparing it.

    Parameters
    ----------
    order : an exit after what it continues from
    timed : run exits without their heads too, for their times
    """
    photo = Photo(image)
    prepared: dict[str, tuple[float, float]] = {}
    for candidate in order:
        if candidate.after is None:
            prepared[candidate.name] = image.prepared(candidate.input)
        (photo,), _ = networks.run(candidate.name, [photo])
    # Afterwards, so that the runs above find the processor's caches as they are in use.
    for candidate in order:
        if timed and candidate.name in networks.segments.through:
            (photo,) = networks.advance([Run(candidate.name, True)], [photo], again=True)
    return photo, prepared


def one_of_each_kind(names: Iterable[str]) -> list[str]:
    """The first name with each suffix."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(PurePath(name).suffix.lower(), name)
    return list(first.values())


def entry_of(candidate: Candidate) -> dict[str, Any]:
    """What a table's `X.json` says of a candidate."""
    entry: dict[str, Any] = {
        "name": candidate.name,
        "sha256": candidate.sha256,
        "after": candidate.after,
        # What it reads tells which candidates share the work of making it.
        "input": None if candidate.after else input_to_json(candidate.input),
    }
    if candidate.made is not None:
        entry["made"] = candidate.made
    return entry if candidate.through is None else {**entry, "through": candidate.through.sha256}
