"""What is read, and not counted, when Prometheus asks; and the text at `/metrics`."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from adaptive.errors import InputError
from adaptive.jetson.rails import Rails
from adaptive.jetson.rapl import Rapl
from adaptive.jetson.sysfs import Sysfs
from adaptive.serving.admission import Admission
from adaptive.serving.logs import Lines
from adaptive.serving.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Values by labels.
Values = Mapping[Any, float]


class Collector:
    """Tells Prometheus about a service and its server, in a registry of its own.

    Parameters
    ----------
    service : counts, and knows what is served
    admission : whose queue is told; None before there is one
    connections : how many are open; None where another server has them
    lines : the request log
    sysfs : where the board's power is looked for. No program is started for it, so on a board
        whose power only `tegrastats` tells there is none.
    """

    def __init__(
        self,
        service: Service,
        admission: Admission | None = None,
        connections: Callable[[], int] | None = None,
        lines: Lines | None = None,
        sysfs: Sysfs | None = None,
    ) -> None:
        self.service = service
        self.admission = admission
        self.connections = connections
        self.lines = lines
        self._meter = _meter(sysfs or Sysfs())
        self._registry = CollectorRegistry()
        self._registry.register(service.metrics)  # type: ignore[arg-type]
        self._registry.register(self)  # type: ignore[arg-type]
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Everything, in Prometheus's exposition format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What is read."""
        yield from self._serving()
        yield from self._promised()
        yield from self._board()

    def _serving(self) -> Iterator[Metric]:
        generation = self.service.generation
        ready = self.service.ready.problem is None
        yield _gauge("ready", "1 when images are answered at full speed, else 0.", ready)
        yield _gauge(
            "bundle_info",
            "1, with the hashes of what is served.",
            {generation.hashes: 1},
            ("bundle", "policy"),
        )
        loaded = generation.loaded
        yield _gauge("bundle_loaded_seconds", "When it was loaded, seconds since 1970.", loaded)
        streams = generation.streams
        yield _gauge("streams", "Streams whose last frame is known.", len(streams))
        told = "Frames of streams since the bundle was loaded: still were reused, others computed."
        frames = {(what,): float(count) for what, count in streams.counts().items()}
        yield _counter("stream_frames", told, frames, ("what",))
        told = "Streams that had to go for others since the bundle was loaded."
        yield _counter("streams_dropped", told, streams.dropped)
        if self.admission is not None:
            waiting, longest = len(self.admission), self.admission.longest
            yield _gauge("queue_depth", "Requests that wait for a thread.", waiting)
            yield _gauge(
                "queue_limit", "Requests that may wait; the next one is answered 503.", longest
            )
            busy = self.admission.busy
            yield _gauge("requests_in_progress", "Requests that are worked on.", busy)
        if self.connections is not None:
            yield _gauge("connections", "Connections that are open.", self.connections())
        if self.lines is not None:
            lost = self.lines.lost
            yield _gauge("log_lines_lost", "Lines of the request log that were lost.", lost)

    def _promised(self) -> Iterator[Metric]:
        router = self.service.generation.router
        certificate = router.bundle.certificate or {}
        if isinstance(certificate.get("epsilon"), float):
            yield _gauge(
                "certificate_max_drop",
                "Top-1, as a share, that the policy is certified not to lose against the "
                "reference.",
                {(str(certificate.get("reference")),): certificate["epsilon"]},
                ("reference",),
            )
            sure = 1.0 - float(certificate.get("delta", 1.0))
            yield _gauge("certificate_confidence", "How sure the certificate is, as a share.", sure)
            images = int(certificate.get("images", 0))
            yield _gauge("certificate_images", "Images that the certificate rests on.", images)
        status = router.status()
        audit, drift, conditions = status["audit"], status["drift"], status["conditions"]
        if audit is not None:
            told = "Requests on which the reference ran too."
            yield _counter("audits", told, audit["audited"])
            yield _counter(
                "audit_disagreements",
                "Audited requests whose answer was not the reference's.",
                audit["disagreements"],
            )
            yield _counter("audit_failures", "Audits that could not be run.", audit["failures"])
        if drift is not None:
            yield _gauge(
                "drift_bound",
                "Share of disagreements that is no cause for alarm.",
                drift["bound"],
            )
            yield _gauge(
                "drift_e_value",
                "Evidence that disagreements are more frequent than that; 1 is none.",
                drift["e_value"],
            )
            alarm = "1 when the evidence is enough for an alarm."
            yield _gauge("drift_alarm", alarm, drift["alarm"])
        if conditions is not None:
            yield from _conditions(conditions)
        if router.bucket is not None:
            level = {(router.bucket.unit,): router.bucket.level}
            yield _gauge("bucket_tokens", "What is left in the budget's bucket.", level, ("unit",))
        if status["log"] is not None:
            lost = status["log"]["failures"]
            yield _counter("decision_log_lost", "Decisions that were not logged.", lost)
        yield from _elsewhere(status.get("remote") or {})
        factors = (status["board"] or {}).get("factors") or {}
        if factors:
            yield _gauge(
                "board_time_factor",
                "What a candidate takes now over what it was measured to take, where the board "
                "was slowed.",
                {(name,): factor for name, factor in factors.items()},
                ("candidate",),
            )

    def _board(self) -> Iterator[Metric]:
        if self._meter is None:
            return
        try:
            value = {("+".join(self._meter.rails),): self._meter.read() / 1e3}
        except OSError:
            return
        if self._meter.counts:
            yield _counter("energy_joules", "What the board has drawn.", value, ("rails",))
        else:
            yield _gauge("power_watts", "What the board draws.", value, ("rails",))


def _elsewhere(remote: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """Candidates on other servers: whether they are asked, and what goes over the network."""
    if not remote:
        return

    def by_candidate(value: Callable[[Mapping[str, Any]], float]) -> Values:
        return {(name,): value(own) for name, own in remote.items()}

    label = ("candidate",)
    told = "1 while a candidate on another server is asked, 0 while it is left alone."
    up = by_candidate(lambda own: float(own["state"] == "closed"))
    yield _gauge("remote_up", told, up, label)
    told = "Requests that another server answered."
    yield _counter("remote_requests", told, by_candidate(lambda own: own["requests"]), label)
    told = "Bytes of requests to another server, without their headers."
    yield _counter("remote_sent_bytes", told, by_candidate(lambda own: own["bytes_sent"]), label)
    told = "Bytes of its answers, without their headers."
    received = by_candidate(lambda own: own["bytes_received"])
    yield _counter("remote_received_bytes", told, received, label)


def _conditions(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Live images by condition, beside calibration's."""
    known = status["conditions"]

    def by_condition(name: str) -> Values:
        return {(own["description"],): own[name] or 0.0 for own in known}

    label = ("condition",)
    told = "Images by the condition that they were taken under."
    yield _counter("condition_images", told, by_condition("images"), label)
    told = "Share of a condition among the last hundred images or so."
    yield _gauge("condition_share", told, by_condition("recent"), label)
    told = "Share of a condition among the images that the policy was made with."
    yield _gauge("condition_share_before", told, by_condition("share"), label)
    yield _gauge(
        "condition_e_value",
        "Evidence that images are taken under other conditions than those; 1 is none.",
        status["e_value"],
    )
    told = "1 when the evidence was ever enough for an alarm."
    yield _gauge("condition_alarm", told, status["alarm"])
    told = "1 while such a change still shows."
    yield _gauge("condition_change", told, status["goes_on"])


def _gauge(
    name: str, help: str, values: Values | float, labels: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily("adaptive_" + name, help, labels=labels)
    for label, value in _by_label(values).items():
        family.add_metric(label, float(value))
    return family


def _counter(
    name: str, help: str, values: Values | float, labels: tuple[str, ...] = ()
) -> CounterMetricFamily:
    family = CounterMetricFamily("adaptive_" + name, help, labels=labels)
    for label, value in _by_label(values).items():
        family.add_metric(label, float(value))
    return family


def _by_label(values: Values | float) -> Values:
    return values if isinstance(values, Mapping) else {(): values}


def _meter(sysfs: Sysfs) -> Any:
    openers: tuple[Callable[[Sysfs], Any], ...] = (Rails.open, Rapl.open)
    for opened in openers:
        try:
            return opened(sysfs)
        except InputError:
            continue
    return None
