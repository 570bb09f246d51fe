"""Make the sample images that the server's page offers with the embedded default.

    pip install scikit-image && python docs/images/make_samples.py

Writes serving/page/sample-*.jpg. The ship is drawn here; the others are pictures that scikit-image
ships, each given to the public domain (CC0) by who made it: serving/page/samples.txt names them.
What the default says of each is printed. The cup of coffee is none of its ten classes, and is there
to show what it says then.
"""

from __future__ import annotations

from pathlib import Path

from make_page import drawn
from PIL import Image

from adaptive import Router

PAGE = Path(__file__).parents[2] / "serving" / "page"

#: Longest side in pixels, and the quality of the JPEGs.
SIDE, QUALITY = 320, 80


def main() -> None:
    """Write the four images."""
    from skimage import data

    images = {
        "cat": Image.fromarray(data.chelsea()),
        "ship": drawn(),
        "horse": Image.fromarray(data.horse()),
        "coffee": Image.fromarray(data.coffee()),
    }
    with Router.load() as router:
        for name, image in images.items():
            path = PAGE / f"sample-{name}.jpg"
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE), Image.LANCZOS)
            small.save(path, "JPEG", quality=QUALITY, optimize=True)
            answer = router.classify(path)
            print(f"{path.name}: {path.stat().st_size:,} bytes, {answer.label} {answer.score:.3f}")


if __name__ == "__main__":
    main()
