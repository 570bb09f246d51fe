"""Precision by layer: which convolutions of an ONNX network compute in 16 bits.

The search is algorithm 1 of Huynh 2019: convert, again and again, the convolution whose
conversion loses least on validation images, as long as the loss stays within a limit. What
stands between converted convolutions and does not round (or, for additions, rounds once) joins
them, so that tensors are cast only where a region of 16 bits begins or ends.

A processor has no 16-bit convolutions: its runtime computes them in 32 bits, no faster. So the
search looks at `rounded`, the same network in 32 bits with every value that a GPU would hold in
16 bits rounded to 16 bits. That shows what is lost by rounding weights and tensors. It does not
show sums that are themselves accumulated in 16 bits, as Pascal's (TX2) may be.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, FrozenSet, Iterable, Iterator, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from adaptive.errors import EngineError, InputError

#: Operators that join a region of 16 bits when all that they read comes from it. All but Add
#: hand on values that they read, so they round nothing.
_JOIN = ("Add", "Clip", "Concat", "Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Transpose")

#: Operators of a region whose results are rounded.
_ROUND = ("Conv", "Add")

#: How many of an operator's inputs are data; the rest are shapes, which keep their type.
_DATA_INPUTS = {"Reshape": 1, "Flatten": 1, "Transpose": 1, "Identity": 1, "MaxPool": 1}


def convolutions(model: ModelProto) -> tuple[str, ...]:
    """The network's convolutions in their order, each by the name of the tensor that it makes.

    Only those count whose weights are stored in the file, in 32 bits.
    """
    weights = {i.name for i in model.graph.initializer if i.data_type == TensorProto.FLOAT}
    return tuple(
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in weights
    )


def convertible(model: ModelProto) -> tuple[str, ...]:
    """Those of its convolutions whose weights are not too large for 16 bits."""
    names = set(convolutions(model))
    weights = {i.name: i for i in model.graph.initializer}
    return tuple(
        node.output[0]
        for node in model.graph.node
        if node.output[0] in names
        and all(_fits(weights[name]) for name in node.input if name in weights)
    )


def _fits(tensor: TensorProto) -> bool:
    """Whether a tensor's values are within what 16 bits hold."""
    if tensor.data_type != TensorProto.FLOAT:
        return True
    values = numpy_helper.to_array(tensor)
    return bool(np.abs(values).max(initial=0) <= np.finfo(np.float16).max)


def unpacked(model: ModelProto) -> ModelProto:
    """A copy of the network whose weights are in 32 bits, where they are cast to them anyway.

    Networks that store 16-bit weights and cast them as they are loaded look so to `convolutions`
    as they compute. Weights that are another layer's too, by a node that copies them, are its own.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {i.name: i for i in graph.initializer}
    kept = []
    for node in graph.node:
        to = next((a.i for a in node.attribute if a.name == "to"), None)
        copied = node.op_type == "Identity" or (node.op_type == "Cast" and to == TensorProto.FLOAT)
        if not copied or node.input[0] not in weights:
            kept.append(node)
            continue
        values = numpy_helper.to_array(weights[node.input[0]])
        if node.op_type == "Cast":
            values = values.astype(np.float32)
        tensor = numpy_helper.from_array(values, node.output[0])
        graph.initializer.append(tensor)
        weights[node.output[0]] = tensor
    if len(kept) < len(graph.node):
        read = {name for node in kept for name in node.input}
        tensors = [i for i in graph.initializer if i.name in read]
        del graph.node[:]
        del graph.initializer[:]
        graph.node.extend(kept)
        graph.initializer.extend(tensors)
    return result


def half(model: ModelProto, chosen: Iterable[str]) -> ModelProto:
    """A copy of the network that computes the `chosen` convolutions in 16 bits.

    Inputs and outputs of the network keep their types. It needs no newer opset.

    Raises
    ------
    InputError
        when `chosen` names no convolution of the network, or a weight does not fit 16 bits.
    """
    return _Rewrite(model, chosen, simulate=False).result


def rounded(model: ModelProto, chosen: Iterable[str]) -> ModelProto:
    """The same network in 32 bits, with what `half` would hold in 16 bits rounded to them."""
    return _Rewrite(model, chosen, simulate=True).result


def region(model: ModelProto, chosen: Iterable[str]) -> tuple[int, ...]:
    """Positions of the nodes that compute in 16 bits: the chosen convolutions and who joins."""
    wanted = set(chosen)
    unknown = sorted(wanted - set(convolutions(model)))
    if unknown:
        raise InputError(
            f"the network has no convolutions {unknown[:3]}; it has {len(convolutions(model))}, "
            "each called by the tensor that it makes"
        )
    constants = {i.name: i for i in model.graph.initializer}
    inside: set[str] = set()
    found = []
    for position, node in enumerate(model.graph.node):
        if node.output[0] in wanted:
            joins = True
        elif node.op_type not in _JOIN:
            joins = False
        else:
            read = [name for name in _data(node) if name and name not in constants]
            held = [constants[name] for name in _data(node) if name in constants]
            joins = bool(read) and inside.issuperset(read) and all(map(_fits, held))
        if joins:
            found.append(position)
            inside.update(node.output)
    return tuple(found)


def _data(node: NodeProto) -> list[str]:
    """The inputs of a node that hold values, not shapes."""
    return list(node.input)[: _DATA_INPUTS.get(node.op_type, len(node.input))]


class _Rewrite:
    """One pass over a network's nodes that puts casts in and 16-bit weights under new names."""

    def __init__(self, model: ModelProto, chosen: Iterable[str], simulate: bool) -> None:
        members = set(region(model, chosen))
        graph = model.graph
        self._simulate = simulate
        self._weights = {i.name: i for i in graph.initializer}
        self._added: dict[str, TensorProto] = {}
        self._casts: dict[str, str] = {}
        self._nodes: list[NodeProto] = []
        inside: set[str] = set()
        for position, node in enumerate(graph.node):
            copy = NodeProto()
            copy.CopyFrom(node)
            if position in members:
                for at, name in enumerate(_data(node)):
                    if name and name not in inside:
                        copy.input[at] = self._narrow(name)
                inside.update(node.output)
                if simulate and node.op_type in _ROUND:
                    copy.output[0] = f"{node.output[0]}_unrounded"
                self._nodes.append(copy)
                if simulate and node.op_type in _ROUND:
                    self._round(copy.output[0], node.output[0])
            else:
                for at, name in enumerate(node.input):
                    if name in inside and not simulate:
                        copy.input[at] = self._widen(name)
                self._nodes.append(copy)
        for output in graph.output:
            if output.name in inside and not simulate:
                self._rename_output(output.name)
        self.result = self._assemble(model)

    def _narrow(self, name: str) -> str:
        """A tensor of 32 bits as the region reads it."""
        if name in self._weights:
            return self._weight(name)
        if name not in self._casts:
            self._casts[name] = f"{name}_half"
            if self._simulate:
                self._round(name, self._casts[name])
            else:
                self._cast(name, self._casts[name], TensorProto.FLOAT16)
        return self._casts[name]

    def _widen(self, name: str) -> str:
        """A tensor of the region as everything else reads it."""
        if name not in self._casts:
            self._casts[name] = f"{name}_single"
            self._cast(name, self._casts[name], TensorProto.FLOAT)
        return self._casts[name]

    def _weight(self, name: str) -> str:
        tensor = self._weights[name]
        if tensor.data_type != TensorProto.FLOAT:
            return name
        added = f"{name}_half"
        if added not in self._added:
            values = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                small = values.astype(np.float16)
            if not np.isfinite(small).all():
                raise InputError(
                    f"the weights {name!r} reach {np.abs(values).max():g}, more than 16 bits hold"
                )
            kept = small.astype(np.float32) if self._simulate else small
            self._added[added] = numpy_helper.from_array(kept, added)
        return added

    def _round(self, source: str, target: str) -> None:
        self._cast(source, f"{target}_16", TensorProto.FLOAT16)
        self._cast(f"{target}_16", target, TensorProto.FLOAT)

    def _cast(self, source: str, target: str, to: int) -> None:
        name = f"cast_{target}"
        self._nodes.append(helper.make_node("Cast", [source], [target], name, to=to))

    def _rename_output(self, name: str) -> None:
        """Give an output of the network its own name back, in 32 bits."""
        for node in self._nodes:
            for names in (node.input, node.output):
                for at, found in enumerate(names):
                    if found == name:
                        names[at] = f"{name}_inner"
        self._cast(f"{name}_inner", name, TensorProto.FLOAT)

    def _assemble(self, model: ModelProto) -> ModelProto:
        result = ModelProto()
        result.CopyFrom(model)
        graph = result.graph
        del graph.node[:]
        graph.node.extend(self._nodes)
        del graph.value_info[:]  # of types that have changed
        read = {name for node in self._nodes for name in node.input}
        kept = [i for i in graph.initializer if i.name in read] + list(self._added.values())
        del graph.initializer[:]
        graph.initializer.extend(kept)
        onnx.checker.check_model(result)
        return result


@dataclass(frozen=True, order=True)
class Loss:
    """What a conversion costs, compared in this order.

    Attributes
    ----------
    top1 : share of the validation images' top-1 that is lost; below 0 where it is gained
    divergence : mean Kullback-Leibler divergence of the answers from those in 32 bits, nats;
        it tells apart conversions that lose the same
    """

    top1: float
    divergence: float

    def __sub__(self, other: Loss) -> Loss:
        return Loss(self.top1 - other.top1, self.divergence - other.divergence)


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    chosen : the convolutions to convert, in the order in which they were taken
    losses : total loss after each; after all of them alone where they were taken at once
    left : convolutions that stay, because the limit was reached
    measured : how many mixtures were run over the validation images
    """

    chosen: tuple[str, ...]
    losses: tuple[Loss, ...]
    left: tuple[str, ...]
    measured: int


def search(
    names: Sequence[str],
    measure: Callable[[FrozenSet[str]], Loss],
    limit: float,
    say: Callable[[str], None] = lambda line: None,
) -> SearchResult:
    """Everything at once where that stays within the limit, which is often so; else `greedy`.

    Nothing is left for a search to find where everything fits, and a search takes at least twice
    as many measurements as there are convolutions. Parameters and errors are those of `greedy`.
    """
    _check_limit(limit)
    whole = measure(frozenset(names))
    if names and whole.top1 <= limit:
        say(f"all {len(names)} at once, {100 * whole.top1:+.2f} points lost")
        return SearchResult(tuple(names), (whole,), (), 1)
    found = greedy(names, measure, limit, say)
    return replace(found, measured=found.measured + 1)


def _check_limit(limit: float) -> None:
    if not limit >= 0:
        raise InputError(f"a loss of {limit} cannot be kept to; give 0 or more, such as 0.005")


def greedy(
    names: Sequence[str],
    measure: Callable[[FrozenSet[str]], Loss],
    limit: float,
    say: Callable[[str], None] = lambda line: None,
) -> SearchResult:
    """Convert what loses least, again and again, while the total loss of top-1 is at most `limit`.

    Algorithm 1 of Huynh 2019 measures everything that is left in every round, which is
    n (n + 1) / 2 measurements. Here each is measured once alone; then only the most promising
    one is measured again beside what has been taken, and it is taken when it still loses no
    more than the others' last known figures ("lazy" greedy, Minoux 1978). That is the same
    choice wherever a conversion costs no less the more has been converted already.

    Parameters
    ----------
    measure : total loss of a mixture, given the names that are converted
    limit : share of top-1, such as 0.005
    say : gets a line for each that is taken

    Raises
    ------
    InputError
        when `limit` is below 0 or not a number.
    """
    _check_limit(limit)
    chosen: list[str] = []
    losses: list[Loss] = []
    total, measured = Loss(0.0, 0.0), 0
    #: (loss that it adds, position, with how many taken that was measured, total loss with it)
    heap: list[tuple[Loss, int, int, Loss]] = []
    for position, name in enumerate(names):
        alone = measure(frozenset([name]))
        measured += 1
        heapq.heappush(heap, (alone, position, 0, alone))
    while heap:
        _, position, when, whole = heapq.heappop(heap)
        name = names[position]
        if when != len(chosen):
            whole = measure(frozenset([*chosen, name]))
            measured += 1
            heapq.heappush(heap, (whole - total, position, len(chosen), whole))
            continue
        if whole.top1 > limit:
            heapq.heappush(heap, (whole - total, position, when, whole))
            break
        chosen.append(name)
        losses.append(whole)
        total = whole
        say(f"{len(chosen)} of {len(names)}: {name}, {100 * whole.top1:+.2f} points lost")
    left = tuple(names[position] for position in sorted(entry[1] for entry in heap))
    return SearchResult(tuple(chosen), tuple(losses), left, measured)


class Answers:
    """Answers of a network's variants on the same images, held against the network's own.

    Parameters
    ----------
    model : the network in 32 bits
    images : its inputs, one array (1, ...) an image, as `preprocess` makes them
    labels : ndarray of shape (n,), the right classes
    probabilities : turns a raw answer into probabilities of shape (n, classes)
    threads : threads inside an operator
    """

    def __init__(
        self,
        model: ModelProto,
        images: Sequence[np.ndarray],
        labels: np.ndarray,
        probabilities: Callable[[np.ndarray], np.ndarray],
        threads: int = 1,
        batch: int = 8,
    ) -> None:
        self.model = model
        self._labels = labels
        self._probabilities = probabilities
        self._threads = threads
        self._batches = list(_batches(images, batch))
        self.own = self.of(model)

    def of(self, model: ModelProto | Path, as_written: bool = False) -> np.ndarray:
        """A variant's probabilities, shape (n, classes); see `open_session` for `as_written`."""
        network = str(model) if isinstance(model, Path) else model.SerializeToString()
        session = open_session(network, self._threads, as_written)
        name = session.get_inputs()[0].name
        raw = [session.run(None, {name: batch})[0] for batch in self._batches]
        return np.concatenate([self._probabilities(answer) for answer in raw])

    def top1(self, answers: np.ndarray) -> float:
        """Share of the images that these answers get right."""
        return float((answers.argmax(axis=1) == self._labels).mean())

    def agreement(self, answers: np.ndarray) -> float:
        """Share of the images for which these answers name the same class as the network's own."""
        return float((answers.argmax(axis=1) == self.own.argmax(axis=1)).mean())

    def loss(self, answers: np.ndarray) -> Loss:
        """How these answers differ from the network's own."""
        p, q = self.own.clip(1e-9), answers.clip(1e-9)
        divergence = float((p * (np.log(p) - np.log(q))).sum(axis=1).mean())
        return Loss(self.top1(self.own) - self.top1(answers), divergence)

    def measure(self, chosen: FrozenSet[str]) -> Loss:
        """The loss of computing these convolutions in 16 bits; infinite where they overflow."""
        try:
            answers = self.of(rounded(self.model, chosen))
        except EngineError:  # what `probabilities` says of numbers that are not finite
            return Loss(float("inf"), float("inf"))
        return self.loss(answers)


def open_session(network: bytes | str, threads: int, as_written: bool = False) -> Any:
    """An ONNX Runtime session on the processor, for a file's name or a network in memory.

    With `as_written` nothing is fused: slow, but the arithmetic is the graph's, whatever integer
    instructions this processor has.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if as_written:
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _batches(images: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(images), size):
        yield np.concatenate(images[first : first + size])
