"""What no schema sees, and an API server or a night in production does: one rule a function.

Each gives sentences about what is wrong.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from rendering import RELEASE, Manifest, Rendered, Workload, environment

#: Where Dramatiq keeps what waits and what runs.
HASH = "dramatiq:adaptive.msgs"

#: What may be probed, by the command that runs.
PATHS = {
    "adaptive serve": {"/healthz", "/readyz"},
    "adaptive experiment serve": {"/healthz"},
}

_UNITS = {"m": Decimal("0.001"), "": Decimal(1), "Ki": Decimal(2**10), "Mi": Decimal(2**20)}
_UNITS.update({"Gi": Decimal(2**30), "Ti": Decimal(2**40)})

#: Variables that must come from a secret.
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|_KEY$|KEY_ID$")

Rule = Callable[[Rendered], Iterator[str]]


def amount(text: object) -> Decimal:
    """A quantity of Kubernetes as a number."""
    found = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|Ti|)", str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return Decimal(found[1]) * _UNITS[found[2]]


def requests_within_limits(rendered: Rendered) -> Iterator[str]:
    """An API server refuses what asks for more than it allows."""
    for _, container, where in _containers(rendered):
        asked = container.get("resources", {}).get("requests", {})
        allowed = container.get("resources", {}).get("limits", {})
        for name in ("cpu", "memory"):
            if name not in asked or name not in allowed:
                yield f"{where} has no request or no limit of {name}"
        for name in asked.keys() & allowed.keys():
            if amount(asked[name]) > amount(allowed[name]):
                yield f"{where} requests {asked[name]} of {name} and may have {allowed[name]}"
        for name in {*asked, *allowed} - {"cpu", "memory", "ephemeral-storage"}:
            if asked.get(name) != allowed.get(name):
                yield f"{where}: requests and limits of {name} must be the same"


def probes_name_what_is_there(rendered: Rendered) -> Iterator[str]:
    """A probe of a wrong path or port restarts a healthy pod for ever."""
    for _, container, where in _containers(rendered):
        ports = {p.get("name"): p["containerPort"] for p in container.get("ports", [])}
        known = PATHS.get(" ".join(container.get("command", [])), set())
        secure = "ADAPTIVE_TLS_CERT" in environment(container)
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind)
            if probe is None:
                continue
            asked = probe.get("httpGet") or probe.get("tcpSocket") or {}
            port = asked.get("port")
            if port not in ports and port not in ports.values():
                yield f"{where}: {kind} asks port {port!r}; there are {sorted(map(str, ports))}"
            if "httpGet" in probe and asked["path"] not in known:
                yield f"{where}: {kind} asks {asked['path']}; there is {sorted(known)}"
            if "httpGet" in probe and (asked.get("scheme") == "HTTPS") != secure:
                yield f"{where}: {kind} asks {asked.get('scheme', 'HTTP')}, which is not spoken"
        served = bool(container.get("ports"))
        if served and not {"readinessProbe", "livenessProbe"} <= container.keys():
            yield f"{where} listens and is not probed"


def listens_where_it_says(rendered: Rendered) -> Iterator[str]:
    """The port in the environment is the container's, and all addresses are listened at."""
    for _, container, where in _containers(rendered):
        own = environment(container)
        ports = [str(p["containerPort"]) for p in container.get("ports", [])]
        if "ADAPTIVE_PORT" in own and ports != [own["ADAPTIVE_PORT"]]:
            yield f"{where} listens at {own['ADAPTIVE_PORT']}, and its ports are {ports}"
        if "ADAPTIVE_PORT" in own and own.get("ADAPTIVE_HOST") != "0.0.0.0":
            yield f"{where} listens at {own.get('ADAPTIVE_HOST')}, where no probe gets in"


def services_reach_pods(rendered: Rendered) -> Iterator[str]:
    """A service's selector matches one workload, whose port it names."""
    for service in rendered.of("Service"):
        name = f"Service {service['metadata']['name']}"
        found = rendered.selected(service["spec"].get("selector", {}))
        if len(found) != 1:
            yield f"{name} selects {[w.name for w in found]}; one workload is meant"
        for port in service["spec"]["ports"]:
            for workload in found:
                if port.get("targetPort", port["port"]) not in workload.ports:
                    yield f"{name}: {workload.name} has no port {port['targetPort']!r}"


def selectors_match(rendered: Rendered) -> Iterator[str]:
    """A workload selects its own pods and no others; policies and budgets select some."""
    for workload in rendered.workloads():
        labels = workload.spec["selector"]["matchLabels"]
        found = [w.name for w in rendered.selected(labels)]
        if found != [workload.name]:
            yield f"{workload.name} selects the pods of {found}"
        strange = {k for k in labels if k in ("app.kubernetes.io/version", "helm.sh/chart")}
        if strange:
            yield f"{workload.name} selects by {sorted(strange)}, which an upgrade may not change"
    for manifest in rendered.of("PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"):
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        spec = manifest["spec"]
        labels = (spec.get("selector") or spec.get("podSelector") or {}).get("matchLabels", {})
        if not rendered.selected(labels):
            yield f"{name} selects nothing"


def policies_let_in_who_must(rendered: Rendered) -> Iterator[str]:
    """A network policy's ports are the pods', and its peers are there."""
    for policy in rendered.of("NetworkPolicy"):
        name = f"NetworkPolicy {policy['metadata']['name']}"
        found = rendered.selected(policy["spec"]["podSelector"].get("matchLabels", {}))
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                for workload in found:
                    if port["port"] not in workload.ports:
                        yield f"{name}: {workload.name} has no port {port['port']!r}"
            for peer in rule.get("from", []):
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                if labels and not rendered.selected(labels):
                    yield f"{name} lets in {labels}, which is nobody"
            if "from" in rule and not rule["from"]:
                yield f"{name} has an empty list of peers, which lets in everybody"
    guarded = {
        w.name
        for policy in rendered.of("NetworkPolicy")
        for w in rendered.selected(policy["spec"]["podSelector"].get("matchLabels", {}))
    }
    if guarded:
        for workload in rendered.workloads():
            if workload.name not in guarded:
                yield f"{workload.name} has no network policy, and the others have"


def references_exist(rendered: Rendered) -> Iterator[str]:
    """Secrets, claims, accounts and volumes that are named are there; secrets are never made."""
    for secret in rendered.of("Secret"):
        yield f"Secret {secret['metadata']['name']} is made; secrets come by reference only"
    accounts = {m["metadata"]["name"] for m in rendered.of("ServiceAccount")}
    for workload in rendered.workloads():
        pod = workload.pod
        if pod.get("serviceAccountName") not in accounts:
            yield f"{workload.name}: there is no account {pod.get('serviceAccountName')!r}"
        claimed = {t["metadata"]["name"] for t in workload.spec.get("volumeClaimTemplates", [])}
        volumes = {v["name"] for v in pod.get("volumes", [])} | claimed
        for name in _secrets(workload):
            if name not in rendered.case.secrets:
                yield f"{workload.name}: there is no secret {name!r}"
        for volume in pod.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and claim not in rendered.case.claims:
                yield f"{workload.name}: there is no claim {claim!r}"
        mounted: set[str] = set()
        for container in workload.containers:
            paths = [m["mountPath"] for m in container.get("volumeMounts", [])]
            if len(set(paths)) < len(paths):
                yield f"{workload.name}/{container['name']} mounts two volumes at one place"
            for mount in container.get("volumeMounts", []):
                mounted.add(mount["name"])
                if mount["name"] not in volumes:
                    yield f"{workload.name}/{container['name']}: no volume {mount['name']!r}"
        for name in volumes - mounted:
            yield f"{workload.name}: nobody mounts the volume {name!r}"
    used = {name for workload in rendered.workloads() for name in _secrets(workload)}
    for name in set(rendered.case.secrets) - used:
        yield f"the secret {name!r} was given, and nobody uses it"


def secrets_are_not_written_down(rendered: Rendered) -> Iterator[str]:
    """What is secret comes from a secret, but for the keys that the trial store does not ask for."""
    trial = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    for _, container, where in _containers(rendered):
        for name, value in environment(container).items():
            if value is None or not _SECRET.search(name) or value.startswith("/run/"):
                continue
            if not (name in trial and value == "trial"):
                yield f"{where}: {name} is written down"
        for name, value in environment(container).items():
            if value and "://" in value and re.search(r"://[^/@]*:[^/@$]+@", value):
                yield f"{where}: {name} holds a password"


def nothing_is_root(rendered: Rendered) -> Iterator[str]:
    """Nobody is root, writes to the image, gains rights, or sees the host."""
    for workload in rendered.workloads():
        pod, own = workload.pod, workload.pod.get("securityContext", {})
        if own.get("runAsNonRoot") is not True or not own.get("runAsUser"):
            yield f"{workload.name} may run as root"
        if own.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload.name} has no seccomp profile"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{workload.name} gets a token for the API server"
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(name):
                yield f"{workload.name} has {name}"
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                yield f"{workload.name} mounts {volume['hostPath']['path']} of the host"
    for _, container, where in _containers(rendered):
        own = container.get("securityContext", {})
        if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False or own.get("privileged"):
            yield f"{where} runs as root"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{where} may gain rights"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{where} may write to its image"
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{where} keeps capabilities"
        writable = {m["mountPath"] for m in container.get("volumeMounts", [])}
        if container.get("command", [""])[0] == "adaptive" and not {"/tmp", "/cache"} <= writable:
            yield f"{where} has nowhere to write; /tmp and /cache are needed"


def images_are_pinned(rendered: Rendered) -> Iterator[str]:
    """Every image has a tag or a digest, and never `latest`."""
    for _, container, where in _containers(rendered):
        image = container["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"{where} takes {image}, which says nothing of what runs"


def scaling_fits(rendered: Rendered) -> Iterator[str]:
    """What is scaled is there, has no number of replicas of its own, and least is not above most."""
    by_name = {w.manifest["metadata"]["name"]: w for w in rendered.workloads()}
    for manifest in rendered.of("HorizontalPodAutoscaler", "ScaledObject"):
        name, spec = f"{manifest['kind']} {manifest['metadata']['name']}", manifest["spec"]
        target = by_name.get(spec["scaleTargetRef"]["name"])
        least = spec.get("minReplicas", spec.get("minReplicaCount", 0))
        most = spec.get("maxReplicas", spec.get("maxReplicaCount", 0))
        if least > most:
            yield f"{name} wants {least} at least and {most} at most"
        if target is None or target.manifest["kind"] != "Deployment":
            yield f"{name} scales {spec['scaleTargetRef']['name']!r}, which is no Deployment here"
        elif "replicas" in target.spec:
            yield f"{name} and {target.name} both say how many replicas there are"
    for manifest in rendered.of("ScaledObject"):
        name = f"ScaledObject {manifest['metadata']['name']}"
        for trigger in manifest["spec"]["triggers"]:
            told = trigger["metadata"]
            if told.get("listName") != HASH:
                yield f"{name} counts {told.get('listName')!r}; {HASH!r} has what runs as well"
            queues = {_place(q) for q in _values(rendered, "ADAPTIVE_QUEUE")}
            if queues and told.get("address") not in queues:
                yield f"{name} looks at {told.get('address')}, and the workers at {sorted(queues)}"
            names = {m["metadata"]["name"] for m in rendered.of("TriggerAuthentication")}
            wanted = trigger.get("authenticationRef", {}).get("name")
            if wanted is not None and wanted not in names:
                yield f"{name}: there is no TriggerAuthentication {wanted!r}"
            if wanted is None and any("@" in q for q in _values(rendered, "ADAPTIVE_QUEUE")):
                yield f"{name} has no password, and the workers' queue asks for one"


def addresses_lead_to_services(rendered: Rendered) -> Iterator[str]:
    """A host of this release in a variable is a service of it, at a port that it has."""
    ports = {
        s["metadata"]["name"]: [p["port"] for p in s["spec"]["ports"]]
        for s in rendered.of("Service")
    }
    for name in ("ADAPTIVE_QUEUE", "AWS_ENDPOINT_URL"):
        for value in _values(rendered, name):
            host, _, port = _place(value).partition(":")
            if "." not in host and (host not in ports or int(port) not in ports[host]):
                yield f"{name} is {value}; there is no such service among {sorted(ports)}"


def stopping_has_time(rendered: Rendered) -> Iterator[str]:
    """A pod is given longer to stop than its program takes."""
    for workload in rendered.workloads():
        given = workload.pod.get("terminationGracePeriodSeconds", 30)
        for container in workload.pod["containers"]:
            own = environment(container)
            needed = float(own.get("ADAPTIVE_GRACE") or 0)
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
            command = hook.get("command", [])
            needed += float(command[1]) if command[:1] == ["sleep"] else 0
            if given < needed + 5:
                yield f"{workload.name} is killed after {given} s, and takes {needed:g} s to stop"


def names_are_unique_and_short(rendered: Rendered) -> Iterator[str]:
    """No two manifests of a kind share a name, and each may be a host's."""
    seen = set()
    for manifest in rendered.manifests:
        key = manifest["kind"], manifest["metadata"]["name"]
        if key in seen:
            yield f"there are two: {key[0]} {key[1]}"
        seen.add(key)
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", key[1]):
            yield f"{key[0]} {key[1]} is no name of a host"
        if manifest["metadata"].get("labels", {}).get("app.kubernetes.io/instance") != RELEASE:
            yield f"{key[0]} {key[1]} does not say which release it is of"


def metrics_are_found(rendered: Rendered) -> Iterator[str]:
    """A service monitor names a service's port, and the path of metrics."""
    for monitor in rendered.of("ServiceMonitor"):
        name = f"ServiceMonitor {monitor['metadata']['name']}"
        labels = monitor["spec"]["selector"]["matchLabels"].items()
        found = [s for s in rendered.of("Service") if labels <= s["metadata"]["labels"].items()]
        ports = {port.get("name") for service in found for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint.get("port") not in ports:
                yield f"{name} asks port {endpoint.get('port')!r}; its services have {ports}"
            if endpoint.get("path") != "/metrics":
                yield f"{name} asks {endpoint.get('path')}"


def options_exist(options: Mapping[str, Sequence[str]], absent: Sequence[str] = ()) -> Rule:
    """Every variable ADAPTIVE_X is an option of the command that reads it.

    options : variables by command, as "adaptive serve"
    absent : commands that this version is known not to have
    """

    def look(rendered: Rendered) -> Iterator[str]:
        for _, container, where in _containers(rendered):
            command = " ".join(container.get("command", []))
            if not command.startswith("adaptive") or command in absent:
                continue
            if command not in options:
                yield f"{where} runs {command!r}, which is no command; there are {sorted(options)}"
                continue
            for name in environment(container):
                if name.startswith("ADAPTIVE_") and name not in options[command]:
                    yield f"{where}: {name} is no option of {command}"

    return look


RULES: Sequence[Rule] = (
    requests_within_limits,
    probes_name_what_is_there,
    listens_where_it_says,
    services_reach_pods,
    selectors_match,
    policies_let_in_who_must,
    references_exist,
    secrets_are_not_written_down,
    nothing_is_root,
    images_are_pinned,
    scaling_fits,
    addresses_lead_to_services,
    stopping_has_time,
    names_are_unique_and_short,
    metrics_are_found,
)


def _containers(rendered: Rendered) -> Iterator[tuple[Workload, Manifest, str]]:
    for workload in rendered.workloads():
        for container in workload.containers:
            yield workload, container, f"{workload.name}/{container['name']}"


def _secrets(workload: Workload) -> set[str]:
    """Names of the secrets that a pod needs."""
    pod = workload.pod
    found = {entry["name"] for entry in pod.get("imagePullSecrets", [])}
    found |= {v["secret"]["secretName"] for v in pod.get("volumes", []) if "secret" in v}
    for container in workload.containers:
        for entry in container.get("env", []):
            reference: Any = entry.get("valueFrom", {}).get("secretKeyRef")
            found |= {reference["name"]} if reference else set()
    return found


def _values(rendered: Rendered, name: str) -> set[str]:
    """Every value that a variable has."""
    found = {environment(container).get(name) for _, container, _ in _containers(rendered)}
    return {value for value in found if value}


def _place(url: str) -> str:
    """Host and port of an address."""
    parts = urlsplit(re.sub(r"\$\([A-Z_]+\)", "x", url))
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
