"""Features brought to one scale, and onto a grid on which distances are exact.

After scaling, values are rounded to multiples of 1/4096 and clipped to +-512, and kept as whole
numbers of those steps, at most 2**21 in size. A squared distance over d features is then a whole
number of at most d * 2**44, and with d <= 512 that, and every sum on the way to it, fits into the
53 bits of a float64. So it comes out the same in whatever order it is summed, with or without
fused multiply-add, in any BLAS, as |a|^2 - 2ab + |b|^2 or as (a-b)^2: board, desktop and
scikit-learn find the same neighbours, and two distances that are equal compare equal.

What it costs: a step is 1/4096 of a standard deviation (or of the range, for "minmax"), far below
what a neighbour's vote depends on. Of n rows none lies further than sqrt(n - 1) standard
deviations from the mean, so up to 262,000 rows nothing of the training table is clipped.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from adaptive.columns import Column, Columns, Many, One
from adaptive.errors import InputError, MissingExtra

STEPS = 4096.0
LIMIT = 512 * STEPS

SCALINGS = ("standard", "minmax")


class Scaling:
    """One affine map a feature, as scikit-learn's scalers compute it, bit for bit.

    Parameters
    ----------
    kind : "standard": (x - offset) / scale, mean 0 and standard deviation 1 in training.
        "minmax": x * scale + offset, 0 to 1 in training.
    scale, offset : ndarrays of shape (features,), float64
    """

    def __init__(self, kind: str, scale: np.ndarray, offset: np.ndarray) -> None:
        self.kind = kind
        self.scale = scale
        self.offset = offset

    @classmethod
    def fit(cls, kind: str, X: np.ndarray) -> Scaling:
        """Learn from X of shape (n, features), with scikit-learn.

        Raises
        ------
        InputError
            for an unknown kind, or for values too large to be scaled.
        MissingExtra
            without scikit-learn.
        """
        try:
            from sklearn.preprocessing import MinMaxScaler, StandardScaler
        except ImportError as exc:
            raise MissingExtra("training a premodel", "scikit-learn", "premodel") from exc
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if check_scaling(kind) == "standard":
                scaler = StandardScaler().fit(X)
                scaling = cls(kind, scaler.scale_, scaler.mean_)
            else:
                scaler = MinMaxScaler().fit(X)
                scaling = cls(kind, scaler.scale_, scaler.min_)
        if not (np.isfinite(scaling.scale).all() and np.isfinite(scaling.offset).all()):
            raise InputError("the features hold values too large to be scaled")
        return scaling

    def grid(self, X: np.ndarray) -> np.ndarray:
        """Scale, and round to the grid.

        Parameters
        ----------
        X : ndarray of shape (n, features), float64, finite

        Returns
        -------
        ndarray of the same shape, float64: whole numbers of steps, at most 2**21 in size
        """
        with np.errstate(over="ignore"):
            return np.asarray(self._steps(X, self.scale, self.offset, Many(len(X))))

    def columns(self, columns: Columns, math: Many | One) -> Columns:
        """As `grid`, of a column a feature; numpy may warn of what overflows."""
        pairs = zip(columns, self._pairs)
        return [self._steps(x, scale, offset, math) for x, (scale, offset) in pairs]

    @cached_property
    def _pairs(self) -> list[list[float]]:
        return np.column_stack([self.scale, self.offset]).tolist()  # type: ignore[no-any-return]

    def _steps(self, values: Column, scale: Column, offset: Column, math: Many | One) -> Column:
        scaled = (values - offset) / scale if self.kind == "standard" else values * scale + offset
        return math.rint(math.most(math.least(scaled * STEPS, LIMIT), -LIMIT))


def check_scaling(kind: str) -> str:
    """Return `kind` if there is such a scaling, else raise InputError."""
    if kind not in SCALINGS:
        raise InputError(f"scaling {kind!r} is not one of {list(SCALINGS)}")
    return kind
