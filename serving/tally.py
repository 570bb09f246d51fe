"""What the models of a server have done: requests, images and runs, with the time they took."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter, time
from typing import Iterator, Sequence

from adaptive.prediction import Prediction
from adaptive.serving import families
from adaptive.serving.metrics import Metrics
from adaptive.serving.protocols import ROUTER, Duration, ModelStatistics
from adaptive.serving.record import current

_STEPS = ("decode", "features", "premodel")

#: Parts of a request to a model, by ModelStatistics.
_PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


class Tally:
    """Counts for each model, the router among them.

    Parameters
    ----------
    metrics : where it counts
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._last: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Tally({sorted(self._last)})"

    @contextmanager
    def request(self, model: str, images: int) -> Iterator[None]:
        """Count a request to a model, whether it ends well or not."""
        began = perf_counter()
        try:
            yield
        except BaseException:
            self.spent(model, "fail", perf_counter() - began)
            raise
        self.spent(model, "success", perf_counter() - began)
        record = current()
        self.spent(model, "queue", 0.0 if record is None else record.waited)
        if model == ROUTER:
            self.metrics.count(families.MODEL_IMAGES, (model,), images)
        self._last[model] = int(time() * 1e3)

    def answer(self, answer: Prediction) -> None:
        """Count what the router said of one image."""
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
        self.run(ROUTER, 1, whole)
        self.spent(ROUTER, "compute_input", decoded)
        self.spent(ROUTER, "compute_infer", total)
        self.spent(ROUTER, "compute_output", max(0.0, whole - decoded - total))

    def spent(self, model: str, part: str, seconds: float) -> None:
        """Count the time that one part of a request took."""
        self.metrics.count(families.MODEL_COUNT, (model, part))
        self.metrics.count(families.MODEL_NS, (model, part), int(seconds * 1e9))

    def run(self, model: str, images: int, seconds: float) -> None:
        """Count a run on so many images at once."""
        key = (model, str(images))
        self.metrics.count(families.BATCHES, key)
        self.metrics.count(families.BATCH_NS, key, int(seconds * 1e9))
        if model != ROUTER:
            self.metrics.count(families.MODEL_IMAGES, (model,), images)
            self.metrics.observe(families.BATCH_IMAGES, images, (model,))

    def statistics(self, models: Sequence[str]) -> dict[str, ModelStatistics]:
        """What each model has done since the server started."""
        counts = self.metrics.values(families.MODEL_COUNT)
        spent = self.metrics.values(families.MODEL_NS)
        images = self.metrics.values(families.MODEL_IMAGES)
        runs = self.metrics.values(families.BATCHES)
        run_ns = self.metrics.values(families.BATCH_NS)
        found = {}
        for name in models:
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
