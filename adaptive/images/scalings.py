"""What networks are used to read: pixels scaled in one of a few ways, each under a name."""

from __future__ import annotations

import math
from typing import NamedTuple, Tuple

from adaptive.errors import InputError

Three = Tuple[float, float, float]


class Normalisation(NamedTuple):
    """(pixel / scale - mean) / std, as a manifest entry says it; means and stds as RGB."""

    scale: float | None = None
    mean: Three | None = None
    std: Three | None = None

    def ordered(self, channels: str) -> Normalisation:
        """The same for a network that reads its channels in this order."""
        if channels == "RGB":
            return self
        turned = (None if v is None else (v[2], v[1], v[0]) for v in (self.mean, self.std))
        return Normalisation(self.scale, *turned)


_ONE: Three = (1.0, 1.0, 1.0)

#: The usual ones, in the order in which they are tried. "imagenet" is torchvision's and timm's,
#: "-1..1" TensorFlow's, "caffe" Caffe's and the first Keras networks' (there in BGR), "clip"
#: that of CLIP's image encoders.
SCALINGS = {
    "imagenet": Normalisation(255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0..1": Normalisation(255),
    "-1..1": Normalisation(127.5, _ONE, _ONE),
    "0..255": Normalisation(),
    "caffe": Normalisation(None, (123.68, 116.779, 103.939), _ONE),
    "clip": Normalisation(
        255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ),
}


def read_scaling(text: str) -> Normalisation:
    """A scaling by its name, or as numbers: MEAN/STD, each one number or three, as R,G,B.

    Where no number is above 1 they are for pixels in 0..1, else for pixels in 0..255.

    Raises
    ------
    InputError
        when it is neither.
    """
    if text in SCALINGS:
        return SCALINGS[text]
    parts = text.split("/")
    try:
        mean, std = (_three(part) for part in parts)
    except ValueError:
        raise InputError(
            f"{text!r} is no scaling; {', '.join(SCALINGS)} are known, and MEAN/STD such as "
            "0.5,0.5,0.5/0.25,0.25,0.25 or 127.5/127.5"
        ) from None
    if min(std) <= 0:
        raise InputError(f"the scaling {text!r} divides by {min(std):g}; a std is above 0")
    return Normalisation(None if max(*map(abs, mean), *std) > 1 else 255, mean, std)


def _three(text: str) -> Three:
    values = [float(number) for number in text.split(",")]
    if not all(map(math.isfinite, values)):
        raise ValueError(text)
    if len(values) == 1:
        values *= 3
    red, green, blue = values
    return red, green, blue
