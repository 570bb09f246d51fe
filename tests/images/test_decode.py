from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from adaptive import ImageError
from adaptive.features.schema import SCHEMA
from adaptive.images import decode as decode_module
from adaptive.images.decode import (
    FORMATS,
    MAX_PIXELS,
    decode,
    decode_scales,
    decode_working,
    jpeg_scale,
)
from adaptive.images.decoded import decode_image

DRAW = np.random.default_rng(0)


def smooth(width: int, height: int) -> np.ndarray:
    """A colour ramp that survives JPEG, different at every edge."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([255 * x, 255 * y, 255 * (1 - x)], axis=2).round().astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of any depth and kind, made by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + b"".join(more)
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def refused(image: Any, *says: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(image)
    for text in says:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_each_format_by_bytes_path_and_buffer(form: str, tmp_path: Path) -> None:
    pixels = smooth(40, 30)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}
    data = encoded(pixels, form, **options.get(form, {}))
    (tmp_path / "image.bin").write_bytes(data)  # its name says nothing
    found = decode(data)
    assert found.shape == (30, 40, 3)
    assert found.dtype == np.uint8
    off = np.abs(found.astype(int) - pixels).max()
    assert off <= {"GIF": 40, "JPEG": 4}.get(form, 0)
    for other in (bytearray(data), memoryview(data), tmp_path / "image.bin"):
        np.testing.assert_array_equal(decode(other), found)
    np.testing.assert_array_equal(decode(str(tmp_path / "image.bin")), found)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 128 * 257, 65535], [100, 300, 40000, 65000]], np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    found = decode(png(4, 2, 16, 0, rows))
    np.testing.assert_array_equal(found[:, :, 0], np.round(values / 257))
    assert (found == found[:, :, :1]).all()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values))), found)


def test_16_bit_colour() -> None:
    values = DRAW.integers(0, 65536, (3, 5, 3)).astype(np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    found = decode(png(5, 3, 16, 2, rows))
    assert np.abs(found - values / 257.0).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_of_every_depth(depth: int) -> None:
    top = 2**depth - 1
    values = np.arange(8) % (top + 1)
    bits = "".join(format(v, f"0{depth}b") for v in values)
    row = b"\0" + int(bits, 2).to_bytes(depth, "big")
    found = decode(png(8, 1, depth, 0, row))
    np.testing.assert_array_equal(found, np.repeat(values * 255 // top, 3).reshape(1, 8, 3))


def test_grey_image_and_array_become_three_equal_channels() -> None:
    grey = DRAW.integers(0, 256, (6, 7)).astype(np.uint8)
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(decode(encoded(grey)), expected)
    np.testing.assert_array_equal(decode(grey), expected)
    np.testing.assert_array_equal(
        decode(encoded(Image.fromarray(grey > 127))), (expected > 127) * 255
    )


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[:, :, None] / 255.0
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_laid_on_white(form: str) -> None:
    rgba = DRAW.integers(0, 256, (9, 8, 4)).astype(np.uint8)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    found = decode(encoded(rgba, form, **options))
    assert np.abs(found - over_white(rgba[:, :, :3], rgba[:, :, 3])).max() <= 1
    np.testing.assert_array_equal(found[0], 255)
    np.testing.assert_array_equal(found[1], rgba[1, :, :3])


def test_grey_with_alpha_is_laid_on_white() -> None:
    la = DRAW.integers(0, 256, (9, 8, 2)).astype(np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(la[:, :, band])) for band in (0, 1)]
    found = decode(encoded(Image.merge("LA", bands)))
    expected = over_white(np.repeat(la[:, :, :1], 3, axis=2), la[:, :, 1])
    assert np.abs(found - expected).max() <= 1


def test_palette_with_transparency() -> None:
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))
    alphas = chunk(b"tRNS", bytes([255, 0, 128]))
    found = decode(png(3, 1, 8, 3, b"\0\0\1\2", palette, alphas))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 1].tolist() == [255, 255, 255]
    assert np.abs(found[0, 2].astype(int) - [127, 127, 255]).max() <= 1
    plain = decode(png(3, 1, 8, 3, b"\0\0\1\2", palette))
    assert plain.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_one_colour_that_is_transparent() -> None:
    key = chunk(b"tRNS", struct.pack(">HHH", 10, 20, 30))
    found = decode(png(2, 1, 8, 2, bytes([0, 10, 20, 30, 40, 50, 60]), key))
    assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    key = chunk(b"tRNS", struct.pack(">H", 7))
    assert decode(png(2, 1, 8, 0, bytes([0, 7, 9]), key)).tolist() == [[[255] * 3, [9] * 3]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_grey_that_is_transparent_at_every_depth(depth: int) -> None:
    values = [0, 1, 0, 1] if depth == 1 else [0, 1, 2, 3]
    bits = "".join(format(value, f"0{depth}b") for value in values * 2)
    row = b"\0" + int(bits, 2).to_bytes(depth, "big")
    for clear in set(values):
        key = chunk(b"tRNS", struct.pack(">H", clear))
        found = decode(png(8, 1, depth, 0, row, key))[0, :, 0]
        opaque = [round(255 * value / (2**depth - 1)) for value in values * 2]
        white = [255 if value == clear else grey for value, grey in zip(values * 2, opaque)]
        assert found.tolist() == white


def test_one_16_bit_colour_that_is_transparent() -> None:
    values = np.array([[[0x1000, 0x2000, 0x3000], [0x4000, 0x5000, 0x6000]]], np.uint16)
    key = chunk(b"tRNS", struct.pack(">HHH", 0x1000, 0x2000, 0x3000))
    found = decode(png(2, 1, 16, 2, b"\0" + values.astype(">u2").tobytes(), key))
    assert found.tolist() == [[[255] * 3, [0x40, 0x50, 0x60]]]


def test_cmyk_jpeg() -> None:
    pixels = smooth(64, 48)
    found = decode(encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=98))
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - pixels).mean() < 4


def frames() -> list[Image.Image]:
    return [Image.new("RGB", (12, 10), colour) for colour in ("red", "lime", "blue")]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(form: str) -> None:
    first, *rest = frames()
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    data = encoded(first, form, save_all=True, append_images=rest, duration=50, **options)
    assert (decode(data) == [255, 0, 0]).all()


def test_a_transparent_gif_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image, "GIF", transparency=1)).tolist() == [[[255, 0, 0], [255] * 3]]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    pixels = smooth(48, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 98}, "WEBP": {"lossless": True}}.get(form, {})
    found = decode(encoded(pixels, form, exif=exif.tobytes(), **options))
    upright = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[:, ::-1],
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: pixels.transpose(1, 0, 2)[::-1],
    }.get(orientation, pixels)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= (6 if form == "JPEG" else 0)


# Large images, which are converted tile by tile


def decoded_in_tiles(data: bytes, tile: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    with monkeypatch.context() as patched:
        patched.setattr(decode_module, "_WHOLE", 0)
        patched.setattr(decode_module, "_TILE", tile)
        return decode(data)


def kinds() -> dict[str, bytes]:
    """One image of each kind, 23 x 17, by name."""
    rgba = np.random.default_rng(1).integers(0, 256, (17, 23, 4)).astype(np.uint8)
    image = Image.fromarray(rgba)
    grey16 = rgba[:, :, :2].copy().view(">u2")[:, :, 0]
    rows16 = b"".join(b"\0" + row.tobytes() for row in grey16)
    entries = chunk(b"PLTE", bytes(rgba[:, :, :3].reshape(-1)[: 3 * 256]))
    alphas = chunk(b"tRNS", bytes(range(256)))
    indices = b"".join(b"\0" + row.tobytes() for row in rgba[:, :, 0])
    key = chunk(b"tRNS", struct.pack(">H", int(rgba[3, 4, 0])))
    colour = image.convert("RGB")
    return {
        "RGB": encoded(colour),
        "RGBA": encoded(image),
        "grey": encoded(colour.convert("L")),
        "grey and alpha": encoded(image.convert("LA")),
        "grey, one transparent": png(23, 17, 8, 0, indices, key),
        "16-bit grey": png(23, 17, 16, 0, rows16),
        "palette": png(23, 17, 8, 3, indices, entries),
        "transparent palette": png(23, 17, 8, 3, indices, entries, alphas),
        "black and white": encoded(image.convert("1")),
        "CMYK": encoded(image.convert("CMYK"), "JPEG"),
        "WebP": encoded(image, "WEBP", lossless=True),
        "GIF": encoded(colour.quantize(40), "GIF", transparency=3),
    }


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_give_what_the_whole_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode(KINDS[kind])
    assert whole.shape == (17, 23, 3)
    assert whole.std() > 0
    for tile in (1, 10, 23, 24, 69, 391):  # parts of rows, rows, several of them, all
        found = decoded_in_tiles(KINDS[kind], tile, monkeypatch)
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("orientation", range(10))
def test_tiles_are_turned_as_the_whole_is(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(DRAW.integers(0, 256, (17, 23, 4)).astype(np.uint8))
    data = encoded(image, exif=exif.tobytes())
    over = Image.alpha_composite(Image.new("RGBA", image.size, (255,) * 4), image).convert("RGB")
    over.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(over))
    np.testing.assert_array_equal(decode(data), expected)
    for tile in (5, 23, 50, 391):
        np.testing.assert_array_equal(decoded_in_tiles(data, tile, monkeypatch), expected)


def test_every_16_bit_grey_is_rounded_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = encoded(Image.fromarray(values))
    for found in (decode(data), decoded_in_tiles(data, 1 << 10, monkeypatch)):
        np.testing.assert_array_equal(found[:, :, 0], np.round(values / 257))
        assert (found == found[:, :, :1]).all()


@pytest.mark.parametrize("size", [(2000, 2000), (4_000_000, 1)])
@pytest.mark.parametrize(("depth", "colour"), [(8, 2), (8, 6), (16, 0), (8, 4)])
def test_converting_a_large_image_takes_little_more_than_the_answer(
    size: tuple[int, int], depth: int, colour: int
) -> None:
    """As numpy counts; what Pillow holds is the decoded image and single tiles."""
    import tracemalloc

    width, height = size
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    data = png(width, height, depth, colour, bytes(height * (1 + width * channels * depth // 8)))
    image = Image.open(io.BytesIO(data))
    image.load()
    tracemalloc.start()
    found = decode_module._to_rgb(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nbytes == 12_000_000
    assert peak < found.nbytes + 40 * decode_module._TILE


# Limits and refusals


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def gif_header(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + frame + b"\x02"


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6)


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(smooth(16, 16), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


HUGE = {
    "png": png_header(30_000, 30_000),
    "png, long": png_header(2**31 - 1, 1),
    "png, some": png_header(10_000, 6_000),
    "gif": gif_header(65_535, 65_535),
    "bmp": bmp_header(30_000, 30_000),
    "bmp, some": bmp_header(10_000, 6_000),
    "jpeg": jpeg_header(65_000, 65_000),
}


@pytest.mark.parametrize("name", HUGE)
def test_too_many_pixels_are_refused(name: str) -> None:
    refused(HUGE[name], "pixels", "allowed", f"{MAX_PIXELS:,}")


@pytest.mark.parametrize("name", HUGE)
def test_too_many_pixels_are_refused_with_plain_warnings(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(HUGE[name], "allowed")


def test_large_images_that_are_hardly_wide_are_refused_before_they_are_decoded() -> None:
    for size in ((100, 10_101), (10_101, 100), (1, 2_000_000)):
        data = encoded(Image.new("L", size))
        with pytest.raises(ImageError, match="more than 100 times as long as it is wide"):
            decode(data[:64])  # the header is enough
    assert decode(encoded(Image.new("L", (10_100, 101)))).shape == (101, 10_100, 3)
    assert decode(encoded(Image.new("L", (1, 5000)))).shape == (5000, 1, 3)  # small ones may be


def _readable(path: str) -> bool:
    try:
        Path(path).read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.skipif(
    not _readable("/proc/self/statm"), reason="/proc does not tell what memory a process has"
)
def test_a_huge_image_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    """In a process that may use hardly more memory than it has already."""
    for name, content in HUGE.items():
        (tmp_path / name).write_bytes(content)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from adaptive.images.decode import decode\n"
        "from adaptive.errors import ImageError\n"
        "import PIL.Image, PIL.BmpImagePlugin, PIL.GifImagePlugin, PIL.JpegImagePlugin\n"
        "import PIL.PngImagePlugin, PIL.WebPImagePlugin\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000,) * 2)\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try:\n        decode(path)\n"
        "    except ImageError as error:\n        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("allowed\n") == len(HUGE)


def test_the_limit_is_the_callers() -> None:
    data = encoded(smooth(40, 30))
    assert decode(data, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(ImageError, match="40 x 30 = 1,200 pixels; at most 1,199 are allowed"):
        decode(data, max_pixels=1199)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_cut_off_images_are_refused(form: str, share: float) -> None:
    noise = DRAW.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    data = encoded(noise, form)
    refused(data[: int(len(data) * share)], "the image ")


def svg() -> bytes:
    return b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (encoded(smooth(9, 9), "TIFF"), "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (encoded(smooth(9, 9), "PPM"), "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (encoded(smooth(16, 16), "ICO"), "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (svg(), "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (b"%PDF-1.4", "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (b"hello", "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (b"\0" * 1000, "is not a JPEG, PNG, WebP, BMP or GIF image"),
        (b"", "the image is empty (0 bytes)"),
        (bytearray(), "the image is empty (0 bytes)"),
        (
            None,
            "bytes, a path, an open file, a Pillow image or a uint8 array, not NoneType",
        ),
        (7, "not int"),
        ([[1]], "not list"),
        ("gone.png", "gone.png cannot be read: No such file"),
        ("a\0b", "cannot be read"),
        (".", "cannot be read: Is a directory"),
        ("", "the path of an image is empty"),
        ("/dev/null", "/dev/null is a pipe or a device"),
        ("http://host/x.jpg", "http://host/x.jpg is a URL"),
        (Path("https://host/x.jpg"), "https:/host/x.jpg is a URL"),
        ("data:image/png;base64,iVBORw0KGgo", "is a URL, and only files are opened"),
        (Path("file:///tmp/x.jpg"), "is a URL"),
        ("a:b.png", "a:b.png cannot be read: No such file"),
        ("x" * 999, "cannot be read: File name too long"),
        (np.zeros((3, 3, 3)), "an image array is uint8 in 0..255, not float64"),
        (np.zeros((3, 3, 4), np.uint8), "not (3, 3, 4)"),
        (np.zeros((3, 3, 1), np.uint8), "not (3, 3, 1)"),
        (np.zeros(3, np.uint8), "not (3,)"),
        (np.zeros((1, 3, 3, 3), np.uint8), "not (1, 3, 3, 3)"),
        (np.zeros((0, 3, 3), np.uint8), "not (0, 3, 3)"),
        (np.zeros((5, 0), np.uint8), "an image array has shape"),
        (np.array(None), "not object"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else None,
)
def test_what_is_no_image_is_refused_with_a_sentence(data: Any, says: str) -> None:
    refused(data, says)


def test_a_view_with_gaps_is_what_it_shows() -> None:
    data = encoded(smooth(9, 8))
    spread = bytes(byte for byte in data for _ in range(2))
    np.testing.assert_array_equal(decode(memoryview(spread)[::2]), decode(data))
    refused(memoryview(data)[::2], "is not a JPEG")
    refused(memoryview(data)[:0], "the image is empty (0 bytes)")
    np.testing.assert_array_equal(decode(memoryview(np.frombuffer(data, "u1"))), decode(data))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "pipe.png is a pipe or a device, and only files are opened")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(encoded(smooth(9, 9)))
    (tmp_path / "x.png").chmod(0)
    refused(tmp_path / "x.png", "x.png cannot be read: Permission denied")


def test_bytes_taken_for_a_path_are_not_shown_whole() -> None:
    with pytest.raises(ImageError) as caught:
        decode("iVBORw0KGgo" * 1000)
    assert "File name too long" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_name_that_is_no_text_is_opened(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:
        file.write(encoded(smooth(9, 8)))
    with os.scandir(os.fsencode(tmp_path)) as entries:
        for found in (os.fsdecode(path), Path(os.fsdecode(path)), *entries):
            assert decode(found).shape == (8, 9, 3)


def test_pillows_own_limit_is_named_where_ours_is_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="more pixels than the 2,000 that are allowed"):
        decode(encoded(smooth(50, 50)), max_pixels=5000)


def test_a_memory_that_is_full_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(decode_module, "_to_rgb", full)
    refused(encoded(smooth(9, 8)), "there is not enough memory to decode the image")


def test_an_empty_file_and_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    refused(tmp_path / "x.png", "x.png is empty (0 bytes); JPEG, PNG, WebP, BMP and GIF are read")
    (tmp_path / "x.png").write_bytes(b"hello")
    refused(tmp_path / "x.png", "x.png is not a JPEG, PNG, WebP, BMP or GIF image")


def samples() -> list[bytes]:
    pixels = smooth(33, 21)
    noise = DRAW.integers(0, 256, (20, 24, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    first, *rest = frames()
    return [
        encoded(pixels, "JPEG", exif=exif.tobytes()),
        encoded(pixels, "JPEG", progressive=True),
        encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        encoded(noise, "PNG", exif=exif.tobytes()),
        encoded(Image.fromarray(pixels).quantize(16), "PNG"),
        encoded(noise, "WEBP", exif=exif.tobytes()),
        encoded(pixels, "BMP"),
        encoded(first, "GIF", save_all=True, append_images=rest),
        encoded(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100, "PNG"),
    ]


SAMPLES = samples()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_images_are_decoded_or_refused(data: st.DataObject) -> None:
    """Any bytes changed or cut away: an image or an ImageError, nothing else."""
    content = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers are what is interpreted, so most changes go there.
        end = len(content) - 1 if data.draw(st.integers(0, 3)) == 0 else min(120, len(content) - 1)
        content[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and truncated tags
        try:
            found = decode(bytes(content), max_pixels=1_000_000)
        except ImageError:
            return
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert found.dtype == np.uint8


# The scale of a JPEG


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
@settings(max_examples=300)
def test_jpeg_scale_keeps_the_short_side(width: int, height: int, short: int) -> None:
    scale = jpeg_scale(width, height, short)
    assert scale in (1, 2, 4, 8)
    assert min(width, height) // scale >= min(short, width, height)
    if scale < 8:  # and the next smaller one would not have
        assert min(width, height) // (2 * scale) < short


def by_pillow(data: bytes, short: int) -> np.ndarray:
    """Its pixels as Pillow alone decodes them."""
    image = Image.open(io.BytesIO(data))
    scale = jpeg_scale(*image.size, short)
    image.draft(None, (image.width // scale, image.height // scale))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("short", [20, 60, 128, 300])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpegs_pixels_are_those_of_pillow(
    short: int, subsampling: int, progressive: bool
) -> None:
    noise = DRAW.integers(0, 256, (30, 44, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(noise).resize((523, 301), Image.Resampling.BICUBIC))
    data = encoded(pixels, "JPEG", subsampling=subsampling, progressive=progressive)
    # two builds of one decoder may round the last bit otherwise
    assert np.abs(decode(data, short).astype(int) - by_pillow(data, short)).max() <= 1
    grey = encoded(Image.fromarray(pixels).convert("L"), "JPEG", progressive=progressive)
    assert np.abs(decode(grey, short).astype(int) - by_pillow(grey, short)).max() <= 1


def test_several_scales_are_those_of_single_decodings() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = smooth(1300, 900)
    for data in (
        encoded(pixels, "JPEG"),
        encoded(pixels, "JPEG", exif=exif.tobytes()),
        encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        encoded(pixels, "PNG"),
    ):
        several = decode_scales(data, (256, 342, 100, 800))
        for found, short in zip(several, (256, 342, 100, 800)):
            np.testing.assert_array_equal(found, decode(data, short))
        assert several[0] is several[1]


def test_a_network_that_sees_no_more_than_the_decoder_gives_costs_no_second_decoding() -> None:
    assert (
        len({id(found) for found in decode_scales(encoded(smooth(500, 375), "JPEG"), (256, 342))})
        == 1
    )
    assert len({id(found) for found in decode_scales(encoded(smooth(1300, 900)), (256, 800))}) == 1


@pytest.mark.parametrize("short", [1, 16, 99, 100, 101, 200, 256, 300])
@pytest.mark.parametrize(("width", "height"), [(800, 801), (813, 1607), (1600, 800), (255, 90)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_is_decoded_as_small_as_still_serves(
    short: int, width: int, height: int, subsampling: int
) -> None:
    pixels = smooth(width, height)
    found = decode(encoded(pixels, "JPEG", quality=95, subsampling=subsampling), short)
    assert min(found.shape[:2]) >= min(short, width, height)
    scale = round(width / found.shape[1])
    assert scale in (1, 2, 4, 8)
    assert found.shape == (-(-height // scale), -(-width // scale), 3)
    if scale < 8:
        assert min(width, height) // (scale * 2) < short
    # and what is seen is the same image
    small = Image.fromarray(pixels).resize((found.shape[1], found.shape[0]), Image.Resampling.BOX)
    assert np.abs(found.astype(int) - np.asarray(small)).mean() < 4


def test_a_rotated_jpeg_is_scaled_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(smooth(1600, 800), "JPEG", exif=exif.tobytes())
    assert decode(data, 100).shape == (200, 100, 3)


def test_other_formats_come_at_full_size() -> None:
    assert decode(encoded(smooth(900, 700)), 10).shape == (700, 900, 3)


def test_working_has_the_schemas_short_side() -> None:
    assert decode_working(encoded(smooth(900, 700))).shape == (256, 329, 3)
    assert decode_working(encoded(smooth(90, 70))).shape == (70, 90, 3)
    assert min(decode_working(encoded(smooth(1100, 1030), "JPEG")).shape[:2]) == SCHEMA.short_side


def test_images_of_one_row_or_column() -> None:
    for size in ((1, 1), (1, 300), (300, 1)):
        for form in FORMATS:
            assert decode(encoded(smooth(*size), form)).shape == (size[1], size[0], 3)


def test_an_array_is_returned_as_it_is() -> None:
    pixels = smooth(9, 8)
    assert decode(pixels) is pixels
    np.testing.assert_array_equal(decode(pixels[::-1, :, ::-1]), pixels[::-1, :, ::-1])


@pytest.mark.data
def test_real_photographs_decode_as_pillow_does(data: Path) -> None:
    for path in sorted((data / "imagenet" / "images").iterdir())[:40]:
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_cut_jpeg_is_answered_where_it_was_ended_properly(mode: str, progressive: bool) -> None:
    noise = Image.fromarray(DRAW.integers(0, 256, (300, 400, 3)).astype(np.uint8)).convert(mode)
    data = encoded(noise, "JPEG", progressive=progressive)
    cut = data[: len(data) * 6 // 10]
    refused(cut, "is damaged or cut off")
    found = decode(cut + b"\xff\xd9")
    whole = decode(data)
    assert found.shape == whole.shape
    if progressive:
        assert np.abs(found.astype(int) - whole).mean() > 1
    else:
        np.testing.assert_array_equal(found[:100], whole[:100])
        assert found[-50:].std() == 0  # of one grey


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "I;16"])
def test_a_pillow_image_gives_the_pixels_of_its_file(mode: str) -> None:
    draw = np.random.default_rng(3)
    if mode == "I;16":
        image = Image.fromarray(draw.integers(0, 65536, (12, 17)).astype(np.uint16))
    else:
        image = Image.fromarray(draw.integers(0, 256, (12, 17, 3), np.uint8)).convert(mode)
    if mode == "RGBA":
        image.putalpha(90)
    if mode == "CMYK":  # which no format without loss holds
        np.testing.assert_array_equal(decode(image), np.asarray(image.convert("RGB")))
        return
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    np.testing.assert_array_equal(decode(image), decode(encoded.getvalue()))


def test_a_pillow_image_that_was_opened_from_a_file_comes_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        found = decode(opened)
    assert found.shape == (16, 8, 3)
    np.testing.assert_array_equal(found, decode(tmp_path / "turned.png"))


def test_a_pillow_image_is_held_against_the_limits() -> None:
    with pytest.raises(ImageError, match=r"the Pillow image has 30 x 20 = 600 pixels; 1 to 599"):
        decode(Image.new("RGB", (30, 20)), max_pixels=599)
    with pytest.raises(ImageError, match="more than 100 times as long"):
        decode(Image.new("L", (40_000, 30)))


def test_a_pillow_image_whose_file_is_closed_or_cut_off_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        tmp_path / "whole.jpg"
    )
    data = (tmp_path / "whole.jpg").read_bytes()
    opened = Image.open(io.BytesIO(data[: len(data) // 2]))
    with pytest.raises(ImageError, match="the Pillow image cannot be read"):
        decode(opened)


def test_an_open_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", "rb") as file:
        np.testing.assert_array_equal(decode(file), image)
        with pytest.raises(ImageError, match=r"the image is empty \(0 bytes\)"):
            decode(file)
        file.seek(0)
        # read once, whatever is made of it
        opened = decode_image(file, 300, 10_000, native=True)
    np.testing.assert_array_equal(opened.pixels, image)
    assert opened.native is not None
    np.testing.assert_array_equal(opened.native(), image)


def test_a_file_that_gives_no_bytes_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with open(tmp_path / "a.png", encoding="utf-8") as text, pytest.raises(
        ImageError, match=r"the open file .* cannot be read: .*codec"
    ):
        decode(text)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match='gave str; open it with "rb"'):
        decode(io.StringIO("text"))  # type: ignore[arg-type]
    with open(tmp_path / "a.png", "rb") as closed:
        pass
    with pytest.raises(ImageError, match=r"cannot be read: .*closed file"):
        decode(closed)
