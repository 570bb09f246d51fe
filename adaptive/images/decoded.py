"""One decoded image, as features and networks see it, and the tensors that were made of it."""

from __future__ import annotations

import copy
import io
from functools import partial
from time import perf_counter
from typing import Callable, NamedTuple

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.images.decode import LARGE, ImageLike, decode, decode_scales, read_once, upright_size
from adaptive.images.pixels import Pixels
from adaptive.images.preprocess import needed_short, normalised, scale_of, scaled

#: A network's input is made of the working image where no more than this is left of its sides, so
#: that it hardly matters that they are scaled twice.
LITTLE = 0.5

#: Short side of the largest image that warms up, pixels; more of them warm nothing further.
WARM_SHORT = 1024


class DecodedImage:
    """One image at the scales that features and networks see, and the tensors made of it so far.

    Parameters
    ----------
    pixels : ndarray (height, width, 3), uint8, RGB, at the scale that the networks see; `working`
        itself where none sees more
    working : the same at the scale that features are taken at
    finer : the same at up to twice that scale, for networks whose input is only a little smaller
        than `working`: scaled twice by a little, it is blurred; `working` where left out
    ms : what decoding took
    native : decodes the image once more, at its own size; None where nobody looks at that
    size : (height, width) at its own size, upright; None where nobody asked for it
    """

    def __init__(
        self,
        pixels: np.ndarray,
        working: np.ndarray,
        ms: float = 0.0,
        native: Callable[[], np.ndarray] | None = None,
        size: tuple[int, int] | None = None,
        finer: np.ndarray | None = None,
    ) -> None:
        self.pixels = pixels
        self.working = working
        self.finer = working if finer is None else finer
        self.ms = ms
        self.native = native
        self.size = size
        self._scaled: dict[tuple[object, ...], _Timed] = {}
        self._tensors: dict[InputSpec, _Timed] = {}

    def tensor(self, spec: InputSpec) -> np.ndarray:
        """A network's input; networks that read the same tensor share it."""
        made = self._tensors.get(spec)
        if made is None:
            seen = self._seen(spec).array
            began = perf_counter()
            tensor = _held(seen) if isinstance(spec, Pixels) else normalised(seen, spec)
            made = self._tensors[spec] = _Timed(tensor, (perf_counter() - began) * 1e3)
        return made.array

    def prepared(self, spec: InputSpec) -> tuple[float, float]:
        """Milliseconds of scaling, and of normalising, when `tensor(spec)` was first made."""
        self.tensor(spec)
        return self._seen(spec).ms, self._tensors[spec].ms

    def unprepared(self) -> DecodedImage:
        """The same image with no tensor made."""
        return DecodedImage(self.pixels, self.working, self.ms, self.native, self.size, self.finer)

    def without_native(self) -> DecodedImage:
        """The same, and what decodes it once more, which holds its bytes, is let go of."""
        kept = copy.copy(self)
        kept.native = None
        return kept

    def emptied(self) -> DecodedImage:
        """What is kept of an image that is answered: the time that decoding took."""
        return DecodedImage(_NO_PIXELS, _NO_PIXELS, self.ms, size=self.size)

    def source(self, spec: InputSpec) -> np.ndarray:
        """The pixels that a network's input is made of."""
        height, width = self.working.shape[:2]
        if needed_short(spec) > min(height, width):
            return self.pixels
        left = scale_of(height, width, spec)
        return self.working if left == 1 or left <= LITTLE else self.finer

    def _seen(self, spec: InputSpec) -> _Timed:
        """What a network sees before it is normalised, once for all networks that see the same."""
        if isinstance(spec, Pixels):
            return _Timed(self.pixels, 0.0)
        key = spec.seen
        if key not in self._scaled:
            began = perf_counter()
            array = scaled(self.source(spec), spec)
            self._scaled[key] = _Timed(array, (perf_counter() - began) * 1e3)
        return self._scaled[key]


class _Timed(NamedTuple):
    """An array, and the milliseconds that it took."""

    array: np.ndarray
    ms: float


def _held(pixels: np.ndarray) -> np.ndarray:
    """An array of shape (1,) with the pixels as its one value, for images differ in size."""
    held = np.empty(1, object)
    held[0] = pixels
    return held


_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


def decode_image(
    image: ImageLike,
    networks_short: int,
    max_pixels: int,
    native: bool = False,
    sized: bool = False,
) -> DecodedImage:
    """Decode an image at the scales that features and networks see.

    Parameters
    ----------
    networks_short : the longest short side that a network wants to see
    max_pixels : a larger image is refused
    native : whether a user's extractor may look at the image at its own size
    sized : whether its own size is to be known, as boxes are told in it

    Raises
    ------
    ImageError
        when the image cannot be read or is over a limit.
    """
    from adaptive.features.schema import SCHEMA

    began = perf_counter()
    image = read_once(image)
    short = SCHEMA.short_side
    # Features never depend on which networks a bundle holds, so a network that sees more than
    # the schema's scale gets a decoding of its own, where the decoder makes a difference.
    pixels, larger = decode_scales(image, (short, max(short, networks_short)), max_pixels)
    working = SCHEMA.working(pixels)
    finer = _finer(pixels, working)
    # A decoding that no network sees is let go at once, for a batch would hold one for each image;
    # an extractor's is made when it is wanted. No smaller scale leaves a short side of all pixels.
    again = partial(decode, image, max_pixels, max_pixels) if native else None
    seen = larger if networks_short > short else working
    size = upright_size(image, max_pixels) if sized else None
    return DecodedImage(seen, working, (perf_counter() - began) * 1e3, again, size, finer)


def _finer(pixels: np.ndarray, working: np.ndarray) -> np.ndarray:
    """An image at 1 to 2 times the scale of its working image; that itself where it is no smaller.

    A larger one is divided by a whole number first, which blurs nothing.
    """
    height, width = pixels.shape[:2]
    part = min(height, width) // min(working.shape[:2])
    if (height // part) * (width // part) > LARGE:
        return working  # a long thin one, of which a batch would hold too much
    if part == 1:
        return pixels
    from adaptive.opencv import cv2

    size = round(width / part), round(height / part)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def warm_up_image(networks_short: int) -> bytes:
    """A grey image, encoded, so that its decoder is loaded too."""
    from PIL import Image

    side = min(max(networks_short, 64), WARM_SHORT)
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), (127, 127, 127)).save(encoded, "JPEG")
    return encoded.getvalue()
