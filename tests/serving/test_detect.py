"""Boxes over HTTP: `/v1/detect`, and the Open Inference Protocol."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from box_candidates import box_candidates
from flask.testing import FlaskClient
from openapi_schema import violation
from PIL import Image

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.policy.cascade import Cascade
from adaptive.serving.http import create_app
from adaptive.serving.service import Service


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


YELLOW = picture((255, 128, 0))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    source = Bundle.read(box_candidates(folder / "candidates"))
    write_bundle(folder / "bundle", source, Cascade(("small", "large"), thresholds=(0.9,)))
    with Service(folder / "bundle") as service:
        service.warm_up()
        service.ready.problem = None
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> FlaskClient:
    return create_app(service, max_batch=4).test_client()


def test_boxes_are_answered_as_described(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert "/v1/classify" not in document["paths"]
    schema = {"$ref": "#/components/schemas/Detections"}
    for query in ("", "?explain=1"):
        for colour in ((255, 128, 0), (0, 0, 0)):
            answer = client.post("/v1/detect" + query, data=picture(colour))
            assert answer.status_code == 200
            assert violation(answer.get_json(), schema, document) is None
    said = client.post("/v1/detect", data=YELLOW).get_json()
    assert said["labels"] == ["red", "green"]
    assert said["boxes"] == [[0, 0, 16, 16], [16, 16, 48, 48]]
    assert said["size"] == [64, 64]
    assert said["path"] == ["small", "large"]
    assert said["candidate"] == "large"
    assert client.get("/v1/bundle").get_json()["task"] == "detect"


def test_what_cannot_be_read_is_refused_in_one_sentence(client: FlaskClient) -> None:
    for path, body, says in (
        ("/v1/detect", b"", "no body"),
        ("/v1/detect", b"nothing", "is not a JPEG"),
        ("/v1/detect?explain=5", YELLOW, "is not one of 0, 1 and 2"),
        ("/v1/classify", YELLOW, "cannot classify; it finds boxes: use Router.detect"),
    ):
        answer = client.post(path, data=body)
        assert answer.status_code == 400
        assert says in answer.get_json()["error"]


def infer(client: FlaskClient, model: str, images: list[bytes], **more: Any) -> Any:
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}
    return client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor], **more})


@pytest.mark.parametrize("model", ["adaptive", "large"])
def test_inference_protocol(client: FlaskClient, model: str) -> None:
    said = infer(client, model, [YELLOW]).get_json()
    outputs = {out["name"]: out for out in said["outputs"]}
    assert outputs["boxes"] == {
        "name": "boxes",
        "datatype": "FP32",
        "shape": [2, 4],
        "data": [0, 0, 16, 16, 16, 16, 48, 48],
    }
    assert outputs["scores"]["shape"] == [2]
    assert outputs["scores"]["data"] == pytest.approx([1, 128 / 255])
    assert outputs["classes"] == {
        "name": "classes", "datatype": "INT64", "shape": [2], "data": [0, 1],
    }  # fmt: skip
    assert outputs["labels"] == {
        "name": "labels", "datatype": "BYTES", "shape": [2], "data": ["red", "green"],
    }  # fmt: skip
    assert ("candidate" in outputs) == (model == "adaptive")
    metadata = client.get(f"/v2/models/{model}").get_json()
    assert {out["name"]: out["datatype"] for out in metadata["outputs"]} == {
        name: out["datatype"] for name, out in outputs.items()
    }
    assert client.get(f"/v2/models/{model}/config").get_json()["max_batch_size"] == 0
    nothing = infer(client, model, [picture((0, 0, 0))]).get_json()["outputs"]
    assert [out["shape"] for out in nothing[:4]] == [[0, 4], [0], [0], [0]]


def test_binary_outputs(client: FlaskClient) -> None:
    wanted = [{"name": n, "parameters": {"binary_data": True}} for n in ("boxes", "classes")]
    answer = infer(client, "adaptive", [YELLOW], outputs=wanted)
    length = int(answer.headers["Inference-Header-Content-Length"])
    head = json.loads(answer.data[:length])
    sizes = [out["parameters"]["binary_data_size"] for out in head["outputs"]]
    assert sizes == [2 * 4 * 4, 2 * 8]
    assert np.frombuffer(answer.data[-16:], "<i8").tolist() == [0, 1]


def test_requests_that_boxes_cannot_answer(client: FlaskClient) -> None:
    two = infer(client, "adaptive", [YELLOW, YELLOW])
    assert two.status_code == 400
    assert two.get_json()["error"].startswith("2 images in one request; a model that finds boxes")
    wanted = [{"name": "labels", "parameters": {"classification": 2}}]
    ranked = infer(client, "adaptive", [YELLOW], outputs=wanted)
    assert ranked.status_code == 400
    assert "has no best classes" in ranked.get_json()["error"]


def test_a_classify_bundle_is_no_detector(tmp_path: Path, tiny_candidates: Path) -> None:
    with Service(tiny_candidates) as service:
        client = create_app(service).test_client()
        answer = client.post("/v1/detect", data=YELLOW)
    assert answer.status_code == 400
    assert "cannot detect; it classifies images: use Router.classify" in answer.get_json()["error"]


def test_answers_are_counted(client: FlaskClient, service: Service) -> None:
    before = service.statistics()["adaptive"].inference_count
    client.post("/v1/detect", data=YELLOW)
    assert service.statistics()["adaptive"].inference_count == before + 1
