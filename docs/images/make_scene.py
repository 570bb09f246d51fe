"""A street scene drawn by this program, to show boxes on an image that is nobody's.

python docs/images/make_scene.py scene.png
adaptive detect --bundle DETECTORS scene.png --draw drawn
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 960, 640


def scene() -> Image.Image:
    """The scene: a stop sign, traffic lights, a clock, and a ball on a road."""
    width, height = SIZE
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - rows) * np.array([120, 170, 225]) + rows * np.array([235, 240, 245])
    pixels = np.broadcast_to(sky, (height, width, 3)).copy()
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 430, width, height), fill=(95, 130, 75))
    draw.polygon([(250, height), (700, height), (520, 430), (470, 430)], fill=(85, 85, 90))
    _stop_sign(draw, 190, 210, 92)
    _traffic_light(draw, 735, 120)
    _clock(draw, 480, 190, 88)
    _ball(draw, 560, 560, 44)
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    noisy = np.clip(np.asarray(image.filter(ImageFilter.GaussianBlur(0.8))) + noise, 0, 255)
    return Image.fromarray(noisy.astype(np.uint8))


def _stop_sign(draw: ImageDraw.ImageDraw, x: int, y: int, radius: int) -> None:
    draw.rectangle((x - 7, y, x + 7, 560), fill=(150, 152, 155))

    def octagon(size: float) -> list[tuple[float, float]]:
        angles = np.pi / 8 + np.arange(8) * np.pi / 4
        return [(x + size * np.cos(a), y + size * np.sin(a)) for a in angles]

    draw.polygon(octagon(radius), fill=(245, 245, 245))
    draw.polygon(octagon(radius * 0.92), fill=(190, 25, 35))
    font = ImageFont.truetype("DejaVuSans-Bold.ttf", round(radius * 0.62))
    draw.text((x, y), "STOP", font=font, fill=(250, 250, 250), anchor="mm")


def _traffic_light(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    draw.rectangle((x + 33, y + 200, x + 47, 520), fill=(60, 62, 66))
    draw.rounded_rectangle((x, y, x + 80, y + 210), 14, fill=(30, 32, 34))
    for place, colour in enumerate([(235, 45, 40), (90, 75, 20), (20, 70, 35)]):
        top = y + 14 + place * 64
        draw.ellipse((x + 13, top, x + 67, top + 54), fill=colour, outline=(12, 12, 12), width=3)


def _clock(draw: ImageDraw.ImageDraw, x: int, y: int, radius: int) -> None:
    draw.rectangle((x - 10, y, x + 10, 450), fill=(70, 60, 50))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(60, 45, 35))
    inner = radius - 10
    draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=(248, 246, 238))
    font = ImageFont.truetype("DejaVuSans-Bold.ttf", round(radius * 0.2))
    for hour in range(1, 13):
        angle = hour * np.pi / 6
        place = (x + 0.76 * inner * np.sin(angle), y - 0.76 * inner * np.cos(angle))
        draw.text(place, str(hour), font=font, fill=(20, 20, 20), anchor="mm")
    draw.line((x, y, x + 0.3 * inner, y - 0.35 * inner), fill=(15, 15, 15), width=7)
    draw.line((x, y, x - 0.05 * inner, y - 0.62 * inner), fill=(15, 15, 15), width=5)


def _ball(draw: ImageDraw.ImageDraw, x: int, y: int, radius: int) -> None:
    draw.ellipse((x - radius, y + radius - 14, x + radius, y + radius + 6), fill=(60, 60, 64))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(215, 110, 40))
    dark = (90, 45, 20)
    draw.line((x - radius, y, x + radius, y), fill=dark, width=3)
    draw.line((x, y - radius, x, y + radius), fill=dark, width=3)


def main() -> None:
    """Write the scene."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("output", type=Path)
    scene().save(parser.parse_args().output)


if __name__ == "__main__":
    main()
