"""Bytes, a path or an array to an RGB image, with every limit checked before decoding."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Union

import numpy as np

from adaptive.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

ImageLike = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]", np.ndarray]

#: Formats that are read; anything else is refused before it is looked at further.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")

#: Largest width x height that is decoded, pixels.
MAX_PIXELS = 50_000_000

#: Short side that features and most networks work at, pixels.
WORKING_SHORT = 256


def decode(
    image: ImageLike, short: int = WORKING_SHORT, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode an image whose short side should still be at least `short` pixels.

    A JPEG is decoded at the smallest of its decoder's scales (1, 1/2, 1/4, 1/8) that leaves the
    short side at `short` or more; other formats come at full size. The EXIF orientation is
    applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and the first frame
    of an animation is taken.

    Parameters
    ----------
    image : encoded bytes, a path, or an ndarray of shape (height, width, 3) or (height, width),
        uint8, RGB, which is returned as it is (grey is repeated)

    Returns
    -------
    ndarray of shape (height, width, 3), uint8, RGB

    Raises
    ------
    ImageError
        when the bytes are no image of a known format, are damaged, or are over `max_pixels`.
    """
    if isinstance(image, np.ndarray):
        return _check_array(image)
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        try:
            with open(path, "rb") as file:
                return _decode_stream(file, f"{path}", short, max_pixels)
        except OSError as exc:
            raise ImageError(f"{path} cannot be read: {exc.strerror or exc}") from exc
        except ImageError:
            raise
        except ValueError as exc:  # a path that no file system takes, with a NUL in it
            raise ImageError(f"{str(path)!r} cannot be read: {exc}") from exc
    if not isinstance(image, (bytes, bytearray, memoryview)):
        raise ImageError(f"an image is bytes, a path or a uint8 array, not {type(image).__name__}")
    if len(image) == 0:
        raise ImageError("the image is empty (0 bytes); JPEG, PNG, WebP, BMP and GIF are read")
    return _decode_stream(io.BytesIO(image), "the image", short, max_pixels)


def decode_working(image: ImageLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image at the scale of the feature schema: short side 256, or less if smaller."""
    from adaptive.features.schema import SCHEMA

    return SCHEMA.working(decode(image, SCHEMA.short_side, max_pixels))


def _check_array(image: np.ndarray) -> np.ndarray:
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


def _decode_stream(stream: IO[bytes], name: str, short: int, max_pixels: int) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        opened = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as exc:
        raise ImageError(
            f"{name} is not a JPEG, PNG, WebP, BMP or GIF image, or its header is damaged"
        ) from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageError(
            f"{name} has more pixels than the {max_pixels:,} that are allowed"
        ) from exc
    except (OSError, SyntaxError, ValueError) as exc:
        raise ImageError(f"{name} has a damaged header") from exc
    width, height = opened.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} = {width * height:,} pixels; "
            f"at most {max_pixels:,} are allowed"
        )
    try:
        opened.draft(None, draft_size(width, height, short))
        opened.load()
        upright = ImageOps.exif_transpose(opened)
        return _to_rgb(opened if upright is None else upright)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, MemoryError) as exc:
        raise ImageError(f"{name} is damaged or cut off and cannot be decoded") from exc


def draft_size(width: int, height: int, short: int) -> tuple[int, int]:
    """The size to ask a JPEG decoder for, so that it keeps the short side at `short` or more."""
    least = min(width, height)
    scale = next((s for s in (8, 4, 2) if least // s >= short), 1)
    return width // scale, height // scale


def _to_rgb(image: Image.Image) -> np.ndarray:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        # 16-bit grey: Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        grey = np.clip(np.asarray(image, np.float64) / 257.0, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, over)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
