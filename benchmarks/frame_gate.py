"""What looking at a frame costs: the gate alone, on made frames of 640x360 in which little moves.

python benchmarks/frame_gate.py
python benchmarks/frame_gate.py --picture changed-tiles.jpg
"""

from __future__ import annotations

import argparse
import platform
from time import perf_counter
from typing import List

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.opencv import cv2
from adaptive.prediction import Prediction
from adaptive.video.computed import LastComputed
from adaptive.video.gate import TILE, FrameGate
from adaptive.video.view import View

GATES = ("margin:0.4:0.1:1", "difference:15:0:1", "difference:25:0.01:1", "histogram:0.01:0.01:1")
VIEWS = {
    "crop": View.of([InputSpec(224)]),
    "cover": View.of([InputSpec(224, resize="cover")]),
    "whole frame": View.of([InputSpec(224, resize="stretch")]),
    "detector of 416": View.of([InputSpec(416, resize="fit")]),
}


def frames(count: int) -> List[np.ndarray]:
    """A drawn street with a camera's noise, and two cars that go by on it."""
    rng = np.random.default_rng(0)
    scene = np.full((360, 640, 3), (176, 196, 214), np.uint8)
    for left, top in ((20, 60), (130, 90), (250, 40), (390, 80), (500, 50)):
        cv2.rectangle(scene, (left, top), (left + 95, 190), (150, 128, 112), -1)
        for x in range(left + 12, left + 85, 26):
            for y in range(top + 14, 170, 34):
                cv2.rectangle(scene, (x, y), (x + 12, y + 18), (84, 92, 104), -1)
    cv2.rectangle(scene, (0, 190), (640, 360), (96, 98, 100), -1)
    for left in range(0, 640, 64):
        cv2.rectangle(scene, (left, 270), (left + 34, 275), (210, 210, 200), -1)
    found = []
    for place in range(count):
        frame = scene.copy()
        for x, y, colour in (
            (3 * place, 215, (178, 52, 44)),
            (560 - 4 * place, 300, (52, 74, 138)),
        ):
            cv2.rectangle(frame, (x + 12, y - 18), (x + 52, y), (60, 66, 74), -1)
            cv2.rectangle(frame, (x, y), (x + 70, y + 22), colour, -1)
            for wheel in (x + 14, x + 56):
                cv2.circle(frame, (wheel, y + 22), 8, (24, 24, 26), -1)
        found.append(frame + rng.integers(0, 4, frame.shape, np.uint8))
    return found


def answer(place: int) -> Prediction:
    """One whose lead flips about a little."""
    lead = 0.6 + 0.01 * (place % 3)
    return Prediction("a", 0, lead, (("a", lead), ("b", 1 - lead)), "n", ("n",), {})


def picture(path: str) -> None:
    """Draw one made frame: what is compared, and the tiles in which that changed."""
    view = VIEWS["cover"]
    before, now = (frames(75)[place] for place in (70, 74))
    part = view.part(360, 640)
    side, scale = TILE * 2**part.halvings, 2**part.halvings
    differs = cv2.absdiff(view.picture(before), view.picture(now)).max(axis=2)
    shown = now.copy()
    for top in range(0, differs.shape[0], TILE):
        for left in range(0, differs.shape[1], TILE):
            if differs[top : top + TILE, left : left + TILE].max() > 25:
                corner = part.left + left * scale, part.top + top * scale
                end = corner[0] + side - 1, corner[1] + side - 1
                cv2.rectangle(shown, corner, end, (214, 94, 0), 2)
    corner = part.left, part.top
    end = part.left + part.width - 1, part.top + part.height - 1
    cv2.rectangle(shown, corner, end, (0, 114, 178), 2)
    cv2.imwrite(path, cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))


def main() -> None:
    """Print the median and the 95th percentile, picture included."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--picture", metavar="FILE.jpg", help="draw changed tiles instead")
    path = asked.parse_args().picture
    if path is not None:
        picture(path)
        return
    cv2.setNumThreads(1)
    print(f"{platform.machine()}, OpenCV {cv2.__version__}, one thread, 640x360, ms a frame")
    seen = frames(200)
    for name, view in VIEWS.items():
        part = view.part(360, 640)
        shape = "x".join(str(side // 2**part.halvings) for side in (part.width, part.height))
        for text in GATES:
            last = LastComputed(FrameGate.parse(text))
            spent = []
            for place, frame in enumerate(seen * 3):
                frame = frame.copy()  # as a decoder has just written it
                began = perf_counter()
                small = view.picture(frame)
                what = last.judge(small, place / 25).what
                spent.append(1e3 * (perf_counter() - began))
                if what != "still":
                    last.accept(small, place / 25, what, answer(place))
            low, high = np.percentile(spent[50:], (50, 95))
            print(f"{name:16} {shape:8} {text:22} {low:.3f}  p95 {high:.3f}")


if __name__ == "__main__":
    main()
