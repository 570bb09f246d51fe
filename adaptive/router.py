"""Answer images: decode, features, premodel, and networks as the policy asks for them."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from adaptive.account import Account, with_costs
from adaptive.bucket import Bucket
from adaptive.bundle import Bundle, default_bundle
from adaptive.candidate import positions
from adaptive.errors import AdaptiveError
from adaptive.limits import UNLIMITED, Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import DecisionLog, Observer
from adaptive.monitoring.drift import Monitor, monitor_of
from adaptive.monitoring.watch import Watch
from adaptive.photo import Extractor, Photo, computable, features_of, open_photo
from adaptive.policy.base import STOP, History, Policy
from adaptive.prediction import Prediction
from adaptive.running import Networks
from adaptive.serving.decode import MAX_PIXELS, ImageLike
from adaptive.walk import Walk


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
    bucket : caps the mean time or energy of an image; decoding and audits are not counted
    audit : on which requests the reference is run as well
    observers : are shown every decision, after its answer is made
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Any],
        policy: Policy | None = None,
        extractor: Extractor | None = None,
        max_pixels: int = MAX_PIXELS,
        *,
        bucket: Bucket | None = None,
        audit: Audit | None = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        from adaptive.serving.preprocess import needed_short

        given = policy or bundle.policy
        positions(given.candidates, bundle.names, "the bundle")
        self._networks = Networks(bundle, engines)
        self.bundle = bundle
        self.policy = given if bucket is None else with_costs(given, self._networks, bucket)
        self.max_pixels = max_pixels
        self.bucket = bucket
        self._extractor = extractor
        self._energies = {c.name: c.mj or 0.0 for c in bundle.candidates}
        premodel = given.premodel or bundle.premodel
        self._feature_names = computable(premodel, given.needs_features, extractor)
        self._watch = Watch(
            bundle,
            given,
            self._networks,
            self._feature_names,
            self._extract,
            audit,
            tuple(observers),
        )
        self._names = tuple(dict.fromkeys((*given.candidates, *self._watch.audited)))
        self._short = max(
            needed_short(bundle.candidate(self._networks.chains[name][0]).input)
            for name in self._names
        )

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        policy: Policy | None = None,
        extractor: Extractor | None = None,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
        bucket: Bucket | None = None,
        audit: Audit | None = None,
        log: str | Path | None = None,
        observers: Iterable[Observer] = (),
    ) -> Router:
        """Read a bundle (the embedded default when left out) and open its networks.

        Parameters
        ----------
        log : file that every decision is appended to, see `DecisionLog`
        audit : also watches for drift, where the bundle's certificate is about its own policy
            and says how often that one disagreed with the reference

        Raises
        ------
        BundleError
            when the bundle cannot be served as it is.
        EngineError
            when the runtime refuses a network.
        InputError
            when the premodel needs features that cannot be computed; they are named. When the
            bucket's mean cannot be kept, or the log cannot be written.
        """
        read = Bundle.read(default_bundle() if bundle is None else bundle)
        chosen = policy or read.policy
        positions(chosen.candidates, read.names, "the bundle")
        names = (*chosen.candidates, *(() if audit is None else audit.names(read)))
        watchers = [*observers]
        if audit is not None and not any(isinstance(o, Monitor) for o in watchers):
            monitor = monitor_of(read.certificate if policy is None else None)
            watchers += [] if monitor is None else [monitor]
        networks = Networks.open(read, names, threads)
        try:
            router = cls(
                read,
                networks.engines,
                policy,
                extractor,
                max_pixels,
                bucket=bucket,
                audit=audit,
                observers=watchers,
            )
            if log is not None:
                router._watch.add(DecisionLog(log))
        except AdaptiveError:
            networks.close()
            raise
        return router

    def classify(
        self,
        image: ImageLike,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Prediction:
        """Answer one image.

        Parameters
        ----------
        image : encoded bytes, a path, or an ndarray (height, width, 3), uint8, RGB
        limits : deadline, energy and preference for this image
        explain : compute features and the premodel's votes even where the policy does not
        request_id : for the observers

        Raises
        ------
        ImageError
            when the image cannot be read or is over a limit.
        """
        began = perf_counter()
        photo = self._open(image)
        chances = self._judge([photo], explain)
        walk = self._drive([photo], chances, limits, began)
        photo.ms["total"] = (perf_counter() - began) * 1e3
        answers = self._predictions(walk, [photo], chances)
        self._watch.show([photo], answers, limits, request_id)
        return answers[0]

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
            own = limits.rows(slice(first, first + batch))
            chances = self._judge(photos, False)
            walk = self._drive(photos, chances, own, began)
            for photo in photos:
                photo.ms["total"] = sum(photo.ms.values())
            part = self._predictions(walk, photos, chances)
            self._watch.show(photos, part, own)
            answers += part
        return answers

    def choose(self, image: ImageLike, limits: Limits = UNLIMITED) -> str | None:
        """The candidate that the policy would start with, without running any; None abstains."""
        photo = self._open(image)
        chances = self._judge([photo], False)
        start = self.policy.affordable(self.policy.start(chances, 1, limits), (), limits)[0]
        return None if start == STOP else self.policy.candidates[start]

    def warm_up(self) -> None:
        """Run every network and the features once, so that the first image is not slow."""
        import io

        from PIL import Image

        side = max(self._short, 64)
        encoded = io.BytesIO()  # so that the decoder is loaded too
        Image.new("RGB", (side, side), (127, 127, 127)).save(encoded, "JPEG")
        photo = self._open(encoded.getvalue())
        self._judge([photo], True)
        for name in self._names:
            self._networks.run(name, [photo])

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

    def status(self) -> dict[str, Any]:
        """Where bucket, audits, drift and log stand, as JSON values; None for what there is not."""
        bucket = None if self.bucket is None else self.bucket.status()
        return {"bucket": bucket, **self._watch.status()}

    @property
    def drift(self) -> Monitor | None:
        """What watches for drift, or None."""
        return self._watch.drift

    def close(self) -> None:
        """Close the engines, and the log."""
        self._networks.close()
        self._watch.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Router({self.bundle.folder.name!r}, {self.policy!r})"

    def _open(self, image: ImageLike) -> Photo:
        return open_photo(image, self._short, self.max_pixels)

    def _judge(self, photos: Sequence[Photo], explain: bool) -> np.ndarray | None:
        """Features and the premodel's chances, where the policy or an explanation needs them."""
        if not self._feature_names or not (self.policy.needs_features or explain):
            return None
        self._extract(photos)
        if self.policy.premodel is None:
            return None
        began = perf_counter()
        chances = self.policy.chances(np.stack([p.features for p in photos]))  # type: ignore[misc]
        spent = (perf_counter() - began) * 1e3 / len(photos)
        for photo in photos:
            photo.ms["premodel"] = spent
        return chances

    def _extract(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            began = perf_counter()
            photo.features = features_of(photo, self._feature_names, self._extractor)
            photo.ms["features"] = (perf_counter() - began) * 1e3

    def _drive(
        self, photos: Sequence[Photo], chances: np.ndarray | None, limits: Limits, began: float
    ) -> Walk:
        """Carry the photos through the policy."""
        account = Account(photos, self.policy, self._energies, limits, began, self.bucket)
        try:
            walk = Walk(self.policy, len(photos), chances, account.left())
            while (step := walk.wanted()) is not None:
                chosen = [photos[row] for row in step.rows]
                output = self._networks.run(self.policy.candidates[step.candidate], chosen)
                walk.feed(step, output, account.left(step.rows))
        finally:
            account.close()
        return walk

    def _predictions(
        self, walk: Walk, photos: Sequence[Photo], chances: np.ndarray | None
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

    def _prediction(self, photo: Photo, history: History, values: np.ndarray | None) -> Prediction:
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
