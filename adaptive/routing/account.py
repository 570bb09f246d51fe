"""What images that are being answered may still cost: deadline, energy, and a bucket's tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.limits import UNLIMITED, Limits, Number
from adaptive.policy.base import Policy
from adaptive.routing.bucket import Bucket
from adaptive.routing.photo import Photo
from adaptive.routing.running import Networks


@dataclass
class Left(Limits):
    """What is left where a bucket limits too.

    Attributes
    ----------
    unit : of the bucket
    held_back : whether the bucket leaves less than the request does; for all images, or each
    """

    unit: str = "ms"
    held_back: bool | np.ndarray = False

    def rows(self, chosen: Any) -> Left:
        """The same for some of the images: `chosen` indexes the arrays."""
        plain = super().rows(chosen)
        own = self.held_back
        if isinstance(own, np.ndarray) and own.ndim:
            own = own[chosen]
        return Left(
            plain.remaining_ms,
            plain.remaining_mj,
            plain.preference,
            plain.allowance_ms,
            self.unit,
            own,
        )

    def of_bucket(self, name: str) -> bool:
        """Whether the bucket, and not the request, set what is left under that name."""
        limited = "allowance_ms" if self.unit == "ms" else "remaining_mj"
        return name == limited and bool(np.all(self.held_back))


class Account:
    """The budgets of some photos, from the limits of their request and a bucket.

    It keeps no photos: whoever drives them shows them as they are by then.

    Parameters
    ----------
    photos : as they are when it is opened
    policy : knows what its candidates cost, where there is a bucket
    energies : mean millijoules of each network
    began : when the request came in, by `perf_counter`
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        policy: Policy,
        energies: Mapping[str, float],
        limits: Limits,
        began: float,
        bucket: Bucket | None,
    ) -> None:
        self._energies = energies
        self._limits = limits
        self._began = began
        self._bucket = bucket
        if bucket is None:
            return
        # Features are known by now and are paid for whatever the policy does.
        costs = (policy.costs_ms if bucket.unit == "ms" else policy.costs_mj) or ()
        self._cheapest = min(costs)
        # Twice the expected, so that a run that takes longer does not rule out the next one.
        self._held = np.array([bucket.open(self._spent(p) + 2 * sum(costs)) for p in photos])

    def left(self, photos: Sequence[Photo], rows: np.ndarray | None = None) -> Limits:
        """What is left for photos that have taken the same path.

        A photo of which nothing has run may always pay for the cheapest candidate.

        Parameters
        ----------
        photos : as they are now
        rows : which of the photos that it was opened for they are; all at first
        """
        if self._limits is UNLIMITED and self._bucket is None:
            return UNLIMITED
        limits = self._limits if rows is None else self._limits.rows(rows)
        allowance = limits.allowance_ms - _column([p.spent_ms() for p in photos])
        energy = limits.remaining_mj - _column([self._spent_mj(p) for p in photos])
        if self._bucket is not None:
            held = self._held if rows is None else self._held[rows]
            own = held - _column([self._spent(p) for p in photos])
            if rows is None:
                own = np.maximum(own, self._cheapest)
            remaining = limits.remaining_ms - (perf_counter() - self._began) * 1e3
            if self._bucket.unit == "ms":
                held_back, allowance = own < allowance, np.minimum(allowance, own)
            else:
                held_back, energy = own < energy, np.minimum(energy, own)
            return Left(
                remaining, energy, limits.preference, allowance, self._bucket.unit, held_back
            )
        elapsed = (perf_counter() - self._began) * 1e3
        return Limits(limits.remaining_ms - elapsed, energy, limits.preference, allowance)

    def close(self, photos: Sequence[Photo]) -> None:
        """Pay the bucket for all photos as they are now, whether all went well or not."""
        if self._bucket is not None:
            for photo, held in zip(photos, self._held.tolist()):
                self._bucket.close(held, self._spent(photo))

    def _spent(self, photo: Photo) -> float:
        assert self._bucket is not None
        return photo.spent_ms() if self._bucket.unit == "ms" else self._spent_mj(photo)

    def _spent_mj(self, photo: Photo) -> float:
        return sum(self._energies[name] for name in (*photo.done, *photo.passed))


def _column(values: list[float]) -> Number:
    """The values as an array; a single one as it is, which is several times quicker."""
    return values[0] if len(values) == 1 else np.array(values)


def with_costs(policy: Policy, networks: Networks, bucket: Bucket) -> Policy:
    """The policy with its candidates' mean costs, the bundle's where it has none of its own.

    Raises
    ------
    InputError
        when the costs are not known, or the bucket's mean cannot be kept with them.
    """
    in_ms = bucket.unit == "ms"
    costs = policy.costs_ms if in_ms else policy.costs_mj
    if costs is None:
        found = [networks.cost(name, bucket.unit) for name in policy.candidates]
        unknown = [n for n, cost in zip(policy.candidates, found) if cost is None]
        if unknown:
            raise InputError(
                f"a bucket in {bucket.unit} needs the candidates' mean {bucket.unit}, and the "
                f"bundle has none for {unknown}; `adaptive profile` measures them"
            )
        costs = tuple(cost for cost in found if cost is not None)
        policy = replace(policy, costs_ms=costs) if in_ms else replace(policy, costs_mj=costs)
    bucket.check(policy.candidates, costs)
    return policy
