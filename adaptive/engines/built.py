"""Engines that `adaptive build` made, in a folder of this machine.

An engine runs only where it was built: under the same versions, on the same kind of device. And
it is code, so it never comes with a bundle: each machine builds its own, into a folder of its own.
Each engine has a folder `HASH-KEY/` with `engine.json`, which says of what and for what it was
made, and the files that TensorRT or ONNX Runtime wrote.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from adaptive.errors import BundleError, EngineError
from adaptive.files import Fields, check_format, folder_aside, read_json, write_json

FORMAT = 1
KEY_FILE = "engine.json"

#: TensorRT's own file, and the folder in which all engines share timings of kernels.
PLAN = "engine.plan"
TIMING = "timing"

#: In a key, for a network that holds the ranges of its tensors itself.
OWN_RANGES = "network"


def default_folder() -> Path:
    """Where engines lie unless a folder is named: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "adaptive" / "engines"


@dataclass(frozen=True)
class Platform:
    """What an engine depends on besides its network.

    Attributes
    ----------
    device, compute : the graphics processor's name and compute capability
    versions : of "cuda", "tensorrt" and, for its provider, "onnxruntime"
    """

    device: str
    compute: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.device} (compute capability {self.compute}) with {versions}"


@dataclass(frozen=True)
class EngineKey:
    """What one engine was made of and for.

    Attributes
    ----------
    network : SHA-256 of the ONNX file
    name : the candidate's, for people
    file : the network's path as far as the provider calls its files after it, else ""
    engine : "tensorrt" or "tensorrt-provider"
    precision : "fp32", "fp16" or "int8"
    calibration : SHA-256 of the table of ranges, OWN_RANGES where the network holds them itself,
        or "" where there are none, and nothing is computed in eight bits
    shapes : for each input (smallest, best, largest)
    inputs, outputs : names of the network's tensors in its own order
    """

    network: str
    name: str
    file: str
    engine: str
    precision: str
    calibration: str
    platform: Platform
    shapes: Mapping[str, Sequence[Sequence[int]]]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Largest batch."""
        return int(next(iter(self.shapes.values()))[2][0])

    def folder_name(self) -> str:
        """The name of the engine's folder: equal for equal keys only."""
        own = {k: v for k, v in self.to_json().items() if k not in ("format", "name")}
        text = json.dumps(own, sort_keys=True)
        return f"{self.network[:16]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def to_json(self) -> dict[str, Any]:
        """The key file."""
        values: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))
        return values

    @classmethod
    def from_json(cls, values: object, where: str) -> EngineKey:
        """Read a key file's values.

        Raises
        ------
        BundleError
            when it is damaged, or of a newer format.
        """
        fields = Fields(values, where)
        check_format(fields, FORMAT)
        platform = Fields(fields.get("platform", dict), f"{where}: platform")
        shapes = fields.get("shapes", dict)
        for name, ranges in shapes.items():
            if not _is_range(ranges):
                raise BundleError(f"{where}: the shapes of {name!r} are {ranges!r}")
        if not shapes:
            raise BundleError(f"{where} has no shapes")
        return cls(
            network=fields.get("network", str),
            name=fields.get("name", str),
            file=fields.get("file", str),
            engine=fields.get("engine", str),
            precision=fields.get("precision", str),
            calibration=fields.get("calibration", str),
            platform=Platform(
                platform.get("device", str),
                platform.get("compute", str),
                platform.get("versions", dict),
            ),
            shapes=shapes,
            inputs=fields.texts("inputs"),
            outputs=fields.texts("outputs"),
        )


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(s, list) and s and all(type(n) is int for n in s) for s in value)
    )


class EngineStore:
    """The folder of engines of this machine."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def timing(self, platform: Platform) -> Path:
        """Where timings of kernels are kept, for all engines of one version and kind of device.

        TensorRT may refuse to begin with those of another version.
        """
        return self.folder / TIMING / f"{platform.versions['tensorrt']}-{platform.compute}"

    def keys(self, network: str) -> dict[Path, EngineKey]:
        """Every engine of a network that is whole, by its folder, the newest first.

        Raises
        ------
        BundleError
            when a key file is damaged.
        """
        found = sorted(
            self.folder.glob(f"{network[:16]}-*/{KEY_FILE}"),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        keys = {
            p.parent: EngineKey.from_json(read_json(p, "the engine's key"), str(p)) for p in found
        }
        return {folder: key for folder, key in keys.items() if key.network == network}

    def holds(self, key: EngineKey) -> bool:
        """Whether this very engine is there, and its key can be read."""
        path = self.folder / key.folder_name() / KEY_FILE
        try:
            found = EngineKey.from_json(read_json(path, "the engine's key"), str(path))
        except BundleError:
            return False
        return found.folder_name() == key.folder_name()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Build here, alone; what a build that was killed left half-written is removed.

        Raises
        ------
        EngineError
            when another process is building here.
        """
        (self.folder / TIMING).mkdir(parents=True, exist_ok=True)
        with open(self.folder / TIMING / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise EngineError(
                    f"another adaptive build is at work in {self.folder}; wait for its end"
                ) from exc
            for path in self.folder.glob(".*-*.*"):
                shutil.rmtree(path)
            yield

    def find(
        self,
        network: str,
        name: str,
        engine: str,
        platform: Platform,
        precision: str | None = None,
        file: str = "",
    ) -> tuple[Path, EngineKey]:
        """The newest engine of a network that runs here.

        Raises
        ------
        EngineError
            when there is none; the sentence says what there is instead.
        """
        near: list[EngineKey] = []
        for folder, key in self.keys(network).items():
            if key.engine != engine or precision not in (None, key.precision):
                continue
            if key.platform == platform and key.file == file:
                return folder, key
            near.append(key)
        asked = f" at {precision}" if precision else ""
        if not near:
            raise EngineError(
                f"no engine of {name!r} is built for {engine}{asked} in {self.folder}; "
                "run adaptive build"
            )
        other = near[0]
        if other.platform != platform:
            raise EngineError(
                f"the engine of {name!r} in {self.folder} was built for {other.platform}; here is "
                f"{platform}. An engine runs only where it was built: run adaptive build here"
            )
        raise EngineError(
            f"the engine of {name!r} in {self.folder} was built for the network at {other.file}; "
            f"here it is at {file}, and this ONNX Runtime knows engines by that: run adaptive "
            "build again"
        )

    @contextmanager
    def adding(self, key: EngineKey) -> Iterator[Path]:
        """An empty folder for an engine's files, which takes its place when the block ends well."""
        self.timing(key.platform).mkdir(parents=True, exist_ok=True)
        with folder_aside(self.folder / key.folder_name()) as aside:
            yield aside
            write_json(aside / KEY_FILE, key.to_json())
