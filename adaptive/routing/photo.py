"""One image on its way to an answer: what networks made of it so far."""

from __future__ import annotations

from types import MappingProxyType
from typing import Mapping, NamedTuple, Tuple

import numpy as np

from adaptive.images.decoded import DecodedImage
from adaptive.policy.history import Output

#: What a network reads of one image: arrays whose first axis is a batch of one.
Inputs = Tuple[np.ndarray, ...]


class Found(NamedTuple):
    """What one segment found of one image.

    Attributes
    ----------
    output : what it said; None where it ran without its head
    state : what the next exit reads
    ms : the image's share of the run
    together : how many images the run was on
    raw : of a detector, its outputs by name, which are read beside the image
    """

    output: Output | None
    state: Inputs
    ms: float
    together: int
    raw: Mapping[str, np.ndarray] | None = None


class Photo(NamedTuple):
    """One image on its way. What is found out makes a new one.

    Attributes
    ----------
    image : its pixels, and the networks' inputs
    ms : milliseconds by step after decoding; "NET@1:through" is that of running through NET@1
    done : by candidate that was asked, what it said
    together : by candidate that was asked, on how many images it ran at once; `ms` has this
        image's share
    carried : by candidate that ran, what the exit after it reads
    passed : exits that were run through without their heads
    """

    image: DecodedImage
    ms: Mapping[str, float] = MappingProxyType({})
    done: Mapping[str, Output] = MappingProxyType({})
    together: Mapping[str, int] = MappingProxyType({})
    carried: Mapping[str, Tuple[np.ndarray, ...]] = MappingProxyType({})
    passed: Tuple[str, ...] = ()

    def holding_own(self) -> Photo:
        """The same with states of its own, not views that keep alive the batch they ran in."""
        carried = {
            name: tuple(s if s.base is None else s.copy() for s in states)
            for name, states in self.carried.items()
        }
        return self._replace(carried=carried)

    def having_spent(self, step: str, ms: float) -> Photo:
        """The same with so much more time spent on a step that came to nothing."""
        return self._replace(ms={**self.ms, step: self.ms.get(step, 0.0) + ms})

    def finished(self) -> Photo:
        """The same without pixels, tensors and states: it is answered, and nothing more is run."""
        return self._replace(image=self.image.emptied(), carried={})

    def spent_ms(self) -> float:
        """What the answer has cost so far; decoding, which no policy can save, is left out."""
        return sum(self.ms.values())
