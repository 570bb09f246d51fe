"""Whether looking at squares around what moves costs less than looking at the whole frame.

    python benchmarks/regions.py DETECTOR_BUNDLE CLIP... [--frames 200] [--whole 5] [--most 3]

Tiles that changed since the frame before are grouped into squares of the network's side, in pixels
of the frame; each is looked at by itself, boxes elsewhere are kept, and the whole frame is looked
at every --whole frames. Beside it stands every n-th frame at equal cost, in runs of the network.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from adaptive.images.video import VideoReader
from adaptive.opencv import cv2
from adaptive.routing.router import Router
from adaptive.tasks.detections import Detections
from adaptive.video.gate import OF_BOXES, TILE
from adaptive.video.sensitivity import boxes_f1


def squares(before: np.ndarray, now: np.ndarray, side: int, most: int) -> list[tuple[int, int]]:
    """Corners of squares that hold all tiles that changed; `most + 1` where more are needed."""
    differs = cv2.absdiff(before, now).max(axis=2) > OF_BOXES
    rows, columns = (length // TILE for length in differs.shape)
    tiles = differs[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE)
    moving = tiles.any(axis=(1, 3))
    height, width = differs.shape
    found: list[tuple[int, int]] = []
    while moving.any() and len(found) <= most:
        y, x = np.argwhere(moving)[0] * TILE
        # as far left as its first row lets it, so that it holds most of what lies beside
        beside = np.argwhere(moving[y // TILE : (y + side) // TILE])[:, 1] * TILE
        near = beside[abs(beside - x) < side // 2]
        top = min(y, max(height - side, 0))
        left = min(int(near.min()), max(width - side, 0))
        found.append((top, left))
        rows_in = slice(top // TILE, (top + side) // TILE + 1)
        moving[rows_in, left // TILE : (left + side) // TILE] = False
        moving[y // TILE, x // TILE] = False
    return found


def joined(
    kept: Detections, parts: list[tuple[tuple[int, int], Detections]], side: int
) -> Detections:
    """Boxes of the squares, and those that were kept whose middle lies in none of them."""
    middles = (kept.boxes[:, :2] + kept.boxes[:, 2:]) / 2
    free = np.ones(len(middles), bool)
    boxes, scores, classes = [], [], []
    for (top, left), found in parts:
        x, y = middles[:, 0] - left, middles[:, 1] - top
        free &= ~((x >= 0) & (x < side) & (y >= 0) & (y < side))
        boxes.append(found.boxes + np.float32([left, top, left, top]))
        scores.append(found.scores)
        classes.append(found.classes)
    return Detections(
        np.concatenate([kept.boxes[free], *boxes]),
        np.concatenate([kept.scores[free], *scores]),
        np.concatenate([kept.classes[free], *classes]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--whole", type=int, default=5)
    parser.add_argument("--most", type=int, default=3, help="squares; else the whole frame")
    options = parser.parse_args()
    with Router.load(options.bundle) as router:
        side = max(router.bundle.candidates[-1].input.sides)
        for clip in options.clips:
            own: list[Detections] = []
            worth, runs = [], []
            before = kept = None
            with VideoReader(clip) as reader:
                for number, frame in enumerate(reader):
                    if number == options.frames:
                        break
                    own.append(router.detect(frame.image))
                    if kept is None or number % options.whole == 0:
                        kept, count = own[-1], 1
                    else:
                        corners = squares(before, frame.image, side, options.most)
                        count = len(corners)
                        if count > options.most:
                            kept, count = own[-1], 1
                        elif corners:
                            parts = [
                                ((y, x), router.detect(frame.image[y : y + side, x : x + side]))
                                for y, x in corners
                            ]
                            kept = joined(kept, parts, side)
                    before = frame.image
                    worth.append(boxes_f1(own[-1], kept))
                    runs.append(count)
            cost = float(np.mean(runs))
            wanted = 1 / min(cost, 1.0)
            ends = [
                np.mean([boxes_f1(own[i], own[i // n * n]) for i in range(len(own))])
                for n in (math.floor(wanted), math.floor(wanted) + 1)
            ]
            low = math.floor(wanted)
            nth = ends[0] + (ends[1] - ends[0]) * (1 / low - 1 / wanted) * low * (low + 1)
            print(
                f"{clip.name}: {len(own)} frames, {cost:.2f} runs a frame, F1 with the whole "
                f"frame's boxes {100 * np.mean(worth):.1f}%; every n-th frame at equal cost "
                f"{100 * nth:.1f}%"
            )


if __name__ == "__main__":
    main()
