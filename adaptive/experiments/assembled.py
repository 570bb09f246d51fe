"""The candidates of an experiment, as a folder that lies in the store under its hash."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from adaptive.bundle.adding import Recipe, add_candidate
from adaptive.bundle.bundle import MANIFEST, Bundle
from adaptive.bundle.labelfile import read_labels
from adaptive.engines.onnxfile import read_header
from adaptive.errors import AdaptiveError, InputError
from adaptive.experiments.declared import Experiment
from adaptive.experiments.shard import hash_of
from adaptive.experiments.store import Store
from adaptive.files import read_json, sha256, write_json


@dataclass(frozen=True)
class Assembled:
    """Candidates that were put together.

    Attributes
    ----------
    key : the hash of manifest, labels and networks
    omitted : which could not be had, and why, in sentences
    """

    key: str
    bundle: Bundle
    omitted: tuple[str, ...] = ()


def assemble_candidates(
    experiment: Experiment, given: Mapping[str, Any], folder: Path
) -> Assembled:
    """The candidates that a table of the grid names.

    Parameters
    ----------
    given : of the table [candidates], with one value each
    folder : where networks that are named one by one are put together

    Raises
    ------
    InputError
        when none can be had.
    """
    if "network" not in given:
        bundle = Bundle.read(experiment.path(given["folder"]))
        if "reference" in given:
            bundle = _referred(bundle, given["reference"])
        return Assembled(_key(bundle), bundle)
    labels = None
    if "labels" in given:
        labels = read_labels(experiment.path(given["labels"]), 2)
    omitted = []
    made = Path(tempfile.mkdtemp(prefix=".candidates-", dir=_made(folder)))
    try:
        for network in given["network"]:
            try:
                _add(experiment, network, made / "candidates", labels)
            except (AdaptiveError, OSError) as error:
                named = network.get("name") or network.get("file") or network.get("zoo")
                omitted.append(f"candidate {named or network.get('url')}: {error}")
        if not (made / "candidates").exists():
            raise InputError("none of the candidates can be had: " + "; ".join(omitted))
        bundle = Bundle.read(made / "candidates")
        wanted = given.get("reference")
        if wanted is not None and wanted not in bundle.names and omitted:
            omitted.append(f"the reference {wanted} is not there; the most accurate one is it")
        elif wanted is not None:
            _referred(bundle, wanted)
            manifest = _manifest(bundle)
            write_json(bundle.folder / MANIFEST, {**manifest, "reference": wanted})
            bundle = Bundle.read(bundle.folder)
        key = _key(bundle)
        kept = folder / key
        if not kept.exists():
            os.replace(made / "candidates", kept)
        return Assembled(key, Bundle.read(kept), tuple(omitted))
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _referred(bundle: Bundle, name: str) -> Bundle:
    """The same candidates, held against one of them."""
    if name not in bundle.names:
        raise InputError(f"the reference {name!r} is none of the candidates {list(bundle.names)}")
    return replace(bundle, reference=name)


def _add(experiment: Experiment, network: Mapping[str, Any], folder: Path, labels: Any) -> None:
    """One network into a folder of candidates."""
    if "zoo" in network:
        from adaptive.networks.zoo import export_zoo

        export_zoo([network["zoo"]], folder, force=folder.exists(), say=lambda _: None)
        return
    parts = ("like", "resize", "channels", "size", "layout", "output")
    recipe = Recipe(**{part: network[part] for part in parts if part in network})
    known = None if folder.exists() else labels
    if "url" in network:
        from adaptive.bundle.elsewhere import add_remote

        add_remote(folder, network["url"], network.get("name"), recipe, known)
        return
    add_candidate(folder, experiment.path(network["file"]), network.get("name"), recipe, known)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _manifest(bundle: Bundle) -> dict[str, Any]:
    return read_json(bundle.folder / MANIFEST, "manifest")


def _key(bundle: Bundle) -> str:
    """The hash of everything that an outcome depends on; measured times are no such thing."""
    entries = [
        {k: v for k, v in entry.items() if k not in ("ms", "mj", "top1")}
        for entry in _manifest(bundle)["candidates"]
    ]
    for entry in entries:
        if isinstance(entry.get("through"), dict):
            entry["through"] = {k: v for k, v in entry["through"].items() if k != "ms"}
    files = {name: sha256(bundle.folder / name) for name in files_of(bundle) if name != MANIFEST}
    return hash_of(
        {
            "candidates": entries,
            "labels": list(bundle.labels),
            "reference": bundle.reference,
            "files": {name: digest for name, digest in files.items() if name.endswith(".onnx")},
        }
    )


def files_of(bundle: Bundle) -> list[str]:
    """The files that a worker needs of a folder of candidates."""
    manifest = _manifest(bundle)
    names = [MANIFEST, manifest["labels"]]
    for candidate in bundle.candidates:
        own = [candidate.file] if candidate.file else []
        own += [candidate.through.file] if candidate.through else []
        for file in own:
            path = bundle.folder / file
            try:
                beside = read_header(path).external
            except AdaptiveError:  # a damaged file is found out by who opens it
                beside = ()
            names += [file, *((Path(file).parent / name).as_posix() for name in beside)]
    return list(dict.fromkeys(names))


def upload(assembled: Assembled, store: Store) -> None:
    """Put candidates into the store, the list of their files last."""
    base = f"candidates/{assembled.key}"
    if store.exists(f"{base}/files.json"):
        return
    names = files_of(assembled.bundle)
    bundle = assembled.bundle
    for name in names:
        content = (bundle.folder / name).read_bytes()
        if name == MANIFEST:
            content = _plain(bundle, names)
        store.put(f"{base}/{name}", content)
    listed = {name: sha256(bundle.folder / name) for name in names if name != MANIFEST}
    store.put(f"{base}/files.json", json.dumps(listed).encode())


def _plain(bundle: Bundle, names: list[str]) -> bytes:
    """The manifest without what a worker is not sent: policy, premodel, certificate."""
    manifest = _manifest(bundle)
    for part in ("policy", "premodel", "certificate", "merge"):
        manifest.pop(part, None)
    manifest["reference"] = bundle.reference
    manifest["files"] = {n: h for n, h in manifest.get("files", {}).items() if n in names}
    return json.dumps(manifest).encode()


def download(key: str, store: Store, folder: Path) -> Bundle:
    """Candidates from the store, fetched once into `folder` and checked by their hashes."""
    kept = folder / key
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            listed = json.loads(store.get(f"candidates/{key}/files.json"))
        except KeyError:
            raise InputError(f"the store {store.url} has no candidates {key}") from None
        aside = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder))
        try:
            for name in [*listed, MANIFEST]:
                path = aside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(store.get(f"candidates/{key}/{name}"))
                if name in listed and sha256(path) != listed[name]:
                    raise InputError(f"{name} of the candidates {key} came damaged from the store")
            try:
                os.replace(aside, kept)
            except OSError:  # another worker of this machine was quicker
                if not kept.exists():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return Bundle.read(kept)
