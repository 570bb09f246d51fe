"""What a file says beside its pixels: how the camera was held; and the file without all that.

Files are walked here and not by Pillow, whose versions differ in what they take for EXIF, and
which refuse whole pixels where something beside them is damaged. Nothing here can fail.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Iterator, NamedTuple

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

#: What a JPEG's segment begins with: 255, its kind, its length.
_HEAD = struct.Struct(">BBH")

#: What its frame begins with: bits, height, width, how many layers.
_FRAME = struct.Struct(">BHHB")

#: The last bytes of a whole JPEG.
END_OF_JPEG = b"\xff\xd9"

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

#: How a PNG calls texts that hold an EXIF block, as digits, and XMP.
_RAW_NAME, _XMP_NAME = b"Raw profile type exif", b"XML:com.adobe.xmp"

#: EXIF's tag of how the camera was held; how `struct` reads one whole number of a TIFF type.
_ORIENTATION, _NUMBERS = 0x0112, {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q"}

#: The same in XMP, as an attribute or an element.
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

#: Text in a PNG is unpacked up to here, bytes; EXIF is 64 KB at most, twice that in digits.
_MOST_TEXT = 1 << 18


class Part(NamedTuple):
    """A JPEG's segment, a PNG's chunk or a WebP's: its kind, all of it, and what it holds."""

    kind: bytes
    start: int
    end: int
    inside: tuple[int, int]


def is_walked(head: bytes) -> bool:
    """Whether a file is of a kind that is walked here; its first 12 bytes tell."""
    return head.startswith((_JPEG, _PNG)) or _is_webp(head)


def orientation(data: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1, which is upright, where the file says nothing readable."""
    exif = b""
    texts: dict[bytes, bytes] = {}
    for part in _parts(data):
        inside = slice(*part.inside)
        if part.kind == b"\xe1":
            if data.startswith(_XMP, part.inside[0]):
                texts.setdefault(_XMP_NAME, data[inside])
            elif data.startswith(_EXIF, part.inside[0]):
                exif = exif or data[inside]
        elif part.kind in (b"eXIf", b"EXIF"):
            exif = exif or data[inside]
        elif part.kind == b"XMP ":
            texts.setdefault(_XMP_NAME, data[inside])
        elif part.kind in (b"tEXt", b"zTXt", b"iTXt"):
            name, _, text = data[inside].partition(b"\0")
            if name in (_XMP_NAME, _RAW_NAME):
                texts.setdefault(name, _text(part.kind, text))
    found = exif_orientation(exif or _digits(texts.get(_RAW_NAME, b"")))
    if found is None:
        said = _IN_XMP.search(texts.get(_XMP_NAME, b""))
        found = 1 if said is None else int(said[1])
    return found if 1 <= found <= 8 else 1


def exif_orientation(block: bytes) -> int | None:
    """The value of the tag in an EXIF block, which may be cut off or no EXIF at all.

    As in Pillow, the header may be doubled and the rest may be a BigTIFF; what stands before a
    cut holds, and the last of several tags counts.
    """
    while block.startswith(_EXIF):
        block = block[len(_EXIF) :]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    found = None
    try:
        kind = struct.unpack_from(f"{order}H", block, 2)[0] if order else 0
        if kind in (42, 42 << 8):
            at, count, entry, value = struct.unpack_from(f"{order}I", block, 4)[0], "H", "HHI", 4
        elif kind == 43:
            at, count, entry, value = struct.unpack_from(f"{order}Q", block, 8)[0], "Q", "HHQ", 8
        else:
            return None
        if at > len(block):
            return None
        place = at + struct.calcsize(f"{order}{count}")
        for _ in range(struct.unpack_from(f"{order}{count}", block, at)[0]):
            tag, form, values = struct.unpack_from(f"{order}{entry}", block, place)
            place += struct.calcsize(f"{order}{entry}")
            if tag == _ORIENTATION and form in _NUMBERS and values == 1:
                found = struct.unpack_from(f"{order}{_NUMBERS[form]}", block, place)[0]
            place += value
    except struct.error:  # cut off
        pass
    return found


def bare(data: bytes) -> bytes:
    """The file with nothing but what its pixels are made of; itself where that is all."""
    kept, place, gone = [], 0, 0
    for part in _parts(data):
        if not _needed(part, data):
            kept.append(data[place : part.start])
            place, gone = part.end, gone + part.end - part.start
    if not kept:
        return data
    whole = b"".join([*kept, data[place:]])
    if not _is_webp(whole):
        return whole
    # RIFF counts its bytes, and the extended header has a flag for each thing that went.
    size = struct.pack("<I", max(0, struct.unpack_from("<I", whole, 4)[0] - gone))
    flags = bytes([whole[20] & ~0b101100]) if whole[12:16] == b"VP8X" else whole[20:21]
    return whole[:4] + size + whole[8:20] + flags + whole[21:]


def ordinary_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG in which nothing is out of the ordinary; None of other files.

    Ordinary is 8-bit grey or colour, baseline or progressive, with tables that are whole, a JFIF
    header at most beside them, and its end where a JPEG ends. Such a file says nothing but its
    pixels, and no decoder finds anything to refuse in its header.
    """
    if not (data.startswith(_JPEG) and data.endswith(END_OF_JPEG)):
        return None
    place, last, size, tables = 2, len(data) - 4, None, False
    while place <= last:
        mark, kind, length = _HEAD.unpack_from(data, place)
        begin, end = place + 4, place + 2 + length
        if mark != 0xFF or length < 2 or end > len(data):
            return None
        if kind == 0xDA:
            return size if tables else None
        if kind == 0xDB:  # each of 64 bytes behind the number of its table
            if (length - 2) % 65 or any(number > 3 for number in data[begin:end:65]):
                return None
            tables = True
        elif kind in (0xC0, 0xC2) and size is None:
            bits, height, width, layers = _FRAME.unpack_from(data, begin)
            if bits != 8 or layers not in (1, 3) or length != 8 + 3 * layers or not height * width:
                return None
            size = width, height
        elif kind == 0xE0:
            if not data.startswith(b"JFIF\0", begin) or length < 16:
                return None
        elif kind not in (0xC4, 0xDD):
            return None
        place = end
    return None


def _needed(part: Part, data: bytes) -> bool:
    """Whether a decoder needs a part to know its pixels."""
    if len(part.kind) == 1:  # JPEG: what tells the kind of colours, as long as libjpeg wants it
        begin, end = part.inside
        if part.kind == b"\xe0":
            return data.startswith(b"JFIF\0", begin) and end - begin >= 14
        if part.kind == b"\xee":
            return data.startswith(b"Adobe", begin) and end - begin >= 12
        return 0xF0 <= part.kind[0] != 0xFE
    if data.startswith(_PNG):  # chunks that begin with a capital, and what is transparent
        return part.kind[0] < 0x60 or part.kind == b"tRNS"
    return part.kind not in (b"EXIF", b"XMP ", b"ICCP")


def _parts(data: bytes) -> Iterator[Part]:
    """The parts of a file up to the first that is not whole; of other kinds of files none."""
    if data.startswith(_JPEG):
        yield from _segments(data)
    elif data.startswith(_PNG):
        yield from _chunks(data, len(_PNG), ">I4s", padded=False)
    elif _is_webp(data):
        yield from _chunks(data, 12, "<4sI", padded=True)


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _segments(data: bytes) -> Iterator[Part]:
    """A JPEG's segments for applications, and its comments, up to the first scan."""
    place, last = 2, len(data) - 4
    while place <= last:
        mark, kind, size = _HEAD.unpack_from(data, place)
        if mark != 0xFF:
            return
        if kind == 0xFF:  # filling
            place += 1
            continue
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # stands alone
            place += 2
            continue
        end = place + 2 + size
        if kind in (0x00, 0xD9, 0xDA) or size < 2 or end > len(data):
            return
        if kind >= 0xE0:
            yield Part(bytes([kind]), place, end, (place + 4, end))
        place = end


def _chunks(data: bytes, place: int, head: str, padded: bool) -> Iterator[Part]:
    """A PNG's chunks, which end in a checksum, or a RIFF's, which are filled up to even."""
    while place + 8 <= len(data):
        first, second = struct.unpack_from(head, data, place)
        kind, size = (first, second) if padded else (second, first)
        inside = (place + 8, place + 8 + size)
        end = inside[1] + (size % 2 if padded else 4)
        if end > len(data):
            return
        yield Part(kind, place, end, inside)
        place = end


def _text(kind: bytes, text: bytes) -> bytes:
    """What a PNG's text says, without its name."""
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]  # behind language and translation
    elif packed:
        text = text[1:]
    if not packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, _MOST_TEXT)
    except zlib.error:
        return b""


def _digits(text: bytes) -> bytes:
    """An EXIF block that ImageMagick wrote as text: a name, a length, and lines of digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii", "replace"))
    except ValueError:
        return b""
