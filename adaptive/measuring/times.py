"""Times alone: measured on the board, and put in place of those that came from elsewhere.

What a candidate answers does not depend on the machine, what it takes does. So a table of
outcomes may come from any machine, and the times from the board that will serve: `T.csv` holds
`image`, `decode:ms`, `features:ms` and for each candidate `NAME:ms` (with `NAME:through`,
`NAME:mj`, `NAME:scale` and `NAME:normalise` where there are such), `T.json` beside it what was
measured with what.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.bundle.bundle import MANIFEST, Bundle
from adaptive.csvfile import read_csv
from adaptive.csvlines import write_lines
from adaptive.engines.choose import Engines
from adaptive.errors import InputError, TableError
from adaptive.features.cost import cost_ms
from adaptive.files import (
    Fields,
    check_format,
    folder_aside,
    read_json,
    sha256,
    write_json,
    written_aside,
)
from adaptive.imagefiles import SUFFIXES, files_below, passed_over
from adaptive.intervals import conformal_upper, fewest
from adaptive.jetson.mode import mode_of
from adaptive.measuring.energy import Energies
from adaptive.outcomes.labelled import LabelledImages
from adaptive.outcomes.table import Outcomes, OutcomeTable, check_table_name
from adaptive.policy.files import write_policy
from adaptive.policy.times import retimed
from adaptive.routing.extractors import Extractor

FORMAT = 1

#: Images that times are measured on, unless told.
IMAGES = 200

_PARTS = ("ms", "through", "mj", "scale", "normalise")


@dataclass(frozen=True)
class Times:
    """Times of candidates on some images.

    Attributes
    ----------
    table : the times as an outcome table; its labels, features and answers mean nothing
    """

    table: OutcomeTable

    @property
    def meta(self) -> Mapping[str, Any]:
        """The content of T.json."""
        return self.table.meta

    @property
    def board(self) -> dict[str, Any]:
        """Where they were measured."""
        return dict(self.meta.get("board") or {})

    def mean_ms(self, name: str) -> float:
        """Mean milliseconds of a candidate's own run; of an exit the increment."""
        return float(self.table.of(name).ms.mean())

    def through_ms(self, name: str) -> float | None:
        """Mean milliseconds of running through an exit without its head; None where unknown."""
        values = self.table.of(name).through
        return None if values is None else float(values.mean())

    def mj(self, name: str) -> float | None:
        """Millijoules of a candidate's own run; None where they were not measured."""
        values = self.table.of(name).mj
        return None if values is None else float(values.mean())

    def asked_ms(self, name: str) -> float:
        """Mean milliseconds of a candidate that is asked first."""
        return float(self.table.ms(name).mean())

    def asked_mj(self, name: str) -> float | None:
        """Millijoules of a candidate that is asked first; None where they were not measured."""
        values = self.table.path_mj((name,))
        return None if values is None else float(values.mean())

    def upper_ms(self, name: str) -> float:
        """A time that a new run, asked first, exceeds with probability at most 1%.

        Raises
        ------
        InputError
            when there are too few images.
        """
        return conformal_upper(self.table.ms(name))

    def disturbed(self) -> list[str]:
        """A sentence when the means are far above the medians, which other work makes them."""
        far = [
            name
            for name, outcomes in self.table.outcomes.items()
            if outcomes.ms.mean() > 1.5 * np.median(outcomes.ms)
        ]
        if not far:
            return []
        return [
            f"the mean times of {far} are more than 1.5 times their medians: other work ran, or "
            "the clocks were still rising; measure again on a quiet machine"
        ]

    def write(self, path: Path) -> None:
        """Write T.csv and T.json."""
        check_table_name(path)
        table = self.table
        columns: list[tuple[str, Sequence[Any]]] = [
            ("image", table.images),
            ("decode:ms", table.decode_ms.round(4).tolist()),
            ("features:ms", table.features_ms.round(4).tolist()),
        ]
        for name, outcomes in table.outcomes.items():
            for part in _PARTS:
                values = getattr(outcomes, part)
                if values is not None:
                    columns.append((f"{name}:{part}", values.round(5).tolist()))
        meta = {**self.meta, "format": FORMAT, "kind": "times", "rows": len(table)}
        with written_aside(path) as aside:
            with open(aside, "w", newline="", encoding="utf-8") as file:
                write_lines(file, [[name for name, _ in columns]])
                write_lines(file, zip(*(values for _, values in columns)))
            write_json(path.with_suffix(".json"), meta)

    @classmethod
    def read(cls, path: str | Path) -> Times:
        """Read T.csv with the T.json beside it.

        Raises
        ------
        TableError
            with one sentence, when they are no times or damaged.
        """
        return _read(Path(path))


def _read(path: Path) -> Times:
    columns = read_csv(path)
    beside = path.with_suffix(".json")
    try:
        meta = read_json(beside, "the times'")
        fields = Fields(meta, beside.name)
        check_format(fields, FORMAT)
        if fields.get("kind", str, default=None) != "times":
            raise TableError(f"{beside.name} does not belong to times but to an outcome table")
        entries = [Fields(e, f"{beside.name}: candidate") for e in fields.get("candidates", list)]
        for entry in entries:
            entry.get("input", dict, default=None)
        after = {e.get("name", str): e.get("after", str, default=None) for e in entries}
        features = fields.texts("features", default=())
    except TableError:
        raise
    except InputError as exc:
        raise TableError(str(exc)) from exc
    columns.need(["image", "decode:ms", "features:ms", *(f"{name}:ms" for name in after)])
    count = len(columns)
    nothing = np.zeros(count, bool)

    def optional(column: str, **limits: float) -> np.ndarray | None:
        return columns.numbers(column, **limits) if column in columns.header else None

    outcomes = {
        name: Outcomes(
            nothing,
            nothing,
            np.zeros(count),
            columns.numbers(f"{name}:ms", above=0),
            optional(f"{name}:mj", above=0),
            earlier,
            optional(f"{name}:through", above=0),
            optional(f"{name}:scale", at_least=0),
            optional(f"{name}:normalise", at_least=0),
        )
        for name, earlier in after.items()
    }
    table = OutcomeTable(
        tuple(columns.unique("image")),
        np.zeros(count, np.int64),
        features,
        np.zeros((count, len(features))),
        outcomes,
        columns.numbers("decode:ms", at_least=0),
        columns.numbers("features:ms", at_least=0),
        meta=meta,
    )
    return Times(table)


def measure_times(
    bundle: Bundle,
    images: Path | None = None,
    count: int = IMAGES,
    threads: int = 1,
    features: str = "all+extra",
    size: tuple[int, int] | None = None,
    energies: Callable[[Mapping[str, Callable[[], object]]], Energies] | None = None,
    engines: Engines | None = None,
    extractor: Extractor | None = None,
) -> tuple[Times, list[str]]:
    """Run every candidate on some images for the times alone, and say what was left out.

    Parameters
    ----------
    images : a folder of images, with or without sub-folders; made-up ones when left out
    count : number of images
    size : width and height of made-up images; as large as the networks need when left out
    energies : as for `Profiler.profile`
    engines, extractor : as for `Profiler`

    Raises
    ------
    InputError
        when there are no images that can be read.
    """
    from adaptive.images.preprocess import needed_short
    from adaptive.measuring.profiling import Profiler

    passed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="adaptive-times-") as made:
        root = Path(made)
        if images is None:
            short = max(needed_short(c.input) for c in bundle.candidates)
            size = size or (round(short * 4 / 3), short)
            names = make_up(root, count, size)
            origin: dict[str, Any] = {"made_up": True, "size": list(size), "count": count}
        else:
            names, passed = _found(images, count)
            root, origin = images, {"made_up": False, "count": len(names)}
        kind = Profiler
        if bundle.task == "detect":
            from adaptive.measuring.box_profiling import BoxProfiler

            kind = BoxProfiler
        profiler = kind(bundle, threads, features, engines=engines, extractor=extractor)
        try:
            listed = LabelledImages(root, tuple(names), (0,) * len(names))
            output = Path(made) / "times.csv"
            left_out = profiler.profile(listed, output, False, energies)
        finally:
            profiler.close()
        table = OutcomeTable.read(output)
    meta = {k: v for k, v in table.meta.items() if k not in ("schema", "classes", "reference")}
    return Times(replace(table, meta={**meta, "images": origin})), [*passed, *left_out]


def make_up(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """Write JPEG images that look like nothing but cost what photographs cost; their names.

    size : width and height, pixels
    """
    from PIL import Image

    width, height = size
    names = []
    for number in range(count):
        draw = np.random.default_rng(number)
        coarse = draw.integers(0, 256, (max(2, height // 32), max(2, width // 32), 3), np.uint8)
        smooth = np.asarray(
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16
        )
        grain = draw.normal(0, 8, (height, width, 1))
        pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        names.append(f"made-up-{number:04}.jpg")
        Image.fromarray(pixels).save(folder / names[-1], quality=90)
    return names


def _found(folder: Path, count: int) -> tuple[list[str], list[str]]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of images")
    below = files_below(folder)
    if not below.images:
        raise InputError(f"no images in {folder}; {sorted(SUFFIXES)} are read")
    # Evenly from all folders, so that no class alone decides about the size.
    step = max(1, len(below.images) // count)
    return list(below.images[::step][:count]), passed_over(below.others, f"folder {folder}")


def with_times(table: OutcomeTable, times: Times, name: str = "times") -> OutcomeTable:
    """The outcome table with times that were measured elsewhere.

    An image that both know gets its own times. Otherwise every image of the table is given the
    times of one that was measured, each as often as the others, in an order that is drawn:
    means and quantiles are those of the measurement, and no image's times are its own.

    Raises
    ------
    InputError
        when the times are of other networks or lack a candidate, or of other features.
    """
    measured = times.table
    own = {entry["name"]: entry for entry in table.meta.get("candidates") or []}
    there = {entry["name"]: entry for entry in times.meta.get("candidates") or []}
    missing = [n for n in table.candidates if n not in measured.outcomes]
    if missing:
        raise InputError(f"{name} has no times of {missing}; it has {list(measured.outcomes)}")
    for candidate in table.candidates:
        hashes = [e.get(candidate, {}).get("sha256") for e in (own, there)]
        if None not in hashes and hashes[0] != hashes[1]:
            raise InputError(
                f"{name} was measured with another {candidate!r}: its SHA-256 is "
                f"{hashes[1][:12]}…, that of the table's is {hashes[0][:12]}…"
            )
    unknown = [n for n in table.features if n not in measured.feature_ms]
    if unknown:
        raise InputError(
            f"{name} was measured without the features {unknown}; measure again with --features "
            "all+extra, and with --extractor where they are your own"
        )
    known = {image: row for row, image in enumerate(measured.images)}
    matched = all(image in known for image in table.images)
    if matched:
        rows = np.array([known[image] for image in table.images])
    else:
        rows = np.random.default_rng(0).permutation(len(table)) % len(measured)
    outcomes = {}
    for n, o in table.outcomes.items():
        own_times = measured.of(n).rows(rows)
        outcomes[n] = replace(
            own_times, quality=o.quality, top5=o.top5, confidence=o.confidence, after=o.after
        )
    # Of the features that were timed, the table's own share.
    each = measured.feature_ms
    share = 1.0
    if sum(each.values()) > 0 and set(table.features) != set(measured.features):
        share = cost_ms(table.features, measured.features, each) / sum(each.values())
    meta = {
        **{k: v for k, v in table.meta.items() if k not in ("board", "threads", "energy")},
        **{k: times.meta[k] for k in ("board", "threads", "energy") if k in times.meta},
        "candidates": [
            {"input": there.get(name, {}).get("input"), **entry} for name, entry in own.items()
        ],
        "feature_ms": {n: each[n] for n in table.features},
        "times": {"of": name, "images": len(measured), "same_images": matched},
    }
    return replace(
        table,
        outcomes=outcomes,
        decode_ms=measured.decode_ms[rows],
        features_ms=measured.features_ms[rows] * min(1.0, share),
        meta=meta,
    )


def check_rewritable(bundle: Bundle, count: int) -> None:
    """Raise InputError unless a bundle's times can be replaced by those of `count` images."""
    parent = bundle.folder.resolve().parent
    if not os.access(parent, os.W_OK):
        raise InputError(f"{bundle.folder} cannot be replaced: {parent} may not be written to")
    if bundle.policy.upper_ms is not None and count < fewest():
        raise InputError(
            f"the policy of {bundle.folder} keeps deadlines, and needs times of at least "
            f"{fewest()} images, not {count}"
        )


def rewrite_times(bundle: Bundle, times: Times) -> list[str]:
    """Put these times in place of a bundle's, in manifest and policy, and say what that means.

    The folder is replaced as a whole: the networks are linked, not copied, and a command that is
    stopped leaves the bundle as it was.

    Raises
    ------
    InputError, BundleError
        when the folder cannot be replaced.
    """
    manifest = read_json(bundle.folder / MANIFEST, "manifest")
    notes = []
    energies = {name: times.mj(name) for name in bundle.names}
    stale = [
        c.name for c in bundle.candidates if c.mj is not None and energies[c.name] is None
    ] if not _same_board(bundle.board, times.board) else []  # fmt: skip
    if stale:
        notes.append(f"the energies of {stale} were another board's and are left out")
    for entry in manifest["candidates"]:
        name = entry["name"]
        entry["ms"] = round(times.mean_ms(name), 5)
        through = times.through_ms(name)
        if through is not None and entry.get("through"):
            entry["through"]["ms"] = round(through, 5)
        if energies[name] is not None or name in stale:
            entry["mj"] = energies[name]
    manifest["board"] = times.board
    policy = None
    if manifest.get("policy"):
        names = bundle.policy.candidates
        policy = retimed(
            bundle.policy,
            {n: times.asked_ms(n) for n in names},
            {n: times.upper_ms(n) for n in names} if bundle.policy.upper_ms else None,
            {n: mj for n in names if (mj := times.asked_mj(n)) is not None},
        )
        if policy.weighs_times:
            notes.append(
                "the policy weighs chances against the times that it was tuned with, and keeps "
                "those; to have it choose by these, give them to adaptive tune (--times)"
            )
    folder = bundle.folder.resolve()
    with folder_aside(folder) as aside:
        for path in sorted(folder.rglob("*")):
            target = aside / path.relative_to(folder)
            if path.is_dir():
                target.mkdir()
            else:
                _link(path, target)
        if policy is not None:
            write_policy(policy, aside / manifest["policy"])
            manifest["files"][manifest["policy"]] = sha256(aside / manifest["policy"])
        write_json(aside / MANIFEST, manifest)
        Bundle.read(aside)
    if bundle.certificate is not None:
        notes.append(
            "the certificate stays: it speaks of answers, which times do not change; the times "
            "and the board that it mentions are those it was made with"
        )
    return notes


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _same_board(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("model") == other.get("model") and mode_of(one) == mode_of(other)
