"""The Open Inference Protocol over plain HTTP: what the official client does, and cannot do."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from adaptive import BusyError, DeadlineError, EngineError, Router
from adaptive.policy.fixed import Fixed
from adaptive.serving import record
from adaptive.serving.http import create_app

LENGTH = "Inference-Header-Content-Length"
LIMIT = 200_000

UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture(scope="module")
def client(service):
    return create_app(service, max_body_bytes=LIMIT, max_batch=4).test_client()


@pytest.fixture(scope="module")
def pictures(tiny_images):
    return [(tiny_images / f"{row:03}.png").read_bytes() for row in range(4)]


def tensor(**changes):
    return {"name": "image", "datatype": "BYTES", "shape": [1], **changes}


def in_json(pictures, **request):
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return json.dumps({"inputs": [tensor(shape=[len(data)], data=data)], **request}).encode()


def in_binary(pictures, **request):
    """Body and headers of a request in the binary form."""
    blob = b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)
    own = tensor(shape=[len(pictures), 1], parameters={"binary_data_size": len(blob)})
    text = json.dumps({"inputs": [own], **request}).encode()
    return text + blob, {LENGTH: str(len(text))}


def outputs(answer):
    """By name, the values of an answer's outputs, whichever form it has."""
    body, length = answer.data, answer.headers.get(LENGTH)
    if "Content-Encoding" in answer.headers:
        body = UNPACK[answer.headers["Content-Encoding"]](body)
    if length is None:
        assert answer.mimetype == "application/json"
        value, rest = json.loads(body), b""
    else:
        assert answer.mimetype == "application/octet-stream"
        value, rest = json.loads(body[: int(length)]), body[int(length) :]
    found = {}
    for output in value["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
            continue
        blob, rest = rest[:size], rest[size:]
        if output["datatype"] == "FP32":
            found[output["name"]] = np.frombuffer(blob, "<f4").tolist()
            continue
        words = []
        while blob:
            (end,) = struct.unpack("<I", blob[:4])
            words.append(blob[4 : 4 + end].decode())
            blob = blob[4 + end :]
        found[output["name"]] = words
    assert rest == b""
    return found


def refusal(answer, status):
    """The sentence of an answer that must be a refusal."""
    assert answer.status_code == status, answer.data
    value = answer.get_json()
    assert list(value) == ["error"]
    assert "\n" not in value["error"]
    return value["error"]


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("model", ["adaptive", "cheap", "strong", "net@1", "net%402"])
def test_every_form_gets_the_same_answer(client, bundle, pictures, model, coding):
    name = model.replace("%40", "@")
    policy = None if name == "adaptive" else Fixed((name,))
    with Router.load(bundle, policy=policy) as router:
        expected = [router.classify(picture) for picture in pictures]
    binary, headers = in_binary(pictures)
    want_binary, more = in_binary(pictures, parameters={"binary_data_output": True})
    for body, sent in (
        (in_json(pictures), {}),
        (binary, headers),
        (want_binary, more),
        (in_json(pictures, parameters={"binary_data_output": True}), {}),
    ):
        packed = body
        if coding is not None:
            packed = PACK[coding](body)
            sent = {**sent, "Content-Encoding": coding, "Accept-Encoding": coding}
        answer = client.post(f"/v2/models/{model}/infer", data=packed, headers=sent)
        assert answer.status_code == 200
        assert answer.headers.get("Content-Encoding") == coding
        assert answer.headers["Vary"] == "Accept-Encoding"
        found = outputs(answer)
        assert found["label"] == [own.label for own in expected]
        scores = found["scores" if name == "adaptive" else "probabilities"]
        best = np.sort(np.reshape(scores, (4, 3)), axis=1)[:, ::-1]
        np.testing.assert_allclose(
            best, [[score for _, score in own.top5] for own in expected], rtol=1e-5
        )
        if name == "adaptive":
            assert found["candidate"] == [own.candidate for own in expected]


def test_outputs_may_be_mixed_and_come_as_they_were_asked_for(client, pictures):
    wanted = [
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"classification": 2}},
    ]
    answer = client.post(
        "/v2/models/strong/versions/1/infer", data=in_json(pictures[:2], outputs=wanted, id="7")
    )
    head = json.loads(answer.data[: int(answer.headers[LENGTH])])
    assert head["id"] == "7"
    assert [output["name"] for output in head["outputs"]] == ["probabilities", "label"]
    assert [output["shape"] for output in head["outputs"]] == [[2, 3], [2, 2]]
    found = outputs(answer)
    for row in range(2):
        values = found["probabilities"][3 * row : 3 * row + 3]
        first = found["label"][2 * row].split(":")
        assert float(first[0]) == pytest.approx(max(values), abs=1e-6)
        assert int(first[1]) == int(np.argmax(values))


def test_classes_of_one_name_keep_their_numbers(client, service, pictures, monkeypatch):
    class Twins:
        name, labels = "strong", ("bird", "crane", "crane")

        def infer(self, images, **_):
            return np.array([[0.2, 0.3, 0.5]] * len(images), np.float32)

    monkeypatch.setattr(service, "candidate", lambda name: Twins())
    body = in_json(pictures[:1], outputs=[{"name": "label", "parameters": {"classification": 3}}])
    answer = client.post("/v2/models/strong/infer", data=body)
    assert outputs(answer)["label"] == [
        "0.500000:2:crane",
        "0.300000:1:crane",
        "0.200000:0:bird",
    ]


def test_an_abstaining_router_answers_with_nothing(client, service, pictures, monkeypatch):
    from adaptive import Prediction

    silent = Prediction(None, None, None, (), None, (), {"total": 1.0})
    monkeypatch.setattr(service, "classify", lambda *_, **__: silent)
    found = outputs(client.post("/v2/models/adaptive/infer", data=in_json(pictures[:1])))
    assert found == {"label": [""], "candidate": [""], "labels": [""] * 3, "scores": [0.0] * 3}
    body = in_json(pictures[:1], outputs=[{"name": "scores", "parameters": {"classification": 2}}])
    answer = client.post("/v2/models/adaptive/infer", data=body)
    assert answer.status_code == 200
    assert answer.get_json()["outputs"][0]["data"] == []


def test_the_router_says_whether_all_scores_are_calibrated(client, service, pictures, monkeypatch):
    def said(model="adaptive"):
        return client.post(f"/v2/models/{model}/infer", data=in_json(pictures)).get_json()

    assert said()["parameters"] == {"calibrated": False}
    assert "parameters" not in said("cheap")
    plain = service.classify_batch

    def calibrated(images, **options):
        return [replace(answer, calibrated=True) for answer in plain(images, **options)]

    monkeypatch.setattr(service, "classify_batch", calibrated)
    assert said()["parameters"] == {"calibrated": True}


def test_raw_image_is_a_request(client, pictures):
    answer = client.post("/v2/models/cheap/infer", data=pictures[0], headers={LENGTH: "0"})
    assert (
        outputs(answer)["label"]
        == outputs(client.post("/v2/models/cheap/infer", data=in_json(pictures[:1])))["label"]
    )


def odd_requests():
    """Body, headers and words of the sentence that each is refused with."""
    picture = b"\x89PNG..."
    good, header = in_binary([picture])
    size = int(header[LENGTH])

    def binary(**changes):
        text = json.dumps({"inputs": [tensor(**changes)]}).encode()
        return text + good[size:], {LENGTH: str(len(text))}

    blob = len(good) - size
    nested = b"[" * 100_000 + b"]" * 100_000
    return {
        "no body": (b"", {}, "not JSON"),
        "no JSON": (b"{", {}, "not JSON"),
        "no UTF-8": (b'{"id": "\xff"}', {}, "UTF-8"),
        "a list": (b"[]", {}, "must be an object"),
        "deep": (nested, {}, "too deeply"),
        "long number": (b'{"id": ' + b"9" * 50_000 + b"}", {}, ""),
        "no inputs": (b"{}", {}, "'inputs'"),
        "inputs of none": (b'{"inputs": []}', {}, "0 inputs"),
        "inputs that are no list": (b'{"inputs": {}}', {}, "'inputs'"),
        "an input that is no object": (b'{"inputs": [1]}', {}, "must be an object"),
        "no name": (b'{"inputs": [{}]}', {}, "'name'"),
        "id that is a number": (in_json([picture], id=7), {}, "'id'"),
        "outputs that are no list": (in_json([picture], outputs={}), {}, "'outputs'"),
        "many outputs": (
            in_json([picture], outputs=[{"name": str(n)} for n in range(65)]),
            {},
            "65 outputs; 64 are allowed",
        ),
        "an output twice": (in_json([picture], outputs=[{"name": "label"}] * 2), {}, "twice"),
        "classification below 0": (
            in_json([picture], outputs=[{"name": "label", "parameters": {"classification": -1}}]),
            {},
            "below 0",
        ),
        "timeout that is a text": (
            in_json([picture], parameters={"timeout": "1"}),
            {},
            "'timeout'",
        ),
        "data that is no text": (
            json.dumps({"inputs": [tensor(data=[1])]}).encode(),
            {},
            "base64",
        ),
        "no data": (json.dumps({"inputs": [tensor()]}).encode(), {}, "'data'"),
        "fewer data than the shape says": (
            json.dumps({"inputs": [tensor(shape=[2], data=["AA=="])]}).encode(),
            {},
            "1 elements; its shape says 2",
        ),
        "more data than the shape says": (
            json.dumps({"inputs": [tensor(data=["AA==", 7])]}).encode(),
            {},
            "more elements than the 1",
        ),
        "more data in one list": (
            json.dumps({"inputs": [tensor(data=[["AA==", 7]])]}).encode(),
            {},
            "more elements than the 1",
        ),
        "empty lists of data": (
            json.dumps({"inputs": [tensor(data=[[], "AA=="])]}).encode(),
            {},
            "more elements than the 1",
        ),
        "shape of many": (
            json.dumps({"inputs": [tensor(shape=[1, "1", 1])]}).encode(),
            {},
            "a shape of 3 numbers",
        ),
        "shape of truth": (json.dumps({"inputs": [tensor(shape=[True])]}).encode(), {}, "shape"),
        "shape of nothing": (
            json.dumps({"inputs": [tensor(shape=[])]}).encode(),
            {},
            "of 0 numbers",
        ),
        "shape below 0": (json.dumps({"inputs": [tensor(shape=[-1])]}).encode(), {}, "-1 images"),
        "five images": (in_json([picture] * 5), {}, "1 to 4 are allowed"),
        "header that is no number": (good, {LENGTH: "-1"}, "is not a number"),
        "header beyond the body": (good, {LENGTH: str(len(good) + 1)}, "the body has"),
        "header that cuts the JSON": (good, {LENGTH: str(size - 1)}, "not JSON"),
        "binary data without a header": (good, {}, "Inference-Header-Content-Length"),
        "announced and not sent": (good[:size], {}, "0 follow"),
        "sent and not announced": (*binary(data=["AA=="]), "no input claims them"),
        "both forms": (*binary(data=["AA=="], parameters={"binary_data_size": blob}), "both"),
        "size too small": (*binary(parameters={"binary_data_size": blob - 1}), "announces"),
        "element too long": (
            good[:size] + struct.pack("<I", 2**32 - 1) + good[size + 4 :],
            header,
            "4294967295 bytes",
        ),
        "element too short": (
            good[:size] + struct.pack("<I", 1) + good[size + 4 :],
            header,
            "follow the last",
        ),
        "too few elements": (
            *binary(shape=[3], parameters={"binary_data_size": blob}),
            "3 elements",
        ),
    }


@pytest.mark.parametrize("name", odd_requests())
def test_malformed_request_is_refused_with_a_sentence(client, name):
    body, headers, words = odd_requests()[name]
    assert words in refusal(client.post("/v2/models/cheap/infer", data=body, headers=headers), 400)


def test_bodies_over_the_limit_are_refused_packed_or_not(client, pictures):
    url = "/v2/models/cheap/infer"
    allowed = f"{LIMIT} bytes"
    assert allowed in refusal(client.post(url, data=b"x" * (LIMIT + 1)), 413)
    packed = {"Content-Encoding": "gzip"}
    assert allowed in refusal(
        client.post(url, data=gzip.compress(bytes(LIMIT + 1)), headers=packed), 413
    )
    room = LIMIT - len(in_json(pictures[:1], id=""))
    full = in_json(pictures[:1], id="x" * room)
    assert len(full) == LIMIT
    assert client.post(url, data=gzip.compress(full), headers=packed).status_code == 200
    brotli = client.post(url, data=b"x", headers={"Content-Encoding": "br"})
    assert "'br'" in refusal(brotli, 415)
    assert brotli.headers["Accept-Encoding"] == "gzip, deflate"


def test_paths_and_methods_that_are_not_there_are_refused_in_json(client):
    assert "no such path" in refusal(client.get("/v2/"), 404)
    assert "no such path" in refusal(client.get("/v2/logging"), 404)
    assert "no such path" in refusal(client.post("/v2/models/a%2Fb/infer"), 404)
    assert "there is no model" in refusal(client.post("/v2/models/../infer"), 404)
    assert "does not take GET" in refusal(client.get("/v2/models/cheap/infer"), 405)
    assert "does not take POST" in refusal(client.post("/v2/health/live"), 405)
    assert client.get("/v2/repository/index").headers["Allow"] == "OPTIONS, POST"


def test_what_the_service_raises_has_its_status(client, service, pictures, monkeypatch):
    def raising(error):
        class Broken:
            name, labels = "cheap", ("a", "b")

            def infer(self, images, **_):
                raise error

        return lambda name: Broken()

    url, body = "/v2/models/cheap/infer", in_json(pictures[:1])
    monkeypatch.setattr(service, "candidate", raising(BusyError("64 wait already", 2.2)))
    answer = client.post(url, data=body)
    assert refusal(answer, 503) == "64 wait already"
    assert answer.headers["Retry-After"] == "3"
    monkeypatch.setattr(service, "candidate", raising(DeadlineError("it is too late")))
    assert refusal(client.post(url, data=body), 504) == "it is too late"
    monkeypatch.setattr(service, "candidate", raising(EngineError("/home/x/y.onnx is broken")))
    assert "/home" not in refusal(client.post(url, data=body), 500)


def test_deadline_and_timeout_reach_the_service(client, service, pictures, monkeypatch):
    seen = []

    class Listening:
        name, labels = "cheap", ("a", "b")

        def infer(self, images, *, limits, request_id):
            seen.append((limits, request_id))
            return np.array([[0.5, 0.5]], np.float32)

    monkeypatch.setattr(service, "candidate", lambda name: Listening())
    for timeout, headers in (
        (None, {}),
        (70_000, {}),
        (70_000, {"X-Deadline-Ms": "20", "X-Prefer": "fast"}),
        (10**300, {"X-Deadline-Ms": "20.5"}),
    ):
        body = in_json(pictures[:1], parameters={} if timeout is None else {"timeout": timeout})
        answer = client.post(
            "/v2/models/cheap/infer",
            data=body,
            headers=headers,
            environ_overrides={"adaptive.request_id": "mine"},
        )
        assert answer.status_code == 200
    assert [limits.remaining_ms for limits, _ in seen] == [np.inf, 70.0, 20.0, 20.5]
    assert [limits.preference for limits, _ in seen] == [0, 0, -1, 0]
    assert {request_id for _, request_id in seen} == {"mine"}


def test_timeout_counts_from_when_the_request_was_whole(client, service, pictures, monkeypatch):
    seen = []

    class Listening:
        name, labels = "cheap", ("a", "b")

        def infer(self, images, *, limits, request_id):
            seen.append(limits.remaining_ms)
            return np.array([[0.5, 0.5]], np.float32)

    def asked(timeout, **headers):
        # the test client has no thread of its own, so the record is this one's
        record.begin(record.Record(perf_counter() - 30, None, None))
        try:
            body = in_json(pictures[:1], parameters={"timeout": timeout})
            return client.post("/v2/models/cheap/infer", data=body, headers=headers)
        finally:
            record.end()

    monkeypatch.setattr(service, "candidate", lambda name: Listening())
    assert "waited 30" in refusal(asked(1), 504)
    assert "due after 20000 ms" in refusal(asked(20_000_000), 504)
    assert "due after 20000 ms" in refusal(asked(20_000_000, **{"X-Deadline-Ms": "90000"}), 504)
    assert asked(3_600_000_000).status_code == 200
    assert asked(3_600_000_000, **{"X-Deadline-Ms": "1800000"}).status_code == 200
    assert 3_000_000 < seen[0] <= 3_570_000
    assert 1_500_000 < seen[1] <= 1_770_000


def test_router_refuses_a_timeout_that_has_passed(client, pictures):
    record.begin(record.Record(perf_counter(), None, None))
    try:
        body = in_json(pictures[:1], parameters={"timeout": 1})
        assert "due after 0.001 ms" in refusal(
            client.post("/v2/models/adaptive/infer", data=body), 504
        )
    finally:
        record.end()


def test_unready_server_says_so_to_the_protocol_too(client, service):
    service.ready.problem = "the networks are warming up"
    try:
        assert refusal(client.get("/v2/health/ready"), 400) == "the networks are warming up"
        assert refusal(client.get("/v2/models/adaptive/ready"), 409)
        assert client.get("/v2/health/live").status_code == 200
    finally:
        service.ready.problem = None
    assert client.get("/v2/health/ready").status_code == 200


def test_index_may_be_asked_for_what_is_ready_only(client):
    url = "/v2/repository/index"
    everything = client.post(url).get_json()
    assert everything[0]["name"] == "adaptive"
    assert {entry["version"] for entry in everything} == {"1"}
    client.post("/v2/repository/models/cheap/unload")
    try:
        ready = client.post(url, data=b'{"ready": true}').get_json()
        assert {entry["name"] for entry in everything} - {e["name"] for e in ready} == {"cheap"}
        assert client.post(url, data=b'{"ready": false}').get_json() == client.post(url).get_json()
    finally:
        client.post("/v2/repository/models/cheap/load")
    assert "'ready'" in refusal(client.post(url, data=b'{"ready": 1}'), 400)
    assert refusal(client.post(url, data=b"nothing"), 400)


def test_failing_reload_tells_no_path_and_serves_on(client, service, bundle, pictures, caplog):
    manifest = bundle / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format": 1', '"format": 99'))
    try:
        sentence = refusal(client.post("/v2/repository/models/adaptive/load"), 400)
    finally:
        manifest.write_text(text)
    assert "still is" in sentence
    assert "manifest" not in sentence
    assert "format 99" in caplog.text
    answer = client.post("/v2/models/adaptive/infer", data=in_json(pictures[:1]))
    assert answer.status_code == 200
    assert client.post("/v2/repository/models/adaptive/load").status_code == 200
