"""The schema: which features there are and which pixels they are taken from, with a version.

What was computed under one version must not meet a premodel that was trained under another:
every outcome table and premodel carries its schema, and `Schema.from_json` refuses a stranger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from adaptive.errors import ImageError, InputError
from adaptive.features.catalogue import FEATURES, SIDE, Feature

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The pair that the papers do not have: how sharp and how noisy the image is.
EXTRA = ("laplacian_deviation", "noise")
#: The papers' 29 candidate features.
ALL29 = tuple(feature.name for feature in FEATURES if feature.name not in EXTRA)
#: The seven that the papers kept.
PAPER7 = (
    "n_keypoints",
    "avg_perceived_brightness",
    "hue1",
    "contrast",
    "area_by_perim",
    "edge_length1",
    "aspect_ratio",
)
#: Sets of features that have a name.
SETS = {"paper7": PAPER7, "all": ALL29, "extra": EXTRA}


@dataclass(frozen=True)
class Schema:
    """Which pixels features are taken from, and which features there are.

    Parameters
    ----------
    version : changes whenever any value of any feature could
    short_side : images with a longer short side are scaled down to it first, in pixels
    crop_side : features see the middle of that, at most this many pixels a side, never resized
    linear_below : scaling by a smaller factor is linear, by this one or more it averages areas
    features : in the order of `names`
    """

    version: int = 1
    short_side: int = 256
    crop_side: int = SIDE
    linear_below: int = 2
    features: tuple[Feature, ...] = field(default=FEATURES, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Every feature's name."""
        return tuple(feature.name for feature in self.features)

    def feature(self, name: str) -> Feature:
        """The feature of that name; InputError when there is none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise InputError(f"feature {name!r} is unknown; there are {list(self.names)}")

    def working(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale an image to the schema's short side; a smaller one is returned as it is.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8, RGB

        Raises
        ------
        ImageError
            when it is anything else.
        """
        height, width = check_image(image)
        short = min(height, width)
        if short <= self.short_side:
            return image
        from adaptive.opencv import cv2

        size = (
            max(self.short_side, int(width * self.short_side / short + 0.5)),
            max(self.short_side, int(height * self.short_side / short + 0.5)),
        )
        near = short < self.linear_below * self.short_side
        interpolation = cv2.INTER_LINEAR if near else cv2.INTER_AREA
        scaled: Any = cv2.resize(np.ascontiguousarray(image), size, interpolation=interpolation)
        return scaled  # type: ignore[no-any-return]

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the middle out of a working image, as a view; where it is smaller, all of it.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8, RGB, as `working` returns it

        Raises
        ------
        ImageError
            when it is anything else, or larger than a working image.
        """
        height, width = check_image(image)
        if min(height, width) > self.short_side:
            raise ImageError(
                f"an image of {width}x{height} is no working image: its short side is above "
                f"{self.short_side}; scale it with Schema.working first"
            )
        rows, columns = min(height, self.crop_side), min(width, self.crop_side)
        top, left = (height - rows) // 2, (width - columns) // 2
        return image[top : top + rows, left : left + columns]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "version": self.version,
            "short_side": self.short_side,
            "crop_side": self.crop_side,
            "linear_below": self.linear_below,
            "features": list(self.names),
        }

    @classmethod
    def from_json(cls, data: object, where: str = "the file") -> Schema:
        """Read what `to_json` gave, refusing whatever is not this library's own schema.

        Parameters
        ----------
        data : the JSON value
        where : what it was read from, for the message

        Raises
        ------
        InputError
            when it is no schema, of another version, or of this version and yet different.
        """
        own = cls()
        if not isinstance(data, dict) or "version" not in data:
            raise InputError(f"{where} names no feature schema; it must have one with a 'version'")
        _require_same(data, own.to_json(), where)
        return own


def _require_same(data: dict[str, Any], own: dict[str, Any], where: str) -> None:
    version = data["version"]
    if isinstance(version, bool) or version != own["version"]:
        raise InputError(
            f"{where} is of feature schema version {version!r}, but this library computes "
            f"version {own['version']}; compute its features again, or use the library that "
            "made it"
        )
    for key, expected in own.items():
        if data.get(key) != expected:
            raise InputError(
                f"{where} has {key} {data.get(key)!r} in its feature schema, but version "
                f"{version} has {expected!r}"
            )


SCHEMA = Schema()


def check_image(image: object) -> tuple[int, int]:
    """Return (height, width) of an RGB uint8 image with pixels in it, else raise ImageError."""
    if not isinstance(image, np.ndarray):
        found = f"a {type(image).__name__}"
    elif image.dtype != np.uint8:
        found = f"{image.dtype} values of shape {image.shape}"
    elif image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        found = f"an array of shape {image.shape}"
    else:
        return image.shape[0], image.shape[1]
    raise ImageError(
        f"{found} is no image; it must be an RGB array of shape (height, width, 3), uint8, "
        "with at least one pixel"
    )


def resolve_names(spec: str | Sequence[str]) -> tuple[str, ...]:
    """Turn what a user asks for into feature names.

    Parameters
    ----------
    spec : a named set ("paper7", "all", "extra") or several joined by "+" ("all+extra"), else
        feature names, as a sequence or in one string separated by commas

    Raises
    ------
    InputError
        when a name is unknown, named twice, or there is none.
    """
    if isinstance(spec, str):
        parts = [part.strip() for part in spec.split("+")]
        if all(part in SETS for part in parts):
            return tuple(dict.fromkeys(name for part in parts for name in SETS[part]))
        spec = [name.strip() for name in spec.split(",")] if spec.strip() else []
    names = tuple(spec)
    if not names:
        raise InputError(f"no feature is named; there are {_choices()}")
    for position, name in enumerate(names):
        if name not in SCHEMA.names:
            raise InputError(f"feature {name!r} is unknown; there are {_choices()}")
        if name in names[:position]:
            raise InputError(f"feature {name!r} is named twice")
    return names


def _choices() -> str:
    return f"the sets {list(SETS)} and the features {list(SCHEMA.names)}"
