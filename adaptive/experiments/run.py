"""Runs an experiment: plan, shards, tables, policies, report; what is done is not done again."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

from adaptive.errors import AdaptiveError
from adaptive.experiments.assembled import upload
from adaptive.experiments.coordinator import Progress, carry_out
from adaptive.experiments.declared import Experiment
from adaptive.experiments.engine import ShardEngine
from adaptive.experiments.merge import merge
from adaptive.experiments.plan import ExperimentPlan, TablePlan
from adaptive.experiments.policies import baselines, judged_all, reference_of, to_plain
from adaptive.experiments.shard import hash_of
from adaptive.experiments.store import Store
from adaptive.files import read_json, write_json, written_aside
from adaptive.outcomes.table import OutcomeTable
from adaptive.report.experiment import markdown, page

#: Raised when the way that policies are judged changes, so that earlier ones do not count.
JUDGED = 1


@dataclass(frozen=True)
class Ran:
    """What an experiment came to.

    Attributes
    ----------
    report : as JSON values
    omitted : what was left out, in sentences
    """

    report: Mapping[str, Any]
    omitted: tuple[str, ...]


def output_folder(experiment: Experiment) -> Path:
    """Where tables, policies and the report go."""
    named = experiment.run.get("output", f"{experiment.name}.experiment")
    return experiment.path(named)


def run_plan(
    plan: ExperimentPlan,
    store: Store,
    engine: ShardEngine,
    output: Path,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Ran:
    """Run everything that is not done.

    Raises
    ------
    AdaptiveError
        when store or queue cannot be reached, or no image is left.
    """
    record = RunRecord(plan, store)
    shards = plan.shards()
    for table in plan.tables:
        upload(table.assembled, store)
    record.write("running")
    try:
        failed = carry_out(shards, store, engine, watch)
        output.mkdir(parents=True, exist_ok=True)
        omitted = [*plan.omitted]
        # Each shard that failed once, whatever number of tables it belongs to.
        omitted += [f"shard {key[:12]}: {why}" for key, why in failed.items()]
        told = []
        for table in plan.tables:
            own, left_out = _table(plan, table, store, output)
            told.append(own)
            omitted += [line for line in left_out if line not in omitted]
    except BaseException as error:
        why = "it was told to" if isinstance(error, KeyboardInterrupt) else str(error)
        with contextlib.suppress(AdaptiveError, OSError):  # the first error is the one to tell
            record.write("stopped", why=why or type(error).__name__)
        raise
    report = to_plain(
        {
            "format": 1,
            "name": plan.experiment.name,
            "title": plan.experiment.report.get("title", plan.experiment.name),
            "date": datetime.date.today().isoformat(),
            "file": plan.experiment.text,
            "tables": told,
            "omitted": omitted,
            "notes": list(plan.notes),
        }
    )
    write_json(output / "report.json", report)
    with written_aside(output / "report.md") as aside:
        aside.write_text(markdown(report), encoding="utf-8")
    with written_aside(output / "report.html") as aside:
        aside.write_text(page(report), encoding="utf-8")
    base = f"runs/{plan.experiment.name}"
    store.put(f"{base}/report.json", json.dumps(report).encode())
    store.put(f"{base}/report.html", (output / "report.html").read_bytes())
    record.write("done")
    return Ran(report, tuple(omitted))


class RunRecord:
    """What the store knows of a run, for `status` and the front end."""

    def __init__(self, plan: ExperimentPlan, store: Store) -> None:
        self._told = plan.record()
        self._name = f"runs/{plan.experiment.name}/plan.json"
        self._store = store
        self._began = time.time()

    def write(self, state: str, **more: Any) -> None:
        """Put the run's state: "running", "done", or "stopped" and why."""
        told = {**self._told, "state": state, "began": self._began, "at": time.time(), **more}
        self._store.put(self._name, json.dumps(told).encode())


def _table(
    plan: ExperimentPlan, table: TablePlan, store: Store, output: Path
) -> tuple[dict[str, Any], list[str]]:
    """One table's part of the report, and what is left out of it."""
    path = output / f"{table.name}.csv"
    mark = path.with_suffix(".merged.json")
    # A shard that failed before may be there now: the key of a table is that of what is there.
    present = sorted(store.names("results") & {k for k, _ in table.pairs()})
    key = hash_of([table.key, present])
    known = read_json(mark, "the merged table's") if mark.exists() and path.exists() else {}
    if known.get("key") != key:
        merged = merge(
            store,
            table.keys,
            table.times_key,
            table.assembled.bundle,
            table.measure,
            table.imagery.labels,
            path,
        )
        known = {"key": key, "omitted": list(merged.omitted), "notes": list(merged.notes)}
        write_json(mark, known)
    outcomes = OutcomeTable.read(path)
    reference = reference_of(outcomes)

    def key_of(name: str, wanted: Mapping[str, Any]) -> str:
        files = []
        if "file" in wanted:
            files = [plan.experiment.path(wanted["file"]).read_text(encoding="utf-8")]
        report = {k: v for k, v in plan.experiment.report.items() if k != "title"}
        return hash_of([JUDGED, key, name, dict(wanted), report, files])

    def find(key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(store.get(f"policies/{key}"))
        except KeyError:
            return None
        return found

    def keep(key: str, told: dict[str, Any]) -> None:
        store.put(f"policies/{key}", json.dumps(to_plain(told)).encode())

    folder = output / "policies" / table.name
    judged = judged_all(plan.experiment, plan.policies, outcomes, folder, find, keep, key_of)
    omitted = [*known["omitted"]]
    where = f" of table {table.name}" if len(plan.tables) > 1 else ""
    omitted += [f"policy {p['name']}{where}: {p['failed']}" for p in judged if "failed" in p]
    return {
        "name": table.name,
        "images": len(outcomes),
        "quality": outcomes.quality_name,
        "reference": reference,
        "board": outcomes.meta.get("board"),
        "times": outcomes.meta.get("times"),
        "baselines": baselines(outcomes, reference),
        "policies": judged,
        "notes": known["notes"],
    }, omitted
