"""One image on its way to an answer: pixels, features, and what networks made of it so far."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from time import perf_counter
from typing import Callable, Mapping, Protocol, Sequence

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.errors import InputError
from adaptive.policy.base import Output
from adaptive.premodel.base import Premodel
from adaptive.serving.decode import ImageLike


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


class Photo:
    """One decoded image, its features, and the tensors that were made from it so far.

    Attributes
    ----------
    image : at the scale that the networks see; `working` itself where none sees more
    working : at the scale that features are taken at
    carried, done : by candidate, the state that an exit hands on, and what was said
    passed : exits that were run through without their heads
    native : decodes the image once more, at its own size; None where no extractor looks at it
    ms : milliseconds by step; "NET@1:through" is that of running through NET@1
    """

    def __init__(
        self,
        image: np.ndarray,
        working: np.ndarray,
        native: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self.image = image
        self.working = working
        self.native = native
        self.tensors: dict[InputSpec, np.ndarray] = {}
        self._seen: dict[tuple[int, str], np.ndarray] = {}
        self.carried: dict[str, list[np.ndarray]] = {}
        self.done: dict[str, Output] = {}
        self.passed: list[str] = []
        self.ms: dict[str, float] = defaultdict(float)
        self.features: np.ndarray | None = None

    def tensor(self, spec: InputSpec) -> np.ndarray:
        """The network's input; candidates that read the same tensor share it."""
        tensor = self.tensors.get(spec)
        if tensor is None:
            from adaptive.serving.preprocess import normalised

            tensor = self.tensors[spec] = normalised(self._scaled(spec), spec)
        return tensor

    def _scaled(self, spec: InputSpec) -> np.ndarray:
        """What a network sees before it is normalised, once for all networks that see the same."""
        from adaptive.serving.preprocess import needed_short, scaled

        key = (spec.size, spec.resize)
        if key not in self._seen:
            large = needed_short(spec) > min(self.working.shape[:2])
            self._seen[key] = scaled(self.image if large else self.working, spec)
        return self._seen[key]

    def hold_own(self) -> None:
        """Hold states of its own, not views that keep the batch alive in which it ran."""
        for states in self.carried.values():
            states[:] = [s if s.base is None else s.copy() for s in states]

    def let_go(self) -> None:
        """Forget pixels, tensors and states: the photo is answered and nothing more is run."""
        self.image = self.working = np.empty((0, 0, 3), np.uint8)
        self.native = None
        self.tensors.clear()
        self._seen.clear()
        self.carried.clear()

    def spent_ms(self) -> float:
        """What the answer has cost so far; decoding, which no policy can save, is left out."""
        return sum(ms for step, ms in self.ms.items() if step != "decode")


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
    from adaptive.serving.decode import decode, decode_scales

    began = perf_counter()
    short = SCHEMA.short_side
    # Features never depend on which networks a bundle holds, so a network that sees more than
    # the schema's scale gets a decoding of its own, where the decoder makes a difference.
    pixels, larger = decode_scales(image, (short, max(short, networks_short)), max_pixels)
    working = SCHEMA.working(pixels)
    # A decoding that no network sees is let go at once, for a batch would hold one for each image;
    # an extractor's is made when it is wanted. No smaller scale leaves a short side of all pixels.
    native = partial(decode, image, max_pixels, max_pixels) if extracted else None
    photo = Photo(larger if networks_short > short else working, working, native)
    photo.ms["decode"] = (perf_counter() - began) * 1e3
    return photo


def features_of(
    photo: Photo, names: Sequence[str], own: Sequence[str], extractor: Extractor | None
) -> np.ndarray:
    """The named features, shape (len(names),); `own` are the extractor's, the others ours."""
    found: dict[str, float] = {}
    if own and extractor is not None:
        assert photo.native is not None
        values = extractor(photo.native())
        photo.native = None  # it holds the image
        missing = [n for n in own if n not in values]
        if missing:
            raise InputError(f"the extractor gave no features {missing}; it gave {list(values)}")
        found = {n: float(values[n]) for n in own}
        for name, value in found.items():
            if not math.isfinite(value):
                raise InputError(
                    f"the extractor gave {value} as feature {name!r}; a finite number is needed"
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
