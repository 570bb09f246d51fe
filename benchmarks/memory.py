"""Memory at each step: `python benchmarks/memory.py [--json out.json]`.

The proportional set size (PSS) of a process, MB of 10^6 bytes, as /proc/PID/smaps_rollup says:
its own pages, and of pages that it shares its share. Each round starts one process that goes
through the library's steps on one router of the embedded default, and one `adaptive serve`, of
which the process and its children are added up when it is ready and after 100 requests. What a
step adds is the difference to the one above it.
"""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
import urllib.request
from pathlib import Path

from machine import envelope, result, save, show
from regression import jpeg
from startup import server

STEPS = """
import sys
from pathlib import Path
{pss}
def say(step):
    print(step, pss("self"), sep="\\t", flush=True)
say("python")
import numpy
say("import numpy")
import adaptive
say("import adaptive")
from adaptive import Router
say("from adaptive import Router")
sys.path.insert(0, {folder!r})
from regression import jpeg
photos = [jpeg(seed) for seed in range(64)]
say("64 JPEG files of 320 x 240, made with Pillow")
router = Router.load({bundle})
say("Router.load")
router.classify(photos[0])
say("1 image")
for number in range(1000):
    router.classify(photos[number % 64])
say("1,001 images")
router.classify_batch(photos, batch=64)
say("classify_batch of 64")
for _ in range(10):
    router.classify_batch(photos, batch=64)
say("classify_batch of 64, ten more times")
"""


def pss(process: str) -> float:
    """MB of a process by its number, or "self"; 0 for one that has ended."""
    try:
        text = Path("/proc", process, "smaps_rollup").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return 0.0
    lines = [line for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) * 1024 / 1e6


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", help="instead of the embedded default")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--no-server", action="store_true", help="leave `adaptive serve` out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        parser.error("this system has no /proc/PID/smaps_rollup (Linux 4.14 or newer has)")
    samples: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        taken = {**library(options.bundle)}
        if not options.no_server:
            taken.update(served(options.bundle))
        for name, value in taken.items():
            samples.setdefault(name, []).append(value)
    results = {name: result(values, "MB") for name, values in samples.items()}
    settings = {"rounds": options.rounds, "bundle": options.bundle or "the embedded default"}
    content = envelope("memory", results, settings)
    show(content)
    save(content, options.json)


def library(bundle: str | None) -> dict[str, float]:
    """MB after each step of one process."""
    program = STEPS.format(
        pss=inspect.getsource(pss), folder=str(Path(__file__).parent.resolve()), bundle=repr(bundle)
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {step: float(value) for step, value in lines}


def served(bundle: str | None) -> dict[str, float]:
    """MB of a server that is ready, and after 100 requests."""
    photo = jpeg(0)
    with server([] if bundle is None else [bundle]) as (process, address):
        taken = {"adaptive serve, ready": family(process)}
        for _ in range(100):
            request = urllib.request.Request(
                f"{address}/v1/classify", photo, {"Content-Type": "image/jpeg"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()
        taken["adaptive serve, 100 requests"] = family(process)
    return taken


def family(process: int) -> float:
    """MB of a process and its children."""
    total, waiting = 0.0, [process]
    while waiting:
        one = waiting.pop()
        total += pss(str(one))
        for task in Path("/proc", str(one), "task").glob("*/children"):
            waiting += map(int, task.read_text(encoding="ascii").split())
    return total


if __name__ == "__main__":
    main()
