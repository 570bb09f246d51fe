"""All exits of a network in one pass, against running each way to an exit by itself.

    python benchmarks/all_exits.py CANDIDATES NET [--json out.json]

CANDIDATES is a folder of candidates or a bundle with the exits NET@1 … NET@K and their segments
without heads. Three ways to know what every exit says of a batch take turns:

* one by one: for each exit a network that ends there, with no other head, from the images on;
* one pass: one network with the heads of all exits;
* segments: the candidates' own files one after the other, as `Router.all_exits` runs them.

What can be saved is arithmetic: the sum of what the ways to the exits cost by themselves over
the cost of the whole network. It stands beside the measured ratio, in two currencies: counted in
multiply-adds of convolutions and matrix products, over the network with all heads; and in the
measured times of the ways, over that of the longest, so that it knows nothing of the other heads.
They differ where a layer takes more time for its multiply-adds than another. The images are
noise, which takes as long as any other. Beside the wall clock stands the processor's own time,
which other programs on the machine disturb less; ratios to the arithmetic one are of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Callable, Sequence

import numpy as np
import onnx
from onnx import compose, numpy_helper, shape_inference

from adaptive import Bundle
from adaptive.candidate import Candidate, exit_of
from adaptive.engines.engine import OnnxEngine
from adaptive.errors import InputError
from adaptive.jetson.board import board_profile


def exits_of(bundle: Bundle, network: str) -> list[Candidate]:
    found = [c for c in bundle.candidates if exit_of(c.name)[0] == network and exit_of(c.name)[1]]
    if len(found) < 2 or any(c.through is None for c in found[:-1]):
        raise InputError(
            f"the exits of {network!r} are not in the bundle, each but the last with its segment "
            f"without a head; it has {list(bundle.names)}"
        )
    return sorted(found, key=lambda c: exit_of(c.name))


def joined(paths: Sequence[Path]) -> onnx.ModelProto:
    """The segments as one network; answers of those before the last stay outputs."""
    whole = compose.add_prefix(onnx.load(str(paths[0])), "s0/")
    for position, path in enumerate(paths[1:], 1):
        part = compose.add_prefix(onnx.load(str(path)), f"s{position}/")
        state, source = whole.graph.output[-1].name, part.graph.input[0].name
        answers = [o.name for o in whole.graph.output[:-1]] + [o.name for o in part.graph.output]
        whole = compose.merge_models(whole, part, [(state, source)], outputs=answers)
    return whole


def multiply_adds(model: onnx.ModelProto) -> int:
    """Of convolutions and matrix products, for one image."""
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    shapes: dict[str, list[int]] = {}
    for value in values:
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = [d.dim_value or 1 for d in dims]  # the batch axis has no value
    for weight in model.graph.initializer:
        shapes[weight.name] = list(numpy_helper.to_array(weight).shape)
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            weights = shapes[node.input[1]]
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(weights[1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            inner = shapes[node.input[0]][-1]
            total += int(np.prod(shapes[node.output[0]])) * inner
    return total


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, float]]:
    """Median wall and processor milliseconds of each way; the ways take turns."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 3):
        for name, run in ways.items():
            began, own = perf_counter(), process_time()
            run()
            if turn >= 3:  # the first ones warm up
                wall[name].append((perf_counter() - began) * 1e3)
                cpu[name].append((process_time() - own) * 1e3)
    return {
        name: {
            "ms": statistics.median(wall[name]),
            "processor_ms": statistics.median(cpu[name]),
        }
        for name in ways
    }


def measure(
    folder: Path, exits: Sequence[Candidate], batch: int, rounds: int, threads: int
) -> dict[str, Any]:
    headed = [folder / c.file for c in exits]
    headless = [folder / c.through.file for c in exits[:-1] if c.through is not None]
    spec = exits[0].input
    sides = (spec.size, spec.size)
    shape = (batch, *sides, 3) if spec.layout == "NHWC" else (batch, 3, *sides)
    draw = np.random.default_rng(0)
    images = (
        draw.integers(0, 256, shape, np.uint8)
        if spec.dtype == "uint8"
        else draw.normal(size=shape).astype(spec.dtype)
    )
    with tempfile.TemporaryDirectory() as scratch:

        def engine(name: str, model: onnx.ModelProto) -> OnnxEngine:
            path = Path(scratch) / f"{name}.onnx"
            onnx.save(model, str(path))
            return OnnxEngine(path, threads)

        prefixes = [joined([*headless[:k], headed[k]]) for k in range(len(exits))]
        whole = joined(headed)
        costs = [multiply_adds(p) for p in prefixes]
        whole_cost = multiply_adds(whole)
        single = [engine(f"prefix{k}", p) for k, p in enumerate(prefixes)]
        together = engine("whole", whole)
    segments = [OnnxEngine(path, threads) for path in headed]

    def one_by_one() -> list[np.ndarray]:
        return [e.run(images)[0] for e in single]

    def chained() -> list[np.ndarray]:
        found, state = [], images
        for e in segments:
            answer, *states = e.run(state)
            found.append(answer)
            state = states[0] if states else state
        return found

    expected = one_by_one()
    for way in (together.run(images), chained()):
        apart = max(float(np.abs(a - b).max()) for a, b in zip(way, expected))
        if apart > 1e-3 * max(float(np.abs(e).max()) for e in expected):
            raise InputError(f"the ways differ by up to {apart:.2g} in their logits")
    ways: dict[str, Callable[[], object]] = {
        **{c.name: partial(e.run, images) for c, e in zip(exits, single)},
        "one pass": partial(together.run, images),
        "segments": chained,
    }
    rows = timed(ways, rounds)
    each = {c.name: rows.pop(c.name) for c in exits}
    base = {unit: sum(row[unit] for row in each.values()) for unit in ("ms", "processor_ms")}
    rows = {"one by one": base, **rows}
    arithmetic = sum(costs) / whole_cost
    in_time = base["processor_ms"] / each[exits[-1].name]["processor_ms"]
    for row in rows.values():
        row["ratio"] = base["ms"] / row["ms"]
        row["processor_ratio"] = base["processor_ms"] / row["processor_ms"]
        row["of_arithmetic"] = row["processor_ratio"] / arithmetic
        row["of_arithmetic_in_time"] = row["processor_ratio"] / in_time
    for e in (*single, together, *segments):
        e.close()
    return {
        "batch": batch,
        "multiply_adds": {c.name: cost for c, cost in zip(exits, costs)},
        "multiply_adds_all_heads": whole_cost,
        "arithmetic_ratio": arithmetic,
        "each": each,
        "arithmetic_ratio_in_time": in_time,
        "ways": rows,
    }


def show(found: dict[str, Any]) -> None:
    costs = ", ".join(f"{n} {c / 1e6:.2f}" for n, c in found["multiply_adds"].items())
    times = ", ".join(f"{n} {row['processor_ms']:.3f}" for n, row in found["each"].items())
    print(f"\nbatch {found['batch']}; million multiply-adds to each exit by itself: {costs};")
    print(f"with all heads {found['multiply_adds_all_heads'] / 1e6:.2f}")
    print(f"processor ms to each exit by itself: {times}")
    print(
        f"arithmetic ratio: {found['arithmetic_ratio']:.3f} in multiply-adds, "
        f"{found['arithmetic_ratio_in_time']:.3f} in time"
    )
    titles = ("ms", "ratio", "processor ms", "ratio", "of multiply-adds'", "of time's")
    print(f"{'':12}{titles[0]:>9}{titles[1]:>8}{titles[2]:>15}{titles[3]:>8}", end="")
    print(f"{titles[4]:>19}{titles[5]:>11}")
    for name, row in found["ways"].items():
        print(
            f"{name:12}{row['ms']:9.3f}{row['ratio']:8.2f}{row['processor_ms']:15.3f}"
            f"{row['processor_ratio']:8.2f}{100 * row['of_arithmetic']:17.1f} %"
            f"{100 * row['of_arithmetic_in_time']:9.1f} %"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("candidates", type=Path)
    parser.add_argument("network")
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 32))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    board = board_profile(given.threads)
    print(f"{board.get('processor') or board['machine']}, {given.threads} thread(s), ", end="")
    print(f"ONNX Runtime {board.get('onnxruntime')}; {given.rounds} rounds")
    measured = []
    try:
        exits = exits_of(Bundle.read(given.candidates), given.network)
        for batch in given.batch:
            measured.append(measure(given.candidates, exits, batch, given.rounds, given.threads))
            show(measured[-1])
    except InputError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    if given.json:
        report = {"board": board, "rounds": given.rounds, "batches": measured}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
