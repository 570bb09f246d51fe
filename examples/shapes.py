"""Stand-ins for your own images and networks: small pictures of shapes, and who recognises them.

Nothing here is about routing. Put your own in their place: photographs, and anything that can be
called with a batch of them.
"""

from __future__ import annotations

import numpy as np

from adaptive import InputSpec

LABELS = ("disc", "square", "cross")

#: What the networks read: square pictures of 32 pixels, (n, 32, 32, 3), uint8, RGB.
SIDE = 32
INPUT = InputSpec(SIDE, "uint8", "NHWC", resize="cover")


def pictures(count: int, seed: int = 0, noise: float = 25.0) -> tuple[list[np.ndarray], list[str]]:
    """Pictures (32, 32, 3), uint8, RGB, of one shape each somewhere near the middle, and which."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images, labels = [], []
    for _ in range(count):
        kind = int(draw.integers(3))
        down, right = np.abs(rows - draw.uniform(12, 20)), np.abs(columns - draw.uniform(12, 20))
        size = draw.uniform(6, 10)
        inside = [
            down**2 + right**2 < size**2,
            np.maximum(down, right) < size * 0.9,
            (np.minimum(down, right) < size * 0.35) & (np.maximum(down, right) < size),
        ][kind]
        ground = draw.uniform(40, 215, 3)
        contrast = draw.uniform(25, 90) * draw.choice([-1, 1])
        pixels = ground + contrast * inside[:, :, None] + draw.normal(0, noise, (SIDE, SIDE, 3))
        images.append(np.clip(pixels, 0, 255).astype(np.uint8))
        labels.append(LABELS[kind])
    return images, labels


class Recogniser:
    """A network of one hidden layer with fixed weights, on grey pictures of some side,
    which learns from pictures of some noise.

    With `views` above 1 it looks at each picture so many times, moved by a pixel or two.
    """

    def __init__(self, side: int, hidden: int, views: int = 1, noise: float = 25.0) -> None:
        draw = np.random.default_rng(1)
        self.side, self.views = side, 1
        self.hidden = draw.normal(0, 2 / side, (side * side, hidden))
        images, labels = pictures(2000, seed=99, noise=noise)
        wanted = np.eye(len(LABELS))[[LABELS.index(label) for label in labels]]
        seen = self._seen(np.stack(images))
        self.weights = np.linalg.solve(seen.T @ seen + 20 * np.eye(hidden), seen.T @ wanted)
        self.views = views

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Logits, (n, 3), of pictures."""
        moves = [(down, right) for down in (0, -1, 1) for right in (0, -1, 1)][: self.views]
        seen = [self._seen(np.roll(batch, move, (1, 2))) @ self.weights for move in moves]
        return 8 * np.mean(seen, axis=0)

    def _seen(self, images: np.ndarray) -> np.ndarray:
        step = SIDE // self.side
        grey = images.mean(axis=3).reshape(len(images), self.side, step, self.side, step)
        flat = grey.mean(axis=(2, 4)).reshape(len(images), -1)
        flat = np.abs(flat - np.median(flat, axis=1, keepdims=True))
        return np.maximum((flat / flat.std(axis=1, keepdims=True)) @ self.hidden, 0)
