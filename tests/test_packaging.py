"""What is installed is what the folders hold, under the one name `adaptive`."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")

#: folder at the root -> package
FOLDERS = {
    "adaptive": "adaptive",
    "features": "adaptive/features",
    "premodel": "adaptive/premodel",
    "serving": "adaptive/serving",
    "jetson": "adaptive/jetson",
}


#: package with files that are not modules -> folder
SHIPPED = {
    "adaptive": "adaptive",
    "adaptive.experiments": "adaptive/experiments",
    "adaptive.report": "adaptive/report",
    "adaptive.serving": "serving",
    "adaptive.jetson": "jetson",
}


#: What deploys a server and checks that; it is not part of the package.
DEPLOY = ROOT / "serving" / "deploy"


def setting(name: str) -> list[str]:
    """A list of strings from pyproject.toml; Python 3.8 has no reader of its own."""
    found = re.search(rf'^"?{re.escape(name)}"? = (\[.*?\])', PROJECT, re.M | re.S)
    assert found is not None
    values: list[str] = ast.literal_eval(found.group(1))
    return values


def sources() -> set[str]:
    """Where every module of the folders must lie in a wheel."""
    return {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
        if DEPLOY not in path.parents
    }


def data() -> set[str]:
    """Where every other file that is shipped must lie in a wheel."""
    return {
        f"{name.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for name, folder in SHIPPED.items()
        for pattern in setting(name)
        for path in (ROOT / folder).glob(pattern)
        if path.is_file()
    }


def test_every_package_is_listed() -> None:
    folders = {str(Path(name).parent).replace("/", ".") for name in sources()}
    assert set(setting("packages")) == folders
    for name in folders:
        assert f"{name.replace('.', '/')}/__init__.py" in sources()


def test_imports_name_the_package_not_the_folders() -> None:
    wrong = re.compile(r"^\s*(from|import) (features|premodel|serving|jetson)\b", re.M)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert not wrong.search(path.read_text(encoding="utf-8")), path


def test_every_file_that_is_no_module_is_shipped() -> None:
    there = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and DEPLOY not in path.parents
    }
    assert there == data()
    for name in (
        "py.typed",
        "default/manifest.json",
        "report/templates/page.html",
        "serving/openapi.json",
        "serving/page/index.html",
        "jetson/install.sh",
    ):
        assert f"adaptive/{name}" in there


def wheel_maker() -> None:
    """Skip, with the reason, where a wheel cannot be built without the network."""
    version = metadata.version("setuptools")
    numbers = [int(number) for number in version.split(".")[:2]]
    if numbers < [64, 0]:
        pytest.skip(f"building a wheel needs setuptools 64 or newer, here is {version}")
    if numbers < [70, 1]:  # since which it brings bdist_wheel itself
        pytest.importorskip("wheel", reason="building a wheel needs the package wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheel_maker()
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy, so that no build folder is left in the checkout.
    copy = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, copy / name)
    subprocess.run(
        [*PIP, "wheel", str(copy), "-w", str(folder), "--no-deps", "--no-build-isolation"],
        check=True,
        capture_output=True,
    )
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_wheel_holds_exactly_the_folders_files(wheel: Path) -> None:
    assert wheel.name.startswith("adaptive_serving-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    own = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert own == sources() | data()
    assert {name.split("/")[0] for name in own} == {"adaptive"}


@pytest.mark.slow
def test_installed_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    subprocess.run(
        [*PIP, "install", str(wheel), "--target", str(target), "--no-deps", "--no-index"],
        check=True,
        capture_output=True,
    )
    program = (
        "import importlib, pkgutil, sys\n"
        "from pathlib import Path\n"
        # An editable install of the checkout must not answer in the wheel's place.
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "sys.path[:] = [p for p in sys.path if Path(p).resolve() != Path(sys.argv[2])]\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import adaptive\n"
        "import adaptive.features.extract, adaptive.premodel.registry, adaptive.engines.engine\n"
        "import adaptive.cli, adaptive.jetson.board, adaptive.policy.files\n"
        "own = [m for n, m in sys.modules.items() if n.split('.')[0] == 'adaptive']\n"
        "assert all(Path(sys.argv[1]) in Path(m.__file__).parents for m in own)\n"
        "for name in ('features', 'premodel', 'serving', 'jetson'):\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        "for name, module in adaptive.cli.COMMANDS.items():\n"
        "    assert importlib.util.find_spec('adaptive.cli.' + module), name\n"
        "print(len(own))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program, str(target), str(ROOT.resolve())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
    script = target / "bin" / "adaptive"
    assert "adaptive.cli" in script.read_text()
