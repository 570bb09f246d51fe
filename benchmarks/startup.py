"""What a start costs: `python benchmarks/startup.py [--json out.json]`.

Every round starts these programs once each, in an order that rotates, each a process of its own:

* `numpy`, `adaptive`, `Router`: `import numpy`, `import numpy, adaptive`, and
  `import numpy; from adaptive import Router`, from the start of the process to its end;
* `library`: a program that imports, loads the embedded default and answers one image, with its
  steps by its own clock;
* `server`: `adaptive serve`, from its start until /readyz answers 200.

Byte code is written to a folder of its own in a first round that does not count, as it is for an
installed package, whatever PYTHONDONTWRITEBYTECODE says. Files are in the system's cache then.
Beside the clock stands the processor's time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Iterator

from machine import envelope, result, save, show

IMPORTS = {
    "numpy": "import numpy",
    "adaptive": "import numpy, adaptive",
    "Router": "import numpy; from adaptive import Router",
}

#: Prints milliseconds: import, load, first answer, second answer.
LIBRARY = """
import sys
from time import perf_counter
ticks = [perf_counter()]
from adaptive import Router
ticks.append(perf_counter())
router = Router.load()
ticks.append(perf_counter())
image = sys.stdin.buffer.read()
router.classify(image)
ticks.append(perf_counter())
router.classify(image)
ticks.append(perf_counter())
print(*(1e3 * (b - a) for a, b in zip(ticks, ticks[1:])))
"""

#: Seconds that a server may take.
PATIENCE_S = 60.0


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="default 15")
    parser.add_argument("--no-server", action="store_true", help="leave `adaptive serve` out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options.rounds, not options.no_server, Path(folder))
    results = {name: result(samples) for name, samples in found.items()}
    for name in ("adaptive", "Router"):
        for kind in ("", ", processor"):
            pairs = zip(found[f"import {name}{kind}"], found[f"import numpy{kind}"])
            results[f"import {name}, above numpy{kind}"] = result([a - b for a, b in pairs])
    content = envelope("startup", results, {"rounds": options.rounds}, paired=True)
    show(content)
    save(content, options.json)


def measured(rounds: int, server: bool, folder: Path) -> dict[str, list[float]]:
    """Milliseconds by what was measured, one for each round."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    image = jpeg()
    found: dict[str, list[float]] = {}

    def one(name: str) -> dict[str, float]:
        if name in IMPORTS:
            took, spent, _ = finished(IMPORTS[name], environment, folder)
            return {f"import {name}": took, f"import {name}, processor": spent}
        if name == "library":
            return library(image, environment, folder)
        return served(environment, folder)

    names = [*IMPORTS, "library", *(["server"] if server else [])]
    for number in range(rounds + 1):
        turn = number % len(names)
        taken: dict[str, float] = {}
        for name in names[turn:] + names[:turn]:
            taken.update(one(name))
        for name, ms in taken.items():
            if number:  # the first round has written the byte code
                found.setdefault(name, []).append(ms)
    return found


def finished(
    program: str, environment: dict[str, str], folder: Path, given: bytes = b""
) -> tuple[float, float, str]:
    """Milliseconds by the clock and of the processor, and the output, of a whole process."""
    began = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment, cwd=folder,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(given)
        process.stdin.close()
        said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status  # it has been waited for
    if status:
        sys.exit(f"a process that should start ended with status {status}: {program}")
    return (perf_counter() - began) * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, said


def library(image: bytes, environment: dict[str, str], folder: Path) -> dict[str, float]:
    """Milliseconds of the program in LIBRARY, whole and by its steps."""
    whole, spent, said = finished(LIBRARY, environment, folder, image)
    steps = ("from adaptive import Router", "Router.load", "first classify", "second classify")
    return {
        "library, whole": whole,
        "library, whole, processor": spent,
        **dict(zip(steps, map(float, said.split()))),
    }


def served(environment: dict[str, str], folder: Path) -> dict[str, float]:
    """Milliseconds until `adaptive serve` is ready."""
    began = perf_counter()
    with server([], env=environment, cwd=folder) as (process, _):
        took = (perf_counter() - began) * 1e3
        fields = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
        spent = (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")
    return {"server ready": took, "server ready, processor": spent}


@contextmanager
def server(words: list[str], **settings: Any) -> Iterator[tuple[int, str]]:
    """`adaptive serve` with these further words, once it is ready: its process and address."""
    command = [sys.executable, "-m", "adaptive.cli", "serve", *words, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--request-log", "none"], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **settings,
    )  # fmt: skip
    ended = threading.Timer(PATIENCE_S, process.kill)
    ended.start()
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            address = re.search(r"http://[\w.\[\]:]+", line)
            if address:
                break
        else:
            sys.exit("adaptive serve did not start: " + "".join(said))
        while not ready(address.group(0)):
            sleep(0.002)
        ended.cancel()
        yield process.pid, address.group(0)
    finally:
        ended.cancel()
        process.terminate()
        process.communicate()


def ready(address: str) -> bool:
    """Whether the server says that it is ready."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


def jpeg() -> bytes:
    """A JPEG of 320 x 240 with some content."""
    import numpy as np
    from PIL import Image

    noise = np.random.RandomState(0).randint(0, 256, (12, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((320, 240), Image.BICUBIC).save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main()
