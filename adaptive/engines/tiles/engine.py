"""An engine that computes only the tiles of a network that changed since a stream's last frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.causes import reason
from adaptive.engines.engine import OnnxEngine
from adaptive.engines.tiles.cut import Cut, TileSegment
from adaptive.engines.tiles.cutting import cut
from adaptive.engines.tiles.graph import read_graph
from adaptive.engines.tiles.models import ROWS, filling_model, segment_model, tail_model
from adaptive.engines.tiles.places import MORE, Places
from adaptive.engines.tiles.probing import input_shape, moved, probe
from adaptive.engines.tiles.sessions import open_session, run_session
from adaptive.engines.tiles.state import FILLED, PLAIN, SAME, UPDATED, Thresholds, TileState
from adaptive.errors import EngineError, InputError

#: Frames that are answered plainly, at most, before tiles are tried again.
LONGEST_WAIT = 64

#: Frames in a row that must have paid until a scene is trusted again, and that must not have paid
#: until it is doubted.
TRUSTED, DOUBTED = 8, 2


class TileCost(NamedTuple):
    """What a segment costs: ms = fixed + share of its tiles * whole."""

    fixed: float
    whole: float


class _Part(NamedTuple):
    segment: TileSegment
    session: Any
    names: Tuple[str, ...]
    places: Places


class TileEngine:
    """A network in segments, run on what changed.

    Made by `TileEngine.open`. It holds no stream's state, so any number of streams share one, and
    several threads may, each with states of its own.

    Attributes
    ----------
    cut : where it was cut
    dense : the network as it is
    costs, dense_ms : what each segment and the whole network cost here; None where that was not
        measured, and tiles are then always tried
    filling_ms, looking_ms : what computing a frame and keeping all maps costs, and comparing the
        input
    """

    def __init__(
        self, dense: OnnxEngine, cut: Cut, parts: Sequence[_Part], filling: Any, tail: Any
    ) -> None:
        self.name = dense.name
        self.dense = dense
        self.cut = cut
        self.costs: Tuple[TileCost, ...] | None = None
        self.dense_ms: float | None = None
        self.filling_ms = self.looking_ms = 0.0
        self._parts = tuple(parts)
        self._filling = filling
        self._tail = tail
        self._last = cut.source in cut.last

    @classmethod
    def open(
        cls,
        path: Path,
        threads: int = 1,
        *,
        levels: int | None = None,
        measure: bool = True,
        shape: Sequence[int] | None = None,
    ) -> TileEngine:
        """Cut a network's file and open its parts.

        Parameters
        ----------
        path : the ONNX file, of opset 11 to 17, with one input of four axes
        threads : inside one operator
        levels : so many levels of segments at most; what lies behind them runs densely. All that
            can be cut when left out.
        measure : take the time of each part, to know when tiles do not pay
        shape : of the input, where the file leaves sides free

        Raises
        ------
        BundleError
            when the file is none.
        EngineError
            when nothing of it can be cut, or the runtime refuses it.
        """
        graph = read_graph(path)
        dense = OnnxEngine(path, threads)
        shape = input_shape(dense, shape)
        probed = probe(graph, dense, shape, threads)
        made = cut(graph, probed, moved(graph, probed, threads), levels)
        parts = []
        for segment in made.segments:
            session = open_session(segment_model(made, segment), threads, graph.name, segment.name)
            names = tuple(entry.name for entry in session.get_inputs())
            parts.append(_Part(segment, session, names, Places(made, segment)))
        filling = open_session(filling_model(made), threads, graph.name, "the whole")
        tail = open_session(tail_model(made), threads, graph.name, "the tail")
        engine = cls(dense, made, parts, filling, tail)
        if measure:
            engine.measure()
        return engine

    @property
    def shape(self) -> Tuple[int, ...]:
        """Of one frame's input, with an axis of one before it."""
        channels, rows, columns = self.cut.shapes[self.cut.source]
        return (1, rows, columns, channels) if self._last else (1, channels, rows, columns)

    def state(self, thresholds: Thresholds | float = 0.0, always: bool = False) -> TileState:
        """The state of a new stream.

        Parameters
        ----------
        thresholds : from which difference on a position counts, of all maps or of each
        always : whether tiles run where they do not pay, too

        Raises
        ------
        InputError
            when the thresholds name a map that is not kept.
        """
        given = thresholds if isinstance(thresholds, Thresholds) else Thresholds(thresholds)
        unknown = sorted(set(given.maps) - set(self.maps))
        if unknown:
            raise InputError(
                f"{self.name} keeps no map {unknown[0]!r}; it keeps {list(self.maps[:3])} and "
                f"{len(self.maps) - 3} more"
            )
        return TileState(given, always)

    @property
    def maps(self) -> Tuple[str, ...]:
        """Names of the maps that a stream keeps: the input, and then from front to back."""
        return (self.cut.source, *(name for s in self.cut.segments for name in s.outputs))

    def run(self, *inputs: np.ndarray) -> List[np.ndarray]:
        """Run a batch densely; see Engine.run."""
        return self.dense.run(*inputs)

    def run_streams(self, states: Sequence[TileState], frames: np.ndarray) -> List[np.ndarray]:
        """Answer one frame of each of several streams.

        Parameters
        ----------
        states : one for each frame; a stream may stand in a batch once
        frames : ndarray (streams, ...), as the network reads it

        Raises
        ------
        InputError
            when frames are not as the network reads them, or a state comes twice.
        """
        frames = np.asarray(frames)
        if len(frames) != len(states) or frames.shape[1:] != self.shape[1:]:
            raise InputError(
                f"{self.name} was given frames of shape {frames.shape} for {len(states)} streams; "
                f"({len(states)}, {', '.join(map(str, self.shape[1:]))}) is allowed"
            )
        wanted = self.cut.types[self.cut.source]
        if frames.dtype != wanted:
            raise InputError(f"{self.name} was given frames of {frames.dtype}; it reads {wanted}")
        if len({id(state) for state in states}) < len(states):
            raise InputError(f"{self.name}: a stream stands in a batch twice; it may once")
        answers = [self._one(state, frames[i : i + 1]) for i, state in enumerate(states)]
        if len(answers) == 1:
            return list(answers[0])
        return [np.concatenate(outputs) for outputs in zip(*answers)]

    def close(self) -> None:
        """Free the sessions."""
        self.dense.close()
        self._parts, self._filling, self._tail = (), None, None

    # One frame ---------------------------------------------------------------------------------

    def _one(self, state: TileState, frame: np.ndarray) -> List[np.ndarray]:
        if state.wait:
            state.wait -= 1
            return self._plain(state, frame)
        if not state.valid:
            return self._fill(state, frame)
        changed = state.pixels = self._take(state, frame)
        if not len(changed):
            state.count(SAME)
            state.shares = [0.0] * len(self._parts)
            return state.outputs
        if not self._update(state, changed):
            return self._retreat(state, frame)
        state.count(UPDATED)
        self._judge(state)
        return state.outputs

    def _judge(self, state: TileState) -> None:
        """After an update, rest where it cost more than computing the frame would have."""
        if state.always or self.costs is None or self.dense_ms is None:
            return
        spent = self.estimated_ms(state)
        state.good = state.good + 1 if spent <= self.dense_ms else min(state.good, 0) - 1
        if state.good >= TRUSTED:
            state.patience = 0
        elif state.good <= -DOUBTED:
            state.good = 0
            state.patience = state.wait = min(max(4, 16 * state.patience), LONGEST_WAIT)

    def _plain(self, state: TileState, frame: np.ndarray) -> List[np.ndarray]:
        state.count(PLAIN)
        state.valid = False
        state.profile = []
        state.shares = [1.0] * len(self._parts)
        state.outputs = []
        return self.dense.run(frame)

    def _retreat(self, state: TileState, frame: np.ndarray) -> List[np.ndarray]:
        """Answer a frame for which tiles do not pay; the more often, the longer they rest."""
        state.good = 0
        state.patience = state.wait = min(max(4, 16 * state.patience), LONGEST_WAIT)
        return self._plain(state, frame)

    def _fill(self, state: TileState, frame: np.ndarray) -> List[np.ndarray]:
        """Compute the whole frame, and keep every map."""
        if not state.rows:
            state.begin(self.cut)
        state.valid = False  # until all of it is written
        source = self.cut.source
        state.outputs = self._filled(state, frame)
        state.frame = frame.copy()
        rows = state.rows[source]
        pixels = frame[0] if self._last else frame[0].transpose(1, 2, 0)
        rows[:-MORE] = pixels.reshape(len(rows) - MORE, -1)
        if not state.limits:
            state.measure(self.maps)
        state.count(FILLED)
        state.shares = [1.0] * len(self._parts)
        state.valid = True
        return state.outputs

    def _filled(self, state: TileState, frame: np.ndarray) -> List[np.ndarray]:
        """Run the whole network, which writes every map where the stream keeps it."""
        binding = self._filling.io_binding()
        binding.bind_cpu_input(self.cut.source, np.ascontiguousarray(frame))
        outputs = self.cut.graph.outputs
        for name in outputs:
            binding.bind_output(name, "cpu")
        for name in self.maps[1:]:
            rows = state.rows[name]
            channels, height, width = self.cut.shapes[name]
            shape = (1, height, width, channels)
            where = rows.ctypes.data
            binding.bind_output(name + ROWS, "cpu", 0, rows.dtype.type, shape, where)
        try:
            self._filling.run_with_iobinding(binding)
        except Exception as exc:  # ONNX Runtime's errors share no public base class
            raise EngineError(f"{self.name} failed on {frame.shape}: {reason(exc)}") from exc
        return [value.numpy() for value in binding.get_outputs()[: len(outputs)]]

    def _take(self, state: TileState, frame: np.ndarray) -> np.ndarray:
        """Write the pixels that changed into the stream's input; says which."""
        assert state.frame is not None
        kept, limit = state.frame, state.limits[self.cut.source]
        axis = 2 if self._last else 0
        some = np.s_[:, ::16] if self._last else np.s_[:, :, ::16]
        if np.array_equal(frame[some], kept[some]) and np.array_equal(frame, kept):
            return np.zeros(0, np.intp)  # a still frame is told at a third of the cost
        if limit == 0:
            differs = (frame[0] != kept[0]).any(axis=axis)
        elif frame.dtype == np.uint8:
            apart = np.maximum(frame[0], kept[0]) - np.minimum(frame[0], kept[0])
            differs = (apart > limit).any(axis=axis)
        else:
            apart = frame[0] - kept[0]
            np.abs(apart, out=apart)
            differs = (apart > limit).any(axis=axis)
        places = np.flatnonzero(differs)
        if len(places):
            if self._last:
                flat = kept.reshape(-1, kept.shape[3])
                flat[places] = frame.reshape(flat.shape)[places]
                state.rows[self.cut.source][places] = flat[places]
            else:
                planes = kept.reshape(kept.shape[1], -1)
                now = frame.reshape(planes.shape)[:, places]
                planes[:, places] = now
                state.rows[self.cut.source][places] = now.T
        return places

    def _update(self, state: TileState, places: np.ndarray) -> bool:
        """Carry a change through the network; False where computing everything is cheaper."""
        changed: Dict[str, np.ndarray] = {self.cut.source: places}
        shares = [0.0] * len(self._parts)
        before, spent = state.profile, 0.0
        state.valid = False  # until all of it is written
        for number, part in enumerate(self._parts):
            tiles = self._touched(part, changed)
            if tiles is None:
                continue
            shares[number] = share = len(tiles) / part.places.count
            if not (state.always or self._pays(number, share, before, spent)):
                return False
            if self.costs is not None:
                spent += self.costs[number].fixed + share * self.costs[number].whole
            self._run_part(state, part, tiles, changed)
        if any(name in changed for name in self.cut.reads):
            state.outputs = self._tailed(state)
        state.shares = state.profile = shares
        state.valid = True
        return True

    def _tailed(self, state: TileState) -> List[np.ndarray]:
        """The network's outputs from the maps that are kept."""
        feeds = {}
        for entry, name in zip(self._tail.get_inputs(), self.cut.reads):
            channels, height, width = self.cut.shapes[name]
            feeds[entry.name] = state.rows[name][:-MORE].reshape(1, height, width, channels)
        return run_session(self._tail, self.name, "the tail", feeds)

    def _touched(self, part: _Part, changed: Dict[str, np.ndarray]) -> np.ndarray | None:
        """The tiles that read something that changed."""
        flags: np.ndarray | None = None
        for reading in part.places.readings:
            places = changed.get(reading.base)
            if places is None:
                continue
            if flags is None:
                flags = np.zeros(part.places.count + 1, bool)
            flags[reading.touched.take(places, axis=0)] = True
        if flags is None:
            return None
        tiles = np.flatnonzero(flags[:-1])
        return tiles if len(tiles) else None

    def _run_part(
        self, state: TileState, part: _Part, tiles: np.ndarray, changed: Dict[str, np.ndarray]
    ) -> None:
        """Run a segment on some tiles, and keep what changed by more than its map's limit."""
        places = part.places
        feeds = {}
        for name, reading in zip(part.names, places.readings):
            rows = reading.rows.take(tiles, axis=0).ravel()
            values = state.rows[reading.base].take(rows, axis=0, mode="clip")
            feeds[name] = values.reshape(len(tiles), *reading.shape)
        found = run_session(part.session, self.name, part.segment.name, feeds)
        written = places.written.take(tiles, axis=0).ravel()
        for name, now in zip(part.segment.outputs, found):
            rows, limit = state.rows[name], state.limits[name]
            before = rows.take(written, axis=0, mode="clip")
            if limit:
                np.subtract(now, before, out=before)
                np.abs(before, out=before)
                differs = anywhere(before > limit)
            else:
                differs = anywhere(now != before)
            if not places.whole:
                differs &= written < places.inside
            which = np.flatnonzero(differs)
            if not len(which):
                continue
            if len(which) == len(written):
                rows[written], changed[name] = now, written
            else:
                changed[name] = written[which]
                rows[changed[name]] = now[which]

    def _pays(self, number: int, share: float, before: Sequence[float], spent: float) -> bool:
        """Whether going on with tiles costs less than computing the frame in full.

        The segments behind are taken to be touched as much more than this one as they were in the
        frame before. Nothing is known of that after a rest, and one frame is tried: many pixels may
        change, and all for nothing that the next layers see.
        """
        if self.costs is None or self.dense_ms is None:
            return True
        if not before:
            return spent <= self.dense_ms
        grown = share / before[number] if before[number] else 1.0
        left = 0.0
        for place in range(number, len(self.costs)):
            cost = self.costs[place]
            left += cost.fixed + min(before[place] * grown, 1.0) * cost.whole
        return left <= self.dense_ms

    def estimated_ms(self, state: TileState) -> float:
        """What the stream's last frame cost, by the costs that were measured.

        Raises
        ------
        InputError
            when they were not.
        """
        if self.costs is None or self.dense_ms is None:
            raise InputError(f"{self.name} was opened without measuring its costs")
        if state.what == UPDATED:
            spent = (c.fixed + s * c.whole for c, s in zip(self.costs, state.shares) if s)
            return self.looking_ms + sum(spent)
        return {SAME: self.looking_ms, FILLED: self.filling_ms}.get(state.what, self.dense_ms)

    # Opening -----------------------------------------------------------------------------------

    def measure(self, runs: int = 3) -> None:
        """Take the time of each segment at two shares of its tiles, and of the whole network."""
        state = self.state()
        frame = np.zeros(self.shape, self.cut.types[self.cut.source])
        self._fill(state, frame)
        costs = []
        for part in self._parts:
            few, many = (np.arange(0, part.places.count, step) for step in (8, 2))
            first, second = (
                _shortest(partial(self._run_part, state, part, tiles, {}), runs)
                for tiles in (few, many)
            )
            shares = [len(tiles) / part.places.count for tiles in (few, many)]
            apart = shares[1] - shares[0]
            whole = max((second - first) / apart, 0.0) if apart else 0.0
            costs.append(TileCost(max(first - whole * shares[0], 0.0), whole))
        self.dense_ms = _shortest(lambda: self.dense.run(frame), runs)
        self.filling_ms = _shortest(lambda: self._fill(state, frame), runs)
        # One segment after the other finds nothing in the processor's caches: what that takes
        # beyond their own times, and the tail, are shared out among them.
        sparse = [np.arange(0, part.places.count, 16) for part in self._parts]
        known = sum(
            cost.fixed + len(tiles) / part.places.count * cost.whole
            for cost, tiles, part in zip(costs, sparse, self._parts)
        )
        other = frame.copy()
        other[:, :, :9] += 1
        looking, update = [], []
        for number in range(runs + 1):
            looking.append(_shortest(partial(self._take, state, other if number % 2 else frame), 1))
            update.append(_shortest(partial(self._pass, state, sparse), 1))
        rest = max(min(update) - known, 0.0) / len(costs)
        self.looking_ms = min(looking)
        self.costs = tuple(TileCost(cost.fixed + rest, cost.whole) for cost in costs)

    def _pass(self, state: TileState, tiles: Sequence[np.ndarray]) -> None:
        """Run some tiles of each segment, and the tail."""
        for part, some in zip(self._parts, tiles):
            reading = part.places.readings[0]
            self._touched(part, {reading.base: some % len(reading.touched)})
            self._run_part(state, part, some, {})
        state.outputs = self._tailed(state)


def anywhere(flags: np.ndarray) -> np.ndarray:
    """Of an array (positions, channels) of bool, the positions at which any channel is set.

    NumPy's own reduction takes ten times as long on the short rows of early maps: flags are joined
    eight at a time.
    """
    channels = flags.shape[1]
    for word in (np.int64, np.int32):
        count, rest = divmod(channels, np.dtype(word).itemsize)
        if rest == 0 and count <= 16:
            words = flags.view(word)
            break
    else:
        if channels > 4:
            return np.asarray(flags.any(axis=1))
        words = flags
    found: Any = words[:, 0]
    for column in range(1, words.shape[1]):
        found = found | words[:, column]
    return np.asarray(found != 0)


def _shortest(run: Any, runs: int) -> float:
    run()
    found = []
    for _ in range(runs):
        began = perf_counter()
        run()
        found.append((perf_counter() - began) * 1e3)
    return min(found)
