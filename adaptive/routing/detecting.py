"""Detectors on the way of an image: run one by one, read into boxes, and answered with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.box_output import BoxMerge, BoxOutput
from adaptive.bundle.bundle import Bundle
from adaptive.candidate import Candidate
from adaptive.errors import EngineError, UnreachableError
from adaptive.images.decoded import DecodedImage
from adaptive.images.preprocess import placed
from adaptive.policy.base import Output
from adaptive.policy.change import unreached
from adaptive.policy.walk import Route, Walk
from adaptive.prediction import Prediction
from adaptive.routing.photo import Found, Inputs, Photo
from adaptive.tasks.detections import Detections
from adaptive.tasks.fusion import fuse
from adaptive.tasks.reading import Reading
from adaptive.tasks.score_map import ScoreMap


@dataclass(frozen=True, eq=False)
class Detector:
    """One candidate that finds boxes.

    Parameters
    ----------
    candidate : its manifest entry
    reading : how its outputs become boxes
    """

    candidate: Candidate
    reading: Reading

    def run(self, engine: Any, rows: Sequence[Inputs]) -> list[Found]:
        """Run it on one image after the other: outputs of boxes need not have a row an image.

        Raises
        ------
        EngineError
            when the network fails.
        """
        found = []
        for inputs in rows:
            began = perf_counter()
            arrays = engine.run(*inputs)
            names = getattr(engine, "outputs", None) or [str(n) for n in range(len(arrays))]
            spent = (perf_counter() - began) * 1e3
            found.append(Found(None, (), spent, len(rows), dict(zip(names, arrays))))
        return found

    def read(self, found: Found, image: DecodedImage) -> Found:
        """The same with the boxes that its outputs tell of the image.

        Raises
        ------
        EngineError
            when the outputs are not what the manifest entry says; an UnreachableError where they
            are another server's, so that the policy goes on without it.
        """
        assert found.raw is not None
        began = perf_counter()
        spec = self.candidate.input
        height, width, _ = image.source(spec).shape
        placement = placed(height, width, spec)
        try:
            boxes = self.reading.boxes(found.raw, spec.sides, placement, image.size)
        except EngineError as error:
            kind = EngineError if self.candidate.remote is None else UnreachableError
            raise kind(f"candidate {self.candidate.name!r}: {error}") from error
        sure = np.array([self.reading.confidence(boxes)])
        spent = found.ms + (perf_counter() - began) * 1e3
        return found._replace(output=Output(sure, None, (boxes,)), ms=spent, raw=None)


def detectors(bundle: Bundle) -> dict[str, Detector]:
    """By candidate, how it is run and read."""
    return {
        c.name: Detector(c, Reading.of(c.output))
        for c in bundle.candidates
        if isinstance(c.output, BoxOutput)
    }


@dataclass(frozen=True)
class BoxAnswering:
    """Says what finished photos came to, in boxes.

    Parameters
    ----------
    labels : class names
    feature_names : of the photos' features
    least : by candidate, the score from which a box is part of the answer
    merge : how boxes of several that ran become one answer; None where the last one's are it
    maps : by candidate, the map of its scores, through which they are merged
    """

    labels: Sequence[str]
    feature_names: Sequence[str]
    least: Mapping[str, float]
    merge: BoxMerge | None
    maps: Mapping[str, ScoreMap]

    @classmethod
    def of(cls, bundle: Bundle, feature_names: Sequence[str]) -> BoxAnswering:
        """As a bundle's manifest says."""
        maps = {n: d.reading.score_map for n, d in detectors(bundle).items()}
        return cls(bundle.labels, feature_names, least_of(bundle), bundle.merge, maps)

    def detections(
        self,
        walk: Walk,
        route: Route,
        place: int,
        photo: Photo,
        features: np.ndarray | None,
        total_ms: float,
    ) -> Detections:
        """What one photo came to; as `Answering.prediction`."""
        policy, history, row = walk.policy, route.history, int(route.rows[place])
        if len(route.rows) > 1:
            history = history.rows(np.array([place]))
        changes = walk.changes(row) if walk.changed else ()
        why = policy.reason(history, walk.preference, changes)
        path = tuple(policy.candidates[c] for c in history.path)
        found, sure = Detections.none(), None
        if path:
            said = [photo.done[name] for name in path]
            sure = float(said[-1].confidence[0])
            found = self._boxes(path, said)
            if self.merge is not None and len(path) > 1:
                why += f"; the boxes of {' and '.join(path)} are merged"
        unsure = bool(route.abstained[place])
        if unsure and path:
            found = Detections.none()
            why += (
                f"; its boxes are {sure:.2f} sure, below {policy.abstain_below:g}, so the policy "
                "abstains"
            )
        votes = None
        if history.chances is not None:
            votes = dict(zip(policy.candidates, history.chances[0].tolist()))
        height, width = photo.image.size or photo.image.pixels.shape[:2]
        return replace(
            named(found, self.labels),
            size=(width, height),
            candidate=None if unsure or not path else path[-1],
            path=path,
            ms={"decode": photo.image.ms, **photo.ms, "total": total_ms},
            sure=sure,
            reason=why,
            features=None if features is None else dict(zip(self.feature_names, features.tolist())),
            votes=votes,
            unreached=unreached(policy.candidates, changes),
        )

    def _boxes(self, path: Sequence[str], outputs: Sequence[Output]) -> Detections:
        """The boxes of what ran last, or those of all that ran as one set."""
        said = [output.boxes[0] for output in outputs if output.boxes is not None]
        if self.merge is None or len(path) < 2:
            return said[-1].above(self.least[path[-1]])
        chances = [self.maps[name].detections(own) for name, own in zip(path, said)]
        return fuse(chances, iou=self.merge.iou).above(self.merge.least)


def least_of(bundle: Bundle) -> dict[str, float]:
    """By candidate, the score from which a box is part of the answer."""
    outputs = {c.name: c.output for c in bundle.candidates}
    return {n: o.least for n, o in outputs.items() if isinstance(o, BoxOutput)}


def named(found: Detections, labels: Sequence[str]) -> Detections:
    """The same boxes with their labels."""
    return replace(found, labels=tuple(labels[kind] for kind in found.classes.tolist()))


def as_prediction(answer: Detections) -> Prediction:
    """What is counted and logged of an answer in boxes: who gave it, at what cost, how sure."""
    return Prediction(
        label=None,
        index=None,
        score=answer.sure,
        top5=(),
        candidate=answer.candidate,
        path=answer.path,
        ms=answer.ms,
        features=answer.features,
        votes=answer.votes,
        reason=answer.reason,
        unreached=answer.unreached,
    )
