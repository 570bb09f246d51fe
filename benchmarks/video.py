"""What decoding in a process of its own costs, beside OpenCV in this one and beside PyAV.

    python benchmarks/video.py CLIP... [--repeat 5] [--json FILE]

Each clip is read whole, in turn by each way; the medians are milliseconds until the first frame,
and for each after it. The processors' time has the start in it. PyAV takes part where it is
installed (pip install av).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Callable, Iterator

from machine import envelope, machine, machine_line, result

from adaptive.images.video import VideoReader
from adaptive.opencv import cv2


def own(clip: Path) -> Iterator[object]:
    with VideoReader(clip) as reader:
        yield from reader


def opencv(clip: Path) -> Iterator[object]:
    capture = cv2.VideoCapture(str(clip))
    right, frame = capture.read()
    while right:
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        right, frame = capture.read()
    capture.release()


def pyav(clip: Path) -> Iterator[object]:
    import av

    with av.open(str(clip)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ways: dict[str, Callable[[Path], Iterator[object]]] = {
        "own process": own,
        "OpenCV here": opencv,
    }
    try:
        import av

        ways[f"PyAV {av.__version__}"] = pyav
    except ImportError:
        print("PyAV is not installed and left out")
    about = machine()
    print(machine_line(about))
    results: dict[str, dict[str, object]] = {}
    for clip in options.clips:
        first: dict[str, list[float]] = {name: [] for name in ways}
        rest: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.repeat):
            for name, way in ways.items():
                began, worked, count = time.perf_counter(), processor_s(), 0
                for _ in way(clip):
                    if not count:
                        opened = time.perf_counter()
                    count += 1
                first[name].append((opened - began) * 1e3)
                rest[name].append((time.perf_counter() - opened) * 1e3 / (count - 1))
                busy[name].append((processor_s() - worked) * 1e3 / count)
        print(f"{clip.name}, {count} frames")
        for name in ways:
            found = {"first frame": first, "frame": rest, "processors a frame": busy}
            told = [f"{what} {statistics.median(of[name]):.2f} ms" for what, of in found.items()]
            print(f"  {name}: {', '.join(told)}")
            for what, of in found.items():
                results[f"{clip.name}, {name}, {what}"] = result(of[name])
    if options.json:
        written = envelope("video", results, {"repeat": options.repeat}, about)
        options.json.write_text(json.dumps(written, indent=1))


def processor_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main()
