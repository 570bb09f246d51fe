"""What a router answers for one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """An answer, what it cost and why.

    Attributes
    ----------
    label : the class, or None when the policy abstained
    index : the class's index in the bundle's labels, or None
    score : probability of that class, 0..1, or None
    top5 : up to five (label, probability) pairs, best first
    candidate : name of the candidate that answered, or None
    path : names of the candidates that ran, in order
    ms : milliseconds by step: decode, features, premodel, each candidate, total
    features : feature values by name where the policy asked for them, else None
    votes : the premodel's number for each candidate by name, else None
    reason : one sentence, why this path was taken
    """

    label: str | None
    index: int | None
    score: float | None
    top5: tuple[tuple[str, float], ...]
    candidate: str | None
    path: tuple[str, ...]
    ms: dict[str, float]
    features: dict[str, float] | None = field(default=None, repr=False)
    votes: dict[str, float] | None = field(default=None, repr=False)
    reason: str = field(default="", repr=False)

    def to_json(self, explain: bool = False) -> dict[str, Any]:
        """As plain JSON values; features, votes and reason only with `explain`."""
        answer: dict[str, Any] = {
            "label": self.label,
            "score": self.score,
            "top5": [{"label": label, "score": score} for label, score in self.top5],
            "candidate": self.candidate,
            "path": list(self.path),
            "ms": {step: round(value, 4) for step, value in self.ms.items()},
        }
        if explain:
            answer.update(features=self.features, votes=self.votes, reason=self.reason)
        return answer
