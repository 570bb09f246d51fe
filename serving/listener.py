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


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises
    ------
    InputError
        when the address does not exist, is taken or is not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = family == socket.AF_INET6
        return socket.create_server(address, family=family, backlog=1024, dualstack_ipv6=both)
    except (OSError, OverflowError, UnicodeError) as exc:
        reason = (getattr(exc, "strerror", None) or str(exc)).partition(" (while")[0]
        raise InputError(f"cannot listen at {host}:{port}: {reason}") from exc


def refuse_newcomers(sock: socket.socket) -> None:
    """Let no new connection begin, while those that have begun can still be accepted.

    Closing a listening socket resets connections that the kernel took after the last `accept`,
    whose clients believe that their request is under way. With every SYN dropped, the queue can
    be emptied at leisure; who is turned away has sent no request, and tries again after a second.
    Where the system has no such filter, nothing happens.
    """
    program = b"".join(struct.pack("=HBBI", *line) for line in NO_NEW_CONNECTIONS)
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(NO_NEW_CONNECTIONS), ctypes.addressof(code))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_)
