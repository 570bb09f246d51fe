from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest
from certificates import make_certificate, needs_openssl
from served import in_a_thread

from adaptive.errors import InputError
from adaptive.serving.admission import Admissions
from adaptive.serving.asgi import Adapter
from adaptive.serving.server import Server
from adaptive.serving.tls import CertificateFiles


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(folder, name) for name in ("first", "second")}


def echo(environ, start_response):
    start_response("200 OK", [])
    return [environ["wsgi.url_scheme"].encode() + b" " + environ["wsgi.input"].read()]


@contextlib.contextmanager
def serving(certificate: CertificateFiles, **options):
    adapter = Adapter(echo, Admissions(4), 16_000_000)
    tls = certificate.context
    with in_a_thread(Server(adapter, "127.0.0.1", 0, tls=tls, **options)) as server:
        yield server


def trusting(chain: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(chain))


@needs_openssl
def test_requests_of_all_sizes_are_answered_over_tls(made):
    chain, key = made["first"]
    with serving(CertificateFiles(chain, key)) as server:
        assert server.url.startswith("https://")
        link = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=30, context=trusting(chain)
        )
        for size in (0, 1, 16_384, 100_000, 3_000_000):
            body = bytes(i % 251 for i in range(1000)) * (size // 1000) + b"x" * (size % 1000)
            link.request("POST", "/", body)
            assert link.getresponse().read() == b"https " + body
        link.close()


@needs_openssl
def test_requests_in_one_go_are_answered_over_tls(made):
    chain, key = made["first"]
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" + b"y" * 3000
    with serving(CertificateFiles(chain, key)) as server:
        plain = socket.create_connection(("127.0.0.1", server.port), 30)
        with trusting(chain).wrap_socket(plain, server_hostname="127.0.0.1") as link:
            link.sendall(request * 20)  # more than one TLS record, and more than one read
            answer = b""
            while answer.count(b"y" * 3000) < 20:
                more = link.recv(65_536)
                assert more, answer[-200:]
                answer += more


@needs_openssl
def test_client_without_tls_or_that_never_shakes_hands_is_hung_up_on(made):
    chain, key = made["first"]
    with serving(CertificateFiles(chain, key), receive_s=0.2) as server:
        with socket.create_connection(("127.0.0.1", server.port), 30) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while plain.recv(1000):
                    pass
        silent = socket.create_connection(("127.0.0.1", server.port), 30)
        with silent, contextlib.suppress(ConnectionResetError):
            while silent.recv(1000):  # an alert, perhaps, and then the end
                pass
        end = time.monotonic() + 30
        while server.connections and time.monotonic() < end:
            time.sleep(0.01)
        assert server.connections == 0


@needs_openssl
def test_new_certificate_is_used_for_new_connections(made, tmp_path, caplog):
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def put(name: str) -> None:
        shutil.copyfile(made[name][0], chain)
        shutil.copyfile(made[name][1], key)

    def subject(port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    put("first")
    certificate = CertificateFiles(chain, key)
    with serving(certificate) as server:
        assert subject(server.port) == made["first"][0].read_text()
        put("second")
        certificate.reload()
        assert subject(server.port) == made["second"][0].read_text()
        shutil.copyfile(made["first"][1], key)  # which does not belong to the second
        certificate.reload()
        assert "the last one is used on" in caplog.text
        assert subject(server.port) == made["second"][0].read_text()


@needs_openssl
def test_certificate_and_key_must_belong_together(made, tmp_path):
    with pytest.raises(InputError, match="cannot be used"):
        CertificateFiles(made["first"][0], made["second"][1])
    with pytest.raises(InputError, match="cannot be used"):
        CertificateFiles(made["first"][0])
    with pytest.raises(InputError, match="cannot be used"):
        CertificateFiles(tmp_path / "none.pem")
