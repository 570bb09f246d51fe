"""Images as a network reads them where it is served, for whatever is made of that network."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import Candidate, InputSpec
from adaptive.errors import ImageError
from adaptive.images.decode import MAX_PIXELS
from adaptive.images.decoded import decode_image
from adaptive.images.preprocess import needed_short
from adaptive.outcomes.labelled import LabelledImages


def longest_short(bundle: Bundle) -> int:
    """The longest short side that one of the candidates wants: all of them get it served."""
    return max(needed_short(candidate.input) for candidate in bundle.candidates)


def served_input(images: LabelledImages, row: int, spec: InputSpec, short: int) -> np.ndarray:
    """One image as a network with this input gets it, (1, ...).

    short : the longest short side that a network of the bundle wants, see `longest_short`

    Raises
    ------
    ImageError
        when it cannot be read; it is named.
    """
    name = images.names[row]
    try:
        return decode_image(images.root / name, short, MAX_PIXELS).tensor(spec)
    except ImageError as exc:
        raise ImageError(f"{name}: {exc}; leave it out of the images") from exc


def served_inputs(images: LabelledImages, candidate: Candidate, short: int) -> list[np.ndarray]:
    """Every image as a candidate gets it, one array (1, ...) each; see `served_input`."""
    rows = tqdm(range(len(images)), desc=candidate.name, unit="image", leave=False)
    return [served_input(images, row, candidate.input, short) for row in rows]
