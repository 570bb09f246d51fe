"""Candidates that are loaded and unloaded while requests use them."""

from __future__ import annotations

import io
import json
import random
import struct
import threading
from time import monotonic

import numpy as np
import pytest
from PIL import Image

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.engines.choose import Engines
from adaptive.errors import EngineError
from adaptive.policy.fixed import Fixed
from adaptive.routing.generation import Settings
from adaptive.routing.loaded import NotLoaded
from adaptive.serving.http import create_app
from adaptive.serving.service import Service

EXITS = ("net@1", "net@2")


def red() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (48, 40), (200, 20, 20)).save(stream, "PNG")
    return stream.getvalue()


RED = red()


class Watched:
    """An engine that knows whether it is closed, and can be held while it runs."""

    def __init__(self, name, engine) -> None:
        self.name, self.engine = name, engine
        self.closed = 0
        self.begun, self.hold = threading.Event(), threading.Event()
        self.hold.set()

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def run(self, *inputs):
        self.begun.set()
        assert self.hold.wait(30)
        assert not self.closed
        outputs = self.engine.run(*inputs)
        assert not self.closed, "closed while it ran"
        return outputs

    def close(self) -> None:
        self.closed += 1
        self.engine.close()


@pytest.fixture
def opened(monkeypatch) -> list[Watched]:
    """Every engine that is opened, in order."""
    found: list[Watched] = []
    own_open = Engines.open

    def watching(self, wanted, threads=1):
        engines = own_open(self, wanted, threads)
        fresh = {name: Watched(name, engine) for name, engine in engines.items()}
        found.extend(fresh.values())
        return fresh

    monkeypatch.setattr(Engines, "open", watching)
    return found


@pytest.fixture
def folder(tiny_candidates, tmp_path):
    output = tmp_path / "bundle"
    write_bundle(output, Bundle.read(tiny_candidates), Fixed(("cheap",)))
    return output


@pytest.fixture(params=["alone", "gathered"])
def service(request, folder, opened):
    settings = Settings() if request.param == "alone" else Settings(window_ms=1.0, max_batch=4)
    with Service(folder, settings) as service:
        service.warm_up()
        service.ready.problem = None
        yield service
    assert [engine.closed for engine in opened] == [1] * len(opened)


def open_now(opened) -> list[str]:
    return sorted(engine.name for engine in opened if not engine.closed)


def infer(client, name: str):
    blob = struct.pack("<I", len(RED)) + RED
    head = {
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"binary_data_size": len(blob)},
            }
        ]
    }
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return client.post(f"/v2/models/{name}/infer", data=text + blob, headers=headers)


def test_a_request_under_way_ends_well_and_the_next_one_is_409(service, opened):
    client = create_app(service, max_body_bytes=100_000).test_client()
    (engine,) = [e for e in opened if e.name == "strong"]
    engine.begun.clear()
    engine.hold.clear()
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(
            infer(create_app(service, max_body_bytes=100_000).test_client(), "strong")
        )
    )
    thread.start()
    assert engine.begun.wait(30)
    assert client.post("/v2/repository/models/strong/unload").status_code == 200
    refused = infer(client, "strong")
    assert refused.status_code == 409
    assert "'strong' is not loaded" in refused.get_json()["error"]
    assert not engine.closed  # it runs
    engine.hold.set()
    thread.join(30)
    assert answers[0].status_code == 200
    assert engine.closed == 1  # with the last request that used it
    assert client.post("/v2/repository/models/strong/load").status_code == 200
    assert infer(client, "strong").status_code == 200


def test_loaded_again_while_a_request_runs_it_stays_open(service, opened):
    (engine,) = [e for e in opened if e.name == "net@2"]
    engine.begun.clear()
    engine.hold.clear()
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(service.candidate("net@2").infer([RED]))
    )
    thread.start()
    assert engine.begun.wait(30)
    service.unload("net@2")
    loading = threading.Thread(target=service.load, args=("net@2",))
    loading.start()  # it tries the engine out, which is held
    while "net@2" not in service.generation.alone._leases:
        threading.Event().wait(0.001)
    engine.hold.set()
    thread.join(30)
    loading.join(30)
    assert answers[0].argmax() == 2
    assert not engine.closed
    assert service.candidate("net@2").infer([RED]).argmax() == 2
    assert open_now(opened) == ["cheap", "net@1", "net@2", "strong"]


def test_what_another_candidate_or_the_policy_needs_stays_open(service, opened):
    service.unload("net@1")
    assert open_now(opened) == ["cheap", "net@1", "net@2", "strong"]
    with pytest.raises(NotLoaded):
        service.candidate("net@1").infer([RED])
    service.unload("net@2")
    assert open_now(opened) == ["cheap", "strong"]
    service.unload("cheap")
    assert open_now(opened) == ["cheap", "strong"]
    assert service.classify(RED).label == "red"
    service.unload("cheap")
    service.load("net@2")
    assert open_now(opened) == ["cheap", "net@1", "net@2", "strong"]
    with pytest.raises(NotLoaded):
        service.candidate("net@1").infer([RED])


def test_what_does_not_run_is_not_loaded_and_leaves_nothing_open(service, opened, monkeypatch):
    service.unload("net@2")
    service.unload("net@1")
    monkeypatch.setattr(Watched, "run", _broken)
    with pytest.raises(EngineError):
        service.load("net@2")
    monkeypatch.undo()
    assert "net@2" not in service.generation.alone
    assert open_now(opened) == ["cheap", "strong"]


def _broken(self, *inputs):
    raise EngineError("it loads, and does not run")


def test_loads_and_unloads_beside_requests_lose_and_leak_nothing(service, opened):
    failures: list[BaseException] = []
    told = {"answered": 0, "refused": 0}
    over = threading.Event()
    names = ("strong", *EXITS)

    def guarded(work):
        def run() -> None:
            try:
                while not over.is_set():
                    work()
            except BaseException as failure:
                failures.append(failure)
                over.set()

        return run

    def ask() -> None:
        try:
            values = service.candidate(random.choice(names)).infer([RED, RED])
        except NotLoaded:
            told["refused"] += 1
        else:
            assert values.argmax(axis=1).tolist() == [2, 2]
            told["answered"] += 1

    def change() -> None:
        verb = random.choice((service.load, service.unload))
        verb(random.choice(names))

    def route() -> None:
        assert service.classify(RED).label == "red"

    works = [ask, ask, ask, change, change, route]
    threads = [threading.Thread(target=guarded(work)) for work in works]
    for thread in threads:
        thread.start()
    ends = monotonic() + 20
    while monotonic() < ends and not over.is_set():
        if told["answered"] >= 150 and told["refused"] >= 50 and len(opened) >= 40:
            break
        over.wait(0.01)
    over.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []
    assert told["answered"] > 0
    assert told["refused"] > 0
    for name in names:
        service.unload(name)
    assert open_now(opened) == ["cheap"]
    for name in names:
        service.load(name)
    assert open_now(opened) == ["cheap", "net@1", "net@2", "strong"]
    assert np.array([e.closed for e in opened]).max() == 1


def test_warm_up_beside_unloads_does_not_stumble(service):
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            service.unload("net@2")
            service.load("net@2")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            service.warm_up()
    finally:
        over.set()
        thread.join(60)
    assert service.candidate("net@2").infer([RED]).argmax() == 2
