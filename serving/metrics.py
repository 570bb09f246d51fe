"""What the server counts, in a registry of prometheus-client's that is the service's own."""

from __future__ import annotations

from typing import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

#: Upper ends of a time's buckets, seconds.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Upper ends of a batch's buckets, images.
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Metrics:
    """Counters and histograms of one service; nothing of it is global.

    Attributes
    ----------
    registry : where they stand
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter(
            "adaptive_requests", "Requests answered, by kind and status.", "kind", "status"
        )
        self._request_seconds = self._histogram(
            "adaptive_request_seconds",
            "Time from the last byte of a request to its answer, queue included.",
            "kind",
        )
        self._step_seconds = self._histogram(
            "adaptive_step_seconds",
            "Time of one step before the networks: queue, decode, gate, features, premodel.",
            "step",
        )
        self._candidate_seconds = self._histogram(
            "adaptive_candidate_seconds",
            "Time that a candidate spends on one image, its share where it ran on several at once.",
            "candidate",
        )
        self._answers = self._counter(
            "adaptive_answers",
            "Images answered, by the candidate whose answer it was; none where the policy "
            "abstained.",
            "candidate",
        )
        self._batch_images = self._histogram(
            "adaptive_batch_images",
            "Images that ran together, by candidate.",
            "candidate",
            buckets=IMAGES,
        )
        self._reloads = self._counter(
            "adaptive_reloads", "Bundles loaded while serving, by how that ended.", "result"
        )

    def request(self, kind: str, status: str, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(kind, status).inc()
        self._request_seconds.labels(kind).observe(seconds)

    def step(self, name: str, seconds: float) -> None:
        """Count a step before the networks."""
        self._step_seconds.labels(name).observe(seconds)

    def answer(self, candidate: str | None) -> None:
        """Count an image that was answered."""
        self._answers.labels(candidate or "none").inc()

    def candidate(self, name: str, seconds: float) -> None:
        """Count the time that a candidate spent on one image."""
        self._candidate_seconds.labels(name).observe(seconds)

    def batch(self, candidate: str, images: int) -> None:
        """Count images that ran together."""
        self._batch_images.labels(candidate).observe(images)

    def reload(self, result: str) -> None:
        """Count a bundle that was loaded while serving, or was not."""
        self._reloads.labels(result).inc()

    def collect(self) -> Iterator[Metric]:
        """The families, without the time at which each sample began."""
        for family in self.registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self.registry)

    def _histogram(
        self, name: str, help: str, *labels: str, buckets: tuple[float, ...] = SECONDS
    ) -> Histogram:
        return Histogram(name, help, labels, registry=self.registry, buckets=buckets)
