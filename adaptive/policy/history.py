"""What has run for images, and what it said: of many in arrays, of one in plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Callable, ClassVar, NamedTuple

import numpy as np

from adaptive.columns import ONE, Column, Columns, Many, One, columns_of
from adaptive.policy.exponents import logarithms

if TYPE_CHECKING:
    from adaptive.tasks.detections import Detections


@dataclass(eq=False)
class Output:
    """What one candidate said about n images. It is not changed once it is made.

    Attributes
    ----------
    confidence : ndarray (n,), the highest probability; of boxes, how good they are to be expected
    probabilities : ndarray (n, classes), or None in a replay of a table that holds none
    boxes : of each image, what a detector found in it, those that are no answer too; None of a
        classifier, and in a replay. No policy looks at them: `confidence` says how sure they are
    """

    confidence: np.ndarray
    probabilities: np.ndarray | None = None
    boxes: tuple[Detections, ...] | None = None

    def rows(self, chosen: np.ndarray) -> Output:
        """The same for some of the images."""
        probabilities = None if self.probabilities is None else self.probabilities[chosen]
        boxes = self.boxes
        if boxes is not None:
            boxes = tuple(boxes[row] for row in np.arange(len(boxes))[chosen])
        return Output(self.confidence[chosen], probabilities, boxes)


@dataclass(eq=False)
class History:
    """What has run for n images, in order, and what it said. It is not changed once it is made.

    Attributes
    ----------
    path : positions of the candidates that ran, the same for all n images
    outputs : what each of them said
    chances : ndarray (n, m), the premodel's numbers, or None when the policy has no premodel;
        followed by its traits where the policy goes by them
    answer : ndarray (n, classes), the policy's own answer as it stands, or None where that is
        what ran last, or has not been computed
    """

    path: tuple[int, ...]
    outputs: tuple[Output, ...]
    chances: np.ndarray | None = None
    answer: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.outputs[-1].confidence)

    def rows(self, chosen: np.ndarray) -> History:
        """The same for some of the images."""
        chances = None if self.chances is None else self.chances[chosen]
        answer = None if self.answer is None else self.answer[chosen]
        return History(self.path, tuple(o.rows(chosen) for o in self.outputs), chances, answer)

    def until(self, count: int) -> History:
        """As it stood when the first `count` candidates had run."""
        return History(self.path[:count], self.outputs[:count], self.chances)

    @property
    def math(self) -> Many | One:
        """What computes on its columns."""
        return Many(len(self))

    @cached_property
    def told(self) -> Columns | None:
        """The premodel's numbers, a column each."""
        return None if self.chances is None else columns_of(self.chances)

    def confidence(self, step: int) -> Column:
        """The confidence of what ran as number `step`."""
        return self.math.of(self.outputs[step].confidence)

    def said(self, step: int) -> np.ndarray | None:
        """The probabilities of what ran as number `step`, the classes along the last axis."""
        return self.outputs[step].probabilities

    def once(self, step: int, what: str, make: Callable[[], Any]) -> Any:
        """What `make` makes of what ran as number `step`: of a `Single` not made again later on.

        It must not depend on what ran after that.

        what : its name
        """
        return make()

    def logs(self, step: int) -> np.ndarray | None:
        """Logarithms of what ran as number `step` said."""
        said = self.said(step)
        if said is None:
            return None
        found: np.ndarray = self.once(step, "logs", partial(logarithms, said))
        return found


@dataclass(eq=False)
class Single(History):
    """The history of one image, on plain numbers.

    Its columns are numbers, and its probabilities are of shape (classes,). The arrays of a
    `History` are still there for whoever tells of the image afterwards.

    Attributes
    ----------
    numbers : the premodel's numbers
    known : what was made once, by step and name; the image's histories share it
    """

    numbers: Columns | None = None
    known: dict[tuple[int, str], Any] = field(default_factory=dict, repr=False)

    math: ClassVar[One] = ONE  # type: ignore[misc]

    def until(self, count: int) -> Single:
        """As it stood when the first `count` candidates had run."""
        outputs = self.outputs[:count]
        return Single(self.path[:count], outputs, self.chances, None, self.numbers, self.known)

    @property
    def told(self) -> Columns | None:  # type: ignore[override]
        """The premodel's numbers."""
        return self.numbers

    def confidence(self, step: int) -> Column:
        """The confidence of what ran as number `step`."""
        return float(self.outputs[step].confidence[0])

    def said(self, step: int) -> np.ndarray | None:
        """The probabilities of what ran as number `step`."""
        values = self.outputs[step].probabilities
        return None if values is None else values[0]

    def once(self, step: int, what: str, make: Callable[[], Any]) -> Any:
        """What `make` makes, which later steps of the image find here."""
        found = self.known.get((step, what))
        if found is None:
            found = self.known[step, what] = make()
        return found


class Conclusion(NamedTuple):
    """What a policy answers to images that took the same path.

    Attributes
    ----------
    probabilities : ndarray (n, classes), or (classes,) of a `Single`; None where they are the
        last output's own
    abstained : ndarray (n,), bool, where it finds what was said too unsure to answer; of a
        `Single` a bool
    calibrated : whether the answer's score is a probability that was fitted
    """

    probabilities: np.ndarray | None
    abstained: Column
    calibrated: bool

    def rows(self, chosen: np.ndarray) -> Conclusion:
        """The same for some of the images."""
        combined = None if self.probabilities is None else self.probabilities[chosen]
        return Conclusion(combined, self.abstained[chosen], self.calibrated)
