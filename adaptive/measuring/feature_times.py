"""What each feature costs by itself."""

from __future__ import annotations

from time import perf_counter
from typing import Sequence

import numpy as np

from adaptive.features.measure import measure
from adaptive.features.schema import SCHEMA
from adaptive.images.decoded import DecodedImage
from adaptive.routing.extractors import Extractor

#: Images on which each feature is timed by itself.
FEATURE_IMAGES = 20


class FeatureTimes:
    """What features cost: this library's one by one on some images, a user's own together.

    Parameters
    ----------
    ours, own : names
    """

    def __init__(self, ours: Sequence[str], own: Sequence[str]) -> None:
        self._ours, self._own = tuple(ours), tuple(own)
        self._each: list[dict[str, float]] = []

    def take(self, image: DecodedImage, extractor: Extractor | None) -> None:
        """Time them on one image, where not enough were seen."""
        if self.done:
            return
        found = measure(SCHEMA.crop(image.working), self._ours, 3) if self._ours else {}
        if extractor is not None and image.native is not None:
            began = perf_counter()
            extractor(image.native())
            spent = (perf_counter() - began) * 1e3 / len(self._own)
            found.update(dict.fromkeys(self._own, spent))
        self._each.append(found)

    @property
    def done(self) -> bool:
        """Whether they were timed on enough images."""
        return len(self._each) == FEATURE_IMAGES

    def median(self) -> dict[str, float]:
        """Milliseconds by name."""
        names = (*self._ours, *self._own)
        return {n: round(float(np.median([e[n] for e in self._each])), 6) for n in names}
