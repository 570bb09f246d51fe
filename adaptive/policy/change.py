"""What was changed of a policy's choice, by limits or a candidate's absence, to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Sequence

#: In `Change.short`, for a candidate that cannot be reached.
ABSENT = "absent"

_SHORT = {
    ABSENT: "{} cannot be reached",
    "deadline": "the deadline leaves no time for {}",
    "energy": "the energy left does not pay for {}",
    "allowance": "the time allowed does not pay for {}",
    "bucket": "the bucket does not pay for {}",
}


@dataclass(frozen=True)
class Change:
    """One choice for one image that was not allowed, or not possible.

    Attributes
    ----------
    path : positions of what had run by then; empty for the choice of a start
    wanted : position of the candidate that the policy chose
    given : position of the one that was asked instead, or None
    short : what did not suffice for it: "deadline", "energy", "allowance" of the request, or
        "bucket"; "absent" where it cannot be reached
    alike : whether the same did not suffice for any other candidate either; what ruled those
        out may be another limit
    """

    path: tuple[int, ...]
    wanted: int
    given: int | None
    short: tuple[str, ...]
    alike: bool = True

    def text(self, candidates: Sequence[str]) -> str:
        """What did not suffice and, at the start, what followed from it."""
        # The start was named just before, in the words for why it was chosen.
        wanted = candidates[self.wanted] if self.path else "it"
        lacking = " and ".join(_SHORT[limit].format(wanted) for limit in self.short)
        lacking = lacking or f"the limits do not allow {wanted}"
        if self.path:
            return lacking
        if self.given is None:
            others = " or any other" if self.alike else ", and the limits allow no other"
            others = others if len(candidates) > 1 else ""
            return f"{lacking}{others}, so there is no answer"
        return f"{lacking}, so {candidates[self.given]} was asked"


def unreached(candidates: Sequence[str], changes: Iterable[Change]) -> tuple[str, ...]:
    """Names of the candidates that an image was to be asked of and that could not be reached."""
    return tuple(dict.fromkeys(candidates[c.wanted] for c in changes if ABSENT in c.short))


def prefers(preference: float) -> str:
    """A request's preference in words."""
    return f"the request prefers {'a fast' if preference < 0 else 'an accurate'} answer"
