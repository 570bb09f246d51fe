"""Answer images: decode, features, premodel, and networks as the policy asks for them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any, Iterable, Mapping, Protocol, Sequence

import numpy as np

from adaptive.bundle import Bundle, default_bundle
from adaptive.candidate import Candidate, InputSpec, positions, run_order
from adaptive.errors import AdaptiveError, InputError
from adaptive.limits import UNLIMITED, Limits
from adaptive.policy.base import STOP, History, Output, Policy
from adaptive.prediction import Prediction
from adaptive.serving.decode import MAX_PIXELS, ImageLike
from adaptive.walk import Step, Walk


class Extractor(Protocol):
    """Computes features that this library does not know, for a premodel that needs them."""

    def __call__(self, image: np.ndarray) -> Mapping[str, float]:
        """Features by name of an image of shape (height, width, 3), uint8, RGB."""


class _Photo:
    """One decoded image, its features, and the tensors that were made from it so far."""

    def __init__(self, image: np.ndarray, working: np.ndarray) -> None:
        self.image = image
        self.working = working
        self.tensors: dict[InputSpec, np.ndarray] = {}
        self.carried: dict[str, list[np.ndarray]] = {}
        self.done: dict[str, Output] = {}
        self.ms: dict[str, float] = defaultdict(float)
        self.features: np.ndarray | None = None
        self.began = perf_counter()

    def tensor(self, spec: InputSpec) -> np.ndarray:
        """The network's input; candidates that read the same tensor share it."""
        from adaptive.serving.preprocess import needed_short, preprocess

        if spec not in self.tensors:
            large = needed_short(spec) > min(self.working.shape[:2])
            self.tensors[spec] = preprocess(self.image if large else self.working, spec)
        return self.tensors[spec]


class Router:
    """Answer each image with the cheapest candidate that the policy trusts with it.

    Make one with `Router.load`. Several threads may use one router at the same time.

    Parameters
    ----------
    bundle : candidates, labels, policy
    engines : something that runs each candidate's network, by name
    policy : instead of the bundle's own
    extractor : computes the premodel's features where they are a user's own
    max_pixels : larger images are refused before they are decoded
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Any],
        policy: Policy | None = None,
        extractor: Extractor | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        from adaptive.serving.preprocess import needed_short

        self.bundle = bundle
        self.policy = policy or bundle.policy
        self.max_pixels = max_pixels
        self._engines = dict(engines)
        self._extractor = extractor
        self._candidates: list[Candidate] = [bundle.candidate(n) for n in self.policy.candidates]
        self._chains = run_order({c.name: c.after for c in bundle.candidates})
        self._short = max(
            needed_short(bundle.candidate(self._chains[c.name][0]).input) for c in self._candidates
        )
        self._feature_names = self._check_features()

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        policy: Policy | None = None,
        extractor: Extractor | None = None,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
    ) -> Router:
        """Read a bundle (the embedded default when left out) and open its networks.

        Raises
        ------
        BundleError
            when the bundle cannot be served as it is.
        EngineError
            when the runtime refuses a network.
        InputError
            when the premodel needs features that cannot be computed; they are named.
        """
        from adaptive.serving.engine import open_engine

        read = Bundle.read(default_bundle() if bundle is None else bundle)
        chosen = policy or read.policy
        positions(chosen.candidates, read.names, "the bundle")
        chains = run_order({c.name: c.after for c in read.candidates})
        needed = dict.fromkeys(n for name in chosen.candidates for n in chains[name])
        engines: dict[str, Any] = {}
        try:
            for name in needed:
                candidate = read.candidate(name)
                engines[name] = open_engine(read.folder / candidate.file, candidate, threads)
            return cls(read, engines, policy, extractor, max_pixels)
        except AdaptiveError:
            for engine in engines.values():
                engine.close()
            raise

    def classify(
        self, image: ImageLike, limits: Limits = UNLIMITED, explain: bool = False
    ) -> Prediction:
        """Answer one image.

        Parameters
        ----------
        image : encoded bytes, a path, or an ndarray (height, width, 3), uint8, RGB
        limits : deadline, energy and preference for this image
        explain : compute features and the premodel's votes even where the policy does not

        Raises
        ------
        ImageError
            when the image cannot be read or is over a limit.
        """
        began = perf_counter()
        photo = self._open(image)
        chances = self._judge([photo], explain)
        walk = Walk(self.policy, 1, chances, _left(limits, began))
        while (step := walk.wanted()) is not None:
            walk.feed(step, self._run(step, [photo]), _left(limits, began))
        photo.ms["total"] = (perf_counter() - began) * 1e3
        return self._predictions(walk, [photo], chances)[0]

    def classify_batch(
        self, images: Iterable[ImageLike], limits: Limits = UNLIMITED, batch: int = 32
    ) -> list[Prediction]:
        """Answer several images, running each network on all that need it at once.

        The answers are those of `classify`; `ms` holds each image's share of its batches.
        """
        answers: list[Prediction] = []
        pending = list(images)
        for first in range(0, len(pending), batch):
            began = perf_counter()
            photos = [self._open(image) for image in pending[first : first + batch]]
            chances = self._judge(photos, False)
            walk = Walk(self.policy, len(photos), chances, _left(limits, began))
            while (step := walk.wanted()) is not None:
                walk.feed(step, self._run(step, photos), _left(limits, began))
            for photo in photos:
                photo.ms["total"] = sum(photo.ms.values())
            answers += self._predictions(walk, photos, chances)
        return answers

    def choose(self, image: ImageLike, limits: Limits = UNLIMITED) -> str | None:
        """The candidate that the policy would start with, without running any; None abstains."""
        photo = self._open(image)
        chances = self._judge([photo], False)
        start = self.policy.affordable(self.policy.start(chances, 1, limits), (), limits)[0]
        return None if start == STOP else self.policy.candidates[start]

    def warm_up(self) -> None:
        """Run every network and the features once, so that the first image is not slow."""
        side = max(self._short, 64)
        photo = self._open(np.full((side, side, 3), 127, np.uint8))
        self._judge([photo], True)
        for position in range(len(self._candidates)):
            self._run(Step(position, np.zeros(1, np.intp)), [photo])

    def describe(self) -> dict[str, Any]:
        """The bundle as JSON values: candidates, policy, certificate."""
        from adaptive.policy.files import policy_to_json

        return {
            "candidates": [
                {"name": c.name, "ms": c.ms, "sha256": c.sha256, "untrained": c.untrained}
                for c in self.bundle.candidates
            ],
            "labels": len(self.bundle.labels),
            "reference": self.bundle.reference,
            "policy": policy_to_json(self.policy),
            "features": list(self._feature_names),
            "certificate": self.bundle.certificate,
            "board": dict(self.bundle.board),
        }

    def close(self) -> None:
        """Close the engines."""
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Router({self.bundle.folder.name!r}, {self.policy!r})"

    def _check_features(self) -> tuple[str, ...]:
        premodel = self.policy.premodel or self.bundle.premodel
        if premodel is None:
            return ()
        if self._extractor is not None:
            return tuple(premodel.features)
        from adaptive.features.schema import ALL29, EXTRA, SCHEMA

        unknown = [n for n in premodel.features if n not in (*ALL29, *EXTRA)]
        if unknown and self.policy.needs_features:
            raise InputError(
                f"the premodel needs features {unknown}, which this library does not compute; "
                "give Router.load an extractor that does"
            )
        version = premodel.schema_version
        if version is not None and version != SCHEMA.version and self.policy.needs_features:
            raise InputError(
                f"the premodel was trained on feature schema {version}, this version computes "
                f"schema {SCHEMA.version}; train it again"
            )
        return () if unknown else tuple(premodel.features)

    def _open(self, image: ImageLike) -> _Photo:
        from adaptive.features.schema import SCHEMA
        from adaptive.serving.decode import decode

        began = perf_counter()
        short = SCHEMA.short_side
        pixels = decode(image, short, self.max_pixels)
        working = SCHEMA.working(pixels)
        if self._short > short and not isinstance(image, np.ndarray):
            # Features never depend on which networks a bundle holds, so a network that sees
            # more than the schema's scale gets a decoding of its own.
            pixels = decode(image, self._short, self.max_pixels)
        photo = _Photo(pixels, working)
        photo.ms["decode"] = (perf_counter() - began) * 1e3
        return photo

    def _judge(self, photos: Sequence[_Photo], explain: bool) -> np.ndarray | None:
        """Features and the premodel's chances, where the policy or an explanation needs them."""
        if not self._feature_names or not (self.policy.needs_features or explain):
            return None
        for photo in photos:
            began = perf_counter()
            photo.features = self._extract(photo)
            photo.ms["features"] = (perf_counter() - began) * 1e3
        if self.policy.premodel is None:
            return None
        began = perf_counter()
        chances = self.policy.chances(np.stack([p.features for p in photos]))  # type: ignore[misc]
        spent = (perf_counter() - began) * 1e3 / len(photos)
        for photo in photos:
            photo.ms["premodel"] = spent
        return chances

    def _extract(self, photo: _Photo) -> np.ndarray:
        if self._extractor is None:
            from adaptive.features.extract import extract
            from adaptive.features.schema import SCHEMA

            return extract(SCHEMA.crop(photo.working), self._feature_names)
        values = self._extractor(photo.working)
        missing = [n for n in self._feature_names if n not in values]
        if missing:
            raise InputError(f"the extractor gave no features {missing}; it gave {list(values)}")
        features = np.array([float(values[n]) for n in self._feature_names])
        if not np.isfinite(features).all():
            raise InputError(f"the extractor gave a value that is not finite: {dict(values)}")
        return features

    def _run(self, step: Step, photos: Sequence[_Photo]) -> Output:
        """Run one candidate, and what it continues from, on the images of a step."""
        chosen = [photos[row] for row in step.rows]
        name = self.policy.candidates[step.candidate]
        for member in self._chains[name]:
            fresh = [p for p in chosen if member not in p.done]
            if fresh:
                self._run_network(self.bundle.candidate(member), fresh)
        outputs: list[Output] = [p.done[name] for p in chosen]
        if len(outputs) == 1:
            return outputs[0]
        return Output(
            np.concatenate([o.confidence for o in outputs]),
            np.concatenate([o.probabilities for o in outputs]),  # type: ignore[misc]
        )

    def _run_network(self, candidate: Candidate, photos: Sequence[_Photo]) -> None:
        from adaptive.serving.engine import probabilities

        began = perf_counter()
        if candidate.after is None:
            inputs = [_joined([p.tensor(candidate.input) for p in photos])]
        else:
            carried = [p.carried[candidate.after] for p in photos]
            inputs = [_joined([c[i] for c in carried]) for i in range(len(carried[0]))]
        answer, *states = self._engines[candidate.name].run(*inputs)
        values = probabilities(answer, candidate.output)
        confidence = values.max(axis=1)
        spent = (perf_counter() - began) * 1e3 / len(photos)
        for row, photo in enumerate(photos):
            own = slice(row, row + 1)
            photo.done[candidate.name] = Output(confidence[own], values[own])
            photo.carried[candidate.name] = [state[own] for state in states]
            photo.ms[candidate.name] += spent

    def _predictions(
        self, walk: Walk, photos: Sequence[_Photo], chances: np.ndarray | None
    ) -> list[Prediction]:
        answers: dict[int, Prediction] = {}
        for route in walk.routes():
            for position, row in enumerate(route.rows.tolist()):
                photo = photos[row]
                own = np.array([position])
                history = History(
                    route.path,
                    tuple(o.rows(own) for o in route.outputs),
                    None if chances is None else chances[[row]],
                )
                values = None
                if route.probabilities is not None:
                    values = route.probabilities[position]
                elif route.path:
                    values = history.outputs[-1].probabilities[0]  # type: ignore[index]
                answers[row] = self._prediction(photo, history, values)
        return [answers[row] for row in range(len(photos))]

    def _prediction(self, photo: _Photo, history: History, values: np.ndarray | None) -> Prediction:
        features = votes = None
        if photo.features is not None:
            features = dict(zip(self._feature_names, map(float, photo.features)))
        if history.chances is not None:
            votes = dict(zip(self.policy.candidates, map(float, history.chances[0])))
        ms = dict(photo.ms)
        path = tuple(self.policy.candidates[c] for c in history.path)
        if values is None:
            why = "the policy abstained: nothing it may ask is expected to be right, or in time"
            return Prediction(None, None, None, (), None, path, ms, features, votes, why)
        labels = self.bundle.labels
        best = _best(values, 5)
        index = int(best[0])
        return Prediction(
            label=labels[index],
            index=index,
            score=float(values[index]),
            top5=tuple((labels[i], float(values[i])) for i in best),
            candidate=path[-1],
            path=path,
            ms=ms,
            features=features,
            votes=votes,
            reason=self.policy.reason(history),
        )


def _best(values: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` highest values, highest first; of equals the lower index first."""
    count = min(count, len(values))
    least = np.partition(values, len(values) - count)[len(values) - count]
    found = np.flatnonzero(values >= least)
    order: list[int] = found[np.argsort(-values[found], kind="stable")][:count].tolist()
    return order


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _left(limits: Limits, began: float) -> Limits:
    """The limits after the time that has passed since `began`."""
    if limits is UNLIMITED:
        return limits
    spent = (perf_counter() - began) * 1e3
    return Limits(limits.remaining_ms - spent, limits.remaining_mj, limits.preference)
