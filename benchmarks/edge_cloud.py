"""When a board should ask a server: `python benchmarks/edge_cloud.py --data DATA --work WORK`.

    python benchmarks/edge_cloud.py --data DATA --work WORK [--profiled 2000] [--live 300]

A small network runs here, and resnet50 behind a URL: another `adaptive serve` on this machine,
reached through a proxy that adds 20 ms or 100 ms to each exchange, half of it each way. Outcomes
are profiled once, without added latency, and the times measured anew at each latency, as a board
would. Then `adaptive tune` looks for policies, and what they do is measured live, image by image
in turn with either candidate alone, on images of the part that only reports. At the end the
server goes away in the middle of a run: refused at once, and silent, so that only a time limit
ends a request.

DATA holds `imagenet/images`, `imagenet/labels.csv`, `imagenet/classes.csv` and
`imagenet/models/*.onnx`; it defaults to the environment's ADAPTIVE_DATA. WORK keeps tables.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Iterator, Sequence

import numpy as np
from imagenet import make_candidates
from machine import envelope, result, save, show
from tqdm import tqdm

from adaptive.bundle.adding import Recipe
from adaptive.bundle.bundle import Bundle
from adaptive.bundle.elsewhere import Wire, add_remote
from adaptive.intervals import share
from adaptive.outcomes.parts import Split
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.files import read_policy
from adaptive.policy.fixed import Fixed
from adaptive.routing.router import Router

SMALL, CLOUD = "mobilenet_v1_075_192", "resnet50"

LATENCIES_MS = (20, 100)

#: Of the tables that are printed.
COLUMNS = (
    *("policy", "top-1 %, 95 % interval", "mean ms", "p95 ms", "most ms"),
    *("asked the server", "unreached", "failed"),
)

#: How long a request to the server may take.
TIMEOUT_MS = 500.0

#: What tune is asked for: so many points below resnet50 at most, promised; and so much of its
#: mean time.
DROP, BUDGET = 0.02, 0.5


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
    """Bytes from one end to the other, each so much later."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def write() -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    writing = asyncio.create_task(write())
    while True:
        try:
            data = await reader.read(1 << 16)
        except ConnectionError:
            data = b""
        queue.put_nowait((loop.time() + wait_s, data))
        if not data:
            break
    await writing


async def proxy(port: int, target: int, added_ms: float) -> None:
    """Listen at a port, and carry what comes to another one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        for end in (writer, back):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        half_s = added_ms / 2e3
        await asyncio.gather(_carry(reader, back, half_s), _carry(there, writer, half_s))

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def behind(port: int, target: int, added_ms: float) -> Iterator[subprocess.Popen[str]]:
    """A proxy in a process of its own, until the block ends."""
    command = [sys.executable, __file__, "--proxy", str(port), str(target), str(added_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


@contextmanager
def cloud(folder: Path) -> Iterator[int]:
    """A server of resnet50 in a process of its own; its port."""
    command = [sys.executable, "-m", "adaptive.cli", "serve", str(folder), "--port", "0"]
    command += ["--request-log", "none", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://[^ ]*:(\d+)", said)
        assert found is not None, said
        try:
            yield int(found[1])
        finally:
            process.terminate()


def adaptive(*arguments: object) -> None:
    """Run a command as a user would."""
    command = [str(argument) for argument in arguments]
    print("$ adaptive " + " ".join(command), flush=True)
    code = subprocess.run([sys.executable, "-m", "adaptive.cli", *command]).returncode
    if code not in (0, 1):
        raise SystemExit(f"adaptive {command[0]} ended with {code}")


class Run:
    """What one policy did on some images."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ms: list[float] = []
        self.right: list[bool] = []
        self.asked = self.unreached = self.failed = 0

    def ask(self, router: Router, image: Path, label: int) -> None:
        began = perf_counter()
        try:
            answer = router.classify(image)
        except Exception as error:
            print(f"{self.name}: {error}")
            self.failed += 1
            return
        self.ms.append((perf_counter() - began) * 1e3)
        self.right.append(answer.index == label)
        self.asked += CLOUD in answer.path
        self.unreached += bool(answer.unreached)

    def row(self) -> str:
        """A row of the table in docs/remote.md."""
        told = share(np.array(self.right))
        return (
            f"| {self.name} | {100 * told.value:.1f} ({100 * told.low:.1f} to "
            f"{100 * told.high:.1f}) | {fmean(self.ms):.1f} | "
            f"{np.percentile(self.ms, 95):.1f} | {max(self.ms):.0f} | "
            f"{100 * self.asked / len(self.ms):.0f} % | {self.unreached} | {self.failed} |"
        )


def with_url(nets: Path, port: int) -> None:
    """Have a folder's candidate be asked at another port."""
    manifest = nets / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(re.sub(r"http://127\.0\.0\.1:\d+", f"http://127.0.0.1:{port}", text))


def live(nets: Path, policies: dict[str, Policy], images: Sequence[tuple[Path, int]]) -> list[Run]:
    """Every policy on every image, in turn."""
    runs = [Run(name) for name in policies]
    routers = [Router.load(nets, policy=policy) for policy in policies.values()]
    for router in routers:
        router.warm_up()
        router.classify(images[0][0])
    for image, label in tqdm(images, desc="live"):
        for run, router in zip(runs, routers):
            run.ask(router, image, label)
    for router in routers:
        router.close()
    return runs


def gone(
    nets: Path,
    policy: Policy,
    images: Sequence[tuple[Path, int]],
    server: subprocess.Popen[str],
    how: int,
) -> tuple[Run, Run]:
    """One policy on images, in whose middle the way to the server ends; before and after."""
    runs = Run("before"), Run("after")
    half = len(images) // 2
    with Router.load(nets, policy=policy) as router:
        router.warm_up()
        for position, (image, label) in enumerate(tqdm(images, desc="gone")):
            if position == half:
                server.send_signal(how)
            runs[position >= half].ask(router, image, label)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description="When a board should ask a server.")
    parser.add_argument("--data", type=Path, default=os.environ.get("ADAPTIVE_DATA"))
    parser.add_argument("--work", type=Path)
    parser.add_argument("--profiled", type=int, default=2000)
    parser.add_argument("--live", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--proxy", nargs=3, type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.proxy:
        port, target, added_ms = arguments.proxy
        asyncio.run(proxy(int(port), int(target), added_ms))
        return
    data, work = Path(arguments.data), arguments.work
    work.mkdir(parents=True, exist_ok=True)
    everything, served, nets = work / "all", work / "served", work / "nets"
    if not served.exists():
        make_candidates(data, everything)
        adaptive("bundle", "--candidates", everything, "--policy", f"fixed:{CLOUD}", "-o", served)
    table = work / "outcomes.csv"
    images, labels = data / "imagenet" / "images", data / "imagenet" / "labels.csv"
    rows: dict[int, list[str]] = {}
    results = {}
    with cloud(served) as target:
        if not nets.exists():
            recipe, wire = Recipe(size=224), Wire(TIMEOUT_MS)
            adaptive(
                *("candidates", "add", everything / f"{SMALL}.onnx", "-o", nets),
                *("--labels", everything / "labels.txt", "--resize", "stretch"),
            )
            url = f"http://127.0.0.1:{target}/v2/models/{CLOUD}"
            add_remote(nets, url, CLOUD, recipe, reference=True, wire=wire)
        with_url(nets, target)
        if not table.exists():
            adaptive(
                *("profile", "--candidates", nets, "--images", images, "--labels", labels),
                *("-o", table, "--limit", arguments.profiled, "--features", "paper7"),
            )
        outcomes = OutcomeTable.read(table)
        test = [outcomes.images[row] for row in Split().rows(outcomes.images, "test")]
        right = dict(zip(outcomes.images, outcomes.label.tolist()))
        chosen = [(images / name, right[name]) for name in test][: arguments.live]
        for added_ms in LATENCIES_MS:
            port = free_port()
            with behind(port, target, added_ms) as process:
                with_url(nets, port)
                times = work / f"times-{added_ms}.csv"
                adaptive(
                    *("profile", nets, "--latency-only", "--images", images, "--limit", 200),
                    *("-o", times, "--force", "--features", "paper7"),
                )
                mean_ms = Bundle.read(nets).candidate(CLOUD).ms or 0.0
                policies: dict[str, Policy] = {
                    "small alone": Fixed((SMALL,)),
                    "cloud alone": Fixed((CLOUD,)),
                }
                for name, options in (
                    ("promised", ("--max-accuracy-drop", DROP, "--reference", CLOUD)),
                    ("half the time", ("--budget-ms", BUDGET * mean_ms)),
                ):
                    policy = work / f"{name.replace(' ', '-')}-{added_ms}.json"
                    adaptive(
                        *("tune", table, "--times", times, "-o", policy, "--force"),
                        *("--certificate", policy.with_suffix(".certificate.json"))[
                            : 2 * (name == "promised")
                        ],
                        *options,
                    )
                    if policy.exists():
                        policies[f"tuned, {name}"] = read_policy(policy, None)
                runs = live(nets, policies, chosen)
                tuned = policies[[*policies][-1]]
                before, after = gone(nets, tuned, chosen, process, signal.SIGKILL)
            with behind(port, target, added_ms) as process:
                _, silent = gone(nets, tuned, chosen, process, signal.SIGSTOP)
            before.name, after.name = "the last, before that", "the last, server refuses"
            silent.name = "the last, server silent"
            rows[added_ms] = [run.row() for run in (*runs, before, after, silent)]
            for run in (*runs, after, silent):
                results[f"{run.name}, {added_ms} ms"] = result(run.ms)
    settings = {"profiled": arguments.profiled, "live": len(chosen), "timeout_ms": TIMEOUT_MS}
    content = envelope("edge_cloud", results, settings, True, rows=rows)
    show(content)
    for added_ms, told in rows.items():
        print(f"\n{added_ms} ms added\n")
        print(f"| {' | '.join(COLUMNS)} |")
        print("|---" * len(COLUMNS) + "|")
        print("\n".join(told))
    save(content, arguments.json)


if __name__ == "__main__":
    main()
