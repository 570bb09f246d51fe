"""Answers that are no classes: masks, from two programs that say how sure they are of theirs."""

import cv2
import numpy as np

from adaptive import Router, Tuner, evaluate, profile


def pictures(count: int, seed: int) -> tuple:
    """Noisy pictures of a bright disc, and where it is, (48, 48), bool."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    images, truths = [], []
    for _ in range(count):
        radius, noise = draw.uniform(8, 16), draw.uniform(5, 60)
        truth = (rows - draw.uniform(18, 30)) ** 2 + (columns - draw.uniform(18, 30)) ** 2
        truth = truth < radius**2
        pixels = 90 + 70 * truth + draw.normal(0, noise, (48, 48))
        images.append(np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2))
        truths.append(truth)
    return images, truths


def confidence(grey: np.ndarray, mask: np.ndarray) -> float:
    """How far the two sides of a mask lie apart, in their own spread, as a number from 0 to 1."""
    if not mask.any() or mask.all():
        return 0.0
    apart = abs(float(grey[mask].mean()) - float(grey[~mask].mean()))
    return 1 - float(np.exp(-apart / (grey[mask].std() + grey[~mask].std() + 1)))


def quick(images: list) -> list:
    """Whatever is brighter than the middle of the range."""
    greys = [image[:, :, 0] for image in images]
    return [(grey > 125, confidence(grey, grey > 125)) for grey in greys]


def thorough(images: list) -> list:
    """The same after the noise was taken out, which takes its time."""
    greys = [cv2.fastNlMeansDenoising(image[:, :, 0], h=60) for image in images]
    return [(grey > 125, confidence(grey, grey > 125)) for grey in greys]


def overlap(answer: np.ndarray, truth: np.ndarray) -> float:
    """What a mask is worth: intersection over union, from 0 to 1."""
    return (answer & truth).sum() / (answer | truth).sum()


models = {"quick": quick, "thorough": thorough}
with Router.of(models, output="answers") as router:
    images, truths = pictures(400, seed=1)
    table = profile(router, images, truths, judge=overlap, quality="iou", features=None)
    images, truths = pictures(200, seed=2)
    test = profile(router, images, truths, judge=overlap, quality="iou", features=None)

tuned = Tuner(table, reference="thorough").within(0.6 * table.ms("thorough").mean())
result = evaluate(tuned.policy, test, "thorough")
for row in (*result.fixed, result.policy):
    print(f"{row.name}: overlap {row.quality.value:.3f}, {row.ms.value:.2f} ms")

with Router.of(models, output="answers", policy=tuned.policy) as router:
    for image in images[:3]:
        answer = router.classify(image)
        print(answer.answer.sum(), "pixels", round(answer.score, 2), answer.path)
