"""What happens where there is no room to write."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive.files import folder_aside, writing, written_aside

MAIN = [sys.executable, "-c", "from adaptive.cli import main; main()"]


def without_room(*arguments: object, most: int = 200) -> str:
    """What a command says that may write files of at most `most` bytes; it ends with 2."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    done = subprocess.run(
        [*MAIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_features_name_the_file_that_there_is_no_room_for(
    tiny_images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    said = without_room("features", tiny_images, "-o", output)
    assert said == f"adaptive: {output}: File too large"
    assert list(tmp_path.iterdir()) == []


def test_train_names_the_folder_that_there_is_no_room_for(
    tiny_table_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    output = tmp_path / "premodel"
    said = without_room("train", tiny_table_path, "-o", output)
    assert said == f"adaptive: {output / 'premodel.json'}: File too large"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("most", [200, 4000])
def test_profile_names_what_there_is_no_room_for(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path, most: int
) -> None:
    """Settings do not fit, then rows do not; these are kept for the next call."""
    output = tmp_path / "out.csv"
    told = ["--candidates", tiny_candidates, "--images", tiny_images]
    labels = ["--labels", tiny_images / "labels.csv"]
    said = without_room("profile", *told, *labels, "-o", output, most=most)
    assert said.startswith(f"adaptive: {output}.profiling")
    assert not output.exists()


def test_evaluate_names_the_file_that_there_is_no_room_for(
    tiny_table_path: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    told = ["evaluate", tiny_bundle, tiny_table_path, "--report", output]
    assert without_room(*told).startswith(f"adaptive: {output}: ")


def test_other_errors_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, writing(tmp_path):
        (tmp_path / "absent").read_bytes()
    assert caught.value.filename == str(tmp_path / "absent")
    with pytest.raises(OSError, match="odd") as odd, writing(tmp_path):
        raise OSError("odd")
    assert odd.value.filename is None


@pytest.mark.parametrize("kind", [written_aside, folder_aside])
def test_what_was_there_is_kept_where_there_is_no_room(kind, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind is folder_aside:
        path.mkdir()
        (path / "old").write_text("old")
    else:
        path.write_text("old")
    with pytest.raises(OSError, match="No space left") as caught, kind(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.filename, caught.value.errno) == (str(path), errno.ENOSPC)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (path / "old" if kind is folder_aside else path).read_text() == "old"


def test_an_array_that_does_not_fit_names_its_place(tmp_path: Path) -> None:
    no_room = pytest.raises(OSError, match=r"No space left|written whole")
    with open("/dev/full", "wb", buffering=0) as full, no_room as caught, writing(tmp_path):
        np.zeros(100_000).tofile(full)
    assert caught.value.filename == str(tmp_path)
