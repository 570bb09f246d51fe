"""`python -m adaptive.jetson.wheelhouse`: all wheels that a board needs, in a folder.

Made on a machine with a network, for a board without one: the wheels of the board's Python and
architecture, their checksums, and a script that installs them there. pip looks for wheels of
another platform, but asks the Python it runs on, not the board's, which of a wheel's requirements
apply (`python_version < "3.10"`). So pip only fetches here; what is required is read from the
wheels themselves, for the board.
"""

from __future__ import annotations

import email.parser
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import click

from adaptive.errors import AdaptiveError, InputError
from adaptive.files import folder_aside, refuse_existing, sha256

try:  # pip's own readers, since pip is needed anyway
    from pip._vendor.packaging import tags
    from pip._vendor.packaging.markers import default_environment
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
    from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename
    from pip._vendor.packaging.version import Version
except ImportError as exc:
    raise InputError(
        f"{sys.executable} has no pip ({exc}); run {sys.executable} -m ensurepip"
    ) from exc

HERE = Path(__file__).parent

#: Rounds of fetching after which requirements that still change count as contradictory.
ROUNDS = 20


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
    def tags(self) -> frozenset[Any]:
        """Every tag of a wheel that can be installed there."""
        version, platforms = self.python, self.platforms
        return frozenset(tags.cpython_tags(version, platforms=platforms)) | frozenset(
            tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)
        )

    @property
    def environment(self) -> dict[str, str]:
        """What markers of requirements are asked against."""
        version = ".".join(map(str, self.python))
        return {
            **default_environment(),
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


@dataclass(frozen=True)
class Wheel:
    """A wheel in a folder: its file, its name and version, and what it requires."""

    path: Path
    name: str
    version: Version
    requires: tuple[Requirement, ...]

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Read a wheel's file name and its METADATA; InputError when it is no wheel."""
        try:
            parsed = parse_wheel_filename(path.name)
            with zipfile.ZipFile(path) as archive:
                (inner,) = (
                    n for n in archive.namelist()
                    if n.count("/") == 1 and n.endswith(".dist-info/METADATA")
                )  # fmt: skip
                metadata = email.parser.HeaderParser().parsestr(archive.read(inner).decode())
            required = metadata.get_all("Requires-Dist") or []
            return cls(path, parsed[0], parsed[1], tuple(Requirement(line) for line in required))
        except (ValueError, OSError, zipfile.BadZipFile, InvalidRequirement) as error:
            raise InputError(f"{path} is no wheel that can be read: {error}") from error

    def requirements(self, target: Target, extras: Iterable[str]) -> list[Requirement]:
        """What this wheel needs on the target, with the extras that were asked for."""
        environments = [{**target.environment, "extra": extra} for extra in ("", *extras)]
        return [
            requirement
            for requirement in self.requires
            if requirement.marker is None
            or any(requirement.marker.evaluate(environment) for environment in environments)
        ]


def read_wheels(folder: Path, target: Target) -> dict[str, list[Wheel]]:
    """The folder's wheels that fit the target, by name, the newest first."""
    found: dict[str, list[Wheel]] = {}
    for path in sorted(folder.glob("*.whl")):
        wheel = Wheel.read(path)
        if target.tags & parse_wheel_filename(path.name)[3]:
            found.setdefault(wheel.name, []).append(wheel)
    for wheels in found.values():
        wheels.sort(key=lambda wheel: wheel.version, reverse=True)
    return found


def close(
    roots: Sequence[Requirement], wheels: Mapping[str, Sequence[Wheel]], target: Target
) -> tuple[dict[str, Wheel], list[Requirement]]:
    """Which wheels the roots need, and what is not among `wheels`.

    Returns
    -------
    The wheels by name, and one requirement, with all that is asked of it, for every name of which
    no wheel fits.
    """
    asked: dict[str, list[Requirement]] = {}
    extras: dict[str, set[str]] = {}
    todo = list(roots)
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        name = canonicalize_name(requirement.name)
        asked.setdefault(name, []).append(requirement)
        extras.setdefault(name, set()).update(requirement.extras)
        wheel = _fitting(wheels.get(name, ()), asked[name])
        if wheel is not None:
            todo.extend(wheel.requirements(target, extras[name]))
    chosen: dict[str, Wheel] = {}
    missing: list[Requirement] = []
    for key, requirements in sorted(asked.items()):
        wheel = _fitting(wheels.get(key, ()), requirements)
        if wheel is not None:
            chosen[key] = wheel
            continue
        parts = {str(r.specifier) for r in requirements if str(r.specifier)}
        missing.append(Requirement(key + ",".join(sorted(parts))))
    return chosen, missing


def _fitting(wheels: Sequence[Wheel], requirements: Sequence[Requirement]) -> Wheel | None:
    for wheel in wheels:
        if all(r.specifier.contains(wheel.version, prereleases=True) for r in requirements):
            return wheel
    return None


def fetch(
    roots: Sequence[Requirement],
    folder: Path,
    target: Target,
    lock: Path | None = None,
    options: Sequence[str] = (),
) -> dict[str, Wheel]:
    """Have pip download into `folder` what the roots need on the target.

    Parameters
    ----------
    folder : may hold wheels already; those that nothing needs are removed
    lock : exact versions with checksums, fetched first; what they leave open is resolved anew
    options : more options of `pip download`, such as an index

    Raises
    ------
    InputError
        with pip's own words when something is not to be had for the target.
    """
    if lock is not None:
        _download(["--require-hashes", "--requirement", str(lock)], folder, target, options)
    for _ in range(ROUNDS):
        chosen, missing = close(roots, read_wheels(folder, target), target)
        if not missing:
            break
        _download([str(requirement) for requirement in missing], folder, target, options)
    else:
        names = ", ".join(map(str, missing))
        raise InputError(f"no set of wheels fits together for {target.name}; still open: {names}")
    needed = {wheel.path for wheel in chosen.values()}
    for path in folder.glob("*.whl"):
        if path not in needed:
            path.unlink()
    return chosen


def _download(what: Sequence[str], folder: Path, target: Target, options: Sequence[str]) -> None:
    version = ".".join(map(str, target.python))
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--dest", str(folder)),
        *("--implementation", "cp", "--python-version", version),
        *(word for name in target.platforms for word in ("--platform", name)),
        *options,
        *what,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = " ".join(errors) or done.stderr.strip() or f"exit code {done.returncode}"
        raise InputError(f"pip cannot fetch the wheels for {target.name}: {said}")


def requirements_text(wheels: Iterable[Wheel]) -> str:
    """A requirements file for `pip install --require-hashes`; each wheel's name above its line."""
    lines = []
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        lines.append(f"# {wheel.path.name}")
        lines.append(f"{wheel.name}=={wheel.version} --hash=sha256:{sha256(wheel.path)}")
    return "\n".join(lines) + "\n"


def make(
    output: Path,
    target: Target,
    project: Path,
    given: Sequence[Path] = (),
    *,
    extra: Sequence[str] = (),
    newest: bool = False,
    force: bool = False,
    options: Sequence[str] = (),
) -> list[Wheel]:
    """Write a wheelhouse: `wheels/`, `requirements.txt`, `target` and `install.sh`.

    Parameters
    ----------
    project : a wheel of adaptive-serving, or the folder of its source
    given : wheels that no index has, such as NVIDIA's ONNX Runtime; each is installed
    extra : further requirements, such as pytest
    newest : the newest versions, rather than those of `locks/`

    Raises
    ------
    InputError
        when a wheel does not fit the target, or pip cannot fetch one.
    """
    refuse_existing(output, force)
    with folder_aside(output) as aside:
        folder = aside / "wheels"
        folder.mkdir(parents=True)
        roots = [Requirement("pip"), *(Requirement(line) for line in extra)]
        for path in (_project_wheel(project, folder), *given):
            roots.append(_put(path, folder, target))
        if not any(root.name.startswith("onnxruntime") for root in roots):
            roots.append(Requirement(target.engine))
        lock = HERE / "locks" / f"{target.name}.txt"
        wheels = fetch(
            roots, folder, target, None if newest or not lock.exists() else lock, options
        )
        (aside / "requirements.txt").write_text(requirements_text(wheels.values()))
        (aside / "target").write_text(
            f"name={target.name}\npython={target.python[0]}.{target.python[1]}\n"
            f"machine={target.machine}\nglibc={target.glibc[0]}.{target.glibc[1]}\n"
        )
        shutil.copyfile(HERE / "offline.sh", aside / "install.sh")
        (aside / "install.sh").chmod(0o755)
    return [wheels[name] for name in sorted(wheels)]


def _put(path: Path, folder: Path, target: Target) -> Requirement:
    """Copy a wheel into the folder; the requirement that asks for exactly it."""
    wheel = Wheel.read(path)
    if not target.tags & parse_wheel_filename(path.name)[3]:
        version = "".join(map(str, target.python))
        raise InputError(
            f"{path.name} cannot be installed on {target.name}: there a wheel is named like "
            f"{wheel.name.replace('-', '_')}-{wheel.version}-cp{version}-cp{version}"
            f"-linux_{target.machine}.whl (one that was saved under another name can be renamed)"
        )
    if path.parent != folder:
        shutil.copyfile(path, folder / path.name)
    return Requirement(f"{wheel.name}=={wheel.version}")


def _project_wheel(project: Path, folder: Path) -> Path:
    if project.suffix == ".whl":
        return project
    if not (project / "pyproject.toml").is_file():
        raise InputError(
            f"{project} is neither a wheel of adaptive-serving nor the folder of its source; "
            "name one with --project"
        )
    with tempfile.TemporaryDirectory() as work:
        # From a copy, so that no build folder is left in the source.
        copy = Path(work) / "source"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "tests")
        shutil.copytree(project, copy, ignore=ignored)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", str(copy)]
        done = subprocess.run(
            [*command, "--wheel-dir", str(folder)], capture_output=True, text=True, check=False
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
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def command(
    target: str,
    output: Path,
    project: Path,
    wheels: tuple[Path, ...],
    extra: tuple[str, ...],
    newest: bool,
    force: bool,
) -> None:
    """Fetch all wheels that TARGET needs, with checksums and an install script.

    Copy the folder to the board and run its install.sh there; no network is needed.
    """
    chosen = TARGETS.get(target) or this_machine()
    made = make(output, chosen, project, wheels, extra=extra, newest=newest, force=force)
    for wheel in made:
        click.echo(wheel.path.name)
    for path in wheels:
        click.echo(f"{path.name}: its checksum is your copy's own; compare it with its source's")
    megabytes = sum((output / "wheels" / w.path.name).stat().st_size for w in made) / 1e6
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
