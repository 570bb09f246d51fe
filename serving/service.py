"""What stands between HTTP and the router: bundles that change, single candidates, counting."""

from __future__ import annotations

import logging
import math
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.bundle.outputs import require_task
from adaptive.errors import AdaptiveError, BusyError, DeadlineError, InputError
from adaptive.limits import UNLIMITED, Limits
from adaptive.monitoring.conditions import ConditionMonitor, condition_monitor_of
from adaptive.monitoring.drift import Monitor, monitor_of
from adaptive.monitoring.resuming import resumed
from adaptive.policy.history import Output
from adaptive.prediction import Prediction
from adaptive.routing import progress
from adaptive.routing.generation import Generation, Settings
from adaptive.serving.deadlines import limits_from
from adaptive.serving.metrics import Metrics
from adaptive.serving.model_statistics import Statistics
from adaptive.serving.protocols import (
    ROUTER,
    Headers,
    ModelState,
    ModelStatistics,
    StreamKey,
)
from adaptive.serving.readiness import Readiness
from adaptive.serving.record import current

if TYPE_CHECKING:
    from adaptive.tasks.detections import Detections

log = logging.getLogger("adaptive.serving")

#: How long a service that is closed waits for a bundle that is being loaded, seconds.
CLOSE_S = 1.0


class Service:
    """Answers images with the bundle that is served now, and counts what it does.

    Each request is answered by one bundle from its beginning to its end, also while another one
    takes its place.

    Parameters
    ----------
    folder : of the bundle; it is read again by `reload`
    settings : how bundles are served
    metrics : where it counts
    log : the decision log, beside which the state of what watches is kept

    Raises
    ------
    BundleError, EngineError, InputError
        when the bundle cannot be served as it is.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        log: Path | None = None,
    ) -> None:
        self.folder = folder
        self.settings = settings or Settings()
        self.metrics = metrics or Metrics()
        self.ready = Readiness("the networks are warming up")
        self._log = log
        self._reloading = threading.Lock()
        self._closing = False
        self._statistics = Statistics(self.metrics)
        self._drift = ExitStack()
        self._generation = self._open(None)
        self._drift.enter_context(resumed(self._generation.monitors, log))

    def __repr__(self) -> str:
        return f"Service({str(self.folder)!r}, {self.settings})"

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def generation(self) -> Generation:
        """The bundle that is served now."""
        return self._generation

    @property
    def labels(self) -> Sequence[str]:
        """Classes of the bundle that is served now."""
        with self._using() as generation:
            return generation.bundle.labels

    @property
    def task(self) -> str:
        """What the bundle that is served now does."""
        with self._using() as generation:
            return generation.bundle.task

    def warm_up(self) -> None:
        """Run every network once."""
        self._generation.warm_up()

    def classify(
        self,
        image: bytes,
        *,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
        stream: StreamKey | None = None,
    ) -> Prediction:
        """Answer one image; see `Router.classify`, and of a stream `Stream.classify`."""
        with self._using() as generation, self._statistics.request(ROUTER, 1):
            asked = generation if stream is None else generation.stream(*stream)
            answer = asked.classify(image, limits, explain, request_id)
        self._statistics.answer(answer)
        record = current()
        if record is not None:
            record.said = answer
        return answer

    def detect(
        self,
        image: bytes,
        *,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
        stream: StreamKey | None = None,
    ) -> Detections:
        """Find what is in one image; see `Router.detect`, and of a stream `Stream.detect`."""
        with self._using() as generation:
            require_task(generation.bundle.folder.name, generation.bundle.task, "detect")
            from adaptive.routing.detecting import as_prediction

            with self._statistics.request(ROUTER, 1):
                asked = generation if stream is None else generation.stream(*stream)
                found = asked.detect(image, limits, explain, request_id)
        answer = as_prediction(found)
        self._statistics.answer(answer)
        record = current()
        if record is not None:
            record.said = answer
        return found

    def classify_batch(
        self,
        images: Sequence[bytes],
        *,
        limits: Limits = UNLIMITED,
        request_id: str | None = None,
    ) -> list[Prediction]:
        """Answer several images of one request."""
        with self._using() as generation, self._statistics.request(ROUTER, len(images)):
            answers = generation.classify_batch(images, limits)
        for answer in answers:
            self._statistics.answer(answer)
        return answers

    def candidate(self, name: str) -> ServedCandidate | None:
        """One candidate of the bundle, asked by itself; None where it has none of that name."""
        with self._using() as generation:
            if name not in generation.bundle.names:
                return None
            return ServedCandidate(name, generation.bundle.labels, self._infer, self._found)

    def describe(self) -> dict[str, Any]:
        """What is served, as JSON values."""
        with self._using() as generation:
            return generation.describe()

    def models(self) -> Sequence[ModelState]:
        """The router, and every candidate of the bundle."""
        problem = self.ready.problem
        states = [ModelState(ROUTER, problem is None, problem or "")]
        with self._using() as generation:
            for name in generation.bundle.names:
                loaded = name in generation.alone
                states.append(ModelState(name, loaded, "" if loaded else "not loaded"))
        return states

    def load(self, name: str) -> None:
        """Have a candidate answer by itself; read the bundle again for "adaptive".

        Raises
        ------
        InputError
            when there is no such candidate.
        BundleError, EngineError
            when it cannot be opened, or the bundle cannot be served.
        """
        progress.expect(math.inf)
        if name == ROUTER:
            self.reload()
            return
        with self._using() as generation:
            self._known(generation, name)
            generation.load(name)

    def unload(self, name: str) -> None:
        """Have a candidate answer by itself no more; the router asks it all the same.

        Raises
        ------
        InputError
            when there is no such candidate, or it is the router.
        """
        if name == ROUTER:
            raise InputError("the router cannot be unloaded; stop the server instead")
        progress.expect(math.inf)  # it may wait for one that is being loaded
        with self._using() as generation:
            self._known(generation, name)
            generation.alone.unload(name)

    def reload(self) -> None:
        """Read the bundle again, warm it up beside the one that is served, and change over.

        Requests that have begun end with the old one, which is closed after the last of them.
        When anything fails the old one goes on as if nothing had been asked.

        Raises
        ------
        BundleError, EngineError, InputError
            when the new one cannot be served.
        """
        with self._reloading:
            if self._closing:
                raise BusyError("the server is stopping")
            began = perf_counter()
            old = self._generation
            try:
                fresh = self._open(old)
                try:
                    fresh.warm_up()
                    if self._closing:
                        raise BusyError("the server is stopping")
                except BaseException:
                    fresh.retire()
                    raise
            except Exception as error:
                self.metrics.reload("failed")
                why = error if isinstance(error, AdaptiveError) else repr(error)
                log.error("the bundle was not loaded, and the last one is served on: %s", why)
                raise
            self._generation = fresh
            old.retire()
            if fresh.monitors != old.monitors:
                self._drift.close()
                self._drift.enter_context(resumed(fresh.monitors, self._log))
            self.metrics.reload("loaded")
            spent = perf_counter() - began
            log.warning("bundle %s is served now, loaded in %.2f s", fresh.hashes[0], spent)

    def statistics(self) -> Mapping[str, ModelStatistics]:
        """What each model has done since the server started."""
        return self._statistics.statistics([state.name for state in self.models()])

    def limits_from(self, headers: Headers) -> Limits:
        """What a request's headers allow; see `deadlines.limits_from`."""
        return limits_from(headers)

    def close(self) -> None:
        """Close what is served, once nobody uses it; a bundle that is being loaded is left."""
        self._closing = True
        loaded = self._reloading.acquire(timeout=CLOSE_S)
        try:
            self._generation.retire()
            self._drift.close()
        finally:
            if loaded:
                self._reloading.release()

    def _open(self, old: Generation | None) -> Generation:
        def monitor(bundle: Bundle) -> Monitor | None:
            # The same promise is watched on; a fresh start would be a fresh chance of an error.
            if old is not None and old.bundle.certificate == bundle.certificate:
                return old.monitor
            return monitor_of(bundle.certificate)

        def conditions(bundle: Bundle) -> ConditionMonitor | None:
            if self.settings.audit is None and not bundle.policy.needs_features:
                return None  # no image's features would be known
            made = condition_monitor_of(bundle)
            last = None if old is None else old.conditions
            return last if made is not None and made.watches_as(last) else made

        watched = monitor if self.settings.audit is not None else lambda _: None
        return Generation(self.folder, self.settings, watched, self._statistics.run, conditions)

    @contextmanager
    def _using(self) -> Iterator[Generation]:
        """The bundle that this thread's request is answered with."""
        record = current()
        if record is None:
            generation = self._take()
            try:
                yield generation
            finally:
                generation.release()
            return
        if record.generation is None:
            record.generation = self._take()
        yield record.generation

    def _take(self) -> Generation:
        while True:
            generation = self._generation
            if generation.acquire():
                return generation
            if generation is self._generation:
                raise BusyError("the server is stopping")

    def _known(self, generation: Generation, name: str) -> None:
        if name not in generation.bundle.names:
            raise InputError(
                f"there is no model {name[:80]!r}; there are {[ROUTER, *generation.bundle.names]}"
            )

    def _infer(self, name: str, images: Sequence[bytes], limits: Limits) -> np.ndarray:
        with self._using() as generation:
            require_task(generation.bundle.folder.name, generation.bundle.task, "classify")
        output = self._ask(name, images, limits)
        assert output.probabilities is not None
        return output.probabilities

    def _found(self, name: str, image: bytes, limits: Limits) -> Detections:
        with self._using() as generation:
            bundle = generation.bundle
            require_task(bundle.folder.name, bundle.task, "detect")
            from adaptive.routing.detecting import least_of, named

            output = self._ask(name, [image], limits)
            assert output.boxes is not None
            return named(output.boxes[0].above(least_of(bundle)[name]), bundle.labels)

    def _ask(self, name: str, images: Sequence[bytes], limits: Limits) -> Output:
        """What one candidate says of images; counted."""
        with self._using() as generation, generation.alone.lease(name):
            with self._statistics.request(name, len(images)):
                began = perf_counter()
                photos = generation.photos(name, images)
                decoded = perf_counter()
                left = np.min(limits.remaining_ms) - (decoded - began) * 1e3
                if left <= 0:
                    raise DeadlineError("the answer was due before a network could run")
                if limits.remaining_ms != math.inf:
                    limits = Limits(float(left), preference=limits.preference)
                output = generation.run(name, photos, limits)
            self._statistics.spent(
                name,
                compute_input=decoded - began,
                compute_infer=perf_counter() - decoded,
                compute_output=0.0,
            )
            return output


class ServedCandidate:
    """One candidate of the served bundle, asked by itself.

    Parameters
    ----------
    name, labels : of the candidate
    infer : asks it
    found : asks it for boxes
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        infer: Callable[[str, Sequence[bytes], Limits], np.ndarray],
        found: Callable[[str, bytes, Limits], Detections],
    ) -> None:
        self.name = name
        self.labels = labels
        self._infer = infer
        self._found = found

    def __repr__(self) -> str:
        return f"ServedCandidate({self.name!r})"

    def infer(
        self,
        images: Sequence[bytes],
        *,
        limits: Limits = UNLIMITED,
        request_id: str | None = None,
    ) -> np.ndarray:
        """Probabilities of shape (n, classes), float32.

        Raises
        ------
        ImageError
            when an image cannot be read.
        InputError
            when the candidate is not loaded.
        DeadlineError
            when the answer would come too late.
        """
        return self._infer(self.name, images, limits)

    def detect(
        self, image: bytes, *, limits: Limits = UNLIMITED, request_id: str | None = None
    ) -> Detections:
        """What it finds in one image; errors as of `infer`."""
        return self._found(self.name, image, limits)
