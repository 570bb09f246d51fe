"""Tuning foresees what an index and its queries come to, and keeps the level on its clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Collection, List, Sequence

import numpy as np
import pytest

from adaptive.errors import InputError
from adaptive.images.video import VideoFrame
from adaptive.tasks.boxes import ious
from adaptive.tasks.detections import Detections
from adaptive.video.gate import FrameGate
from adaptive.video.index import BOXES, IndexSettings, VideoIndex
from adaptive.video.index_tuning import (
    IndexChoice,
    ObservedClip,
    choices,
    observed,
    pooled,
    queried,
    tuned,
)
from adaptive.video.index_writer import IndexWriter
from adaptive.video.ingest import Ingest
from adaptive.video.lookers import BoxLooker, united
from adaptive.video.query import ask

LABELS = ("car", "truck", "bus")
GATE = "difference:25:0.01:1"
COUNT = 110


class Scene:
    """Frames whose brightness is their number, and what three networks say of them."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.said: List[List[Detections]] = [[], [], []]
        ways = generator.integers(4, 60, (6, 2)), generator.integers(-20, 21, (6, 2))
        kinds = generator.integers(0, 3, 6)
        spans = np.sort(generator.integers(0, COUNT, (6, 2)), axis=1)
        for number in range(COUNT):
            for network, (sure, noise) in enumerate(((0.5, 3), (0.6, 2), (0.9, 0))):
                boxes, scores, classes = [], [], []
                for start, way, kind, (first, last) in zip(*ways, kinds, spans):
                    if not first <= number <= last:
                        continue
                    x, y = np.rint(start + way * number / COUNT + generator.normal(0, noise, 2))
                    boxes.append([x, y, x + 24, y + 18])
                    scores.append(np.clip(generator.normal(sure, 0.2), 0.02, 1))
                    mistaken = noise and generator.random() < 0.2
                    classes.append(generator.integers(0, 3) if mistaken else kind)
                self.said[network].append(Detections.of(boxes, scores, classes))

    def frames(self) -> List[VideoFrame]:
        return [
            VideoFrame(n + 1, n / 25, np.full((96, 128, 3), 20 + 2 * n, np.uint8))
            for n in range(COUNT)
        ]

    def asked(self, network: int, image: np.ndarray) -> Detections:
        return self.said[network][round((float(image.mean()) - 20) / 2)]

    def observed(self, name: str = "clip") -> ObservedClip:
        cheap = [lambda image, n=n: [self.asked(n, image)] for n in (0, 1)]
        gate = FrameGate.parse(GATE)
        return observed(
            name, self.frames(), ("a", "b"), cheap, lambda image: self.asked(2, image), gate
        )

    def judge(
        self, pictures: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> List[List[Collection[str]]]:
        found: List[List[Collection[str]]] = []
        for picture, own in zip(pictures, boxes):
            answer = self.asked(2, picture)
            alike = ious(own.astype(np.float32), answer.boxes) >= 0.3
            found.append([{LABELS[kind] for kind in answer.classes[row]} for row in alike])
        return found


@pytest.mark.parametrize(
    "choice",
    [
        IndexChoice((0,), 1, 0.1, 0.05),
        IndexChoice((1,), 2, 0.4, 0.2),
        IndexChoice((0, 1), 2, 0.1, 0.1),
        IndexChoice((1,), 2, 0.1, 0.1, 3),
    ],
)
def test_what_tuning_foresees_is_what_an_index_answers(choice: IndexChoice, tmp_path: Path) -> None:
    scene = Scene(len(choice.candidates))
    foreseen = queried(scene.observed(), choice, [0, 1, 2])
    names = tuple("ab"[place] for place in choice.candidates)
    settings = IndexSettings(
        LABELS,
        names,
        ("0" * 64,) * len(names),
        BoxLooker.width,
        BOXES,
        *choice[1:4],
        GATE,
        choice.every,
    )
    path = tmp_path / "clip.bin"
    path.write_bytes(b"a clip")
    looker = BoxLooker(
        lambda image: [scene.asked(place, image) for place in choice.candidates],
        choice.least,
        choice.k,
    )
    with IndexWriter(tmp_path / "index", settings) as writer:
        made = Ingest(writer, looker).clip(scene.frames(), path)
    assert made.looked < COUNT  # the gate is part of it
    with VideoIndex(tmp_path / "index") as index:
        for kind, label in enumerate(LABELS):
            answer = ask(index, [label], scene.judge)
            given = {n for i in answer.intervals for n in range(i.first_frame, i.last_frame + 1)}
            true = {n + 1 for n, one in enumerate(scene.said[2]) if kind in one.classes}
            expected = len(given), len(true), len(given & true), COUNT
            assert foreseen[kind] == (*expected, answer.clusters, answer.pictures)
    assert any(0 < counts.both < counts.true for counts in foreseen.values())  # no empty matter


def test_the_cheapest_way_that_keeps_the_level_is_taken() -> None:
    clips = [
        dataclasses.replace(Scene(s).observed(str(s)), cheap_ms=(1.0, 1.5), strong_ms=3.0)
        for s in (3, 4)
    ]
    level = 0.6
    reached = {}
    for choice in choices(2):
        found = [queried(clip, choice, [0]) for clip in clips]
        precision, recall, _ = pooled([own[0] for own in found])
        if min(precision, recall) >= level:
            ms = sum(
                -(-sum(frame.passes for frame in clip.frames) // choice.every)
                * sum(clip.cheap_ms[place] for place in choice.candidates)
                + clip.strong_ms * own[0].pictures
                for clip, own in zip(clips, found)
            )
            reached[choice] = ms
    assert 0 < len(reached) < len(choices(2))
    assert tuned(clips, [0], level) == min(reached, key=lambda choice: reached[choice])
    assert tuned(clips, [0], 1.0, [IndexChoice((0,), 1, 0.9, 0.4)]) is None
    with pytest.raises(InputError, match="sees class 7 in none of the clips"):
        tuned(clips, [7])


def test_boxes_of_one_place_are_one_object_of_their_classes_surest_first() -> None:
    first = Detections.of([[0, 0, 10, 10], [50, 50, 60, 60]], [0.5, 0.4], [0, 1])
    second = Detections.of(
        [[1, 0, 11, 10], [0, 0, 10, 9], [0, 1, 10, 10]], [0.9, 0.3, 0.2], [2] * 3
    )
    places, kinds = united([first, second], 2)
    assert places.tolist() == [2, 1]
    assert kinds == [[2, 0], [1]]
    assert united([first, second], 1)[1] == [[2], [1]]
