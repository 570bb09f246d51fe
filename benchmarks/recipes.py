"""Cameras that see the same photographs otherwise: what `benchmarks/imagenet.py --camera` offers.

Each recipe is a function of the clean image, its noise and a random generator, and gives the
image as that camera sees it and the name of its condition.

moody        five distinct conditions: as it is (40%), and 15% each dark with a little noise,
             blurred, noisy, washed out
continuous   a quarter as it is; else one to three of low light, defocus, motion, fog, glare, JPEG
             and white balance, each of a severity drawn from 0.1 to 1
day-night    two states: as it is by day (60%), and by infrared light at night: grey, lit from the
             middle, with noise, a little soft
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
from tqdm import tqdm

#: image (height, width, 3), float32, BGR, and a generator -> the same as seen, and the condition
Recipe = Callable[[np.ndarray, np.random.Generator], "tuple[np.ndarray, str]"]


def moody(image: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, str]:
    """One of five conditions that differ in kind."""
    import cv2

    noise = generator.standard_normal(image.shape, np.float32)
    mood = generator.choice(5, p=[0.4, 0.15, 0.15, 0.15, 0.15])
    if mood == 1:
        return image * 0.18 + 4 * noise, "dark"
    if mood == 2:
        return cv2.GaussianBlur(image, (0, 0), 2.5), "blurred"
    if mood == 3:
        return image + 30 * noise, "noisy"
    if mood == 4:
        return image * 0.35 + 160, "washed out"
    return image, "clean"


def continuous(image: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, str]:
    """A mixture of disturbances whose strengths have no steps."""
    if generator.random() < 0.25:
        return image, "clean"
    kinds = generator.choice(len(DISTURBANCES), generator.integers(1, 4), replace=False)
    for kind in sorted(kinds.tolist()):
        image = DISTURBANCES[kind](image, float(generator.uniform(0.1, 1.0)), generator)
        image = np.clip(image, 0, 255)
    return image, "disturbed"


def day_night(image: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, str]:
    """As it is by day, or grey by infrared light."""
    import cv2

    night = generator.random() < 0.4
    noise = generator.standard_normal((*image.shape[:2], 1), np.float32)
    if not night:
        return image, "day"
    # Silicon sees infrared through all three colours of its filter, red the most.
    grey = image @ np.array([0.2, 0.3, 0.5], np.float32)
    height, width = grey.shape
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    lamp = np.exp(-(across**2 + down**2) / 1.2).astype(np.float32)
    lit = cv2.GaussianBlur(grey * (0.25 + 0.6 * lamp), (0, 0), 0.8)
    return np.repeat(lit[..., None] + 9 * noise, 3, axis=2), "infrared night"


def _low_light(image: np.ndarray, severity: float, generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal(image.shape, np.float32)
    return image * (1 - 0.88 * severity) + (2 + 8 * severity) * noise


def _defocus(image: np.ndarray, severity: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    radius = 1 + round(5 * severity)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.filter2D(image, -1, disc / np.float32(disc.sum()))


def _motion(image: np.ndarray, severity: float, generator: np.random.Generator) -> np.ndarray:
    import cv2

    length = 3 + 2 * round(8 * severity)
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), generator.uniform(0, 180), 1)
    line = cv2.warpAffine(line, turn, (length, length))
    return cv2.filter2D(image, -1, line / line.sum())


def _fog(image: np.ndarray, severity: float, generator: np.random.Generator) -> np.ndarray:
    import cv2

    coarse = generator.uniform(0.5, 1.0, (5, 5)).astype(np.float32)
    thickness = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    veil = 0.85 * severity * np.clip(thickness, 0, 1)[..., None]
    return image * (1 - veil) + 215 * veil


def _glare(image: np.ndarray, severity: float, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = generator.uniform(0, width), generator.uniform(0, height)
    across, down = np.meshgrid(np.arange(width) - x, np.arange(height) - y)
    spot = np.exp(-(across**2 + down**2) / (2 * (0.35 * width) ** 2)).astype(np.float32)
    return image + 260 * severity * spot[..., None]


def _jpeg(image: np.ndarray, severity: float, _: np.random.Generator) -> np.ndarray:
    import cv2

    quality = round(40 - 35 * severity)
    pixels = np.clip(image, 0, 255).round().astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(np.float32)


def _white_balance(
    image: np.ndarray, severity: float, generator: np.random.Generator
) -> np.ndarray:
    cast = 0.5 * severity * generator.choice([-1.0, 1.0])
    return image * np.array([1 - cast, 1, 1 + cast], np.float32)


DISTURBANCES = (_low_light, _defocus, _motion, _fog, _glare, _jpeg, _white_balance)

RECIPES: dict[str, Recipe] = {
    "moody": moody,
    "continuous": continuous,
    "day-night": day_night,
}


def make(recipe: str, images: Path, names: list[str], folder: Path) -> list[str]:
    """Write `names` as NAME.png into `folder` as a camera sees them; the condition of each."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    conditions = []
    for name in tqdm(names, desc=f"{recipe} camera"):
        image = cv2.imread(str(images / name)).astype(np.float32)
        seen, condition = RECIPES[recipe](image, generator)
        pixels = np.clip(seen, 0, 255).round().astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
        conditions.append(condition)
    return conditions
