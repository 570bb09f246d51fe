"""The outcome table: what every candidate said about every labelled image, and at what cost.

`X.csv` holds one row an image, `X.json` beside it what was measured with what, and
`X.probs/NAME.npy` the probabilities. What an answer is worth, 0..1, is `NAME:<quality>`: X.json
names the quality, `top1` where it says nothing. Reserved columns are `image`, `label`,
`decode:ms`, `features:ms`, and for each candidate its quality, `NAME:top5`, `NAME:confidence`,
`NAME:ms`, where energy was measured `NAME:mj`, for an exit that can be run through without its
head `NAME:through`, and for what reads images `NAME:scale` and `NAME:normalise`, the parts of its
time that are saved where a candidate that reads the same ran before; every other column is a
feature. A user's own table needs `image`, `NAME:<quality>` and `NAME:ms` alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.candidate import check_name, positions, run_order
from adaptive.csvfile import Columns, read_csv
from adaptive.csvlines import write_lines
from adaptive.errors import InputError, TableError
from adaptive.features.cost import cost_ms
from adaptive.features.provenance import own_among
from adaptive.features.schema import Schema
from adaptive.files import (
    Fields,
    check_format,
    read_json,
    refuse_folder,
    sha256,
    write_json,
    written_aside,
)
from adaptive.outcomes.quality import (
    AGREEMENTS,
    OF_CLASSES,
    TOP1,
    check_quality,
    is_binary,
    quality_words,
    right_or_wrong,
)
from adaptive.segments import Segments

FORMAT = 1

#: Columns of a candidate beside its quality.
PARTS = ("top5", "confidence", "ms", "mj", "through", "scale", "normalise")
#: More classes than this are a mistake in the table.
MAX_CLASSES = 10_000_000
RESERVED = ("image", "label", "decode:ms", "features:ms")
#: Rows that are written at once.
ROWS = 20_000


@dataclass(frozen=True)
class Outcomes:
    """One candidate's columns, each of shape (n,).

    Attributes
    ----------
    quality : what the answer is worth, 0..1: bool where it is right or wrong, else float64
    top5 : bool, whether one of the five best classes was right; None where answers are no classes
    confidence : float64 in 0..1, the highest probability; 1 where the table does not tell
    ms, mj : float64, its own preprocessing plus its run; the increment after `after` for an exit
    through : float64, milliseconds where only a later exit is asked and the head is left out;
        None where the whole segment runs then too
    scale, normalise : float64, the parts of `ms` that scaling the image and making the network's
        input of it took; None where unknown, and for an exit that reads a state
    """

    quality: np.ndarray
    top5: np.ndarray | None
    confidence: np.ndarray
    ms: np.ndarray
    mj: np.ndarray | None = None
    after: str | None = None
    through: np.ndarray | None = None
    scale: np.ndarray | None = None
    normalise: np.ndarray | None = None

    def rows(self, chosen: np.ndarray) -> Outcomes:
        """The same for some of the images."""
        return Outcomes(
            self.quality[chosen],
            _some(self.top5, chosen),
            self.confidence[chosen],
            self.ms[chosen],
            _some(self.mj, chosen),
            self.after,
            _some(self.through, chosen),
            _some(self.scale, chosen),
            _some(self.normalise, chosen),
        )

    def run_ms(self, headless: bool) -> np.ndarray:
        """Milliseconds of one run of the segment."""
        return self.through if headless and self.through is not None else self.ms


@dataclass(frozen=True)
class OutcomeTable:
    """An outcome table in memory; probabilities stay on disk, memory-mapped.

    Attributes
    ----------
    images : names, one a row
    label : ndarray (n,), int64, class indices; all 0 where answers are no classes
    features : names of the feature columns
    X : ndarray (n, d), float64
    outcomes : candidate name -> Outcomes, in the table's order
    decode_ms, features_ms : ndarray (n,), float64
    probabilities : candidate name -> ndarray (n, classes), float16
    meta : the content of X.json
    row : ndarray (n,), each image's row in the probability files
    merged : from candidates in the order in which they ran to what their merged answers are worth,
        for all rows of the files; None where the last one's answer is taken
    """

    images: tuple[str, ...]
    label: np.ndarray
    features: tuple[str, ...]
    X: np.ndarray
    outcomes: Mapping[str, Outcomes]
    decode_ms: np.ndarray
    features_ms: np.ndarray
    probabilities: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)
    row: np.ndarray | None = field(default=None, repr=False)
    merged: Callable[[Sequence[str]], np.ndarray] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of the candidates, in the table's order."""
        return tuple(self.outcomes)

    @property
    def quality_name(self) -> str:
        """What an answer's worth is called: `top1`, `agreement`, `f1`, or a user's own."""
        return str(self.meta.get("quality") or TOP1)

    @property
    def agrees_with(self) -> str | None:
        """The candidate whose answers stand for the right ones; None where others do."""
        known = self.meta.get("reference") if self.quality_name in AGREEMENTS else None
        return known if known in self.outcomes else None

    @property
    def binary(self) -> bool:
        """Whether every answer is worth 0 or 1, which some tests need."""
        return all(is_binary(o.quality) for o in self.outcomes.values())

    @property
    def of_classes(self) -> bool:
        """Whether an average of answers can be judged: by its class, held against the label."""
        return self.quality_name in OF_CLASSES

    @property
    def schema_version(self) -> int | None:
        """Version of the feature schema, or None when nothing is known about it."""
        schema = self.meta.get("schema")
        return schema.get("version") if isinstance(schema, dict) else None

    @property
    def own_features(self) -> tuple[str, ...]:
        """Those feature columns that are a user's own, whatever they are called."""
        return own_among(self.features, self.meta)

    @property
    def feature_ms(self) -> dict[str, float]:
        """Milliseconds of each feature by itself, where they were measured."""
        return dict(self.meta.get("feature_ms") or {})

    @property
    def reads(self) -> dict[str, dict[str, Any]]:
        """What the candidates that read images make of them, as in a manifest, where known."""
        entries = self.meta.get("candidates") or []
        return {entry["name"]: entry["input"] for entry in entries if entry.get("input")}

    def of(self, name: str) -> Outcomes:
        """One candidate's outcomes, or an InputError that lists what there is."""
        positions([name], self.outcomes, "the outcome table")
        return self.outcomes[name]

    def quality(self, name: str) -> np.ndarray:
        """What the answers of `name` are worth, shape (n,)."""
        return self.of(name).quality

    def path_quality(self, path: Sequence[str]) -> np.ndarray:
        """What the answer is worth after these candidates ran in this order, shape (n,)."""
        if self.merged is None or len(path) < 2:
            return self.quality(path[-1])
        worth = self.merged(path)
        return worth if self.row is None else np.asarray(worth[self.row])

    def right_or_wrong(self, names: Sequence[str]) -> np.ndarray:
        """Outcomes of candidates as 0 and 1, (n, len(names)), uint8; see `outcomes.quality`."""
        return right_or_wrong(np.stack([self.quality(name) for name in names], axis=1))

    @property
    def segments(self) -> Segments:
        """Which segments run when candidates are asked."""
        return Segments(
            {name: o.after for name, o in self.outcomes.items()},
            (name for name, o in self.outcomes.items() if o.through is not None),
        )

    def ms(self, name: str) -> np.ndarray:
        """Milliseconds of `name` when asked first: an exit's includes what it comes after."""
        return self.path_ms((name,))

    def path_ms(self, path: Sequence[str]) -> np.ndarray:
        """Milliseconds of asking exactly these candidates in this order, shape (n,).

        A segment is charged once, without its head where the path only runs through it.
        """
        positions(path, self.outcomes, "the outcome table")
        return sum(self._steps_ms(path), np.zeros(len(self)))

    def step_ms(self, path: Sequence[str]) -> np.ndarray:
        """Milliseconds of asking the last candidate of a path after the others, shape (n,)."""
        positions(path, self.outcomes, "the outcome table")
        return self._steps_ms(path)[-1]

    def _steps_ms(self, path: Sequence[str]) -> list[np.ndarray]:
        """Milliseconds of each candidate of a path after those before it."""
        found = []
        before: list[str] = []
        for runs in self.segments.steps(path):
            spent = np.zeros(len(self))
            for segment, headless in runs:
                spent += self.outcomes[segment].run_ms(headless) - self._saved(segment, before)
                before.append(segment)
            found.append(spent)
        return found

    def _saved(self, name: str, before: Sequence[str]) -> np.ndarray | float:
        """What `name` need not do because of candidates that ran before: images are prepared
        once for all that read the same, and scaled once for all that see the same pixels."""
        own, reads = self.outcomes[name], self.reads
        if own.scale is None or own.normalise is None or name not in reads:
            return 0.0
        made = [reads[earlier] for earlier in before if earlier in reads]
        if reads[name] in made:
            return np.asarray(own.scale + own.normalise)
        seen = [_pixels(entry) for entry in made]
        return own.scale if _pixels(reads[name]) in seen else 0.0

    def path_mj(self, path: Sequence[str]) -> np.ndarray | None:
        """The same in millijoules; None where the energy of a segment is not known.

        A segment that is run through is charged whole, since only whole ones are measured.
        """
        positions(path, self.outcomes, "the outcome table")
        ran = [segment for runs in self.segments.steps(path) for segment, _ in runs]
        spent = [mj for mj in (self.outcomes[n].mj for n in ran) if mj is not None]
        return None if len(spent) < len(ran) else sum(spent, np.zeros(len(self)))

    def probabilities_of(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Probabilities (n, classes) of `name`; an InputError where the table holds none."""
        if name not in self.probabilities:
            raise InputError(
                f"the outcome table holds no probabilities of {name!r}; profile again with "
                "--probabilities, or use a policy on confidences"
            )
        wanted = self.row
        if rows is not None:
            wanted = rows if wanted is None else wanted[rows]
        values = self.probabilities[name]
        return np.asarray(values if wanted is None else values[wanted])

    def select(self, rows: np.ndarray) -> OutcomeTable:
        """The table of some of its images, by row number or mask."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.asarray(rows)
        return replace(
            self,
            images=tuple(self.images[r] for r in rows),
            label=self.label[rows],
            X=self.X[rows],
            outcomes={name: o.rows(rows) for name, o in self.outcomes.items()},
            decode_ms=self.decode_ms[rows],
            features_ms=self.features_ms[rows],
            row=rows if self.row is None else self.row[rows],
        )

    def feature_columns(
        self, names: tuple[str, ...], own: Sequence[str] | None = None
    ) -> np.ndarray:
        """The named features as ndarray (n, len(names)); unknown names are an InputError.

        Parameters
        ----------
        own : those that the reader takes for a user's own columns: a column of the same name
            that comes from elsewhere is refused. None asks nothing, and a table that says
            nothing about its columns is taken to hold what is asked for.
        """
        missing = [n for n in names if n not in self.features]
        if missing:
            raise InputError(
                f"the outcome table has no features {missing}; it has {list(self.features)}"
            )
        if own is not None and self.schema_version is not None:
            foreign = set(self.own_features)
            for name in names:
                if (name in own) != (name in foreign):
                    whose = ("your own", "this library's")
                    raise InputError(
                        f"column {name!r} of the outcome table is {whose[name not in foreign]}, "
                        f"but the premodel learned from {whose[name not in own]} of that name; "
                        "train it on this table, or rename the column"
                    )
        return self.X[:, [self.features.index(n) for n in names]]

    def features_cost(self, names: tuple[str, ...]) -> np.ndarray:
        """Milliseconds an image for computing only the features in `names`, shape (n,).

        The measured time of all features in the table, times the share that the named ones
        have by their own measured times; one of a group carries all of its group
        (`adaptive.features.cost`).
        """
        if not names:
            return np.zeros(len(self))
        each = self.feature_ms
        total = sum(each.get(n, 0.0) for n in self.features)
        if total <= 0 or any(n not in each for n in names):
            return self.features_ms
        return self.features_ms * min(1.0, cost_ms(names, self.features, each) / total)

    @classmethod
    def from_arrays(
        cls,
        images: Sequence[str],
        quality: Mapping[str, np.ndarray],
        ms: Mapping[str, np.ndarray],
        confidence: Mapping[str, np.ndarray] | None = None,
        mj: Mapping[str, np.ndarray] | None = None,
        features: Mapping[str, np.ndarray] | None = None,
        quality_name: str = "quality",
    ) -> OutcomeTable:
        """A table of outcomes that were measured elsewhere; what a CSV of one's own holds.

        Parameters
        ----------
        images : names, each once, (n,)
        quality : candidate name -> what its answers are worth, (n,), 0..1
        ms, mj : candidate name -> milliseconds and millijoules an image, (n,), or one number
        confidence : candidate name -> how sure it is of its answers, (n,), 0..1; always sure where
            it is left out, and no cascade goes on from it then
        features : name -> a number an image, (n,)
        quality_name : what the quality is called

        Raises
        ------
        InputError
            when lengths differ, a candidate lacks its times, or a number is out of its range.
        """
        return _from_arrays(
            tuple(images), quality, ms, confidence or {}, mj or {}, features or {}, quality_name
        )

    @classmethod
    def read(cls, path: str | Path) -> OutcomeTable:
        """Read `X.csv` with what lies beside it.

        Raises
        ------
        TableError
            with one sentence that names the file and the row or column, what was found and
            what is allowed.
        """
        return _read(Path(path))

    def write(self, path: Path) -> None:
        """Write `X.csv` and `X.json`; probabilities are the profiler's to write."""
        check_table_name(path)
        meta = {**self.meta, "format": FORMAT, "rows": len(self)}
        written: list[tuple[str, Callable[[slice], Sequence[str]]]] = [
            ("image", lambda rows: self.images[rows]),
            ("label", lambda rows: [str(int(v)) for v in self.label[rows]]),
            ("decode:ms", _texts(self.decode_ms, "%.4f")),
            ("features:ms", _texts(self.features_ms, "%.4f")),
        ]
        written += [(n, _texts(self.X[:, i], "%.9g")) for i, n in enumerate(self.features)]
        quality = self.quality_name
        for name, o in self.outcomes.items():
            form = "%d" if o.quality.dtype == bool else "%.9g"
            written.append((f"{name}:{quality}", _texts(o.quality, form)))
            if o.top5 is not None:
                written.append((f"{name}:top5", _texts(o.top5, "%d")))
            written += [
                (f"{name}:confidence", _texts(o.confidence, "%.9g")),
                (f"{name}:ms", _spent(o.ms)),
            ]
            for part in ("mj", "through", "scale", "normalise"):
                values = getattr(o, part)
                if values is not None:
                    written.append((f"{name}:{part}", _spent(values)))
        with written_aside(path) as aside:
            with open(aside, "w", newline="", encoding="utf-8") as file:
                write_lines(file, [[name for name, _ in written]])
                # Some rows at a time: the texts of a million would fill the memory.
                for begin in range(0, len(self), ROWS):
                    rows = slice(begin, begin + ROWS)
                    write_lines(file, zip(*(texts(rows) for _, texts in written)))
            # The CSV is what makes it a table, so it comes last.
            write_json(path.with_suffix(".json"), meta)


def _from_arrays(
    images: tuple[str, ...],
    quality: Mapping[str, np.ndarray],
    ms: Mapping[str, np.ndarray],
    confidence: Mapping[str, np.ndarray],
    mj: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    quality_name: str,
) -> OutcomeTable:
    check_quality(quality_name, PARTS)
    if not images or len(set(images)) < len(images) or not quality:
        raise InputError("a table needs candidates, and images with names of which none is twice")
    for image in images:
        if not isinstance(image, str) or not image.strip():
            raise InputError(f"an image is called {image!r}; names are texts, and not empty")
    for name in quality:
        check_name(name)
    for name in features:
        if not isinstance(name, str) or not name.strip() or ":" in name or name in RESERVED:
            raise InputError(
                f"a feature cannot be called {name!r}: names are texts without ':', not empty, and "
                f"{list(RESERVED[:2])} are other columns"
            )
    for part, given in (("ms", ms), ("confidence", confidence), ("mj", mj)):
        positions(list(given), quality, f"the quality, of which {part} is given too")
    positions(list(quality), ms, "the milliseconds")

    def checked(what: str, values: Any, low: float, high: float, allowed: str) -> np.ndarray:
        try:
            found = np.broadcast_to(np.asarray(values, np.float64), (len(images),)).copy()
        except (TypeError, ValueError):
            raise InputError(f"{what} is no array of {len(images)} numbers, one an image") from None
        if not (np.isfinite(found) & (found >= low) & (found <= high)).all():
            raise InputError(f"{what} holds a number that is not {allowed}")
        return found

    tiny = np.finfo(np.float64).tiny
    count = len(images)
    outcomes = {}
    for name, values in quality.items():
        worth = checked(f"quality of {name!r}", values, 0, 1, "between 0 and 1")
        outcomes[name] = Outcomes(
            worth.astype(bool) if quality_name in OF_CLASSES else worth,
            None,
            checked(f"confidence of {name!r}", confidence.get(name, 1.0), 0, 1, "between 0 and 1"),
            checked(f"ms of {name!r}", ms[name], tiny, np.inf, "above 0"),
            checked(f"mj of {name!r}", mj[name], tiny, np.inf, "above 0") if name in mj else None,
        )
        if quality_name in OF_CLASSES and not is_binary(worth):
            raise InputError(
                f"{quality_words(quality_name)} of {name!r} is neither 0 nor 1 on some image; call "
                "a quality between them by another name"
            )
    columns = [checked(f"feature {n!r}", v, -np.inf, np.inf, "finite") for n, v in features.items()]
    return OutcomeTable(
        images,
        np.zeros(count, np.int64),
        tuple(features),
        np.stack(columns, axis=1) if columns else np.empty((count, 0)),
        outcomes,
        np.zeros(count),
        np.zeros(count),
        meta={"quality": quality_name},
    )


def _some(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else np.asarray(values[rows])


def _pixels(entry: Mapping[str, Any]) -> list[Any]:
    """Candidates with the same see the same pixels before they are normalised."""
    parts = ["size", "resize"]
    if entry.get("resize") == "fit":
        parts += ["pad", "place", "channels"]
    return [entry.get(part) for part in parts]


def _texts(values: np.ndarray, form: str) -> Callable[[slice], Sequence[str]]:
    return lambda rows: [form % v for v in values[rows].tolist()]


def _spent(values: np.ndarray) -> Callable[[slice], Sequence[str]]:
    """Times or energies; what is too small for five decimals must not become 0."""
    small = ((values > 0) & (values < 1e-3)).any()
    return _texts(values, "%.9g" if small else "%.5f")


def is_table(header: Sequence[str]) -> bool:
    """Whether a CSV with these columns is an outcome table, and no list of best candidates."""
    return "best" not in header and any(c.endswith(":ms") and c not in RESERVED for c in header)


def _read(path: Path) -> OutcomeTable:
    columns = read_csv(path)
    meta = _read_meta(path, len(columns))
    quality, names = _named_quality(path, columns.header, meta)
    for name in names:
        try:
            check_name(name)
        except InputError as exc:
            raise TableError(f"{path.name}: column {name + ':' + quality!r}: {exc}") from exc
        columns.need((f"{name}:{quality}", f"{name}:ms"))
        if quality == TOP1 and "candidates" in meta:  # of `adaptive profile`, which writes all
            columns.need((f"{name}:top5", f"{name}:confidence"))
    columns.need(RESERVED if "candidates" in meta else ("image",))
    own = {f"{name}:{part}" for name in names for part in (*PARTS, quality)} | set(RESERVED)
    features = tuple(c for c in columns.header if c not in own)
    for feature in features:
        if ":" in feature:
            raise TableError(
                f"{path.name}: column {feature!r} belongs to no candidate of the table {names}"
            )
    after = {entry["name"]: entry.get("after") for entry in meta.get("candidates") or []}
    try:
        run_order({name: after.get(name) for name in names})
    except InputError as exc:
        raise TableError(f"{path.with_suffix('.json').name}: {exc}") from exc
    classes = meta.get("classes")
    label = _labels(columns, classes)

    def number(column: str, **limits: float) -> np.ndarray | None:
        return columns.numbers(column, **limits) if column in columns.header else None

    def zeros(column: str) -> np.ndarray:
        found = number(column, at_least=0)
        return np.zeros(len(columns)) if found is None else found

    outcomes = {
        name: Outcomes(
            columns.flags(f"{name}:{quality}").astype(bool)
            if quality in OF_CLASSES
            else columns.numbers(f"{name}:{quality}", at_least=0, at_most=1),
            columns.flags(f"{name}:top5").astype(bool)
            if f"{name}:top5" in columns.header
            else None,
            _or_sure(number(f"{name}:confidence", at_least=0, at_most=1.0001), len(columns)),
            columns.numbers(f"{name}:ms", above=0),
            number(f"{name}:mj", above=0),
            after.get(name),
            number(f"{name}:through", above=0),
            number(f"{name}:scale", at_least=0),
            number(f"{name}:normalise", at_least=0),
        )
        for name in names
    }
    return OutcomeTable(
        tuple(columns.unique("image", path=True)),
        label,
        features,
        columns.matrix(features),
        outcomes,
        zeros("decode:ms"),
        zeros("features:ms"),
        _read_probabilities(path, names, len(columns), classes, int(label.max())),
        {**meta, "quality": quality} if quality != TOP1 else meta,
    )


def _named_quality(
    path: Path, header: Sequence[str], meta: Mapping[str, Any]
) -> tuple[str, list[str]]:
    """What the quality is called, and the candidates that have it.

    Where no file says it, it is `top1`, or else the one ending that every candidate has beside
    `NAME:ms` and that is no other column's.
    """
    known = [c.rpartition(":")[0] for c in header if c.endswith(":ms") and c not in RESERVED]
    told = meta.get("quality")
    if told is None and any(c.endswith(f":{TOP1}") for c in header):
        told = TOP1
    if told is None:
        ends = [
            {c.rpartition(":")[2] for c in header if c.rpartition(":")[0] == name} - set(PARTS)
            for name in known
        ]
        shared = sorted(set.intersection(*ends)) if ends else []
        if not known:
            raise TableError(f"{path.name} is no outcome table: it has no column NAME:ms")
        if len(shared) != 1:
            found = f"the endings {shared}" if shared else "none"
            raise TableError(
                f"{path.name} is no outcome table: beside NAME:ms every candidate needs one column "
                f"NAME:<quality>, such as NAME:{TOP1}; {found} would do"
            )
        told = shared[0]
    try:
        check_quality(told, PARTS)
    except InputError as exc:
        raise TableError(f"{path.name}: {exc}") from exc
    end = f":{told}"
    names = list(dict.fromkeys(c[: -len(end)] for c in header if c.endswith(end)))
    if not names:
        raise TableError(f"{path.name} is no outcome table: it has no column NAME:{told}")
    return told, names


def _labels(columns: Columns, classes: int | None) -> np.ndarray:
    if "label" not in columns.header:
        return np.zeros(len(columns), np.int64)
    last = MAX_CLASSES - 1 if classes is None else classes - 1
    label = columns.numbers("label", at_least=0, at_most=last)
    fraction = np.flatnonzero(label != np.floor(label))
    if len(fraction):
        raise columns.error(int(fraction[0]), "label", "a class index, a whole number >= 0")
    return label.astype(np.int64)


def _or_sure(confidence: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count) if confidence is None else confidence


def _read_meta(path: Path, rows: int) -> dict[str, Any]:
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        values = read_json(beside, "the outcome table's")
        fields = Fields(values, beside.name)
        check_format(fields, FORMAT)
        if fields.get("rows", int, default=rows) != rows:
            raise TableError(
                f"{path.name} has {rows} rows, but {beside.name} was written for {values['rows']}"
            )
        fields.texts("features", default=())
        if "quality" in values:
            check_quality(values["quality"], PARTS)
        schema = fields.get("schema", dict, default=None)
        if schema is not None:
            Schema.from_json(schema, beside.name)
        for value in fields.get("candidates", list, default=[]):
            entry = Fields(value, f"{beside.name}: candidate")
            check_name(entry.get("name", str))
            entry.get("after", str, default=None)
            entry.get("input", dict, default=None)
        if not 1 <= fields.get("classes", int, default=1) <= MAX_CLASSES:
            raise TableError(f"{beside.name} has {values['classes']} classes; 1 or more are needed")
        each = Fields(fields.get("feature_ms", dict, default={}), f"{beside.name}: feature_ms")
        for name in each.values:
            if each.get(name, float) < 0:
                raise TableError(f"{each.where}: {name!r} is {each.values[name]}, below 0")
    except TableError:
        raise
    except InputError as exc:
        raise TableError(str(exc)) from exc
    return values


def _read_probabilities(
    path: Path, names: list[str], rows: int, classes: int | None, last_label: int
) -> dict[str, np.ndarray]:
    folder = probabilities_folder(path)
    found: dict[str, np.ndarray] = {}
    for name in names:
        file = folder / f"{name}.npy"
        if not file.exists():
            continue
        try:
            # Not np.load, which would also open an archive of arrays. It refuses pickles.
            values = np.lib.format.open_memmap(file, mode="r")
        except Exception as exc:  # a damaged header fails in too many ways to list
            why = str(exc).split("\n", 1)[0]
            raise TableError(f"{file} is no array of probabilities: {why}") from exc
        if values.ndim != 2 or len(values) != rows or values.dtype.kind != "f":
            raise TableError(
                f"{file} has shape {values.shape} of {values.dtype}; the table needs "
                f"({rows}, classes) of float16"
            )
        width = values.shape[1]
        if width != (classes or width) or width <= last_label:
            needed = f"{classes} classes" if classes else f"a label {last_label}"
            raise TableError(f"{file} has {width} numbers an image; the table has {needed}")
        found[name] = values
    widths = {name: values.shape[1] for name, values in found.items()}
    if len(set(widths.values())) > 1:
        raise TableError(f"{folder} holds probabilities of different lengths: {widths}")
    return found


def check_table_name(path: Path) -> None:
    """Raise InputError unless `path` can be a table with its files beside it."""
    if path.suffix != ".csv":
        raise InputError(
            f"{path.name} must be called NAME.csv; NAME.json and NAME.probs go beside it"
        )
    refuse_folder(path)


def probabilities_folder(path: Path) -> Path:
    """Where the probabilities of the table at `path` lie."""
    return path.with_suffix(".probs")


def table_hash(path: Path) -> str:
    """SHA-256 of the table's CSV, to name it in what is made from it."""
    return sha256(Path(os.fspath(path)))
