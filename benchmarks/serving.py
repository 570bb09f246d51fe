"""Measure `adaptive serve`, and its peers: `python benchmarks/serving.py [CONTESTANT ...]`.

Every server serves the same small JPEG with the same network of about 0.6 ms, on one core; the
load runs on another (benchmarks/servers/load.py). Metrics, request ids and the request log of
ours are on.

- speed    in turn, so that all see the same machine: the work in-process on the server's core, then
           each server at 16 and at 4 keep-alive connections. Requests a second, their share of
           what the core does in-process, CPU a request beyond that of the work in-process (all
           processes of the server), median and 99th percentile of the latency, PSS afterwards
- drops    SIGTERM amid the requests of eight clients: requests whose last byte was sent and that
           got no whole answer, exit code, seconds, processes left over; the worst of `--repeats`
- bodies   256 MB as one body, with Content-Length and chunked: the answer, and by how much the
           peak of memory grows
- memory   ours with the embedded default: at first, after load, after two reloads
- kills    ours killed (-9) amid a reload under load, and started again

`--long memory` sends ours 200,000 requests and fits a line to its memory; `--long faults` sends it
valid, malformed, slow and cut-off requests for ten minutes, and has it reload each minute.

`--before FOLDER` compares with `adaptive serve` of another checkout, an earlier commit's say
(`git worktree add FOLDER COMMIT`), in the same run.

Contestants: adaptive; waitress, cheroot, granian and gunicorn with our application; fastapi,
litserve, bentoml and mlserver with what a user of theirs would write (benchmarks/peers). Those
that are not installed are named and left out. `--python NAME=PATH` runs one with another
interpreter. On a machine with one core nothing is pinned, and the numbers mean little.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import envelope, machine_line, result
from servers.contestants import ALL, Served, with_pythons
from servers.network import photograph, write_served
from servers.process import pinned
from servers.trials import drops, kills, long_bodies, memory, speed

MEASURES = ("speed", "drops", "bodies", "memory", "kills")


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All that was asked for."""
    bundle, network = write_served(folder)
    served = Served(bundle, network, photograph(), folder)
    cores = (0, 1) if len(os.sched_getaffinity(0)) > 1 else (None, None)
    pinned(cores[1])
    pythons = dict(item.split("=", 1) for item in args.python)
    chosen = with_pythons(args.contestants or list(ALL), pythons, args.before)
    settings = {k: v for k, v in vars(args).items() if k not in ("json", "before")}
    found = envelope("serving", {}, settings, paired=True)
    found.update(image_bytes=len(served.image), cores=cores, versions={}, measures={})
    print(machine_line(found["machine"]), flush=True)
    present = []
    for contestant in chosen:
        if contestant.installed:
            found["versions"][contestant.name] = contestant.versions
            present.append(contestant)
        else:
            found["measures"][contestant.name] = "not installed"
    measures: dict[str, dict[str, Any]] = {contestant.name: {} for contestant in present}
    found["measures"].update(measures)

    def tell(name: str, measure: str, value: Any) -> None:
        measures[name][measure] = value
        shown = {k: v for k, v in value.items() if k != "rounds"}
        print(f"{name:9} {measure:7} {json.dumps(shown)}", flush=True)

    if "speed" in args.measure and present:
        for name, value in speed(present, served, cores, args.rounds, args.seconds).items():
            tell(name, "speed", value)
            found["results"].update(compared(name, value["rounds"]))
    for contestant in present:
        if "drops" in args.measure:
            tell(
                contestant.name,
                "drops",
                drops(contestant, served, cores[0], args.repeats, 1.0),
            )
        if "bodies" in args.measure:
            tell(contestant.name, "bodies", long_bodies(contestant, served, cores[0]))
    ours = next((c for c in present if c.name == "adaptive"), None)
    if ours is not None:
        if "memory" in args.measure:
            tell("adaptive", "memory", memory(served, cores[0], 2 * args.seconds, ours.python))
        if "kills" in args.measure:
            tell("adaptive", "kills", kills(served, cores[0], args.repeats, ours.python))
        if args.long is not None:
            from servers.long import LONG

            value = LONG[args.long](ours, served, cores[0], args.requests, args.minutes)
            tell("adaptive", f"long {args.long}", value)
    return found


def compared(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """What `compare.py` holds against another run: each round's server beside its limit."""
    rates = [(block["16"][0], block["alone"][0]) for block in rounds]
    spent = [(block["16"][1], block["alone"][1]) for block in rounds]
    return {
        f"{name}: requests, of the limit": result([s / a for s, a in rates], "ratio", "higher"),
        f"{name}: processor, over the limit": result([s - a for s, a in spent], "ms"),
        f"{name}: requests": result([s for s, _ in rates], "1/s", "higher"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "contestants", nargs="*", choices=[[], *ALL], help="of " + ", ".join(ALL) + "; default all"
    )
    parser.add_argument("--measure", nargs="*", choices=MEASURES, default=MEASURES)
    parser.add_argument("--rounds", type=int, default=15, help="of blocks")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each block")
    parser.add_argument("--repeats", type=int, default=5, help="of SIGTERM, and of kill -9")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="another checkout to compare with"
    )
    parser.add_argument("--long", choices=("memory", "faults"), help="instead of all measures")
    parser.add_argument("--requests", type=int, default=200_000, help="of --long memory")
    parser.add_argument("--minutes", type=float, default=10.0, help="of --long faults")
    parser.add_argument("--json", type=Path, help="write the results here, too")
    args = parser.parse_args()
    if args.long is not None:
        args.contestants, args.measure = ["adaptive"], []
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        found = measure(args, Path(folder))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
