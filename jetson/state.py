"""The state that a board is in: power mode, temperatures, and whether it is slowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping

from adaptive.jetson.mode import PowerMode, power_mode
from adaptive.jetson.sysfs import Sysfs
from adaptive.jetson.thermal import events, limits, temperatures


@dataclass(frozen=True)
class BoardState:
    """What changes while a board works, read once.

    Attributes
    ----------
    mode : nvpmodel's, or None
    temperatures_c : by thermal zone
    limits : what slows the machine now; None where nothing tells
    events : how often it has slowed itself since it was started, by cause
    """

    mode: PowerMode | None = None
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[str, ...] | None = None
    events: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, sysfs: Sysfs | None = None) -> BoardState:
        """The state now."""
        tree = sysfs or Sysfs()
        return cls(power_mode(tree), temperatures(tree), limits(tree), events(tree))

    @property
    def tells(self) -> bool:
        """Whether there is anything here that could be seen to change the machine's speed."""
        return self.mode is not None or self.limits is not None or bool(self.events)

    def slowed_since(self, earlier: BoardState) -> tuple[str, ...] | None:
        """What slows the machine now, or did since `earlier`; None where nothing tells."""
        if self.limits is None and not self.events:
            return None
        risen = [n for n, count in self.events.items() if count > earlier.events.get(n, count)]
        return tuple(dict.fromkeys([*(earlier.limits or ()), *(self.limits or ()), *risen]))
