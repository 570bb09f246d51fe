"""The socket that takes connections, and how to stop taking them without losing one."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

from adaptive.errors import InputError

#: Linux's SO_ATTACH_FILTER, which Python's socket module does not name.
SO_ATTACH_FILTER = 26

#: Socket filter: drop what has TCP's SYN flag, pass the rest. (code, jump if, jump else, value)
NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then drop
    (0x06, 0, 0, 0xFFFFFFFF),  # else pass
)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not yet listening; port 0 takes a free one.

    Raises
    ------
    InputError
        when the address does not exist, is taken or is not allowed.
    """
    sock: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except (OSError, OverflowError, UnicodeError) as exc:
        if sock is not None:
            sock.close()
        reason = getattr(exc, "strerror", None) or str(exc)
        raise InputError(f"cannot listen at {host}:{port}: {reason}") from exc
    return sock


def refuse_newcomers(sock: socket.socket) -> None:
    """Let no new connection begin, while those that have begun can still be accepted.

    Closing a listening socket resets connections that the kernel took after the last `accept`,
    whose clients believe that their request is under way. With the first packet of every new
    connection dropped, the queue can be emptied at leisure; a client turned away this way has
    sent no request, and tries again after a second. Where the system has no such filter,
    nothing happens, and the moment between the last `accept` and the closing remains.
    """
    program = b"".join(struct.pack("=HBBI", *line) for line in NO_NEW_CONNECTIONS)
    code = ctypes.create_string_buffer(program, len(program))
    with contextlib.suppress(OSError):
        sock.setsockopt(
            socket.SOL_SOCKET,
            SO_ATTACH_FILTER,
            struct.pack("@HP", len(NO_NEW_CONNECTIONS), ctypes.addressof(code)),
        )
