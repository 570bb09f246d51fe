"""Answering many images in batches, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Callable, Iterable, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.images.decode import ImageLike
from adaptive.images.decoded import DecodedImage
from adaptive.limits import Limits
from adaptive.prediction import Prediction
from adaptive.routing.account import Account
from adaptive.routing.answering import Answering
from adaptive.routing.judging import Judging
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks
from adaptive.routing.scheduler import Cohort, Scheduler
from adaptive.routing.spread import spread
from adaptive.routing.watch import Watch

#: Batches of images that are on their way at most, finished ones among them.
MOST_COHORTS = 32

#: The same where finished images keep their pixels, because an audit may run on them.
MOST_AUDITED = 4


@dataclass(frozen=True)
class Batches:
    """Answers many images; each network runs on as many as a batch holds.

    Parameters
    ----------
    scheduler : says which batch runs next
    decode : opens an image
    judging : judges those of a batch before a network runs
    account : opens the account of photos, for their limits and the time when they came
    answering, watch : make the answers, and show them
    threads : that decode the images of a batch
    """

    scheduler: Scheduler
    decode: Callable[[ImageLike], DecodedImage]
    judging: Judging
    account: Callable[[Sequence[Photo], Limits, float], Account]
    answering: Answering
    watch: Watch
    threads: int

    def answers(self, images: Iterable[ImageLike], limits: Limits, batch: int) -> list[Prediction]:
        """The answers to the images, in their order."""
        answers: list[Prediction] = []
        pending, begun = iter(images), 0
        try:
            while chunk := list(islice(pending, batch)):
                answers += self._answered(self.scheduler.make_room(), limits, len(answers))
                began = perf_counter()
                photos = [Photo(i) for i in spread(self.decode, chunk, self.threads)]
                judged = self.judging.judge(photos)
                own = limits.rows(slice(begun, begun + len(chunk)))
                self.scheduler.admit(judged, self.account(judged.photos, own, began))
                begun += len(chunk)
            answers += self._answered(self.scheduler.drain(), limits, len(answers))
        finally:
            self.scheduler.close()
        return answers

    def _answered(self, cohorts: Iterable[Cohort], limits: Limits, first: int) -> list[Prediction]:
        """The answers of cohorts that are done, the first of which begins with image `first`."""
        answers: list[Prediction] = []
        for cohort in cohorts:
            part = self.answering.predictions(cohort.walk, cohort.photos, cohort.features)
            begin = first + len(answers)
            own = limits.rows(slice(begin, begin + len(part)))
            self.watch.show(cohort.photos, part, cohort.walk, own)
            answers += part
        return answers


def exits_of(
    networks: Networks, last: str, images: Iterable[DecodedImage], batch: int
) -> dict[str, np.ndarray]:
    """What every exit up to `last` says of images; see `Router.all_exits`."""
    chain = networks.chains[last]
    missing = [name for name in chain if name not in networks.engines]
    if missing:
        raise InputError(
            f"{missing} are not open, since this router's policy never asks them; load it "
            f"with policy=Cascade({chain}, thresholds=...), which asks all of them"
        )
    found: dict[str, list[np.ndarray]] = {name: [] for name in chain}
    pending = iter(images)
    while photos := [Photo(image) for image in islice(pending, batch)]:
        for name in chain:
            photos, output = networks.run(name, photos)
            assert output.probabilities is not None
            found[name].append(output.probabilities)
    empty = np.zeros((0, len(networks.bundle.labels)), np.float32)
    return {name: np.concatenate(parts or [empty]) for name, parts in found.items()}
