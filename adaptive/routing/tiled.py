"""A stream's networks, of which each computes only the tiles that changed since its last frame."""

from __future__ import annotations

import threading
from typing import Any, Dict, List, Mapping

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.checks import shown
from adaptive.engines.engine import OnnxEngine
from adaptive.engines.proof import OneByOne
from adaptive.engines.tiles.engine import TileEngine
from adaptive.engines.tiles.state import Thresholds, TileState
from adaptive.errors import EngineError, InputError
from adaptive.routing.running import Networks
from adaptive.segments import through_key


class StreamEngine:
    """One network with one stream's state, as an engine.

    Parameters
    ----------
    tiles : the network, cut
    state : what the stream keeps of it
    whole : runs it where several images come at once
    """

    def __init__(self, tiles: TileEngine, state: TileState, whole: Any) -> None:
        self.tiles = tiles
        self.state = state
        self.whole = whole
        self.outputs = tiles.dense.outputs

    def run(self, *inputs: np.ndarray) -> List[np.ndarray]:
        """Answer the stream's next frame; several images at once are computed densely."""
        if len(inputs) != 1 or inputs[0].shape != self.tiles.shape:
            found: List[np.ndarray] = self.whole.run(*inputs)
            return found
        return self.tiles.run_streams([self.state], inputs[0])

    def close(self) -> None:
        """Forget the stream; the network stays open for others."""
        self.state.reset()


class TiledNetworks:
    """A bundle's networks, cut into tiles when a stream first asks for it.

    Parameters
    ----------
    networks : as the router runs them
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._cut: Dict[str, TileEngine | str] = {}
        self._lock = threading.Lock()

    def of(self, thresholds: Thresholds | float) -> Networks:
        """The networks of a new stream.

        Those that cannot be cut run as they are.

        Raises
        ------
        InputError
            when none of them can be cut, each with why.
        """
        given = thresholds if isinstance(thresholds, Thresholds) else Thresholds(thresholds)
        cut = self._opened()
        able = {key: found for key, found in cut.items() if isinstance(found, TileEngine)}
        if not able:
            raise InputError(
                "no network of the router can be cut into tiles: "
                + "; ".join(f"{key}: {why}" for key, why in cut.items())
            )
        known = {name for tiles in able.values() for name in tiles.maps}
        unknown = sorted(set(given.maps) - known)
        if unknown:
            raise InputError(f"no network of the router keeps a map {shown(unknown[0])}")
        engines: Dict[str, Any] = dict(self._networks.engines)
        for key, tiles in able.items():
            own = {name: value for name, value in given.maps.items() if name in tiles.maps}
            state = tiles.state(Thresholds(given.every, own))
            engines[key] = StreamEngine(tiles, state, self._networks.engines[key])
        networks = Networks(self._networks.bundle, engines)
        networks.choice, networks.doubts = self._networks.choice, self._networks.doubts
        return networks

    def _opened(self) -> Mapping[str, TileEngine | str]:
        with self._lock:
            for key, engine in self._networks.engines.items():
                if key not in self._cut:
                    self._cut[key] = _opened(self._networks.bundle, key, engine)
            return dict(self._cut)

    def close(self) -> None:
        """Close what was cut."""
        with self._lock:
            for found in self._cut.values():
                if isinstance(found, TileEngine):
                    found.close()
            self._cut = {}


def _opened(bundle: Bundle, key: str, engine: Any) -> TileEngine | str:
    """A network cut into tiles, or why it is not."""
    if type(engine) is OneByOne:  # a network whose file takes no more than one image
        engine = engine.engine
    if not isinstance(engine, OnnxEngine) or engine.providers != ["CPUExecutionProvider"]:
        return "it does not run in ONNX Runtime on the CPU"
    files = {c.name: c.file for c in bundle.candidates}
    files.update({through_key(c.name): c.through.file for c in bundle.candidates if c.through})
    try:
        return TileEngine.open(bundle.folder / files[key], engine.threads)
    except (EngineError, InputError) as error:
        return str(error)


def tile_states(networks: Networks) -> Dict[str, TileState]:
    """Of a stream's networks, what each keeps."""
    engines = networks.engines.items()
    return {key: engine.state for key, engine in engines if isinstance(engine, StreamEngine)}
