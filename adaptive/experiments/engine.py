"""The seam to whatever carries shards to workers: one function, `submit`.

Another engine (Ray, Dask, jobs of a cluster) is one file with a class like `LocalEngine`. It may
lose a shard or run it twice: the store says what is done, and the coordinator sends again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from adaptive.errors import AdaptiveError
from adaptive.experiments.shard import Shard


class Unreachable(AdaptiveError):
    """What carries shards cannot be reached now; they are sent again."""


class ShardEngine(ABC):
    """Carries shards to workers."""

    @abstractmethod
    def submit(self, key: str, shard: Shard) -> None:
        """Have `Work.perform(key)` run somewhere, soon.

        Raises
        ------
        Unreachable
            when that cannot be said now; it is tried again.
        """

    def waiting(self) -> set[str] | None:
        """Keys that are queued or run; None where the engine cannot tell.

        Those that are neither there nor in the store were lost. Where nobody can tell, what is
        missing is sent again after a while.

        Raises
        ------
        Unreachable
            when it cannot be asked now.
        """
        return None

    def close(self) -> None:
        """Let go of what was opened."""
        return
