"""Any cv2 of 4.5 or newer will do, and where there is none the cure is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

#: Opens the embedded default as a program does that catches only this library's errors.
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
import adaptive
try:
    with adaptive.Router.load() as router:
        print("answered by OpenCV", sys.modules["cv2"].__version__)
except adaptive.AdaptiveError as error:
    print(type(error).__name__, error)
"""


def run(program: str, *folders: Path) -> str:
    command = [sys.executable, "-c", program, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cv2_of(folder: Path, text: str) -> Path:
    (folder / "cv2.py").write_text(text)
    return folder


def test_without_any_the_cure_is_said() -> None:
    said = run("import sys; sys.modules['cv2'] = None\n" + PROGRAM)
    assert said.startswith("MissingOpenCV images need OpenCV (cv2 4.5 or newer), and there is none")
    assert "pip install opencv-python-headless" in said
    assert "--system-site-packages" in said
    assert len(said.splitlines()) == 1


def test_one_that_is_too_old_is_refused(tmp_path: Path) -> None:
    said = run(PROGRAM, cv2_of(tmp_path, "__version__ = '4.1.1'"))
    assert said.startswith("MissingOpenCV OpenCV 4.1.1 is too old, 4.5 is the oldest")


def test_one_for_another_numpy_says_which(tmp_path: Path) -> None:
    broken = "raise ImportError('numpy.core.multiarray failed to import')"
    said = run(PROGRAM, cv2_of(tmp_path, broken))
    assert "cannot be loaded: numpy.core.multiarray failed to import;" in said
    assert "'numpy<2'" in said


def test_a_build_that_is_no_wheel_will_do(tmp_path: Path) -> None:
    """What stands in for a board's own: the real one under another version, from its own place."""
    own = "import sys\ndel sys.modules['cv2']\nsys.path.remove({0!r})\nimport cv2\n"
    own += "cv2.__version__ = '4.5.4'\nsys.modules['cv2'] = cv2\n"
    said = run(PROGRAM, cv2_of(tmp_path, own.format(str(tmp_path))))
    assert said == "answered by OpenCV 4.5.4\n"


def test_a_command_says_it_in_one_line(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['cv2'] = None\n"
        "sys.argv = ['adaptive', 'classify', 'photo.jpg']\n"
        "from adaptive.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("adaptive: images need OpenCV")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["adaptive", "adaptive.cli", "adaptive.images.video"])
def test_importing_needs_none(name: str) -> None:
    run(f"import sys; sys.modules['cv2'] = None; import {name}")
