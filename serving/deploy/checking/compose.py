"""The compose file: nobody is root, nothing is `latest`, and every variable is an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import yaml

#: What each of our services runs, by the words after `adaptive`.
DEFAULTS = {"server": ["serve"], "worker": ["worker"]}


def compose_problems(
    path: Path, options: Mapping[str, Sequence[str]], absent: Sequence[str] = ()
) -> Iterator[str]:
    """What is wrong with the file.

    options, absent : as for `rules.options_exist`; none are looked at where `options` is empty
    """
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    services = content["services"]
    for name, service in services.items():
        where = f"compose: {name}"
        if not service.get("read_only"):
            yield f"{where} may write to its image"
        if str(service.get("user", "0")).split(":")[0] in ("0", "root"):
            yield f"{where} runs as root"
        if service.get("cap_drop") != ["ALL"]:
            yield f"{where} keeps capabilities"
        tag = service["image"].rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            yield f"{where} takes {service['image']}, which says nothing of what runs"
        if "mem_limit" not in service:
            yield f"{where} may take all memory"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{where} opens {port} to everybody"
        for other in service.get("depends_on", {}):
            if other not in services:
                yield f"{where} depends on {other!r}, which is not there"
            elif "healthcheck" not in services[other]:
                yield f"{where} waits for {other} to be healthy, and nobody looks whether it is"
        for network in service.get("networks", []):
            if network not in content["networks"]:
                yield f"{where}: there is no network {network!r}"
        for rule in service.get("develop", {}).get("watch", []):
            if not (path.parent / rule["path"]).exists():
                yield f"{where} watches {rule['path']}, which is not there"
        build = service.get("build")
        if (
            build is not None
            and not (path.parent / build["context"] / build["dockerfile"]).exists()
        ):
            yield f"{where} is built from {build['dockerfile']}, which is not there"
        words = service.get("command", DEFAULTS.get(name, []))
        command = f"adaptive {' '.join(words)}"
        if "/adaptive/" in service["image"] and options and command not in absent:
            if command not in options:
                yield f"{where} runs {command!r}, which is no command; there are {sorted(options)}"
            for variable in service.get("environment", {}):
                known = options.get(command, ())
                if (
                    command in options
                    and variable.startswith("ADAPTIVE_")
                    and variable not in known
                ):
                    yield f"{where}: {variable} is no option of {command}"
