"""`adaptive doctor`: what this installation can do here, and the line that mends what it cannot."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any, Callable

import click

from adaptive.errors import AdaptiveError, MissingExtra
from adaptive.installed import EXTRAS, NAME, pip_line, python_line

#: What must be there, by the names of packages.
_NEEDED = (
    "numpy",
    "Pillow",
    "flask",
    "Jinja2",
    "uvicorn",
    "httptools",
    "uvloop",
    "click",
    "tqdm",
    "prometheus-client",
    "urllib3",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : of what
    state : "ok", "absent" (something optional), or "wrong" (answering images needs it)
    told : what was found
    mend : the line or sentence that mends it; "" where nothing is to be mended
    """

    name: str
    state: str
    told: str
    mend: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of lines.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also see whether a bundle can be read, and its candidates on other servers answer.",
)
@click.option(
    "--remote-keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Bearer keys for those servers, each a line https://HOST:PORT KEY.",
)
def command(as_json: bool, bundle: Path | None, remote_keys: Path | None) -> None:
    """Say what this installation can do on this machine, and how to mend what it cannot.

    Exit code 0 when images can be answered, whatever optional parts are missing; else 1.
    """
    findings = [_guarded(look) for look in LOOKS]
    if bundle is not None:
        findings.append(_bundle(bundle, remote_keys))
    found = [finding for several in findings for finding in several]
    wrong = [finding for finding in found if finding.state == "wrong"]
    if as_json:
        content = {"ok": not wrong, "findings": [asdict(finding) for finding in found]}
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        width = max(len(finding.name) for finding in found)
        for finding in found:
            click.echo(f"{finding.state:8}{finding.name:{width}}  {finding.told}")
            if finding.mend:
                click.echo(f"{'':8}{'':{width}}  -> {finding.mend}")
        click.echo("images cannot be answered here" if wrong else "images can be answered here")
    sys.exit(1 if wrong else 0)


def _guarded(look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a look finds; that it failed, where it did."""
    try:
        return look()
    except (AdaptiveError, OSError) as error:
        name = look.__name__.strip("_").replace("_", " ")
        return [Finding(name, "wrong", str(error))]


def _python() -> list[Finding]:
    try:
        version = metadata.version(NAME)
    except metadata.PackageNotFoundError:
        version = "not installed, run from its folder"
    return [Finding("python", "ok", python_line()), Finding("adaptive", "ok", version)]


def _packages() -> list[Finding]:
    there, absent = {}, []
    for name in _NEEDED:
        try:
            there[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
    told = ", ".join(f"{name} {version}" for name, version in there.items())
    if absent:
        mend = f"pip install {' '.join(absent)}"
        return [Finding("packages", "wrong", f"without {', '.join(absent)}", mend, there)]
    return [Finding("packages", "ok", told, details=there)]


def _opencv() -> list[Finding]:
    try:
        from adaptive.opencv import cv2
    except AdaptiveError as error:
        return [Finding("opencv", "wrong", str(error), "pip install opencv-python-headless")]
    build = cv2.getBuildInformation()
    video = [
        name
        for name in ("GStreamer", "FFMPEG", "v4l/v4l2")
        if re.search(rf"^\s*{re.escape(name)}:\s+YES", build, re.MULTILINE)
    ]
    told = f"{cv2.__version__}, video by {', '.join(video) or 'nothing'}"
    return [Finding("opencv", "ok", told, details={"version": cv2.__version__, "video": video})]


def _engines() -> list[Finding]:
    from adaptive.engines.direct.cudart import device_file
    from adaptive.engines.providers import listed_providers, missing_provider

    try:
        version, providers = listed_providers()
    except MissingExtra:
        return [Finding("engine onnx", "wrong", "ONNX Runtime is not installed", pip_line("cpu"))]
    listed = [name.replace("ExecutionProvider", "") for name in providers]
    found = [
        Finding(
            "engine onnx",
            "ok",
            f"ONNX Runtime {version}, providers {', '.join(listed)}",
            details={"version": version, "providers": listed},
        )
    ]
    device = device_file()
    if device is None:
        told = "no NVIDIA device; networks run on the processor"
        return [*found, Finding("nvidia", "absent", told)]
    found.append(Finding("nvidia", "ok", str(device)))
    for engine in ("cuda", "tensorrt-provider"):
        reason = missing_provider(engine)
        told = "the provider is there; adaptive build sees it run"
        found.append(
            Finding(
                f"engine {engine}",
                "ok" if reason is None else "absent",
                reason or told,
                "" if reason is None else pip_line("gpu"),
            )
        )
    if util.find_spec("tensorrt") is None:
        mend = "it comes with JetPack; elsewhere pip install tensorrt"
        found.append(Finding("engine tensorrt", "absent", "no module tensorrt", mend))
    else:
        found.append(Finding("engine tensorrt", "ok", "its module is there"))
    return found


def _answer() -> list[Finding]:
    from adaptive.routing.router import Router

    with Router.load() as router:
        page = Path(__file__).parent.parent / "serving" / "page"
        sample = next(iter(sorted(page.glob("*.jpg"))))
        router.classify(sample)  # whose decoder is loaded on the way
        said = router.classify(sample)
    total = said.ms.get("total", sum(said.ms.values()))
    return [Finding("answer", "ok", f"the default bundle says {said.label!r} in {total:.1f} ms")]


def _extras() -> list[Finding]:
    found = []
    for extra, (use, module) in EXTRAS.items():
        if extra in ("cpu", "gpu"):
            continue  # the engines say it
        there = util.find_spec(module) is not None
        found.append(
            Finding(
                f"extra {extra}",
                "ok" if there else "absent",
                f"{use}{'' if there else f': no module {module}'}",
                "" if there else pip_line(extra),
            )
        )
    return found


def _bundle(folder: Path, remote_keys: Path | None) -> list[Finding]:
    from adaptive.bundle.bundle import Bundle
    from adaptive.bundle.elsewhere import look_at
    from adaptive.engines.remote_keys import read_keys
    from adaptive.remote import origin

    try:
        read, keys = Bundle.read(folder), read_keys(remote_keys)
    except AdaptiveError as error:
        return [Finding("bundle", "wrong", str(error))]
    found = [Finding("bundle", "ok", f"{folder}: {', '.join(read.names)}")]
    for candidate in read.candidates:
        remote = candidate.remote
        if remote is None:
            continue
        said = look_at(candidate, keys.get(origin(remote.url)))
        name = f"candidate {candidate.name}"
        if said.another:
            mend = "the bundle is not served until the server has that model, or it is added again"
            found.append(Finding(name, "wrong", f"{remote.place}: {said.why}", mend))
        elif said.ms is None:
            mend = "answers go without it until its server is there"
            found.append(Finding(name, "absent", f"{remote.place}: {said.why}", mend))
        else:
            told = f"{remote.place} answers in {said.ms:.1f} ms"
            found.append(Finding(name, "ok", told, details={"ms": said.ms}))
    return found


def _cameras() -> list[Finding]:
    nodes = sorted(Path("/dev").glob("video*"))
    if not nodes:
        return [Finding("cameras", "absent", "no /dev/video*; a camera is plugged in or shared")]
    locked = [str(node) for node in nodes if not _readable(node)]
    told = ", ".join(map(str, nodes))
    if locked:
        mend = "sudo usermod -aG video $USER, and log in again"
        return [Finding("cameras", "absent", f"{', '.join(locked)} may not be opened", mend)]
    return [Finding("cameras", "ok", told, details={"devices": list(map(str, nodes))})]


def _readable(path: Path) -> bool:
    import os

    return os.access(path, os.R_OK | os.W_OK)


def _board() -> list[Finding]:
    from adaptive.errors import InputError
    from adaptive.jetson.board import board_lines, board_profile
    from adaptive.jetson.meter import open_meter

    profile = board_profile()
    shown = {
        name: text
        for name, text in board_lines(profile)
        if name not in ("threads", "python", "onnxruntime")
    }
    state = "ok"
    mend = ""
    if profile.get("throttled"):
        state, mend = "absent", "times measured now are too long: cool it, or give it more power"
    told = "; ".join(f"{name} {text}" for name, text in shown.items())
    found = [Finding("board", state, told, mend, profile)]
    try:
        meter = open_meter()
    except InputError as error:
        return [*found, Finding("power", "absent", str(error))]
    try:
        rails = " + ".join(meter.rails)
        return [*found, Finding("power", "ok", f"{meter.name}, {rails} ({meter.covers})")]
    finally:
        meter.close()


#: What is looked at, in this order.
LOOKS: tuple[Callable[[], list[Finding]], ...] = (
    _python,
    _packages,
    _opencv,
    _engines,
    _answer,
    _extras,
    _cameras,
    _board,
)
