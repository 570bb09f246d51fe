"""The application under servers that are not ours: all but the drain is its own."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time

import pytest
import uvicorn
from http_fixtures import BOMB, HANG_S, JPEG, Sent, post
from werkzeug.serving import make_server

from adaptive.serving.assembly import Endpoint, asgi_application, wsgi_application
from adaptive.serving.keys import Keys
from adaptive.serving.service import Service

KEY = "key-of-the-camera-0123"


@contextlib.contextmanager
def in_uvicorn(service: Service, endpoint: Endpoint):
    application = asgi_application(service, endpoint)
    config = uvicorn.Config(application, port=0, log_config=None, ws="none", proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + HANG_S
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(HANG_S)
        application.close()


@contextlib.contextmanager
def in_werkzeug(service: Service, endpoint: Endpoint):
    server = make_server("127.0.0.1", 0, wsgi_application(service, endpoint), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(HANG_S)
        server.server_close()


def metrics(port: int, headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    try:
        connection.request("GET", "/metrics", headers=headers)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("host", [in_uvicorn, in_werkzeug], ids=["ASGI", "WSGI"])
def test_application_keeps_its_promises_under_another_server(host, bundle, tmp_path, caplog):
    (tmp_path / "keys").write_text(KEY + "\n")
    right = {"Authorization": f"Bearer {KEY}"}
    endpoint = Endpoint(threads=1, queue=1, max_body_bytes=100_000, keys=Keys(tmp_path / "keys"))
    with Service(bundle) as service:
        service.warm_up()
        service.ready.problem = None
        hold, begun, classify = threading.Event(), threading.Semaphore(0), service.classify

        def slow(*args, **options):
            begun.release()
            assert hold.wait(HANG_S)
            return classify(*args, **options)

        with host(service, endpoint) as port:
            hold.set()
            assert post(port, Sent(JPEG, 200, headers=right))[0] == 200
            assert post(port, Sent(JPEG, 401))[0] == 401
            assert post(port, Sent(b"x" * 100_001, 413, headers=right))[0] == 413
            packed = {**right, "Content-Encoding": "gzip"}
            assert post(port, Sent(BOMB, 413, headers=packed))[0] == 413
            hold.clear()
            service.classify = slow
            statuses: list[int] = []
            late = {**right, "X-Deadline-Ms": "50"}

            def ask(headers) -> None:
                statuses.append(post(port, Sent(JPEG, 200, headers=headers))[0])

            first = threading.Thread(target=ask, args=(right,))
            first.start()
            assert begun.acquire(timeout=HANG_S)
            second = threading.Thread(target=ask, args=(late,))
            second.start()
            end = time.monotonic() + HANG_S
            while "adaptive_queue_depth 1.0" not in metrics(port, right):
                assert time.monotonic() < end
                time.sleep(0.01)
            status, value = post(port, Sent(JPEG, 503, headers=right))
            assert (status, "1 requests wait already" in value["error"]) == (503, True)
            time.sleep(0.1)
            hold.set()
            first.join(HANG_S)
            second.join(HANG_S)
            assert sorted(statuses) == [200, 504]
            assert 'requests_total{kind="classify",status="503"} 1.0' in metrics(port, right)
