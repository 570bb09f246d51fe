"""A policy of which one candidate runs on another server: asked, gone, and back again."""

from __future__ import annotations

import io
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import urllib3
from box_candidates import LABELS, box_candidates
from cloud import cloud_bundle, with_cloud
from inference_server import Behaviour, inference_server
from PIL import Image
from served import served, whole_bundle

from adaptive.bundle.adding import Recipe
from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.bundle.elsewhere import Wire, add_remote
from adaptive.client.client import Client
from adaptive.engines import breaker
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import BundleError, EngineError, InputError
from adaptive.limits import Limits
from adaptive.monitoring.audit import Audit
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.gain import Gain
from adaptive.routing.generation import Settings
from adaptive.routing.router import Router
from adaptive.serving.service import Service

#: Every image goes on.
UP = Cascade(("cheap", "cloud"), thresholds=(1.0,))


@pytest.fixture(scope="module")
def cloud(tiny_candidates: Path, tmp_path_factory: pytest.TempPathFactory):
    """A server with all tiny candidates."""
    bundle = whole_bundle(tiny_candidates, tmp_path_factory.mktemp("cloud") / "b")
    with served(bundle) as server:
        yield f"http://127.0.0.1:{server.port}"


def gone(candidates: Path, folder: Path, policy, **wire) -> Path:
    """A bundle whose server was there when it was made, and is not any more."""
    server_bundle = whole_bundle(candidates, folder.with_name(f"{folder.name}-s"))
    with served(server_bundle) as server:
        url = f"http://127.0.0.1:{server.port}"
        return cloud_bundle(candidates, url, folder, policy, **wire)


@pytest.fixture
def shots(tiny_images: Path) -> np.ndarray:
    return np.array([np.asarray(Image.open(tiny_images / f"{n:03}.png")) for n in range(6)])


def png(shot: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(shot).save(file, "PNG")
    return file.getvalue()


def test_answer_from_another_server_is_that_of_the_same_network_here(
    cloud, tiny_candidates, tmp_path, shots
):
    bundle = cloud_bundle(tiny_candidates, cloud, tmp_path / "b", UP)
    local = Cascade(("cheap", "strong"), thresholds=(1.0,))
    with Router.load(bundle) as far, Router.load(bundle, policy=local) as near:
        for shot in shots:
            one, other = far.classify(shot), near.classify(shot)
            assert (one.path, other.path) == (("cheap", "cloud"), ("cheap", "strong"))
            assert one.label == other.label
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert one.unreached == ()
            assert "unreached" not in one.to_json()
            assert one.ms["cloud"] > 0
        batch = far.classify_batch(shots, batch=4)
        assert [b.label for b in batch] == [far.classify(s).label for s in shots]
        assert far.status()["remote"]["cloud"]["state"] == "closed"


def test_policy_goes_on_without_a_server_that_is_gone(tiny_candidates, tmp_path, shots):
    bundle = gone(tiny_candidates, tmp_path / "b", UP)
    with Router.load(bundle) as router, Router.load(bundle, policy=Fixed(("cheap",))) as alone:
        router.warm_up()
        for shot in shots:
            answer, expected = router.classify(shot, explain=True), alone.classify(shot)
            assert answer.path == ("cheap",)
            assert (answer.label, answer.score) == (expected.label, expected.score)
            assert answer.unreached == ("cloud",)
            assert answer.to_json()["unreached"] == ["cloud"]
            assert answer.reason == "cheap was not sure enough, but cloud cannot be reached"
            assert answer.ms["cloud"] >= 0
        for answer in router.classify_batch(shots, batch=4):
            assert answer.unreached == ("cloud",)
            assert answer.label is not None
        assert router.status()["remote"]["cloud"]["state"] == "open"


def test_next_of_the_order_is_asked_in_its_place(tiny_candidates, tmp_path, shots):
    three = Cascade(("cheap", "cloud", "strong"), thresholds=(1.0, 0.0))
    bundle = gone(tiny_candidates, tmp_path / "b", three)
    with Router.load(bundle) as router:
        for answer in (router.classify(shots[0]), *router.classify_batch(shots)):
            assert answer.path == ("cheap", "strong")
            assert answer.unreached == ("cloud",)
            assert answer.reason == (
                "cheap was not sure enough, so strong was asked; cloud cannot be reached"
            )


def test_cascade_that_begins_there_begins_at_the_next(tiny_candidates, tmp_path, shots):
    first = Cascade(("cloud", "cheap", "strong"), thresholds=(0.0, 1.0))
    bundle = gone(tiny_candidates, tmp_path / "b", first)
    with Router.load(bundle) as router:
        answer = router.classify(shots[0])
        assert answer.path == ("cheap", "strong")
        assert answer.unreached == ("cloud",)
        assert "cloud comes first, but it cannot be reached, so cheap was asked" in answer.reason


def test_where_nobody_else_is_there_is_no_answer(tiny_candidates, tmp_path, shots):
    bundle = gone(tiny_candidates, tmp_path / "b", Fixed(("cloud",)))
    with Router.load(bundle) as router:
        answer = router.classify(shots[0])
        assert answer.abstained
        assert answer.unreached == ("cloud",)
        assert "cannot be reached" in answer.reason


def test_gains_take_the_best_way_that_is_there(tiny_candidates, tmp_path, shots):
    ways = ((1,), (2,), (1, 2))
    best_by_cloud = np.array([[0.3, 0, 0, 0], [0.2, 0, 0, 0], [0.4, 0, 0, 0]])
    none_left = np.array([[0.3, 0, 0, 0], [-0.2, 0, 0, 0], [0.4, 0, 0, 0]])
    for number, (coefficients, path) in enumerate(
        ((best_by_cloud, ("cheap", "strong")), (none_left, ("cheap",)))
    ):
        policy = Cascade(
            ("cheap", "cloud", "strong"),
            thresholds=(1.0, 1.0),
            gains=(Gain((0,), ways, coefficients),),
        )
        with Router.load(gone(tiny_candidates, tmp_path / f"b{number}", policy)) as router:
            for answer in (router.classify(shots[0]), *router.classify_batch(shots)):
                assert answer.path == path
                assert answer.unreached == ("cloud",)


def test_start_that_limits_choose_is_one_that_is_there(tiny_candidates, tmp_path, shots):
    policy = Fixed(("strong", "cheap", "cloud"), upper_ms=(1e6, 1.0, 2.0))
    with Router.load(gone(tiny_candidates, tmp_path / "b", policy)) as router:
        limits = Limits(remaining_ms=10_000)
        for answer in (router.classify(shots[0], limits), *router.classify_batch(shots, limits)):
            assert answer.path == ("cheap",)
            assert answer.unreached == ("cloud",)


def test_server_that_comes_back_is_asked_again(tiny_candidates, tmp_path, shots, monkeypatch):
    monkeypatch.setattr(
        breaker.Breaker.__init__, "__defaults__", (1, 0.05, 0.05, breaker.monotonic)
    )
    bundle = whole_bundle(tiny_candidates, tmp_path / "s")
    with served(bundle) as server:
        port = server.port
        far = cloud_bundle(tiny_candidates, f"http://127.0.0.1:{port}", tmp_path / "b", UP)
    with Router.load(far) as router:
        assert router.classify(shots[0]).unreached == ("cloud",)
        with served(bundle, port=port):
            time.sleep(0.06)
            assert router.classify(shots[0]).path == ("cheap", "cloud")


def test_requests_of_several_threads_that_are_gathered_go_on_as_well(
    tiny_candidates, tmp_path, shots
):
    bundle = gone(tiny_candidates, tmp_path / "b", UP)

    settings = Settings(window_ms=20.0, max_batch=4)
    with Service(bundle, settings) as service, ThreadPoolExecutor(4) as pool:
        service.warm_up()
        for answer in pool.map(service.classify, [png(shot) for shot in shots]):
            assert answer.unreached == ("cloud",)
            assert answer.path == ("cheap",)


def colours(candidates: Path, url: str, folder: Path) -> Path:
    """A bundle of which every image goes on to a stand-in, which has ten seconds for it."""
    source = folder.with_name(f"{folder.name}-c")
    shutil.copytree(candidates, source)
    address = f"{url}/v2/models/colours"
    add_remote(source, address, "cloud", Recipe(like="0..1"), wire=Wire(timeout_ms=10_000.0))
    read = Bundle.read(source)
    kept = tuple(c for c in read.candidates if c.name in ("cheap", "cloud"))
    write_bundle(folder, replace(read, candidates=kept, reference="cheap"), UP)
    return folder


def test_deadline_of_a_batch_ends_what_another_server_is_asked(tiny_candidates, tmp_path, shots):
    behaviour = Behaviour(labels=None)
    with inference_server(behaviour) as url, Router.load(
        colours(tiny_candidates, url, tmp_path / "b")
    ) as router:
        answers = router.classify_batch(shots, Limits(remaining_ms=5000.0))
        assert {answer.path for answer in answers} == {("cheap", "cloud")}
        behaviour.wait_s = 2.0  # without a deadline it has time for that
        for answer in router.classify_batch(shots, Limits(remaining_ms=200.0)):
            assert answer.path == ("cheap",)
            assert answer.unreached == ("cloud",)


def test_deadline_of_one_request_ends_no_other_that_asks_the_same_server(
    tiny_candidates, tmp_path, shots
):
    behaviour = Behaviour(labels=None)
    settings = Settings(window_ms=100.0, max_batch=2)
    limits = [Limits(remaining_ms=400.0), Limits(), Limits(), Limits(remaining_ms=400.0)]
    with inference_server(behaviour) as url, Service(
        colours(tiny_candidates, url, tmp_path / "b"), settings
    ) as service, ThreadPoolExecutor(2) as pool:
        service.warm_up()
        behaviour.wait_s = 1.0
        for pair in (limits[:2], limits[2:]):  # whoever is first
            asked = [
                pool.submit(service.classify, png(shot), limits=own)
                for shot, own in zip(shots, pair)
            ]
            for own, answer in zip(pair, [each.result() for each in asked]):
                late = own.remaining_ms == 400.0
                assert answer.unreached == (("cloud",) if late else ())


def remote_detectors(folder: Path, url: str) -> Path:
    """A small detector here and, as "cloud", the large one on another server."""
    nets = box_candidates(folder.with_name(f"{folder.name}-c"))
    recipe = Recipe(decoder="proposals")
    add_remote(nets, f"{url}/v2/models/large", "cloud", recipe, labels=LABELS)
    write_bundle(folder, Bundle.read(nets), Cascade(("small", "cloud"), thresholds=(1.0,)))
    return folder


def test_detector_on_another_server_finds_what_the_same_one_here_does(tmp_path):
    nets = box_candidates(tmp_path / "n")
    behaviour = Behaviour("large", OnnxEngine(nets / "large.onnx", 1), labels=None)
    bright = np.full((64, 48, 3), (200, 128, 90), np.uint8)
    with inference_server(behaviour) as url:
        bundle = remote_detectors(tmp_path / "b", url)
        local = Cascade(("small", "large"), thresholds=(1.0,))
        with Router.load(bundle) as far, Router.load(bundle, policy=local) as near:
            found, expected = far.detect(bright), near.detect(bright)
            assert found.path == ("small", "cloud")
            assert len(found.boxes) == 3
            np.testing.assert_allclose(found.boxes, expected.boxes)
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
            assert found.unreached == ()
            alone = Router.load(bundle, policy=Fixed(("small",)))
            wrong = [{"name": "boxes", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 1, 1]}]
            behaviour.answer = {"outputs": wrong}  # no scores
            answer = far.detect(bright)
            assert answer.unreached == ("cloud",)
            assert answer.path == ("small",)
            assert answer.boxes.tolist() == alone.detect(bright).boxes.tolist()
            wrong.append({"name": "scores", "datatype": "FP32", "shape": [1], "data": [0.5]})
            assert far.detect(bright).unreached == ("cloud",)  # told, and no proposals
            alone.close()


def test_served_bundle_tells_of_it_over_http(tiny_candidates, tmp_path, shots):
    bundle = gone(tiny_candidates, tmp_path / "b", UP)
    with served(bundle) as server:
        url = f"http://127.0.0.1:{server.port}"
        with Client(url) as client:
            assert client.ready()
            assert client.classify(shots[0]).unreached == ("cloud",)
        with urllib3.PoolManager() as pool:
            said = pool.request(
                "POST",
                f"{url}/v2/models/cloud/infer",
                body=png(shots[0]),
                headers={"Inference-Header-Content-Length": "0"},
            )
            assert said.status == 503
            assert "Retry-After" in said.headers
            error = json.loads(said.data)["error"]
            assert "cannot be asked" in error or "left alone" in error
            metrics = pool.request("GET", f"{url}/metrics").data.decode()
    assert 'adaptive_remote_up{candidate="cloud"}' in metrics


def test_audit_whose_reference_is_gone_counts_as_failed(tiny_candidates, tmp_path, shots):
    bundle = gone(tiny_candidates, tmp_path / "b", Cascade(("cheap", "cloud"), thresholds=(0.0,)))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["reference"] = "cloud"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    audit = Audit(1.0)
    with Router.load(bundle, audit=audit) as router:
        assert router.classify(shots[0]).path == ("cheap",)
    assert audit.status()["failures"] == 1


def test_server_with_other_labels_is_refused_when_it_is_opened(
    cloud, tiny_candidates, tmp_path, shots
):
    bundle = cloud_bundle(tiny_candidates, cloud, tmp_path / "b", UP)
    manifest = json.loads((bundle / "manifest.json").read_text())
    entry = next(c for c in manifest["candidates"] if c["name"] == "cloud")
    assert entry["remote"]["version"] == "1"
    entry["remote"]["labels"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="add the candidate again"):
        Router.load(bundle)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"file": "x.onnx"}, "both"),
        ({"remote": {"url": "file:///x", "model": "m"}}, "http"),
        ({"remote": {"url": "http://x", "model": "m", "proxy": "y"}}, "proxy"),
        ({"remote": {"model": "m"}}, "url"),
        ({"after": "cheap"}, "no exit"),
    ],
)
def test_manifest_entry_that_cannot_be_is_refused(
    cloud, tiny_candidates, tmp_path, change, sentence
):
    folder = with_cloud(tiny_candidates, cloud, tmp_path / "c")
    manifest = json.loads((folder / "manifest.json").read_text())
    next(c for c in manifest["candidates"] if c["name"] == "cloud").update(change)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=sentence):
        Bundle.read(folder)


def test_router_of_another_server_is_no_candidate(cloud, tmp_path):
    with pytest.raises(InputError, match="best classes alone"):
        add_remote(tmp_path / "c", f"{cloud}/v2/models/adaptive", recipe=Recipe(size=16))
