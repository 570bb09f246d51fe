"""What is done to every server: speed, SIGTERM, a body that is far too long, memory, kill -9."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any, Sequence

from servers.contestants import DEFAULT, Contestant, Served, ask, serve_command
from servers.limit import Limit
from servers.load import Load
from servers.process import Process, free_port

#: Body that no server should have to hold, bytes.
HUGE = 256_000_000


class Machine:
    """How busy the whole machine was, besides what is measured."""

    def __init__(self) -> None:
        self.busy_s, self.at = self._read(), monotonic()

    def since(self) -> tuple[float, float]:
        """CPU seconds and wall seconds since the last look."""
        busy, now = self._read(), monotonic()
        spent = busy - self.busy_s, now - self.at
        self.busy_s, self.at = busy, now
        return spent

    @staticmethod
    def _read() -> float:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ticks = [int(field) for field in fields]
        return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


def speed(
    contestants: Sequence[Contestant],
    served: Served,
    cores: tuple[int | None, int | None],
    rounds: int,
    seconds: float,
) -> dict[str, dict[str, Any]]:
    """Blocks of every server at 16 and 4 connections, and of the same work in-process, in turn.

    The work in-process runs on the server's core while the servers wait, so that both see the
    same machine. Medians over the rounds, and for a machine that does other things too the best
    blocks against the best; latencies are of all rounds together. `others` says how many cores
    were busy with something else.
    """
    server_core, _ = cores
    image = served.folder / "image.jpg"
    image.write_bytes(served.image)
    processes = {c.name: c.start(served, server_core) for c in contestants}
    limits: dict[str, Limit] = {}
    for contestant in contestants:
        if contestant.work not in limits:
            what = served.bundle if contestant.work == "adaptive" else served.network
            arguments = [contestant.work, str(what), str(image)]
            limits[contestant.work] = Limit(contestant.python, arguments, server_core)
    blocks: dict[str, list[dict[str, Any]]] = {}
    try:
        for limit in limits.values():
            limit.run(0.5)
        for c in contestants:
            Load(processes[c.name].port, c.request(served), 16).run(1.0)
        for _ in range(rounds):
            for work, limit in limits.items():
                blocks.setdefault(work + " alone", []).append(_alone(limit, seconds))
            for c in contestants:
                for connections in (16, 4):
                    done = _loaded(processes[c.name], c.request(served), connections, seconds)
                    blocks.setdefault(f"{c.name} {connections}", []).append(done)
        found = {}
        for limit in limits.values():
            limit.close()  # it has the same libraries open
        for c in contestants:
            alone = blocks[c.work + " alone"]
            found[c.name] = _compared(alone, blocks[f"{c.name} 16"], blocks[f"{c.name} 4"])
            found[c.name]["processes"] = len(processes[c.name].alive())
            found[c.name].update(sizes(processes[c.name]))
        return found
    finally:
        for limit in limits.values():
            limit.close()
        for process in processes.values():
            process.kill()


def _alone(limit: Limit, seconds: float) -> dict[str, Any]:
    machine = Machine()
    done: dict[str, Any] = dict(limit.run(seconds))
    busy, wall = machine.since()
    return {**done, "others": max(0.0, busy - done["cpu_s"]) / wall}


def _loaded(process: Process, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    machine, before = Machine(), process.cpu_s()
    tally = Load(process.port, request, connections).run(seconds)
    cpu_s = process.cpu_s() - before
    busy, wall = machine.since()
    bad = {status: count for status, count in tally.statuses.items() if status != "200"}
    return {
        "requests": tally.answered,
        "seconds": tally.seconds,
        "cpu_s": cpu_s,
        "load_cpu_s": tally.cpu_s,
        "others": max(0.0, busy - cpu_s - tally.cpu_s) / wall,
        "latency_s": tally.latency_s,
        "bad": bad,
        "dropped": tally.dropped,
    }


def _compared(
    alone: list[dict[str, Any]], sixteen: list[dict[str, Any]], four: list[dict[str, Any]]
) -> dict[str, Any]:
    def rate(block: dict[str, Any]) -> float:
        return float(block["requests"] / block["seconds"])

    def cpu_ms(block: dict[str, Any], key: str = "cpu_s") -> float:
        return float(block[key] * 1e3 / max(1, block["requests"]))

    rows = list(zip(alone, sixteen, four))
    found: dict[str, Any] = {
        "in_process_per_s": round(median(map(rate, alone)), 1),
        "in_process_cpu_ms": round(median(map(cpu_ms, alone)), 3),
        "requests_per_s": round(median(map(rate, sixteen)), 1),
        "of_limit": round(median(rate(s) / rate(a) for a, s, _ in rows), 3),
        "cpu_over_ms": round(median(cpu_ms(s) - cpu_ms(a) for a, s, _ in rows), 3),
        # Whatever else the machine did, these blocks suffered least from it.
        "best_of_limit": round(max(map(rate, sixteen)) / max(map(rate, alone)), 3),
        "least_cpu_over_ms": round(min(map(cpu_ms, sixteen)) - min(map(cpu_ms, alone)), 3),
        "load_cpu_ms": round(median(cpu_ms(s, "load_cpu_s") for s in sixteen), 3),
        "others": round(median(block["others"] for row in rows for block in row), 2),
    }
    for name, blocks in (("16", sixteen), ("4", four)):
        latencies = [latency for block in blocks for latency in block["latency_s"]]
        found[f"p50_ms_{name}"] = round(_percentile(latencies, 50), 2)
        found[f"p99_ms_{name}"] = round(_percentile(latencies, 99), 2)
    found["p99_over_p50_4"] = round(found["p99_ms_4"] / found["p50_ms_4"], 2)
    bad = [block for row in rows for block in row[1:] if block["bad"] or block["dropped"]]
    found["failed"] = sum(sum(block["bad"].values()) + block["dropped"] for block in bad)
    found["rounds"] = [
        {
            "alone": [round(rate(a), 1), round(cpu_ms(a), 3), round(a["others"], 2)],
            "16": [round(rate(s), 1), round(cpu_ms(s), 3), round(s["others"], 2)],
            "4": [round(rate(f), 1), round(cpu_ms(f), 3), round(f["others"], 2)],
        }
        for a, s, f in rows
    ]
    return found


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] * 1e3


def drops(
    contestant: Contestant, served: Served, core: int | None, repeats: int, seconds: float
) -> dict[str, Any]:
    """SIGTERM amid the requests of eight clients; the worst of so many times."""
    worst: dict[str, Any] = {"dropped": 0, "asked": 0, "exit": 0, "exit_s": 0.0, "left": 0}
    for _ in range(repeats):
        process = contestant.start(served, core)
        stopped_at: list[float] = []

        def stop(process: Process = process, at: list[float] = stopped_at) -> None:
            at.append(monotonic())
            process.terminate()

        load = Load(process.port, contestant.request(served), 8)
        tally = load.run(seconds, then=stop, patience_s=15.0)
        ended = process.ended(stopped_at[0], 25.0)
        worst["asked"] += tally.answered + tally.dropped
        worst["dropped"] = max(worst["dropped"], tally.dropped)
        worst["exit"] = ended["exit"] if ended["exit"] != 0 else worst["exit"]
        worst["exit_s"] = max(worst["exit_s"], ended["exit_s"])
        worst["left"] = max(worst["left"], ended["left"])
    return worst


def long_bodies(contestant: Contestant, served: Served, core: int | None) -> dict[str, Any]:
    """256 MB as one body, with its length and then chunked: the answer, and the peak's growth."""
    process = contestant.start(served, core)
    try:
        request = contestant.request(served)
        Load(process.port, request, 8).run(1.0)
        found = {}
        for name, chunked in (("length", False), ("chunked", True)):
            found[name] = _long_body(process, request, chunked)
            with contextlib.suppress(OSError):
                found[name]["goes_on"] = ask(process.port, request) == 200
        return found
    finally:
        process.kill()


def _long_body(process: Process, request: bytes, chunked: bool) -> dict[str, Any]:
    head = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [line for line in head if not line.lower().startswith(b"content-length")]
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % HUGE
    sleep(0.5)
    before = process.total_mb("status", "VmRSS")
    process.forget_peak()
    block = b"x" * 1_000_000
    part = b"%x\r\n" % len(block) + block + b"\r\n" if chunked else block
    answer, sent = b"", 0
    with socket.create_connection(("127.0.0.1", process.port), 30) as link:
        link.sendall(b"\r\n".join([*kept, length, b"", b""]))
        with contextlib.suppress(OSError):
            for _ in range(HUGE // len(block)):
                link.sendall(part)
                sent += 1
            if chunked:
                link.sendall(b"0\r\n\r\n")
        with contextlib.suppress(OSError):
            answer = link.recv(65536)
    status = answer.split(b" ")[1].decode() if answer.startswith(b"HTTP") else "reset"
    grown = max(0.0, process.total_mb("status", "VmHWM") - before)
    return {"status": status, "grown_mb": round(grown, 1), "sent_mb": sent}


def memory(served: Served, core: int | None, seconds: float, python: str) -> dict[str, Any]:
    """Memory with the embedded default: at first, after load, and after each of two reloads."""
    from dataclasses import replace

    contestant = replace(DEFAULT, python=python)
    process = contestant.start(served, core)
    try:
        found = {"first": sizes(process)}
        load = Load(process.port, contestant.request(served), 16)
        load.run(seconds)
        found["loaded"] = sizes(process)
        for name in ("reloaded", "reloaded twice"):
            os.kill(process.process.pid, signal.SIGHUP)
            load.run(seconds + 2.0)
            found[name] = sizes(process)
        return found
    finally:
        process.kill()


def sizes(process: Process) -> dict[str, float]:
    """Memory in three measures, MB."""
    return {
        "pss_mb": round(process.pss_mb(), 1),
        "rss_mb": round(process.rss_mb(), 1),
        "own_mb": round(process.own_mb(), 1),
    }


def kills(served: Served, core: int | None, times: int, python: str) -> dict[str, Any]:
    """kill -9 at some moment of a reload under load; then whether the bundle is still served."""
    generator = random.Random(0)
    request = DEFAULT.request(served)
    served_again = left = 0
    for _ in range(times):
        process = _ours(served, core, python)
        load = Load(process.port, request, 4)

        def kill(process: Process = process) -> None:
            os.kill(process.process.pid, signal.SIGHUP)
            sleep(generator.uniform(0.0, 0.4))
            os.kill(process.process.pid, signal.SIGKILL)

        load.run(0.3, then=kill, patience_s=5.0)
        process.process.wait(5)
        sleep(0.1)
        left += len(process.alive())
        process = _ours(served, core, python)
        served_again += ask(process.port, request) == 200
        left += int(str(process.stop()["left"]))
    return {"kills": times, "served_again": served_again, "processes_left": left}


def _ours(served: Served, core: int | None, python: str) -> Process:
    port = free_port()
    command = [python, *serve_command(port, served.bundle, served.folder)]
    process = Process(command, port, core, None, served.folder, served.folder / "kills.log")
    end = monotonic() + 30
    while monotonic() < end:
        with contextlib.suppress(OSError):
            if ask(port, DEFAULT.request(served)) == 200:
                return process
        sleep(0.05)
    process.kill()
    raise RuntimeError("the server did not come back")
