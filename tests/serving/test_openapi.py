"""What `/openapi.json` says is what the application answers."""

from __future__ import annotations

import base64
import json
import os
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from box_candidates import box_candidates
from flask import Response
from openapi_schema import resolved, violation
from persons import colour_identities
from served import served

from adaptive.bundle.bundle import Bundle, write_bundle
from adaptive.images.decode import FORMATS
from adaptive.policy.cascade import Cascade
from adaptive.serving.http import create_app
from adaptive.serving.models import TOP, VERSION
from adaptive.serving.page import FILES
from adaptive.serving.release import release
from adaptive.serving.tensors import INPUT

LENGTH = "Inference-Header-Content-Length"
HOOKS = Path(__file__).parents[1] / "support" / "schemathesis_hooks.py"


@pytest.fixture(scope="module")
def app(service, tmp_path_factory):
    known = colour_identities(tmp_path_factory.mktemp("store"))
    app = create_app(service, max_body_bytes=100_000, max_batch=4, identities=known)
    app.add_url_rule("/metrics", view_func=lambda: Response("# nothing\n", mimetype="text/plain"))
    return app


@pytest.fixture(scope="module")
def document(app):
    return app.test_client().get("/openapi.json").get_json()


def rules(app):
    """Paths and methods that the application has, in the document's spelling."""
    found = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", str(rule))
        found |= {(path, method.lower()) for method in rule.methods - {"HEAD", "OPTIONS"}}
    return found


def test_every_path_of_the_application_is_described_and_no_other(app, service, document):
    told = {(path, method) for path, item in document["paths"].items() for method in item}
    assert told == rules(app) - {("/v1/detect", "post")}  # which this bundle refuses
    bare = create_app(service).test_client().get("/openapi.json").get_json()
    persons = {"/v1/identify", "/v1/identities", "/v1/identities/{name}"}
    assert set(document["paths"]) - set(bare["paths"]) == {"/metrics", *persons}


def test_the_file_describes_what_the_application_has_and_no_more(app):
    written = json.loads(pkgutil.get_data("adaptive.serving", "openapi.json"))
    told = {(path, method) for path, item in written["paths"].items() for method in item}
    assert told == rules(app)


@pytest.mark.parametrize("secured", [False, True])
def test_every_part_is_referred_to_and_every_reference_leads_to_one(service, secured):
    document = create_app(service, secured=secured).test_client().get("/openapi.json").get_json()
    named = set(re.findall(r'"#/components/(\w+/\w+)"', json.dumps(document)))
    parts = document["components"]
    assert named == {
        f"{kind}/{name}" for kind in parts if kind != "securitySchemes" for name in parts[kind]
    }
    assert not any("$ref" in part for kind in parts.values() for part in kind.values())


def test_the_documents_words_are_the_programs(document):
    parts = document["components"]
    images = document["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert [kind for kind in images if kind.startswith("image/")] == [
        f"image/{name.lower()}" for name in FORMATS
    ]
    encoding = images["multipart/form-data"]["encoding"]["file"]["contentType"]
    assert encoding == ", ".join(f"image/{name.lower()}" for name in FORMATS)
    assert parts["parameters"]["Version"]["schema"]["enum"] == [VERSION]
    assert parts["schemas"]["Image"]["properties"]["name"]["enum"] == [INPUT]
    assert parts["schemas"]["Prediction"]["properties"]["top5"]["maxItems"] == TOP
    assert document["info"]["version"] == release()


def test_images_of_a_request_are_as_many_as_are_allowed(document):
    tensor = document["components"]["schemas"]["Image"]["properties"]
    assert tensor["shape"]["items"]["maximum"] == tensor["data"]["maxItems"] == 4


def test_models_of_the_bundle_are_named(document):
    (model,) = document["paths"]["/v2/models/{model}"]["get"]["parameters"]
    names = resolved(model, document)["schema"]["enum"]
    assert names == ["adaptive", "cheap", "strong", "net@1", "net@2"]
    unload = document["paths"]["/v2/repository/models/{model}/unload"]["post"]
    names = resolved(unload["parameters"][0], document)["schema"]["enum"]
    assert names == ["cheap", "strong", "net@1", "net@2"]


def asked(tiny_images):
    """Requests of every operation: path in the document, method, what is sent, and the status."""
    picture = (tiny_images / "000.png").read_bytes()
    text = base64.b64encode(picture).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    infer = {"inputs": [tensor], "id": "x"}
    wanted = {**infer, "outputs": [{"name": "label", "parameters": {"classification": 2}}]}
    yield "/v1/classify", "post", {"data": picture}, 200
    yield "/v1/classify", "post", {"data": picture, "query_string": "explain=1"}, 200
    yield "/v1/classify", "post", {"data": picture, "query_string": "explain=2"}, 200
    yield "/v1/classify", "post", {"data": b"nothing"}, 400
    yield "/v1/classify", "post", {"data": picture, "headers": {"X-Deadline-Ms": "x"}}, 400
    yield "/v1/classify", "post", {"data": bytes(100_001)}, 413
    yield "/v1/classify", "post", {"data": b"x", "headers": {"Content-Encoding": "br"}}, 415
    for path in FILES:
        yield path, "get", {}, 200
    for path in ("/v1/bundle", "/healthz", "/readyz", "/openapi.json", "/metrics"):
        yield path, "get", {}, 200
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats"):
        yield path, "get", {}, 200
    for middle in ("", "/versions/{version}"):
        path = "/v2/models/{model}" + middle
        for end in ("", "/config", "/ready", "/stats"):
            yield path + end, "get", {}, 200
            yield path + end, "get", {"model": "nobody"}, 404
        yield path + "/infer", "post", {"json": infer}, 200
        yield path + "/infer", "post", {"json": wanted}, 200
        yield path + "/infer", "post", {"data": picture, "headers": {LENGTH: "0"}}, 200
        yield path + "/infer", "post", {"data": b"{"}, 400
        yield path + "/infer", "post", {"json": infer, "model": "nobody"}, 404
        yield path + "/infer", "post", {"data": bytes(100_001)}, 413
    yield "/v1/identify", "post", {"data": picture}, 200
    yield "/v1/identify", "post", {"data": b"nothing"}, 400
    yield "/v1/identities/{name}", "post", {"data": picture}, 200
    yield "/v1/identities/{name}", "post", {"data": bytes(100_001)}, 413
    yield "/v1/identities", "get", {}, 200
    yield "/v1/identities", "post", {"json": {"rename": "somebody", "to": "Ann"}}, 200
    yield "/v1/identities", "post", {"json": {"merge": "somebody", "into": "Ann"}}, 404
    yield "/v1/identities/{name}", "delete", {"name": "Ann"}, 200
    yield "/v1/identities/{name}", "delete", {}, 404
    yield "/v2/repository/index", "post", {}, 200
    yield "/v2/repository/index", "post", {"data": b"["}, 400
    for change in ("unload", "load"):
        path = "/v2/repository/models/{model}/" + change
        yield path, "post", {}, 200
        yield path, "post", {"data": b"["}, 400
        yield path, "post", {"model": "nobody"}, 404


def test_answers_are_as_they_are_described(app, document, tiny_images):
    client = app.test_client()
    seen = set()
    for path, method, sent, status in asked(tiny_images):
        model = sent.pop("model", "cheap")
        name = sent.pop("name", "somebody")
        url = path.replace("{model}", model).replace("{version}", "1").replace("{name}", name)
        answer = client.open(url, method=method.upper(), **sent)
        assert answer.status_code == status, (path, answer.data)
        told = resolved(document["paths"][path][method]["responses"][str(status)], document)
        content = told["content"][answer.mimetype]
        if answer.mimetype == "application/json":
            why = violation(answer.get_json(), content["schema"], document)
            assert why is None, (path, why)
        for name in ("Accept-Encoding", "Retry-After", LENGTH):
            assert name not in answer.headers or name in told["headers"]
        seen.add((path, method))
    assert seen == rules(app) - {("/v1/detect", "post")}


def test_requests_that_are_answered_are_as_they_are_described(app, document, tiny_images):
    for path, method, sent, status in asked(tiny_images):
        body = sent.get("json")
        if body is None or status != 200:
            continue
        content = resolved(document["paths"][path][method]["requestBody"], document)["content"]
        assert violation(body, content["application/json"]["schema"], document) is None


def test_a_secured_server_says_what_wants_a_key(service):
    client = create_app(service, secured=True).test_client()
    document = client.get("/openapi.json").get_json()
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"}
    }
    for path, item in document["paths"].items():
        for operation in item.values():
            health = path.endswith(("/healthz", "/readyz", "/health/live", "/health/ready"))
            public = health or path in FILES
            assert ("security" in operation) == (not public)
            assert ("401" in operation["responses"]) == (not public)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "detect"])
def test_schemathesis_finds_nothing(bundle, tmp_path, task):
    program = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        pytest.skip("schemathesis is not on the path, and SCHEMATHESIS does not name it")
    if task == "detect":
        policy = Cascade(("small", "large"), thresholds=(0.9,))
        source = Bundle.read(box_candidates(tmp_path / "candidates"))
        bundle = tmp_path / "bundle"
        write_bundle(bundle, source, policy)
    with served(bundle) as server:
        done = subprocess.run(
            [program, "run", f"{server.url}/openapi.json", "-n", "5", "--seed", "1"],
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
            capture_output=True,
            text=True,
            timeout=400,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "No issues found" in done.stdout
