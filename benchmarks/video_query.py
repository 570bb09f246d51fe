"""What a query by an index of video finds, beside the strong network on every frame.

    python benchmarks/video_query.py CLIP... --bundle DETECTORS --work WORK [--strong NAME]
        [--cheap NAME]... [--class NAME]... [--level 0.99]
    python benchmarks/video_query.py --day WORK/CLIP.npz

Every network looks at every frame once; WORK keeps what it said, so that a second call goes on.
For each clip the index is tuned on the others (`adaptive.video.index_tuning`) and reported on it.
Times are medians of single frames, one network after the other in turn; a query's are that of the
strong network times the pictures that it judges.

With --day a made-up day of one camera is indexed, by repeating what a clip's networks said with
shifted times, and asked about after an hour, and after twice as long each time.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
from machine import machine, machine_line

from adaptive.bundle.bundle import Bundle
from adaptive.images.video import VideoReader
from adaptive.policy.fixed import Fixed
from adaptive.routing.crops import detecting
from adaptive.routing.router import Router
from adaptive.tasks.detections import pack, unpack
from adaptive.video.gate import FrameGate
from adaptive.video.index import BOXES, CAMERA, IndexSettings, VideoIndex
from adaptive.video.index_tuning import (
    EVERYS,
    IndexChoice,
    ObservedClip,
    ObservedFrame,
    QueryCounts,
    choices,
    ingest_ms,
    observed,
    pooled,
    queried,
    tuned,
)
from adaptive.video.index_writer import IndexWriter
from adaptive.video.lookers import BoxLooker, united
from adaptive.video.query import ask, kinds_of
from adaptive.video.seen import SeenFrame, SeenObject


def save(clip: ObservedClip, path: Path) -> None:
    """Write what every network said of a clip."""
    arrays: Dict[str, Any] = {
        "passes": [frame.passes for frame in clip.frames],
        "candidates": list(clip.candidates),
        "ms": [*clip.cheap_ms, clip.strong_ms],
    }
    arrays["strong"], arrays["strong_at"] = pack([frame.strong for frame in clip.frames])
    for place, name in enumerate(clip.candidates):
        own = [frame.cheap[place] for frame in clip.frames]
        arrays[name], arrays[f"{name}_at"] = pack([boxes for boxes, _ in own])
        arrays[f"{name}_features"] = np.concatenate([rows for _, rows in own])
    np.savez(path, **arrays)


def load(path: Path) -> ObservedClip:
    """Read it again."""
    with np.load(path, allow_pickle=False) as arrays:
        names = tuple(arrays["candidates"].tolist())
        strong = unpack(arrays["strong"], arrays["strong_at"])
        cheap = []
        for name in names:
            at = arrays[f"{name}_at"]
            rows = np.split(arrays[f"{name}_features"], at[1:-1])
            cheap.append(list(zip(unpack(arrays[name], at), rows)))
        frames = [
            ObservedFrame(bool(passes), own, answer)
            for passes, *own, answer in zip(arrays["passes"], *cheap, strong)
        ]
        frames = [frame._replace(cheap=tuple(frame.cheap)) for frame in frames]
        ms = arrays["ms"].tolist()
        return ObservedClip(path.stem, names, frames, tuple(ms[:-1]), ms[-1])


def look(
    paths: Sequence[Path], bundle: Path, cheap: Sequence[str], strong: str, work: Path
) -> None:
    """Have every network look at what WORK has not yet."""
    missing = [path for path in paths if not (work / f"{path.stem}.npz").exists()]
    if not missing:
        return
    routers = [Router.load(bundle, policy=Fixed((name,))) for name in (*cheap, strong)]
    asked = [detecting(router, [name]) for router, name in zip(routers, cheap)]
    gate = FrameGate.parse(IndexSettings.gate)
    for path in missing:
        with VideoReader(path, live=False) as reader:
            clip = observed(path.stem, reader, cheap, asked, routers[-1].detect, gate)
        save(clip, work / f"{path.stem}.npz")
        print(f"{path.name}: {len(clip.frames)} frames", flush=True)


def timed(path: Path, bundle: Path, names: Sequence[str], frames: int) -> List[float]:
    """Median time of each network on a clip's frames, in turn."""
    asked = [detecting(Router.load(bundle, policy=Fixed((name,))), [name]) for name in names]
    spent: List[List[float]] = [[] for _ in names]
    with VideoReader(path, live=False) as reader:
        for place, frame in enumerate(islice(reader, frames + 3)):
            for own, ask_one in zip(spent, asked):
                began = time.perf_counter()
                ask_one(frame.image)
                if place >= 3:
                    own.append((time.perf_counter() - began) * 1e3)
    return [statistics.median(own) for own in spent]


class Remembered:
    """Queries for all classes at once, each made once."""

    def __init__(self, kinds: Sequence[int]) -> None:
        self.kinds = kinds
        self.found: Dict[Any, Dict[int, QueryCounts]] = {}

    def __call__(
        self, clip: ObservedClip, choice: IndexChoice, _: Sequence[int]
    ) -> Dict[int, QueryCounts]:
        key = clip.name, choice
        if key not in self.found:
            self.found[key] = queried(clip, choice, self.kinds)
        return self.found[key]


def told(choice: IndexChoice, names: Sequence[str]) -> str:
    own = " + ".join(names[place] for place in choice.candidates)
    return (
        f"{own}, k {choice.k}, least {choice.least:g}, threshold {choice.threshold:g}, "
        f"every {choice.every}"
    )


def report(
    clips: Sequence[ObservedClip],
    wanted: Sequence[str],
    labels: Sequence[str],
    level: float,
    query: Remembered,
    every: Sequence[IndexChoice],
) -> None:
    kinds = {name: kinds_of([name], labels)[0] for name in wanted}
    print("| clip | class | frames with it | made by | precision | recall | ingest x | query x |")
    print("|---|---|---|---|---|---|---|---|")
    for clip in clips:
        others = [other for other in clips if other is not clip]
        passed = sum(frame.passes for frame in clip.frames)
        for name, kind in kinds.items():
            true = int(clip.truth(kind).sum())
            if not true or not any(other.truth(kind).any() for other in others):
                print(
                    f"| {clip.name} | {name} | {true} of {len(clip.frames)} | not judged: not "
                    "in this clip, or in no other | | | | |"
                )
                continue
            choice = tuned(others, [kind], level, every, query=query)
            if choice is None:
                print(
                    f"| {clip.name} | {name} | {true} of {len(clip.frames)} | nothing reaches "
                    f"{100 * level:g}% on the others | | | | |",
                    flush=True,
                )
                continue
            found = query(clip, choice, [kind])[kind]
            dense = clip.strong_ms * passed
            less = dense / (clip.strong_ms * found.pictures) if found.pictures else float("inf")
            print(
                f"| {clip.name} | {name} | {true} of {len(clip.frames)} | "
                f"{told(choice, clip.candidates)} | {100 * found.precision:.1f} | "
                f"{100 * found.recall:.1f} | {dense / ingest_ms(clip, choice):.1f} | {less:.1f} |",
                flush=True,
            )


def unions(
    clips: Sequence[ObservedClip],
    kind: int,
    name: str,
    level: float,
    query: Remembered,
    every: Sequence[IndexChoice],
) -> None:
    """Table 5.10's question: one candidate, or several united, at equal recall on all clips."""
    print(
        f"\n{name}: the cheapest way on all clips together whose precision and recall are "
        f"{100 * level:g}%"
    )
    for own in sorted({choice.candidates for choice in every}, key=len):
        mine = [one for one in every if one.candidates == own]
        choice = tuned(clips, [kind], level, mine, query=query)
        names = " + ".join(clips[0].candidates[place] for place in own)
        if choice is None:
            print(f"  {names}: none")
            continue
        found = [query(clip, choice, [kind])[kind] for clip in clips]
        precision, recall, _ = pooled(found)
        ms = sum(ingest_ms(clip, choice) for clip in clips)
        print(
            f"  {told(choice, clips[0].candidates)}: precision {100 * precision:.1f}, recall "
            f"{100 * recall:.1f}, ingest {ms / 1e3:.1f} s, pictures judged "
            f"{sum(one.pictures for one in found)} of {sum(one.frames for one in found)} frames",
            flush=True,
        )


def day(path: Path, labels: Sequence[str], name: str, choice: IndexChoice) -> None:
    """Index a made-up day, and ask about it."""
    clip = load(path)
    settings = IndexSettings(
        tuple(labels),
        tuple(clip.candidates[place] for place in choice.candidates),
        ("0" * 64,) * len(choice.candidates),
        BoxLooker.width,
        BOXES,
        choice.k,
        choice.least,
        choice.threshold,
        "",
    )
    grey = np.zeros((90, 160, 3), np.uint8)
    rate = 1.0  # frames a second that the gate lets through
    seen: List[SeenFrame] = []
    for number, frame in enumerate(clip.frames, start=1):
        own = [frame.cheap[place] for place in choice.candidates]
        kept = [boxes.scores >= choice.least for boxes, _ in own]
        boxes = [one.only(keep) for (one, _), keep in zip(own, kept)]
        features = np.concatenate([rows[keep] for (_, rows), keep in zip(own, kept)])
        places, classes = united(boxes, choice.k)
        corners = np.rint(np.concatenate([one.boxes for one in boxes])).astype(np.int64)
        seen.append(
            SeenFrame(
                number,
                number / rate,
                [
                    SeenObject(corners[place], of, features[place], grey, corners[place] // 4)
                    for place, of in zip(places.tolist(), classes)
                ],
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        index, hours, done_s = Path(folder) / "day", 1, 0.0
        with IndexWriter(index, settings) as writer:
            own_clip = writer.begin("camera", "a day", CAMERA, "", "", 1.0, (352, 640))
            number = 0
            while hours <= 24:
                began = time.perf_counter()
                while done_s < 3600 * hours:
                    shifted = [
                        frame._replace(number=frame.number + number, time_s=frame.time_s + done_s)
                        for frame in seen
                    ]
                    last = shifted[-1]
                    writer.add(own_clip, shifted, last.number, last.time_s)
                    number, done_s = last.number, last.time_s
                spent = time.perf_counter() - began
                size = writer.size()
                with VideoIndex(index) as opened:
                    times = []
                    for _ in range(5):
                        began = time.process_time()
                        answer = ask(
                            opened,
                            [name],
                            lambda pictures, boxes: [[{name}] * len(own) for own in boxes],
                        )
                        times.append(time.process_time() - began)
                print(
                    f"{hours:3} h: {number} frames, {size / 1e6:.1f} MB, filed in {spent:.1f} s; "
                    f"asked in {1e3 * statistics.median(times):.0f} ms of the processor: "
                    f"{len(answer.intervals)} intervals, {answer.judged} centroids, "
                    f"{answer.pictures} pictures",
                    flush=True,
                )
                hours = hours * 2 if hours < 16 else hours + 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--strong", default="yolox_nano_416")
    parser.add_argument("--cheap", action="append")
    parser.add_argument("--class", dest="classes", action="append")
    parser.add_argument("--level", type=float, default=0.99)
    parser.add_argument("--threshold", dest="thresholds", action="append", type=float)
    parser.add_argument("--every", dest="everys", action="append", type=int)
    parser.add_argument("--ms", help="of each network, the strong one last; timed when left out")
    parser.add_argument("--day", type=Path, metavar="CLIP.npz")
    options = parser.parse_args()
    cheap = options.cheap or ["fastestdet_352", "nanodet_m_320"]
    classes = options.classes or ["car", "truck"]
    labels = Bundle.read(options.bundle).labels
    print(machine_line(machine()))
    if options.day:
        day(options.day, labels, classes[0], IndexChoice((0,), 1, 0.3, 0.2))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    look(options.clips, options.bundle, cheap, options.strong, options.work)
    if options.ms:
        times = [float(ms) for ms in options.ms.split(",")]
    else:
        times = timed(options.clips[0], options.bundle, [*cheap, options.strong], 30)
    print(", ".join(f"{n} {ms:.1f} ms" for n, ms in zip([*cheap, options.strong], times)))
    clips = [
        dataclasses.replace(
            load(options.work / f"{path.stem}.npz"), cheap_ms=tuple(times[:-1]), strong_ms=times[-1]
        )
        for path in options.clips
    ]
    every = [
        choice
        for choice in choices(len(cheap), everys=options.everys or EVERYS)
        if not options.thresholds or choice.threshold in options.thresholds
    ]
    query = Remembered([kinds_of([name], labels)[0] for name in classes])
    report(clips, classes, labels, options.level, query, every)
    for name in classes:
        unions(clips, kinds_of([name], labels)[0], name, options.level, query, every)


if __name__ == "__main__":
    main()
