"""Say whether one benchmark's numbers differ from another's by more than their noise.

    python benchmarks/compare.py before.json after.json [--tolerance 0.05]
    python benchmarks/compare.py --run "python old/benchmarks/features.py --json {}" \\
                                       "python benchmarks/features.py --json {}" [--rounds 5]

For each result that both have: the ratio of the medians, after over before, turned so that above
1 is worse, with its 95% interval by the bootstrap (Efron 1979). Where the interval holds 1 there
is no difference beyond noise. The exit code is 1 when something is worse by more than
--tolerance beyond its noise.

Two files were made at different times, and what the machine did differently between them is in no
interval. `--run` takes that out: it runs both commands in turn, in the order AB BA AB ..., with
{} replaced by a file for their JSON, and compares the medians of each round with each other
(paired).
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

#: Resamples of the bootstrap.
RESAMPLES = 2000

#: With fewer samples on a side an interval says nothing.
FEWEST = 5

#: What a machine must have in common so that its times can be compared.
SAME = ("model", "processor", "cores", "threads", "mode", "python", "onnxruntime")


@dataclass(frozen=True)
class Ratio:
    """How many times worse, with its interval; above 1 is worse, whatever the quantity."""

    value: float
    low: float
    high: float

    def worse(self, tolerance: float = 0.0) -> bool:
        """Whether it is worse by more than `tolerance`, beyond noise."""
        return self.low > 1 + tolerance

    def better(self) -> bool:
        """Whether it is better, beyond noise."""
        return self.high < 1


def ratio(
    before: Sequence[float],
    after: Sequence[float],
    better: str = "lower",
    paired: bool = False,
    confidence: float = 0.95,
    seed: int = 0,
) -> Ratio | None:
    """The ratio of two medians, turned so that above 1 is worse; None with too few samples.

    Parameters
    ----------
    before, after : samples, above 0
    better : "lower" or "higher"
    paired : sample number i of both was taken in the same round; the median of the ratios is
        taken then, and pairs are drawn
    """
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if paired and len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} samples make no pairs")
    if min(len(first), len(second)) < FEWEST or first.min() <= 0 or second.min() <= 0:
        return None
    if better == "higher":
        first, second = 1 / first, 1 / second
    generator = np.random.default_rng(seed)
    if paired:
        value = float(np.median(second / first))
        drawn = _medians(second / first, generator)
    else:
        value = float(np.median(second) / np.median(first))
        drawn = _medians(second, generator) / _medians(first, generator)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Ratio(value, float(low), float(high))


def _medians(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Medians of resamples, shape (RESAMPLES,), a few at a time."""
    count = len(values)
    step = max(1, 1_000_000 // count)
    parts = []
    for start in range(0, RESAMPLES, step):
        drawn = generator.integers(0, count, (min(step, RESAMPLES - start), count))
        parts.append(np.median(values[drawn], axis=1))
    return np.concatenate(parts)


def verdict(found: Ratio | None, unit: str, tolerance: float = 0.0) -> str:
    """The ratio in words."""
    if found is None:
        return f"fewer than {FEWEST} samples above 0: no verdict"
    timed = unit in ("ns", "us", "ms", "s") or unit.endswith("/s")
    good, bad = ("faster", "slower") if timed else ("better", "worse")
    if found.better():
        return good
    if found.worse(tolerance):
        return bad
    if found.worse():
        return f"{bad}, within the tolerance"
    return "no difference beyond noise"


def read(path: Path) -> dict[str, Any]:
    """A benchmark's JSON.

    Raises
    ------
    SystemExit
        with a sentence and code 2, when it holds no results that can be compared.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _refuse(f"{path} cannot be read as JSON: {error}")
    results = content.get("results") if isinstance(content, dict) else None
    needed = ("unit", "better", "samples")
    if not isinstance(results, dict) or not all(
        isinstance(found, dict) and all(name in found for name in needed)
        for found in results.values()
    ):
        _refuse(
            f"{path} holds no 'results' with unit, better and samples, as benchmarks/machine.py "
            "describes them; nothing in it can be compared"
        )
    return dict(content)


def _refuse(sentence: str) -> None:
    print(f"compare: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def compare(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    tolerance: float = 0.0,
    paired: bool = False,
) -> dict[str, tuple[Ratio | None, str]]:
    """Ratio and verdict of each result that both have, by name."""
    found: dict[str, tuple[Ratio | None, str]] = {}
    for name, old in before["results"].items():
        new = after["results"].get(name)
        if new is None:
            continue
        if (old["unit"], old["better"]) != (new["unit"], new["better"]):
            _refuse(
                f"{name!r} is in {old['unit']}, {old['better']} is better, on one side and in "
                f"{new['unit']}, {new['better']}, on the other"
            )
        one = ratio(old["samples"], new["samples"], old["better"], paired)
        found[name] = one, verdict(one, old["unit"], tolerance)
    if not found:
        _refuse(f"no result in common: {list(before['results'])} and {list(after['results'])}")
    return found


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between the machines or the settings, as sentences."""
    told = []
    for part, names in (("machine", SAME), ("settings", None)):
        old, new = before.get(part) or {}, after.get(part) or {}
        for name in names or sorted({*old, *new}):
            if old.get(name) != new.get(name):
                told.append(f"{part}: {name} is {old.get(name)!r} and {new.get(name)!r}")
    return told


def run(commands: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Run two commands in turn; of each, an envelope whose samples are the rounds' medians."""
    medians: list[dict[str, list[float]]] = [{}, {}]
    last: list[dict[str, Any]] = [{}, {}]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                file = Path(folder, f"{number}-{side}.json")
                words = [w.replace("{}", str(file)) for w in shlex.split(commands[side])]
                done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
                if done.returncode:
                    _refuse(f"{commands[side]!r} ended with code {done.returncode}")
                last[side] = read(file)
                for name, found in last[side]["results"].items():
                    middle = statistics.median(found["samples"])
                    medians[side].setdefault(name, []).append(middle)
    for side in (0, 1):
        for name, found in last[side]["results"].items():
            found["samples"] = medians[side][name]
    return last


def main() -> None:
    """Compare, print, and end with code 1 when something is worse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.json", help="before, after")
    parser.add_argument("--run", nargs=2, metavar="COMMAND", help="run both in turn instead")
    parser.add_argument("--rounds", type=int, default=5, help="of --run (default 5)")
    parser.add_argument("--tolerance", type=float, default=0.0, help="share; default 0")
    parser.add_argument("--json", type=Path, help="also write the verdicts here")
    options = parser.parse_args()
    if (len(options.files) != 2) == (options.run is None) or (options.run and options.files):
        parser.error("give two files, or --run with two commands")
    if options.run and options.rounds < FEWEST:
        parser.error(f"--rounds must be at least {FEWEST}")
    if options.run:
        before, after = run(options.run, options.rounds)
    else:
        before, after = map(read, options.files)
    for sentence in differences(before, after):
        print(f"note: {sentence}")
    found = compare(before, after, options.tolerance, paired=bool(options.run))
    width = max(map(len, found))
    for name, (one, words) in found.items():
        numbers = f"{'':25}"
        if one is not None:
            numbers = f"{one.value:7.3f} ({one.low:.3f} to {one.high:.3f})"
        print(f"{name:{width}} {numbers} {words}")
    for name in {*before["results"]} ^ {*after["results"]}:
        print(f"note: only one side has {name!r}")
    if options.json:
        told = {
            name: {"ratio": None if one is None else [one.value, one.low, one.high], "words": words}
            for name, (one, words) in found.items()
        }
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(one is not None and one.worse(options.tolerance) for one, _ in found.values()))


if __name__ == "__main__":
    main()
