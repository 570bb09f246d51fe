"""Everything that can be said of chart and compose file without a cluster."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Sequence

from compose import compose_problems
from processes import Failed, Processes
from rendering import CASES, Case, HelmError, Rendered, helm, render, values_of
from rules import RULES, options_exist
from schemas import CUSTOM, VERSIONS, custom_folder, custom_problems, problems

HERE = Path(__file__).resolve().parent.parent

STEPS = ("lint", "schemas", "rules", "processes")

#: Commands of the extra `fleet`.
FLEET = ("adaptive worker", "adaptive experiment serve")

#: Values that the chart must refuse, with a word of why.
REFUSED = (
    ("server.replcas=2", "replcas"),
    ("image.tag=latest", "tag"),
    ("bundle.source=store", "url"),
    ("bundle.source=claim", "claim"),
    ("queue.kind=external", "host"),
    ("server.port=80", "port"),
    ("server.options.port=81", "port"),
    ("server.kind=DaemonSet,server.autoscaling.enabled=true", "DaemonSet"),
)

#: Prints the variables of every command that takes them, as JSON.
_OPTIONS = """
import json
from adaptive.cli import COMMANDS, group
import click
found = {}
def take(command, name):
    if isinstance(command, click.Group):
        for sub in command.list_commands(None):
            take(command.get_command(None, sub), f"{name} {sub}")
        return
    found[name] = [p.envvar for p in command.params if isinstance(p.envvar, str)]
for name in ("serve", "worker", "experiment", "pull"):
    if name in COMMANDS:
        take(group.get_command(None, name), f"adaptive {name}")
print(json.dumps(found))
"""


class Findings:
    """What is wrong, said once each, and what was left out."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.left_out: list[str] = []

    def add(self, case: str, sentence: str) -> None:
        line = f"{case}: {sentence}"
        if line not in self.wrong:
            self.wrong.append(line)
            print(f"WRONG  {line}", flush=True)

    def leave_out(self, sentence: str) -> None:
        if sentence not in self.left_out:
            self.left_out.append(sentence)
            print(f"left out: {sentence}", flush=True)


def lint(chart: Path, found: Findings) -> None:
    """`helm lint` over all values, and values that must be refused."""
    for case in CASES:
        try:
            helm("lint", "--strict", "--quiet", str(chart), *values_of(chart, case))
        except HelmError as error:
            found.add(case.name, f"lint: {error}")
    for options, word in REFUSED:
        try:
            render(chart, Case(options, (options,)))
        except HelmError as error:
            if word not in str(error):
                found.add(options, f"is refused, and not because of {word}: {error}")
        else:
            found.add(options, "is taken, and must be refused")


def rendered(chart: Path, found: Findings) -> list[Rendered]:
    """Every case that can be rendered."""
    done = []
    for case in CASES:
        try:
            done.append(render(chart, case))
        except HelmError as error:
            found.add(case.name, f"cannot be rendered: {error}")
    return done


def check_schemas(cases: Sequence[Rendered], found: Findings) -> int:
    """Schemas of both versions; what is the same is looked at once."""
    seen: set[str] = set()
    for one in cases:
        for manifest in one.manifests:
            text = json.dumps(manifest, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            if manifest["kind"] in CUSTOM:
                try:
                    for sentence in custom_problems(manifest):
                        found.add(one.case.name, sentence)
                except FileNotFoundError:
                    found.leave_out(
                        f"{manifest['kind']} against its definition: {CUSTOM[manifest['kind']]} is "
                        f"not in {custom_folder()} (ADAPTIVE_CRDS names the folder)"
                    )
                continue
            for version in VERSIONS:
                for sentence in problems(manifest, version):
                    found.add(one.case.name, sentence)
    return len(seen)


def options_of(python: Sequence[str], found: Findings) -> dict[str, list[str]]:
    """The variables of every command; none where adaptive is not installed."""
    done = subprocess.run([*python, "-c", _OPTIONS], capture_output=True, text=True)
    if done.returncode:
        found.leave_out(f"what needs adaptive: {' '.join(python)} has it not (give --python)")
        return {}
    value: dict[str, list[str]] = json.loads(done.stdout)
    for command in FLEET:
        if command not in value:
            found.leave_out(f"what runs `{command}`: this version has no such command")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(prog="check", description=__doc__)
    parser.add_argument("--chart", type=Path, default=HERE / "chart")
    parser.add_argument("--only", choices=STEPS, action="append")
    parser.add_argument("--python", default=os.environ.get("PYTHON", "python3"))
    arguments = parser.parse_args()
    # Told to stop, it ends the processes that it began.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    steps = arguments.only or STEPS
    chart, python, found = arguments.chart, [arguments.python], Findings()
    began = time.monotonic()
    if "lint" in steps:
        lint(chart, found)
        print(f"lint: {len(CASES)} sets of values, {len(REFUSED)} that must be refused")
    cases = rendered(chart, found)
    options = options_of(python, found) if {"rules", "processes"} & set(steps) else {}
    if "schemas" in steps:
        count = check_schemas(cases, found)
        print(f"schemas: {count} manifests under Kubernetes {' and '.join(VERSIONS)}, strict")
    if "rules" in steps:
        absent = [command for command in FLEET if command not in options]
        rules = [*RULES, *([options_exist(options, absent)] if options else [])]
        for one in cases:
            for rule in rules:
                for sentence in rule(one):
                    found.add(one.case.name, sentence)
        if chart == HERE / "chart":
            for sentence in compose_problems(HERE / "compose.yaml", options, absent):
                found.add("compose.yaml", sentence)
        print(f"rules: {len(rules)} over {len(cases)} sets of values")
    if "processes" in steps and options:
        with tempfile.TemporaryDirectory(prefix="adaptive-deploy-") as folder:
            try:
                say = lambda line: print(f"  {line}", flush=True)  # noqa: E731
                for sentence in Processes(chart, python, Path(folder), say).run(list(options)):
                    found.leave_out(sentence)
            except (Failed, HelmError) as error:
                found.add("processes", str(error))
        print("processes: the rendered commands ran on this machine")
    spent = time.monotonic() - began
    print(f"{len(found.wrong)} wrong, {len(found.left_out)} left out, {spent:.0f} s")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
