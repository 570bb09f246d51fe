"""A log's audited requests as an outcome table: what a server's own cameras saw, to tune on.

A log holds no labels. What an answer is worth is whether it is the reference's, so the quality
of such a table is `agreement`; of boxes it is their F1 against the reference's, `f1_agreement`.
"""

from __future__ import annotations

import datetime
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.candidate import positions
from adaptive.errors import InputError
from adaptive.evaluation.replay import rank_of
from adaptive.features.schema import SCHEMA
from adaptive.files import folder_aside
from adaptive.monitoring.logged import Audited, Logged
from adaptive.outcomes.quality import AGREEMENT, BOX_AGREEMENT
from adaptive.outcomes.table import OutcomeTable, check_table_name, probabilities_folder


@dataclass(frozen=True)
class AuditedTable:
    """An outcome table of audited requests, and what did not get into it.

    Attributes
    ----------
    table : its images are requests, each named by the content of its line in the log
    omitted : what was left out, and why, in sentences
    notes : what else there is to know of it, in sentences
    """

    table: OutcomeTable
    omitted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, logged: Logged, bundle: Bundle | None = None, newest: int | None = None
    ) -> AuditedTable:
        """Make it of the audits that ran every candidate.

        Which requests are audited follows from a counter and a seed, so the rows are a fair
        sample of what was served, whatever the policy did with them. A request takes part when
        it holds the answers of all candidates and, where the newest one holds features, those.

        Parameters
        ----------
        bundle : that was served; tells which networks answered, and in what order they stand
        newest : take only so many requests, the latest; all when left out

        Raises
        ------
        InputError
            when no audit ran every candidate, or no request holds all that is needed.
        """
        return _collected(logged, bundle, newest)

    def write(self, path: Path) -> None:
        """Write `X.csv`, `X.json` and, where the log holds them, `X.probs`.

        Raises
        ------
        InputError
            when it is not called NAME.csv, or cannot be written there.
        """
        check_table_name(path)
        folder = probabilities_folder(path)
        if self.table.probabilities:
            with folder_aside(folder) as aside:
                for name in self.table.probabilities:
                    values = self.table.probabilities_of(name)
                    np.save(aside / f"{name}.npy", values.astype(np.float16))
        elif folder.exists():  # of the table that is replaced
            shutil.rmtree(folder)
        self.table.write(path)


def _collected(logged: Logged, bundle: Bundle | None, newest: int | None) -> AuditedTable:
    if logged.scope != "all":
        raise InputError(
            "the audits of this log ran only the reference, and a table needs what every "
            "candidate says; serve with --audit all"
        )
    omitted, notes = [], []
    if logged.unreadable:
        omitted.append(f"{logged.unreadable} lines that cannot be read")
    if logged.elsewhere:
        omitted.append(f"{logged.elsewhere} audited requests of other bundles")
    others = sum(logged.audited.values()) - len(logged.rows)
    if others:
        omitted.append(f"{others} audits that ran only the reference")
    rows = tuple(sorted({row.name: row for row in logged.rows}.values(), key=_time))
    if len(rows) < len(logged.rows):
        notes.append(f"{len(logged.rows) - len(rows)} lines that are there twice count once")
    if newest is not None and newest < len(rows):
        notes.append(f"the newest {newest} of {len(rows)} audited requests are taken")
        rows = rows[-newest:]
    judged = tuple(row for row in rows if row.reference is not None)
    if len(judged) < len(rows):
        omitted.append(f"{len(rows) - len(judged)} requests without an answer of the reference")
    rows = judged
    if not rows:
        raise InputError(f"no audited request can be used: {'; '.join(omitted)}")
    # Those that are computed now.
    features, schema = tuple(rows[-1].features or ()), rows[-1].schema
    if schema not in (None, SCHEMA.version):
        notes.append(
            f"the features were computed under schema {schema}, and this version of adaptive has "
            f"{SCHEMA.version}, so the table has none"
        )
        features, schema = (), None
    table, known = replace(logged, rows=rows).table(features, schema)
    names = _order(table, bundle)
    whole = np.all([known.outcomes[name] for name in names], axis=0)
    timed = np.all([table.outcomes[name].ms > 0 for name in names], axis=0)
    for complete, lack in (
        (whole, "the answer of a candidate"),
        (timed | ~whole, "the time of a candidate"),
        (known.features | ~whole, "features that the newest request has"),
    ):
        if not complete.all():
            omitted.append(f"{int((~complete).sum())} requests that lack {lack}")
    kept = np.flatnonzero(whole & timed & known.features)
    if not len(kept):
        raise InputError(f"none of {len(rows)} audited requests can be used: {'; '.join(omitted)}")
    likely = all(known.probabilities[name][kept].all() for name in names)
    if table.probabilities and not likely:
        notes.append(
            "some requests lack probabilities, so the table has none; policies on it go by "
            "confidence alone"
        )
    table = replace(
        table,
        outcomes={name: table.outcomes[name] for name in names},
        probabilities=dict(table.probabilities) if likely else {},
        row=np.arange(len(table)),
    ).select(kept)
    ran = [rows[position] for position in kept]
    if any(row.together for row in ran):
        count = sum(row.together for row in ran)
        notes.append(
            f"{count} of {len(ran)} requests ran together with others, and their times are shares"
        )
    return AuditedTable(
        _described(table, ran, logged, schema, bundle), tuple(omitted), tuple(notes)
    )


def _time(row: Audited) -> float:
    return row.time


def _order(table: OutcomeTable, bundle: Bundle | None) -> list[str]:
    """The candidates in the bundle's order; without one, the faster before the slower."""
    if bundle is not None:
        positions(bundle.names, table.outcomes, "the log's audited requests")
        return list(bundle.names)
    return sorted(table.outcomes, key=lambda name: float(table.ms(name).mean()))


def _described(
    table: OutcomeTable,
    rows: Sequence[Audited],
    logged: Logged,
    schema: int | None,
    bundle: Bundle | None,
) -> OutcomeTable:
    """The table with what is known of it, and top-5 where there are probabilities."""
    outcomes = {
        name: replace(
            o,
            top5=rank_of(table.probabilities_of(name), table.label) < 5
            if table.probabilities
            else None,
        )
        for name, o in table.outcomes.items()
    }
    hashes = {} if bundle is None else {c.name: c.sha256 for c in bundle.candidates}
    candidates = []
    for name, o in outcomes.items():
        entry = {"name": name, "after": o.after}
        candidates.append({**entry, "sha256": hashes[name]} if name in hashes else entry)
    times = [row.time for row in rows]
    meta: dict[str, Any] = {
        "quality": BOX_AGREEMENT if logged.of_boxes else AGREEMENT,
        **({"task": "detect"} if logged.of_boxes else {}),
        "reference": logged.reference,
        "candidates": candidates,
        "features": list(table.features),
        "date": datetime.date.today().isoformat(),
        "requests": {"audited": len(rows), "first": min(times), "last": max(times)},
    }
    if schema is not None:
        meta["schema"] = SCHEMA.to_json()
    if table.probabilities:
        width = next(iter(table.probabilities.values())).shape[1]
        meta["classes"] = int(width)
    return replace(table, outcomes=outcomes, meta=meta)
