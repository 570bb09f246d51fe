from __future__ import annotations

import math
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adaptive.serving.metrics import Counter, Gauge, Histogram, Metrics

ASKED = Counter("asked_total", "Questions.", ("kind", "status"))
TOOK = Histogram("took_seconds", "Times.", ("step",), (0.1, 1.0))
DEEP = Gauge("depth", "Depth.")


def samples(metrics: Metrics, gauges=()) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus's own parser makes of the text."""
    found = {}
    for family in text_string_to_metric_families(metrics.text((ASKED, TOOK), gauges)):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_counts_of_several_threads_are_added_up():
    metrics = Metrics()

    def count() -> None:
        for _ in range(1000):
            metrics.count(ASKED, ("a", "200"))
            metrics.observe(TOOK, 0.5, ("x",))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(50):  # reading beside does no harm
        assert metrics.values(ASKED).get(("a", "200"), 0) <= 8000
    for thread in threads:
        thread.join()
    count()
    assert metrics.values(ASKED) == {("a", "200"): 9000}
    assert metrics.values(TOOK) == {("x",): [0, 9000, 0, pytest.approx(4500.0)]}
    assert len(metrics._shards) == 1  # threads that ended leave nothing behind but their counts


def test_text_is_what_prometheus_reads():
    metrics = Metrics()
    metrics.count(ASKED, ("classify", "200"), 3)
    metrics.count(ASKED, ('we"ird\\\n', "200"))
    for value in (0.1, 0.05, 0.7, 30):
        metrics.observe(TOOK, value, ("decode",))
    found = samples(metrics, [(DEEP, {(): 7})])
    assert found["asked_total", (("kind", "classify"), ("status", "200"))] == 3
    assert found["asked_total", (("kind", 'we"ird\\\n'), ("status", "200"))] == 1
    assert found["took_seconds_bucket", (("le", "0.1"), ("step", "decode"))] == 2
    assert found["took_seconds_bucket", (("le", "1"), ("step", "decode"))] == 3
    assert found["took_seconds_bucket", (("le", "+Inf"), ("step", "decode"))] == 4
    assert found["took_seconds_count", (("step", "decode"),)] == 4
    assert found["took_seconds_sum", (("step", "decode"),)] == pytest.approx(30.85)
    assert found["depth", ()] == 7


def test_numbers_that_are_none_have_their_own_spelling():
    metrics = Metrics()
    assert samples(metrics, [(DEEP, {(): math.inf})])["depth", ()] == math.inf
    assert math.isnan(samples(metrics, [(DEEP, {(): math.nan})])["depth", ()])
