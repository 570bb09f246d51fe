from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptive.prediction import Prediction
from adaptive.serving import families, record
from adaptive.serving.keys import Keys
from adaptive.serving.logs import Lines
from adaptive.serving.metrics import Metrics
from adaptive.serving.middleware import Front

KEY = "key-of-the-camera-0123"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Asked:
    """One request to a front, and what came back."""

    def __init__(self, front: Front, method: str = "GET", path: str = "/v1/bundle", **headers: str):
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "REMOTE_ADDR": headers.pop("address", "127.0.0.1"),
            **{"HTTP_" + name.upper(): value for name, value in headers.items()},
        }
        self.environ = environ

        def start(status, headers, exc_info=None):
            self.status = int(status[:3])
            self.headers = dict(headers)

        self.body = b"".join(front(environ, start))


def application(environ, start_response):
    assert record.current().id == environ["adaptive.request_id"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (tmp_path / "keys").write_text(KEY + "\n")
    return Keys(tmp_path / "keys")


def test_request_id_goes_in_and_comes_back():
    front = Front(application, Metrics())
    assert Asked(front, x_request_id="camera-7").headers["X-Request-Id"] == "camera-7"
    first, second = Asked(front).headers, Asked(front, x_request_id="a\tb").headers
    assert first["X-Request-Id"] != second["X-Request-Id"]
    assert record.current() is None


def test_trace_goes_on_only_where_there_is_one():
    front = Front(application, Metrics())
    headers = Asked(front, traceparent=TRACE, tracestate="vendor=1").headers
    assert headers["traceparent"].startswith(TRACE[:36])
    assert headers["traceparent"] != TRACE
    assert headers["tracestate"] == "vendor=1"
    assert "traceparent" not in Asked(front).headers
    assert "tracestate" not in Asked(front, tracestate="vendor=1").headers


def test_key_is_asked_for_everything_but_health(keys):
    front = Front(application, Metrics(), keys)
    answer = Asked(front)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert list(json.loads(answer.body)) == ["error"]
    assert answer.headers["X-Request-Id"]
    assert Asked(front, authorization=f"Bearer {KEY}").status == 200
    assert Asked(front, authorization=f"Bearer {KEY}x").status == 401
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert Asked(front, path=path).status == 200
    assert Asked(front, "POST", "/healthz").status == 401
    for path in ("/metrics", "/v1/classify", "/healthz/", "/v2/repository/index", "//healthz"):
        assert Asked(front, path=path).status == 401


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_models_change_only_from_this_machine(verb, keys):
    front = Front(application, Metrics())
    path = f"/v2/repository/models/adaptive/{verb}"
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert Asked(front, "POST", path, address=address).status == 200
    for address in ("10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "", "nowhere"):
        assert Asked(front, "POST", path, address=address).status == 403
    # A proxy on this machine sends everybody's requests from here.
    assert Asked(front, "POST", path, x_forwarded_for="10.0.0.7").status == 403
    assert Asked(front, "POST", path, forwarded="for=10.0.0.7").status == 403
    assert Asked(front, "POST", "/v2/repository/index", address="10.0.0.7").status == 200
    # A page of another site, in a browser here; and one whose name was bent to this machine.
    assert Asked(front, "POST", path, origin="http://evil.example").status == 403
    assert Asked(front, "POST", path, sec_fetch_site="cross-site").status == 403
    assert Asked(front, "POST", path, host="evil.example:8080").status == 403
    for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "192.0.2.2"):
        assert Asked(front, "POST", path, host=host).status == 200
    keyed = Front(application, Metrics(), keys)
    far = {"address": "10.0.0.7", "authorization": f"Bearer {KEY}"}
    assert Asked(keyed, "POST", path, **far).status == 200


@pytest.mark.parametrize("path", ["//v2/repository/models/a/load", "///v2", "//healthz", "v2", "*"])
def test_paths_that_are_read_in_two_ways_are_nowhere(path, keys):
    assert Asked(Front(application, Metrics()), "POST", path, address="10.0.0.7").status == 404
    keyed = Front(application, Metrics(), keys)
    assert Asked(keyed, "POST", path).status == 401
    assert Asked(keyed, "POST", path, authorization=f"Bearer {KEY}").status == 404


def test_requests_are_counted_by_kind_and_status(keys):
    metrics = Metrics()
    front = Front(application, metrics, keys)
    right = {"authorization": f"Bearer {KEY}"}
    Asked(front, "POST", "/v1/classify", **right)
    Asked(front, "POST", "/v2/models/small/versions/1/infer", **right)
    Asked(front, "POST", "/v1/classify")
    Asked(front, path="/no/such/path" * 20, **right)
    assert metrics.values(families.REQUESTS) == {
        ("classify", "200"): 1,
        ("infer", "200"): 1,
        ("classify", "401"): 1,
        ("other", "200"): 1,
    }
    seconds = metrics.values(families.REQUEST_SECONDS)
    assert sum(seconds["classify",][:-1]) == 2


def test_log_says_who_asked_what_and_what_became_of_it(tmp_path, keys):
    def answering(environ, start_response):
        record.current().said = Prediction(
            "cat", 0, 0.9, (), "big", ("small", "big"), {"decode": 0.5, "big": 2.0, "total": 3.0}
        )
        return application(environ, start_response)

    path = tmp_path / "requests.jsonl"
    lines = Lines(path)
    front = Front(answering, Metrics(), keys, lines)
    Asked(
        front,
        "POST",
        "/v1/classify",
        x_request_id="a-1",
        traceparent=TRACE,
        authorization=f"Bearer {KEY}",
    )
    Asked(front, "POST", "/v1/classify\n{}")
    lines.close()
    first, second = (json.loads(text) for text in path.read_text().splitlines())
    assert first["request"] == "a-1"
    assert first["trace"] == TRACE[3:35]
    assert first["parent"] == TRACE[36:52]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/classify", 200)
    assert first["client"] == "127.0.0.1"
    assert first["candidate"] == "big"
    assert first["ran"] == ["small", "big"]
    assert first["steps_ms"] == {"decode": 0.5, "big": 2.0, "total": 3.0}
    assert first["ms"] >= first["queue_ms"] >= 0
    assert first["bytes_out"] == 4
    assert second["status"] == 401
    assert second["path"] == "/v1/classify\n{}"
    assert KEY not in path.read_text()


def test_application_that_fails_is_counted_and_leaves_nothing_behind():
    def broken(environ, start_response):
        raise RuntimeError("a bug")

    metrics = Metrics()
    with pytest.raises(RuntimeError):
        Asked(Front(broken, metrics))
    assert metrics.values(families.REQUESTS) == {("other", "500"): 1}
    assert record.current() is None
