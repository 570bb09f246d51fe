"""Make experiments.png and experiments-form.png: the page of `adaptive experiment serve`.

    python docs/images/make_experiments.py

Needs Chromium (`apt-get install chromium`). An experiment really runs, with the networks of the
embedded default, on pictures that are drawn here and seen by better and worse cameras.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from make_page import HERE, MOST_BYTES, drawn
from PIL import Image, ImageFilter

sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from chromium import Chromium, find_chromium
from fleet import until
from served import in_a_thread

from adaptive.bundle.bundle import default_bundle
from adaptive.experiments.begun import Begun
from adaptive.experiments.frontend import assemble
from adaptive.experiments.store import FolderStore

COUNT = 120


def pictures(folder: Path) -> None:
    """The drawn freighter, smaller and larger, darker, noisier and less sharp."""
    draw = np.random.default_rng(0)
    scene = drawn()
    (folder / "ship").mkdir(parents=True)
    for number in range(COUNT):
        side = int(draw.uniform(0.35, 1) * scene.width)
        left = int(draw.uniform(0, scene.width - side))
        top = int(draw.uniform(0, max(1, scene.height - 0.75 * side)))
        image = scene.crop((left, top, left + side, top + int(0.75 * side))).resize((320, 240))
        if draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = image.filter(ImageFilter.GaussianBlur(draw.exponential(2)))
        pixels = draw.uniform(0.25, 1.1) * np.asarray(image, np.float32)
        pixels += draw.normal(0, draw.exponential(14), pixels.shape)
        seen = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        seen.save(folder / "ship" / f"freighter-{number:02}.jpg", quality=90)


def main() -> None:
    """Declare an experiment in the form, run it, and draw both pages."""
    program = find_chromium()
    if program is None:
        raise SystemExit("there is no Chromium; `apt-get install chromium` brings one")
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        pictures(root / "pictures")
        (root / "networks").symlink_to(default_bundle(), target_is_directory=True)
        begun = Begun(root, str(root / "store"), None)
        server = assemble(FolderStore(root / "store"), begun, "127.0.0.1", 0)
        with in_a_thread(server), Chromium(program) as browser:
            form(browser, server.port, HERE / "experiments-form.png")
            until(lambda: begun.states().get("freighters") != "running", "the run")
            run(browser, server.port, HERE / "experiments.png")
        begun.close()


def form(browser: Chromium, port: int, output: Path) -> None:
    """Fill the form in by hand, draw it, and begin."""
    values = {
        "name": "freighters",
        "images": "pictures",
        "folder": "networks",
        "features": "paper7",
        "times": "20",
        "faster": "1.5, 3",
        "folds": "5",
    }
    with browser.page(f"http://127.0.0.1:{port}/#new", 1280, 900) as page:
        for field, value in values.items():
            page.run(f"document.querySelector('#f-{field}').focus()")
            page.type(value)
        page.wait("!document.querySelector('#problems li')")
        page.run("scrollTo(0, 0); document.activeElement.blur()")
        page.shot(output)
        page.click("#begin")
        page.wait("location.hash == '#runs'")
        assert not page.complaints, page.complaints
    small(output)


def run(browser: Chromium, port: int, output: Path) -> None:
    """Draw the finished run, with an image on which the candidates differ."""
    with browser.page(f"http://127.0.0.1:{port}/#run/freighters", 1280, 900) as page:
        page.wait("!!document.querySelector('#report table')")
        page.run(
            "(() => { const s = document.querySelector('#missed'); s.value = 'differ';"
            " s.dispatchEvent(new Event('change')); })()"
        )
        page.wait("document.querySelector('#caption').textContent.includes('Missed by')")
        page.wait("document.querySelector('#picture').naturalWidth == 320")
        page.run("scrollTo(0, 0); document.activeElement.blur()")
        page.shot(output)
        assert not page.complaints, page.complaints
    small(output)


def small(output: Path) -> None:
    """Save a picture with few colours, as docs hold them."""
    quiet = Image.open(output).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    quiet.save(output, optimize=True)
    size = output.stat().st_size
    assert size < MOST_BYTES, f"{output} has {size} bytes; at most {MOST_BYTES} are wanted"
    print(f"{output}: {quiet.size[0]} x {quiet.size[1]}, {size // 1000} KB")


if __name__ == "__main__":
    main()
