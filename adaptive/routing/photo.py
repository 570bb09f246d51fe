"""One image on its way to an answer: pixels, features, and what networks made of it so far."""

from __future__ import annotations

import math
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import Callable, Mapping, NamedTuple, Protocol, Sequence

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.checks import shown
from adaptive.errors import InputError
from adaptive.images.decode import ImageLike
from adaptive.policy.base import Output
from adaptive.premodel.base import Premodel
from adaptive.segments import through_key


class Extractor(Protocol):
    """Computes the features that are a user's own, for a premodel that learned from them.

    It is asked for no others: what this library computed at training it computes here as well.
    """

    def __call__(self, image: np.ndarray) -> Mapping[str, float]:
        """Features by name.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8, RGB: the upright image at its own
            size, which a photograph is decoded to once more, for what networks see is smaller
        """


class Pixels:
    """One decoded image, and the tensors that were made from it so far.

    Attributes
    ----------
    image : at the scale that the networks see; `working` itself where none sees more
    working : at the scale that features are taken at
    """

    def __init__(self, image: np.ndarray, working: np.ndarray) -> None:
        self.image = image
        self.working = working
        self._seen: dict[tuple[int, str], Made] = {}
        self._tensors: dict[InputSpec, Made] = {}

    def tensor(self, spec: InputSpec) -> np.ndarray:
        """A network's input; networks that read the same tensor share it."""
        made = self._tensors.get(spec)
        if made is None:
            from adaptive.images.preprocess import normalised

            seen = self._scaled(spec).array
            began = perf_counter()
            tensor = normalised(seen, spec)
            made = self._tensors[spec] = Made(tensor, (perf_counter() - began) * 1e3)
        return made.array

    def prepared(self, spec: InputSpec) -> tuple[float, float]:
        """Milliseconds of scaling, and of normalising, when `tensor(spec)` was first made."""
        self.tensor(spec)
        return self._scaled(spec).ms, self._tensors[spec].ms

    def _scaled(self, spec: InputSpec) -> Made:
        """What a network sees before it is normalised, once for all networks that see the same."""
        from adaptive.images.preprocess import needed_short, scaled

        key = (spec.size, spec.resize)
        if key not in self._seen:
            large = needed_short(spec) > min(self.working.shape[:2])
            began = perf_counter()
            array = scaled(self.image if large else self.working, spec)
            self._seen[key] = Made(array, (perf_counter() - began) * 1e3)
        return self._seen[key]


class Made(NamedTuple):
    """An array, and the milliseconds that it took."""

    array: np.ndarray
    ms: float


#: Of a photo that is answered.
_NO_PIXELS = Pixels(np.empty((0, 0, 3), np.uint8), np.empty((0, 0, 3), np.uint8))


class Photo:
    """One image on its way: what is known of it so far. What is found out makes a new one.

    Attributes
    ----------
    pixels : of the image, and the networks' inputs
    native : decodes the image once more, at its own size; None where no extractor looks at it any
        more
    ms : milliseconds by step; "NET@1:through" is that of running through NET@1
    features : ndarray (d,), or None before they are computed
    done : by candidate that was asked, what it said
    together : by candidate that was asked, on how many images it ran at once; `ms` has this
        image's share
    carried : by candidate that ran, what the exit after it reads
    passed : exits that were run through without their heads
    """

    def __init__(
        self,
        image: np.ndarray,
        working: np.ndarray,
        native: Callable[[], np.ndarray] | None = None,
        ms: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.pixels = Pixels(image, working)
        self.native = native
        self.ms = ms
        self.features: np.ndarray | None = None
        self.done: Mapping[str, Output] = {}
        self.together: Mapping[str, int] = {}
        self.carried: Mapping[str, tuple[np.ndarray, ...]] = {}
        self.passed: tuple[str, ...] = ()

    @property
    def image(self) -> np.ndarray:
        """At the scale that the networks see."""
        return self.pixels.image

    @property
    def working(self) -> np.ndarray:
        """At the scale that features are taken at."""
        return self.pixels.working

    def tensor(self, spec: InputSpec) -> np.ndarray:
        """The network's input; candidates that read the same tensor share it."""
        return self.pixels.tensor(spec)

    def timed(self, step: str, ms: float) -> Photo:
        """The same, with what one more step took."""
        return self._with(ms={**self.ms, step: ms})

    def described(self, features: np.ndarray, ms: float) -> Photo:
        """The same with its features, and what they took."""
        # What decodes the image once more holds its bytes, and nobody needs it now.
        return self._with(features=features, native=None, ms={**self.ms, "features": ms})

    def answered(
        self, name: str, output: Output, state: tuple[np.ndarray, ...], ms: float, together: int = 1
    ) -> Photo:
        """The same after a candidate was asked, about so many images together."""
        return self._with(
            together={**self.together, name: together},
            done={**self.done, name: output},
            carried={**self.carried, name: state},
            ms={**self.ms, name: ms},
        )

    def run_through(self, name: str, state: tuple[np.ndarray, ...], ms: float) -> Photo:
        """The same after an exit's segment ran without its head."""
        return self._with(
            passed=(*self.passed, name),
            carried={**self.carried, name: state},
            ms={**self.ms, through_key(name): ms},
        )

    def holding_own(self) -> Photo:
        """The same with states of its own, not views that keep alive the batch they ran in."""
        return self._with(
            carried={
                name: tuple(s if s.base is None else s.copy() for s in states)
                for name, states in self.carried.items()
            }
        )

    def unprepared(self) -> Photo:
        """The same image as it was decoded, with no tensor made and nothing run."""
        return Photo(self.image, self.working)

    def finished(self) -> Photo:
        """The same without pixels, tensors and states: it is answered, and nothing more is run."""
        return self._with(pixels=_NO_PIXELS, native=None, carried={})

    def spent_ms(self) -> float:
        """What the answer has cost so far; decoding, which no policy can save, is left out."""
        return sum(ms for step, ms in self.ms.items() if step != "decode")

    def _with(self, **changes: object) -> Photo:
        new = object.__new__(Photo)
        new.__dict__.update(self.__dict__, **changes)
        return new


def open_photo(
    image: ImageLike, networks_short: int, max_pixels: int, extracted: bool = False
) -> Photo:
    """Decode an image.

    Parameters
    ----------
    networks_short : the longest short side that a network wants to see
    max_pixels : a larger image is refused
    extracted : whether a user's extractor may look at it

    Raises
    ------
    ImageError
        when the image cannot be read or is over a limit.
    """
    from adaptive.features.schema import SCHEMA
    from adaptive.images.decode import decode, decode_scales

    began = perf_counter()
    short = SCHEMA.short_side
    # Features never depend on which networks a bundle holds, so a network that sees more than
    # the schema's scale gets a decoding of its own, where the decoder makes a difference.
    pixels, larger = decode_scales(image, (short, max(short, networks_short)), max_pixels)
    working = SCHEMA.working(pixels)
    # A decoding that no network sees is let go at once, for a batch would hold one for each image;
    # an extractor's is made when it is wanted. No smaller scale leaves a short side of all pixels.
    native = partial(decode, image, max_pixels, max_pixels) if extracted else None
    seen = larger if networks_short > short else working
    return Photo(seen, working, native, {"decode": (perf_counter() - began) * 1e3})


def warm_up_image(networks_short: int) -> bytes:
    """A grey image, encoded, so that its decoder is loaded too."""
    import io

    from PIL import Image

    side = max(networks_short, 64)
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), (127, 127, 127)).save(encoded, "JPEG")
    return encoded.getvalue()


def timed_features(
    photo: Photo, names: Sequence[str], own: Sequence[str] = (), extractor: Extractor | None = None
) -> tuple[np.ndarray, float]:
    """The features of `features_of`, and the milliseconds that they took."""
    began = perf_counter()
    features = features_of(photo, names, own, extractor)
    return features, (perf_counter() - began) * 1e3


def features_of(
    photo: Photo, names: Sequence[str], own: Sequence[str], extractor: Extractor | None
) -> np.ndarray:
    """The named features, shape (len(names),); `own` are the extractor's, the others ours."""
    found: dict[str, float] = {}
    if own and extractor is not None:
        assert photo.native is not None
        values = extractor(photo.native())
        if not isinstance(values, Mapping):
            raise InputError(
                f"the extractor gave {shown(values)}; a mapping from features to numbers is needed"
            )
        missing = [n for n in own if n not in values]
        if missing:
            raise InputError(f"the extractor gave no features {missing}; it gave {list(values)}")
        for name in own:
            try:
                found[name] = float(values[name])
            except (TypeError, ValueError):
                found[name] = math.nan
            if not math.isfinite(found[name]):
                raise InputError(
                    f"the extractor gave {shown(values[name])} as feature {name!r}; a finite "
                    "number is needed"
                )
    ours = tuple(n for n in names if n not in found)
    if ours:
        from adaptive.features.extract import extract
        from adaptive.features.schema import SCHEMA

        computed = extract(SCHEMA.crop(photo.working), ours)
        if not found:
            return computed
        found.update(zip(ours, computed.tolist()))
    return np.array([found[n] for n in names])


def computable(
    premodel: Premodel | None, needed: bool, extractor: Extractor | None
) -> tuple[str, ...]:
    """Names of the features that a premodel reads; none where they cannot be computed.

    Raises
    ------
    InputError
        when they are `needed` and cannot be computed.
    """
    if premodel is None:
        return ()
    from adaptive.features.schema import SCHEMA

    own = [] if extractor is not None else list(premodel.own_features)
    if own and needed:
        cure = "give Router.load an extractor that computes them"
        if set(own) <= set(SCHEMA.names):
            cure += ", or, if `adaptive features` did, train again with --features-from adaptive"
        raise InputError(f"the premodel learned from columns of your own, {own}; {cure}")
    version = premodel.schema_version
    if version is not None and version != SCHEMA.version and needed:
        raise InputError(
            f"the premodel was trained on feature schema {version}, this version computes "
            f"schema {SCHEMA.version}; train it again"
        )
    return () if own else tuple(premodel.features)
