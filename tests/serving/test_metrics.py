from __future__ import annotations

import threading

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from adaptive.serving.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus's own parser makes of the text."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics).decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_counts_of_several_threads_are_added_up():
    metrics = Metrics()

    def count() -> None:
        for _ in range(1000):
            metrics.request("a", "200", 0.5)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(50):  # reading beside does no harm
        generate_latest(metrics)
    for thread in threads:
        thread.join()
    found = samples(metrics)
    assert found["adaptive_requests_total", (("kind", "a"), ("status", "200"))] == 8000
    assert found["adaptive_request_seconds_count", (("kind", "a"),)] == 8000
    assert found["adaptive_request_seconds_sum", (("kind", "a"),)] == pytest.approx(4000.0)


def test_text_is_what_prometheus_reads():
    metrics = Metrics()
    for _ in range(3):
        metrics.answer('we"ird\\\n')
    metrics.answer(None)
    for value in (0.1, 0.05, 0.7, 30):
        metrics.step("decode", value)
    for images in (1, 3, 100):
        metrics.batch("small", images)
    metrics.reload("failed")
    metrics.candidate("small", 0.002)
    found = samples(metrics)
    assert found["adaptive_answers_total", (("candidate", 'we"ird\\\n'),)] == 3
    assert found["adaptive_answers_total", (("candidate", "none"),)] == 1
    assert found["adaptive_step_seconds_bucket", (("le", "0.1"), ("step", "decode"))] == 2
    assert found["adaptive_step_seconds_bucket", (("le", "1.0"), ("step", "decode"))] == 3
    assert found["adaptive_step_seconds_bucket", (("le", "+Inf"), ("step", "decode"))] == 4
    assert found["adaptive_step_seconds_count", (("step", "decode"),)] == 4
    assert found["adaptive_step_seconds_sum", (("step", "decode"),)] == pytest.approx(30.85)
    assert found["adaptive_batch_images_bucket", (("candidate", "small"), ("le", "4.0"))] == 2
    assert found["adaptive_reloads_total", (("result", "failed"),)] == 1
    assert found["adaptive_candidate_seconds_count", (("candidate", "small"),)] == 1
    assert not [name for name, _ in found if name.endswith("_created")]
