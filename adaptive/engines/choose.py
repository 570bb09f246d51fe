"""Which engine runs a bundle's networks: the one asked for, or the best that really runs."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from adaptive.engines.direct.cudart import device_file
from adaptive.engines.engine import OnnxEngine, OpenEngine
from adaptive.engines.proof import OneByOne, prove, single
from adaptive.engines.providers import (
    NAMED_BY_FILE,
    PRECISIONS,
    ProviderEngine,
    ProviderSettings,
    missing_provider,
    runtime_version,
)
from adaptive.engines.wanted import Maker, Wanted
from adaptive.errors import AdaptiveError, EngineError, InputError
from adaptive.plugins import ENGINES as GROUP
from adaptive.plugins import add, find, names

if TYPE_CHECKING:
    from adaptive.engines.built import EngineKey

log = logging.getLogger("adaptive.serving")

ENGINES = ("auto", "onnx", "cuda", "tensorrt-provider", "tensorrt")

#: Those with engines that `adaptive build` makes, at a precision.
_BUILT = ("auto", "tensorrt-provider", "tensorrt")

#: What `auto` tries, the fastest first.
_BEST = ("tensorrt", "tensorrt-provider", "cuda")

#: Makers of further engines, by name.
MAKERS: dict[str, Maker] = {}


def register(name: str, make: Maker) -> None:
    """Make an engine known under a name; `auto` does not take it.

    Raises
    ------
    InputError
        when another one has that name.
    """
    if name in ENGINES:
        raise InputError(f"an engine {name!r} is there already: it is one of {list(ENGINES)}")
    add(MAKERS, name, make, "an engine")


def _maker(name: str) -> Maker | None:
    """What opens networks with an engine that is none of this library's; None without."""
    return find(MAKERS, GROUP, name, callable)


@dataclass(frozen=True)
class EngineOptions:
    """What may run networks.

    Parameters
    ----------
    engine : "onnx" (ONNX Runtime on the processor), "cuda" and "tensorrt-provider" (ONNX
        Runtime on an NVIDIA device), "tensorrt" (TensorRT itself), or "auto": the best of them
        that really runs. TensorRT needs engines that `adaptive build` made here. Or the name of
        one that was registered, or that another installed package adds.
    precision : of TensorRT's engines; None takes what was built last
    folder : of TensorRT's engines; None is the user's cache
    allow_fallback : where the engine asked for does not run, go on on the processor
    remote_keys : file of the bearer keys of other servers that candidates run on
    """

    engine: str = "auto"
    precision: str | None = None
    folder: Path | None = None
    allow_fallback: bool = False
    remote_keys: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES and _maker(self.engine) is None:
            known = [*ENGINES, *MAKERS, *names(GROUP)]
            raise InputError(f"engine {self.engine!r} is not one of {known}")
        if self.precision not in (None, *PRECISIONS):
            raise InputError(f"precision {self.precision!r} is not one of {list(PRECISIONS)}")
        if self.precision is not None and self.engine not in _BUILT:
            raise InputError(
                f"precision {self.precision!r} is for TensorRT's engines; engine {self.engine!r} "
                "runs a network as it is written"
            )


@dataclass(frozen=True)
class EngineChoice:
    """What runs, at which precision (None: as the network is written), and why, as a sentence."""

    engine: str
    why: str
    precision: str | None = None

    def __str__(self) -> str:
        at = f" at {self.precision}" if self.precision else ""
        return f"{self.engine}{at}: {self.why}"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class Engines:
    """Opens networks, all with the same engine, and candidates that run on other servers.

    Attributes
    ----------
    choice : what runs networks here; None before the first of them are open
    doubts : by network, what its answers have that its manifest entry does not say
    """

    def __init__(self, options: EngineOptions | None = None) -> None:
        self.options = options or EngineOptions()
        self.choice: EngineChoice | None = None
        self.doubts: dict[str, str] = {}

    def open(self, wanted: Sequence[Wanted], threads: int = 1) -> dict[str, OpenEngine]:
        """Open networks, by their keys; a segment stands after the one that it continues.

        The first call decides which engine it is, and later ones keep to it.

        Raises
        ------
        EngineError
            when the engine asked for does not run here, or refuses a network; when a server
            has another model than the manifest says. One that cannot be reached is no error.
        """
        here = [entry for entry in wanted if entry.candidate.remote is None]
        opened = self._open_here(here, threads) if here else {}
        if len(here) == len(wanted):
            return opened
        from adaptive.engines.remote import open_remote
        from adaptive.engines.remote_keys import read_keys

        try:
            keys = read_keys(self.options.remote_keys)
            for entry in wanted:
                if entry.candidate.remote is not None:
                    opened[entry.key] = open_remote(entry.candidate, keys)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        return {entry.key: opened[entry.key] for entry in wanted}

    def _open_here(self, wanted: Sequence[Wanted], threads: int) -> dict[str, OpenEngine]:
        if self.choice is not None:
            return self._attempt(self.choice.engine, wanted, threads, self.choice.precision)[0]
        asked = self.options.engine
        if asked == "onnx":
            opened, _ = self._attempt("onnx", wanted, threads)
            self.choice = EngineChoice("onnx", "it was asked for")
        elif asked == "auto" and device_file() is None:
            opened, _ = self._attempt("onnx", wanted, threads)
            self.choice = EngineChoice("onnx", "no NVIDIA device is on this machine")
        elif asked == "auto":
            opened = self._best(wanted, threads)
        else:
            opened = self._asked(asked, wanted, threads)
        log.info("engine %s", self.choice)
        return opened

    def _best(self, wanted: Sequence[Wanted], threads: int) -> dict[str, OpenEngine]:
        reasons = []
        for engine in _BEST:
            try:
                opened, precision = self._attempt(engine, wanted, threads)
            except AdaptiveError as error:
                reasons.append(f"{engine} does not run ({error})")
                continue
            why = "; ".join(["it is the best that runs here", *reasons])
            self.choice = EngineChoice(engine, why, precision)
            return opened
        opened, _ = self._attempt("onnx", wanted, threads)
        why = "there is an NVIDIA device, but " + "; ".join(reasons)
        self.choice = EngineChoice("onnx", why)
        log.warning("networks run on the processor: %s", why)
        return opened

    def _asked(self, asked: str, wanted: Sequence[Wanted], threads: int) -> dict[str, OpenEngine]:
        try:
            opened, precision = self._attempt(asked, wanted, threads)
        except EngineError as error:
            if not self.options.allow_fallback:
                raise EngineError(
                    f"engine {asked!r} does not run here: {error}. --allow-fallback goes on on the "
                    "processor, and --engine auto takes the best that runs"
                ) from error
            opened, _ = self._attempt("onnx", wanted, threads)
            why = f"{asked} was asked for and does not run ({error}), and falling back is allowed"
            self.choice = EngineChoice("onnx", why)
            log.warning("networks run on the processor: %s", why)
            return opened
        self.choice = EngineChoice(asked, "it was asked for", precision)
        return opened

    def _attempt(
        self, engine: str, wanted: Sequence[Wanted], threads: int, precision: str | None = None
    ) -> tuple[dict[str, OpenEngine], str | None]:
        """Open all with one engine, and see them run."""
        makers, precision = self._makers(engine, wanted, precision or self.options.precision)
        opened: dict[str, OpenEngine] = {}
        try:
            for entry, make in zip(wanted, makers):
                opened[entry.key] = single(entry.open(threads, make))
            proofs = prove(opened, wanted, strict=engine != "onnx")
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        for key, proof in proofs.items():
            if proof.alone is not None:
                log.warning("%s runs on one image after the other: %s", key, proof.alone)
                opened[key] = OneByOne(opened[key])
            if proof.doubt is not None:
                self.doubts[key] = proof.doubt
        return opened, precision

    def _makers(
        self, engine: str, wanted: Sequence[Wanted], precision: str | None
    ) -> tuple[list[Maker], str | None]:
        """What opens each network, and at which precision they run."""
        if engine == "onnx":
            return [OnnxEngine] * len(wanted), None
        if engine == "cuda":
            reason = missing_provider(engine)
            if reason is not None:
                raise EngineError(reason)
            settings = ProviderSettings(engine)

            def make(path: Path, threads: int) -> OpenEngine:
                return ProviderEngine(path, settings, threads)

            return [make] * len(wanted), None
        if engine not in _BUILT:
            added = _maker(engine)
            assert added is not None  # EngineOptions looked
            return [added] * len(wanted), None
        return _built(engine, wanted, self.options.folder, precision)


def _built(
    engine: str, wanted: Sequence[Wanted], at: Path | None, precision: str | None
) -> tuple[list[Maker], str | None]:
    """What opens each network's engine that `adaptive build` made; all have one precision."""
    from adaptive.engines.built import EngineStore
    from adaptive.engines.nvidia import platform_here

    reason = missing_provider(engine) if engine == "tensorrt-provider" else None
    if reason is not None:
        raise EngineError(reason)
    platform, store = platform_here(engine), EngineStore(at)
    makers: list[Maker] = []
    for entry in wanted:
        file = named_by(engine, entry.path)
        folder, key = store.find(entry.network, entry.key, engine, platform, precision, file)
        precision = key.precision  # the first decides, so that all are alike
        makers.append(maker_of(folder, key, store.timing(platform)))
    return makers, precision


def maker_of(folder: Path, key: EngineKey, timing: Path, workspace_mb: int | None = None) -> Maker:
    """What opens a network whose engine lies in `folder`, or is to be written there."""
    from adaptive.engines.built import OWN_RANGES

    if key.engine == "tensorrt":
        from adaptive.engines.built import PLAN
        from adaptive.engines.direct.tensorrt import TensorrtEngine

        plan = folder / PLAN
        return lambda path, _: TensorrtEngine.read(plan, path.stem, key.inputs, key.outputs)
    settings = ProviderSettings(
        engine=key.engine,
        precision=key.precision,
        cache=folder,
        timing=timing,
        shapes=key.shapes,
        calibration=CALIBRATION if key.calibration not in ("", OWN_RANGES) else None,
        own_ranges=key.calibration == OWN_RANGES,
        most=key.most,
        workspace_mb=workspace_mb,
    )
    return lambda path, threads: ProviderEngine(path, settings, threads)


#: What a table of ranges is called in an engine's folder.
CALIBRATION = "calibration.flatbuffers"


def named_by(engine: str, path: Path) -> str:
    """What the provider calls a network's engine files after, beside the network itself."""
    if engine == "tensorrt":
        return ""
    return path.name if runtime_version() >= NAMED_BY_FILE else str(path.resolve())
