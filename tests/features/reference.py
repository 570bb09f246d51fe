"""Every feature once more, slowly, in plain numpy and Python: what the fast way must agree with.

Nothing here comes from the library or from OpenCV.
"""

from __future__ import annotations

import math

import numpy as np

CIRCLE = (
    *((0, 3), (1, 3), (2, 2), (3, 1), (3, 0), (3, -1), (2, -2), (1, -3)),
    *((0, -3), (-1, -3), (-2, -2), (-3, -1), (-3, 0), (-3, 1), (-2, 2), (-1, 3)),
)


def all_features(image: np.ndarray) -> dict[str, float]:
    """Every feature of an RGB image, by name."""
    luma = grey(image)
    values = {"n_keypoints": float(keypoints(luma))}
    values["avg_brightness"] = luma.mean()
    values["brightness_rms"] = math.sqrt((luma.astype(float) ** 2).mean())
    red, green, blue = (image[:, :, channel].astype(float) for channel in range(3))
    perceived = np.sqrt(0.299 * red**2 + 0.587 * green**2 + 0.114 * blue**2)
    values["avg_perceived_brightness"] = perceived.mean()
    values["perceived_brightness_rms"] = math.sqrt((perceived**2).mean())
    values["contrast"] = luma.astype(float).std()

    right, down = sobel(luma)
    edge = canny(right, down)
    shapes = components(edge)
    lengths = [0, 4, 8, 16, 32, 64, 128, math.inf]
    for number in range(1, 8):
        inside = [lengths[number - 1] <= len(shape) < lengths[number] for shape in shapes]
        values[f"edge_length{number}"] = sum(inside) / len(shapes) if shapes else 0.0
    angles = [math.degrees(math.atan2(right[y, x], down[y, x])) % 180 for y, x in np.argwhere(edge)]
    for number in range(1, 8):
        inside = [(number - 1) / 7 <= angle / 180 < number / 7 for angle in angles]
        values[f"edge_angle{number}"] = sum(inside) / len(angles) if angles else 0.0
    hues = hue_steps(image)
    for number in range(1, 8):
        inside = [(number - 1) / 7 <= hue / 180 < number / 7 for hue in hues]
        values[f"hue{number}"] = sum(inside) / luma.size

    values["area_by_perim"], values["aspect_ratio"] = main_object(shapes)
    values["laplacian_deviation"] = laplacian(luma).std()
    values["noise"] = noise(luma)
    return values


def grey(image: np.ndarray) -> np.ndarray:
    """Luma in the fixed point of 15 bits that the schema names."""
    red, green, blue = (image[:, :, channel].astype(np.int64) for channel in range(3))
    return (9798 * red + 19235 * green + 3735 * blue + 2**14) >> 15


def keypoints(luma: np.ndarray, threshold: int = 20) -> int:
    """FAST-9: a corner's strength is the largest threshold at which nine in a row pass."""
    height, width = luma.shape
    strength = np.zeros((height, width), dtype=np.int64)
    for y in range(3, height - 3):
        for x in range(3, width - 3):
            differences = [int(luma[y + dy, x + dx]) - int(luma[y, x]) for dx, dy in CIRCLE]
            if sum(abs(difference) > threshold for difference in differences) < 9:
                continue
            wrapped = np.array(differences + differences[:8])
            runs = np.stack([wrapped[start : start + 9] for start in range(16)])
            least = max(runs.min(axis=1).max(), (-runs).min(axis=1).max())
            if least > threshold:
                strength[y, x] = least - 1
    count = 0
    for y, x in np.argwhere(strength):
        around = strength[y - 1 : y + 2, x - 1 : x + 2]
        count += int(strength[y, x] == around.max() and (around == around.max()).sum() == 1)
    return count


def sobel(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 3x3 derivatives to the right and down, borders replicated."""
    padded = np.pad(luma.astype(np.int64), 1, mode="edge")
    across = padded[:, 2:] - padded[:, :-2]
    along = padded[2:] - padded[:-2]
    right = across[:-2] + 2 * across[1:-1] + across[2:]
    down = along[:, :-2] + 2 * along[:, 1:-1] + along[:, 2:]
    return right, down


def canny(right: np.ndarray, down: np.ndarray, low: int = 100, high: int = 200) -> np.ndarray:
    """Canny: maxima of |right| + |down| across the edge, grown from `high` down to `low`."""
    height, width = right.shape
    magnitude = np.pad(np.abs(right) + np.abs(down), 1)
    candidate = np.zeros((height, width), dtype=bool)
    for y, x in np.argwhere(magnitude[1:-1, 1:-1] > low):
        here = magnitude[y + 1, x + 1]
        # the tangent of 22.5 degrees in fixed point of 15 bits
        run, rise = abs(int(right[y, x])) * 13573, abs(int(down[y, x])) << 15
        if rise < run:
            before, after = magnitude[y + 1, x], magnitude[y + 1, x + 2]
            candidate[y, x] = here > before and here >= after
        elif rise > run + (abs(int(right[y, x])) << 16):
            before, after = magnitude[y, x + 1], magnitude[y + 2, x + 1]
            candidate[y, x] = here > before and here >= after
        else:
            side = -1 if (right[y, x] < 0) != (down[y, x] < 0) else 1
            before, after = magnitude[y, x + 1 - side], magnitude[y + 2, x + 1 + side]
            candidate[y, x] = here > before and here > after
    edge = np.zeros((height, width), dtype=bool)
    for shape in components(candidate):
        if any(magnitude[y + 1, x + 1] > high for y, x in shape):
            for y, x in shape:
                edge[y, x] = True
    return edge


def components(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The 8-connected sets of pixels, ordered by their first pixel in reading order."""
    open_pixels = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    shapes = []
    for first in sorted(open_pixels):
        if first not in open_pixels:
            continue
        open_pixels.remove(first)
        shape, border = [first], [first]
        while border:
            y, x = border.pop()
            for neighbour in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if neighbour in open_pixels:
                    open_pixels.remove(neighbour)
                    shape.append(neighbour)
                    border.append(neighbour)
        shapes.append(shape)
    return shapes


def main_object(shapes: list[list[tuple[int, int]]]) -> tuple[float, float]:
    """Area by perimeter of the hull, and aspect ratio, of the first of the largest shapes."""
    if not shapes:
        return 0.0, 0.0
    shape = max(shapes, key=len)
    rows, columns = [y for y, _ in shape], [x for _, x in shape]
    aspect = (max(columns) - min(columns) + 1) / (max(rows) - min(rows) + 1)
    corners = hull(shape)
    pairs = list(zip(corners, corners[1:] + corners[:1]))
    area = abs(sum(y1 * x2 - y2 * x1 for (y1, x1), (y2, x2) in pairs)) / 2
    perimeter = sum(math.hypot(y2 - y1, x2 - x1) for (y1, x1), (y2, x2) in pairs)
    return (area / perimeter if perimeter else 0.0), aspect


def hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The convex hull by Andrew's monotone chain."""
    ordered = sorted(points)
    if len(ordered) < 3:
        return ordered

    def chain(sequence: list[tuple[int, int]]) -> list[tuple[int, int]]:
        kept: list[tuple[int, int]] = []
        for y, x in sequence:
            while len(kept) > 1:
                (y1, x1), (y2, x2) = kept[-2], kept[-1]
                if (y2 - y1) * (x - x1) - (x2 - x1) * (y - y1) > 0:
                    break
                kept.pop()
            kept.append((y, x))
        return kept[:-1]

    return chain(ordered) + chain(ordered[::-1])


def hue_steps(image: np.ndarray) -> list[int]:
    """Hue of the coloured pixels in steps of two degrees, in fixed point of 12 bits."""
    hues = []
    for red, green, blue in image.reshape(-1, 3).tolist():
        value = max(red, green, blue)
        spread = value - min(red, green, blue)
        if not spread:
            continue
        saturation = (spread * round((255 << 12) / value) + 2048) >> 12
        if saturation < 26 or value < 26:
            continue
        if value == red:
            sixth = green - blue
        elif value == green:
            sixth = blue - red + 2 * spread
        else:
            sixth = red - green + 4 * spread
        hue = (sixth * round((180 << 12) / (6 * spread)) + 2048) >> 12
        hues.append(hue + 180 if hue < 0 else hue)
    return hues


def laplacian(luma: np.ndarray) -> np.ndarray:
    """The sum of the four neighbours' differences, borders replicated."""
    padded = np.pad(luma.astype(np.int64), 1, mode="edge")
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return neighbours - 4 * luma


def noise(luma: np.ndarray) -> float:
    """Immerkaer's estimate of the noise's deviation."""
    height, width = luma.shape
    if min(height, width) < 3:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = 0
    for y in range(height - 2):
        for x in range(width - 2):
            total += abs(int((luma[y : y + 3, x : x + 3] * kernel).sum()))
    return math.sqrt(math.pi / 2) * total / (6 * (height - 2) * (width - 2))
