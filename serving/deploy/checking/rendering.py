"""A chart and values to manifests, and what stands in them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import yaml

Manifest = Dict[str, Any]

RELEASE = "trial"

SHA = "0123456789abcdef" * 4

#: What makes pods.
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet")

_GIVEN = "server.keysSecret.name=keys,server.remoteKeysSecret.name=remote,server.tlsSecret=tls"
_STORED = f"bundle.source=store,bundle.url=s3://adaptive/bundles/plants,bundle.sha256={SHA}"
_REDIS = "queue.kind=external,queue.external.host=redis.example.com"
_S3 = "store.kind=external,store.external.secret.name=s3"


@dataclass(frozen=True)
class Case:
    """One set of values.

    Attributes
    ----------
    options : of helm
    secrets, claims : names of what the values say is there
    """

    name: str
    options: Sequence[str] = ()
    secrets: Sequence[str] = ()
    claims: Sequence[str] = ()
    profile: str = ""


#: The sets of values that are rendered.
CASES = (
    Case("defaults"),
    Case("one replica, nothing else", ("server.replicas=1,networkPolicy.enabled=false",)),
    Case("keys, TLS and metrics", (_GIVEN, "serviceMonitor.enabled=true"), ("keys", "remote", "tls")),
    Case("metrics without keys", ("serviceMonitor.enabled=true",)),
    Case("autoscaled server", ("server.autoscaling.enabled=true",)),
    Case("one a node", ("server.kind=DaemonSet",)),
    Case("bundle in a claim", ("bundle.source=claim,bundle.claim=plants,bundle.path=v3",), (), ("plants",)),
    Case("bundle from the trial store", (_STORED,)),
    Case("bundle from a store of one's own", (_STORED, _S3, "store.external.endpoint=https://s3.example.com"), ("s3",)),
    Case("everything on trial", (_STORED, "worker.enabled=true,front.enabled=true,worker.autoscaling.enabled=true")),
    Case("workers of a fixed number", ("worker.enabled=true,worker.replicas=3,front.enabled=true,worker.board=orin",)),
    Case(
        "workers alone, on one's own queue and store",
        ("server.enabled=false,worker.enabled=true,worker.autoscaling.enabled=true", _REDIS, _S3,
         "queue.external.tls=true,queue.external.passwordSecret.name=redis,store.external.region=eu-west-1"),
        ("redis", "s3"),
    ),
    Case("pages alone", ("server.enabled=false,front.enabled=true,front.keysSecret.name=keys,front.claim=images",), ("keys",), ("images",)),
    Case("images from one's own registry", ("imagePullSecrets[0]=registry,image.repository=r.example.com/b,image.tag=v7",), ("registry",)),
    Case("engines that are kept", ("server.cacheClaim=engines",), (), ("engines",)),
    Case("a PC's GPU", (), profile="pc-gpu"),
    Case("Orin", ("server.cacheClaim=engines",), (), ("engines",), "orin"),
    Case("TX2", (), profile="tx2"),
    Case("GPU workers", ("worker.enabled=true,worker.gpu.enabled=true,worker.gpu.count=2,worker.gpu.runtimeClassName=nvidia",)),
)  # fmt: skip


class HelmError(Exception):
    """Helm refuses a chart or values."""


def helm(*arguments: str) -> str:
    """What helm prints."""
    done = subprocess.run(["helm", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise HelmError((done.stderr or done.stdout).strip())
    return done.stdout


def values_of(chart: Path, case: Case) -> list[str]:
    """Helm's options for a case."""
    found = []
    if case.profile:
        found += ["--values", str(chart / "profiles" / f"{case.profile}.yaml")]
    for options in case.options:
        found += ["--set", options]
    return found


def render(chart: Path, case: Case, version: str = "1.37.0") -> Rendered:
    """The manifests of a case.

    Raises
    ------
    HelmError
        when helm refuses it.
    """
    text = helm(
        *("template", RELEASE, str(chart), "--kube-version", version),
        *("--namespace", "adaptive", *values_of(chart, case)),
    )
    return Rendered(case, [m for m in yaml.safe_load_all(text) if m])


@dataclass(frozen=True)
class Rendered:
    """Manifests, and ways through them."""

    case: Case
    manifests: List[Manifest] = field(default_factory=list)

    def of(self, *kinds: str) -> Iterator[Manifest]:
        """Those of some kinds."""
        return (m for m in self.manifests if m["kind"] in kinds)

    def workloads(self) -> Iterator[Workload]:
        """What makes pods."""
        return (Workload(m) for m in self.of(*WORKLOADS))

    def selected(self, labels: Mapping[str, str]) -> list[Workload]:
        """The workloads whose pods have these labels."""
        return [w for w in self.workloads() if labels and labels.items() <= w.labels.items()]


@dataclass(frozen=True)
class Workload:
    """What makes pods."""

    manifest: Manifest

    @property
    def name(self) -> str:
        return f"{self.manifest['kind']} {self.manifest['metadata']['name']}"

    @property
    def spec(self) -> Manifest:
        return self.manifest["spec"]

    @property
    def pod(self) -> Manifest:
        found: Manifest = self.spec["template"]["spec"]
        return found

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.spec["template"]["metadata"]["labels"]
        return found

    @property
    def containers(self) -> list[Manifest]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def ports(self) -> dict[Any, int]:
        """Numbers of its ports, by name and by number."""
        found: dict[Any, int] = {}
        for container in self.containers:
            for port in container.get("ports", []):
                number = port["containerPort"]
                found.update({number: number, port.get("name", number): number})
        return found


def environment(container: Manifest) -> dict[str, str | None]:
    """A container's variables; None where a value comes from elsewhere."""
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}
