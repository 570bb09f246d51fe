"""Counters and histograms that cost a request next to nothing, as text for Prometheus.

Each thread counts in a dictionary of its own, without a lock; they are added up when somebody
asks. The text is Prometheus's exposition format, version 0.0.4.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import Any, Dict, Iterable, List, Sequence, Tuple, Union

#: Upper ends of a time's bins, seconds.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Upper ends of a batch's bins, images.
IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Tuple[str, ...]


class Counter:
    """Something that only grows, by its labels.

    Parameters
    ----------
    name : as Prometheus shall know it
    help : one sentence
    labels : names of the labels
    """

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def lines(self, values: dict[Labels, Any]) -> Iterable[str]:
        """The samples."""
        for labels, value in sorted(values.items()):
            yield sample(self.name, self.labels, labels, value)


class Gauge(Counter):
    """Something that goes up and down; it is read when somebody asks."""

    kind = "gauge"


class Histogram(Counter):
    """How values are distributed, by labels.

    Parameters
    ----------
    bins : upper ends, rising; one more bin holds what is above the last
    """

    kind = "histogram"

    def __init__(
        self, name: str, help: str, labels: Sequence[str] = (), bins: Sequence[float] = SECONDS
    ) -> None:
        super().__init__(name, help, labels)
        self.bins = tuple(bins)

    def lines(self, values: dict[Labels, Any]) -> Iterable[str]:
        """The samples: cumulated bins, sum and count."""
        names = (*self.labels, "le")
        ends = [*(format(end, "g") for end in self.bins), "+Inf"]
        for labels, (*counts, total) in sorted(values.items()):
            below = 0
            for end, count in zip(ends, counts):
                below += count
                yield sample(f"{self.name}_bucket", names, (*labels, end), below)
            yield sample(f"{self.name}_sum", self.labels, labels, total)
            yield sample(f"{self.name}_count", self.labels, labels, below)


Shard = Dict[Counter, Dict[Labels, Any]]

#: What was not counted here but read, a gauge as a rule, and its values by label.
Reading = Tuple[Counter, Dict[Labels, float]]


class Metrics:
    """What is counted, over all threads."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._shards: List[Tuple[threading.Thread, Shard]] = []
        self._ended: Shard = {}
        self._lock = threading.Lock()

    def count(self, counter: Counter, labels: Labels = (), by: float = 1) -> None:
        """Add to a counter."""
        try:
            values = self._own.shard[counter]
        except (AttributeError, KeyError):
            values = self._shard().setdefault(counter, {})
        values[labels] = values.get(labels, 0) + by

    def observe(self, histogram: Histogram, value: float, labels: Labels = ()) -> None:
        """Put one value into a histogram."""
        try:
            counts = self._own.shard[histogram][labels]
        except (AttributeError, KeyError):
            fresh = [0] * (len(histogram.bins) + 1) + [0.0]
            counts = self._shard().setdefault(histogram, {}).setdefault(labels, fresh)
        counts[bisect_left(histogram.bins, value)] += 1
        counts[-1] += value

    def values(self, counter: Counter) -> dict[Labels, Any]:
        """What was counted by labels: a number, or a histogram's bins and its sum."""
        with self._lock:
            self._fold()
            shards = [self._ended, *(shard for _, shard in self._shards)]
        found: dict[Labels, Any] = {}
        for shard in shards:
            # A copy is made at one go, whatever the thread that counts is doing.
            _add(found, shard.get(counter, {}).copy())
        return found

    def text(self, counters: Iterable[Counter], gauges: Iterable[Reading] = ()) -> str:
        """Everything as Prometheus reads it."""
        found: List[Tuple[Counter, Dict[Labels, Any]]] = [(c, self.values(c)) for c in counters]
        lines = []
        for family, values in [*found, *gauges]:
            lines.append(f"# HELP {family.name} {family.help}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += family.lines(values)
        return "\n".join(lines) + "\n"

    def _shard(self) -> Shard:
        shard: Shard | None = getattr(self._own, "shard", None)
        if shard is None:
            shard = self._own.shard = {}
            with self._lock:
                self._fold()
                self._shards.append((threading.current_thread(), shard))
        return shard

    def _fold(self) -> None:
        """Take over what threads counted that are no more; the lock is held."""
        for entry in [e for e in self._shards if not e[0].is_alive()]:
            self._shards.remove(entry)
            for counter, values in entry[1].items():
                _add(self._ended.setdefault(counter, {}), values)


def _add(total: dict[Labels, Any], values: dict[Labels, Any]) -> None:
    for labels, value in values.items():
        before = total.get(labels)
        if isinstance(value, list):
            total[labels] = value[:] if before is None else [a + b for a, b in zip(before, value)]
        else:
            total[labels] = value if before is None else before + value


def sample(name: str, names: Sequence[str], labels: Labels, value: Union[int, float]) -> str:
    """One line of the exposition format."""
    shown = ",".join(f'{key}="{_escaped(label)}"' for key, label in zip(names, labels))
    number = str(value) if isinstance(value, int) else repr(float(value))
    number = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(number, number)
    return f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
