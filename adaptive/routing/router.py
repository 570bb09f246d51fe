"""Answer images: decode, features, premodel, and networks as the policy asks for them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Iterable, Mapping, Sequence, Sized

import numpy as np

from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.candidate import positions
from adaptive.checks import finite, shown, whole
from adaptive.engines.choose import EngineChoice, EngineOptions, Engines
from adaptive.errors import InputError
from adaptive.images.decode import MAX_PIXELS, ImageLike
from adaptive.limits import UNLIMITED, Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import DecisionLog, Observer
from adaptive.monitoring.drift import Monitor, monitor_of
from adaptive.policy.base import STOP, Policy
from adaptive.policy.times import rescaled
from adaptive.policy.walk import Walk
from adaptive.prediction import Prediction
from adaptive.routing.account import Account, with_costs
from adaptive.routing.answering import Answering
from adaptive.routing.bucket import Bucket
from adaptive.routing.photo import (
    Extractor,
    Photo,
    computable,
    open_photo,
    timed_features,
    warm_up_image,
)
from adaptive.routing.regroup import Group, Regroup
from adaptive.routing.running import Networks, checked, ways_of
from adaptive.routing.spread import spread
from adaptive.routing.watch import Watch

#: So many of the bundle's labels are named in its description, each up to so many characters.
FIRST_LABELS, LONGEST_LABEL = 10, 100

#: Batches of images that `classify_batch` has on their way at most, finished ones among them.
MOST_GROUPS = 32

#: The same where finished images keep their pixels, because an audit may run on them.
MOST_AUDITED = 4


class Router:
    """Answer each image with the cheapest candidate that the policy trusts with it.

    Make one with `Router.load`. Several threads may use one router at the same time.

    Parameters
    ----------
    bundle : candidates, labels, policy
    engines : something that runs each candidate's network, by name; or `Networks` over them
    policy : instead of the bundle's own
    extractor : computes those features of the premodel that are a user's own
    max_pixels : larger images are refused before they are decoded
    bucket : caps the mean time or energy of an image; decoding, audits and what only an
        explanation needs are not counted
    audit : on which requests the reference is run as well
    observers : are shown every decision, after its answer is made
    threads : that decode the images of a batch and compute their features

    Raises
    ------
    InputError
        when a network that the policy or an audit may ask is not among the engines, or an
        argument is not what it is to be.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Any] | Networks,
        policy: Policy | None = None,
        extractor: Extractor | None = None,
        max_pixels: int = MAX_PIXELS,
        *,
        bucket: Bucket | None = None,
        audit: Audit | None = None,
        observers: Iterable[Observer] = (),
        threads: int = 1,
    ) -> None:
        from adaptive.images.preprocess import needed_short

        if not isinstance(bundle, Bundle):
            raise InputError(f"bundle {shown(bundle)} is no Bundle; Bundle.read(FOLDER) makes one")
        given = bundle.policy if policy is None else policy
        _check_kinds(given, bucket, audit)
        observers = _check_called(extractor, observers)
        positions(given.candidates, bundle.names, "the bundle")
        opened = engines if isinstance(engines, Networks) else Networks(bundle, checked(engines))
        opened.check_open(
            (*given.candidates, *(() if audit is None else audit.names(bundle))), ways_of(given)
        )
        self._networks = opened
        self.bundle = bundle
        self.policy = given if bucket is None else with_costs(given, self._networks, bucket)
        self._measured = self.policy
        self.max_pixels = whole(max_pixels, "max_pixels", 1)
        self.bucket = bucket
        self._extractor = extractor
        self._threads = whole(threads, "threads", 1)
        self._energies = {c.name: c.mj or 0.0 for c in bundle.candidates}
        self._premodel = premodel = given.premodel or bundle.premodel
        self._feature_names = computable(premodel, given.needs_features, extractor)
        self._own_features = () if premodel is None else premodel.own_features
        self._answering = Answering(self.policy, bundle.labels, self._feature_names)
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
        engine: str | EngineOptions = "auto",
    ) -> Router:
        """Read a bundle (the embedded default when left out) and open its networks.

        Parameters
        ----------
        threads : inside a network, and for the images of a batch; 1 where several threads of the
            program call the router, the number of cores where one does
        log : file that every decision is appended to, see `DecisionLog`
        audit : also watches for drift, where the bundle's certificate is about its own policy
            and says how often that one disagreed with the reference
        engine : what runs the networks: "auto" (the best that really runs here), "onnx", "cuda",
            "tensorrt-provider" or "tensorrt"; `EngineOptions` says more

        Raises
        ------
        BundleError
            when the bundle cannot be served as it is.
        EngineError
            when the engine does not run here, or refuses a network.
        InputError
            when the premodel needs features of a user's own and there is no extractor; they are
            named. When the
            bucket's mean cannot be kept, or the log cannot be written.
        """
        read = Bundle.read(default_bundle() if bundle is None else bundle)
        chosen = read.policy if policy is None else policy
        _check_kinds(chosen, bucket, audit)
        watchers = list(_check_called(extractor, observers))
        positions(chosen.candidates, read.names, "the bundle")
        names = (*chosen.candidates, *(() if audit is None else audit.names(read)))
        if audit is not None and not any(isinstance(o, Monitor) for o in watchers):
            monitor = monitor_of(read.certificate if policy is None else None)
            watchers += [] if monitor is None else [monitor]
        whole = audit is not None
        options = engine if isinstance(engine, EngineOptions) else EngineOptions(engine)
        ways = ways_of(chosen)
        networks = Networks.open(read, names, threads, ways, whole, Engines(options))
        try:
            router = cls(
                read,
                networks,
                policy,
                extractor,
                max_pixels,
                bucket=bucket,
                audit=audit,
                observers=watchers,
                threads=threads,
            )
            if log is not None:
                router._watch.add(DecisionLog(log))
        except BaseException:
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
        explain : compute features and the premodel's votes even where the policy does not, and
            say more in the prediction's `explanation`. What the policy does not need is computed
            after its answer is decided, so the answer is the same with and without.
        request_id : for the observers

        Raises
        ------
        ImageError
            when the image cannot be read or is over a limit.
        """
        began = perf_counter()
        _check_limits(limits, 1)
        photos, chances = self._judge([self._open(image)])
        walk, photo = self._drive(photos[0], chances, limits, began)
        votes = None
        if explain:
            photo, votes = self._voted(photo)
        photo = photo.timed("total", (perf_counter() - began) * 1e3)
        answers = self._answering.predictions(walk, [photo])
        self._watch.show([photo], answers, walk, limits, request_id)
        return self._explained(answers[0], votes, walk, photo, limits) if explain else answers[0]

    def classify_batch(
        self,
        images: Iterable[ImageLike],
        limits: Limits = UNLIMITED,
        batch: int = 32,
        regroup: bool = True,
    ) -> list[Prediction]:
        """Answer several images, running each network on up to `batch` of them at once.

        The answers are those of `classify`; `ms` holds each image's share of its batches.

        Parameters
        ----------
        limits : as for `classify`. A deadline is each batch's, from when its first image is
            decoded, and its images share it: a candidate is started where its upper time fits as
            many times as there are images. Energy and allowance are each image's own.
        regroup : let images wait for later ones that need the same network or exit, so that
            batches are full although images stop at different depths. Nobody waits where there
            is a deadline, which would run on meanwhile, or a bucket, whose tokens they would
            hold.
        """
        batch = whole(batch, "batch", 1)
        if isinstance(images, np.ndarray) and images.ndim < 4:
            raise InputError(f"an array of shape {images.shape} is one image; give a list, [image]")
        if not isinstance(images, Iterable):
            raise InputError(f"{shown(images)} is no list of images; give [image] for a single one")
        _check_limits(limits, len(images) if isinstance(images, Sized) else None)
        waits = regroup and self.bucket is None and bool(np.all(limits.remaining_ms == np.inf))
        audits = self._watch.audit is not None
        groups = (MOST_AUDITED if audits else MOST_GROUPS) if waits else 1
        crowd = Regroup(self.policy, self._networks, batch, groups, forget=not audits)
        answers: list[Prediction] = []
        pending, begun = iter(images), 0
        try:
            while chunk := list(islice(pending, batch)):
                answers += self._answered(crowd.room(), limits, len(answers))
                self._admit(crowd, chunk, limits.rows(slice(begun, begun + len(chunk))))
                begun += len(chunk)
            answers += self._answered(crowd.drain(), limits, len(answers))
        finally:
            crowd.close()
        return answers

    def all_exits(
        self, images: Iterable[ImageLike], last: str, batch: int = 32
    ) -> dict[str, np.ndarray]:
        """What every exit up to `last` says of the images, each segment run once.

        Returns
        -------
        By candidate, first exit first, ndarray (n, classes), float32.

        Raises
        ------
        InputError
            when an exit is not in the bundle, or the router's policy never asks it, so that it
            is not open.
        """
        positions([last], self.bundle.names, "the bundle")
        chain = self._networks.chains[last]
        missing = [name for name in chain if name not in self._networks.engines]
        if missing:
            raise InputError(
                f"{missing} are not open, since this router's policy never asks them; load it "
                f"with policy=Cascade({chain}, thresholds=...), which asks all of them"
            )
        batch = whole(batch, "batch", 1)
        found: dict[str, list[np.ndarray]] = {name: [] for name in chain}
        pending = iter(images)
        while chunk := list(islice(pending, batch)):
            photos = [self._open(image) for image in chunk]
            for name in chain:
                photos, output = self._networks.run(name, photos)
                assert output.probabilities is not None
                found[name].append(output.probabilities)
        empty = np.zeros((0, len(self.bundle.labels)), np.float32)
        return {name: np.concatenate(parts or [empty]) for name, parts in found.items()}

    def choose(self, image: ImageLike, limits: Limits = UNLIMITED) -> str | None:
        """The candidate that the policy would start with, without running any; None abstains."""
        _, chances = self._judge([self._open(image)])
        start = self.policy.affordable(self.policy.start(chances, 1, limits), (), limits)[0]
        return None if start == STOP else self.policy.candidates[start]

    def warm_up(self, also: Iterable[str] = ()) -> None:
        """Run every network and the features once, so that the first image is not slow.

        also : candidates that the policy does not ask
        """
        photo = self._open(warm_up_image(self._short))
        self._judge([photo])
        self._voted(photo)
        self._networks.warm_up((*self._names, *also), photo)

    def describe(self) -> dict[str, Any]:
        """The bundle as JSON values: candidates, policy, certificate, and what runs it."""
        from adaptive.policy.files import policy_to_json

        choice = self.engine
        return {
            "candidates": [
                {
                    "name": c.name,
                    "ms": c.ms,
                    "after": c.after,
                    "sha256": c.sha256,
                    "untrained": c.untrained,
                }
                for c in self.bundle.candidates
            ],
            "labels": len(self.bundle.labels),
            "first_labels": [label[:LONGEST_LABEL] for label in self.bundle.labels[:FIRST_LABELS]],
            "embedded": self.bundle.embedded,
            "reference": self.bundle.reference,
            "policy": policy_to_json(self.policy),
            "features": list(self._feature_names),
            "certificate": self.bundle.certificate,
            "board": dict(self.bundle.board),
            "engine": None if choice is None else choice.to_json(),
        }

    @property
    def engine(self) -> EngineChoice | None:
        """Which engine runs the networks, and why; None where the engines were handed over."""
        return self._networks.choice

    def status(self) -> dict[str, Any]:
        """Where bucket, audits, drift, log and board stand, as JSON; None for what there is not."""
        bucket = None if self.bucket is None else self.bucket.status()
        return {"bucket": bucket, **self._watch.status()}

    @property
    def drift(self) -> Monitor | None:
        """What watches for drift, or None."""
        return self._watch.drift

    def add_observer(self, observer: Observer) -> None:
        """Show decisions to one more observer."""
        _check_called(None, [observer])
        self._watch.add(observer)

    def rescale(self, factors: Mapping[str, float]) -> None:
        """Multiply the policy's times as they were measured, by candidate; all stay with {}.

        For a board that is slower now, or faster. What is promised of the answers stays true:
        see `adaptive.policy.times`.
        """
        if not isinstance(factors, Mapping):
            raise InputError(f"factors {shown(factors)} is no mapping from a candidate to a number")
        for name, factor in factors.items():
            if not finite(factor, f"the factor of {name!r}") > 0:
                raise InputError(f"the factor of {name!r}, {factor:g}, is not above 0")
        self.policy = rescaled(self._measured, factors)

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
        extracted = self._extractor is not None
        return open_photo(image, self._short, self.max_pixels, extracted)

    def _judge(self, photos: Sequence[Photo]) -> tuple[Sequence[Photo], np.ndarray | None]:
        """Features and the premodel's chances, where the policy needs them."""
        if not self._feature_names or not self.policy.needs_features:
            return photos, None
        photos = self._extract(photos)
        if self.policy.premodel is None:
            return photos, None
        began = perf_counter()
        chances = self.policy.chances(np.stack([p.features for p in photos]))  # type: ignore[misc]
        spent = (perf_counter() - began) * 1e3 / len(photos)
        return [photo.timed("premodel", spent) for photo in photos], chances

    def _voted(self, photo: Photo) -> tuple[Photo, dict[str, float] | None]:
        """The bundle's premodel's numbers where the policy has none, and what they took."""
        from adaptive.features.schema import SCHEMA

        premodel = self._premodel
        if premodel is None or not self._feature_names or self.policy.needs_features:
            return photo, None
        (photo,) = self._extract([photo])
        if premodel.schema_version not in (None, SCHEMA.version):
            return photo, None  # it learned from features that were computed otherwise
        began = perf_counter()
        chances = premodel.predict(photo.features[np.newaxis])[0]  # type: ignore[index]
        photo = photo.timed("premodel", (perf_counter() - began) * 1e3)
        known = zip(premodel.candidates, chances.tolist())
        return photo, {name: chance for name, chance in known if name in self.bundle.names}

    def _extract(self, photos: Sequence[Photo]) -> list[Photo]:
        return spread(self._extract_one, photos, self._threads)

    def _extract_one(self, photo: Photo) -> Photo:
        found = timed_features(photo, self._feature_names, self._own_features, self._extractor)
        return photo.described(*found)

    def _drive(
        self, photo: Photo, chances: np.ndarray | None, limits: Limits, began: float
    ) -> tuple[Walk, Photo]:
        """Carry one photo through the policy."""
        photos = [photo]
        account = Account(photos, self.policy, self._energies, limits, began, self.bucket)
        try:
            walk = Walk(self.policy, 1, chances, account.left(photos))
            while (step := walk.wanted()) is not None:
                name = self.policy.candidates[step.candidate]
                photos, output = self._networks.run(name, photos)
                walk.feed(step, output, account.left(photos, step.rows))
        finally:
            account.close(photos)
        return walk, photos[0]

    def _admit(self, crowd: Regroup, images: Sequence[ImageLike], limits: Limits) -> None:
        """Decode and judge images, and let them in."""
        began = perf_counter()
        photos, chances = self._judge(spread(self._open, images, self._threads))
        account = Account(photos, self.policy, self._energies, limits, began, self.bucket)
        crowd.admit(photos, chances, account)

    def _explained(
        self,
        answer: Prediction,
        votes: dict[str, float] | None,
        walk: Walk,
        photo: Photo,
        limits: Limits,
    ) -> Prediction:
        from adaptive.routing.explanation import explain

        votes = answer.votes if votes is None else votes
        premodel = None if votes is None else self._premodel
        told = explain(
            walk.policy,
            premodel,
            tuple(votes or ()),
            self.bundle.labels,
            walk,
            photo,
            self._feature_names,
            limits,
        )
        return replace(answer, votes=votes, explanation=told)

    def _answered(self, groups: Iterable[Group], limits: Limits, first: int) -> list[Prediction]:
        """The answers of groups that are done, the first of which begin with image `first`."""
        answers: list[Prediction] = []
        for group in groups:
            photos = [photo.timed("total", sum(photo.ms.values())) for photo in group.photos]
            part = self._answering.predictions(group.walk, photos)
            begin = first + len(answers)
            own = limits.rows(slice(begin, begin + len(part)))
            self._watch.show(photos, part, group.walk, own)
            answers += part
        return answers


def _check_kinds(policy: Any, bucket: Any, audit: Any) -> None:
    """Refuse what is taken for something else, before anything is opened."""
    for name, value, kind in (
        ("policy", policy, Policy),
        ("bucket", bucket, Bucket),
        ("audit", audit, Audit),
    ):
        if value is not None and not isinstance(value, kind):
            raise InputError(
                f"{name} {shown(value)} is no {kind.__name__}; make one, and give that"
            )


def _check_called(extractor: Any, observers: Any) -> tuple[Observer, ...]:
    """The observers, where they and the extractor can be called as they will be."""
    if extractor is not None and not callable(extractor):
        raise InputError(f"extractor {shown(extractor)} cannot be called with an image")
    if not isinstance(observers, Iterable):
        raise InputError(f"observers {shown(observers)} is no list of observers")
    found = tuple(observers)
    for observer in found:
        if not callable(getattr(observer, "observe", None)):
            raise InputError(f"observer {shown(observer)} has no method observe(decision)")
    return found


def _check_limits(limits: Any, count: int | None) -> None:
    """Refuse what are no limits, or none for so many images; None where that is not known."""
    if not isinstance(limits, Limits):
        raise InputError(f"limits {shown(limits)} is no Limits; Limits(remaining_ms=40) is one")
    for name in ("remaining_ms", "remaining_mj", "allowance_ms"):
        value = getattr(limits, name)
        if not isinstance(value, np.ndarray) or not value.ndim or count in (None, len(value)):
            continue
        raise InputError(
            f"{name} has {len(value)} numbers for {count} images; give one for each, or one for all"
        )
