"""Answer images: decode, features, premodel, and networks as the policy asks for them."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence, Sized

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.bundle.outputs import check_policy, require_task
from adaptive.candidate import InputSpec, positions
from adaptive.checks import finite, shown, whole
from adaptive.engines.choose import EngineChoice, EngineOptions
from adaptive.errors import InputError
from adaptive.images.decode import MAX_PIXELS, ImageLike
from adaptive.images.decoded import DecodedImage, decode_image, warm_up_image
from adaptive.images.preprocess import needed_short
from adaptive.limits import UNLIMITED, Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.conditions import ConditionMonitor
from adaptive.monitoring.decisions import DecisionLog, Observer
from adaptive.monitoring.drift import Monitor
from adaptive.policy.base import Policy
from adaptive.policy.spending import STOP
from adaptive.policy.times import rescaled
from adaptive.policy.walk import Walk
from adaptive.prediction import Prediction
from adaptive.routing.account import Account, with_costs
from adaptive.routing.answering import Answering
from adaptive.routing.batches import MOST_AUDITED, MOST_COHORTS, Batches, exits_of
from adaptive.routing.bucket import Bucket
from adaptive.routing.description import conditions_told, description
from adaptive.routing.extractors import Extractor
from adaptive.routing.judging import Judging
from adaptive.routing.models import Modelled, check_answers, open_models
from adaptive.routing.offloop import OffLoop
from adaptive.routing.opening import (
    check_called,
    check_kinds,
    check_limits,
    open_bundle,
)
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks, checked, ways_of
from adaptive.routing.scheduler import Scheduler
from adaptive.routing.tiled import TiledNetworks, tile_states
from adaptive.routing.watch import Watch
from adaptive.video.gate import FrameGate
from adaptive.video.stream import Stream, Ways, classify_streams
from adaptive.video.streams import Streams
from adaptive.video.view import View

if TYPE_CHECKING:
    from adaptive.engines.tiles.state import Thresholds
    from adaptive.routing.detecting import BoxAnswering
    from adaptive.tasks.detections import Detections


class Router(OffLoop):
    """Answer each image with the cheapest candidate that the policy trusts with it.

    Make one with `Router.load`, or with `Router.of` from a program's own callables. Several
    threads may use one router at the same time.

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
    workers : calls of `aclassify` that run at a time; one for each core when left out

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
        workers: int | None = None,
    ) -> None:
        super().__init__(None if workers is None else whole(workers, "workers", 1))
        if not isinstance(bundle, Bundle):
            raise InputError(f"bundle {shown(bundle)} is no Bundle; Bundle.read(FOLDER) makes one")
        given = bundle.policy if policy is None else policy
        check_kinds(given, bucket, audit)
        observers = check_called(extractor, observers)
        positions(given.candidates, bundle.names, "the bundle")
        check_policy(given, bundle.task)
        opened = engines if isinstance(engines, Networks) else Networks(bundle, checked(engines))
        check_answers(given, opened, audit, observers)
        opened.check_open(
            (*given.candidates, *(() if audit is None else audit.names(bundle))), ways_of(given)
        )
        self._networks = opened
        self._streams = Streams()
        self._tiles = TiledNetworks(opened)  # which cuts them when a stream asks for it
        self.bundle = bundle
        self.policy = given if bucket is None else with_costs(given, self._networks, bucket)
        self._measured = self.policy
        self.max_pixels = whole(max_pixels, "max_pixels", 1)
        self.bucket = bucket
        self._threads = whole(threads, "threads", 1)
        self._energies = {c.name: c.mj or 0.0 for c in bundle.candidates}
        self._judging = Judging(bundle, given, extractor, self._threads)
        self._answering = Answering(bundle.labels, self._judging.names)
        self._detects = bundle.task == "detect"
        self._boxes: BoxAnswering | None = None  # made when boxes are asked for
        self._watch = Watch(bundle, given, opened, self._judging, audit, tuple(observers))
        self._names = tuple(dict.fromkeys((*given.candidates, *self._watch.audited)))
        firsts = [bundle.candidate(opened.chains[name][0]) for name in self._names]
        self._short = max(needed_short(candidate.input) for candidate in firsts)
        seen = [bundle.candidate(opened.chains[name][0]).input for name in given.candidates]
        self.view = View.of(seen, whole=self._judging.needed)
        native = extractor is not None
        self.decode = partial(
            decode_image,
            networks_short=self._short,
            max_pixels=self.max_pixels,
            native=native,
            sized=self._detects,
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
        workers: int | None = None,
    ) -> Router:
        """Read a bundle (the embedded default when left out) and open its networks.

        Parameters
        ----------
        threads : inside a network, and for the images of a batch; 1 where several threads of the
            program call the router, the number of cores where one does
        log : file that every decision is appended to, see `DecisionLog`
        audit : also watches for drift, where the bundle's certificate is about its own policy
            and says how often that one disagreed with the reference; and for other conditions,
            where the premodel knows them and the bundle says how common each was
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
            named. When the bucket's mean cannot be kept, or the log cannot be written.
        """
        check_kinds(policy, bucket, audit)
        watchers = check_called(extractor, observers)
        opened = open_bundle(bundle, policy, audit, watchers, engine, threads)
        try:
            router = cls(
                opened.bundle,
                opened.networks,
                policy,
                extractor,
                max_pixels,
                bucket=bucket,
                audit=audit,
                observers=opened.observers,
                threads=threads,
                workers=workers,
            )
            if log is not None:
                router._watch.add(DecisionLog(log))
        except BaseException:
            opened.networks.close()
            raise
        return router

    @classmethod
    def of(
        cls,
        models: Mapping[str, Modelled],
        labels: Sequence[str] | None = None,
        *,
        policy: Policy | None = None,
        input: InputSpec | None = None,
        output: str = "probabilities",
        reference: str | None = None,
        extractor: Extractor | None = None,
        threads: int = 1,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        bucket: Bucket | None = None,
        audit: Audit | None = None,
        observers: Iterable[Observer] = (),
        check: bool | Sequence[ImageLike] = True,
    ) -> Router:
        """Route among callables of your own: torch modules, functions, wrappers, remote calls.

        Parameters
        ----------
        models : by candidate's name, cheapest first, what answers a batch of images; a `Model`
            says more of one, such as an input or output that the others have not
        labels : class names, in the order of the answers; None for `output` "answers"
        policy : the last candidate answers every image when left out
        input : how an image is prepared, as in a manifest; None gives a list of images as they
            are, each (height, width, 3), uint8, RGB
        output : what a call returns, "probabilities" or "logits" (n, classes), or "answers": a
            list of (answer, confidence), which become the prediction's `answer` and `score`
        reference : what accuracy is compared with; the last candidate when left out
        check : call each once and refuse answers that are not as said: with two made images, or
            with images of your own; False calls nobody

        Raises
        ------
        InputError
            when a model answers with something else than it says, or the policy cannot go by it.
        EngineError
            when a model fails on the made images.
        """
        check_kinds(policy, bucket, audit)
        bundle, networks = open_models(
            models, labels, policy, reference, input, output, check, max_pixels
        )
        return cls(
            bundle,
            networks,
            policy,
            extractor,
            max_pixels,
            bucket=bucket,
            audit=audit,
            observers=observers,
            threads=threads,
            workers=workers,
        )

    def classify(
        self,
        image: ImageLike | DecodedImage,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Prediction:
        """Answer one image.

        Parameters
        ----------
        image : encoded bytes, a path, an open file, a Pillow image, an ndarray
            (height, width, 3), uint8, RGB, or what `decode` made of one
        limits : deadline, energy and preference for this image
        explain : compute features and the premodel's votes even where the policy does not, and
            say more in the prediction's `explanation`. What the policy does not need is computed
            after its answer is decided, so the answer is the same with and without.
        request_id : for the observers

        Raises
        ------
        ImageError
            when the image cannot be read or is over a limit.
        InputError
            when the bundle finds boxes; see `detect`.
        """
        if self._detects:
            require_task(self.bundle.folder.name, self.bundle.task, "classify")
        began = perf_counter()
        walk, photo, features = self._drive(image, limits, began)
        votes = None
        if explain and (voted := self._judging.vote(photo)) is not None:
            photo, features, votes = voted
        total_ms = (perf_counter() - began) * 1e3
        own = None if features is None else features[0]
        (route,) = walk.routes
        answer = self._answering.prediction(walk, route, 0, photo, own, total_ms)
        if self._watch.watching:
            self._watch.show([photo], [answer], walk, limits, request_id)
        if not explain:
            return answer
        from adaptive.routing.explanation import explanation_of

        votes = answer.votes if votes is None else votes
        labels = self.bundle.labels
        explanation = explanation_of(walk, photo, own, votes, self._judging, labels, limits)
        return replace(answer, votes=votes, explanation=explanation)

    def detect(
        self,
        image: ImageLike | DecodedImage,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Detections:
        """Find the objects in one image.

        Parameters
        ----------
        image, limits, request_id : as for `classify`
        explain : compute features and the premodel's votes even where the policy does not

        Returns
        -------
        Boxes in pixels of the upright image, with scores, classes and labels, and which candidate
        found them, at what cost and why. They are shown by the package supervision as
        `supervision.Detections(xyxy=d.boxes, confidence=d.scores, class_id=d.classes)`.

        Raises
        ------
        ImageError
            when the image cannot be read or is over a limit.
        InputError
            when the bundle classifies; see `classify`.
        """
        require_task(self.bundle.folder.name, self.bundle.task, "detect")
        from adaptive.routing.detecting import BoxAnswering, as_prediction

        began = perf_counter()
        walk, photo, features = self._drive(image, limits, began)
        votes = None
        if explain and (voted := self._judging.vote(photo)) is not None:
            photo, features, votes = voted
        total_ms = (perf_counter() - began) * 1e3
        own = None if features is None else features[0]
        (route,) = walk.routes
        if self._boxes is None:
            self._boxes = BoxAnswering.of(self.bundle, self._judging.names)
        answer = self._boxes.detections(walk, route, 0, photo, own, total_ms)
        if self._watch.watching:
            said = as_prediction(answer)
            self._watch.show([photo], [said], walk, limits, request_id, [answer])
        return answer if votes is None else replace(answer, votes=votes)

    def stream(
        self,
        name: str = "camera",
        gate: FrameGate | None = None,
        tiles: Thresholds | float | None = None,
    ) -> Stream:
        """One camera's state: it answers a frame in which nothing changed without computing it.

        Parameters
        ----------
        name : of the camera; the same name gives the same stream until that is closed
        gate : what still counts as the same frame; see `adaptive.video.gate`
        tiles : of a frame that is computed, compute only the tiles that changed, layer by layer;
            from which difference on they did, see `adaptive.engines.tiles.state`. At 0 the
            answers are those of computing everything. None computes everything. For a stream that
            is open already it changes nothing.

        Raises
        ------
        InputError
            when too many streams are open, or this one is with another gate; when no network can
            be cut into tiles.
        """
        ways = Ways(self.decode, self.classify, self.detect)
        if tiles is not None:
            ways = self._tiled_ways(tiles)
        return self._streams.open(name, gate, self.view, ways)

    def _tiled_ways(self, tiles: Thresholds | float) -> Ways:
        """What answers a stream's frames with networks that compute what changed."""
        own = copy.copy(self)
        own._networks = self._tiles.of(tiles)
        states = tuple(tile_states(own._networks).values())

        def classify(*asked: Any) -> Prediction:
            own.policy = self.policy  # which `rescale` may have changed
            return own.classify(*asked)

        def detect(*asked: Any) -> Detections:
            own.policy = self.policy
            return own.detect(*asked)

        def forget() -> None:
            for state in states:
                state.reset()

        return Ways(self.decode, classify, detect, forget, alone=True)

    def classify_streams(
        self,
        frames: Iterable[tuple[Stream, ImageLike]],
        limits: Limits = UNLIMITED,
        *,
        times_s: Sequence[float] | None = None,
    ) -> list[Prediction]:
        """Answer one frame of each of several streams, and compute what changed as one batch.

        Frames of streams with tiles are computed one by one, as each has maps of its own.

        Parameters
        ----------
        frames : streams of this router, each with its frame
        limits : as for `classify_batch`
        times_s : when each frame is shown; by the clock when left out

        Raises
        ------
        InputError, ImageError
            as `Stream.classify`; and when a stream is there twice.
        """
        return classify_streams(frames, self.classify_batch, limits, times_s)

    def _drive(
        self, image: ImageLike | DecodedImage, limits: Limits, began: float
    ) -> tuple[Walk, Photo, np.ndarray | None]:
        """Carry one image through the policy: its walk, what ran, and its features if it needs any.

        began : when its request did, by `perf_counter`
        """
        if limits is not UNLIMITED:
            check_limits(limits, 1)
        policy, networks = self.policy, self._networks
        decoded = image if isinstance(image, DecodedImage) else self.decode(image)
        photo, features, chances = Photo(decoded), None, None
        if self._judging.needed:
            (photo,), features, chances = self._judging.judge([photo])
        account = None
        if limits is not UNLIMITED or self.bucket is not None:
            account = self._account([photo], limits, began)
        try:
            left = UNLIMITED if account is None else account.left([photo])
            walk = Walk(policy, 1, chances, left)
            while (step := walk.wanted) is not None:
                name = policy.candidates[step.candidate]
                if name in networks.remote:
                    photo = networks.ask(name, photo, left)
                else:
                    (photo,) = networks.advance(networks.runs[name], [photo])
                left = UNLIMITED if account is None else account.left([photo], step.rows)
                if name in photo.done:
                    walk.feed(step, photo.done[name], left)
                else:
                    walk.lose(step, left)
        finally:
            if account is not None:
                account.close([photo])
        return walk, photo, features

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
        require_task(self.bundle.folder.name, self.bundle.task, "classify")
        batch = whole(batch, "batch", 1)
        if isinstance(images, np.ndarray) and images.ndim < 4:
            raise InputError(f"an array of shape {images.shape} is one image; give a list, [image]")
        if not isinstance(images, Iterable):
            raise InputError(f"{shown(images)} is no list of images; give [image] for a single one")
        check_limits(limits, len(images) if isinstance(images, Sized) else None)
        waits = regroup and self.bucket is None and bool(np.all(limits.remaining_ms == np.inf))
        audits = self._watch.audit is not None
        cohorts = (MOST_AUDITED if audits else MOST_COHORTS) if waits else 1
        scheduler = Scheduler(self.policy, self._networks, batch, cohorts, forget=not audits)
        batches = Batches(
            scheduler,
            self.decode,
            self._judging,
            self._account,
            self._answering,
            self._watch,
            self._threads,
        )
        return batches.answers(images, limits, batch)

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
        batch = whole(batch, "batch", 1)
        return exits_of(self._networks, last, map(self.decode, images), batch)

    def choose(self, image: ImageLike, limits: Limits = UNLIMITED) -> str | None:
        """The candidate that the policy would start with, without running any; None abstains."""
        chances = self._judging.judge([Photo(self.decode(image))]).chances
        start = self.policy.affordable(self.policy.start(chances, 1, limits), (), limits)[0]
        return None if start == STOP else self.policy.candidates[start]

    def warm_up(self, also: Iterable[str] = (), image: ImageLike | None = None) -> None:
        """Run every network and the features once, so that the first image is not slow.

        Parameters
        ----------
        also : candidates that the policy does not ask
        image : on which; on a grey one when left out
        """
        photo = Photo(self.decode(warm_up_image(self._short) if image is None else image))
        self._judging.judge([photo])
        self._judging.vote(photo)
        self._networks.warm_up((*self._names, *also), photo)

    def describe(self) -> dict[str, Any]:
        """The bundle as JSON values: candidates, policy, certificate, and what runs it."""
        told = description(self.bundle, self.policy, self._judging.names, self.engine)
        return {**told, "conditions": conditions_told(self.bundle, self.policy, self.conditions)}

    @property
    def networks(self) -> Networks:
        """The candidates' networks, open."""
        return self._networks

    @property
    def engine(self) -> EngineChoice | None:
        """Which engine runs the networks, and why; None where the engines were handed over."""
        return self._networks.choice

    def status(self) -> dict[str, Any]:
        """Where bucket and all that is watched stand, as JSON; None for what there is not.

        Candidates on other servers stand under "remote", where there are such.
        """
        bucket = None if self.bucket is None else self.bucket.status()
        remote = self._networks.elsewhere()
        return {"bucket": bucket, **self._watch.status(), **({"remote": remote} if remote else {})}

    @property
    def drift(self) -> Monitor | None:
        """What watches for drift, or None."""
        return self._watch.drift

    @property
    def conditions(self) -> ConditionMonitor | None:
        """What watches the conditions that images are taken under, or None."""
        return self._watch.conditions

    def add_observer(self, observer: Observer) -> None:
        """Show decisions to one more observer."""
        check_called(None, [observer])
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
        """Close the engines and the log, after what was asked from event loops is answered."""
        self._end_calls()
        self._networks.close()
        self._tiles.close()
        self._watch.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Router({self.bundle.folder.name!r}, {self.policy!r})"

    def _account(self, photos: Sequence[Photo], limits: Limits, began: float) -> Account:
        return Account(photos, self.policy, self._energies, limits, began, self.bucket)
