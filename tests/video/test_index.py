"""An index of video: what is filed is found, whatever happens while it is written."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from moving_squares import (
    COUNT,
    GREEN,
    LABELS,
    RED,
    frames,
    judge,
    looker,
    settings,
    shown,
    write_clip,
)

from adaptive.errors import BundleError, InputError
from adaptive.images.video import VideoFrame
from adaptive.video.index import CENTROIDS, DATABASE, IndexSettings, VideoIndex
from adaptive.video.index_writer import IndexWriter
from adaptive.video.ingest import Ingest
from adaptive.video.query import ask
from adaptive.video.seen import SeenFrame, SeenObject

SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "squares.avi")


def fill(folder: Path, clip: Path, **more: Any) -> Any:
    with IndexWriter(folder, settings(**more)) as writer:
        return Ingest(writer, looker()).clip(shown("empty" not in clip.name), clip)


def dump(folder: Path) -> Any:
    """All that an index says, but for where its clip is."""
    base = sqlite3.connect(str(folder / DATABASE))
    rows = [
        base.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
        for table in ("clip", "picture", "centroid", "cluster", "sighting")
    ]
    base.close()
    return rows, (folder / CENTROIDS).read_bytes()


def test_what_moved_is_found_where_and_when_it_was(clip: Path, tmp_path: Path) -> None:
    made = fill(tmp_path / "index", clip)
    assert (made.frames, made.looked) == (COUNT, COUNT)
    with VideoIndex(tmp_path / "index") as index:
        red = ask(index, ["red"], judge)
        green = ask(index, ["Green"], judge)
        both = ask(index, ["red", "green"], judge)
    (one,) = red.intervals
    assert (one.first_frame, one.last_frame) == (RED[0], RED[-1])
    assert one.from_s == pytest.approx((RED[0] - 1) / 25, abs=0.001)
    assert one.to_s == pytest.approx(RED[-1] / 25, abs=0.001)
    x1, y1, x2, y2 = one.box
    assert (x1, x2) == (pytest.approx(4, abs=4), pytest.approx(124, abs=4))
    assert (y1, y2) == (pytest.approx(40, abs=4), pytest.approx(64, abs=4))
    assert [(i.first_frame, i.last_frame) for i in green.intervals] == [(GREEN[0], GREEN[-1])]
    assert len(both.intervals) == 2
    assert red.judged < len(RED)  # far fewer than objects


def test_a_strong_network_that_says_otherwise_is_believed(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    with VideoIndex(tmp_path / "index") as index:
        seen = ask(index, ["red"], lambda pictures, boxes: [[()] * len(own) for own in boxes])
    assert (seen.intervals, seen.right) == ((), 0)
    assert seen.judged > 0


def test_times_cameras_and_gaps(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with IndexWriter(folder, settings()) as writer:
        for camera, start_s in (("door", 1000.0), ("yard", 5000.0)):
            Ingest(writer, looker()).clip(shown(), clip, camera, start_s)
    with VideoIndex(folder) as index:
        every = ask(index, ["red", "green"], judge)
        yard = ask(index, ["red", "green"], judge, cameras=["yard"])
        early = ask(index, ["red", "green"], judge, to_s=1002.0)
        part = ask(index, ["red"], judge, from_s=1001.0, to_s=1001.5)
        joined = ask(index, ["red", "green"], judge, cameras=["door"], gap_s=1.0)
        with pytest.raises(InputError, match="ends at 3 s, before 5 s; swap them"):
            ask(index, ["red"], judge, from_s=5, to_s=3)
        with pytest.raises(InputError, match=r"no camera 'roof'; it has \['door', 'yard'\]"):
            ask(index, ["red"], judge, cameras=["roof"])
    assert [i.clip.camera for i in every.intervals] == ["door", "door", "yard", "yard"]
    assert [i.clip.camera for i in yard.intervals] == ["yard", "yard"]
    assert yard.intervals[0].from_s == pytest.approx(5000 + (RED[0] - 1) / 25, abs=0.001)
    assert [i.first_frame for i in early.intervals] == [RED[0]]
    assert [(i.from_s, i.to_s) for i in part.intervals] == [(1001.0, 1001.5)]
    assert [(i.first_frame, i.last_frame) for i in joined.intervals] == [(RED[0], GREEN[-1])]


def test_a_still_frame_shows_what_the_last_one_did(tmp_path: Path) -> None:
    still = [VideoFrame(n, n / 25, frames()[30]) for n in range(40, 60)]
    moving = [VideoFrame(n, n / 25, frame) for n, frame in enumerate(frames()[:39], start=1)]
    with IndexWriter(tmp_path / "index", settings(gate="difference:25:0:10")) as writer:
        path = tmp_path / "a.bin"
        path.write_bytes(b"a clip")
        made = Ingest(writer, looker()).clip(iter([*moving, *still]), path)
    assert made.looked < made.frames == 59
    with VideoIndex(tmp_path / "index") as index:
        (one,) = ask(index, ["red"], judge).intervals
    assert (one.first_frame, one.last_frame) == (RED[0], 59)


def test_an_unknown_class_is_refused_with_close_ones(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    with VideoIndex(tmp_path / "index") as index:
        with pytest.raises(InputError, match=r"know no class 'rde'; close are \['red'\]"):
            ask(index, ["rde"], judge)
        with pytest.raises(InputError, match="name a class"):
            ask(index, [], judge)


def test_a_clip_without_objects_says_so(tmp_path: Path) -> None:
    empty = write_clip(tmp_path / "empty.avi", squares=False)
    made = fill(tmp_path / "index", empty)
    assert made.objects == 0
    with VideoIndex(tmp_path / "index") as index:
        assert index.classes() == {}
        with pytest.raises(InputError, match="has no objects: nothing moved in its clips"):
            ask(index, ["red"], judge)


def test_an_empty_index_says_so(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "index", settings()):
        pass
    with VideoIndex(tmp_path / "index") as index, pytest.raises(
        InputError, match="nothing is indexed yet"
    ):
        ask(index, ["red"], judge)


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no index of video; `adaptive video index CLIP -o"):
        VideoIndex(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"something else, and long enough to look at it" * 10)
    with pytest.raises(InputError, match="cannot be read as an index"):
        VideoIndex(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(InputError, match="exists and is no index; name a new folder"):
        IndexWriter(tmp_path / "other", settings()).__enter__()


def test_a_newer_format_is_refused(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    base = sqlite3.connect(str(tmp_path / "index" / DATABASE))
    base.execute("UPDATE about SET settings = replace(settings, '\"format\": 1', '\"format\": 2')")
    base.commit()
    base.close()
    with pytest.raises(BundleError, match="has format 2; this version of adaptive reads up to 1"):
        VideoIndex(tmp_path / "index")


def test_other_settings_are_refused(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    with pytest.raises(InputError, match=r"threshold 0\.3 and not 0\.2"):
        IndexWriter(tmp_path / "index", settings(0.2)).__enter__()
    other = IndexSettings(LABELS, ("colours",), ("1" * 64,), 3, "moving", 1, 0.0, 0.3, "")
    with pytest.raises(InputError, match="other networks' files"):
        IndexWriter(tmp_path / "index", other).__enter__()


def test_another_clip_of_the_same_name_is_refused(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    other = write_clip(tmp_path / "squares.avi", squares=False)
    with pytest.raises(InputError, match=r"has another clip 'squares\.avi' of 'squares'"):
        fill(tmp_path / "index", other)


def test_a_clip_that_is_in_it_is_not_filed_again(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    before = dump(tmp_path / "index")
    assert fill(tmp_path / "index", clip).frames == 0
    assert dump(tmp_path / "index") == before


def test_a_stopped_clip_goes_on_as_if_it_had_not_stopped(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.video.ingest.OBJECTS", 3)
    fill(tmp_path / "whole", clip)

    def stops() -> Any:
        for frame in shown():
            if frame.number == 33:  # in the midst of the red square's way
                raise KeyboardInterrupt
            yield frame

    with pytest.raises(KeyboardInterrupt), IndexWriter(tmp_path / "parts", settings()) as writer:
        Ingest(writer, looker()).clip(stops(), clip)
    with VideoIndex(tmp_path / "parts") as index:
        (stopped,) = index.clips()
        (one,) = ask(index, ["red"], judge).intervals
    assert 20 <= stopped.frames < 33
    assert not stopped.done
    assert (one.first_frame, one.last_frame) == (RED[0], stopped.frames)
    fill(tmp_path / "parts", clip)
    assert dump(tmp_path / "parts") == dump(tmp_path / "whole")


def test_a_clip_of_which_only_a_part_was_wanted_goes_on_later(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "whole", clip)
    for most in (33, 70, COUNT):
        with IndexWriter(tmp_path / "parts", settings()) as writer:
            Ingest(writer, looker()).clip(shown(), clip, most=most)
            (part,) = writer.clips()
        assert (part.frames, part.done) == (most, False)  # more may come
    fill(tmp_path / "parts", clip)
    with VideoIndex(tmp_path / "whole") as whole, VideoIndex(tmp_path / "parts") as parts:
        assert [c.done for c in parts.clips()] == [True]
        for name in ("red", "green"):
            (one,), (two,) = (ask(i, [name], judge).intervals for i in (whole, parts))
            assert one[1:] == two[1:]


SLOWLY = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import adaptive.video.ingest as ingest
from adaptive.video.index_writer import IndexWriter
from moving_squares import looker, settings, shown
ingest.OBJECTS = 2
clip = Path(sys.argv[2])
def slowly():
    for frame in shown():
        time.sleep(0.02)
        yield frame
with IndexWriter(Path(sys.argv[3]), settings()) as writer:
    print("writes", flush=True)
    ingest.Ingest(writer, looker()).clip(slowly(), clip)
"""


def slowly(clip: Path, folder: Path) -> subprocess.Popen[str]:
    """Another process that fills an index, slowly."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(SUPPORT), str(clip), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writes\n"
    return process


def wait_for(folder: Path, frames: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with VideoIndex(folder) as index:
            clips = index.clips()
        if clips and clips[0].frames >= frames:
            return
        assert process.poll() is None
        time.sleep(0.005)
    raise AssertionError("nothing was filed")


TWO = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from adaptive.errors import InputError
from adaptive.video.index_writer import IndexWriter
from moving_squares import settings
print("ready", flush=True)
sys.stdin.readline()
try:
    with IndexWriter(Path(sys.argv[2]), settings()):
        print("writes", flush=True)
        sys.stdin.readline()
except InputError as error:
    print(error, flush=True)
"""


def test_of_two_that_make_an_index_at_once_one_writes(tmp_path: Path) -> None:
    """Whoever comes second by a moment finds the other's index, and is told who has it."""
    folder = tmp_path / "index"
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(SUPPORT), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    pipes = [(p.stdin, p.stdout) for p in pair if p.stdin is not None and p.stdout is not None]
    for _, out in pipes:
        assert out.readline() == "ready\n"
    for into, _ in pipes:
        into.write("\n")
        into.flush()
    said = sorted(out.readline().split()[0] for _, out in pipes)
    for process in pair:
        process.communicate("\n")
    assert said == ["another", "writes"]


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_an_index_that_is_gone_on_with(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive.video.ingest.OBJECTS", 2)
    fill(tmp_path / "whole", clip)
    folder = tmp_path / "killed"
    for reached in (22, 31, 40, 65):
        process = slowly(clip, folder)
        wait_for(folder, reached, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        with VideoIndex(folder) as index:
            (one, *_) = ask(index, ["red"], judge).intervals
            assert one.first_frame == RED[0]
            assert one.last_frame == min(RED[-1], index.clips()[0].frames)
    fill(folder, clip)
    assert dump(folder) == dump(tmp_path / "whole")


@pytest.mark.slow
def test_others_read_while_one_writes_and_a_second_writer_is_refused(
    clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    process = slowly(clip, folder)
    wait_for(folder, 25, process)
    lasts: List[int] = []
    with VideoIndex(folder) as index:
        while process.poll() is None and len(lasts) < 1000:
            (one, *_) = ask(index, ["red"], judge).intervals
            lasts.append(one.last_frame)
            if len(lasts) == 1:
                with pytest.raises(InputError, match="another process writes to"):
                    IndexWriter(folder, settings()).__enter__()
        assert process.wait() == 0
        (one, *_) = ask(index, ["red"], judge).intervals  # all of it, now that it ended
        lasts.append(one.last_frame)
    assert process.stdout is not None
    process.stdout.close()
    assert lasts == sorted(lasts)  # each query is of one moment
    assert lasts[0] < lasts[-1] == RED[-1]


def seen(number: int, row: int) -> SeenFrame:
    """A frame with one object that looks like no other."""
    features = np.zeros(64, np.float32)
    features[row % 64] = 1.0
    picture = np.random.default_rng(row).integers(0, 255, (40, 40, 3), np.uint8)
    box = np.array([0, 0, 40, 40])
    return SeenFrame(number, float(number), [SeenObject(box, [row % 2], features, picture, box)])


def test_a_limit_lets_the_oldest_go_and_disk_stays_bounded(tmp_path: Path) -> None:
    own = IndexSettings(LABELS, ("colours",), ("0" * 64,), 64, "moving", 1, 0.0, 0.0, "")
    sizes = []
    with IndexWriter(tmp_path / "index", own, limit_mb=1.0, per_class=1) as writer:
        clip = writer.begin("camera", "run", "camera", "0", "", 0.0, (96, 128))
        for first in range(1, 2001, 50):
            writer.add(clip, [seen(n, n) for n in range(first, first + 50)], first + 49, first + 49)
            sizes.append(writer.size())
    assert max(sizes) <= 1e6
    assert sizes[-1] > 0.5e6
    rows = (tmp_path / "index" / CENTROIDS).stat().st_size // 128
    with VideoIndex(tmp_path / "index") as index:
        left = index.sightings([n for n, _ in index.clusters([0, 1])])
        assert len(left) == len(index.clusters([0, 1]))
        for picture, _, _ in index.pictures([row for _, row in index.clusters([0])]):
            assert index.picture(picture).shape == (40, 40, 3)
    assert left.last_frames.max() == 2000
    assert left.first_frames.min() == 2001 - len(left)  # the newest, none missing
    assert rows < 1000  # rows are used again


def test_after_a_full_disk_the_writer_is_opened_again_and_goes_on(tmp_path: Path) -> None:
    own = IndexSettings(LABELS, ("colours",), ("0" * 64,), 64, "moving", 1, 0.0, 0.0, "")
    folder = tmp_path / "index"
    about = ("camera", "run", "camera", "0", "", 0.0, (96, 128))
    with IndexWriter(folder, own) as writer:
        clip = writer.begin(*about)
        writer.add(clip, [seen(1, 1)], 1, 1.0)
        (pages,) = writer._base.execute("PRAGMA page_count").fetchone()
        writer._base.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="no room"):
            writer.add(clip, [seen(n, n) for n in range(2, 60)], 59, 59.0)
        writer._base.execute("PRAGMA max_page_count = 100000")
        with pytest.raises(InputError, match="failed; open it again to go on"):
            writer.add(clip, [seen(60, 2)], 60, 60.0)  # would join a cluster that is not there
    with IndexWriter(folder, own) as writer:
        clip = writer.begin(*about)
        writer.add(clip, [seen(60, 2), seen(61, 1)], 61, 61.0)
    with VideoIndex(folder) as index:
        found = index.sightings([n for n, _ in index.clusters([0, 1])])
    assert found.first_frames.tolist() == [1, 60, 61]


def test_the_features_of_a_centroid_are_read_again_as_written(clip: Path, tmp_path: Path) -> None:
    fill(tmp_path / "index", clip)
    (tmp_path / "index" / CENTROIDS).write_bytes(b"")
    with pytest.raises(InputError, match=r"has 0 rows and .* are needed; it is cut off"):
        fill(tmp_path / "index", clip)


def test_a_camera_is_filed_run_by_run(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "index", settings()) as writer:
        before = time.time()
        Ingest(writer, looker()).camera(shown(), "door", "0")
        Ingest(writer, looker()).camera(islice(shown(), 50), "door", "0")
    with VideoIndex(tmp_path / "index") as index:
        first, second = index.clips()
        found = ask(index, ["red"], judge, from_s=before)
    assert (first.kind, first.camera, first.done, first.frames) == ("camera", "door", True, 90)
    assert (second.done, second.frames) == (True, 50)
    assert [i.clip.id for i in found.intervals] == [first.id, second.id]
    assert found.intervals[0].from_s >= before
