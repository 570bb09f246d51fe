"""What a router answers for one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Told(Protocol):
    """What only a request that asks for an explanation is told; see `routing.explanation`."""

    def to_json(self, edges: bool = False) -> dict[str, Any]:
        """As plain JSON values; with `edges` also the edge map."""

    def condition_words(self) -> str:
        """The condition that the image was judged under, with its probability; "" without."""


class Reused(NamedTuple):
    """Which frame of a stream a reused answer was computed from.

    frame : its number among the stream's frames, from 1
    frames : how many frames ago that was
    age_s : how many seconds ago that was
    """

    frame: int
    frames: int
    age_s: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"frame": self.frame, "frames": self.frames, "age_s": round(self.age_s, 4)}


@dataclass(frozen=True)
class Prediction:
    """An answer, what it cost and why.

    Attributes
    ----------
    label : the class, or None when the policy abstained
    index : the class's index in the bundle's labels, or None
    score : probability of that class, or of the best guess where the policy abstains from
        answering with it, 0..1; None where nothing ran. See `calibrated`
    top5 : up to five (label, probability) pairs, best first
    candidate : name of the candidate that answered, or None when the policy abstained
    path : names of the candidates that ran, in order
    ms : milliseconds by step: decode, features, premodel, each candidate, total
    calibrated : whether the policy's exponents were fitted so that of answers with a score of
        0.8, say, eight in ten are right on images like the tuning images; otherwise the score
        is what the network says
    features : feature values by name where the policy or an explanation asked for them, else None
    votes : the premodel's number for each candidate that it judges, by name, where the policy or
        an explanation asked for them, else None
    reason : one sentence, why this path was taken
    explanation : more about that where it was asked for, else None
    guess : the likeliest class's index, also where the policy abstains from answering with it
    answer : where candidates give answers of their own, that of the last one that ran; `label`
        and `index` are None then, and `score` is its confidence; JSON leaves it out
    unreached : names of the candidates that were to be asked and could not be reached, so that
        the policy went on without them; JSON has it then only
    reused : where a stream answered with that of an earlier frame, which; nothing ran then, and
        JSON has it then only
    """

    label: str | None
    index: int | None
    score: float | None
    top5: tuple[tuple[str, float], ...]
    candidate: str | None
    path: tuple[str, ...]
    ms: dict[str, float]
    calibrated: bool = False
    features: dict[str, float] | None = field(default=None, repr=False)
    votes: dict[str, float] | None = field(default=None, repr=False)
    reason: str = field(default="", repr=False)
    explanation: Told | None = field(default=None, repr=False, compare=False)
    guess: int | None = field(default=None, repr=False, compare=False)
    answer: Any = field(default=None, repr=False, compare=False)
    reused: Reused | None = field(default=None, repr=False, compare=False)
    unreached: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def abstained(self) -> bool:
        """Whether there is no answer: a person should look. `top5` tells the best guesses."""
        return self.candidate is None

    def to_json(self, explain: int = 0) -> dict[str, Any]:
        """As plain JSON values.

        Parameters
        ----------
        explain : 1 (True) also features, votes, reason and explanation; 2 the edge map too
        """
        answer: dict[str, Any] = {
            "label": self.label,
            "score": self.score,
            "calibrated": self.calibrated,
            "abstained": self.abstained,
            "top5": [{"label": label, "score": score} for label, score in self.top5],
            "candidate": self.candidate,
            "path": list(self.path),
            "ms": {step: round(value, 4) for step, value in self.ms.items()},
            "index": self.index,
        }
        if self.reused is not None:
            answer["reused"] = self.reused.to_json()
        if self.unreached:
            answer["unreached"] = list(self.unreached)
        if explain:
            answer.update(features=self.features, votes=self.votes, reason=self.reason)
            told = self.explanation
            answer["explanation"] = None if told is None else told.to_json(explain > 1)
        return answer
