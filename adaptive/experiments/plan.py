"""What an experiment comes to: its tables, the shards of each, and its policies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from adaptive.errors import InputError
from adaptive.experiments.assembled import Assembled, assemble_candidates
from adaptive.experiments.declared import Experiment
from adaptive.experiments.imagery import Imagery, find_images
from adaptive.experiments.shard import OUTCOMES, TIMES, Shard, hash_of, pieces
from adaptive.measuring.parallel import TIMED, sample

#: Images a shard, unless the file says. Six ImageNet networks take about 65 ms an image.
SHARD = 256


#: Shards of a table that a plan prints one by one.
SHOWN = 100


@dataclass(frozen=True)
class TablePlan:
    """One outcome table.

    Attributes
    ----------
    name : of the table's files
    shards : with outcomes, in the images' order
    times : the shard with times; None where none are wanted
    """

    name: str
    assembled: Assembled
    imagery: Imagery
    measure: Mapping[str, Any]
    shards: tuple[Shard, ...]
    keys: tuple[str, ...]
    times: Shard | None
    times_key: str | None

    @property
    def key(self) -> str:
        """The hash of what the table is made of."""
        return hash_of([self.keys, self.times_key])

    def pairs(self) -> Iterator[tuple[str, Shard]]:
        """Every shard with its key, that with times first."""
        if self.times is not None and self.times_key is not None:
            yield self.times_key, self.times
        yield from zip(self.keys, self.shards)


@dataclass(frozen=True)
class ExperimentPlan:
    """All that is to be done.

    Attributes
    ----------
    policies : by name, what each is tuned for
    omitted, notes : sentences
    """

    experiment: Experiment
    tables: tuple[TablePlan, ...]
    policies: tuple[tuple[str, Mapping[str, Any]], ...]
    omitted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def shards(self) -> dict[str, Shard]:
        """Every shard once, by its key; tables of one grid may share some."""
        return {key: shard for table in self.tables for key, shard in table.pairs()}

    def lines(self, done: set[str]) -> list[str]:
        """The plan for a person, before anything runs."""
        shards = self.shards()
        left = [key for key in shards if key not in done]
        lines = [
            f"{self.experiment.name}: {len(self.tables)} "
            f"{'table' if len(self.tables) == 1 else 'tables'}, {len(shards)} shards, "
            f"{len(shards) - len(left)} of them done before"
        ]
        for table in self.tables:
            networks = ", ".join(table.assembled.bundle.names)
            lines.append(f"  table {table.name}: {len(table.imagery)} images; {networks}")
            pairs = list(table.pairs())
            for key, shard in pairs[:SHOWN]:
                state = "done" if key in done else "to do"
                lines.append(
                    f"    {key[:12]}  {shard.kind:8}  {len(shard):6} images from "
                    f"{shard.images[0]}  {state}"
                )
            if len(pairs) > SHOWN:
                rest = [key in done for key, _ in pairs[SHOWN:]]
                lines.append(f"    and {len(rest):,} more, {sum(rest):,} of them done")
        for name, told in self.policies:
            wanted = ", ".join(f"{k} = {v!r}" for k, v in told.items())
            lines.append(f"  policy {name}: {wanted}")
        return lines

    def record(self) -> dict[str, Any]:
        """What the store keeps of the plan, for status and the front end."""
        return {
            "format": 1,
            "name": self.experiment.name,
            "file": self.experiment.text,
            "tables": [
                {
                    "name": table.name,
                    "images": len(table.imagery),
                    "root": table.imagery.root,
                    "candidates": list(table.assembled.bundle.names),
                    "candidates_key": table.assembled.key,
                    "keys": list(table.keys),
                    "times_key": table.times_key,
                    "omitted": list(table.imagery.omitted),
                }
                for table in self.tables
            ],
            "policies": [name for name, _ in self.policies],
            "omitted": list(self.omitted),
            "notes": list(self.notes),
        }


def make_plan(experiment: Experiment, folder: Path, board: str | None) -> ExperimentPlan:
    """Look at images and candidates, and cut the work into shards.

    Parameters
    ----------
    folder : where candidates that are named one by one are put together
    board : the machine that times are measured on

    Raises
    ------
    InputError
        when images or candidates cannot be had.
    """
    size = int(experiment.measure.get("shard", SHARD))
    assembled: dict[str, Assembled] = {}
    listed: dict[str, Imagery] = {}
    tables = []
    omitted: list[str] = []
    notes: list[str] = []
    for name, sections in experiment.tables():
        wanted = json.dumps(sections["candidates"], sort_keys=True)
        if wanted not in assembled:
            found = assemble_candidates(experiment, sections["candidates"], folder)
            assembled[wanted] = found
            omitted += found.omitted
        candidates = assembled[wanted]
        bundle = candidates.bundle
        if bundle.task != "classify":
            raise InputError(
                f"{bundle.folder} holds detectors, which `adaptive profile` measures; experiments "
                "are of classifiers"
            )
        data = sections["data"]
        asked = json.dumps([data, list(bundle.labels)], sort_keys=True)
        if asked not in listed:
            listed[asked] = find_images(
                data["images"],
                experiment.folder,
                bundle.labels,
                experiment.path(data["labels"]) if "labels" in data else None,
                bool(data.get("unlabelled", False)),
                data.get("limit"),
            )
            omitted += listed[asked].omitted
            notes += listed[asked].notes
        imagery = listed[asked]
        if data.get("unlabelled") and bundle.reference is None:
            raise InputError(
                f"{bundle.folder} names no reference, whose answers images without labels are held "
                'against; write reference = "..." in [candidates] or in its manifest'
            )
        tables.append(plan_table(name, candidates, imagery, sections["measure"], size, board))
    policies = tuple(experiment.chosen_policies())
    omitted += _not_there(policies, tables, tuple(omitted))
    names = [name for name, _ in policies]
    if len(set(names)) < len(names):
        raise InputError(f"two policies come to one name among {names}; give each a name")
    omitted, notes = list(dict.fromkeys(omitted)), list(dict.fromkeys(notes))
    return ExperimentPlan(experiment, tuple(tables), policies, tuple(omitted), tuple(notes))


def _not_there(
    policies: Sequence[tuple[str, Mapping[str, Any]]],
    tables: Sequence[TablePlan],
    omitted: Sequence[str],
) -> list[str]:
    """Policies of a candidate that no table has; an error unless candidates could not be had."""
    names = list(dict.fromkeys(n for table in tables for n in table.assembled.bundle.names))
    found = [
        f"policy {name}: {told['fixed']!r} is none of the candidates {names}"
        for name, told in policies
        if "fixed" in told and told["fixed"] not in names
    ]
    if found and not omitted:
        raise InputError("; ".join(found))
    return found


def plan_table(
    name: str,
    candidates: Assembled,
    imagery: Imagery,
    measure: Mapping[str, Any],
    size: int,
    board: str | None,
) -> TablePlan:
    """One table's shards: of its outcomes, in pieces of `size` images, and of its times."""
    told = {key: value for key, value in measure.items() if key not in ("times", "shard")}

    def shard(kind: str, places: Sequence[int] | slice, where: str | None = None) -> Shard:
        if isinstance(places, slice):
            rows = (imagery.names[places], imagery.labels[places], imagery.stamps[places])
        else:
            parts = (imagery.names, imagery.labels, imagery.stamps)
            rows = tuple(tuple(part[p] for p in places) for part in parts)  # type: ignore[assignment]
        return Shard(kind, candidates.key, imagery.root, *rows, told, where)

    shards = tuple(shard(OUTCOMES, piece) for piece in pieces(len(imagery), size))
    count = int(measure.get("times", TIMED))
    times = shard(TIMES, sample(len(imagery), count), board) if count else None
    return TablePlan(
        name,
        candidates,
        imagery,
        told,
        shards,
        tuple(s.key for s in shards),
        times,
        None if times is None else times.key,
    )
