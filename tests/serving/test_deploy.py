"""What checks the chart finds what is wrong with one: the chart is altered, a rule each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

DEPLOY = Path(__file__).parent.parent.parent / "serving" / "deploy"
sys.path.insert(0, str(DEPLOY / "checking"))

import rendering
from compose import compose_problems
from rendering import CASES, Case, HelmError, render
from rules import RULES, options_exist

_OWN = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adaptive" / "deploy"
CACHE = Path(os.environ.get("ADAPTIVE_DEPLOY_CACHE") or _OWN)


@pytest.fixture(scope="module", autouse=True)
def helm() -> None:
    """Helm, from the path or from where `serving/deploy/check` keeps it."""
    os.environ["PATH"] += f":{CACHE}"
    if shutil.which("helm") is None:
        pytest.skip("helm is not here; serving/deploy/check fetches it")


def options() -> dict[str, list[str]]:
    import click

    from adaptive.cli import COMMANDS, group

    found: dict[str, list[str]] = {}

    def take(command: Any, name: str) -> None:
        if isinstance(command, click.Group):
            for sub in command.list_commands(None):  # type: ignore[arg-type]
                take(command.get_command(None, sub), f"{name} {sub}")  # type: ignore[arg-type]
            return
        found[name] = [p.envvar for p in command.params if isinstance(p.envvar, str)]

    for name in ("serve", "worker", "experiment", "pull"):
        if name in COMMANDS:
            take(group.get_command(None, name), f"adaptive {name}")  # type: ignore[arg-type]
    return found


def found_in(chart: Path, *cases: Case) -> list[str]:
    known = options()
    absent = [c for c in ("adaptive worker", "adaptive experiment serve") if c not in known]
    rules = (*RULES, options_exist(known, absent))
    rendered = [render(chart, case) for case in cases]
    return [said for one in rendered for rule in rules for said in rule(one)]


def case(name: str) -> Case:
    return next(one for one in CASES if one.name == name)


def test_chart_as_it_is_breaks_no_rule() -> None:
    assert found_in(DEPLOY / "chart", *CASES) == []


def test_options_in_a_file_of_values_are_written_as_they_stand(tmp_path: Path) -> None:
    """YAML makes large numbers floating point ones, and as 2e+06 no command takes them."""
    chosen = tmp_path / "values.yaml"
    chosen.write_text("server: {options: {queue: 2000000, batch-window-ms: 0.5, engine: onnx}}\n")
    text = rendering.helm("template", "trial", str(DEPLOY / "chart"), "--values", str(chosen))
    found: dict[str, Any] = {}
    for manifest in yaml.safe_load_all(text):
        if manifest and manifest["kind"] == "Deployment":
            found = rendering.environment(manifest["spec"]["template"]["spec"]["containers"][0])
    told = {name: found[f"ADAPTIVE_{name}"] for name in ("QUEUE", "BATCH_WINDOW_MS", "ENGINE")}
    assert told == {"QUEUE": "2000000", "BATCH_WINDOW_MS": "0.5", "ENGINE": "onnx"}


def test_compose_file_as_it_is_breaks_no_rule() -> None:
    known = options()
    absent = [c for c in ("adaptive worker", "adaptive experiment serve") if c not in known]
    assert list(compose_problems(DEPLOY / "compose.yaml", known, absent)) == []


#: file, what is replaced there, by what, and what is said then
ALTERED = {
    "requests above limits": (
        "values.yaml",
        'limits: {cpu: "2", memory: 2Gi}',
        "limits: {cpu: 250m, memory: 2Gi}",
        "requests 1 of cpu and may have 250m",
    ),
    "a path that is not there": (
        "templates/server.yaml",
        "path: /readyz",
        "path: /ready",
        "asks /ready;",
    ),
    "a port that is not there": (
        "templates/trial.yaml",
        "tcpSocket: {port: redis}",
        "tcpSocket: {port: reddis}",
        "asks port 'reddis'",
    ),
    "a probe without TLS": (
        "templates/server.yaml",
        "{{ if $server.tlsSecret }}, scheme: HTTPS{{ end }}",
        "",
        "asks HTTP, which is not spoken",
    ),
    "root": (
        "templates/_helpers.tpl",
        "runAsNonRoot: true",
        "runAsNonRoot: false",
        "may run as root",
    ),
    "an image that can be written": (
        "templates/_helpers.tpl",
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "may write to its image",
    ),
    "capabilities": (
        "templates/_helpers.tpl",
        "{drop: [ALL]}",
        "{drop: [NET_RAW]}",
        "keeps capabilities",
    ),
    "a folder of the host": (
        "templates/server.yaml",
        "emptyDir: {sizeLimit: 256Mi}",
        "hostPath: {path: /etc}",
        "mounts /etc of the host",
    ),
    "latest": (
        "templates/_helpers.tpl",
        "(default .root.Chart.AppVersion .image.tag)",
        '"latest"',
        "says nothing of what runs",
    ),
    "a service of nobody": (
        "templates/front.yaml",
        "  selector:\n    {{- include",
        "  selector:\n    tier: pages\n    {{- include",
        "selects []",
    ),
    "a selector that an upgrade changes": (
        "templates/worker.yaml",
        'matchLabels:\n      {{- include "adaptive.selector"',
        'matchLabels:\n      {{- include "adaptive.labels"',
        "which an upgrade may not change",
    ),
    "the list in place of the hash": (
        "templates/worker.yaml",
        "listName: dramatiq:adaptive.msgs",
        "listName: dramatiq:adaptive",
        "has what runs as well",
    ),
    "replicas beside a scaler": (
        "templates/worker.yaml",
        "{{- if not $worker.autoscaling.enabled }}",
        "{{- if true }}",
        "both say how many replicas",
    ),
    "a password that is written down": (
        "templates/_helpers.tpl",
        "  valueFrom:\n    secretKeyRef: {name: {{ $secret }}, "
        "key: {{ .Values.queue.external.passwordSecret.key }}}",
        "  value: hunter2",
        "QUEUE_PASSWORD is written down",
    ),
    "a secret that is not there": (
        "templates/server.yaml",
        "secret: {secretName: {{ $server.keysSecret.name }}",
        "secret: {secretName: other",
        "there is no secret 'other'",
    ),
    "a volume that is not there": (
        "templates/worker.yaml",
        "- {name: cache, mountPath: /cache}",
        "- {name: cach, mountPath: /cache}",
        "no volume 'cach'",
    ),
    "too little time to stop": (
        "templates/worker.yaml",
        "add $worker.graceSeconds 15",
        "add $worker.graceSeconds 1",
        "is killed after 26 s",
    ),
    "a variable that is no option": (
        "templates/server.yaml",
        "- name: ADAPTIVE_HOST",
        "- name: ADAPTIVE_HOTS",
        "ADAPTIVE_HOTS is no option of adaptive serve",
    ),
    "a port that is another": (
        "templates/server.yaml",
        "value: {{ $server.port | quote }}",
        'value: "9090"',
        "listens at 9090",
    ),
    "a worker that anybody reaches": (
        "templates/networkpolicy.yaml",
        "{{- if .Values.worker.enabled }}\n---",
        "{{- if false }}\n---",
        "has no network policy",
    ),
    "a queue that is elsewhere": (
        "templates/_helpers.tpl",
        '{{ include "adaptive.name" . }}-queue\n{{- else -}}',
        "redis\n{{- else -}}",
        "there is no such service",
    ),
    "a token for the API server": (
        "templates/_helpers.tpl",
        "automountServiceAccountToken: false",
        "automountServiceAccountToken: true",
        "gets a token",
    ),
    "metrics of no port": (
        "templates/server.yaml",
        "- port: http\n",
        "- port: metrics\n",
        "asks port 'metrics'",
    ),
}

LOOKED_AT = (
    "keys, TLS and metrics",
    "everything on trial",
    "workers alone, on one's own queue and store",
)


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEPLOY / "chart", tmp_path / "chart"))


@pytest.mark.parametrize("what", ALTERED)
def test_what_is_wrong_is_found(what: str, chart: Path) -> None:
    file, old, new, sentence = ALTERED[what]
    text = (chart / file).read_text()
    assert old in text, "the chart has changed, and this test has to follow"
    (chart / file).write_text(text.replace(old, new))
    said = found_in(chart, *map(case, LOOKED_AT))
    assert any(sentence in line for line in said), said


@pytest.mark.parametrize(
    "values",
    [
        "server.replcas=2",
        "image.tag=latest",
        "bundle.source=store",
        "queue.kind=external",
        "server.port=80",
    ],
)
def test_values_that_cannot_be_are_refused(values: str) -> None:
    with pytest.raises(HelmError):
        render(DEPLOY / "chart", Case(values, (values,)))


@pytest.mark.slow
def test_command_finds_a_field_that_no_api_has(chart: Path) -> None:
    text = (chart / "templates" / "worker.yaml").read_text()
    text = text.replace("terminationGracePeriodSeconds", "terminationGraceSeconds")
    (chart / "templates" / "worker.yaml").write_text(text)
    done = subprocess.run(
        [str(DEPLOY / "check"), "--chart", str(chart), "--only", "schemas"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1, done.stdout + done.stderr
    assert "terminationGraceSeconds" in done.stdout
    assert "under 1.25" in done.stdout
    assert "under 1.37" in done.stdout
