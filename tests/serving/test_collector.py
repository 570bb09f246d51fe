from __future__ import annotations

import io

import pytest
from boards import Board
from bright_and_dark import NAMES, mixture, photo
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from adaptive.bundle.bundle import Bundle, default_bundle, write_bundle
from adaptive.jetson.sysfs import Sysfs
from adaptive.monitoring.audit import Audit
from adaptive.policy.premodel import ByPremodel
from adaptive.routing.bucket import Bucket
from adaptive.routing.generation import Settings
from adaptive.serving.admission import Admission
from adaptive.serving.collector import Collector
from adaptive.serving.service import Service


def told(collector: Collector) -> dict[str, list]:
    """Samples by name, as Prometheus's own parser reads them."""
    found: dict[str, list] = {}
    for family in text_string_to_metric_families(collector.text().decode()):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture(scope="module")
def service():
    settings = Settings(audit=Audit(1.0), bucket=Bucket(1000.0))
    with Service(default_bundle(), settings) as service:
        service.warm_up()
        yield service


def test_everything_that_is_served_is_told(service, tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 30)).save(stream, "JPEG")
    for _ in range(3):
        service.classify(stream.getvalue())
    admission = Admission(2, 17)
    found = told(Collector(service, admission, lambda: 5, sysfs=Sysfs(tmp_path)))
    assert sum(value for _, value in found["adaptive_answers_total"]) == 3
    steps = {labels["step"] for labels, _ in found["adaptive_step_seconds_count"]}
    assert "decode" in steps
    assert found["adaptive_ready"] == [({}, 0)]
    assert found["adaptive_queue_depth"] == [({}, 0)]
    assert found["adaptive_queue_limit"] == [({}, 17)]
    assert found["adaptive_connections"] == [({}, 5)]
    ((labels, drop),) = found["adaptive_certificate_max_drop"]
    certificate = service.generation.bundle.certificate
    assert (labels["reference"], drop) == (certificate["reference"], certificate["epsilon"])
    assert found["adaptive_audits_total"] == [({}, 3)]
    assert 0 <= found["adaptive_audit_disagreements_total"][0][1] <= 3
    assert found["adaptive_drift_alarm"] == [({}, int(service.generation.monitor.alarm))]
    assert found["adaptive_bucket_tokens"][0][0] == {"unit": "ms"}
    assert found["process_resident_memory_bytes"][0][1] > 10e6
    assert found["process_open_fds"][0][1] > 3
    assert "adaptive_power_watts" not in found


def test_power_is_told_where_the_board_tells_it(service, tmp_path):
    board = Board(tmp_path, "tx2")
    board.draw(4321)
    found = told(Collector(service, sysfs=board.sysfs))
    assert found["adaptive_power_watts"] == [({"rails": "VDD_IN"}, 4.321)]


def test_energy_is_told_where_a_pc_counts_it(service, tmp_path):
    found = told(Collector(service, sysfs=Board(tmp_path, "pc").sysfs))
    assert list(found["adaptive_energy_joules_total"][0][0]) == ["rails"]


def test_two_applications_in_one_process_count_for_themselves(service, tmp_path):
    quiet = Sysfs(tmp_path)
    with Service(default_bundle()) as other:
        other.metrics.request("classify", "200", 0.1)
        first, second = (told(Collector(s, sysfs=quiet)) for s in (service, other))
        again = told(Collector(other, sysfs=quiet))
    assert "adaptive_requests_total" not in first
    labels = {"kind": "classify", "status": "200"}
    assert second["adaptive_requests_total"] == again["adaptive_requests_total"] == [(labels, 1)]


def test_conditions_are_told_and_outlive_server_and_reload(tiny_bundle, tmp_path):
    bundle, log = tmp_path / "bundle", tmp_path / "log.jsonl"
    policy = ByPremodel(NAMES, mixture(of="training"))
    write_bundle(bundle, Bundle.read(tiny_bundle), policy)

    def ask(service, count):
        for number in range(count):
            stream = io.BytesIO()
            Image.fromarray(photo(True, number)).save(stream, "PNG")
            service.classify(stream.getvalue())

    with Service(bundle, log=log) as service:
        ask(service, 3)
    with Service(bundle, log=log) as service:
        ask(service, 2)
        service.reload()
        ask(service, 25)
        found = told(Collector(service, sysfs=Sysfs(tmp_path)))
        described = service.describe()["conditions"]
        # Another premodel is another question.
        write_bundle(
            bundle, Bundle.read(tiny_bundle), ByPremodel(NAMES, mixture((5, 5))), force=True
        )
        service.reload()
        assert service.describe()["conditions"]["images"] == 0
    bright, dark = [own["description"] for own in described["conditions"]]
    assert "dark" in dark
    counts = found["adaptive_condition_images_total"]
    assert counts == [({"condition": bright}, 0), ({"condition": dark}, 30)]
    assert found["adaptive_condition_share"] == [
        ({"condition": bright}, 0),
        ({"condition": dark}, 1),
    ]
    assert found["adaptive_condition_share_before"][1] == ({"condition": dark}, 0.1)
    assert found["adaptive_condition_e_value"][0][1] >= 100
    assert found["adaptive_condition_alarm"] == found["adaptive_condition_change"] == [({}, 1)]
    assert described["images"] == 30
    assert described["words"].startswith("since ")


def test_a_bundle_of_before_tells_no_conditions(service, tmp_path):
    assert "adaptive_condition_alarm" not in told(Collector(service, sysfs=Sysfs(tmp_path)))
