from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import numpy as np
import pytest
from certificates import make_certificate, needs_openssl
from PIL import Image
from served import HANG_S, served

from adaptive import (
    BusyError,
    Client,
    DeadlineError,
    ImageError,
    InputError,
    Router,
    ServiceError,
)
from adaptive.client import client as module
from adaptive.client import exchange
from adaptive.client.client import read_key
from adaptive.serving.keys import Keys
from adaptive.serving.tls import CertificateFiles

ANSWER = {
    "label": "cat",
    "score": 0.5,
    "top5": [{"label": "cat", "score": 0.5}],
    "candidate": "small",
    "path": ["small"],
    "ms": {"total": 1.0},
    "index": 3,
}
TEXT = json.dumps(ANSWER).encode()
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(TEXT)

#: Between two parts of an answer that comes bit by bit, seconds.
PAUSE_S = 0.02


@pytest.fixture(scope="module")
def server(tiny_bundle):
    with served(tiny_bundle) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


class Script:
    """A server that says what it is told to, one entry for each request on any connection.

    An entry is (status, headers, value), or "close" to hang up, or raw bytes; or a list of those,
    which are sent one after the other with a pause after each.
    """

    def __init__(self, *entries) -> None:
        self.entries = list(entries)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._links: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, link.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while (text := stream.readline().decode().strip()) != "":
                    name, _, value = text.partition(": ")
                    headers[name] = value
                body = stream.read(int(headers.get("Content-Length", 0)))
                self.requests.append((line.decode().strip(), headers, body))
                entry = self.entries.pop(0)
                if entry == "close":
                    return
                if isinstance(entry, bytes):
                    link.sendall(entry)
                    return
                if isinstance(entry, list):
                    with suppress(OSError):  # the client may have had enough
                        for part in entry:
                            link.sendall(part)
                            time.sleep(PAUSE_S)
                    return
                status, more, value = entry
                text = json.dumps(value)
                lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(text)}"]
                lines += [f"{name}: {value}" for name, value in more.items()]
                link.sendall(("\r\n".join(lines) + "\r\n\r\n" + text).encode())

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(HANG_S)


@contextmanager
def scripted(*entries):
    script = Script(*entries)
    try:
        yield script
    finally:
        script.close()


@pytest.fixture
def waits(monkeypatch):
    """How long the client waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(module, "sleep", found.append)
    return found


def busy(after=None):
    headers = {} if after is None else {"Retry-After": after}
    return 503, headers, {"error": "64 requests wait already"}


def test_bytes_path_and_array_get_the_router_s_answer(client, tiny_bundle, tiny_images):
    path = tiny_images / "003.png"
    with Router.load(tiny_bundle) as router:
        expected = router.classify(path)
    pixels = np.asarray(Image.open(path))
    for image in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), pixels):
        answer = client.classify(image)
        assert (answer.label, answer.index) == (expected.label, expected.index)
        assert (answer.candidate, answer.path) == (expected.candidate, expected.path)
        assert answer.score == pytest.approx(expected.score, rel=1e-6)
        assert [label for label, _ in answer.top5] == [label for label, _ in expected.top5]
        assert answer.ms.keys() == expected.ms.keys()
        assert answer.features is None
    told = client.classify(path, explain=True)
    assert told.reason == expected.reason
    assert told.explanation is None


def test_grey_arrays_are_sent_and_others_refused(client):
    assert client.classify(np.full((20, 30), 90, np.uint8)).label
    with pytest.raises(ImageError, match="uint8"):
        client.classify(np.zeros((20, 30, 3)))


def test_bundle_and_ready_tell_about_the_server(server, client):
    assert client.ready()
    assert [c["name"] for c in client.bundle()["candidates"]] == ["cheap", "strong"]
    assert repr(client) == f"Client({server.url!r})"


def test_what_cannot_be_read_is_an_image_error(client, tmp_path):
    with pytest.raises(ImageError, match=r"none\.png cannot be read: No such file"):
        client.classify(tmp_path / "none.png")
    text = tmp_path / "notes.png"
    text.write_text("no image")
    with pytest.raises(ImageError, match=r"notes\.png: the image is not a JPEG"):
        client.classify(text)
    with pytest.raises(ImageError, match="the request has no body"):
        client.classify(b"")
    with pytest.raises(ImageError, match="bytes that are allowed"):
        client.classify(bytes(16_000_001))
    assert client.classify(np.zeros((8, 8, 3), np.uint8)).label


def test_one_connection_is_kept_for_many_requests():
    with scripted(*[(200, {}, ANSWER)] * 5) as script, Client(script.url) as client:
        for _ in range(5):
            assert client.classify(b"x").label == "cat"
        assert script.connections == 1


def test_connection_that_the_server_ends_is_opened_anew():
    with scripted((200, {"Connection": "close"}, ANSWER), (200, {}, ANSWER)) as script:
        with Client(script.url) as client:
            client.classify(b"x")
            client.classify(b"x")
        assert script.connections == 2


def test_kept_connection_that_turns_out_closed_loses_no_request():
    with scripted((200, {}, ANSWER), "close", (200, {}, ANSWER)) as script:
        with Client(script.url) as client:
            client.classify(b"x")
            assert client.classify(b"y").label == "cat"
        assert [body for _, _, body in script.requests] == [b"x", b"y", b"y"]


def test_frame_of_a_stream_says_from_which_frame_its_answer_is():
    reused = {**ANSWER, "reused": {"frame": 3, "frames": 2, "age_s": 0.08}}
    with scripted((200, {}, reused), (200, {}, ANSWER)) as script:
        with Client(script.url) as client:
            assert client.classify(b"x", stream="door").reused == (3, 2, 0.08)
            assert client.classify(b"x").reused is None
            with pytest.raises(InputError, match="stream 'a b' is no name of a stream"):
                client.classify(b"x", stream="a b")
        (_, headers, _), (_, others, _) = script.requests
        assert headers["X-Stream"] == "door"
        assert "X-Stream" not in others


def test_fresh_connection_that_is_closed_is_an_error():
    with scripted("close") as script, Client(script.url) as client:
        with pytest.raises(ServiceError, match="cannot be reached"):
            client.classify(b"x")
        assert len(script.requests) == 1


def test_request_says_what_was_asked_for():
    with scripted((200, {}, ANSWER), (200, {}, ANSWER)) as script:
        client = Client(script.url + "/board/", api_key="secret")
        client.classify(b"x", deadline_ms=60_000, prefer="fast", request_id="r1", explain=True)
        client.classify(b"y")
        client.close()
    (line, headers, body), (plain, others, _) = script.requests
    assert line == "POST /board/v1/classify?explain=1 HTTP/1.1"
    assert plain == "POST /board/v1/classify HTTP/1.1"
    assert body == b"x"
    assert headers["Authorization"] == others["Authorization"] == "Bearer secret"
    assert headers["X-Prefer"] == "fast"
    assert headers["X-Request-Id"] == "r1"
    assert 0 < float(headers["X-Deadline-Ms"]) <= 60_000
    assert not {"X-Prefer", "X-Request-Id", "X-Deadline-Ms"} & set(others)


def test_busy_server_is_asked_again_after_what_it_says(waits):
    answers = busy("2"), busy("0"), (200, {}, ANSWER)
    with scripted(*answers) as script, Client(script.url) as client:
        assert client.classify(b"x").label == "cat"
    assert 2 <= waits[0] <= 2.6
    assert 0 <= waits[1] <= 0.1
    assert [body for _, _, body in script.requests] == [b"x"] * 3


@pytest.mark.parametrize("header", [None, "soon", "-1", "nan", "Sat, 21 Nov 2026 10:00:00 GMT"])
def test_waits_double_where_the_server_says_nothing_useful(waits, header):
    with scripted(*[busy(header)] * 5) as script, Client(script.url) as client:
        with pytest.raises(BusyError, match="64 requests wait"):
            client.classify(b"x")
        assert len(script.requests) == 5
    for attempt, wait in enumerate(waits):
        assert 0.05 * 2**attempt <= wait <= 0.15 * 2**attempt
    assert len(waits) == 4


def test_server_may_name_the_time_to_come_back(waits):
    when = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    with scripted(busy(when), (200, {}, ANSWER)) as script, Client(script.url) as client:
        client.classify(b"x")
    assert 10 <= waits[0] <= 26


def test_client_gives_up_rather_than_wait_for_long(waits):
    with scripted(busy("3600")) as script, Client(script.url) as client:
        with pytest.raises(BusyError) as refused:
            client.classify(b"x")
        assert refused.value.retry_after_s >= 3600
    with scripted(busy("1")) as script:
        impatient = Client(script.url, retries=0)
        with impatient, pytest.raises(BusyError):
            impatient.classify(b"x")
    assert waits == []


def test_deadline_holds_over_all_attempts(waits):
    with scripted(busy("2")) as script, Client(script.url) as client:
        with pytest.raises(DeadlineError, match="no room before the deadline"):
            client.classify(b"x", deadline_ms=1500)
        assert len(script.requests) == 1
    assert waits == []
    with scripted(busy("0.2"), (200, {}, ANSWER)) as script, Client(script.url) as client:
        client.classify(b"x", deadline_ms=20_000)
        first, second = (float(h["X-Deadline-Ms"]) for _, h, _ in script.requests)
        assert second < first <= 20_000


def test_server_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.2) as client:
            began = time.monotonic()
            with pytest.raises(ServiceError, match=r"did not answer within 0\.2 s"):
                client.classify(b"x")
            assert not client.ready()
        with Client(url) as client, pytest.raises(DeadlineError, match="before the deadline"):
            client.classify(b"x", deadline_ms=200)
        assert time.monotonic() - began < HANG_S


def chain(error):
    """What an error says, and all that stand behind it."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def test_error_names_the_deadline_that_applied(waits):
    busy_later = busy("2"), busy("2")
    with scripted("close", *busy_later) as script, Client(script.url) as client:
        with pytest.raises(DeadlineError, match=r"the deadline of 0\.5 ms passed before"):
            client.classify(b"x", deadline_ms=0.5)
        with pytest.raises(ServiceError) as raised:
            client.classify(b"x", deadline_ms=60_000)
        assert type(raised.value) is ServiceError  # the deadline was not what failed
        with pytest.raises(DeadlineError, match=r"no room before the deadline of 1500 ms$"):
            client.classify(b"x", deadline_ms=1500)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        late = pytest.raises(DeadlineError, match=r"before the deadline of 150 ms$")
        with Client(url) as client, late as raised:
            client.classify(b"x", deadline_ms=150)
        assert not any("30 s" in said or "30.0" in said for said in chain(raised.value))
        late = pytest.raises(ServiceError, match=r"did not answer within 0\.15 s$")
        with Client(url, timeout_s=0.15) as client, late as raised:
            client.classify(b"x", deadline_ms=60_000)
        assert type(raised.value) is ServiceError


def test_everything_is_imported_when_the_client_is_made(tmp_path):
    program = """if True:
        import sys
        import numpy as np
        from adaptive import Client, ServiceError
        url, secure, path = sys.argv[1:]
        clients = Client(url), Client(secure)
        before = set(sys.modules)
        for image in (np.zeros((8, 8, 3), np.uint8), path, open(path, "rb").read()):
            for client in clients:
                try:
                    client.classify(image, deadline_ms=60_000, explain=True)
                except ServiceError:
                    pass
        print(sorted(set(sys.modules) - before))
    """
    path = tmp_path / "image"
    path.write_bytes(b"x")
    answers = (200, {}, ANSWER), busy("0"), (200, {}, ANSWER), (500, {}, {})
    with scripted(*answers) as script, socket.create_server(("127.0.0.1", 0)) as rude:

        def refuse():
            for _ in range(3):
                link, _ = rude.accept()
                with link:
                    link.recv(1000)
                    link.sendall(b"no TLS here\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        secure = f"https://127.0.0.1:{rude.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", program, script.url, secure, str(path)],
            capture_output=True,
            text=True,
        )
        thread.join(HANG_S)
        assert len(script.requests) == 4, done.stderr
    assert done.stdout == "[]\n", done.stderr


def bit_by_bit(data):
    return [data[begin : begin + 1] for begin in range(len(data))]


SLOW = {
    "status line": [*bit_by_bit(b"HTTP/1.1 200 " + b"x" * 80), b"\r\n" + LENGTH + TEXT],
    "headers": [OK, *bit_by_bit(b"X-Name: " + b"x" * 90 + b"\r\n"), LENGTH + TEXT],
    "many to go on": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 100 + [OK + LENGTH + TEXT],
    "body": [OK + LENGTH, *bit_by_bit(TEXT)],
    "body without length": [OK + b"\r\n", *bit_by_bit(TEXT)],
    "chunks": [
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        *[b"1\r\n" + byte + b"\r\n" for byte in bit_by_bit(TEXT)],
        b"0\r\n\r\n",
    ],
}


@pytest.mark.parametrize("name", SLOW)
def test_answer_that_comes_bit_by_bit_is_not_waited_for(name):
    with scripted(SLOW[name], SLOW[name]) as script:
        with Client(script.url) as client, pytest.raises(DeadlineError, match="before"):
            client.classify(b"x", deadline_ms=300)
        impatient = Client(script.url, timeout_s=0.3)
        with impatient, pytest.raises(ServiceError, match=r"did not answer within 0\.3 s"):
            impatient.classify(b"x")


def test_answer_that_comes_bit_by_bit_in_time_is_read():
    slow = [OK[:5], OK[5:] + LENGTH[:9], LENGTH[9:] + TEXT[:7], TEXT[7:]]
    with scripted(slow) as script, Client(script.url) as client:
        assert client.classify(b"x", deadline_ms=60_000).label == "cat"


def test_each_request_on_a_kept_connection_has_its_own_time(monkeypatch):
    with scripted((200, {}, ANSWER), (200, {}, ANSWER)) as script, Client(script.url) as client:
        client.classify(b"x", deadline_ms=60_000)
        for clock in (module, exchange):
            monkeypatch.setattr(clock, "monotonic", lambda: time.monotonic() + 3600)
        assert client.classify(b"x", deadline_ms=60_000).label == "cat"
        assert script.connections == 1


def test_server_that_takes_the_request_bit_by_bit_is_not_waited_for():
    stop = threading.Event()

    def take(listener):
        link, _ = listener.accept()
        with link:
            while link.recv(30_000) and not stop.wait(PAUSE_S):
                pass

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=take, args=(listener,), daemon=True)
        thread.start()
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with client, pytest.raises(DeadlineError, match="before the deadline"):
            client.classify(bytes(20_000_000), deadline_ms=300)
        stop.set()
        thread.join(HANG_S)


ENDLESS = {
    "a length": OK + b"Content-Length: 1000000000000000\r\n\r\n",
    "a long body": OK + b"Content-Length: 30000\r\n\r\n" + b" " * 30_000,
    "no length": OK + b"\r\n" + b" " * 30_000,
    "a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n" + b" " * 30_000,
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 6000,
    "many to go on": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_answer_that_is_too_long_is_not_read(name, monkeypatch):
    monkeypatch.setattr(exchange, "LONGEST_ANSWER", 20_000)
    longer = pytest.raises(ServiceError, match="longer than 20000 bytes")
    with scripted(ENDLESS[name]) as script, Client(script.url) as client, longer:
        client.classify(b"x")


def test_next_address_is_tried_where_the_first_is_not_answered(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gone = taken.getsockname()
    with scripted((200, {}, ANSWER)) as script:
        port = int(script.url.rpartition(":")[2])
        found = [(2, 1, 6, "", address) for address in (gone, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(99, 1, 6, "", gone), *found])
        with Client("http://board.local") as client:
            assert client.classify(b"x").label == "cat"
        assert script.requests[0][1]["Host"] == "board.local"


def test_silent_addresses_share_the_deadline(monkeypatch):
    tried = []

    class Silent(socket.socket):
        def connect(self, address):
            tried.append((address, self.gettimeout()))
            time.sleep(self.gettimeout())
            raise socket.timeout("timed out")

    found = [(2, 1, 6, "", ("127.0.0.1", port)) for port in (1, 2, 3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    monkeypatch.setattr(socket, "socket", Silent)
    late = pytest.raises(DeadlineError, match="before the deadline of 300 ms")
    with Client("http://board.local") as client, late:
        client.classify(b"x", deadline_ms=300)
    assert [address for address, _ in tried] == [address for *_, address in found]
    assert sum(seconds for _, seconds in tried) <= 0.3


def test_handshake_that_never_ends_is_not_waited_for():
    late = pytest.raises(DeadlineError, match="before the deadline of 300 ms")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"https://127.0.0.1:{silent.getsockname()[1]}")
        with client, late:
            client.classify(b"x", deadline_ms=300)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://[::1]", "::1", 80),
        ("https://b", "b", 443),
        ("http://b:81", "b", 81),
        ("http://b:0", "b", 0),
    ],
)
def test_address_is_taken_apart(url, host, port, monkeypatch):
    asked = []

    def nowhere(*address):
        asked.append(address[:2])
        raise OSError(0, "nowhere")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with Client(url) as client, pytest.raises(ServiceError, match="nowhere"):
        client.classify(b"x")
    assert asked == [(host, port)]


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, InputError, "refuses this client: no"),
        (403, InputError, "refuses this client"),
        (404, InputError, "refuses the request"),
        (500, ServiceError, "failed: no"),
        (504, DeadlineError, "no"),
        (302, ServiceError, "failed"),
    ],
)
def test_each_status_is_its_error(status, error, words):
    with scripted((status, {}, {"error": "no"})) as script, Client(script.url) as client:
        with pytest.raises(error, match=words) as raised:
            client.classify(b"x")
        assert type(raised.value) is error


@pytest.mark.parametrize(
    "entry",
    [
        (200, {}, []),
        (200, {}, {"label": "cat"}),
        (200, {}, {**ANSWER, "top5": 7}),
        (200, {}, "text"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{{{{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{}",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_server_of_another_kind_is_told_from_ours(entry):
    with scripted(entry) as script, Client(script.url) as client, pytest.raises(ServiceError):
        client.classify(b"x")


def test_server_that_is_not_there_is_said_to_be_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Client(url) as client:
        with pytest.raises(ServiceError, match="cannot be reached: Connection refused"):
            client.classify(b"x")
        assert not client.ready()


@pytest.mark.parametrize(
    "url",
    [
        "board:8080",
        "ftp://board",
        "http://",
        "http://b:x",
        "http://b?x=1",
        "http://u:p@b",
        "http://a b",
        "http://a\tb",
        "http://a\nb",
        "http://a\x7fb",
        "http://b/a b",
        "http://b/a\0b",
        "http://a\u3000b",
        "http://a..b",
        "http://" + "a" * 64,
        5,
        None,
    ],
)
def test_address_that_is_none_is_refused(url):
    with pytest.raises(InputError, match="address"):
        Client(url)


def test_settings_that_cannot_be_are_refused():
    for wrong in (
        {"timeout_s": 0},
        {"timeout_s": 1e9},
        {"timeout_s": float("inf")},
        {"timeout_s": "30"},
        {"retries": -1},
        {"retries": 1.5},
        {"api_key": 5},
        {"ssl_context": 5},
        {"api_key": "a\nb"},
        {"api_key": "ü"},
    ):
        with pytest.raises(InputError):
            Client("http://b", **wrong)
    with Client("http://b") as client:
        for wrong in (
            {"deadline_ms": 0},
            {"deadline_ms": float("nan")},
            {"deadline_ms": "50"},
            {"prefer": "cheap"},
            {"request_id": "a\r\nb"},
        ):
            with pytest.raises(InputError, match=next(iter(wrong))):
                client.classify(b"x", **wrong)
    with pytest.raises(InputError, match="closed"):
        client.classify(b"x")


def test_several_threads_share_a_client(client, tiny_bundle, tiny_images):
    paths = [tiny_images / f"{row:03}.png" for row in range(24)]
    with Router.load(tiny_bundle) as router:
        expected = [router.classify(path).label for path in paths]
    with ThreadPoolExecutor(6) as pool:
        found = [answer.label for answer in pool.map(client.classify, paths)]
    assert found == expected


def test_key_opens_a_server_that_wants_one(tiny_bundle, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# of the board\n\n  secret-of-the-board\nanother-key-of-it\n")
    image = np.zeros((8, 8, 3), np.uint8)
    with served(tiny_bundle, keys=Keys(keys)) as server:
        with Client(server.url, api_key=read_key(keys)) as client:
            assert client.classify(image).label
        with Client(server.url) as client:
            with pytest.raises(InputError, match="wants a key"):
                client.classify(image)
            assert client.ready()


def test_file_without_a_key_is_refused(tmp_path):
    keys = tmp_path / "keys"
    with pytest.raises(InputError, match="No such file"):
        read_key(keys)
    keys.write_text("# none\n")
    with pytest.raises(InputError, match="holds no key"):
        read_key(keys)
    keys.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_key(keys)


def test_server_reads_its_bundle_again(tiny_bundle, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    manifest = bundle / "manifest.json"
    good = manifest.read_text()
    with served(bundle) as server, Client(server.url) as client:
        assert client.bundle()["board"] == {}
        manifest.write_text(json.dumps({**json.loads(good), "board": {"name": "new"}}))
        client.reload()
        assert client.bundle()["board"] == {"name": "new"}
        manifest.write_text("{")
        with pytest.raises(InputError, match="served before still is"):
            client.reload()
        assert client.bundle()["board"] == {"name": "new"}
        assert client.classify(np.zeros((8, 8, 3), np.uint8)).label


@needs_openssl
def test_certificate_is_checked(tiny_bundle, tmp_path):
    chain, key = make_certificate(tmp_path, "board")
    image = np.zeros((8, 8, 3), np.uint8)
    with served(tiny_bundle, certificate=CertificateFiles(chain, key)) as server:
        url = server.url.replace("http://", "https://")
        context = ssl.create_default_context(cafile=str(chain))
        with Client(url, ssl_context=context) as client:
            assert client.classify(image).label
            assert client.classify(image).label
        with Client(url) as client, pytest.raises(ServiceError, match="certificate"):
            client.classify(image)
        named = url.replace("127.0.0.1", "localhost")  # the certificate has the number alone
        refused = pytest.raises(ServiceError, match="certificate")
        with Client(named, ssl_context=context) as client, refused:
            client.classify(image)
        context.check_hostname = False
        with Client(named, ssl_context=context) as client:
            assert client.classify(image).label
