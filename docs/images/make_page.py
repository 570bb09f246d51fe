"""Make page.png and page-phone.png: the server's page with a drawn picture, in a real Chromium.

    python docs/images/make_page.py

Needs Chromium (`apt-get install chromium`). The server is a real one with the embedded default,
and whatever it answers is shown. The picture is drawn here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from chromium import Chromium, find_chromium  # noqa: E402
from served import served  # noqa: E402

from adaptive.bundle.bundle import default_bundle  # noqa: E402

SIZE = (640, 480)

#: Largest picture that docs should hold, bytes.
MOST_BYTES = 300_000


def drawn(seed: int = 0) -> Image.Image:
    """A freighter at sea, at four times the size and then scaled down, with a camera's noise."""
    width, height = (4 * side for side in SIZE)
    generator = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - rows) * np.array([96, 150, 205]) + rows * np.array([255, 226, 190])
    scene = np.repeat(sky, width, axis=1)
    line = int(0.62 * height)
    deep = np.linspace(0, 1, height - line)[:, None, None]
    scene[line:] = (1 - deep) * np.array([86, 128, 150]) + deep * np.array([18, 54, 84])
    waves = generator.normal(0, 1, ((height - line) // 12, width // 60))
    waves = np.asarray(Image.fromarray(waves.astype(np.float32)).resize((width, height - line)))
    scene[line:] += (9 + 14 * deep) * waves[:, :, None]
    image = Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x * width, y * height) for x, y in points]

    hull = at((0.12, 0.56), (0.9, 0.56), (0.84, 0.7), (0.2, 0.7))
    pen.polygon(hull, fill=(158, 42, 38))
    pen.polygon(at((0.105, 0.52), (0.915, 0.52), (0.9, 0.57), (0.12, 0.57)), fill=(36, 44, 58))
    pen.line(at((0.18, 0.672), (0.852, 0.672)), fill=(222, 214, 200), width=10)
    for column, colour in enumerate(((196, 104, 44), (62, 110, 88), (206, 170, 66), (78, 98, 140))):
        for floor in range(2 if column % 2 else 3):
            left, low = 0.38 + 0.12 * column, 0.52 - 0.055 * floor
            pen.rectangle(at((left, low - 0.053), (left + 0.115, low)), fill=colour)
            for rib in range(1, 8):
                x = left + 0.115 * rib / 8
                dark = tuple(int(0.8 * c) for c in colour)
                pen.line(at((x, low - 0.05), (x, low - 0.004)), fill=dark, width=6)
    pen.rectangle(at((0.19, 0.33), (0.33, 0.52)), fill=(238, 236, 228))
    pen.rectangle(at((0.17, 0.3), (0.345, 0.335)), fill=(214, 212, 206))
    for x in np.linspace(0.2, 0.3, 5):
        for y in (0.36, 0.415, 0.47):
            pen.rectangle(at((x, y), (x + 0.014, y + 0.022)), fill=(44, 62, 84))
    pen.rectangle(at((0.22, 0.19), (0.285, 0.3)), fill=(158, 42, 38))
    pen.rectangle(at((0.22, 0.19), (0.285, 0.215)), fill=(36, 44, 58))
    pen.line(at((0.82, 0.52), (0.82, 0.26)), fill=(60, 66, 76), width=14)
    pen.line(at((0.82, 0.28), (0.9, 0.52)), fill=(60, 66, 76), width=5)
    foam = np.asarray(image, np.float32)
    top, bottom = int(0.685 * height), int(0.71 * height)
    left, right = int(0.17 * width), int(0.88 * width)
    spots = generator.random(((bottom - top) // 8, (right - left) // 16)) > 0.55
    mask = Image.fromarray(spots).convert("L").resize((right - left, bottom - top))
    share = np.asarray(mask, np.float32)[:, :, None] / 255
    part = foam[top:bottom, left:right]
    foam[top:bottom, left:right] = part + 0.8 * share * (235 - part)
    image = Image.fromarray(foam.astype(np.uint8)).resize(SIZE, Image.LANCZOS)
    pixels = np.asarray(image, np.float32) + generator.normal(0, 3, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def others() -> list[Image.Image]:
    """The same as worse cameras see it, so that the live strip has something to tell."""
    image = drawn(1)
    dark = image.point(lambda v: int(0.2 * v))
    far = Image.new("RGB", SIZE, (120, 160, 190))
    far.paste(image.resize((160, 120)), (250, 190))
    noise = np.random.default_rng(2).normal(0, 40, (SIZE[1], SIZE[0], 3))
    noisy = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    blurred = image.filter(ImageFilter.GaussianBlur(9))
    return [dark, far, noisy, blurred, image.rotate(90), image.convert("L").convert("RGB")]


def main() -> None:
    """Write both pictures."""
    program = find_chromium()
    if program is None:
        raise SystemExit("there is no Chromium; `apt-get install chromium` brings one")
    with tempfile.TemporaryDirectory() as folder, served(default_bundle()) as server:
        path = Path(folder) / "freighter.jpg"
        drawn().save(path, quality=92)
        more = []
        for number, image in enumerate(others()):
            more.append(Path(folder) / f"{number}.jpg")
            image.save(more[-1], quality=90)
        with Chromium(program) as browser:
            picture(browser, server.port, path, more, HERE / "page.png", 1280, 1.0)
            picture(browser, server.port, path, more, HERE / "page-phone.png", 390, 1.5)


def picture(
    browser: Chromium,
    port: int,
    path: Path,
    more: list[Path],
    output: Path,
    width: int,
    scale: float,
) -> None:
    """Ask about images as a person does, and draw the page."""
    with browser.page(f"http://127.0.0.1:{port}/", width, 900) as page:
        page.resize(width, 900, scale, mobile=width < 600)
        page.wait("!document.querySelector('#serving').innerText.startsWith('Asking')")
        for image in [*more, path] * 5:
            page.run("document.querySelector('#said').textContent = ''")
            page.choose("#file", image)
            page.wait("document.querySelector('#said').textContent")
            page.run("new Promise(done => setTimeout(done, 500))")
        page.click("#compare")
        page.wait("document.querySelector('#compared').textContent.includes('alone says')")
        page.run("new Promise(done => setTimeout(done, 2300))")  # the live strip's next look
        page.run("scrollTo(0, 0); document.activeElement.blur()")
        page.shot(output)
        assert not page.complaints, page.complaints
    quiet = Image.open(output).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    quiet.save(output, optimize=True)
    size = output.stat().st_size
    assert size < MOST_BYTES, f"{output} has {size} bytes; at most {MOST_BYTES} are wanted"
    print(f"{output}: {quiet.size[0]} x {quiet.size[1]}, {size // 1000} KB")


if __name__ == "__main__":
    main()
