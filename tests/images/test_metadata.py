"""What a file says beside its pixels neither turns nor stops them where it cannot be read."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adaptive.errors import ImageError
from adaptive.images.decode import decode
from adaptive.images.metadata import bare, exif_orientation, ordinary_size, orientation

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
EXIF = b"Exif\0\0"
SIDEWAYS = np.rot90(PIXELS, -1)


def encoded(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes, flaw: int = 0) -> bytes:
    check = zlib.crc32(kind + data) ^ flaw
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png(*chunks: bytes, last: bool = False) -> bytes:
    """A PNG with more chunks before its pixels, or behind them."""
    data = encoded("PNG")
    place = len(data) - 12 if last else 33
    return data[:place] + b"".join(chunks) + data[place:]


def jpeg(inside: bytes, marker: int = 0xE1, density: bool = True) -> bytes:
    """A JPEG with one more segment, before JFIF's, which tells a density or does not."""
    data = encoded("JPEG", **({"dpi": (72, 72)} if density else {}))
    segment = struct.pack(">BBH", 0xFF, marker, len(inside) + 2) + inside
    return data[:2] + segment + data[2:]


def webp(exif: bytes) -> bytes:
    data = encoded("WEBP", lossless=True, exif=b"x")
    block = b"EXIF" + struct.pack("<I", len(exif)) + exif + bytes(len(exif) % 2)
    data = data[: data.index(b"EXIF")] + block
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def tiff(order: str, value: int = 6, big: bool = False) -> bytes:
    """An EXIF block of one tag; its value is whole from byte 20 on, or 38 in a BigTIFF."""
    name = b"II" if order == "<" else b"MM"
    if big:
        head = struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, 1)
        return name + head + struct.pack(f"{order}HHQHHHHQ", 0x112, 3, 1, value, 0, 0, 0, 0)
    head = struct.pack(f"{order}HIH", 42, 8, 1)
    return name + head + struct.pack(f"{order}HHIHHI", 0x112, 3, 1, value, 0, 0)


def raw_profile(exif: bytes) -> bytes:
    """As ImageMagick writes it into a PNG's text."""
    return b"\nexif\n%8d\n" % len(exif) + exif.hex().encode() + b"\n"


#: Ways in which a file carries EXIF.
CARRIERS: dict[str, Callable[[bytes], bytes]] = {
    "jpeg": lambda exif: jpeg(EXIF + exif),
    "jpeg without a density": lambda exif: jpeg(EXIF + exif, density=False),
    "jpeg, header twice": lambda exif: jpeg(EXIF + EXIF + exif),
    "png": lambda exif: png(chunk(b"eXIf", exif)),
    "png, behind the pixels": lambda exif: png(chunk(b"eXIf", exif), last=True),
    "png, header twice": lambda exif: png(chunk(b"eXIf", EXIF + EXIF + exif)),
    "png, bad checksum": lambda exif: png(chunk(b"eXIf", exif, flaw=1)),
    "png, as text": lambda exif: png(
        chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(EXIF + exif))
    ),
    "png, as packed text": lambda exif: png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(exif)))
    ),
    "webp": webp,
    "webp, with a header": lambda exif: webp(EXIF + exif),
}


def answered(data: bytes, sideways: bool = False) -> None:
    """Decoded without a word of Pillow's, and turned as it should be."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(data)
    expected = SIDEWAYS if sideways else PIXELS
    assert found.shape == expected.shape
    if not data.startswith(b"\xff\xd8"):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_that_is_cut_anywhere_leaves_the_pixels(carrier: str, big: bool, order: str) -> None:
    block = tiff(order, big=big)
    whole = 38 if big else 20
    for cut in range(len(block) + 1):
        answered(CARRIERS[carrier](block[:cut]), sideways=cut >= whole)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    "block",
    [
        b"not-a-tiff-head",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0+\0\x08\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        tiff("<", 0),
        tiff("<", 9),
        tiff(">", 65535),
    ],
)
def test_exif_that_says_nothing_leaves_the_image_upright(carrier: str, block: bytes) -> None:
    answered(CARRIERS[carrier](block))


def test_digits_that_are_none_are_no_exif() -> None:
    answered(png(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 3\nzz\n")))
    answered(png(chunk(b"zTXt", b"Raw profile type exif\0\0not zlib")))


@pytest.mark.parametrize("form", ["B", "H", "I", "h", "Q"])
def test_an_orientation_is_read_in_whatever_type_it_is_written(form: str) -> None:
    kind = {"B": 1, "H": 3, "I": 4, "h": 8, "Q": 16}[form]
    value = struct.pack(f"<{form}", 8)
    head = b"II" + struct.pack("<HHHQQ", 43, 8, 0, 16, 1)
    block = head + struct.pack("<HHQ", 0x112, kind, 1) + value.ljust(8, b"\0")
    assert exif_orientation(block) == 8


def test_xmp_tells_where_exif_does_not() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    name = b"http://ns.adobe.com/xap/1.0/\0"
    answered(jpeg(name + xmp), sideways=True)
    answered(png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)), sideways=True)
    packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)
    answered(png(chunk(b"iTXt", packed)), sideways=True)
    answered(png(chunk(b"iTXt", packed), chunk(b"eXIf", tiff("<", 1))))


BIG = zlib.compress(bytes(2_000_000))

#: Chunks that Pillow, in one version or another, refuses a PNG for.
ODD_CHUNKS = {
    "a large profile": chunk(b"iCCP", b"x\0\0" + BIG),
    "a large text": chunk(b"zTXt", b"x\0\0" + BIG),
    "a large international text": chunk(b"iTXt", b"x\0\1\0\0\0" + BIG),
    "a text with a bad checksum": chunk(b"tEXt", b"a\0b", flaw=1),
    "a private chunk with a bad checksum": chunk(b"abCd", b"b", flaw=1),
    "a short gAMA": chunk(b"gAMA", b"\0"),
    "a short pHYs": chunk(b"pHYs", b"\0\0"),
    "a short cHRM": chunk(b"cHRM", b"abc"),
    "an empty sRGB": chunk(b"sRGB", b""),
    "an empty iCCP": chunk(b"iCCP", b""),
    "an iCCP that is not packed": chunk(b"iCCP", b"x\0\0abc"),
    "an iCCP packed otherwise": chunk(b"iCCP", b"x\0\7abc"),
    "a zTXt packed otherwise": chunk(b"zTXt", b"x\0\7abc"),
    "a short acTL": chunk(b"acTL", b"x"),
    "an acTL of no frames": chunk(b"acTL", bytes(8)),
    "a short fcTL": chunk(b"fcTL", b"x"),
}


@pytest.mark.parametrize("name", ODD_CHUNKS)
def test_a_png_is_answered_whatever_stands_beside_its_pixels(name: str) -> None:
    answered(png(ODD_CHUNKS[name]))
    answered(png(ODD_CHUNKS[name], last=True))
    answered(png(ODD_CHUNKS[name], chunk(b"eXIf", tiff(">"))), sideways=True)


def test_a_png_is_answered_however_long_its_texts_are() -> None:
    answered(png(chunk(b"tEXt", b"x\0" + bytes(70_000_000))))


def test_a_png_with_a_bad_checksum_in_what_its_pixels_are_made_of_is_refused() -> None:
    data = bytearray(encoded("PNG"))
    data[29] ^= 1  # of IHDR
    with pytest.raises(ImageError, match="header is damaged"):
        decode(bytes(data))
    with pytest.raises(ImageError, match="header is damaged"):
        decode(png(chunk(b"tRNS", bytes(6), flaw=1)))


@pytest.mark.parametrize("marker", [*range(0xE0, 0xF0), 0xFE])
def test_a_jpeg_is_answered_whatever_its_segments_hold(marker: int) -> None:
    for inside in (
        b"",
        b"J",
        b"JFIF\0",
        b"JFIF\0\1",
        b"Exif",
        b"MPF\0",
        b"MPF\0II*\0",
        b"ICC_PROFILE\0\1",
        b"Photoshop 3.0\x008BIM\x03\xed\0",
        b"Adobe",
        b"FPXR\0",
    ):
        data = jpeg(inside, marker)
        np.testing.assert_array_equal(decode(data), decode(encoded("JPEG")))
        assert bare(data) == encoded("JPEG", dpi=(72, 72))


def test_a_jpeg_keeps_what_tells_the_kind_of_its_colours() -> None:
    for mode in ("CMYK", "L", "RGB"):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).convert(mode).save(stream, "JPEG", comment=b"x", exif=EXIF)
        data = stream.getvalue()
        with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(bare(data))) as after:
            assert len(bare(data)) < len(data)
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
            assert after.mode == mode


def test_a_photograph_of_several_in_one_file_is_the_first() -> None:
    Image.init()
    if "MPO" not in Image.SAVE_ALL:
        pytest.skip("this Pillow does not write such files")
    stream = io.BytesIO()
    first = Image.fromarray(PIXELS)
    first.save(stream, "MPO", save_all=True, append_images=[first.transpose(0)])
    np.testing.assert_array_equal(decode(stream.getvalue()), decode(encoded("JPEG")))


def test_webp_with_every_kind_of_chunk_is_the_same_without() -> None:
    profile, xmp = b"abc", b"<x/>"
    for options in ({}, {"save_all": True, "append_images": [Image.new("RGB", (40, 24))]}):
        data = encoded(
            "WEBP", lossless=True, exif=tiff("<"), icc_profile=profile, xmp=xmp, **options
        )
        answered(data, sideways=True)
        rest = bare(data)
        assert not any(name in rest for name in (b"EXIF", b"ICCP", b"XMP "))
        answered(rest)
        answered(data + b"behind the end", sideways=True)


def test_a_file_of_pixels_alone_is_not_copied() -> None:
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        data = encoded(form)
        assert bare(data) is data


@given(
    st.sampled_from([b"", EXIF, b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]),
    st.binary(max_size=80),
)
def test_any_bytes_can_be_read_as_exif(head: bytes, block: bytes) -> None:
    found = exif_orientation(head + block)
    assert found is None or isinstance(found, int)


@given(
    st.sampled_from([png(chunk(b"eXIf", tiff("<"))), jpeg(EXIF + tiff("<")), webp(tiff("<"))]),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=8),
    st.integers(0, 400),
)
def test_any_file_can_be_walked(data: bytes, changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(data)
    for place, value in changes:
        content[place] = value
    damaged = bytes(content[:end] if end > 4 else content)
    assert orientation(damaged) in range(1, 9)
    assert len(bare(damaged)) <= len(damaged)


@pytest.mark.parametrize("form", ["RGB", "L", "progressive"])
def test_a_jpeg_of_pixels_alone_is_ordinary(form: str) -> None:
    stream = io.BytesIO()
    image = Image.fromarray(PIXELS if form != "L" else PIXELS[..., 0])
    image.save(stream, "JPEG", progressive=form == "progressive")
    assert ordinary_size(stream.getvalue()) == (40, 24)


def test_what_else_a_jpeg_may_hold_is_for_pillow_to_judge() -> None:
    whole, cmyk = encoded("JPEG"), io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(cmyk, "JPEG")
    others = {
        "EXIF": jpeg(EXIF + tiff("<")),
        "a comment": jpeg(b"hello", 0xFE),
        "four layers": cmyk.getvalue(),
        "no end": whole[:-2],
        "no scan": whole[: whole.index(b"\xff\xda")] + b"\xff\xd9",
        "no tables": whole[:20] + whole[whole.index(b"\xff\xc0") :],
        "no height": whole.replace(b"\x08\x00\x18\x00\x28", b"\x08\x00\x00\x00\x28"),
        "12 bits": whole.replace(b"\x08\x00\x18\x00\x28", b"\x0c\x00\x18\x00\x28"),
        "another file": encoded("PNG"),
    }
    assert ordinary_size(whole) == (40, 24)
    for name, data in others.items():
        assert ordinary_size(data) is None, name


def test_ordinary_or_not_the_pixels_are_the_same() -> None:
    plain = encoded("JPEG")
    np.testing.assert_array_equal(decode(plain), decode(jpeg(b"hello", 0xFE)))
    np.testing.assert_array_equal(decode(plain), np.asarray(Image.open(io.BytesIO(plain))))


@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=3),
    st.integers(0, 2000),
)
def test_any_bytes_may_be_ordinary_or_not(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(encoded("JPEG"))
    for place, value in changes:
        data[place % len(data)] = value
    size = ordinary_size(bytes(data[:end]))
    assert size is None or min(size) > 0
