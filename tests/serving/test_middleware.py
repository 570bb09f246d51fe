from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptive.prediction import Prediction
from adaptive.serving import record
from adaptive.serving.keys import Keys
from adaptive.serving.logs import Lines
from adaptive.serving.metrics import Metrics
from adaptive.serving.middleware import Middleware

KEY = "key-of-the-camera-0123"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Asked:
    """One request to the middleware, and what came back."""

    def __init__(
        self, middleware: Middleware, method: str = "GET", path: str = "/v1/bundle", **headers: str
    ):
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

        self.body = b"".join(middleware(environ, start))


def application(environ, start_response):
    assert record.current().id == environ["adaptive.request_id"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]


def requests(metrics: Metrics) -> dict[tuple[str, str], float]:
    """How many were answered, by kind and status."""
    samples = (s for family in metrics.collect() for s in family.samples)
    return {
        (s.labels["kind"], s.labels["status"]): s.value
        for s in samples
        if s.name == "adaptive_requests_total"
    }


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (tmp_path / "keys").write_text(KEY + "\n")
    return Keys(tmp_path / "keys")


def test_request_id_goes_in_and_comes_back():
    middleware = Middleware(application, Metrics())
    assert Asked(middleware, x_request_id="camera-7").headers["X-Request-Id"] == "camera-7"
    first, second = Asked(middleware).headers, Asked(middleware, x_request_id="a\tb").headers
    assert first["X-Request-Id"] != second["X-Request-Id"]
    assert record.current() is None


def test_trace_goes_on_only_where_there_is_one():
    middleware = Middleware(application, Metrics())
    headers = Asked(middleware, traceparent=TRACE, tracestate="vendor=1").headers
    assert headers["traceparent"].startswith(TRACE[:36])
    assert headers["traceparent"] != TRACE
    assert headers["tracestate"] == "vendor=1"
    assert "traceparent" not in Asked(middleware).headers
    assert "tracestate" not in Asked(middleware, tracestate="vendor=1").headers


def test_key_is_asked_for_everything_but_health(keys):
    middleware = Middleware(application, Metrics(), keys)
    answer = Asked(middleware)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert list(json.loads(answer.body)) == ["error"]
    assert answer.headers["X-Request-Id"]
    assert Asked(middleware, authorization=f"Bearer {KEY}").status == 200
    assert Asked(middleware, authorization=f"Bearer {KEY}x").status == 401
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert Asked(middleware, path=path).status == 200
    assert Asked(middleware, "POST", "/healthz").status == 401
    for path in ("/metrics", "/v1/classify", "/healthz/", "/v2/repository/index", "//healthz"):
        assert Asked(middleware, path=path).status == 401


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_models_change_only_from_this_machine(verb, keys):
    middleware = Middleware(application, Metrics())
    path = f"/v2/repository/models/adaptive/{verb}"
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert Asked(middleware, "POST", path, address=address).status == 200
    for address in ("10.0.0.7", "::ffff:10.0.0.7", "2001:db8::1", "", "nowhere"):
        assert Asked(middleware, "POST", path, address=address).status == 403
    # A proxy on this machine sends everybody's requests from here.
    assert Asked(middleware, "POST", path, x_forwarded_for="10.0.0.7").status == 403
    assert Asked(middleware, "POST", path, forwarded="for=10.0.0.7").status == 403
    assert Asked(middleware, "POST", "/v2/repository/index", address="10.0.0.7").status == 200
    # A page of another site, in a browser here; and one whose name was bent to this machine.
    assert Asked(middleware, "POST", path, origin="http://evil.example").status == 403
    assert Asked(middleware, "POST", path, sec_fetch_site="cross-site").status == 403
    assert Asked(middleware, "POST", path, host="evil.example:8080").status == 403
    for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "192.0.2.2"):
        assert Asked(middleware, "POST", path, host=host).status == 200
    keyed = Middleware(application, Metrics(), keys)
    far = {"address": "10.0.0.7", "authorization": f"Bearer {KEY}"}
    assert Asked(keyed, "POST", path, **far).status == 200


@pytest.mark.parametrize("path", ["//v2/repository/models/a/load", "///v2", "//healthz", "v2", "*"])
def test_paths_that_are_read_in_two_ways_are_nowhere(path, keys):
    assert Asked(Middleware(application, Metrics()), "POST", path, address="10.0.0.7").status == 404
    keyed = Middleware(application, Metrics(), keys)
    assert Asked(keyed, "POST", path).status == 401
    assert Asked(keyed, "POST", path, authorization=f"Bearer {KEY}").status == 404


def test_requests_are_counted_by_kind_and_status(keys):
    metrics = Metrics()
    middleware = Middleware(application, metrics, keys)
    right = {"authorization": f"Bearer {KEY}"}
    Asked(middleware, "POST", "/v1/classify", **right)
    Asked(middleware, "POST", "/v2/models/small/versions/1/infer", **right)
    Asked(middleware, "POST", "/v1/classify")
    Asked(middleware, path="/no/such/path" * 20, **right)
    assert requests(metrics) == {
        ("classify", "200"): 1,
        ("infer", "200"): 1,
        ("classify", "401"): 1,
        ("other", "200"): 1,
    }
    value = metrics.registry.get_sample_value
    assert value("adaptive_request_seconds_count", {"kind": "classify"}) == 2


def test_log_says_who_asked_what_and_what_became_of_it(tmp_path, keys):
    def answering(environ, start_response):
        record.current().said = Prediction(
            "cat", 0, 0.9, (), "big", ("small", "big"), {"decode": 0.5, "big": 2.0, "total": 3.0}
        )
        return application(environ, start_response)

    path = tmp_path / "requests.jsonl"
    lines = Lines(path)
    middleware = Middleware(answering, Metrics(), keys, lines)
    Asked(
        middleware,
        "POST",
        "/v1/classify",
        x_request_id="a-1",
        traceparent=TRACE,
        authorization=f"Bearer {KEY}",
    )
    Asked(middleware, "POST", "/v1/classify\n{}")
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
        Asked(Middleware(broken, metrics))
    assert requests(metrics) == {("other", "500"): 1}
    assert record.current() is None
