"""`X-Stream`: frames of one camera, over HTTP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest
from box_candidates import box_candidates
from flask.testing import FlaskClient
from openapi_schema import violation
from PIL import Image

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.policy.cascade import Cascade
from adaptive.routing.generation import Settings
from adaptive.serving.collector import Collector
from adaptive.serving.http import create_app
from adaptive.serving.protocols import StreamKey
from adaptive.serving.service import Service
from adaptive.video.gate import FrameGate

SETTINGS = Settings(reuse=FrameGate("difference", 15, 0.0, 60.0), streams=2)


def encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


SCENE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
STILL = encoded(SCENE)
MOVED = encoded(np.roll(SCENE, 20, axis=1))


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    with Service(bundle, SETTINGS) as service:
        service.ready.problem = None
        yield service


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service).test_client()


def asked(client: FlaskClient, image: bytes, path: str = "/v1/classify", **headers: str):
    answer = client.post(path, data=image, headers=headers)
    assert answer.status_code == 200, answer.get_json()
    return answer.get_json()


def test_a_still_frame_is_reused_and_said_so(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    camera = {"X-Stream": "door"}
    first, second = (asked(client, STILL, **camera) for _ in range(2))
    moved = asked(client, MOVED, **camera)
    assert "reused" not in first
    assert "reused" not in moved
    assert (second["reused"]["frame"], second["reused"]["frames"]) == (1, 1)
    assert 0 <= second["reused"]["age_s"] < 60
    assert second["path"] == []
    assert (second["label"], second["score"]) == (first["label"], first["score"])
    schema = {"$ref": "#/components/schemas/Prediction"}
    for said in (first, second, moved):
        assert violation(said, schema, document) is None
    assert "reused" not in asked(client, MOVED)  # without a stream nothing is


def test_the_answer_is_the_one_without_a_stream(client: FlaskClient) -> None:
    plain = asked(client, STILL)
    first = asked(client, STILL, **{"X-Stream": "door"})
    for value in (plain, first):
        value.pop("ms")
    assert first == plain


def test_deadlines_that_are_alike_reuse(client: FlaskClient) -> None:
    for _ in range(2):
        said = asked(client, STILL, **{"X-Stream": "door", "X-Deadline-Ms": "60000"})
    assert said["reused"]["frame"] == 1
    assert "reused" not in asked(client, STILL, **{"X-Stream": "door", "X-Prefer": "accurate"})


def test_a_name_belongs_to_the_key_that_made_it(client: FlaskClient) -> None:
    mine = {"X-Stream": "door", "Authorization": "Bearer my-very-secret-key"}
    asked(client, STILL, **mine)
    theirs = {**mine, "Authorization": "Bearer other-very-secret"}
    assert "reused" not in asked(client, STILL, **theirs)
    assert "reused" in asked(client, STILL, **mine)
    assert "reused" in asked(client, STILL, **theirs)


def test_the_least_recently_used_stream_goes_first(service: Service, client: FlaskClient) -> None:
    for name in ("a", "b", "a", "c"):
        asked(client, STILL, **{"X-Stream": name})
    assert "reused" in asked(client, STILL, **{"X-Stream": "a"})
    assert "reused" not in asked(client, STILL, **{"X-Stream": "b"})
    text = Collector(service).text().decode()
    assert "adaptive_streams 2.0" in text
    assert "adaptive_streams_dropped_total 2.0" in text
    assert 'adaptive_stream_frames_total{what="still"} 2.0' in text
    assert 'adaptive_stream_frames_total{what="first"} 4.0' in text


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "tür", 'a"'])
def test_what_is_no_name_is_refused(client: FlaskClient, name: str) -> None:
    answer = client.post("/v1/classify", data=STILL, headers={"X-Stream": name})
    assert answer.status_code == 400
    assert "is no name of a stream" in answer.get_json()["error"]


def test_errors_are_those_without_a_stream(client: FlaskClient) -> None:
    camera = {"X-Stream": "door"}
    answer = client.post("/v1/classify", data=b"no image", headers=camera)
    assert answer.status_code == 400
    assert answer.get_json() == client.post("/v1/classify", data=b"no image").get_json()
    assert "reused" not in asked(client, STILL, **camera)
    late = {**camera, "X-Deadline-Ms": "1"}
    assert client.post("/v1/classify", data=STILL, headers=late).status_code in (200, 504)


def test_a_server_without_streams_says_so(bundle: Path) -> None:
    with Service(bundle, Settings(streams=0)) as service:
        client = create_app(service).test_client()
        answer = client.post("/v1/classify", data=STILL, headers={"X-Stream": "door"})
        assert (answer.status_code, "keeps no streams" in answer.get_json()["error"]) == (400, True)


def test_another_bundle_computes_anew(service: Service) -> None:
    key = StreamKey("me", "door")
    assert [service.classify(STILL, stream=key).reused is None for _ in range(2)] == [True, False]
    service.reload()
    assert service.classify(STILL, stream=key).reused is None


def test_boxes_are_reused_too(tmp_path: Path) -> None:
    source = Bundle.read(box_candidates(tmp_path / "candidates"))
    write_bundle(tmp_path / "bundle", source, Cascade(("small", "large"), thresholds=(0.9,)))
    with Service(tmp_path / "bundle", SETTINGS) as service:
        client = create_app(service).test_client()
        document = client.get("/openapi.json").get_json()
        camera = {"X-Stream": "door"}
        first, second = (asked(client, STILL, "/v1/detect", **camera) for _ in range(2))
        assert second["reused"]["frame"] == 1
        assert second["boxes"] == first["boxes"]
        schema = {"$ref": "#/components/schemas/Detections"}
        assert violation(second, schema, document) is None
