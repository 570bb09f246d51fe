from __future__ import annotations

import io
import json
import logging

import pytest
from http_fixtures import JPEG, MAX_BODY_BYTES, ODD, URL, PlainRouter

from adaptive.errors import InputError
from adaptive.serving.http import create_app


@pytest.fixture
def client():
    return create_app(PlainRouter(), max_body_bytes=MAX_BODY_BYTES).test_client()


@pytest.mark.parametrize("sent", ODD.values(), ids=ODD.keys())
def test_every_odd_request_gets_its_answer(client, sent):
    answer = client.open(sent.path, method=sent.method, data=sent.body, headers=sent.headers)
    assert answer.status_code == sent.status
    assert answer.mimetype == "application/json"
    value = answer.get_json()
    if sent.status == 200:
        assert value["label"] == "cat"
    else:
        assert list(value) == ["error"]
        assert sent.words in value["error"]
        assert "\n" not in value["error"]


def test_answer_has_the_promised_fields(client):
    value = client.post(URL, data=JPEG).get_json()
    assert list(value) == [
        "label", "score", "calibrated", "abstained", "top5", "candidate", "path", "ms", "index"
    ]  # fmt: skip
    assert value["index"] == 0
    assert value["top5"] == [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}]
    assert value["path"] == ["small"]
    assert value["ms"]["total"] == 1.5


def test_explain_adds_features_votes_and_reason(client):
    value = client.post(URL + "?explain=1", data=JPEG).get_json()
    assert value["features"] == {"width": 80.0}
    assert value["votes"] == {"small": 1.0}
    assert value["reason"] == "small is enough"
    assert "reason" not in client.post(URL + "?explain=0", data=JPEG).get_json()


def test_wrong_method_names_the_allowed_ones(client):
    answer = client.get(URL)
    assert answer.headers["Allow"] == "OPTIONS, POST"


def test_encoded_body_is_told_what_is_accepted(client):
    answer = client.post(URL, data=JPEG, headers={"Content-Encoding": "br"})
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"
    assert client.post(URL, data=JPEG, headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(JPEG, 200), (b"x" * MAX_BODY_BYTES, 400), (b"x" * (MAX_BODY_BYTES + 1), 413)],
)
def test_body_without_a_length_is_read_to_its_end(client, body, status):
    answer = client.post(
        URL, input_stream=io.BytesIO(body), environ_overrides={"wsgi.input_terminated": True}
    )
    assert answer.status_code == status


def test_long_body_is_refused_unread(client):
    class Unread(io.BytesIO):
        def read(self, *_):
            raise AssertionError("the body was read")

    answer = client.post(
        URL, input_stream=Unread(), environ_overrides={"CONTENT_LENGTH": "256000000"}
    )
    assert answer.status_code == 413


def test_health_ready_and_bundle_answer(client):
    assert client.get("/healthz").get_json() == {"status": "alive"}
    assert client.get("/readyz").get_json() == {"status": "ready"}
    assert client.get("/v1/bundle").get_json() == {"candidates": [{"name": "small"}]}


def test_unready_says_why_and_still_answers_images():
    service = PlainRouter()
    service.ready.problem = "the networks are warming up"
    client = create_app(service).test_client()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json() == {"error": "the networks are warming up"}
    assert client.get("/healthz").status_code == 200
    assert client.post(URL, data=JPEG).status_code == 200
    service.ready.problem = None
    assert client.get("/readyz").status_code == 200


def test_bug_is_logged_and_not_shown(caplog):
    class Broken(PlainRouter):
        def classify(self, image, **options):
            raise RuntimeError("secret in /home/user/file.py")

    client = create_app(Broken()).test_client()
    with caplog.at_level(logging.ERROR, "adaptive.serving"):
        answer = client.post(URL, data=JPEG)
    assert answer.status_code == 500
    assert list(answer.get_json()) == ["error"]
    assert "secret" not in answer.get_data(as_text=True)
    assert "secret in /home/user/file.py" in caplog.text


def test_answers_are_json_text_with_a_line_end(client):
    text = client.post(URL, data=JPEG).get_data(as_text=True)
    assert text.endswith("}\n")
    assert json.loads(text)


@pytest.mark.parametrize("name", ["max_body_bytes", "max_batch"])
def test_limit_of_nothing_is_refused(name):
    with pytest.raises(InputError, match=f"{name} 0"):
        create_app(PlainRouter(), **{name: 0})
