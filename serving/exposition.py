"""The text at `/metrics`: what was counted, and what is read when somebody asks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Iterator

from adaptive.errors import InputError
from adaptive.jetson.rails import Rails
from adaptive.jetson.rapl import Rapl
from adaptive.jetson.sysfs import Sysfs
from adaptive.serving import families
from adaptive.serving.logs import Lines
from adaptive.serving.metrics import Reading
from adaptive.serving.server import Server
from adaptive.serving.service import Service


class Exposition:
    """Tells Prometheus about a service and its server.

    Parameters
    ----------
    service : counts, and knows what is served
    server : whose queue is told; None before there is one
    lines : the request log
    sysfs : where the board's power is looked for. No program is started for it, so on a board
        whose power only `tegrastats` tells there is none.
    """

    def __init__(
        self,
        service: Service,
        server: Server | None = None,
        lines: Lines | None = None,
        sysfs: Sysfs | None = None,
    ) -> None:
        self.service = service
        self.server = server
        self.lines = lines
        self._meter = _meter(sysfs or Sysfs())

    def text(self) -> str:
        """Everything, in Prometheus's exposition format."""
        readings: list[Reading] = [
            *self._serving(),
            *self._promised(),
            *self._board(),
            *_process(),
        ]
        return self.service.metrics.text(families.SHOWN, readings)

    def _serving(self) -> Iterator[Reading]:
        generation = self.service.generation
        yield families.READY, {(): int(self.service.ready.problem is None)}
        yield families.BUNDLE, {generation.hashes: 1}
        yield families.LOADED, {(): generation.loaded}
        if self.server is not None:
            lane = self.server.work
            yield families.WAITING, {(): len(lane)}
            yield families.LONGEST, {(): lane.longest}
            yield families.WORKING, {(): lane.busy}
            yield families.CONNECTIONS, {(): len(self.server.connections)}
        if self.lines is not None:
            yield families.LOST_LINES, {(): self.lines.lost}

    def _promised(self) -> Iterator[Reading]:
        router = self.service.generation.router
        certificate = router.bundle.certificate or {}
        if isinstance(certificate.get("epsilon"), float):
            reference = str(certificate.get("reference"))
            yield families.CERTIFIED, {(reference,): certificate["epsilon"]}
            yield families.CONFIDENCE, {(): 1.0 - float(certificate.get("delta", 1.0))}
            yield families.CALIBRATED, {(): int(certificate.get("images", 0))}
        status = router.status()
        audit, drift = status["audit"], status["drift"]
        if audit is not None:
            yield families.AUDITS, {(): audit["audited"]}
            yield families.DISAGREEMENTS, {(): audit["disagreements"]}
            yield families.AUDIT_FAILURES, {(): audit["failures"]}
        if drift is not None:
            yield families.DRIFT_BOUND, {(): drift["bound"]}
            yield families.DRIFT_E_VALUE, {(): drift["e_value"]}
            yield families.DRIFT_ALARM, {(): int(drift["alarm"])}
        if router.bucket is not None:
            yield families.TOKENS, {(router.bucket.unit,): router.bucket.level}
        if status["log"] is not None:
            yield families.DECISIONS_LOST, {(): status["log"]["failures"]}
        factors = (status["board"] or {}).get("factors") or {}
        if factors:
            yield families.BOARD_FACTOR, {(name,): factor for name, factor in factors.items()}

    def _board(self) -> Iterator[Reading]:
        if self._meter is None:
            return
        try:
            value = self._meter.read() / 1e3
        except OSError:
            return
        family = families.ENERGY if self._meter.counts else families.POWER
        yield family, {("+".join(self._meter.rails),): value}


def _meter(sysfs: Sysfs) -> Any:
    openers: tuple[Callable[[Sysfs], Any], ...] = (Rails.open, Rapl.open)
    for opened in openers:
        try:
            return opened(sysfs)
        except InputError:
            continue
    return None


def _process() -> Iterator[Reading]:
    """What Prometheus's own clients tell of a process, from /proc."""
    try:
        # The name of the program stands in parentheses and may hold anything.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        boot = next(
            float(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime ")
        )
        files = len(os.listdir("/proc/self/fd"))
    except (OSError, StopIteration):
        return
    tick = os.sysconf("SC_CLK_TCK")
    yield families.MEMORY, {(): int(fields[21]) * os.sysconf("SC_PAGE_SIZE")}
    yield families.CPU, {(): (int(fields[11]) + int(fields[12])) / tick}
    yield families.FILES, {(): files}
    yield families.STARTED, {(): boot + int(fields[19]) / tick}
