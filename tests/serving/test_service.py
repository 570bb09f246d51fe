from __future__ import annotations

import io
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.errors import (
    AdaptiveError,
    BusyError,
    DeadlineError,
    EngineError,
    ImageError,
    InputError,
)
from adaptive.limits import UNLIMITED, Limits
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import DecisionLog
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.routing.generation import Generation, Settings
from adaptive.routing.router import Router
from adaptive.serving import record
from adaptive.serving.record import Record
from adaptive.serving.service import Service


def encoded(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (48, 40), colour).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = encoded((200, 20, 20)), encoded((20, 20, 200))


@pytest.fixture
def folder(tiny_candidates, tmp_path) -> Path:
    """A bundle of all four candidates, whose policy asks two."""
    output = tmp_path / "bundle"
    policy = Cascade(("cheap", "strong"), thresholds=(0.99999,))
    write_bundle(output, Bundle.read(tiny_candidates), policy)
    return output


@pytest.fixture
def service(folder):
    with Service(folder) as service:
        service.warm_up()
        service.ready.problem = None
        yield service


def replaced(folder: Path, candidates: Path, policy) -> None:
    """Put a bundle with another policy in the folder's place."""
    write_bundle(folder, Bundle.read(candidates), policy, force=True)


class Waiting(threading.Thread):
    """Classifies one image while `hold` is not released."""

    def __init__(self, service: Service, monkeypatch) -> None:
        super().__init__()
        self.service = service
        self.entered, self.hold = threading.Event(), threading.Event()
        self.answer = None
        router = service.generation.router
        classify = router.classify

        def slowly(*given):
            self.entered.set()
            self.hold.wait(30)
            return classify(*given)

        monkeypatch.setattr(router, "classify", slowly)

    def run(self) -> None:
        self.answer = self.service.classify(RED)

    def begin(self) -> None:
        self.start()
        assert self.entered.wait(30)


def reloads(service: Service) -> tuple[float | None, float | None]:
    """How many bundles were loaded while serving, and how many were not."""
    value = service.metrics.registry.get_sample_value
    return tuple(value("adaptive_reloads_total", {"result": r}) for r in ("loaded", "failed"))


def test_answers_are_the_routers(service, folder):
    with Router.load(folder) as router:
        for image in (RED, BLUE):
            expected, answer = router.classify(image), service.classify(image)
            assert (answer.label, answer.path) == (expected.label, expected.path)
            assert answer.score == pytest.approx(expected.score)
    answers = service.classify_batch([RED, BLUE, RED])
    assert [answer.label for answer in answers] == ["red", "blue", "red"]


def test_every_candidate_answers_by_itself(service):
    assert [(state.name, state.ready) for state in service.models()] == [
        ("adaptive", True),
        ("cheap", True),
        ("strong", True),
        ("net@1", True),
        ("net@2", True),
    ]
    for name in ("cheap", "strong", "net@1", "net@2"):
        candidate = service.candidate(name)
        assert candidate.name == name
        assert list(candidate.labels) == ["blue", "green", "red"]
        values = candidate.infer([RED, BLUE])
        assert values.shape == (2, 3)
        assert values.dtype == np.float32
        assert values.argmax(axis=1).tolist() == [2, 0]
    assert service.candidate("nobody") is None


def test_policy_alone_opens_only_what_it_asks(folder):
    with Service(folder, Settings(models="policy")) as service:
        service.warm_up()
        states = {state.name: state.ready for state in service.models()[1:]}
        assert states == {"cheap": True, "strong": True, "net@1": False, "net@2": False}
        assert service.classify(RED).label == "red"
        with pytest.raises(InputError, match="'net@2' is not loaded"):
            service.candidate("net@2").infer([RED])
        service.load("net@2")
        assert service.candidate("net@2").infer([RED]).argmax() == 2
        # Its first exit ran on the way, but was not asked for by itself.
        assert not {s.name: s.ready for s in service.models()}["net@1"]


def test_unloaded_candidate_is_closed_unless_it_is_needed(service):
    engines = service.generation.networks.engines
    service.unload("net@2")
    assert "net@2" not in engines
    assert "net@1" in engines
    service.unload("net@1")
    assert "net@1" not in engines
    service.unload("cheap")
    assert "cheap" in engines
    assert service.classify(RED).label == "red"
    with pytest.raises(InputError, match="not loaded"):
        service.candidate("cheap").infer([RED])
    service.load("net@2")
    assert service.candidate("net@2").infer([RED]).argmax() == 2
    service.load("cheap")
    assert service.candidate("cheap").infer([RED]).argmax() == 2


def test_models_that_do_not_exist_cannot_be_loaded(service):
    with pytest.raises(InputError, match="no model 'nobody'"):
        service.load("nobody")
    with pytest.raises(InputError, match=r"no model '\.\./etc'"):
        service.unload("../etc")
    with pytest.raises(InputError, match="cannot be unloaded"):
        service.unload("adaptive")


def test_altered_network_is_not_loaded_later(service, folder):
    service.unload("net@2")
    path = folder / "exits-2.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="was altered"):
        service.load("net@2")
    assert not {s.name: s.ready for s in service.models()}["net@2"]


def test_reload_serves_the_new_bundle(service, folder, tiny_candidates):
    assert service.classify(RED).path == ("cheap", "strong")
    old = service.generation
    replaced(folder, tiny_candidates, Fixed(("cheap",)))
    service.reload()
    assert service.classify(RED).path == ("cheap",)
    assert service.generation is not old
    with pytest.raises(EngineError, match="is closed"):
        old.router.classify(RED)
    assert reloads(service) == (1, None)


def test_link_to_a_bundle_is_followed_again(tmp_path, folder, tiny_candidates):
    other = tmp_path / "other"
    write_bundle(other, Bundle.read(tiny_candidates), Fixed(("strong",)))
    link = tmp_path / "current"
    link.symlink_to(folder)
    with Service(link) as service:
        assert service.classify(RED).path == ("cheap", "strong")
        (tmp_path / "fresh").symlink_to(other)
        os.replace(tmp_path / "fresh", link)
        service.reload()
        assert service.classify(RED).path == ("strong",)


@pytest.mark.parametrize("how", ["gone", "altered", "no manifest", "other hash", "broken network"])
def test_failed_reload_keeps_the_old_bundle(service, folder, how, caplog):
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "altered":
        (folder / "labels.txt").write_text("a\nb\nc\n")
    elif how == "no manifest":
        (folder / "manifest.json").write_text("{")
    elif how == "other hash":
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["candidates"][1]["sha256"] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        (folder / "strong.onnx").write_bytes(b"no network")
    old = service.generation
    with pytest.raises(AdaptiveError):
        service.reload()
    assert service.generation is old
    assert service.ready.problem is None
    assert service.classify(RED).label == "red"
    assert service.candidate("net@2").infer([RED]).argmax() == 2
    assert reloads(service) == (None, 1)
    assert "the last one is served on" in caplog.text


def test_bundle_that_does_not_warm_up_is_not_served(service, monkeypatch):
    def broken(self) -> None:
        raise EngineError("it loads, and does not run")

    old = service.generation
    monkeypatch.setattr(Generation, "warm_up", broken)
    with pytest.raises(EngineError):
        service.reload()
    assert service.generation is old
    assert service.classify(RED).label == "red"


def test_request_that_has_begun_ends_with_its_bundle(service, folder, tiny_candidates, monkeypatch):
    waiting = Waiting(service, monkeypatch)
    waiting.begin()
    old = service.generation
    replaced(folder, tiny_candidates, Fixed(("cheap",)))
    service.reload()
    assert service.classify(RED).path == ("cheap",)
    assert old.router._networks.engines["strong"]._session is not None
    waiting.hold.set()
    waiting.join(30)
    assert waiting.answer.path == ("cheap", "strong")
    assert old.router._networks.engines["strong"]._session is None  # closed with the last request


def test_one_request_sees_one_bundle(service, folder, tiny_candidates):
    record.begin(Record(0.0, None, None))
    try:
        assert service.classify(RED).path == ("cheap", "strong")
        thread = threading.Thread(
            target=lambda: (
                replaced(folder, tiny_candidates, Fixed(("cheap",))),
                service.reload(),
            )
        )
        thread.start()
        thread.join(30)
        assert service.classify(RED).path == ("cheap", "strong")
    finally:
        record.end()
    assert service.classify(RED).path == ("cheap",)


def test_reloads_beside_requests_lose_none(service, folder, tiny_candidates):
    failures: list[BaseException] = []
    paths: set[tuple[str, ...]] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answer = service.classify(RED)
                assert answer.label == "red"
                paths.add(answer.path)
            except BaseException as failure:
                failures.append(failure)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        policy = Fixed(("cheap",)) if turn % 2 == 0 else Fixed(("strong",))
        replaced(folder, tiny_candidates, policy)
        service.reload()
    over.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert {("cheap",), ("strong",)} <= paths


def test_closed_service_turns_requests_away(folder):
    service = Service(folder)
    service.close()
    with pytest.raises(BusyError):
        service.classify(RED)


def test_log_bucket_and_audits_outlive_a_reload(folder, tmp_path):
    path = tmp_path / "decisions.jsonl"
    with DecisionLog(path) as log:
        settings = Settings(audit=Audit(1.0), observers=(log,))
        with Service(folder, settings, log=path) as service:
            service.classify(RED)
            service.reload()
            service.classify(RED, request_id="second")
            assert settings.audit.audited == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["request"] for line in lines] == [None, "second"]
    assert all(line["audit"] == "reference" for line in lines)


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({}, UNLIMITED),
        ({"X-Prefer": "fast"}, Limits(preference=-1.0)),
        ({"X-Prefer": " Accurate "}, Limits(preference=1.0)),
        ({"X-Deadline-Ms": "40"}, Limits(remaining_ms=40.0)),
        ({"X-Deadline-Ms": " 1.5 ", "X-Prefer": "balanced"}, Limits(remaining_ms=1.5)),
    ],
)
def test_headers_become_limits(service, headers, limits):
    assert service.limits_from(headers) == limits


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Deadline-Ms": text}
        for text in ("", "0", "0.99", "-1", "1e3", "nan", "99999999", "0x10", "4 0", "\u0661")
    ]
    + [{"X-Prefer": text} for text in ("", "fastest", "1")],
)
def test_headers_that_cannot_be_read_are_refused(service, headers):
    with pytest.raises(InputError, match="X-"):
        service.limits_from(headers)


def test_deadline_counts_the_time_in_the_queue(service):
    from time import perf_counter

    record.begin(Record(perf_counter() - 0.03, None, None))  # it waited for 30 ms
    try:
        assert 0 < service.limits_from({"X-Deadline-Ms": "5000"}).remaining_ms < 4971
        with pytest.raises(DeadlineError, match="waited"):
            service.limits_from({"X-Deadline-Ms": "20"})
    finally:
        record.end()


def test_candidate_is_not_run_when_its_answer_would_be_late(service):
    with pytest.raises(DeadlineError):
        service.candidate("cheap").infer([RED], limits=Limits(remaining_ms=1e-6))


def test_statistics_count_requests_images_and_runs(service):
    service.classify(RED)
    with pytest.raises(ImageError):
        service.classify(b"no image")
    service.candidate("net@2").infer([RED, BLUE])
    found = service.statistics()
    router, exit2, exit1 = found["adaptive"], found["net@2"], found["net@1"]
    assert (router.success.count, router.fail.count, router.inference_count) == (1, 1, 1)
    assert router.compute_infer.ns > 0
    assert router.last_inference_ms > 1_600_000_000_000
    assert (exit2.success.count, exit2.inference_count, exit2.execution_count) == (1, 2, 1)
    assert {size: run.count for size, run in exit2.batches.items()} == {2: 1}
    assert exit2.compute_input.ns > 0
    # The first exit ran on the way, and nobody asked for it; warming up does not count.
    assert (exit1.success.count, exit1.execution_count) == (0, 1)
    assert found["cheap"].execution_count == 1


def test_gathered_requests_get_the_same_answers(folder):
    told = []
    with Service(folder, Settings(window_ms=5.0, max_batch=4)) as service:
        service.warm_up()
        colours = [tuple(int(c) for c in row) for row in _colours(64)]
        with Router.load(folder) as router:
            expected = [router.classify(encoded(colour)) for colour in colours]

        def ask(own: int) -> None:
            for number in range(own, 64, 8):
                answer = service.classify(encoded(colours[number]))
                told.append((number, answer))

        threads = [threading.Thread(target=ask, args=(own,)) for own in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(told) == 64
        for number, answer in told:
            assert answer.path == expected[number].path
            assert answer.label == expected[number].label
            assert answer.score == pytest.approx(expected[number].score, abs=1e-6)
        sizes = service.statistics()["cheap"].batches
        assert max(sizes) > 1
        assert sum(size * run.count for size, run in sizes.items()) == 64


def _colours(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 3))


def test_closing_waits_for_no_reload(folder, monkeypatch):
    import threading

    monkeypatch.setattr("adaptive.serving.service.CLOSE_S", 0.05)
    began, hold, failed = threading.Event(), threading.Event(), []
    service = Service(folder)

    def warm_up(self) -> None:
        began.set()
        hold.wait(30)

    def reload() -> None:
        with pytest.raises(BusyError, match="stopping"):
            service.reload()
        failed.append(True)

    monkeypatch.setattr("adaptive.routing.generation.Generation.warm_up", warm_up)
    thread = threading.Thread(target=reload)
    thread.start()
    assert began.wait(30)
    service.close()
    hold.set()
    thread.join(30)
    assert failed == [True]
    with pytest.raises(BusyError, match="stopping"):
        service.reload()
