"""The features: what each one is called, what it means and which values it can take."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Side of the square that features are taken from, in pixels; the ranges below follow from it.
SIDE = 128

_TAYLOR = "Taylor et al. 2018, doi 10.1145/3211332.3211336"
_LUMA = "luma of ITU-R BT.601"
_PERCEIVED = "HSP colour model, Finley 2006"
_CANNY = "Canny 1986, doi 10.1109/TPAMI.1986.4767851"
_FAST = "FAST-9, Rosten and Drummond 2006, doi 10.1007/11744023_34"
_CONTRAST = "RMS contrast, Peli 1990, doi 10.1364/JOSAA.7.002032"
_HUE = "HSV colour model, Smith 1978, doi 10.1145/965139.807361"
_LAPLACIAN = "Pech-Pacheco et al. 2000, doi 10.1109/ICPR.2000.903548"
_NOISE = "Immerkaer 1996, doi 10.1006/cviu.1996.0060"

#: An edge belongs to the first bin whose end it stays below, in pixels; the last has no end.
LENGTH_ENDS = (4, 8, 16, 32, 64, 128)
BINS = 7


@dataclass(frozen=True)
class Feature:
    """One number about an image.

    Attributes
    ----------
    name : the column's name
    group : the computation that gives it, shared with the other features of that group
    unit : of the value; "1" for a ratio, "share" for a part of a whole
    low, high : the closed range that holds for every crop of at most 128x128 pixels
    formula : how it is computed
    source : where that comes from
    undefined : when it has no meaning; it is 0 then
    """

    name: str
    group: str
    unit: str
    low: float
    high: float
    formula: str
    source: str
    undefined: str = "never"


def _edge_lengths() -> tuple[Feature, ...]:
    starts, ends = (1, *LENGTH_ENDS), (*LENGTH_ENDS, None)
    return tuple(
        Feature(
            name=f"edge_length{bin_number}",
            group="edge_length",
            unit="share",
            low=0.0,
            high=1.0,
            formula="edges (8-connected sets of Canny pixels) of "
            + (f"{start} to {end - 1} pixels" if end else f"{start} pixels and more")
            + " / all edges",
            source=f"{_TAYLOR}; {_CANNY}",
            undefined="no edges",
        )
        for bin_number, (start, end) in enumerate(zip(starts, ends), start=1)
    )


def _edge_angles() -> tuple[Feature, ...]:
    return tuple(
        Feature(
            name=f"edge_angle{bin_number}",
            group="edge_angle",
            unit="share",
            low=0.0,
            high=1.0,
            formula=f"Canny pixels whose edge runs at {bin_number - 1}/7 to {bin_number}/7 of 180 "
            "degrees, anticlockwise from the horizontal (Sobel) / all Canny pixels",
            source=f"{_TAYLOR}; {_CANNY}",
            undefined="no edges",
        )
        for bin_number in range(1, BINS + 1)
    )


def _hues() -> tuple[Feature, ...]:
    return tuple(
        Feature(
            name=f"hue{bin_number}",
            group="hue",
            unit="share",
            low=0.0,
            high=1.0,
            formula=f"coloured pixels (saturation and value at least 26/255) with a hue of "
            f"{bin_number - 1}/7 to {bin_number}/7 of 360 degrees / all pixels",
            source=f"{_TAYLOR}; {_HUE}",
            undefined="no coloured pixel",
        )
        for bin_number in range(1, BINS + 1)
    )


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="n_keypoints",
        group="keypoints",
        unit="count",
        low=0.0,
        # no two neighbours survive the suppression, and 3 pixels along each border are left out
        high=float(((SIDE - 6 + 1) // 2) ** 2),
        formula="FAST corners: 9 of 16 circle pixels all lighter or all darker than the centre by "
        "more than 20 grey levels, strongest of each 3x3 neighbourhood",
        source=f"{_TAYLOR}; {_FAST}",
        undefined="a side below 7 pixels",
    ),
    Feature(
        name="avg_brightness",
        group="brightness",
        unit="grey level",
        low=0.0,
        high=255.0,
        formula="mean of Y = 0.299 R + 0.587 G + 0.114 B, Y rounded to a whole level",
        source=f"{_TAYLOR}; {_LUMA}",
    ),
    Feature(
        name="brightness_rms",
        group="brightness",
        unit="grey level",
        low=0.0,
        high=255.0,
        formula="root of the mean of Y^2",
        source=f"{_TAYLOR}; {_LUMA}",
    ),
    Feature(
        name="avg_perceived_brightness",
        group="perceived_brightness",
        unit="grey level",
        low=0.0,
        high=255.0,
        formula="mean of P = sqrt(0.299 R^2 + 0.587 G^2 + 0.114 B^2)",
        source=f"{_TAYLOR}; {_PERCEIVED}",
    ),
    Feature(
        name="perceived_brightness_rms",
        group="perceived_brightness",
        unit="grey level",
        low=0.0,
        high=255.0,
        formula="root of the mean of P^2",
        source=f"{_TAYLOR}; {_PERCEIVED}",
    ),
    Feature(
        name="contrast",
        group="brightness",
        unit="grey level",
        low=0.0,
        high=127.5,
        formula="standard deviation of Y",
        source=f"{_TAYLOR}; {_CONTRAST}",
    ),
    *_edge_lengths(),
    *_edge_angles(),
    *_hues(),
    Feature(
        name="area_by_perim",
        group="main_object",
        unit="pixel",
        low=0.0,
        # no outline inside a square of side a has more than a / (2 + sqrt(pi))
        high=(SIDE - 1) / (2 + math.sqrt(math.pi)),
        formula="area / perimeter of the convex hull of the main object: the pixels of the edge "
        "that has most of them",
        source=f"{_TAYLOR}; {_CANNY}",
        undefined="no edges, or a main object of one pixel",
    ),
    Feature(
        name="aspect_ratio",
        group="main_object",
        unit="1",
        low=0.0,
        high=float(SIDE),
        formula="width / height of the upright box around the main object",
        source=f"{_TAYLOR}; {_CANNY}",
        undefined="no edges",
    ),
    Feature(
        name="laplacian_deviation",
        group="laplacian",
        unit="grey level",
        low=0.0,
        high=1020.0,
        formula="standard deviation of Y's Laplacian (kernel 0 1 0, 1 -4 1, 0 1 0, borders "
        "replicated); low where the image is blurred",
        source=_LAPLACIAN,
    ),
    Feature(
        name="noise",
        group="noise",
        unit="grey level",
        low=0.0,
        high=math.sqrt(math.pi / 2) / 6 * 8 * 255,
        formula="sqrt(pi / 2) / (6 (w - 2) (h - 2)) * sum of the absolute values of Y convolved "
        "with 1 -2 1, -2 4 -2, 1 -2 1 over the inner pixels: the deviation of Gaussian noise",
        source=_NOISE,
        undefined="a side below 3 pixels",
    ),
)
