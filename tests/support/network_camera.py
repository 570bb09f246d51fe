"""A camera on the network that a test can unplug: JPEG pictures over HTTP on the loopback."""

from __future__ import annotations

import socket
import threading
import time

import cv2
import numpy as np

_HEAD = (
    b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    b"Connection: close\r\n\r\n"
)


class NetworkCamera:
    """Sends one grey picture after the other; its brightness grows with its number.

    `unplug` cuts whoever watches and refuses others, `mute` keeps them and sends nothing, and
    `plug_in` mends both.
    """

    def __init__(self, fps: float = 50.0, size: tuple[int, int] = (64, 48)) -> None:
        self.fps, self.size = fps, size
        self.sent = 0
        self._here, self._muted, self._ended = True, False, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://user:secret@127.0.0.1:{self.port}/stream.mjpg"
        self._threads: list[threading.Thread] = []
        self._listen()

    def unplug(self) -> None:
        self._here = False
        self._listening.join(10.0)
        self._listener.close()

    def plug_in(self) -> None:
        self._muted = False
        if not self._here:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._listener.settimeout(0.05)
            self._here = True
            self._listen()

    def mute(self) -> None:
        self._muted = True

    def __enter__(self) -> NetworkCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self.unplug()
        for thread in self._threads:
            thread.join(10.0)

    def _listen(self) -> None:
        self._listening = threading.Thread(target=self._serve)
        self._listening.start()

    def _serve(self) -> None:
        while self._here and not self._ended:
            try:
                watcher, _ = self._listener.accept()
            except socket.timeout:
                continue
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._send, args=(watcher,)))
            self._threads[-1].start()

    def _send(self, watcher: socket.socket) -> None:
        with watcher:
            watcher.settimeout(5.0)
            try:
                watcher.recv(65536)
                watcher.sendall(_HEAD)
                while self._here and not self._ended:
                    if not self._muted:
                        watcher.sendall(self._part())
                    time.sleep(1 / self.fps)
            except OSError:
                return

    def _part(self) -> bytes:
        self.sent += 1
        width, height = self.size
        picture = np.full((height, width, 3), self.sent % 250, np.uint8)
        data = cv2.imencode(".jpg", picture)[1].tobytes()
        about = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        return about.encode() + data + b"\r\n"
