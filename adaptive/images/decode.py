"""Bytes, a path or an array to an RGB image, with every limit checked before decoding."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from typing import IO, TYPE_CHECKING, Iterable, Sequence, Union

import numpy as np

from adaptive.errors import ImageError, MissingOpenCV
from adaptive.images.metadata import END_OF_JPEG, bare, is_walked, ordinary_size, orientation

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import TypeGuard

ImageLike = Union[
    bytes,
    bytearray,
    memoryview,
    str,
    "os.PathLike[str]",
    np.ndarray,
    "IO[bytes]",
    "Image.Image",
]

#: Formats that are read; anything else is refused before it is looked at further.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")

#: Largest width x height that is decoded, pixels.
MAX_PIXELS = 50_000_000

#: An image of more than LARGE pixels may be so many times as long as wide: it is kept at a short
#: side of 256, and thinner ones of one request together would fill the memory.
LARGE, THINNEST = 1_000_000, 100

#: What begins like this is no path of a file, though somebody may take it for one.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|data:")

#: How an image lies that was stored in some EXIF orientation: what Pillow calls the turn.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

#: The EXIF tag that says so.
_ORIENTATION = 0x0112

#: Pixels up to which an image is converted whole, and those of a larger one's tiles.
_WHOLE, _TILE = 1 << 20, 1 << 18

#: Short side that features and most networks work at, pixels.
WORKING_SHORT = 256


def decode(
    image: ImageLike, short: int = WORKING_SHORT, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode an image whose short side should still be at least `short` pixels.

    A JPEG is decoded at the smallest of its decoder's scales (1, 1/2, 1/4, 1/8) that leaves the
    short side at `short` or more; other formats come at full size. The EXIF orientation is
    applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and the first frame
    of an animation is taken. What is damaged beside the pixels, as EXIF or a text that cannot be
    read, is passed over.

    Parameters
    ----------
    image : encoded bytes, a path, an open file (read from where it stands), a Pillow image, or
        an ndarray of shape (height, width, 3) or (height, width), uint8, RGB, which is returned
        as it is (grey is repeated)

    Returns
    -------
    ndarray of shape (height, width, 3), uint8, RGB

    Raises
    ------
    ImageError
        when the bytes are no image of a known format, are damaged, or are over `max_pixels`.
    """
    return decode_scales(image, (short,), max_pixels)[0]


def decode_scales(
    image: ImageLike, shorts: Sequence[int], max_pixels: int = MAX_PIXELS
) -> list[np.ndarray]:
    """`decode` for several short sides; where the scale is the same, it is done once."""
    image = read_once(image)
    if isinstance(image, np.ndarray):
        return [checked_array(image)] * len(shorts)
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        with open_image(path) as file:
            return _decode_stream(file, _shortened(path), shorts, max_pixels)
    if isinstance(image, memoryview):
        image = image.tobytes()  # which need not lie in one piece
    if not isinstance(image, (bytes, bytearray)):
        if not is_pillow(image):
            raise ImageError(
                "an image is bytes, a path, an open file, a Pillow image or a uint8 array, not "
                f"{type(image).__name__}"
            )
        return [_from_pillow(image, max_pixels)] * len(shorts)
    return _decode_stream(io.BytesIO(image), "the image", shorts, max_pixels)


def read_once(image: ImageLike) -> ImageLike:
    """An open file's content, for it can be read but once; anything else as it is.

    Raises
    ------
    ImageError
        when the file cannot be read, or gives text.
    """
    if isinstance(image, (bytes, str, np.ndarray, os.PathLike)) or is_pillow(image):
        return image
    read = getattr(image, "read", None)
    if not callable(read):
        return image
    try:
        content = read()
    except (OSError, ValueError) as exc:
        # a file opened as text fails on an image's first bytes, by an error that is a ValueError
        raise ImageError(f"the open file {_shortened(repr(image))} cannot be read: {exc}") from exc
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageError(
            f"the open file {_shortened(repr(image))} gave {type(content).__name__}; open it with "
            '"rb"'
        )
    return bytes(content)


def is_pillow(image: object) -> TypeGuard[Image.Image]:
    """Whether it is a Pillow image; without loading Pillow, which has made it if it is one."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _from_pillow(image: Image.Image, max_pixels: int) -> np.ndarray:
    """A Pillow image, upright and in RGB."""
    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise ImageError(
            f"the Pillow image has {width} x {height} = {width * height:,} pixels; 1 to "
            f"{max_pixels:,} are allowed"
        )
    _check_shape("the Pillow image", width, height)
    try:
        image.load()
        return _to_rgb(image, image.getexif().get(_ORIENTATION, 1))
    except MemoryError as exc:
        raise ImageError("there is not enough memory for the Pillow image") from exc
    except Exception as exc:  # whatever a file behind it that is damaged or closed leads to
        raise ImageError(f"the Pillow image cannot be read: {exc}") from exc


def upright_size(image: ImageLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of an image at its own size, upright, from its header alone.

    Raises
    ------
    ImageError
        when the header cannot be read.
    """
    if isinstance(image, np.ndarray):
        height, width = checked_array(image).shape[:2]
        return height, width
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        with open_image(path) as file:
            return _upright_size(file.read(), _shortened(path), max_pixels)
    if is_pillow(image):
        width, height = image.size
        sideways = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (width, height) if sideways else (height, width)
    if not isinstance(image, (bytes, bytearray, memoryview)):
        raise ImageError(f"an image's size is not told by {type(image).__name__}")
    return _upright_size(bytes(image), "the image", max_pixels)


def _upright_size(data: bytes, name: str, max_pixels: int) -> tuple[int, int]:
    width, height = _open(io.BytesIO(data), name, max_pixels).size
    sideways = is_walked(data[:12]) and orientation(data) in (5, 6, 7, 8)
    return (width, height) if sideways else (height, width)


def open_image(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open an image's file for reading.

    Raises
    ------
    ImageError
        when there is none or it cannot be read; when it is a folder, or a pipe or a device,
        which might never end.
    """
    path = os.fsdecode(path)
    if not path:
        raise ImageError("the path of an image is empty")
    try:
        kind = os.stat(path).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise ImageError(
                f"{_shortened(path)} is a pipe or a device, and only files are opened; read it "
                "and give the bytes"
            )
        return open(path, "rb")
    except OSError as exc:
        if _URL.match(path):
            raise ImageError(
                f"{_shortened(path)} is a URL, and only files are opened; fetch it and give the "
                "bytes or the file"
            ) from exc
        raise ImageError(f"{_shortened(path)} cannot be read: {exc.strerror or exc}") from exc
    except ImageError:
        raise
    except ValueError as exc:  # a path that no file system takes, with a NUL in it
        raise ImageError(f"{_shortened(path)!r} cannot be read: {exc}") from exc


def _shortened(path: str) -> str:
    """A path as it is shown: bytes that somebody took for one may be long."""
    return path if len(path) <= 300 else f"{path[:140]}…{path[-140:]}"


def decode_working(image: ImageLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image at the scale of the feature schema: short side 256, or less if smaller."""
    from adaptive.features.schema import SCHEMA

    return SCHEMA.working(decode(image, SCHEMA.short_side, max_pixels))


def checked_array(image: np.ndarray) -> np.ndarray:
    """An array that is an image, of three channels where it was grey.

    Raises
    ------
    ImageError
        when it is none.
    """
    if image.dtype != np.uint8:
        raise ImageError(f"an image array is uint8 in 0..255, not {image.dtype}")
    if image.ndim == 2:
        image = np.repeat(image[:, :, np.newaxis], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(
            f"an image array has shape (height, width, 3), RGB, or (height, width), "
            f"not {image.shape}"
        )
    return image


def _decode_stream(
    stream: IO[bytes], name: str, shorts: Sequence[int], max_pixels: int
) -> list[np.ndarray]:
    from PIL import Image

    data, turn = b"", 1
    try:
        head = stream.read(12)
        if not head:
            raise ImageError(f"{name} is empty (0 bytes); JPEG, PNG, WebP, BMP and GIF are read")
        if is_walked(head):
            stream.seek(0)
            data = stream.read()
            ordinary = _ordinary(data, shorts, max_pixels)
            if ordinary is not None:
                return ordinary
            turn, data = orientation(data), bare(data)
            stream = io.BytesIO(data)
        stream.seek(0)
    except OSError as exc:
        raise ImageError(f"{name} cannot be read: {exc.strerror or exc}") from exc
    opened = _open(stream, name, max_pixels)
    width, height = opened.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} = {width * height:,} pixels; "
            f"at most {max_pixels:,} are allowed"
        )
    _check_shape(name, width, height)
    scaled = opened.format in ("JPEG", "MPO")
    scales = [jpeg_scale(width, height, short) if scaled else 1 for short in shorts]
    try:
        found = _plain_jpeg(opened, data, set(scales)) if turn == 1 else {}
        for number, scale in enumerate(set(scales).difference(found)):
            if number:
                stream.seek(0)
                opened = Image.open(stream, formats=FORMATS)
            opened.draft(None, (width // scale, height // scale))
            opened.load()
            if opened.format == "PNG":
                _scale_key(opened, depth=data[24])
            found[scale] = _to_rgb(opened, turn)
    except MemoryError as exc:
        raise ImageError(f"there is not enough memory to decode {name}") from exc
    except MissingOpenCV:
        raise
    except Exception as exc:  # whatever damaged bytes lead Pillow to; its errors share no base
        raise ImageError(f"{name} is damaged or cut off and cannot be decoded") from exc
    return [found[scale] for scale in scales]


def _check_shape(name: str, width: int, height: int) -> None:
    """Refuse a large image that is so thin that it would be hardly smaller at its short side."""
    long, short = max(width, height), min(width, height)
    if width * height > LARGE and long > THINNEST * short:
        raise ImageError(
            f"{name} has {width} x {height} pixels and is more than {THINNEST} times as long as "
            f"it is wide; with more than {LARGE:,} pixels that is not allowed, so cut it into parts"
        )


def _open(stream: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """Read the header alone."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as exc:
        raise ImageError(
            f"{name} is not a JPEG, PNG, WebP, BMP or GIF image, or its header is damaged"
        ) from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        most = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))  # Pillow has its own
        raise ImageError(f"{name} has more pixels than the {most:,} that are allowed") from exc
    except MemoryError as exc:
        raise ImageError(f"there is not enough memory to open {name}") from exc
    except Exception as exc:  # whatever damaged bytes lead Pillow to; its errors share no base
        raise ImageError(f"{name} has a damaged header") from exc


def jpeg_scale(width: int, height: int, short: int) -> int:
    """What a JPEG's sides are divided by, so that the short one stays at `short` or more."""
    least = min(width, height)
    return next((scale for scale in (8, 4, 2) if least // scale >= short), 1)


def _ordinary(data: bytes, shorts: Sequence[int], max_pixels: int) -> list[np.ndarray] | None:
    """A small JPEG of the ordinary kind, of which nothing needs to be read but its size.

    None of any other file, and of one that cannot be decoded, of which Pillow is to say why.
    """
    size = ordinary_size(data)
    if size is None or size[0] * size[1] > min(LARGE, max_pixels):
        return None
    scales = [jpeg_scale(*size, short) for short in shorts]
    found = _by_opencv(data, size, set(scales))
    return [found[scale] for scale in scales] if len(found) == len(set(scales)) else None


def _plain_jpeg(
    opened: Image.Image, encoded: bytes, scales: Iterable[int]
) -> dict[int, np.ndarray]:
    """A whole JPEG in grey or colour at some scales, by OpenCV; nothing of any other image.

    Not every version of OpenCV refuses what is cut off, so that is Pillow's.
    """
    if opened.format != "JPEG" or opened.mode not in ("RGB", "L"):
        return {}
    return _by_opencv(encoded, opened.size, scales) if encoded.endswith(END_OF_JPEG) else {}


def _by_opencv(
    encoded: bytes, size: tuple[int, int], scales: Iterable[int]
) -> dict[int, np.ndarray]:
    """A JPEG of this width and height at those of some scales at which OpenCV can decode it.

    The pixels are those of Pillow, which has the same decoder inside, in four fifths of the
    time.
    """
    from adaptive.opencv import cv2

    data = np.frombuffer(encoded, np.uint8)
    found = {}
    width, height = size
    in_rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)  # newer versions have it
    for scale in scales:
        reduced = 0 if scale == 1 else 8 * scale  # as IMREAD_REDUCED_GRAYSCALE_2, _4 and _8
        how = reduced | (in_rgb or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            pixels = cv2.imdecode(data, how)
        except cv2.error:
            continue
        if pixels is not None and pixels.shape == (-(-height // scale), -(-width // scale), 3):
            found[scale] = pixels if in_rgb else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return found


def _scale_key(image: Image.Image, depth: int) -> None:
    """Give the colour of a PNG that is transparent in the numbers that its pixels have now.

    Pillow leaves it in those of the file, whose white may be 1, 3, 15 or 65535.
    """
    key = image.info.get("transparency")
    if isinstance(key, tuple):
        image.info["transparency"] = tuple(k >> 8 if depth == 16 else k & 255 for k in key)
    elif isinstance(key, int) and image.mode == "1":
        image.info["transparency"] = 255 if key else 0
    elif isinstance(key, int) and image.mode == "L":
        top = 2**depth - 1
        image.info["transparency"] = 255 * (key & top) // top


def _to_rgb(image: Image.Image, turn: int = 1) -> np.ndarray:
    """A loaded image, upright and in RGB; a large one tile by tile, or it was there many times."""
    width, height = image.size
    if width * height <= _WHOLE:
        return _converted(image, turn)
    sideways = turn in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if sideways else (height, width, 3), np.uint8)
    columns = min(width, _TILE)
    rows = _TILE // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            box = (left, top, min(left + columns, width), min(top + rows, height))
            place = _turned(box, width, height, turn)
            upright[place] = _converted(image.crop(box), turn)
    return upright


def _turned(
    box: tuple[int, int, int, int], width: int, height: int, orientation: int
) -> tuple[slice, slice]:
    """Rows and columns of the upright image that a (left, top, right, bottom) of it becomes."""
    left, top, right, bottom = box
    if orientation in (2, 3, 7, 8):  # what was left comes last
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    rows, columns = slice(top, bottom), slice(left, right)
    return (columns, rows) if orientation in (5, 6, 7, 8) else (rows, columns)


def _converted(image: Image.Image, orientation: int) -> np.ndarray:
    """An image, or a tile of one, turned upright and as RGB."""
    from PIL import Image

    if orientation in _TURNS:
        image = image.transpose(getattr(Image.Transpose, _TURNS[orientation]))
    if image.mode.startswith(("I", "F")):
        # 16-bit grey: Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        values = np.asarray(image, np.float64)
        grey = np.clip(values / 257.0, 0, 255).round().astype(np.uint8)
        if isinstance(image.info.get("transparency"), int):
            grey[values == image.info["transparency"]] = 255
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, over)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
