"""Networks that answer at several depths, the later exits going on from the earlier ones.

A network is a chain of segments, each with a head at its end. What passes from one segment to the
next is always one tensor, the state, so that a network can be cut there and stopped there.
Between two exits an aggregation can sit (Huynh 2019, chapter 5): the earlier state, max-pooled to
the later one's size, beside the later features, mixed by a 1 x 1 convolution; the result feeds
the later head and is the later state.
"""

from __future__ import annotations

import difflib
from typing import Any, Callable, Sequence

import torch
from torch import Tensor, fx, nn

from adaptive.causes import reason
from adaptive.errors import InputError


class Join(nn.Module):
    """Aggregate an earlier state into later features, which keep their shape.

    Before training it hands the later features on, nearly as they are, so that a trunk that is
    trained already, or one of residual blocks, is not cut into pieces by random mixtures.
    """

    def __init__(self, earlier: int, later: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(earlier + later, later, 1, bias=False)
        with torch.no_grad():
            convolution.weight[:, earlier:] = torch.eye(later)[:, :, None, None]
        self.mix = nn.Sequential(convolution, nn.BatchNorm2d(later), nn.ReLU(inplace=True))

    def forward(self, earlier: Tensor, later: Tensor) -> Tensor:
        mixed: Tensor = self.mix(torch.cat([pooled_to(earlier, later), later], dim=1))
        return mixed


def pooled_to(earlier: Tensor, later: Tensor) -> Tensor:
    """Max-pool `earlier` to the height and width of `later`."""
    # plain numbers, so that an exporter sees sizes that do not vary
    have, want = [int(n) for n in earlier.shape[-2:]], [int(n) for n in later.shape[-2:]]
    if have == want:
        return earlier
    if all(h % w == 0 for h, w in zip(have, want)):
        # the same as adaptive pooling, in a form that every runtime has
        return nn.functional.max_pool2d(earlier, (have[0] // want[0], have[1] // want[1]))
    return nn.functional.adaptive_max_pool2d(earlier, want)


class MultiExit(nn.Module):
    """A chain of segments with a head at the end of each.

    Parameters
    ----------
    segments : the parts of the trunk; the first takes images, each other the state before it
    heads : one for each segment, from its state to logits of shape (n, classes)
    joins : aggregation for every segment but the first, or nothing

    Raises
    ------
    InputError
        when the numbers of segments, heads and joins do not fit.
    """

    def __init__(
        self,
        segments: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        joins: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if not segments or len(heads) != len(segments):
            raise InputError(
                f"a network with exits needs one head for each segment, got {len(segments)} "
                f"segments and {len(heads)} heads"
            )
        if joins is not None and len(joins) != len(segments) - 1:
            raise InputError(
                f"{len(segments)} segments take {len(segments) - 1} joins, got {len(joins)}"
            )
        self.segments = nn.ModuleList(segments)
        self.heads = nn.ModuleList(heads)
        self.joins = None if joins is None else nn.ModuleList(joins)

    @property
    def exits(self) -> int:
        """How many exits there are."""
        return len(self.segments)

    def segment(self, k: int, x: Tensor) -> Tensor:
        """State of exit `k` from that of exit `k - 1`, or from the images where `k` is 0."""
        features: Tensor = self.segments[k](x)
        if self.joins is None or k == 0:
            return features
        state: Tensor = self.joins[k - 1](x, features)
        return state

    def head(self, k: int, state: Tensor) -> Tensor:
        """Logits of exit `k` from its state."""
        logits: Tensor = self.heads[k](state)
        return logits

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of all exits, in one pass over the segments."""
        state, answers = images, []
        for k in range(self.exits):
            state = self.segment(k, state)
            answers.append(self.head(k, state))
        return answers

    def single(self, k: int) -> nn.Sequential:
        """The plain network that ends at exit `k`: the trunk so far and that one head.

        It shares the weights; a network with joins has no such part.
        """
        if self.joins is not None:
            raise InputError("a network with joins cannot be taken apart into plain networks")
        return nn.Sequential(*list(self.segments)[: k + 1], self.heads[k])


def split_at(network: nn.Module, layers: Sequence[str], example: Tensor) -> list[nn.Module]:
    """Cut a network behind named layers into parts that one tensor passes between.

    The parts share the network's weights; run one after the other they give its own answer. The
    last part holds everything behind the last layer, the network's own head included. What the
    network does is recorded in the mode that it is in, training or evaluation.

    Parameters
    ----------
    layers : names as in `network.named_modules()`, from the input on
    example : a batch for the network

    Returns
    -------
    One part more than there are layers.

    Raises
    ------
    InputError
        when a name does not exist or is not passed by `example`, layers are out of order, more
        than one tensor would have to pass, or torch.fx cannot record the network.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(network)
    except Exception as exc:  # whatever the network's own code raises on symbolic values
        raise InputError(
            f"torch.fx cannot record {type(network).__name__} ({reason(exc)}); a network that "
            "branches on its values cannot be cut"
        ) from exc
    known = {name for name, _ in network.named_modules() if name}
    cuts = [_cut(tracer, known, name) for name in layers]
    order = {node: place for place, node in enumerate(graph.nodes)}
    for (before, first), (name, later) in zip(zip(layers, cuts), zip(layers[1:], cuts[1:])):
        if order[later] <= order[first]:
            there = sorted({*layers}, key=lambda one: order[cuts[list(layers).index(one)]])
            raise InputError(
                f"layer {name!r} does not come behind {before!r}; the order from the input on is "
                f"{there}, and each place can be named once"
            )
    inputs = [node for node in graph.nodes if node.op == "placeholder" and node.users]
    if len(inputs) != 1:
        raise InputError(
            f"{type(network).__name__} takes {len(inputs)} inputs; one can be cut through"
        )
    parts: list[nn.Module] = []
    done: set[fx.Node] = set()
    start = inputs[0]
    for name, cut in zip(layers, cuts):
        needed = _ancestors(cut)
        _check_crossing(name, cut, needed)
        parts.append(_part(network, graph, needed - done - {start}, start, cut))
        done, start = done | needed, cut
    last = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(last, fx.Node):
        raise InputError(f"{type(network).__name__} gives more than one tensor; one is needed")
    parts.append(_part(network, graph, _ancestors(last) - done - {start}, start, last))
    _check_parts(parts, [*layers, "the last"], example)
    return parts


class _Tracer(fx.Tracer):
    """Remembers which node of the graph is the output of which layer."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, Any] = {}

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record a layer as usual; one that runs several times counts where it runs last."""
        name = self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.outputs[name] = result
        return result


def _cut(tracer: _Tracer, known: set[str], name: str) -> fx.Node:
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), 4) or sorted(known)[:4]
        raise InputError(f"the network has no layer {name!r}; there are {near} and others")
    result = tracer.outputs.get(name)
    if not isinstance(result, fx.Proxy):
        inner = sorted(n for n in tracer.outputs if n.startswith(f"{name}."))[-1:]
        raise InputError(
            f"no single tensor comes out of layer {name!r}, so no exit can be attached to it"
            + (f"; {inner[0]!r} lies within" if inner else "")
        )
    return result.node


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """All nodes that `node` is computed from, and itself."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += one.all_input_nodes
    return found


def _check_crossing(name: str, cut: fx.Node, needed: set[fx.Node]) -> None:
    """Refuse a cut that anything but its own tensor has to pass."""
    crossing = [
        node
        for node in needed - {cut}
        if node.op != "get_attr" and any(user not in needed for user in node.users)
    ]
    if crossing:
        raise InputError(
            f"the network cannot be cut behind layer {name!r}: {len(crossing) + 1} tensors pass "
            "there, as inside a residual block; name the layer that encloses it, or another"
        )


def _part(
    network: nn.Module, graph: fx.Graph, nodes: set[fx.Node], start: fx.Node, end: fx.Node
) -> fx.GraphModule:
    """The part of the network that computes `end` from `start`."""
    part = fx.Graph()
    copies = {start: part.placeholder("x")}
    attributes = {node for one in nodes for node in one.all_input_nodes if node.op == "get_attr"}
    for node in graph.nodes:
        if node in nodes or node in attributes:
            copies[node] = part.node_copy(node, lambda one: copies[one])
    part.output(copies[end])
    return fx.GraphModule(network, part)


def _check_parts(parts: Sequence[nn.Module], names: Sequence[str], example: Tensor) -> None:
    """Run the parts once and refuse one that gives anything but a tensor."""
    modes = [part.training for part in parts]
    state: Any = example
    with torch.no_grad():
        for part, name in zip(parts, names):
            state = part.eval()(state)
            if not isinstance(state, Tensor):
                raise InputError(
                    f"layer {name!r} gives {type(state).__name__}, not one tensor; name another"
                )
    for part, mode in zip(parts, modes):
        part.train(mode)
