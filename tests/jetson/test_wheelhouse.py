"""Wheelhouses of small wheels from a folder; nothing here asks a network."""

from __future__ import annotations

import ensurepip
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pip._vendor.packaging import tags
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

from adaptive.errors import InputError
from adaptive.files import sha256
from adaptive.jetson import wheelhouse
from adaptive.jetson.wheelhouse import HERE, TARGETS, Target, command, make, this_machine

OLD = TARGETS["jetpack4"]


def wheel(
    folder: Path,
    name: str,
    version: str,
    requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    python: str = ">=3.6",
) -> Path:
    """A wheel that installs one module, and a program of that name."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Python: {python}", *(f"Requires-Dist: {line}" for line in requires)]
    extras = re.findall(r'extra ?== ?"(\w+)"', " ".join(requires))
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    module = f"def main():\n    print('{name} {version}')\n"
    script = "adaptive" if name == "adaptive_serving" else name
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{script} = {name}:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{n},,\n" for n in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
    return path


def bundled_pip() -> Path:
    """The wheel of pip that comes with Python."""
    found = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not found:
        pytest.skip("this Python does not come with a wheel of pip")
    return found[0]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of wheels to choose from, more than any target needs."""
    folder = tmp_path / "index"
    folder.mkdir()
    aarch64 = "manylinux_2_17_aarch64.manylinux2014_aarch64"
    wheel(folder, "pip", "1.0")
    wheel(folder, "onnxruntime", "1.11.0", tag=f"cp38-cp38-{aarch64}", requires=("numpy>=1.21",))
    wheel(folder, "onnxruntime", "1.12.0", tag=f"cp38-cp38-{aarch64}")
    wheel(folder, "onnxruntime", "1.23.0", tag="cp310-cp310-manylinux_2_28_aarch64")
    wheel(folder, "numpy", "1.24.4", tag=f"cp38-cp38-{aarch64}")
    wheel(folder, "numpy", "1.25.0", tag="cp38-cp38-manylinux_2_28_aarch64")  # a newer glibc
    wheel(folder, "numpy", "2.0.0", tag="cp38-cp38-manylinux_2_17_x86_64")
    wheel(folder, "numpy", "2.2.0", tag="cp310-cp310-manylinux_2_28_aarch64")
    wheel(folder, "flask", "3.0.0", ('importlib_metadata; python_version < "3.10"', "werkzeug"))
    wheel(folder, "flask", "3.1.0", python=">=3.9")
    wheel(folder, "importlib_metadata", "8.0", ("zipp>=3",))
    wheel(folder, "zipp", "3.0")
    wheel(folder, "werkzeug", "3.0")
    wheel(folder, "werkzeug", "2.0")
    wheel(folder, "colorama", "1.0")
    wheel(folder, "opencv_python_headless", "4.4.0")
    wheel(folder, "opencv_python_headless", "5.0.0")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    requires = ("flask>=2", "werkzeug<3", 'colorama; sys_platform == "win32"', 'torch; extra=="t"')
    return wheel(tmp_path, "adaptive_serving", "0.1.0", requires)


def options(index: Path) -> list[str]:
    return ["--no-index", "--find-links", str(index)]


def names(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "wheels").iterdir())


@pytest.mark.slow
def test_wheels_are_the_targets_whatever_python_fetches_them(index, project, tmp_path):
    made = make(tmp_path / "old", OLD, project, newest=True, options=options(index))
    assert names(tmp_path / "old") == [
        "adaptive_serving-0.1.0-py3-none-any.whl",
        "flask-3.0.0-py3-none-any.whl",
        "importlib_metadata-8.0-py3-none-any.whl",
        "numpy-1.24.4-cp38-cp38-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "onnxruntime-1.11.0-cp38-cp38-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "opencv_python_headless-5.0.0-py3-none-any.whl",
        "pip-1.0-py3-none-any.whl",
        "werkzeug-2.0-py3-none-any.whl",  # 3.0 was fetched first, and what nothing needs went
        "zipp-3.0-py3-none-any.whl",
    ]
    assert [path.name for path in made] == names(tmp_path / "old")
    assert all(path.is_file() for path in made)
    assert "python=3.8\nmachine=aarch64\nglibc=2.27\n" in (tmp_path / "old/target").read_text()

    lines = (tmp_path / "old/requirements.txt").read_text().splitlines()
    assert [line[2:] for line in lines[::2]] == names(tmp_path / "old")
    for comment, line in zip(lines[::2], lines[1::2]):
        pinned, digest = line.split(" --hash=sha256:")
        assert digest == sha256(tmp_path / "old/wheels" / comment[2:])
        assert pinned.split("==")[0] == comment[2:].split("-")[0].replace("_", "-")

    make(tmp_path / "new", TARGETS["jetpack6"], project, newest=True, options=options(index))
    new = names(tmp_path / "new")
    assert "flask-3.1.0-py3-none-any.whl" in new
    assert "onnxruntime-1.23.0-cp310-cp310-manylinux_2_28_aarch64.whl" in new
    assert not any(name.startswith("importlib") for name in new)


@pytest.mark.slow
def test_nvidias_wheel_takes_the_place_of_the_cpus(index, project, tmp_path):
    own = wheel(tmp_path, "onnxruntime_gpu", "1.11.0", tag="cp38-cp38-linux_aarch64")
    make(tmp_path / "house", OLD, project, [own], newest=True, options=options(index))
    engines = [name for name in names(tmp_path / "house") if name.startswith("onnxruntime")]
    assert engines == [own.name]


def test_a_boards_own_opencv_takes_the_place_of_the_wheel(index, project, tmp_path):
    wheel(index, "numpy", "1.26.0", tag="cp310-cp310-manylinux_2_28_aarch64")
    make(
        tmp_path / "house",
        TARGETS["jetpack6"],
        project,
        newest=True,
        own_opencv=True,
        options=options(index),
    )
    found = names(tmp_path / "house")
    assert [name for name in found if name.startswith("opencv")] == []
    assert [name for name in found if name.startswith("numpy")] == [
        "numpy-1.26.0-cp310-cp310-manylinux_2_28_aarch64.whl"
    ]
    assert "system-packages=yes\n" in (tmp_path / "house" / "target").read_text()
    with pytest.raises(InputError, match=r"Python 3\.6"):
        make(tmp_path / "old", OLD, project, own_opencv=True, options=options(index))


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["cp38-cp38m-linux_aarch64", "cp36-cp36m-linux_aarch64"])
def test_a_wheel_of_another_python_is_refused_with_the_right_name(index, project, tmp_path, tag):
    own = wheel(tmp_path, "onnxruntime_gpu", "1.11.0", tag=tag)
    with pytest.raises(InputError, match=r"onnxruntime_gpu-1\.11\.0-cp38-cp38-linux_aarch64\.whl"):
        make(tmp_path / "house", OLD, project, [own], newest=True, options=options(index))
    assert not (tmp_path / "house").exists()


@pytest.mark.slow
def test_what_is_not_to_be_had_is_named_and_nothing_is_left(index, project, tmp_path):
    (index / "zipp-3.0-py3-none-any.whl").unlink()
    # Of a folder, unlike of an index, pip fetches what is for another Python, and complains first.
    (index / "flask-3.1.0-py3-none-any.whl").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"jetpack4: .*zipp"):
        make(tmp_path / "house", OLD, project, newest=True, options=options(index))
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_folder_is_kept(index, project, tmp_path):
    with pytest.raises(InputError, match="--force"):
        make(index, OLD, project, newest=True, options=options(index))


def test_a_project_that_is_neither_wheel_nor_source_is_refused(index, tmp_path):
    with pytest.raises(InputError, match="--project"):
        make(tmp_path / "house", OLD, index, newest=True, options=options(index))


def test_a_file_that_is_no_wheel_is_refused(index, project, tmp_path):
    path = tmp_path / "onnxruntime_gpu-1.11.0-cp38-cp38-linux_aarch64.whl"
    path.write_text("<html>sign in to download</html>")
    with pytest.raises(InputError, match=r"jetpack4: .*onnxruntime.gpu.* is invalid"):
        make(tmp_path / "house", OLD, project, [path], newest=True, options=options(index))


def test_extras_bring_what_they_ask_for(index, project, tmp_path):
    wheel(index, "box", "1.0", ('colorama; extra == "colour"', 'torch; extra == "web"'))
    for extra in ("box", "box[colour]"):
        make(
            tmp_path / extra,
            *(OLD, project),
            extra=[extra],
            newest=True,
            options=options(index),
        )
    plain, coloured = set(names(tmp_path / "box")), set(names(tmp_path / "box[colour]"))
    assert "box-1.0-py3-none-any.whl" in plain
    assert coloured - plain == {"colorama-1.0-py3-none-any.whl"}


def test_requirements_that_contradict_are_named(index, project, tmp_path):
    wheel(index, "box", "1.0", ("werkzeug>=3",))
    with pytest.raises(InputError, match=r"jetpack4: .*box.* conflicting dependencies"):
        make(
            tmp_path / "house",
            *(OLD, project),
            extra=["box", "werkzeug<3"],
            newest=True,
            options=options(index),
        )


@pytest.fixture
def locked(index, tmp_path, monkeypatch) -> Path:
    """A lock for jetpack4 that names all but `zipp`, and less than the newest of flask."""
    wheel(index, "flask", "3.0.1", ('importlib_metadata; python_version < "3.10"', "werkzeug"))
    pinned = ("pip-", "onnxruntime-1.11", "numpy-1.24", "flask-3.0.0", "importlib", "werkzeug-2")
    lock = tmp_path / "locks" / "jetpack4.txt"
    lock.parent.mkdir()
    lock.write_text(
        wheelhouse.requirements_text(
            path for path in sorted(index.iterdir()) if path.name.startswith(pinned)
        )
    )
    monkeypatch.setattr(wheelhouse, "HERE", tmp_path)
    (tmp_path / "offline.sh").write_text((HERE / "offline.sh").read_text())
    return lock


def test_a_lock_names_the_files_and_what_it_leaves_open_is_resolved(
    index, project, locked, tmp_path
):
    make(tmp_path / "house", OLD, project, options=options(index))
    found = names(tmp_path / "house")
    assert "flask-3.0.0-py3-none-any.whl" in found
    assert "flask-3.0.1-py3-none-any.whl" not in found
    assert "zipp-3.0-py3-none-any.whl" in found
    make(tmp_path / "new", OLD, project, newest=True, options=options(index))
    assert "flask-3.0.1-py3-none-any.whl" in names(tmp_path / "new")


def test_nvidias_wheel_takes_the_place_of_the_locked_cpus(index, project, locked, tmp_path):
    own = wheel(tmp_path, "onnxruntime_gpu", "1.11.0", ("numpy",), tag="cp38-cp38-linux_aarch64")
    make(tmp_path / "house", OLD, project, [own], options=options(index))
    found = names(tmp_path / "house")
    assert [name for name in found if name.startswith("onnxruntime")] == [own.name]
    assert "numpy-1.24.4-cp38-cp38-manylinux_2_17_aarch64.manylinux2014_aarch64.whl" in found


def test_a_file_that_is_not_the_locked_one_is_refused(index, project, locked, tmp_path):
    wheel(index, "flask", "3.0.0")
    with pytest.raises(InputError, match=r"jetpack4: .*DO NOT MATCH"):
        make(tmp_path / "house", OLD, project, options=options(index))
    assert not (tmp_path / "house").exists()


def test_the_source_is_found_from_a_checkout():
    root = Path(__file__).parents[2]
    if root not in HERE.parents:
        pytest.skip("the package is not a checkout's")
    (default,) = (one.default for one in command.params if one.name == "project")
    assert default == root


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_platforms_reach_from_the_targets_glibc_down(target: Target):
    platforms = target.platforms
    assert platforms[0] == f"manylinux_2_{target.glibc[1]}_aarch64"
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(platforms)
    assert f"manylinux_2_{target.glibc[1] + 1}_aarch64" not in platforms


@pytest.mark.parametrize("name", ["jetpack4", "jetpack6", "jetpack7"])
def test_locked_wheels_fit_their_board(name):
    target = TARGETS[name]
    interpreter = f"cp{target.python[0]}{target.python[1]}"
    fitting = {
        *tags.cpython_tags(target.python, platforms=target.platforms),
        *tags.compatible_tags(target.python, interpreter, target.platforms),
    }
    lines = (HERE / "locks" / f"{name}.txt").read_text().splitlines()
    locked = {}
    for comment, line in zip(lines[::2], lines[1::2]):
        found = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
        assert found, line
        own, version, _, tagged = parse_wheel_filename(comment[2:])
        assert (own, str(version)) == found.groups()
        assert tagged & fitting, comment
        locked[own] = str(version)
    assert {"numpy", "opencv-python-headless", "onnxruntime", "flask", "pip"} <= set(locked)
    if name == "jetpack4":
        assert locked["onnxruntime"] == "1.11.0"
        assert locked["numpy"] < "1.25"


@pytest.mark.parametrize("name", ["jetpack4", "jetpack6", "jetpack7"])
def test_a_lock_names_all_that_the_project_asks_for(name):
    lines = (HERE / "locks" / f"{name}.txt").read_text().splitlines()
    versions = dict(line.split(" ")[0].split("==") for line in lines if "==" in line)
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", text, flags=re.M | re.S)
    for line in re.findall(r'"(.+?)"', listed):
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate(TARGETS[name].markers):
            assert versions.get(canonicalize_name(asked.name), "0") in asked.specifier, line


def install(house: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a wheelhouse's script, with no network that it could use."""
    environment = {"PATH": os.environ["PATH"], "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    return subprocess.run(
        ["sh", str(house / "install.sh"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A wheelhouse for this machine."""
    index = tmp_path / "index"
    index.mkdir()
    (index / bundled_pip().name).write_bytes(bundled_pip().read_bytes())
    wheel(index, "onnxruntime", "1.20.0", ("numpy",))
    wheel(index, "numpy", "1.24.4")
    wheel(index, "opencv_python_headless", "5.0.0")
    project = wheel(tmp_path, "adaptive_serving", "0.1.0", ("numpy>=1.21",))
    output = tmp_path / "house"
    make(output, this_machine(), project, newest=True, options=options(index))
    return output


@pytest.mark.slow
def test_a_wheelhouse_installs_offline_and_brings_up_to_date(house, tmp_path):
    folder = tmp_path / "environment"
    for _ in range(2):
        done = install(house, str(folder), sys.executable)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "adaptive_serving 0.1.0"
    program = "import numpy, onnxruntime; print(numpy.__file__)"
    found = subprocess.run(
        [str(folder / "bin/python"), "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(folder))


@pytest.mark.slow
def test_a_changed_wheel_is_not_installed(house, tmp_path):
    wheel(house / "wheels", "numpy", "1.24.4", ("zipp",))
    done = install(house, str(tmp_path / "environment"), sys.executable)
    assert done.returncode != 0
    assert "DO NOT MATCH" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("machine=m68k", "these wheels are for m68k, and this machine is"),
        ("python=3.1", "these wheels are for Python 3.1, and"),
    ],
)
def test_another_machine_or_python_is_refused_before_anything_is_made(house, tmp_path, line, words):
    text = (house / "target").read_text()
    (house / "target").write_text(re.sub(rf"^{line.split('=')[0]}=.*", line, text, flags=re.M))
    done = install(house, str(tmp_path / "environment"), sys.executable)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "environment").exists()
