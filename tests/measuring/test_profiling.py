from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import pytest
from onnx_files import node
from PIL import Image

from adaptive import Bundle, EngineError, InputError, TableError
from adaptive.csvfile import read_csv
from adaptive.measuring import profiling
from adaptive.measuring.doubts import labels_doubt
from adaptive.measuring.profiling import Profiler
from adaptive.measuring.times import Times
from adaptive.outcomes.labelled import LabelledImages, list_images
from adaptive.outcomes.table import OutcomeTable

COLOURS = ("blue", "green", "red")


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "adaptive.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def adaptive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    from adaptive.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adaptive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def sentence(err: str) -> str:
    """The error that the command line printed, after any progress bar."""
    lines = [line for line in err.splitlines() if line.startswith("adaptive: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.fixture
def images(tiny_images: Path) -> LabelledImages:
    return list_images(tiny_images, COLOURS, tiny_images / "labels.csv", limit=25)


@pytest.fixture
def profiler(tiny_candidates: Path) -> Any:
    made = Profiler(Bundle.read(tiny_candidates))
    yield made
    made.close()


class Stopped(BaseException):
    """As KeyboardInterrupt, but ours."""


def stop_after(profiler: Profiler, count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the profiler be stopped before image `count`; lists the images that it ran."""
    ran: list[str] = []
    plain = Profiler.outcome

    def outcome(path: Path, label: int, timed: bool = True) -> Any:
        if len(ran) == count:
            raise Stopped
        ran.append(path.name)
        return plain(profiler, path, label, timed)

    monkeypatch.setattr(profiler, "outcome", outcome)
    return ran


def assert_same_outcomes(one: OutcomeTable, other: OutcomeTable) -> None:
    """All but the times are equal, whatever the order of the rows."""
    assert sorted(one.images) == sorted(other.images)
    other = other.select(np.array([other.images.index(name) for name in one.images]))
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.X, other.X)
    assert one.candidates == other.candidates
    for name in one.candidates:
        for part in ("quality", "top5", "confidence"):
            np.testing.assert_array_equal(
                getattr(one.of(name), part), getattr(other.of(name), part)
            )
        np.testing.assert_array_equal(one.probabilities_of(name), other.probabilities_of(name))


def test_the_table_says_what_the_networks_say(
    tiny_table: OutcomeTable, tiny_images: Path, tiny_candidates: Path
) -> None:
    """Against the networks' weights applied by hand, for every image."""
    exact = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float64)
    biased = exact * 0.05 + np.array([[0.02, 0, 0], [0.02, 0, 0], [0, 0, 0]])
    near = 0
    for row, name in enumerate(tiny_table.images):
        image = Image.open(tiny_images / name).resize((8, 8), Image.Resampling.BOX)
        logits = np.asarray(image, np.float64).mean(axis=(0, 1)) @ biased
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        label = int(tiny_table.label[row])
        near += abs(tiny_table.of("cheap").confidence[row] - chances.max()) < 0.02
        second = np.sort(chances)[-2]
        if chances.max() - second > 0.05:
            assert tiny_table.of("cheap").quality[row] == (chances.argmax() == label)
    assert near == len(tiny_table)
    np.testing.assert_array_equal(
        tiny_table.of("cheap").quality, tiny_table.of("net@1").quality
    )  # the same weights
    assert tiny_table.of("net@2").after == "net@1"
    for candidate in tiny_table.candidates:
        values = tiny_table.probabilities_of(candidate)
        right = values.argmax(axis=1) == tiny_table.label
        assert np.mean(right == tiny_table.of(candidate).quality) > 0.97  # near-ties in 16 bits
        np.testing.assert_allclose(
            values.max(axis=1), tiny_table.of(candidate).confidence, atol=1e-3
        )
        assert (tiny_table.of(candidate).ms > 0).all()


def test_the_table_says_what_was_measured_with_what(
    tiny_table: OutcomeTable, tiny_candidates: Path
) -> None:
    bundle = Bundle.read(tiny_candidates)
    assert [(c["name"], c["sha256"], c["after"]) for c in tiny_table.meta["candidates"]] == [
        (c.name, c.sha256, c.after) for c in bundle.candidates
    ]
    assert tiny_table.meta["rows"] == len(tiny_table)
    assert set(tiny_table.feature_ms) == set(tiny_table.features)
    assert tiny_table.meta["board"]["threads"] == 1


def test_nothing_is_left_behind(profiler: Profiler, images: LabelledImages, tmp_path: Path) -> None:
    assert profiler.profile(images, tmp_path / "x.csv") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.csv", "x.json", "x.probs"]
    assert sorted(p.name for p in (tmp_path / "x.probs").iterdir()) == [
        "cheap.npy", "net@1.npy", "net@2.npy", "strong.npy"
    ]  # fmt: skip
    assert OutcomeTable.read(tmp_path / "x.csv").images == images.names


def test_without_probabilities(profiler: Profiler, images: LabelledImages, tmp_path: Path) -> None:
    profiler.profile(images, tmp_path / "x.csv", keep_probabilities=True)
    profiler.profile(images, tmp_path / "x.csv", keep_probabilities=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.csv", "x.json"]
    assert OutcomeTable.read(tmp_path / "x.csv").probabilities == {}


@pytest.mark.parametrize("count", [0, 1, 7, 24])
def test_a_stopped_run_goes_on(
    count: int,
    profiler: Profiler,
    images: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiler.profile(images, tmp_path / "whole.csv")
    with monkeypatch.context() as patch:
        first = stop_after(profiler, count, patch)
        with pytest.raises(Stopped):
            profiler.profile(images, tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()
    with monkeypatch.context() as patch:
        second = stop_after(profiler, 10**9, patch)
        assert profiler.profile(images, tmp_path / "x.csv") == []
    assert len(first) == count
    assert tuple(first + second) == images.names
    assert_same_outcomes(
        OutcomeTable.read(tmp_path / "whole.csv"), OutcomeTable.read(tmp_path / "x.csv")
    )


def test_a_line_that_was_cut_off_is_done_again(
    profiler: Profiler, images: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiler.profile(images, tmp_path / "whole.csv")
    with monkeypatch.context() as patch:
        stop_after(profiler, 9, patch)
        with pytest.raises(Stopped):
            profiler.profile(images, tmp_path / "x.csv")
    partial = tmp_path / "x.csv.profiling"
    rows = partial / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])
    with open(partial / "strong.f16", "ab") as file:
        file.write(b"\1\2\3")  # and the next image's probabilities were begun
    with monkeypatch.context() as patch:
        again = stop_after(profiler, 10**9, patch)
        profiler.profile(images, tmp_path / "x.csv")
    assert tuple(again) == images.names[8:]
    assert_same_outcomes(
        OutcomeTable.read(tmp_path / "whole.csv"), OutcomeTable.read(tmp_path / "x.csv")
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", b"\0\0\0\0\n"),
        ("rows.jsonl", b"[]\n"),
        ("rows.jsonl", b'{"label": 1}\n'),
        ("rows.jsonl", b"\xff\n"),
        ("settings.json", b""),
        ("settings.json", b"[]"),
        ("cheap.f16", b""),
        ("cheap.f16", b"12345"),
    ],
)
def test_a_damaged_stopped_run_is_refused(
    name: str,
    content: bytes,
    profiler: Profiler,
    images: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(profiler, 5, patch)
        with pytest.raises(Stopped):
            profiler.profile(images, tmp_path / "x.csv")
    (tmp_path / "x.csv.profiling" / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        profiler.profile(images, tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_other_settings_than_the_stopped_run_are_refused(
    profiler: Profiler,
    images: LabelledImages,
    tiny_images: Path,
    tiny_candidates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "x.csv"
    with monkeypatch.context() as patch:
        stop_after(profiler, 5, patch)
        with pytest.raises(Stopped):
            profiler.profile(images, output)
    bundle = Bundle.read(tiny_candidates)
    copied = tmp_path / "copied"
    shutil.copytree(tiny_images, copied)
    edited = tmp_path / "edited"
    shutil.copytree(tiny_candidates, edited)
    manifest = json.loads((edited / "manifest.json").read_text())
    manifest["candidates"][0]["input"]["resize"] = "cover"
    (edited / "manifest.json").write_text(json.dumps(manifest))

    def attempt(made: Profiler, these: LabelledImages, keep: bool = True) -> str:
        with pytest.raises(InputError, match="holds a stopped run with other ") as caught:
            made.profile(these, output, keep)
        made.close()
        return str(caught.value).split("with other ")[1].split(";")[0]

    swapped = LabelledImages(images.root, images.names[1:] + images.names[:1], images.labels)
    relabelled = LabelledImages(images.root, images.names, images.labels[1:] + images.labels[:1])
    elsewhere = LabelledImages(copied, images.names, images.labels)
    fewer = LabelledImages(images.root, images.names[:-1], images.labels[:-1])
    assert attempt(Profiler(bundle, threads=2), images) == "threads"
    assert attempt(Profiler(bundle, features="paper7"), images) == "features"
    assert attempt(Profiler(bundle), images, keep=False) == "probabilities"
    assert attempt(Profiler(bundle), swapped) == "images"
    assert attempt(Profiler(bundle), relabelled) == "images"
    assert attempt(Profiler(bundle), fewer) == "images"
    assert attempt(Profiler(bundle), elsewhere) == "folder"
    assert attempt(Profiler(Bundle.read(edited)), images) == "candidates"
    profiler.profile(images, output)
    assert OutcomeTable.read(output).images == images.names


@pytest.fixture
def odd_images(tiny_images: Path, tmp_path: Path) -> Path:
    """Eight images in a folder a class, three of which cannot be read."""
    root = tmp_path / "odd"
    for row in range(8):
        folder = root / COLOURS[row % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny_images / f"{row:03}.png", folder / f"{row}.png")
    (root / "red" / "5.png").write_bytes(b"")
    (root / "green" / "1.png").write_bytes((root / "green" / "1.png").read_bytes()[:-300])
    (root / "blue" / "a.jpg").write_text("no image")
    return root


def test_unreadable_images_are_listed_and_left_out(
    odd_images: Path, tiny_candidates: Path, tmp_path: Path, adaptive: Any
) -> None:
    output = tmp_path / "x.csv"
    arguments = ("profile", "--candidates", tiny_candidates, "--images", odd_images, "-o", output)
    code, out, err = adaptive(*arguments)
    assert code == 1
    assert "x.csv: 6 images, 4 candidates" in out
    told = [line.split() for line in out.splitlines() if line.startswith("  ")]
    read = OutcomeTable.read(output)
    assert [line[0] for line in told] == ["candidate", *read.candidates]
    for line in told[1:]:
        assert line[1] == f"{100 * read.quality(line[0]).mean():.1f}%"
        assert float(line[2]) <= float(line[1][:-1]) <= float(line[4])
    left = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert [line.split(": ")[1] for line in left] == ["blue/a.jpg", "green/1.png", "red/5.png"]
    assert "damaged or cut off" in left[1]
    read = OutcomeTable.read(output)
    assert read.images == (
        "blue/0.png", "blue/3.png", "blue/6.png", "green/4.png", "green/7.png", "red/2.png"
    )  # fmt: skip
    np.testing.assert_array_equal(read.label, [0, 0, 0, 1, 1, 2])
    assert read.probabilities_of("cheap").shape == (6, 3)


def test_unreadable_images_are_still_listed_after_a_stop(
    odd_images: Path, profiler: Profiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = list_images(odd_images, COLOURS)
    with monkeypatch.context() as patch:
        stop_after(profiler, 5, patch)
        with pytest.raises(Stopped):
            profiler.profile(images, tmp_path / "x.csv")
    found = profiler.profile(images, tmp_path / "x.csv")
    assert sorted(line.split(":")[0] for line in found) == [
        "blue/a.jpg",
        "green/1.png",
        "red/5.png",
    ]
    assert len(OutcomeTable.read(tmp_path / "x.csv")) == 6


def test_no_readable_image_at_all(profiler: Profiler, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("no image")
    images = LabelledImages(tmp_path / "images", ("a.png", "gone.png"), (0, 1))
    with pytest.raises(InputError, match="none of the images can be read"):
        profiler.profile(images, tmp_path / "x.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_a_network_that_cannot_run_leaves_nothing_behind(
    tiny_candidates: Path, images: LabelledImages, tmp_path: Path
) -> None:
    from onnx_files import model, value

    from adaptive.bundle.bundle import write_candidates
    from adaptive.candidate import Candidate, InputSpec, OutputSpec
    from adaptive.files import sha256

    folder = tmp_path / "candidates"
    folder.mkdir()
    model(
        folder / "odd.onnx",
        [node("Cast", ["images"], ["answer"], b"\n\x02to\x18\x01\xa0\x01\x02")],
        [value("images", "uint8", ["n", 8, 8, 3])],
        [value("answer", "float32", ["n", "m"])],
    )
    spec = InputSpec(8, "uint8", "NHWC", "stretch")
    digest = sha256(folder / "odd.onnx")
    write_candidates(
        folder, [Candidate("odd", "odd.onnx", digest, spec, OutputSpec(3))], COLOURS, "odd"
    )
    out = tmp_path / "out"
    out.mkdir()
    profiler = Profiler(Bundle.read(folder))
    with pytest.raises(EngineError, match="answered with 192 numbers an image; its manifest entry"):
        profiler.profile(images, out / "x.csv")
    assert list(out.iterdir()) == []


def test_killed_in_the_middle_it_goes_on(
    tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    """A real process, killed by SIGKILL as soon as some rows are there, then called again."""
    output = tmp_path / "x.csv"
    listed = tmp_path / "labels.csv"
    # Six times the same images under other names, so that it is never done too soon.
    pairs = list(zip(tiny_table.images, tiny_table.label.tolist()))
    names = [f"{copy}/{name},{label}" for copy in range(6) for name, label in pairs]
    listed.write_text("\n".join(["image,label", *names]) + "\n")
    folder = tmp_path / "images"
    folder.mkdir()
    for copy in range(6):
        (folder / str(copy)).symlink_to(tiny_images)
    arguments = ("profile", "--candidates", tiny_candidates, "--images", folder)
    arguments += ("--labels", listed, "-o", output)
    process = started(*arguments)
    rows = tmp_path / "x.csv.profiling" / "rows.jsonl"
    patience = time.monotonic() + 60
    while not rows.exists() or rows.read_bytes().count(b"\n") < 20:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < patience
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = rows.read_bytes().count(b"\n")
    assert 20 <= done < 540
    assert not output.exists()

    process = started(*arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "images",
        "labels.csv",
        "x.csv",
        "x.json",
        "x.probs",
    ]
    read = OutcomeTable.read(output)
    assert read.images == tuple(line.split(",")[0] for line in names)
    for copy in range(6):
        part = read.select(np.arange(90 * copy, 90 * (copy + 1)))
        for name in part.candidates:
            for column in ("quality", "top5", "confidence"):
                np.testing.assert_array_equal(
                    getattr(part.of(name), column), getattr(tiny_table.of(name), column)
                )
            np.testing.assert_array_equal(
                part.probabilities_of(name), tiny_table.probabilities_of(name)
            )


# The command line


def test_an_existing_output_stays_without_force(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path, adaptive: Any
) -> None:
    output = tmp_path / "x.csv"
    arguments = ("profile", "--candidates", tiny_candidates, "--images", tiny_images, "--limit", 3)
    arguments += ("--labels", tiny_images / "labels.csv", "-o", output)
    output.write_text("mine")
    code, _, err = adaptive(*arguments)
    assert code == 2
    assert sentence(err) == f"adaptive: {output} exists; give --force to replace it"
    assert output.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]
    assert adaptive(*arguments, "--force")[0] == 0
    assert len(OutcomeTable.read(output)) == 3


BAD: Sequence[tuple[dict[str, str], str]] = [
    ({"--candidates": "gone"}, "gone is no folder; a bundle is a folder with a manifest.json"),
    ({"--candidates": "images"}, "manifest 'manifest.json' is not in"),
    ({"--images": "gone"}, "gone is no folder of images"),
    ({"--images": "candidates"}, "has no sub-folders"),
    ({"--images": "cows"}, "folder 'cow' is none of the 3 classes, 'blue', 'green', 'red'"),
    ({"--labels": "gone.csv"}, "gone.csv is missing; a CSV file is needed"),
    ({"--labels": "cow.csv"}, "column 'label' holds 'cow'; a class name or an index"),
    ({"--features": "everything"}, "feature 'everything' is unknown; there are the sets"),
    ({"-o": "x.json"}, "x.json must be called NAME.csv; NAME.json and NAME.probs go beside it"),
    ({"-o": "no/x.csv"}, "that x.csv goes into does not exist"),
    ({"-o": "folder.csv", "--force": ""}, "folder.csv is a folder; name a file to write"),
]


@pytest.mark.parametrize(("wrong", "says"), BAD)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    wrong: dict[str, str],
    says: str,
    tiny_candidates: Path,
    odd_images: Path,
    tmp_path: Path,
    adaptive: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("candidates").symlink_to(tiny_candidates)
    odd_images.rename("images")
    Path("cows", "cow").mkdir(parents=True)
    Path("cow.csv").write_text("image,label\nblue/0.png,cow\n")
    Path("folder.csv").mkdir()
    before = sorted(p.name for p in tmp_path.rglob("*"))
    options = {"--candidates": "candidates", "--images": "images", "-o": "x.csv", **wrong}
    code, out, err = adaptive("profile", *[a for pair in options.items() for a in pair if a])
    assert code == 2
    assert says in sentence(err)
    assert out == ""
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_real_process_ends_with_code_2_and_a_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        f"{sys.executable} -m adaptive.cli profile --candidates gone --images . -o x.csv".split(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "adaptive: gone is no folder; a bundle is a folder with a manifest.json\n"
    )
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_bundle_command(
    tiny_candidates: Path, tiny_table_path: Path, tmp_path: Path, adaptive: Any
) -> None:
    output = tmp_path / "bundle"
    arguments = ("bundle", "--candidates", tiny_candidates, "--table", tiny_table_path)
    code, out, _ = adaptive(*arguments, "-o", output)
    assert code == 0
    assert "fixed policy over strong" in out
    assert "left out: cheap, net@1, net@2: the policy never asks them and they are not" in out
    read = Bundle.read(output)
    assert read.names == ("strong",)
    table = OutcomeTable.read(tiny_table_path)
    assert read.candidate("strong").ms == pytest.approx(table.of("strong").ms.mean(), rel=1e-3)
    assert read.board == table.meta["board"]
    code, _, err = adaptive(*arguments, "-o", output)
    assert code == 2
    assert "exists; give --force" in sentence(err)
    policy = tmp_path / "policy.json"
    policy.write_text('{"format": 1, "kind": "fixed", "candidates": ["net@2"]}')
    assert adaptive(*arguments, "-o", output, "--policy", policy, "--force")[0] == 0
    assert Bundle.read(output).names == ("strong", "net@1", "net@2")
    policy.write_text('{"format": 1, "kind": "fixed", "candidates": ["vgg"]}')
    code, _, err = adaptive(*arguments, "-o", tmp_path / "other", "--policy", policy)
    assert code == 2
    assert "candidate 'vgg' is not in" in sentence(err)
    code, _, err = adaptive(*arguments, "-o", tmp_path / "other", "--certificate", policy)
    assert code == 2
    assert "--certificate speaks of a policy; give that with --policy, as a file" in sentence(err)
    code, _, err = adaptive(*arguments, "-o", tmp_path, "--force")
    assert code == 2
    assert "is no bundle; --force replaces only a bundle" in sentence(err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "policy.json"]


def test_damaged_stopped_run_names_the_folder(
    profiler: Profiler, images: LabelledImages, tmp_path: Path
) -> None:
    folder = tmp_path / "x.csv.profiling"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("not json\n")
    with pytest.raises(TableError, match=r"rows.jsonl is damaged; remove .*x.csv.profiling to"):
        profiler.profile(images, tmp_path / "x.csv")


# Labels, names and answers that are not what they seem


def in_folders(folder: Path, tiny_images: Path, labels: Sequence[int]) -> Path:
    """The tiny images, a folder a class, by these labels."""
    for row, label in enumerate(labels):
        place = folder / COLOURS[label]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny_images / f"{row:03}.png", place / f"{row:03}.png")
    return folder


@pytest.mark.parametrize("turn", [0, 1])
def test_labels_in_another_order_are_noticed(
    turn: int,
    tiny_images: Path,
    tiny_table: OutcomeTable,
    tiny_candidates: Path,
    tmp_path: Path,
    adaptive: Any,
) -> None:
    labels = [(int(label) + turn) % 3 for label in tiny_table.label[:40]]
    root = in_folders(tmp_path / "images", tiny_images, labels)
    output = tmp_path / "x.csv"
    code, _, err = adaptive(
        "profile", "--candidates", tiny_candidates, "--images", root, "-o", output
    )
    assert OutcomeTable.read(output).label.tolist() == sorted(labels)
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    if turn == 0:
        assert (code, warnings) == (0, [])
        return
    assert code == 1
    (warning,) = warnings
    assert warning.endswith(
        "for every candidate, and guessing among 3 classes gives 33%; the labels seem to be of "
        "another data set or in another order"
    )


def test_few_images_and_untrained_networks_may_be_wrong(tiny_table: OutcomeTable) -> None:
    wrong = np.zeros(len(tiny_table), bool)
    outcomes = {n: replace(o, quality=wrong) for n, o in tiny_table.outcomes.items()}
    guessing = replace(tiny_table, outcomes=outcomes)
    assert "top-1 is 0.0% for every candidate" in str(labels_doubt(guessing, 3))
    assert labels_doubt(guessing, 3, tiny_table.candidates) is None
    assert labels_doubt(guessing.select(np.arange(9)), 3) is None
    assert labels_doubt(guessing.select(np.arange(18)), 3) is not None
    right = replace(outcomes["cheap"], quality=~wrong)
    mixed = replace(guessing, outcomes={**outcomes, "cheap": right})
    assert labels_doubt(mixed, 3) is None
    assert labels_doubt(mixed, 3, ["cheap"]) is not None


ODD_NAMES = ("a\rb.png", "c\nd.png", 'e,"f".png', "g\u2028h.png", "i\r\nj.png", "k;l.png")


def test_odd_file_names_come_back_from_a_table(
    tiny_images: Path, tiny_candidates: Path, tmp_path: Path, adaptive: Any
) -> None:
    root = tmp_path / "images"
    (root / "red").mkdir(parents=True)
    for name in ODD_NAMES:
        shutil.copyfile(tiny_images / "000.png", root / "red" / name)
    candidates = tmp_path / "candidates"
    shutil.copytree(tiny_candidates, candidates)
    common = ("--images", root, "--candidates", candidates)
    table, times, features = (tmp_path / f"{name}.csv" for name in ("x", "times", "features"))
    assert adaptive("profile", *common, "-o", table)[0] == 0
    expected = tuple(sorted(f"red/{name}" for name in ODD_NAMES))
    assert OutcomeTable.read(table).images == expected
    assert adaptive("profile", "--latency-only", *common, "-o", times)[0] == 0
    assert Times.read(times).table.images == expected
    assert adaptive("features", root, "-o", features)[0] == 0
    assert read_csv(features).text("image") == [str(root / name) for name in expected]
    # And Python's own reader finds the same, on every Python.
    with open(table, newline="", encoding="utf-8") as file:
        assert tuple(row[0] for row in csv.reader(file))[1:] == expected


def test_what_is_left_out_beside_the_images_is_said(
    tiny_images: Path,
    tiny_table: OutcomeTable,
    tiny_candidates: Path,
    tmp_path: Path,
    adaptive: Any,
) -> None:
    root = in_folders(tmp_path / "images", tiny_images, tiny_table.label[:12].tolist())
    (root / "red" / "scan.tif").touch()
    (root / "red" / "more").mkdir()
    shutil.copyfile(tiny_images / "020.png", root / "red" / "more" / "020.png")
    output = tmp_path / "x.csv"
    code, out, err = adaptive(
        "profile", "--candidates", tiny_candidates, "--images", root, "-o", output
    )
    assert code == 1
    assert "x.csv: 13 images" in out
    left = [line for line in err.splitlines() if line.startswith("left out: ")]
    assert len(left) == 1
    assert left[0].startswith("left out: 1 file in the class folders (1 .tif), such as 'red/scan.")


def test_the_first_image_costs_no_more_than_the_others(
    profiler: Profiler, images: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is only loaded by a first image was loaded by the warm-up: one of each kind."""
    order: list[str] = []
    plain = profiling.decode_image

    def opened(image: Any, *more: Any) -> Any:
        order.append("grey" if isinstance(image, bytes) else image.name)
        return plain(image, *more)

    monkeypatch.setattr(profiling, "decode_image", opened)
    mixed = tmp_path / "images"
    mixed.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copyfile(images.root / images.names[0], mixed / name)
    Image.open(mixed / "a.png").save(mixed / "c.webp")
    (mixed / "d.jpg").write_text("no image")
    listed = LabelledImages(mixed, ("a.png", "b.png", "c.webp", "d.jpg"), (0, 0, 0, 0))
    left_out = profiler.profile(listed, tmp_path / "x.csv")
    assert order == ["a.png", "c.webp", "d.jpg", "grey", "a.png", "b.png", "c.webp", "d.jpg"]
    assert [line.split(":")[0] for line in left_out] == ["d.jpg"]
