"""Where an ONNX network can be cut in two, and the parts.

A network can be cut where all that comes later follows from one value: that value is handed on.
"""

from __future__ import annotations

from math import prod
from typing import List, NamedTuple, Sequence

from onnx import ModelProto, TensorProto, checker, helper, utils

from adaptive.errors import InputError
from adaptive.networks.compression.counting import Shape, count, shapes_of

#: Within so much of a wanted share the place that hands on least is taken.
NEAR = 0.05


class CutPlace(NamedTuple):
    """A place where a network can be cut.

    value : that is handed on, as the file calls it
    shape : of it, for one image
    share : of the network's multiply-adds, what comes before it
    """

    value: str
    shape: Shape
    share: float


def cut_places(model: ModelProto, name: str = "the network") -> List[CutPlace]:
    """Places where one map of features, (n, channels, height, width), is all that is handed on.

    Raises
    ------
    InputError
        when the sizes of the network's layers cannot be told.
    """
    shapes = shapes_of(model, name)
    work = count(model, name).layers
    whole = max(1, sum(work.values()))
    fixed = {weight.name for weight in model.graph.initializer}
    last: dict[str, int] = {}  # where each value is read last
    for place, node in enumerate(model.graph.node):
        if all(value in fixed for value in node.input):
            fixed.update(node.output)  # it follows from weights alone
        last.update({value: place for value in node.input if value and value not in fixed})
    last.update({value.name: len(model.graph.node) for value in model.graph.output})
    alive = {value.name for value in model.graph.input if value.name in last}
    found: List[CutPlace] = []
    done = 0
    for place, node in enumerate(model.graph.node):
        done += sum(work.get(value, 0) for value in node.output)
        alive = {value for value in alive if last[value] > place}
        alive.update(value for value in node.output if last.get(value, -1) > place)
        if len(alive) != 1 or last[next(iter(alive))] == len(model.graph.node):
            continue
        (value,) = alive
        shape = shapes.get(value, ())
        if len(shape) == 4 and value in node.output:
            found.append(CutPlace(value, shape, done / whole))
    return found


def chosen_places(
    model: ModelProto, wanted: Sequence[str | float], name: str = "the network"
) -> List[CutPlace]:
    """The places that are wanted, first one first.

    Parameters
    ----------
    wanted : of each, the value's name, or the share of the network's multiply-adds near which
        it lies

    Raises
    ------
    InputError
        when there is no such place, or two are the same.
    """
    places = [place for place in cut_places(model, name) if place.share < 1]
    if not places:
        raise InputError(f"{name} can be cut nowhere: no single map of features is handed on")
    by_name = {place.value: place for place in places}
    found = []
    for one in wanted:
        if isinstance(one, str):
            if one not in by_name:
                some = [place.value for place in places[:: max(1, len(places) // 8)]]
                raise InputError(f"{name} cannot be cut at {one!r}; it can at {some} and others")
            found.append(by_name[one])
            continue
        if not 0 < one < 1:
            raise InputError(f"an exit at a share of {one:g} is not between 0 and 1")
        near = [place for place in places if abs(place.share - one) <= NEAR]
        smallest = min((prod(place.shape) for place in near), default=0)
        own = [place for place in near if prod(place.shape) == smallest] or places
        # of several with the same share the last, which is behind an activation
        found.append(min(reversed(own), key=lambda place: abs(place.share - one)))
    found.sort(key=lambda place: place.share)
    if not found or len({place.value for place in found}) < len(found):
        raise InputError(
            f"{[place.value for place in found]} are not one place or several different ones"
        )
    return found


def cut(model: ModelProto, values: Sequence[str]) -> List[ModelProto]:
    """The parts of a network, each from what the one before it hands on.

    values : where to cut, first one first, as `cut_places` tells them
    """
    weights = {weight.name for weight in model.graph.initializer}
    source = [value.name for value in model.graph.input if value.name not in weights]
    ends = [value.name for value in model.graph.output]
    shapes, batch = shapes_of(model), _batch(model)
    shaped = ModelProto()
    shaped.CopyFrom(model)
    for value in values:
        sides: List[int | str] = [batch, *shapes[value][1:]]
        shaped.graph.value_info.append(
            helper.make_tensor_value_info(value, TensorProto.FLOAT, sides)
        )
    extractor = utils.Extractor(shaped)
    bounds = [source, *([value] for value in values), ends]
    parts = []
    for start, end in zip(bounds, bounds[1:]):
        part = extractor.extract_model(start, end)
        checker.check_model(part)
        parts.append(part)
    return parts


def _batch(model: ModelProto) -> int | str:
    """The network's batch axis: a number, or a name where it is free."""
    weights = {weight.name for weight in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in weights:
            side = value.type.tensor_type.shape.dim[0]
            return side.dim_value or side.dim_param or "n"
    return "n"
