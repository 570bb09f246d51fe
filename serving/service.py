"""What stands between HTTP and the router: bundles that change, single candidates, counting."""

from __future__ import annotations

import logging
import math
import re
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, time
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np

from adaptive.bundle import Bundle
from adaptive.errors import AdaptiveError, BusyError, DeadlineError, InputError
from adaptive.limits import PREFERENCES, UNLIMITED, Limits
from adaptive.monitoring.drift import Monitor, monitor_of, resumed
from adaptive.prediction import Prediction
from adaptive.serving import families
from adaptive.serving.generation import Generation, Settings
from adaptive.serving.metrics import Metrics
from adaptive.serving.protocols import ROUTER, Duration, Headers, ModelState, ModelStatistics
from adaptive.serving.readiness import Readiness
from adaptive.serving.record import current

log = logging.getLogger("adaptive.serving")

#: Headers by which a request says when its answer is due, and what its sender prefers.
DEADLINE, PREFER = "X-Deadline-Ms", "X-Prefer"

#: A number of milliseconds as people write it; a day is the longest deadline.
_NUMBER = re.compile(r"[0-9]{1,8}(\.[0-9]{1,6})?")
_LONGEST_MS = 86_400_000.0

_STEPS = ("decode", "features", "premodel")


class Service:
    """Answers images with the bundle that is served now, and counts what it does.

    Each request is answered by one bundle from its beginning to its end, also while another one
    takes its place.

    Parameters
    ----------
    folder : of the bundle; it is read again by `reload`
    settings : how bundles are served
    metrics : where it counts
    log : the decision log, beside which the state of the drift monitor is kept

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
        self._last: dict[str, int] = {}
        self._drift = ExitStack()
        self._generation = self._open(None)
        self._drift.enter_context(resumed(self._generation.monitor, log))

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
    ) -> Prediction:
        """Answer one image; see `Router.classify`."""
        with self._using() as generation, self._counted(ROUTER, 1):
            answer = generation.classify(image, limits, explain, request_id)
        self._count(answer, generation)
        return answer

    def classify_batch(
        self,
        images: Sequence[bytes],
        *,
        limits: Limits = UNLIMITED,
        request_id: str | None = None,
    ) -> list[Prediction]:
        """Answer several images of one request."""
        with self._using() as generation, self._counted(ROUTER, len(images)):
            answers = generation.router.classify_batch(images, limits)
        for answer in answers:
            self._count(answer, generation)
        return answers

    def candidate(self, name: str) -> Candidate | None:
        """One candidate of the bundle, asked by itself; None where it has none of that name."""
        with self._using() as generation:
            if name not in generation.bundle.names:
                return None
            return Candidate(name, generation.bundle.labels, self._infer)

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
                loaded = generation.answers(name)
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
        with self._using() as generation:
            self._known(generation, name)
            generation.unload(name)

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
            began = perf_counter()
            old = self._generation
            try:
                fresh = self._open(old)
                try:
                    fresh.warm_up()
                except BaseException:
                    fresh.retire()
                    raise
            except Exception as error:
                self.metrics.count(families.RELOADS, ("failed",))
                why = error if isinstance(error, AdaptiveError) else repr(error)
                log.error("the bundle was not loaded, and the last one is served on: %s", why)
                raise
            self._generation = fresh
            old.retire()
            if fresh.monitor is not old.monitor:
                self._drift.close()
                self._drift.enter_context(resumed(fresh.monitor, self._log))
            self.metrics.count(families.RELOADS, ("loaded",))
            spent = perf_counter() - began
            log.warning("bundle %s is served now, loaded in %.2f s", fresh.hashes[0], spent)

    def statistics(self) -> Mapping[str, ModelStatistics]:
        """What each model has done since the server started."""
        counts = self.metrics.values(families.MODEL_COUNT)
        spent = self.metrics.values(families.MODEL_NS)
        images = self.metrics.values(families.MODEL_IMAGES)
        runs = self.metrics.values(families.BATCHES)
        run_ns = self.metrics.values(families.BATCH_NS)
        found = {}
        for state in self.models():
            name = state.name
            parts = {
                part: Duration(int(counts.get((name, part), 0)), int(spent.get((name, part), 0)))
                for part in _PARTS
            }
            batches = {
                int(key[1]): Duration(int(count), int(run_ns.get(key, 0)))
                for key, count in runs.items()
                if key[0] == name
            }
            found[name] = ModelStatistics(
                **parts,
                batches=dict(sorted(batches.items())),
                last_inference_ms=self._last.get(name, 0),
                inference_count=int(images.get((name,), 0)),
                execution_count=sum(batch.count for batch in batches.values()),
            )
        return found

    def limits_from(self, headers: Headers) -> Limits:
        """What a request's headers allow, less what it has waited.

        Raises
        ------
        InputError
            when one of them cannot be read.
        DeadlineError
            when nothing is left.
        """
        deadline, prefer = headers.get(DEADLINE), headers.get(PREFER)
        if deadline is None and prefer is None:
            return UNLIMITED
        preference = 0.0
        if prefer is not None:
            word = prefer.strip().lower()
            if word not in PREFERENCES:
                raise InputError(f"{PREFER} {prefer[:40]!r} is not one of {list(PREFERENCES)}")
            preference = PREFERENCES[word]
        if deadline is None:
            return Limits(preference=preference)
        text = deadline.strip()
        allowed = float(text) if _NUMBER.fullmatch(text) else 0.0
        if not 0 < allowed <= _LONGEST_MS:
            raise InputError(
                f"{DEADLINE} {deadline[:40]!r} is not a number of milliseconds above 0 and up to "
                f"{_LONGEST_MS:.0f}"
            )
        record = current()
        waited = 0.0 if record is None else (perf_counter() - record.arrived) * 1e3
        if waited >= allowed:
            raise DeadlineError(
                f"the answer was due after {allowed:g} ms, and the request waited {waited:.0f} ms"
            )
        return Limits(remaining_ms=allowed - waited, preference=preference)

    def close(self) -> None:
        """Close what is served, once nobody uses it."""
        with self._reloading:
            self._generation.retire()
            self._drift.close()

    def _open(self, old: Generation | None) -> Generation:
        def monitor(bundle: Bundle) -> Monitor | None:
            # The same promise is watched on; a fresh start would be a fresh chance of an error.
            if old is not None and old.bundle.certificate == bundle.certificate:
                return old.monitor
            return monitor_of(bundle.certificate)

        watched = monitor if self.settings.audit is not None else lambda _: None
        return Generation(self.folder, self.settings, watched, self._ran)

    @contextmanager
    def _using(self) -> Iterator[Generation]:
        """The bundle that this thread's request is answered with."""
        record = current()
        if record is None:
            generation = self._take()
            try:
                yield generation
            finally:
                generation.give()
            return
        if record.generation is None:
            record.generation = self._take()
        yield record.generation

    def _take(self) -> Generation:
        while True:
            generation = self._generation
            if generation.take():
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
            if not generation.answers(name):
                raise InputError(
                    f"model {name!r} is not loaded; POST /v2/repository/models/{name}/load loads it"
                )
            with self._counted(name, len(images)):
                began = perf_counter()
                photos = generation.photos(name, images)
                decoded = perf_counter()
                left = np.min(limits.remaining_ms) - (decoded - began) * 1e3
                if left <= 0:
                    raise DeadlineError("the answer was due before a network could run")
                if limits.remaining_ms != math.inf:
                    limits = Limits(float(left), preference=limits.preference)
                output = generation.run(name, photos, limits)
            self._spent(name, "compute_input", decoded - began)
            self._spent(name, "compute_infer", perf_counter() - decoded)
            self._spent(name, "compute_output", 0.0)
            assert output.probabilities is not None
            return output.probabilities

    @contextmanager
    def _counted(self, model: str, images: int) -> Iterator[None]:
        """Count a request to a model, whether it ends well or not."""
        metrics = self.metrics
        began = perf_counter()
        try:
            yield
        except BaseException:
            self._spent(model, "fail", perf_counter() - began)
            raise
        self._spent(model, "success", perf_counter() - began)
        record = current()
        self._spent(model, "queue", 0.0 if record is None else record.waited)
        if model == ROUTER:
            metrics.count(families.MODEL_IMAGES, (model,), images)
        self._last[model] = int(time() * 1e3)

    def _count(self, answer: Prediction, generation: Generation) -> None:
        metrics, ms = self.metrics, answer.ms
        metrics.count(families.ANSWERS, (answer.candidate or "none",))
        total = 0.0
        for step in _STEPS:
            if step in ms:
                metrics.observe(families.STEP_SECONDS, ms[step] / 1e3, (step,))
        for name in answer.path:
            spent = ms[name] / 1e3
            metrics.observe(families.CANDIDATE_SECONDS, spent, (name,))
            total += spent
        whole, decoded = ms["total"] / 1e3, ms["decode"] / 1e3
        self._ran(ROUTER, 1, whole)
        self._spent(ROUTER, "compute_input", decoded)
        self._spent(ROUTER, "compute_infer", total)
        self._spent(ROUTER, "compute_output", max(0.0, whole - decoded - total))
        record = current()
        if record is not None:
            record.said = answer

    def _spent(self, model: str, part: str, seconds: float) -> None:
        self.metrics.count(families.MODEL_COUNT, (model, part))
        self.metrics.count(families.MODEL_NS, (model, part), int(seconds * 1e9))

    def _ran(self, model: str, images: int, seconds: float) -> None:
        key = (model, str(images))
        self.metrics.count(families.BATCHES, key)
        self.metrics.count(families.BATCH_NS, key, int(seconds * 1e9))
        if model != ROUTER:
            self.metrics.count(families.MODEL_IMAGES, (model,), images)
            self.metrics.observe(families.BATCH_IMAGES, images, (model,))


#: Parts of a request to a model, by ModelStatistics.
_PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


class Candidate:
    """One candidate of the served bundle, asked by itself.

    Parameters
    ----------
    name, labels : of the candidate
    infer : asks it
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        infer: Callable[[str, Sequence[bytes], Limits], np.ndarray],
    ) -> None:
        self.name = name
        self.labels = labels
        self._infer = infer

    def __repr__(self) -> str:
        return f"Candidate({self.name!r})"

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
