"""Policies whose lines run on arrays of many images, and on the plain numbers of a single one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from adaptive.columns import Column, Columns, Many, One, columns_of
from adaptive.limits import Limits
from adaptive.policy.base import Policy


class OnColumns(Policy):
    """A policy that computes on columns: see `adaptive.columns`.

    What it does is written once. With a `History` its columns are arrays, with a `Single` plain
    numbers, which for one live image is several times quicker; both give the same bits.

    Attributes
    ----------
    plain : whether all its methods work on a `Single`. A class says so for itself, since what is
        derived from it may have methods that need arrays; where it does not, arrays are used
    """

    plain: ClassVar[bool] = False

    def __init_subclass__(cls, **further: Any) -> None:
        super().__init_subclass__(**further)
        cls.on_numbers = bool(vars(cls).get("plain", False))

    def start(self, chances: np.ndarray | None, count: int, limits: Limits) -> np.ndarray:
        """What `first` says of all images."""
        told = None if chances is None else columns_of(chances)
        return np.asarray(self.first(told, Many(count), limits))

    @abstractmethod
    def first(self, told: Columns | None, math: Many | One, limits: Limits) -> Column:
        """First candidate for each image, or STOP to abstain.

        told : the premodel's numbers, a column each, or None
        """
