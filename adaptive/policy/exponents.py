"""What several networks said, as one calibrated answer: p ~ prod of p_k ** w_k."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Callable, Sequence

import numpy as np

from adaptive.checks import is_number, listed, numbers
from adaptive.columns import Column, Columns, Many, One, columns_of, sums
from adaptive.errors import InputError
from adaptive.files import Fields

#: Probabilities below it count as it. Nothing smaller survives the 16 bits of a table's
#: probabilities, so that a table and a network's own answer come to the same.
FLOOR = 2.0**-24

#: A weight follows an image's traits up to a factor of e to this, and down to one over it.
STEEPEST = 1.5


@dataclass
class Exponents:
    """Weights of the networks of one set that may have run, fitted by likelihood.

    The answer is prod p_k ** w_k over the set, normalised (a logarithmic opinion pool: Genest
    and Zidek 1986, Statistical Science 1, 114-135). The weights need not sum to one, so they
    hold the temperature as well; of a set of one the weight is 1 / T.

    Attributes
    ----------
    members : positions of the networks in the policy's order, rising
    weights : one a member, at least 0 and not all of them 0
    slopes : one row a member, by which its weight follows the image: of an image with traits t
        (see `Premodel.judge`) it is weights[k] * exp(slopes[k] . t). Empty where all images
        have the same weights
    """

    members: tuple[int, ...]
    weights: tuple[float, ...]
    slopes: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        self.members = members = tuple(listed(self.members, "members of exponents", "positions"))
        self.weights = weights = numbers(self.weights, "exponents")
        if not all(is_number(member) for member in members):
            raise InputError(f"exponents need positions, not {list(members)}")
        if not members or list(members) != sorted(set(members)) or members[0] < 0:
            raise InputError(f"exponents need the positions of a set, rising, not {list(members)}")
        if len(weights) != len(members):
            raise InputError(f"{len(members)} members need as many exponents, got {list(weights)}")
        if not all(np.isfinite(w) and w >= 0 for w in weights) or not any(weights):
            raise InputError(
                f"exponents {list(weights)} must be finite, at least 0 and not all of them 0"
            )
        self.slopes = tuple(map(tuple, self.slopes))
        if self.slopes and (
            len(self.slopes) != len(members)
            or len({len(row) for row in self.slopes}) > 1
            or not np.isfinite(self.slopes).all()
        ):
            raise InputError(
                f"{len(members)} members need as many rows of slopes, equally long and finite"
            )

    def of(self, traits: np.ndarray) -> np.ndarray:
        """Each image's weights, shape (n, members).

        traits : ndarray (n, t), of the images
        """
        return np.column_stack(self.following(columns_of(traits), Many(len(traits))))

    def following(self, traits: Columns, math: Many | One) -> Columns:
        """Each member's weight, by the images' traits."""
        exponents = [math.most(math.least(own, STEEPEST), -STEEPEST) for own in self._sums(*traits)]
        return [weight * own for weight, own in zip(self.weights, math.exps(exponents))]

    @cached_property
    def _sums(self) -> Callable[..., Sequence[Column]]:
        return sums(self.slopes)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        slopes = {"slopes": [list(row) for row in self.slopes]} if self.slopes else {}
        return {"members": list(self.members), "weights": list(self.weights), **slopes}

    @classmethod
    def from_json(cls, values: object, where: str) -> Exponents:
        """Read what `to_json` gave, after checking it."""
        fields = Fields(values, where)
        members = fields.get("members", list)
        if not all(type(member) is int for member in members):
            raise InputError(f"{where}: members {members!r} is not a list of positions")
        rows = fields.get("slopes", list, default=[])
        slopes = tuple(numbers(row, f"{where}: a row of slopes") for row in rows)
        return cls(tuple(members), tuple(fields.numbers("weights")), slopes)


def pooled(members: Sequence[np.ndarray], weights: Sequence[Column] | np.ndarray) -> np.ndarray:
    """prod p_k ** w_k, normalised, float32, of the members' shape.

    Parameters
    ----------
    members : one ndarray (n, classes) of probabilities a network, or (classes,) of a single image
    weights : one number a network, or one for each image: a column a network, or an
        ndarray (n, networks)
    """
    columns = list(weights.T) if isinstance(weights, np.ndarray) else weights
    return pool([logarithms(values) for values in members], columns)


def pool(logs: Sequence[np.ndarray], weights: Sequence[Column]) -> np.ndarray:
    """As `pooled`, of the members' logarithms, which stay as they are."""
    total: Any = None
    for values, weight in zip(logs, weights):
        if isinstance(weight, np.ndarray):
            own = values * weight.astype(np.float32)[:, np.newaxis]
        elif weight == 0:
            continue
        else:
            own = values * np.float32(weight)
        total = own if total is None else np.add(total, own, out=total)
    assert total is not None  # at least one weight is above 0
    many = total.ndim > 1  # a single image's highest and sum are numbers, which are quicker
    total -= np.maximum.reduce(total, axis=-1, keepdims=many)
    np.exp(total, out=total)
    total /= np.add.reduce(total, axis=-1, keepdims=many)
    return np.asarray(total)


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    """log p, float32, where nothing is below FLOOR."""
    if probabilities.dtype == np.float16:
        return np.take(_of_halves(), probabilities.view(np.uint16))
    values = probabilities.astype(np.float32, copy=False)
    return np.asarray(np.log(np.maximum(values, np.float32(FLOOR))))


@lru_cache(maxsize=1)
def _of_halves() -> np.ndarray:
    """log p of every number of 16 bits: a table's probabilities are such, and looked up faster."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    with np.errstate(invalid="ignore"):
        values = np.fmax(halves.astype(np.float32), np.float32(FLOOR))
    return np.asarray(np.log(values))
