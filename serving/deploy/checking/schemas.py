"""Manifests against the schemas of Kubernetes, and against those of custom resources."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterator

import jsonschema
import kubernetes_validate
import yaml
from rendering import Manifest

#: The oldest and the newest that the chart is for.
VERSIONS = ("1.25", "1.37")

#: Kinds whose definitions are not Kubernetes's own.
CUSTOM = {
    "ScaledObject": "keda.sh_scaledobjects.yaml",
    "TriggerAuthentication": "keda.sh_triggerauthentications.yaml",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors.yaml",
}


def problems(manifest: Manifest, version: str) -> Iterator[str]:
    """What a version of Kubernetes would refuse, unknown fields included."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{name} under {version}: {'.'.join(map(str, error.path))}: {error.message[:300]}"
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{name} under {version}: there is no {manifest['apiVersion']} {manifest['kind']}"


def custom_folder() -> Path:
    """Where definitions of custom resources lie; they are not part of this repository."""
    given = os.environ.get("ADAPTIVE_CRDS")
    return Path(given) if given else Path(os.environ["ADAPTIVE_DEPLOY_CACHE"]) / "crds"


def custom_problems(manifest: Manifest) -> Iterator[str]:
    """What the definition of a custom resource refuses.

    Raises
    ------
    FileNotFoundError
        when the definition is not here.
    """
    schema = _definition(custom_folder() / CUSTOM[manifest["kind"]], manifest["apiVersion"])
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    for error in jsonschema.Draft7Validator(schema).iter_errors(manifest):
        yield f"{name}: {'.'.join(map(str, error.path))}: {error.message[:300]}"


@lru_cache(maxsize=None)
def _definition(path: Path, api_version: str) -> Any:
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    version = api_version.rpartition("/")[2]
    (found,) = [v for v in value["spec"]["versions"] if v["name"] == version]
    return _closed(json.loads(json.dumps(found["schema"]["openAPIV3Schema"])), True)


def _closed(schema: Any, top: bool = False) -> Any:
    """A schema that refuses fields which it does not know, as strict validation does."""
    if isinstance(schema, list):
        return [_closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    open_one = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not top and not open_one:
        found.setdefault("additionalProperties", False)
    if top:
        found["properties"]["metadata"] = {"type": "object"}
        found["additionalProperties"] = False
    return found
