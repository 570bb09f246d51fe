"""Where a network is cut: into segments that read windows of maps and write maps.

A segment begins with operators that look at a window of what they read (convolutions, pooling) and
goes on with those that look at one position (activations, sums, concatenations, batch norm, 1x1
convolutions). So nothing inside it sees past the edge of a tile, no position is computed twice,
and the zeros around a map are gathered like any other value. What cannot be cut, and all after
it, runs densely: the tail.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np

from adaptive.engines.tiles.cut import (
    WINDOWS,
    Access,
    Cut,
    MapView,
    Refusal,
    TileSegment,
    Window,
    window_of,
)
from adaptive.engines.tiles.graph import Graph, Node
from adaptive.errors import EngineError

#: Operators that give a position from that position alone, channel by channel.
ALONE = frozenset(
    [
        *("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid", "HardSwish", "Elu"),
        *("Selu", "Celu", "Softplus", "Softsign", "ThresholdedRelu", "Exp", "Log", "Abs", "Sqrt"),
        *("Neg", "Reciprocal", "Floor", "Ceil", "Round", "Erf", "Cast", "Identity", "Dropout"),
        *("PRelu", "BatchNormalization"),
    ]
)

#: Operators of two or more maps, or of a map and a constant.
TOGETHER = frozenset(["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "Mean"])

#: Operators that move pixels and mix no channels.
MOVES = frozenset(["Resize", "Upsample", "Slice"])

#: Positions of a window up to which it pays to gather the window of each output by itself.
WIDEST = 25


def cut(
    graph: Graph,
    probed: Mapping[str, np.ndarray],
    moved: Mapping[str, np.ndarray],
    levels: int | None = None,
) -> Cut:
    """Cut a network.

    Parameters
    ----------
    graph : the network
    probed : what every tensor holds when the network runs once, batch of one
    moved : for each output of an operator that moves pixels, which position it shows
    levels : segments of a higher level run in the tail; None where all may be cut

    Raises
    ------
    EngineError
        when nothing of it can be cut.
    """
    return _Cutter(graph, probed, moved, levels).cut()


class _Cutter:
    def __init__(
        self,
        graph: Graph,
        probed: Mapping[str, np.ndarray],
        moved: Mapping[str, np.ndarray],
        levels: int | None,
    ) -> None:
        self.graph = graph
        self.probed = probed
        self.moved = moved
        self.levels = levels
        if len(graph.inputs) != 1:
            raise EngineError(
                f"{graph.name} reads {len(graph.inputs)} inputs {list(graph.inputs)}; a network "
                "that is cut into tiles reads one"
            )
        self.source = graph.inputs[0]
        self.constants: Dict[str, Node] = {}
        self.sizes: Dict[str, Tuple[int, ...]] = {}
        self.level: Dict[str, int] = {}
        self.last: Set[str] = set()  # maps whose channels stand last
        self.views: Dict[str, MapView] = {}
        self.shapes: Dict[str, Tuple[int, int, int]] = {}
        self.tail: List[Node] = []
        self.why = ""
        self.made: Dict[Tuple[int, int, int], List[Node]] = defaultdict(list)
        self.found: Dict[str, Tuple[int, int, int]] = {}  # map -> its segment

    def cut(self) -> Cut:
        if self.probed[self.source].ndim != 4:
            raise EngineError(
                f"{self.graph.name} reads {self.source!r} of shape "
                f"{self.probed[self.source].shape}; maps of four axes can be cut into tiles"
            )
        self._begin()
        for node in self.graph.nodes:
            known = [name for name in node.inputs if name]
            if all(name in self.graph.weights or name in self.constants for name in known):
                for name in node.outputs:
                    self.constants[name] = node
                    if name in self.probed:
                        self.sizes[name] = self.probed[name].shape
                continue
            try:
                self._place(node)
            except Refusal as refusal:
                self.tail.append(node)
                self.why = self.why or f"{node.op}: {refusal}"
        return self._finish()

    def _begin(self) -> None:
        name = self.source
        _, *sides = self.probed[name].shape
        reads = [node for node in self.graph.nodes if name in node.inputs]
        while len(reads) == 1 and reads[0].op in ALONE | TOGETHER:
            reads = [node for node in self.graph.nodes if reads[0].outputs[0] in node.inputs]
        first = reads[0] if len(reads) == 1 else None
        if first is not None and first.op == "Transpose" and first.ints("perm", ()) == (0, 3, 1, 2):
            self.last.add(name)
            sides = [sides[2], sides[0], sides[1]]
        self.level[name] = 0
        self.shapes[name] = (sides[0], sides[1], sides[2])

    def _place(self, node: Node) -> None:
        """Find a node's segment, or refuse."""
        maps = [name for name in node.inputs if name and not self._constant(name)]
        unknown = [name for name in maps if name not in self.level]
        if unknown:
            raise Refusal(f"reads {unknown[0]}, which is computed densely")
        for name in node.outputs[:1]:
            if self.probed[name].ndim != 4:
                raise Refusal(f"gives {self.probed[name].ndim} axes and no map of four")
            if self.probed[name].dtype not in (np.float32, np.uint8):
                raise Refusal(f"gives {self.probed[name].dtype}, and not float32")
        if node.op == "Transpose":
            self._turn(node, maps[0])
        elif node.op in MOVES and self._moves(node):
            self._view(node, maps[0])
        elif node.op in WINDOWS and self._looks(node, maps[0]):
            base = self._base(maps[0])
            self._add(node, self.level[base] + 1)
        else:
            self._alone(node, maps)
            self._add(node, max(self._at(name) for name in maps))

    def _constant(self, name: str) -> bool:
        return name in self.graph.weights or name in self.constants

    def _base(self, name: str) -> str:
        return self.views[name].base if name in self.views else name

    def _at(self, name: str) -> int:
        """The level at which a map can be read at its own place."""
        return self.level[name] + (name in self.views)

    def _add(self, node: Node, level: int) -> None:
        if self.levels is not None and level > self.levels:
            raise Refusal(f"lies behind the first {self.levels} levels, which were asked for")
        shape = self._shape(node.outputs[0], any(name in self.last for name in node.inputs))
        key = level, shape[1], shape[2]
        for name in node.outputs:
            if name in self.probed:
                self.level[name] = level
                self.found[name] = key
                self.shapes[name] = self._shape(name, name in self.last)
        self.made[key].append(node)

    def _shape(self, name: str, last: bool) -> Tuple[int, int, int]:
        _, *sides = self.probed[name].shape
        if last:
            self.last.add(name)
            sides = [sides[2], sides[0], sides[1]]
        return sides[0], sides[1], sides[2]

    def _turn(self, node: Node, name: str) -> None:
        if name not in self.last or node.ints("perm", ()) != (0, 3, 1, 2):
            raise Refusal("changes the order of axes")
        out = node.outputs[0]
        self.shapes[out] = self._shape(out, False)
        self.level[out] = self.level[name]
        self.found[out] = self.level[name], self.shapes[out][1], self.shapes[out][2]
        self.made[self.found[out]].append(Node("Identity", (name,), (out,)))

    def _moves(self, node: Node) -> bool:
        return node.outputs[0] in self.moved

    def _view(self, node: Node, name: str) -> None:
        out, base = node.outputs[0], self._base(name)
        if base in self.last:
            raise Refusal("reads a map whose channels stand last")
        source = self.moved[out]
        nodes: Tuple[Node, ...] = (node,)
        if name in self.views:
            source = self.views[name].source[source]
            nodes = (*self.views[name].nodes, node)
        self.views[out] = MapView(base, source, nodes)
        self.level[out] = self.level[base]
        self.shapes[out] = self._shape(out, False)

    def _looks(self, node: Node, name: str) -> bool:
        """Whether a window is more than a position; refuses those that cannot be cut."""
        if name in self.last:
            raise Refusal("reads a map whose channels stand last")
        window, after = window_of(node, self.shapes[name], self.probed[node.outputs[0]].shape)
        if node.op == "AveragePool" and (max(window.before) > 0 or max(after) > 0):
            raise Refusal("counts what lies outside of the map by its own rules")
        if node.op == "MaxPool" and len(node.outputs) > 1 and node.outputs[1]:
            raise Refusal("gives positions as well")
        if node.op == "MaxPool" and node.int("storage_order", 0):
            raise Refusal("stores columns first")
        return not window.plain

    def _alone(self, node: Node, maps: Sequence[str]) -> None:
        """Refuse what is not position by position."""
        if node.op in WINDOWS:
            return
        if node.op in ("Concat", "Split", "Slice"):
            self._channels(node)
            return
        if node.op not in ALONE | TOGETHER:
            raise Refusal("is no operator that can be cut")
        if len(node.outputs) > 1 and any(node.outputs[1:]):
            raise Refusal("gives more than one output")
        if node.op == "BatchNormalization" and node.int("training_mode", 0):
            raise Refusal("is in training")
        out = self.probed[node.outputs[0]].shape
        if not maps:
            raise Refusal("reads no map")
        for name in maps:
            if self.probed[name].shape != out:
                raise Refusal(f"combines maps of shapes {self.probed[name].shape} and {out}")
        last = any(name in self.last for name in maps)
        if node.op in TOGETHER | {"PRelu"}:
            for name in node.inputs:
                if self._constant(name):
                    self._fits(name, out, last)

    def _fits(self, name: str, out: Tuple[int, ...], last: bool) -> None:
        """Refuse a constant that is neither one number nor one a channel."""
        sides = self.sizes[name] if name in self.sizes else self.graph.sizes[name]
        wide = [axis - len(sides) + 4 for axis, side in enumerate(sides) if side != 1]
        if wide and (last or wide != [1]):
            raise Refusal(f"reads a constant of shape {sides} with a map {out}")
        self.sizes[name] = sides

    def _channels(self, node: Node) -> None:
        last = any(name in self.last for name in node.inputs)
        if node.op == "Slice":
            before, after = self.probed[node.inputs[0]].shape, self.probed[node.outputs[0]].shape
            named = len(node.inputs) > 3 or "axes" in node.attributes
            if before[0] != after[0] or before[2:] != after[2:] or last or not named:
                raise Refusal("takes a part that is neither of channels nor of places alone")
            if len(node.inputs) > 3:
                axes = tuple(int(axis) for axis in np.ravel(self.probed[node.inputs[3]]))
            else:
                axes = node.ints("axes", ())
            if axes not in ((1,), (-3,)):
                raise Refusal("takes a part along several axes")
            if axes == (-3,):
                raise Refusal("counts its axis from the end")
        elif node.op == "Concat" and any(self._constant(name) for name in node.inputs):
            raise Refusal("adds constant channels")
        elif node.int("axis", 0) != 1 or last:
            raise Refusal("is not along channels")

    def _finish(self) -> Cut:
        order = sorted(self.made)
        read: Set[str] = {name for node in self.tail for name in node.inputs}
        read |= set(self.graph.outputs)
        drafts: List[Tuple[Tuple[int, int, int], List[Node], List[Access]]] = []
        for key in order:
            accesses: Dict[str, Access] = {}
            for node in self.made[key]:
                for access in self._accesses(node, key):
                    accesses.setdefault(access.name, access)
                    read.add(access.base)
            drafts.append((key, self.made[key], list(accesses.values())))
        segments: List[TileSegment] = []
        for key, nodes, reads in drafts:
            kept = tuple(
                name for node in nodes for name in node.outputs if name and self._kept(name, read)
            )
            if not kept:
                continue
            segments.append(
                TileSegment(
                    len(segments), key[0], key[1:], tuple(nodes), tuple(reads), kept,
                    self._as_rows(nodes, reads),
                )
            )  # fmt: skip
        if not segments:
            raise EngineError(
                f"nothing of {self.graph.name} can be cut into tiles; its first operators are "
                f"{[node.op for node in self.graph.nodes[:3]]} ({self.why or 'no maps'})"
            )
        wanted = [name for node in self.tail for name in node.inputs] + list(self.graph.outputs)
        used = list(dict.fromkeys(name for name in wanted if name in self.level))
        views = [node for name in used if name in self.views for node in self.views[name].nodes]
        self.tail = [*{node.outputs: node for node in views}.values(), *self.tail]
        tail_reads = {self._base(name) for name in used}
        types = {name: self.probed[name].dtype for name in self.shapes}
        return Cut(
            self.graph, self.source, frozenset(self.last), self.shapes, types, self.views,
            self.constants, self.sizes, tuple(segments), tuple(self.tail),
            tuple(sorted(tail_reads)), self.why,
        )  # fmt: skip

    def _kept(self, name: str, read: Set[str]) -> bool:
        """Whether something outside of its segment reads a map; views are read by their base."""
        if name not in self.found:
            return False
        viewed = {self.views[v].base for v in read if v in self.views}
        return name in read or name in viewed

    def _accesses(self, node: Node, key: Tuple[int, int, int]) -> List[Access]:
        found = []
        for place, name in enumerate(node.inputs):
            if not name or self._constant(name):
                continue
            if place == 0 and node.op in WINDOWS:
                out = self.probed[node.outputs[0]].shape
                window, _ = window_of(node, self.shapes[name], out)
                if not window.plain:
                    least = node.op == "MaxPool"
                    found.append(Access(name, self._base(name), window, least))
                    continue
            if self.found.get(name) != key:
                found.append(Access(name, self._base(name), Window()))
        return found

    def _as_rows(self, nodes: Sequence[Node], reads: Sequence[Access]) -> bool:
        """Whether single positions pay: matrix products of many channels, no grouped ones."""
        for node in nodes:
            if node.op != "Conv":
                continue
            if node.int("group", 1) != 1:
                return False
        for read in reads:
            window, channels = read.window, self.shapes[read.base][0]
            if window.kernel[0] * window.kernel[1] > (1 if channels < 16 else WIDEST):
                return False
        if any(node.op == "Conv" for node in nodes):
            return True
        return all(read.window.plain for read in reads)
