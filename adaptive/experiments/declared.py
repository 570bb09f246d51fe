"""An experiment as its file declares it; all that is wrong with a file is found at once."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from adaptive.engines.onnxfile import read_signature
from adaptive.errors import AdaptiveError, InputError
from adaptive.experiments.fields import (
    NETWORK,
    OBJECTIVES,
    ONE,
    SEVERAL,
    TABLES,
    Field,
    sense_of,
)
from adaptive.experiments.lines import Place, line_at, lines_of
from adaptive.tomlfile import TomlError, parse_toml

#: Tables, and policies of each, that the lists of a file may span.
MOST = 1000

#: An experiment's name is that of its folder too.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Problem(NamedTuple):
    """Something that is wrong with an experiment file."""

    line: int
    words: str


class DeclarationError(InputError):
    """An experiment file cannot be run; `problems` are all that was found.

    Parameters
    ----------
    file : its name
    problems : at least one
    """

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = sorted(set(problems))
        super().__init__("\n".join(f"{file}, line {p.line}: {p.words}" for p in self.problems))


@dataclass(frozen=True)
class Experiment:
    """What a file declares, with every list of values still one value.

    Attributes
    ----------
    text : the file
    folder : what relative paths are relative to
    data : one mapping a data set; values may be lists, as in `candidates`, `measure`, `policies`
    """

    name: str
    text: str
    folder: Path
    seed: Any
    data: tuple[Mapping[str, Any], ...]
    candidates: Mapping[str, Any]
    measure: Mapping[str, Any]
    policies: tuple[Mapping[str, Any], ...]
    run: Mapping[str, Any]
    report: Mapping[str, Any]

    def path(self, text: str) -> Path:
        """A path of the file."""
        return path_in(self.folder, text)

    def tables(self) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
        """The outcome tables of the grid: what tells each apart, and its data, candidates, measure.

        Of one table alone nothing is told apart, and its name is "outcomes".
        """
        several = len(self.data) > 1
        for number, data in enumerate(self.data):
            # The networks are one folder of candidates, and no grid of several.
            networks = {k: [v] if k == "network" else v for k, v in self.candidates.items()}
            sections = {"data": data, "candidates": networks, "measure": self.measure}
            flat = {(s, k): v for s, values in sections.items() for k, v in values.items()}
            for chosen in grid(flat):
                found: dict[str, dict[str, Any]] = {s: {} for s in sections}
                for (section, key), value in chosen.items():
                    found[section][key] = value
                parts = [f"data{number + 1}"] if several else []
                parts += _told(flat, chosen)
                yield "_".join(parts) or "outcomes", found

    def chosen_policies(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The policies of the grid, each with a name of its own and its seed."""
        for number, policy in enumerate(self.policies):
            flat = {("policy", key): value for key, value in policy.items() if key != "name"}
            flat["one", "seed"] = self.seed
            for chosen in grid(flat):
                values = {key: value for (_, key), value in chosen.items()}
                name = policy.get("name") or _objective(values, number)
                told = _told(flat, chosen)
                if told and not policy.get("name"):
                    goal = next(o for o in OBJECTIVES if o in values)
                    told = [t for t in told if not t.startswith(f"{goal}-")]
                yield "_".join([name, *told]), values


def grid(values: Mapping[Any, Any]) -> Iterator[dict[Any, Any]]:
    """Every choice of one value from each list; a value that is none stands by itself.

    The first list changes slowest.
    """
    axes = [value if isinstance(value, list) else [value] for value in values.values()]
    for chosen in itertools.product(*axes):
        yield dict(zip(values, chosen))


def path_in(folder: Path, text: str) -> Path:
    """A path of an experiment file, relative to its folder.

    Raises
    ------
    InputError
        when it begins with a home that nobody has.
    """
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as exc:
        raise InputError(f"{text!r} is no path here: {exc}") from exc


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment file.

    Raises
    ------
    DeclarationError
        with all that is wrong with it, each with its line.
    InputError
        when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} is not there; name an experiment file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read: {exc}") from exc
    return declared(text, path.resolve().parent, path.name)


def declared(text: str, folder: Path, file: str = "experiment") -> Experiment:
    """The same of a text."""
    values = _parsed(text, file)
    check = _Check(values, text, folder)
    check.whole()
    if check.problems:
        raise DeclarationError(file, check.problems)
    data = values["data"]
    policies = values.get("policy", [])
    return Experiment(
        values["name"],
        text,
        folder,
        values.get("seed", 0),
        tuple(data if isinstance(data, list) else [data]),
        values["candidates"],
        values.get("measure", {}),
        tuple(policies if isinstance(policies, list) else [policies]),
        values.get("run", {}),
        values.get("report", {}),
    )


def _parsed(text: str, file: str) -> dict[str, Any]:
    try:
        return parse_toml(text, file)
    except TomlError as exc:
        raise DeclarationError(file, [Problem(exc.line, str(exc))]) from exc


class _Check:
    """Finds what is wrong with a file's values."""

    def __init__(self, values: Mapping[str, Any], text: str, folder: Path) -> None:
        self.values = values
        self.folder = folder
        self.lines = lines_of(text)
        self.problems: list[Problem] = []

    def wrong(self, place: Place, words: str) -> None:
        self.problems.append(Problem(line_at(self.lines, place), words))

    def whole(self) -> None:
        """Look at everything."""
        known = [*ONE, *TABLES]
        for key in self.values:
            if key not in known:
                self.wrong((key,), f"{key!r} is not known here; {known} are")
        name = self.values.get("name")
        if name is None:
            self.wrong((), 'the experiment has no name; write name = "..." at the top')
        elif not isinstance(name, str) or not NAME.fullmatch(name):
            self.wrong(("name",), f"name is {name!r}; letters, digits and . _ - are allowed")
        if "seed" in self.values:
            self.value(("seed",), "seed", ONE["seed"], self.values["seed"])
        for table in ("data", "candidates"):
            if self.values.get(table, []) == []:
                self.wrong((), f"there is no table [{table}], which every experiment needs")
        for table, fields in TABLES.items():
            for place, values in self.tables(table):
                if table == "candidates":
                    values = {k: v for k, v in values.items() if k != "network"}
                self.table(place, table, fields, values)
        self.data()
        self.candidates()
        self.policies()
        self.size()
        run = self.values.get("run", {})
        if isinstance(run, dict) and "queue" in run and "store" not in run:
            self.wrong(("run", "queue"), "a queue needs a store, where its workers put results")
        for key in ("store", "output"):
            text = run.get(key) if isinstance(run, dict) else None
            if isinstance(text, str) and (key == "output" or "://" not in text):
                self.path(("run", key), text)
        report = self.values.get("report", {})
        if isinstance(report, dict) and {"split", "folds"} <= set(report):
            self.wrong(
                ("report", "folds"), "folds answer every image, so there is no split; give one"
            )

    def tables(self, table: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """A table that stands once, or several times."""
        given = self.values.get(table)
        if given is None:
            return
        if isinstance(given, dict):
            yield (table,), given
        elif (
            isinstance(given, list) and table in SEVERAL and all(isinstance(g, dict) for g in given)
        ):
            for number, own in enumerate(given):
                yield (table, number), own
        else:
            form = f"[{table}] or [[{table}]]" if table in SEVERAL else f"[{table}]"
            self.wrong((table,), f"{table!r} must be a table, written {form}")

    def table(
        self, place: Place, table: str, fields: Mapping[str, Field], values: Mapping[str, Any]
    ) -> None:
        for key, value in values.items():
            if key not in fields:
                self.wrong(
                    (*place, key), f"{key!r} is not known in [{table}]; {sorted(fields)} are"
                )
            else:
                self.value((*place, key), key, fields[key], value, table)

    def value(self, place: Place, key: str, field: Field, value: Any, table: str = "") -> None:
        """One value, or each of those that span a grid."""
        each = value if isinstance(value, list) and field.grid else [value]
        if not each:
            self.wrong(place, f"{key} is an empty list; give {field.words}, or several")
        if isinstance(value, list) and field.grid and len(set(map(repr, value))) < len(value):
            self.wrong(place, f"{key} names a value twice: {value}")
        for one in each:
            words = field.problem(one) or sense_of(table, key, one)
            if words is not None:
                hint = "; only one value may stand here" if isinstance(one, list) else ""
                self.wrong(place, f"{key} {words}{hint}")

    def path(self, place: Place, text: str) -> Path | None:
        """A path; None where it is none."""
        if "\0" in text:
            return None  # said already
        try:
            return path_in(self.folder, text)
        except InputError as exc:
            self.wrong(place, str(exc))
        return None

    def there(self, place: Place, value: Any, what: str, folder: bool, url: bool = False) -> None:
        """A path, or several, that must be there; `url` says that URLs may stand for them."""
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or (url and "://" in text):
                continue
            path = self.path(place, text)
            if path is None:
                continue
            try:
                found = path.is_dir() if folder else path.is_file()
            except OSError as exc:
                self.wrong(place, f"{path} cannot be looked at: {exc.strerror}")
                continue
            if not found:
                self.wrong(place, f"{path} is no {what}")

    def data(self) -> None:
        for place, values in self.tables("data"):
            if "images" not in values:
                self.wrong(place, "[data] names no images")
            self.there((*place, "images"), values.get("images", []), "folder of images", True, True)
            self.there((*place, "labels"), values.get("labels", []), "file of labels", False)
            if values.get("unlabelled") is True and "labels" in values:
                self.wrong(
                    (*place, "unlabelled"), "images with labels are not unlabelled; leave one out"
                )
            images, labels = values.get("images"), values.get("labels")
            if isinstance(images, list) and len(images) > 1 and labels is not None:
                self.wrong(
                    (*place, "labels"),
                    "which labels belong to which of several folders is not said; write a [[data]] "
                    "table for each",
                )

    def candidates(self) -> None:
        given = self.values.get("candidates")
        if not isinstance(given, dict):
            return
        networks = given.get("network")
        if (networks is None) == ("folder" not in given):
            self.wrong(
                ("candidates",),
                "give a folder of candidates, or [[candidates.network]] tables, and not both",
            )
        self.there(("candidates", "folder"), given.get("folder", []), "folder of candidates", True)
        self.there(("candidates", "labels"), given.get("labels", []), "file of class names", False)
        if networks is None:
            if "labels" in given:
                self.wrong(
                    ("candidates", "labels"),
                    "a folder of candidates has its class names; labels go with "
                    "[[candidates.network]]",
                )
            return
        if not isinstance(networks, list) or not all(isinstance(n, dict) for n in networks):
            self.wrong(("candidates", "network"), "networks are written [[candidates.network]]")
            return
        if not networks:
            self.wrong(("candidates", "network"), "network is an empty list; name one at least")
        seen: set[str] = set()
        for number, network in enumerate(networks):
            place: Place = ("candidates", "network", number)
            self.table(place, "candidates.network", NETWORK, network)
            origins = [key for key in ("file", "zoo", "url") if key in network]
            if len(origins) != 1:
                self.wrong(
                    place, f"a network has one of file, zoo and url, not {origins or 'none'}"
                )
            self.there((*place, "file"), network.get("file", []), "ONNX file", False)
            self.scaling(place, network)
            name = network.get("name")
            if isinstance(name, str):
                if name in seen:
                    self.wrong((*place, "name"), f"two networks are called {name!r}")
                seen.add(name)

    def scaling(self, place: Place, network: Mapping[str, Any]) -> None:
        """How an ONNX file's pixels are scaled: told for floating point numbers, and no others."""
        file, like = network.get("file"), network.get("like")
        path = self.path(place, file) if isinstance(file, str) else None
        if path is None:
            return
        try:
            inputs = read_signature(path).inputs
        except (AdaptiveError, OSError):  # a damaged file is told of by who opens it
            return
        whole = [tensor.dtype for tensor in inputs] == ["uint8"]
        if like is None and not whole:
            self.wrong(
                place, 'how pixels are scaled no file says; write like = "imagenet", or another'
            )
        if whole and like not in (None, "0..255"):
            self.wrong(
                (*place, "like"),
                f"{file} reads uint8, which takes pixels as they are; leave like out",
            )

    def policies(self) -> None:
        seen: dict[str, int] = {}
        for number, (place, values) in enumerate(self.tables("policy")):
            goals = [goal for goal in OBJECTIVES if goal in values]
            extra = set(goals) - {"deadline_ms", "budget_ms"}
            if not goals or (len(goals) > 1 and extra):
                self.wrong(place, f"a policy has one of {list(OBJECTIVES)}, not {goals or 'none'}")
            self.there((*place, "file"), values.get("file", []), "policy file", False)
            kinds = values.get("kind", [])
            kinds = kinds if isinstance(kinds, list) else [kinds]
            if {"premodel", "hybrid"} & set(map(str, kinds)) and "premodel" not in values:
                self.wrong(
                    (*place, "kind"),
                    'a policy that goes by a premodel needs one; write premodel = "..."',
                )
            if "features" in values and "premodel" not in values:
                self.wrong(
                    (*place, "features"), "only a premodel reads features; write premodel too"
                )
            name = values.get("name")
            if isinstance(name, str):
                if not NAME.fullmatch(name):
                    self.wrong(
                        (*place, "name"), f"name is {name!r}; letters, digits and . _ - are allowed"
                    )
                if name in seen:
                    self.wrong((*place, "name"), f"two policies are called {name!r}")
                seen[name] = number

    def size(self) -> None:
        """Lists whose grid nobody could want."""
        sections = ("candidates", "measure")
        shared = math.prod(_choices(v) for s in sections for _, v in self.tables(s))
        count = sum(_choices(values) * shared for _, values in self.tables("data"))
        if count > MOST:
            self.wrong(
                ("data",),
                f"the lists of [data], [candidates] and [measure] span {count:,} tables; at most "
                f"{MOST:,} are allowed",
            )
        seeds = _choices({"seed": self.values.get("seed", 0)})
        count = sum(_choices(values) * seeds for _, values in self.tables("policy"))
        if count > MOST:
            self.wrong(
                ("policy",),
                f"the lists of [[policy]] and seed span {count:,} policies; at most {MOST:,} are "
                "allowed",
            )


def _choices(values: Mapping[str, Any]) -> int:
    """Ways to choose one value of each list."""
    lists = [v for k, v in values.items() if isinstance(v, list) and k != "network"]
    return math.prod(map(len, lists))


def _objective(values: Mapping[str, Any], number: int) -> str:
    """What a policy without a name is called: what it is tuned for."""
    for goal in OBJECTIVES:
        if goal in values:
            return _slug(goal, values[goal])
    return f"policy{number + 1}"


def _told(flat: Mapping[Any, Any], chosen: Mapping[Any, Any]) -> list[str]:
    """What tells one choice of a grid from the others."""
    varying = [place for place, value in flat.items() if isinstance(value, list) and len(value) > 1]
    found = []
    for place in varying:
        slugs = [_slug(place[1], value) for value in flat[place]]
        number = flat[place].index(chosen[place])
        alike = len(set(slugs)) < len(slugs)  # as of "a/photos" and "b/photos"
        found.append(f"{slugs[number]}-{number + 1}" if alike else slugs[number])
    return found


def _slug(key: str, value: Any) -> str:
    text = (
        Path(value).name
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return f"{key}-" + re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")
