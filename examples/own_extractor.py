"""A feature of your own: a premodel learns from it which network an image is for."""

import numpy as np
from shapes import INPUT, LABELS, Recogniser, pictures

from adaptive import ByPremodel, OutcomeKNN, Router, evaluate, profile

# One network knows pictures that are taken by day, the other those of the night, which are noisy.
models = {"day": Recogniser(16, 500, noise=4), "night": Recogniser(8, 200, views=5, noise=60)}


def extractor(image: np.ndarray) -> dict:
    """How much an image (height, width, 3), uint8, RGB, differs from row to row."""
    return {"grain": np.abs(np.diff(image.mean(axis=2), axis=0)).mean()}


by_day, by_night = pictures(400, seed=1, noise=4), pictures(400, seed=2, noise=45)
images, labels = by_day[0] + by_night[0], by_day[1] + by_night[1]
with Router.of(models, LABELS, input=INPUT, output="logits") as router:
    table = profile(router, images, labels, features=None, extractor=extractor)

# The premodel learns from every other image; the rest is for judging it.
learned, kept = table.select(np.arange(0, 800, 2)), table.select(np.arange(1, 800, 2))
premodel = OutcomeKNN(table.features, tuple(models), k=40)
premodel.fit(learned.X, learned.right_or_wrong(tuple(models)))
costs = tuple(float(learned.ms(name).mean()) for name in models)
policy = ByPremodel(tuple(models), premodel, rule="utility", costs_ms=costs)
result = evaluate(policy, kept, "night")
for row in (*result.fixed, result.policy):
    print(f"{row.name}: {row.quality.value:.1%} right, {row.ms.value:.2f} ms")

with Router.of(
    models, LABELS, input=INPUT, output="logits", policy=policy, extractor=extractor
) as router:
    for image in (by_day[0][0], by_night[0][0]):
        answer = router.classify(image)
        print(answer.features, answer.votes, answer.path)
