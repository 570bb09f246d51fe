"""A policy of your own: some answers of the cheap network are trusted, others are not."""

from dataclasses import dataclass

import numpy as np
from shapes import INPUT, LABELS, Recogniser, pictures

from adaptive import STOP, Policy, Router, evaluate, profile


@dataclass
class Suspicious(Policy):
    """Ask the last candidate where the first one names a class that it often gets wrong."""

    kind = "suspicious"
    suspects: tuple = ()  # indices of classes

    def start(self, chances, count, limits):
        """Begin with the first candidate, whatever the image."""
        return np.zeros(count, np.intp)

    def next(self, history, limits):
        """Go on where a suspect was named, and stop after that."""
        if len(history.path) > 1:
            return np.full(len(history), STOP)
        named = history.outputs[-1].probabilities.argmax(axis=1)
        return np.where(np.isin(named, self.suspects), len(self.candidates) - 1, STOP)

    def ways(self):
        """The longest path that an image may take."""
        return ((0, len(self.candidates) - 1),)

    @property
    def needs_probabilities(self):
        """Say so, and a table without probabilities is refused."""
        return True


models = {"tiny": Recogniser(8, 100), "large": Recogniser(16, 800, views=5)}
images, labels = pictures(600, seed=1)
with Router.of(models, LABELS, input=INPUT, output="logits") as router:
    table = profile(router, images, labels, features=None)

# Where tiny names one of these classes, it is right less often than on the whole.
named = np.asarray(table.probabilities_of("tiny")).argmax(axis=1)
right = table.quality("tiny")
share = [right[named == index].mean() for index in range(len(LABELS))]
suspects = tuple(index for index in range(len(LABELS)) if share[index] < right.mean())
print("suspects:", [LABELS[index] for index in suspects])

policy = Suspicious(tuple(models), suspects=suspects)
with Router.of(models, LABELS, input=INPUT, output="logits") as router:
    table = profile(router, *pictures(600, seed=2), features=None)  # others than those above
result = evaluate(policy, table, "large")
for row in (*result.fixed, result.policy):
    print(f"{row.name}: {row.quality.value:.1%} right, {row.ms.value:.2f} ms")

with Router.of(models, LABELS, input=INPUT, output="logits", policy=policy) as router:
    for image in images[:3]:
        answer = router.classify(image)
        print(answer.label, answer.path, answer.reason)
