"""A bundle: the folder that a board serves. Everything in it is checked before it is used.

`manifest.json` names the candidates and every other file with its SHA-256; there are ONNX files,
`labels.txt`, and optionally `premodel/`, `policy.json` and `certificate.json`. A folder of
candidates, as `adaptive zoo export` makes it, is a bundle that has only candidates and labels.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Mapping, Sequence

from adaptive.box_output import BoxMerge, BoxOutput
from adaptive.bundle.outputs import (
    check_output_kind,
    check_policy,
    read_merge,
    read_output,
    read_task,
)
from adaptive.candidate import Candidate, InputSpec, OutputSpec, Through, positions, run_order
from adaptive.checks import a_path
from adaptive.engines.onnxfile import read_header
from adaptive.errors import BundleError, InputError
from adaptive.files import (
    Fields,
    check_format,
    folder_aside,
    inside,
    read_json,
    refuse_existing,
    sha256,
    write_json,
    writing,
)
from adaptive.policy.base import Policy
from adaptive.policy.files import read_policy, write_policy
from adaptive.policy.fixed import Fixed
from adaptive.premodel.base import Premodel
from adaptive.remote import Remote

FORMAT = 1
MANIFEST = "manifest.json"

#: What a bundle calls its own files; no network may be called so.
OWN_NAMES = (MANIFEST, "labels.txt", "policy.json", "premodel", "certificate.json")

_DEFAULT = Path(__file__).parent.parent / "default"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle in memory; networks stay on disk until an engine opens them.

    Attributes
    ----------
    folder : where it lies
    candidates : in the manifest's order
    labels : class names, in the order of the networks' outputs
    reference : name of the candidate that accuracy is compared with, or None
    policy : what serves; the reference (or the last candidate) for every image when none is given
    premodel : or None
    certificate : what is promised, as JSON, or None
    board : where the times come from, as JSON
    task : what it does, "classify" or "detect"
    merge : how the boxes of several detectors that ran become one answer; None where the last
        one's are the answer
    """

    folder: Path
    candidates: tuple[Candidate, ...]
    labels: tuple[str, ...]
    policy: Policy
    reference: str | None = None
    premodel: Premodel | None = field(default=None, repr=False)
    certificate: Mapping[str, Any] | None = field(default=None, repr=False)
    board: Mapping[str, Any] = field(default_factory=dict, repr=False)
    task: str = "classify"
    merge: BoxMerge | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the candidates."""
        return tuple(c.name for c in self.candidates)

    @property
    def embedded(self) -> bool:
        """Whether it is the one that ships inside the package."""
        return self.folder.resolve() == _DEFAULT.resolve()

    def candidate(self, name: str) -> Candidate:
        """One candidate by name, or an InputError that lists what there is."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        return self.candidates[positions([name], self.names, "the bundle")[0]]

    @classmethod
    def read(cls, folder: str | Path) -> Bundle:
        """Read and check a bundle's folder.

        Raises
        ------
        BundleError
            when a file is missing, altered, outside the folder, of a newer format, or says
            something that cannot be.
        """
        return _read(a_path(folder, "a bundle"))


def default_bundle() -> Path:
    """The bundle that ships inside the package: ten classes of small photographs."""
    if not (_DEFAULT / MANIFEST).exists():
        raise BundleError("this installation holds no embedded bundle; name one of your own")
    return _DEFAULT


def _read(folder: Path) -> Bundle:
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder; a bundle is a folder with a {MANIFEST}")
    manifest = Fields(read_json(inside(folder, MANIFEST, "the manifest"), "manifest"), MANIFEST)
    check_format(manifest, FORMAT)
    hashes = Fields(manifest.get("files", dict, default={}), f"{MANIFEST}: files")
    for name in hashes.values:
        check_hash(inside(folder, name, "file"), name, hashes.get(name, str))

    def listed(name: str, what: str) -> Path:
        path = inside(folder, name, what)
        members = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for member in members:
            relative = member.relative_to(folder).as_posix()
            inside(folder, relative, what)
            if relative not in hashes.values:
                raise BundleError(f"{MANIFEST} has no SHA-256 for {what} file {relative!r}")
        return path

    labels_path = listed(manifest.get("labels", str), "labels")
    try:
        labels = tuple(labels_path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as exc:
        raise BundleError(f"labels file {labels_path.name} cannot be read as UTF-8") from exc
    task = read_task(manifest)
    candidates = _read_candidates(folder, manifest, hashes, labels, task)
    names = [c.name for c in candidates]
    reference = manifest.get("reference", str, default=None)
    if reference is not None:
        _known([reference], names, "reference")
    premodel = policy = certificate = None
    if manifest.get("premodel", str, default=None):
        from adaptive.premodel.registry import load_premodel

        premodel = load_premodel(listed(manifest.get("premodel", str), "premodel"))
        if not set(premodel.candidates) & set(names):
            # It may judge more than the bundle carries, but not only strangers.
            _known(list(premodel.candidates), names, "premodel")
    if manifest.get("policy", str, default=None):
        policy = read_policy(listed(manifest.get("policy", str), "policy"), premodel)
        _known(list(policy.candidates), names, "policy")
    if manifest.get("certificate", str, default=None):
        certificate = read_json(
            listed(manifest.get("certificate", str), "certificate"), "certificate"
        )
    if policy is None:
        policy = Fixed((reference or names[-1],))
    return Bundle(
        folder,
        candidates,
        labels,
        policy,
        reference,
        premodel,
        certificate,
        manifest.get("board", dict, default={}),
        task,
        read_merge(manifest, task),
    )


def _known(wanted: Sequence[str], names: Sequence[str], who: str) -> None:
    try:
        positions(wanted, names, "the manifest")
    except InputError as exc:
        raise BundleError(f"the {who} does not fit: {exc}") from exc


def check_hash(path: Path, name: str, expected: str) -> None:
    """Raise BundleError when the file's SHA-256 is not `expected`."""
    if not path.is_file():
        raise BundleError(f"{name!r} is no file")
    try:
        actual = sha256(path)
    except OSError as exc:
        raise BundleError(f"{name!r} cannot be read: {exc.strerror}") from exc
    if actual != expected.lower():
        raise BundleError(
            f"{name!r} was altered: its SHA-256 is {actual[:12]}…, the manifest says "
            f"{expected[:12]}…"
        )


def _read_candidates(
    folder: Path, manifest: Fields, hashes: Fields, labels: Sequence[str], task: str
) -> tuple[Candidate, ...]:
    entries = manifest.get("candidates", list)
    if not entries:
        raise BundleError(f"{MANIFEST} lists no candidates")
    where = f"{MANIFEST}: candidates"
    candidates = [read_candidate(e, f"{where}[{i}]", labels) for i, e in enumerate(entries)]
    names = [c.name for c in candidates]
    if len(set(names)) < len(names):
        raise BundleError(f"{MANIFEST} lists a candidate twice: {names}")
    try:
        run_order({c.name: c.after for c in candidates})
    except InputError as exc:
        raise BundleError(f"{MANIFEST}: {exc}") from exc
    for candidate in candidates:
        if candidate.remote is None:
            _check_network(folder, candidate.name, candidate.file, candidate.sha256, hashes)
        if candidate.through is not None:
            through = candidate.through
            _check_network(folder, candidate.name, through.file, through.sha256, hashes)
        check_output_kind(candidate.name, candidate.output, task, len(labels))
    return tuple(candidates)


def _check_network(folder: Path, name: str, file: str, digest: str, hashes: Fields) -> None:
    path = inside(folder, file, f"candidate {name!r}: file")
    check_hash(path, file, digest)
    for weights in read_header(path).external:
        beside = Path(file).parent / weights
        inside(folder, beside.as_posix(), f"{file}: external data")
        if beside.as_posix() not in hashes.values:
            raise BundleError(
                f"{file} keeps weights in {weights!r}, which has no SHA-256 under 'files' in the "
                "manifest"
            )


def read_candidate(values: object, where: str, labels: Sequence[str] = ()) -> Candidate:
    """One manifest entry, with every value checked; a detector's class map names `labels`."""
    entry = Fields(values, where)
    given = Fields(entry.get("input", dict), f"{where}.input")
    answer = Fields(entry.get("output", dict), f"{where}.output")
    try:
        remote = _read_remote(entry)
        return Candidate(
            name=entry.get("name", str),
            file="" if remote is not None else entry.get("file", str),
            sha256=remote.identity if remote is not None else entry.get("sha256", str),
            remote=remote,
            after=entry.get("after", str, default=None),
            ms=entry.get("ms", float, default=None),
            mj=entry.get("mj", float, default=None),
            untrained=entry.get("untrained", bool, default=False),
            through=_read_through(entry),
            made=entry.get("made", str, default=None),
            input=read_input(given),
            output=read_output(answer, labels),
        )
    except BundleError:
        raise
    except InputError as exc:
        raise BundleError(f"{where}: {exc}") from exc


def read_input(given: Fields) -> InputSpec:
    """An entry's `input`."""
    size, pad = (given.get(n, int, list, default=d) for n, d in (("size", ...), ("pad", 0)))
    return InputSpec(
        size=tuple(size) if isinstance(size, list) else size,
        dtype=given.get("dtype", str),
        layout=given.get("layout", str),
        resize=given.get("resize", str, default="crop"),
        mean=given.numbers("mean", default=None),
        std=given.numbers("std", default=None),
        scale=given.get("scale", float, default=None),
        pad=tuple(pad) if isinstance(pad, list) else pad,
        place=given.get("place", str, default="centre"),
        channels=given.get("channels", str, default="RGB"),
    )


def _read_remote(entry: Fields) -> Remote | None:
    values = entry.get("remote", dict, default=None)
    if values is None:
        return None
    if "file" in entry.values or "sha256" in entry.values:
        raise InputError("it has both 'remote' and a file; a candidate is one or the other")
    given = Fields(values, f"{entry.where}.remote")
    known = {f.name for f in fields(Remote)}
    if set(values) - known:
        raise InputError(f"remote has {sorted(set(values) - known)}; it may have {sorted(known)}")
    return Remote(
        url=given.get("url", str),
        model=given.get("model", str),
        version=given.get("version", str, default=None),
        labels=given.get("labels", str, default=None),
        input=given.get("input", str, default=None),
        output=given.get("output", str, default=None),
        timeout_ms=given.get("timeout_ms", float, default=1000.0),
        encoding=given.get("encoding", str, default="jpeg"),
        quality=given.get("quality", int, default=90),
        mj=given.get("mj", float, default=None),
        mj_per_byte=given.get("mj_per_byte", float, default=None),
    )


def _read_through(entry: Fields) -> Through | None:
    values = entry.get("through", dict, default=None)
    if values is None:
        return None
    given = Fields(values, f"{entry.where}.through")
    return Through(
        given.get("file", str), given.get("sha256", str), given.get("ms", float, default=None)
    )


def candidate_to_json(candidate: Candidate) -> dict[str, Any]:
    """A manifest entry; what few have is left out where it is not so."""
    entry = asdict(candidate)
    entry["input"] = input_to_json(candidate.input)
    entry["output"] = output_to_json(candidate.output)
    if candidate.remote is not None:
        entry["remote"] = candidate.remote.to_json()
        del entry["file"], entry["sha256"]
    return {
        n: v for n, v in entry.items() if v or n not in ("untrained", "through", "made", "remote")
    }


def output_to_json(output: OutputSpec | BoxOutput) -> dict[str, Any]:
    """What a manifest entry says of a network's outputs."""
    return output.to_json() if isinstance(output, BoxOutput) else asdict(output)


def task_of(candidates: Sequence[Candidate]) -> dict[str, str]:
    """A manifest's entry of what candidates do; none where they classify."""
    return {"task": "detect"} if isinstance(candidates[0].output, BoxOutput) else {}


def input_to_json(spec: InputSpec) -> dict[str, Any]:
    """What a manifest entry says of the image; what few have is left out where it is not so."""
    usual = {f.name: f.default for f in fields(spec) if f.name in ("pad", "place", "channels")}
    return {n: v for n, v in asdict(spec).items() if n not in usual or v != usual[n]}


def write_candidates(
    folder: Path,
    candidates: Sequence[Candidate],
    labels: Sequence[str],
    reference: str | None = None,
) -> None:
    """Make `folder`, which holds the ONNX files already, a folder of candidates."""
    beside = {
        (Path(file).parent / name).as_posix()
        for c in candidates
        for file in c.files
        for name in read_header(folder / file).external
    }
    with writing(folder / "labels.txt"):
        (folder / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            **task_of(candidates),
            "labels": "labels.txt",
            "reference": reference,
            "candidates": [candidate_to_json(c) for c in candidates],
            "files": {name: sha256(folder / name) for name in ("labels.txt", *sorted(beside))},
        },
    )


def write_bundle(
    output: Path,
    source: Bundle,
    policy: Policy,
    certificate: Mapping[str, Any] | None = None,
    times: Mapping[str, float] | None = None,
    board: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    force: bool = False,
    through_times: Mapping[str, float] | None = None,
    energies: Mapping[str, float] | None = None,
    premodel: Premodel | None = None,
) -> None:
    """Put candidates, premodel, policy and certificate together as a bundle at `output`.

    Parameters
    ----------
    source : where the candidates and labels come from
    policy : with its premodel, if it has one
    times : mean milliseconds by candidate, for the manifest
    names : the candidates to carry; all of `source` when left out
    force : replace an existing bundle; anything else stays
    through_times : mean milliseconds of running through an exit without its head
    energies : mean millijoules by candidate
    premodel : one that only explanations ask, where the policy has none

    Raises
    ------
    InputError
        when `output` may not be written, or the parts do not make a bundle.
    """
    check_output(output, force)
    kept = [c for c in source.candidates if names is None or c.name in names]
    _known(list(policy.candidates), [c.name for c in kept], "policy")
    check_policy(policy, source.task)
    entries = []
    networks: set[str] = set()
    with folder_aside(output) as aside:
        for candidate in kept:
            through = candidate.through
            for file in candidate.files:
                path = inside(source.folder, file, "candidate file")
                _copy(source.folder, aside, file)
                networks.add(file)
                for name in read_header(path).external:
                    _copy(source.folder, aside, (Path(file).parent / name).as_posix())
            entry = candidate_to_json(candidate)
            if times and candidate.name in times:
                entry["ms"] = round(times[candidate.name], 5)
            if through_times and through and candidate.name in through_times:
                entry["through"]["ms"] = round(through_times[candidate.name], 5)
            if energies and candidate.name in energies:
                entry["mj"] = energies[candidate.name]
            entries.append(entry)
        (aside / "labels.txt").write_text("\n".join(source.labels) + "\n", encoding="utf-8")
        manifest: dict[str, Any] = {
            "format": FORMAT,
            **task_of(kept),
            "labels": "labels.txt",
            "reference": source.reference,
            "candidates": entries,
            "policy": "policy.json",
            "board": dict(board or source.board),
        }
        if source.merge is not None:
            manifest["merge"] = asdict(source.merge)
        write_policy(policy, aside / "policy.json")
        carried = policy.premodel or premodel
        if carried is not None:
            carried.save(aside / "premodel")
            manifest["premodel"] = "premodel"
        if certificate is not None:
            write_json(aside / "certificate.json", certificate)
            manifest["certificate"] = "certificate.json"
        manifest["files"] = {
            path.relative_to(aside).as_posix(): sha256(path)
            for path in sorted(aside.rglob("*"))
            if path.is_file() and path.relative_to(aside).as_posix() not in networks
        }
        write_json(aside / MANIFEST, json.loads(json.dumps(manifest)))
        # Whatever could be refused on a board is refused here.
        _read(aside)


def check_output(output: Path, force: bool) -> None:
    """Raise InputError when a bundle may not be written to `output`.

    With `force` it may replace a bundle or an empty folder, and nothing else.
    """
    refuse_existing(output, force)
    if not output.exists() or (output / MANIFEST).is_file():
        return
    if not output.is_dir() or any(output.iterdir()):
        raise InputError(f"{output} exists and is no bundle; --force replaces only a bundle")


def _copy(source: Path, target: Path, name: str) -> None:
    """Copy the file `name` from one folder to another, with the folders that it lies in."""
    if Path(name).parts[0] in OWN_NAMES:
        raise BundleError(f"a bundle has its own {Path(name).parts[0]!r}; rename the file {name!r}")
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / name, target / name)
