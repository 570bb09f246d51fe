"""What the models of a server have done: requests, images and runs, with the time they took."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from time import perf_counter, time
from typing import Iterator, Sequence

from adaptive.prediction import Prediction
from adaptive.serving.metrics import Metrics
from adaptive.serving.protocols import ROUTER, Duration, ModelStatistics
from adaptive.serving.record import current

_STEPS = ("decode", "gate", "features", "premodel")

#: Parts of a request to a model, by ModelStatistics.
_PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


class Statistics:
    """Counts for each model, the router among them.

    Parameters
    ----------
    metrics : is told what Prometheus wants to know
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._models: dict[str, _Model] = defaultdict(_Model)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Statistics({sorted(self._models)})"

    @contextmanager
    def request(self, model: str, images: int) -> Iterator[None]:
        """Count a request to a model, whether it ends well or not."""
        began = perf_counter()
        try:
            yield
        except BaseException:
            self.spent(model, fail=perf_counter() - began)
            raise
        record = current()
        waited = 0.0 if record is None else record.waited
        self.spent(model, success=perf_counter() - began, queue=waited)
        with self._lock:
            counts = self._models[model]
            counts.last_ms = int(time() * 1e3)
            if model == ROUTER:
                counts.images += images

    def answer(self, answer: Prediction) -> None:
        """Count what the router said of one image."""
        metrics, ms = self._metrics, answer.ms
        metrics.answer(answer.candidate)
        total = 0.0
        for step in _STEPS:
            if step in ms:
                metrics.step(step, ms[step] / 1e3)
        for name in answer.path:
            spent = ms[name] / 1e3
            metrics.candidate(name, spent)
            total += spent
        whole, decoded = ms["total"] / 1e3, ms.get("decode", 0.0) / 1e3
        self.run(ROUTER, 1, whole)
        self.spent(
            ROUTER,
            compute_input=decoded,
            compute_infer=total,
            compute_output=max(0.0, whole - decoded - total),
        )

    def spent(self, model: str, **seconds: float) -> None:
        """Count the time that parts of a request took."""
        with self._lock:
            counts = self._models[model]
            for part, spent in seconds.items():
                _add(counts.parts[part], spent)

    def run(self, model: str, images: int, seconds: float) -> None:
        """Count a run on so many images at once."""
        with self._lock:
            counts = self._models[model]
            _add(counts.batches[images], seconds)
            if model != ROUTER:
                counts.images += images
        if model != ROUTER:
            self._metrics.batch(model, images)

    def statistics(self, models: Sequence[str]) -> dict[str, ModelStatistics]:
        """What each model has done since the server started."""
        with self._lock:
            return {name: self._models[name].statistics() for name in models}


class _Model:
    """Counts of one model: by part and by images at once, how often and how many ns."""

    def __init__(self) -> None:
        self.parts: dict[str, list[int]] = {part: [0, 0] for part in _PARTS}
        self.batches: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.images = 0
        self.last_ms = 0

    def statistics(self) -> ModelStatistics:
        return ModelStatistics(
            **{part: Duration(*counts) for part, counts in self.parts.items()},
            batches={images: Duration(*counts) for images, counts in sorted(self.batches.items())},
            last_inference_ms=self.last_ms,
            inference_count=self.images,
            execution_count=sum(count for count, _ in self.batches.values()),
        )


def _add(counts: list[int], seconds: float) -> None:
    counts[0] += 1
    counts[1] += int(seconds * 1e9)
