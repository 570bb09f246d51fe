"""Images that people send to servers, what each deserves, and a router that is quick to make."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import struct
import time
import zlib
from typing import Any, Mapping, NamedTuple

import numpy as np
from PIL import Image

from adaptive.images.decode import decode
from adaptive.limits import UNLIMITED, Limits
from adaptive.prediction import Prediction
from adaptive.serving.protocols import ROUTER, ModelState
from adaptive.serving.readiness import Readiness

URL = "/v1/classify"


class PlainRouter:
    """Decodes for real, then answers "cat" after `seconds`; the two things that matter here."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.ready = Readiness()
        self.labels = ("cat", "dog")
        self.task = "classify"

    def classify(
        self,
        image: bytes,
        *,
        limits: Limits = UNLIMITED,
        explain: bool = False,
        request_id: str | None = None,
    ) -> Prediction:
        assert type(image) is bytes  # a str would be opened as a path
        pixels = decode(image)
        time.sleep(self.seconds)
        return Prediction(
            label="cat",
            index=0,
            score=0.75,
            top5=(("cat", 0.75), ("dog", 0.25)),
            candidate="small",
            path=("small",),
            ms={"decode": 0.5, "small": 1.0, "total": 1.5},
            features={"width": float(pixels.shape[1])} if explain else None,
            votes={"small": 1.0} if explain else None,
            reason="small is enough",
        )

    def limits_from(self, headers: Any) -> Limits:
        return UNLIMITED

    def describe(self) -> dict[str, Any]:
        return {"candidates": [{"name": "small"}]}

    def models(self) -> list[ModelState]:
        return [ModelState(ROUTER, True)]


def picture(mode: str = "RGB", size: tuple[int, int] = (80, 60)) -> Image.Image:
    rows = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(rows).convert(mode)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def rotated_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), exif=exif.tobytes())


def cut_exif() -> bytes:
    block = b"\xff\xe1\0\x0cExif\0\0II*\0"
    whole = encoded(picture(), dpi=(72, 72))
    return whole[:2] + block + whole[2:]


def deep_png() -> bytes:
    return encoded(Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13), "PNG")


def animated_gif() -> bytes:
    frames = [picture("P", (40, 30)), picture("P", (40, 30)).rotate(180)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data) & 0xFFFFFFFF)
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b""))


def multipart(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form; a part is field name, file name or None, content."""
    lines = []
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"'
        if filename is not None:
            disposition += f'; filename="{filename}"'
        lines.append(f"--edge\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content)
    body = b"\r\n".join([*lines, b"--edge--\r\n"])
    return body, {"Content-Type": "multipart/form-data; boundary=edge"}


JPEG = encoded(picture())

#: A whole request but for the image.
HEAD = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(JPEG)}\r\n\r\n".encode()

#: Twenty million bytes of nothing, a thousand times smaller.
BOMB = gzip.compress(bytes(20_000_000))

#: A guard against hanging, not a promise of speed.
HANG_S = 30


class Sent(NamedTuple):
    """One request, the status that it deserves, and words of the sentence when it is refused."""

    body: bytes
    status: int
    words: str = ""
    headers: Mapping[str, str] = {}
    method: str = "POST"
    path: str = URL


def form(*parts: tuple[str, str | None, bytes], status: int, words: str = "") -> Sent:
    body, headers = multipart(*parts)
    return Sent(body, status, words, headers)


ODD = {
    "jpeg": Sent(JPEG, 200),
    "jpeg called a form": Sent(
        JPEG, 200, headers={"Content-Type": "application/x-www-form-urlencoded"}
    ),
    "jpeg called json": Sent(JPEG, 200, headers={"Content-Type": "application/json"}),
    "file field": form(("file", "a.jpg", JPEG), status=200),
    "1x1": Sent(encoded(picture(size=(1, 1)), "PNG"), 200),
    "one pixel high": Sent(encoded(picture(size=(300, 1)), "PNG"), 200),
    "16-bit png": Sent(deep_png(), 200),
    "grey": Sent(encoded(picture("L")), 200),
    "rgba png": Sent(encoded(picture("RGBA"), "PNG"), 200),
    "palette png": Sent(encoded(picture("P"), "PNG"), 200),
    "cmyk jpeg": Sent(encoded(picture("CMYK")), 200),
    "webp": Sent(encoded(picture(), "WEBP"), 200),
    "bmp": Sent(encoded(picture(), "BMP"), 200),
    "animated gif": Sent(animated_gif(), 200),
    "exif-rotated jpeg": Sent(rotated_jpeg(), 200),
    "jpeg with cut exif": Sent(cut_exif(), 200),
    "explained": Sent(JPEG, 200, path=URL + "?explain=1"),
    "text file": Sent(b"hello, I am a text file\n" * 20, 400, "is not a JPEG"),
    "path": Sent(b"/etc/hostname", 400, "is not a JPEG"),
    "tiff": Sent(encoded(picture(), "TIFF"), 400, "is not a JPEG"),
    "svg": Sent(b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400, "is not a JPEG"),
    "empty body": Sent(b"", 400, "no body"),
    "truncated jpeg": Sent(JPEG[: len(JPEG) // 2], 400, "damaged or cut off"),
    "jpeg header only": Sent(JPEG[:30], 400, "damaged"),
    "huge png header": Sent(png_header(30_000, 30_000), 400, "pixels"),
    "over 50 megapixels": Sent(png_header(8_000, 7_000), 400, "56,000,000 pixels"),
    "two files": form(("file", "a", JPEG), ("file", "b", JPEG), status=400, words="one file"),
    "no file": form(status=400, words="one file"),
    "file without a name": form(("file", None, JPEG), status=400, words="one file"),
    "other field": form(("photo", "a.jpg", JPEG), status=400, words="['photo']"),
    "file and text": form(("file", "a", JPEG), ("note", None, b"x"), status=400, words="'note'"),
    "empty file": form(("file", "a.jpg", b""), status=400, words="is empty"),
    "form without a boundary": Sent(JPEG, 400, "one file", {"Content-Type": "multipart/form-data"}),
    "cut-off form": Sent(
        multipart(("file", "a.jpg", JPEG))[0][:200],
        400,
        "one file",
        {"Content-Type": "multipart/form-data; boundary=edge"},
    ),
    "gzip": Sent(gzip.compress(JPEG), 200, headers={"Content-Encoding": "gzip"}),
    "deflate": Sent(zlib.compress(JPEG), 200, headers={"Content-Encoding": "deflate"}),
    "not gzip": Sent(zlib.compress(JPEG), 400, "is not gzip", {"Content-Encoding": "gzip"}),
    "cut-off gzip": Sent(gzip.compress(JPEG)[:-9], 400, "cut off", {"Content-Encoding": "gzip"}),
    "two gzips": Sent(gzip.compress(JPEG) * 2, 400, "behind its end", {"Content-Encoding": "gzip"}),
    "bomb": Sent(BOMB, 413, "2000000 bytes", {"Content-Encoding": "gzip"}),
    "brotli": Sent(JPEG, 415, "'br'", {"Content-Encoding": "br"}),
    "unknown explain": Sent(JPEG, 400, "'banana'", path=URL + "?explain=banana"),
    "two explains": Sent(JPEG, 400, "'1,0'", path=URL + "?explain=1&explain=0"),
    "unknown parameter": Sent(JPEG, 400, "'explian'", path=URL + "?explian=1"),
    "wrong method": Sent(b"", 405, "takes OPTIONS, POST", method="GET"),
    "put": Sent(JPEG, 405, "does not take PUT", method="PUT"),
    "invented method": Sent(b"", 405, "does not take BREW", method="BREW"),
    "post to health": Sent(b"", 405, "does not take POST", path="/healthz"),
    "unknown path": Sent(JPEG, 404, "no such path", path="/v1/clasify"),
    "doubled slash": Sent(JPEG, 404, "no such path", path="//v1//classify"),
    "file from the disk": Sent(b"", 404, "no such path", method="GET", path="/../../etc/passwd"),
    "too long": Sent(b"x" * 2_000_001, 413, "2000000 bytes"),
}


def post(port: int, sent: Sent) -> tuple[int, dict[str, Any]]:
    """Send one request over a connection of its own; status and JSON value of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    try:
        connection.request(sent.method, sent.path, sent.body, dict(sent.headers))
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


#: The limit that the table above is written for.
MAX_BODY_BYTES = 2_000_000
