"""What looking at a frame costs: the gate alone, on frames of 640x360 in which little moves.

python benchmarks/frame_gate.py
"""

from __future__ import annotations

import platform
from time import perf_counter
from typing import List

import numpy as np

from adaptive.candidate import InputSpec
from adaptive.opencv import cv2
from adaptive.prediction import Prediction
from adaptive.video.computed import LastComputed
from adaptive.video.gate import FrameGate
from adaptive.video.view import View

GATES = ("margin:0.2:0.1:1", "difference:15:0:1", "difference:25:0.01:1", "histogram:0.01:0.01:1")
VIEWS = {
    "crop": View.of([InputSpec(224)]),
    "cover": View.of([InputSpec(224, resize="cover")]),
    "whole frame": View.of([InputSpec(224, resize="stretch")]),
    "detector of 416": View.of([InputSpec(416, resize="fit")]),
}


def frames(count: int) -> List[np.ndarray]:
    """A made street: a still scene with noise, and a light block that goes by."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(40, 200, (18, 32, 3), np.uint8), (640, 360))
    found = []
    for place in range(count):
        frame = scene + rng.integers(0, 4, scene.shape, np.uint8)
        frame[200:230, 3 * place : 3 * place + 40] = 230
        found.append(frame)
    return found


def answer(place: int) -> Prediction:
    """One whose lead flips about a little."""
    lead = 0.6 + 0.01 * (place % 3)
    return Prediction("a", 0, lead, (("a", lead), ("b", 1 - lead)), "n", ("n",), {})


def main() -> None:
    """Print the median and the 95th percentile, picture included."""
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
                picture = view.picture(frame)
                what = last.judge(picture, place / 25).what
                spent.append(1e3 * (perf_counter() - began))
                if what != "still":
                    last.accept(picture, place / 25, what, answer(place))
            low, high = np.percentile(spent[50:], (50, 95))
            print(f"{name:16} {shape:8} {text:22} {low:.3f}  p95 {high:.3f}")


if __name__ == "__main__":
    main()
