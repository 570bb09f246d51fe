from __future__ import annotations

import socket

import pytest

from adaptive.errors import InputError
from adaptive.serving.listener import listen, refuse_newcomers


@pytest.mark.parametrize("host", ["203.0.113.7", "x" * 70])
def test_address_that_is_not_ours_is_one_sentence(host):
    with pytest.raises(InputError, match=f"cannot listen at {host}:0: "):
        listen(host, 0)


def test_address_in_use_is_one_sentence():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: Address already in use$"):
            listen("127.0.0.1", port)


def test_newcomers_are_refused_and_those_who_wait_are_not():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(
        listener.getsockname(), 10
    ) as early:
        refuse_newcomers(listener)
        try:
            socket.create_connection(listener.getsockname(), 0.2).close()
        except OSError:
            pass
        else:
            pytest.skip("this system has no socket filter")
        accepted, _ = listener.accept()
        with accepted:
            early.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
