"""Every deferral signal of every candidate, ranked by how well it tells right from wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from adaptive.evaluation.ranking import folded, neighbour_signal, rank
from adaptive.intervals import Estimate
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.signals import PAIRED, SIGNALS, soften
from adaptive.policy.temperature import fit_temperature

#: A temperature is fitted on at most so many images; more change it hardly.
TEMPERATURE_IMAGES = 4000

#: Fewer images than this are too few to learn a signal from.
FEWEST = 20

_BLOCK = 2048


@dataclass(frozen=True)
class SignalQuality:
    """One signal of one candidate.

    Attributes
    ----------
    signal : "top", "margin" or "entropy", the same "at T", "agreement" of an exit with the one
        before it, "neighbours" or "premodel"
    area : under the ROC curve of "this candidate is right", with its 95% interval
    over_top : area minus that of the plain top probability, paired over the images
    """

    candidate: str
    signal: str
    area: Estimate
    over_top: Estimate

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "candidate": self.candidate,
            "signal": self.signal,
            "area": self.area.to_json(),
            "over_top": self.over_top.to_json(),
        }


@dataclass(frozen=True)
class SignalTable:
    """The quality of all signals, and what they were made with.

    Attributes
    ----------
    rows : candidate by candidate
    temperatures : by candidate, fitted on other images than those they are judged on
    softened : candidate -> its top probability at that temperature, ndarray (n,)
    missing : what could not be judged and why, in sentences
    """

    rows: tuple[SignalQuality, ...]
    temperatures: Mapping[str, float]
    softened: Mapping[str, np.ndarray]
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "temperatures": dict(self.temperatures),
            "missing": list(self.missing),
        }


def signal_table(
    table: OutcomeTable,
    others: OutcomeTable | None = None,
    chances: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> SignalTable:
    """Rank the signals on the images of `table`.

    Parameters
    ----------
    others : images to fit temperatures on; without them they are cross-fitted, each half of
        `table` with the other half's temperature
    chances : candidate -> ndarray (n,), the premodel's chance of it being right
    """
    rows: list[SignalQuality] = []
    temperatures: dict[str, float] = {}
    softened: dict[str, np.ndarray] = {}
    missing: list[str] = []
    for name in table.candidates:
        right = table.right_or_wrong([name])[:, 0].astype(bool)
        scores: dict[str, np.ndarray] = {"top": table.of(name).confidence}
        if name in table.probabilities and len(table) >= FEWEST:
            scores.update(_plain(table, name))
            fitted = _temperatures(table, others, name, seed)
            scores.update(_at_temperature(table, name, fitted))
            temperatures[name] = float(np.exp(np.log(fitted).mean()))
            softened[name] = scores["top at T"]
            before = table.of(name).after
            if before is not None and before in table.probabilities:
                scores.update(_paired(table, before, name))
            scores["neighbours"] = neighbour_signal(table.probabilities_of(name), right, seed=seed)
        if chances is not None and name in chances:
            scores["premodel"] = chances[name]
        ranked = rank(list(scores.values()), right)
        if ranked is None:
            missing.append(
                f"{name} is {'right' if right.all() else 'wrong'} on every image, so no signal "
                "can tell"
            )
            continue
        rows += map(SignalQuality, [name] * len(scores), scores, ranked.areas, ranked.over_first)
    if len(table) < FEWEST:
        missing.append(f"{len(table)} images are too few to fit temperatures and neighbours")
    without = [n for n in table.candidates if n not in table.probabilities]
    if without:
        missing.append(
            f"the table holds no probabilities of {', '.join(without)}, so only the top "
            "probability is judged; profile with --probabilities for the other signals"
        )
    return SignalTable(tuple(rows), temperatures, softened, tuple(missing))


def _plain(table: OutcomeTable, name: str) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {signal: [] for signal in SIGNALS if signal != "top"}
    for rows in _blocks(len(table)):
        values = table.probabilities_of(name, rows).astype(np.float32)
        for signal, parts in found.items():
            parts.append(SIGNALS[signal](values))
    return {signal: np.concatenate(parts) for signal, parts in found.items()}


def _paired(table: OutcomeTable, before: str, name: str) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {signal: [] for signal in PAIRED}
    for rows in _blocks(len(table)):
        two = [table.probabilities_of(n, rows).astype(np.float32) for n in (before, name)]
        for signal, parts in found.items():
            parts.append(PAIRED[signal](*two))
    return {signal: np.concatenate(parts) for signal, parts in found.items()}


def _at_temperature(
    table: OutcomeTable, name: str, temperatures: np.ndarray
) -> dict[str, np.ndarray]:
    found = {f"{signal} at T": np.empty(len(table)) for signal in SIGNALS}
    for temperature in np.unique(temperatures):
        own = np.flatnonzero(temperatures == temperature)
        for block in _blocks(len(own)):
            rows = own[block]
            values = soften(
                table.probabilities_of(name, rows).astype(np.float32), float(temperature)
            )
            for signal, measure in SIGNALS.items():
                found[f"{signal} at T"][rows] = measure(values)
    return found


def _temperatures(
    table: OutcomeTable, others: OutcomeTable | None, name: str, seed: int
) -> np.ndarray:
    """The temperature for each image of `table`, fitted without it."""
    if others is not None and len(others) and name in others.probabilities:
        return np.full(len(table), _fit(others, name, np.arange(len(others))))
    fold = folded(len(table), 2, seed)
    fitted = np.empty(len(table))
    for part in (0, 1):
        fitted[fold == part] = _fit(table, name, np.flatnonzero(fold != part))
    return fitted


def _fit(table: OutcomeTable, name: str, rows: np.ndarray) -> float:
    if len(rows) > TEMPERATURE_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, TEMPERATURE_IMAGES).astype(np.intp)]
    return fit_temperature(table.probabilities_of(name, rows), table.label[rows])


def _blocks(count: int) -> Sequence[np.ndarray]:
    return [np.arange(s, min(s + _BLOCK, count)) for s in range(0, count, _BLOCK)]
