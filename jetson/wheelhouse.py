"""`python -m adaptive.jetson.wheelhouse`: all wheels that a board needs, in a folder.

Made on a machine with a network, for a board without one: the wheels of the board's Python and
architecture, their checksums, and a script that installs them there. pip resolves, fetches and
checks; what it gets are names and versions (`locks/` or the project's own requirements) and the
board's platforms. It can look for another platform's wheels, but asks the Python that it runs on
which of their requirements apply (`python_version < "3.10"`); so it is told the board's answers.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

import click

from adaptive.errors import AdaptiveError, InputError
from adaptive.files import folder_aside, refuse_existing, sha256

HERE = Path(__file__).resolve().parent

#: The wheel that is taken where the board's own OpenCV is not.
OPENCV = "opencv-python-headless>=4.5"

#: pip, with a target's answers to the markers of requirements as its first argument.
PIP = """
import json, runpy, sys
from pip._vendor.packaging import markers
answers = {**markers.default_environment(), **json.loads(sys.argv.pop(1))}
markers.default_environment = lambda: dict(answers)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Target:
    """A machine to install on: its CPython, its glibc, and which engine it can have.

    `engine` is required unless a wheel of ONNX Runtime is given.
    """

    name: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    machine: str = "aarch64"
    engine: str = "onnxruntime>=1.11"

    @property
    def platforms(self) -> list[str]:
        """The platform tags of wheels that run there, the best first."""
        lowest = 17 if self.machine != "x86_64" else 5
        newest = [f"manylinux_2_{n}_{self.machine}" for n in range(self.glibc[1], lowest - 1, -1)]
        old = ("2014",) if self.machine != "x86_64" else ("2014", "2010", "1")
        # `linux_…` is the tag of wheels that NVIDIA builds for its boards alone.
        return [*newest, *(f"manylinux{n}_{self.machine}" for n in old), f"linux_{self.machine}"]

    @property
    def markers(self) -> dict[str, str]:
        """What the target answers to the markers of requirements."""
        version = ".".join(map(str, self.python))
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "platform_release": "",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }


def this_machine() -> Target:
    """The machine that this runs on, if its C library is glibc."""
    name, version = platform.libc_ver()
    if name != "glibc":
        raise InputError(f"this machine's C library is {name or 'unknown'}; wheels need glibc")
    major, minor = (int(part) for part in version.split(".")[:2])
    return Target("here", sys.version_info[:2], (major, minor), platform.machine())


#: What `TARGET` may be, beside `here`. ONNX Runtime 1.11 is the last for JetPack 4's TensorRT.
TARGETS = {
    target.name: target
    for target in (
        Target("jetpack4", (3, 8), (2, 27), engine="onnxruntime==1.11.0"),
        Target("jetpack6", (3, 10), (2, 35)),
        Target("jetpack7", (3, 12), (2, 39)),
        Target("debian11", (3, 9), (2, 31), engine="onnxruntime==1.11.0"),
        Target("debian12", (3, 11), (2, 36)),
    )
}


def make(
    output: Path,
    target: Target,
    project: Path,
    given: Sequence[Path] = (),
    *,
    extra: Sequence[str] = (),
    newest: bool = False,
    own_opencv: bool = False,
    force: bool = False,
    options: Sequence[str] = (),
) -> list[Path]:
    """Write a wheelhouse: `wheels/`, `requirements.txt`, `target` and `install.sh`.

    Parameters
    ----------
    project : a wheel of adaptive-serving, or the folder of its source
    given : wheels that no index has, such as NVIDIA's ONNX Runtime; each is installed
    extra : further requirements, such as pytest
    newest : the newest versions, rather than those of `locks/`
    own_opencv : leave the wheel of OpenCV out; the board's own is used, which knows its cameras
    options : more options of `pip download`, such as an index

    Raises
    ------
    InputError
        with pip's own words when a wheel does not fit the target, or is not to be had.
    """
    refuse_existing(output, force)
    if importlib.util.find_spec("pip") is None:
        raise InputError(f"{sys.executable} has no pip; run {sys.executable} -m ensurepip")
    lock = HERE / "locks" / f"{target.name}.txt"
    locked = [] if newest or not lock.exists() else lock.read_text().splitlines()
    roots = ["pip", *extra, *map(str, given)]
    if any(name.startswith("onnxruntime") for name in (*extra, *(path.name for path in given))):
        locked = [line for line in locked if not line.startswith("onnxruntime==")]
    else:
        roots.append(target.engine)
    if own_opencv:
        if target.name == "jetpack4":
            raise InputError(
                "JetPack 4's own OpenCV is for Python 3.6, and this project needs 3.8; leave "
                "--own-opencv out"
            )
        locked = [line for line in locked if not line.startswith(("opencv", "numpy"))]
        roots.append("numpy<2")  # what boards' own OpenCV was built for
    elif not any(path.name.startswith("opencv") for path in given):
        roots.append(OPENCV)
    with folder_aside(output) as aside, tempfile.TemporaryDirectory() as work:
        folder = aside / "wheels"
        folder.mkdir(parents=True)
        if given:  # first, since one that does not fit ends it all
            _download(target, folder, *options, "--no-deps", *map(str, given))
        roots.append(str(_project_wheel(project, Path(work))))
        hashes, versions = Path(work) / "locked.txt", Path(work) / "versions.txt"
        hashes.write_text("\n".join(locked))
        versions.write_text("\n".join(line.partition(" --hash=")[0] for line in locked))
        if locked:
            _download(target, folder, *options, "--no-deps", "--require-hashes", "-r", str(hashes))
        # What is there by now is not fetched again; what no lock names is.
        _download(target, folder, *options, "--constraint", str(versions), *roots)
        wheels = sorted(folder.iterdir(), key=_name)
        (aside / "requirements.txt").write_text(requirements_text(wheels))
        (aside / "target").write_text(
            f"name={target.name}\npython={target.python[0]}.{target.python[1]}\n"
            f"machine={target.machine}\nglibc={target.glibc[0]}.{target.glibc[1]}\n"
            f"system-packages={'yes' if own_opencv else 'no'}\n"
        )
        shutil.copyfile(HERE / "offline.sh", aside / "install.sh")
        (aside / "install.sh").chmod(0o755)
    return [output / "wheels" / path.name for path in wheels]


def requirements_text(wheels: Iterable[Path]) -> str:
    """A requirements file for `pip install --require-hashes`; each wheel's file above its line."""
    return "".join(
        f"# {path.name}\n{_name(path)}=={path.name.split('-')[1]} --hash=sha256:{sha256(path)}\n"
        for path in wheels
    )


def _name(wheel: Path) -> str:
    """The name that a wheel's project has on an index."""
    return re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()


def _download(target: Target, folder: Path, *arguments: str) -> None:
    version = ".".join(map(str, target.python))
    command = [
        *(sys.executable, "-c", PIP, json.dumps(target.markers), "download", "--quiet"),
        *("--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)),
        *("--implementation", "cp", "--python-version", version),
        *(word for name in target.platforms for word in ("--platform", name)),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    said = " ".join(errors) or done.stderr.strip() or f"exit code {done.returncode}"
    tag = f"cp{version.replace('.', '')}"
    said = re.sub(
        r"(\S+)-[^-\s]+-[^-\s]+-[^-\s]+\.whl is not a supported wheel on this platform\.",
        rf"\g<0> There it would be named \1-{tag}-{tag}-linux_{target.machine}.whl "
        "(one that was saved under another name can be renamed).",
        said,
    )
    raise InputError(f"pip cannot fetch the wheels for {target.name}: {said}")


def _project_wheel(project: Path, folder: Path) -> Path:
    if project.suffix == ".whl":
        return project
    if not (project / "pyproject.toml").is_file():
        raise InputError(
            f"{project} is neither a wheel of adaptive-serving nor the folder of its source; "
            "name one with --project"
        )
    # From a copy, so that no build folder is left in the source.
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "tests")
    shutil.copytree(project, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    done = subprocess.run(
        [*command, str(folder), str(folder / "source")], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InputError(f"pip cannot build {project}: {done.stderr.strip()}")
    (wheel,) = folder.glob("adaptive_serving-*.whl")
    return wheel


@click.command("wheelhouse")
@click.argument("target", type=click.Choice([*TARGETS, "here"]))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder.")
@click.option(
    "--project",
    default=HERE.parent,
    type=click.Path(exists=True, path_type=Path),
    help="A wheel of adaptive-serving, or the folder of its source. [default: the source that "
    "this command runs from]",
)
@click.option(
    "--wheel",
    "wheels",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A wheel that PyPI does not have, as NVIDIA's onnxruntime_gpu; takes the place of the "
    "CPU's. May be repeated.",
)
@click.option("--with", "extra", multiple=True, metavar="REQUIREMENT", help="More, as 'pytest>=7'.")
@click.option("--newest", is_flag=True, help="The newest versions, not those that were locked.")
@click.option(
    "--own-opencv",
    is_flag=True,
    help="Leave OpenCV's wheel out: the board's own is used, which has GStreamer and its cameras.",
)
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def command(
    target: str,
    output: Path,
    project: Path,
    wheels: tuple[Path, ...],
    extra: tuple[str, ...],
    newest: bool,
    own_opencv: bool,
    force: bool,
) -> None:
    """Fetch all wheels that TARGET needs, with checksums and an install script.

    Copy the folder to the board and run its install.sh there; no network is needed.
    """
    chosen = TARGETS.get(target) or this_machine()
    made = make(
        output,
        chosen,
        project,
        wheels,
        extra=extra,
        newest=newest,
        own_opencv=own_opencv,
        force=force,
    )
    for path in made:
        click.echo(path.name)
    for path in wheels:
        click.echo(f"{path.name}: its checksum is your copy's own; compare it with its source's")
    megabytes = sum(path.stat().st_size for path in made) / 1e6
    click.echo(f"{len(made)} wheels, {megabytes:.0f} MB, in {output}; there: ./install.sh FOLDER")


def main() -> None:
    """Run the command; an error becomes one sentence and exit code 2."""
    try:
        command(prog_name="python -m adaptive.jetson.wheelhouse")
    except AdaptiveError as error:
        click.echo(f"wheelhouse: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
