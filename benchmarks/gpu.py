"""Every engine on an NVIDIA device: the contract suite, and a table of latencies.

    python benchmarks/gpu.py --work WORK [--data DATA] [--json X.json]

Where there is no CUDA device it says so and stops. The contract suite is the tests' own
(tests/engines/test_engine.py and test_engine_contract.py), with DATA's real images where that is
given. The table's networks are torchvision's with random weights, exported by `adaptive zoo`, so
that torch runs the same ones: plainly and as a CUDA graph, the baselines, beside ONNX Runtime on
the processor and its providers, and TensorRT with and without CUDA graphs. Every time is of one
call from numpy to numpy, copies to the device and back included, as a request pays it. WORK keeps
the networks and the engines; building takes minutes the first time.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Iterator

import numpy as np

from adaptive.bundle.bundle import Bundle
from adaptive.engines.answers import probabilities
from adaptive.engines.built import EngineStore
from adaptive.engines.choose import EngineOptions, Engines
from adaptive.engines.direct.tensorrt import TensorrtEngine
from adaptive.engines.nvidia import no_device
from adaptive.engines.wanted import Wanted
from adaptive.errors import AdaptiveError
from adaptive.files import write_json
from adaptive.jetson.board import board_profile
from adaptive.jetson.build import BuildOptions, build_engines, networks_of

NETWORKS = ("mobilenet_v2", "googlenet", "resnet50")

WARM_UP, RUNS = 50, 300
BATCHES = (1, 8)

TESTS = Path(__file__).parent.parent / "tests" / "serving"

#: One call: a batch in, the answer out.
Call = Callable[[np.ndarray], np.ndarray]


def no_cuda() -> str | None:
    """Why nothing can be measured here, or None."""
    from adaptive.engines.direct.cudart import Cuda

    reason = no_device()
    if reason is not None:
        return reason
    try:
        Cuda.load().device()
    except AdaptiveError as error:
        return str(error)
    return None


def contract(data: Path | None) -> dict[str, Any]:
    """Run the engines' contract suite; how many passed, and what was skipped and why."""
    environment = dict(os.environ)
    if data is not None:
        environment["ADAPTIVE_DATA"] = str(data)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", str(TESTS / "test_engine_contract.py"),
         str(TESTS / "test_engine.py"), str(TESTS / "test_cudart.py")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    print(done.stdout)
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped)", done.stdout)}
    skipped = re.findall(r"^SKIPPED \[(\d+)\] \S+: (.*)$", done.stdout, re.M)
    return {"exit": done.returncode, **counts, "reasons": [f"{n}: {why}" for n, why in skipped]}


def export(work: Path) -> Bundle:
    """The networks as a folder of candidates, made now unless it is there."""
    from adaptive.networks.zoo import export_zoo

    folder = work / "networks"
    if not folder.exists():
        export_zoo(NETWORKS, folder, untrained=True)
    return Bundle.read(folder)


def engines_of(bundle: Bundle, wanted: Wanted, work: Path) -> Iterator[tuple[str, Any]]:
    """(name, engine or the sentence that says why there is none) for each way to run a network."""
    store = EngineStore(work / "engines")
    for engine, precision, graphs in (
        ("onnx", None, False),
        ("cuda", None, False),
        ("tensorrt-provider", "fp32", False),
        ("tensorrt-provider", "fp16", False),
        ("tensorrt", "fp32", False),
        ("tensorrt", "fp32", True),
        ("tensorrt", "fp16", False),
        ("tensorrt", "fp16", True),
    ):
        name = " ".join(filter(None, (engine, precision, "with graphs" if graphs else "")))
        try:
            if precision is not None:
                options = BuildOptions(engine, precision, max_batch=max(BATCHES))
                build_engines(bundle, store, options)
            chosen = EngineOptions(engine, precision, store.folder)
            opened = Engines(chosen).open([wanted], os.cpu_count() or 1)[wanted.key]
        except AdaptiveError as error:
            yield name, str(error)
            continue
        if isinstance(opened, TensorrtEngine) and not graphs:
            opened.graph_helps = False
        yield name, opened
        opened.close()


def torch_calls(name: str) -> Iterator[tuple[str, Call | str]]:
    """The same network under torch: plainly queued, and as a CUDA graph, at both precisions."""
    import torch

    from adaptive.networks.zoo import find, random_network

    if not torch.cuda.is_available():
        yield "torch", "torch sees no CUDA device"
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    (entry,) = find([name])
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        network = random_network(entry).cuda().to(dtype)

        def plain(batch: np.ndarray, network: Any = network, dtype: Any = dtype) -> np.ndarray:
            with torch.inference_mode():
                given = torch.from_numpy(batch).cuda(non_blocking=True).to(dtype)
                answer: np.ndarray = network(given).float().cpu().numpy()
                return answer

        yield f"torch {precision}", plain
        yield f"torch {precision} with graphs", recorded(network, dtype)


def recorded(network: Any, dtype: Any) -> Call:
    """A torch network as CUDA graphs, one for each shape, with page-locked memory on both sides.

    (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs)
    """
    import torch

    kept: dict[tuple[int, ...], Any] = {}

    def call(batch: np.ndarray) -> np.ndarray:
        if batch.shape not in kept:
            host = torch.empty(batch.shape).pin_memory()
            device = torch.empty(batch.shape, device="cuda")
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side), torch.inference_mode():
                for _ in range(3):
                    network(device.to(dtype))
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph), torch.inference_mode():
                answer = network(device.to(dtype)).float()
            kept[batch.shape] = graph, host, device, answer, torch.empty(answer.shape).pin_memory()
        graph, host, device, answer, back = kept[batch.shape]
        host.copy_(torch.from_numpy(batch))
        device.copy_(host, non_blocking=True)
        graph.replay()
        back.copy_(answer, non_blocking=True)
        torch.cuda.synchronize()
        found: np.ndarray = back.numpy().copy()
        return found

    return call


def measure(call: Call, batch: np.ndarray) -> dict[str, float]:
    """Median and 95th percentile of one call, milliseconds."""
    for _ in range(WARM_UP):
        call(batch)
    spent = np.empty(RUNS)
    for run in range(RUNS):
        began = perf_counter()
        call(batch)
        spent[run] = (perf_counter() - began) * 1e3
    return {"ms": float(np.median(spent)), "p95_ms": float(np.percentile(spent, 95))}


def row(
    name: str, call: Call | str, images: np.ndarray, output: Any, expected: np.ndarray | None
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Measure and print one line of the table; also the probabilities, for the next lines."""
    if isinstance(call, str):
        print(f"  {name:32} skipped: {call}", flush=True)
        return {"skipped": call}, expected
    answers = probabilities(call(images), output)
    away = 0.0 if expected is None else float(np.abs(answers - expected).max())
    found: dict[str, Any] = {"difference": away}
    line = f"  {name:32}"
    for count in BATCHES:
        found[str(count)] = times = measure(call, images[:count])
        line += f"  batch {count}: {times['ms']:8.3f} ms, p95 {times['p95_ms']:8.3f}"
    print(f"{line}  probabilities within {away:.1g}", flush=True)
    return found, answers if expected is None else expected


def table(bundle: Bundle, work: Path) -> dict[str, Any]:
    """Latencies of every network under everything that runs here, and how far answers differ.

    Differences are from the first line, ONNX Runtime on the processor.
    """
    found: dict[str, Any] = {}
    for wanted in networks_of(bundle):
        spec, output = wanted.candidate.input, wanted.candidate.output
        shape = (max(BATCHES), 3, spec.size, spec.size)
        images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        expected: np.ndarray | None = None
        rows: dict[str, Any] = {}
        print(wanted.key, flush=True)
        for name, engine in engines_of(bundle, wanted, work):
            call = engine if isinstance(engine, str) else partial(first_output, engine)
            rows[name], expected = row(name, call, images, output, expected)
        for name, call in torch_calls(wanted.key):
            rows[name], expected = row(name, call, images, output, expected)
        found[wanted.key] = rows
    return found


def first_output(engine: Any, batch: np.ndarray) -> np.ndarray:
    """An engine's answer to a batch."""
    answer: np.ndarray = engine.run(batch)[0]
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "adaptive-gpu")
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    board = board_profile(os.cpu_count() or 1)
    report: dict[str, Any] = {"format": 1, "ran": False, "board": board}
    reason = no_cuda()
    if reason is not None:
        print(f"skipped: {reason}")
        report["reason"] = reason
    else:
        from adaptive.engines.direct.cudart import Cuda

        cuda = Cuda.load()
        print(f"{cuda.device()}, CUDA {cuda.version}, {board['processor']}", flush=True)
        arguments.work.mkdir(parents=True, exist_ok=True)
        report.update(
            ran=True,
            device=str(cuda.device()),
            cuda=cuda.version,
            warm_up=WARM_UP,
            runs=RUNS,
            contract=contract(arguments.data),
            networks=table(export(arguments.work), arguments.work),
        )
    if arguments.json:
        write_json(arguments.json, report)


if __name__ == "__main__":
    main()
