"""A stream answers as the router does, and computes only the frames that changed."""

from __future__ import annotations

import io
import tracemalloc
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator, List, Tuple

import numpy as np
import pytest
from PIL import Image

from adaptive import Limits, Router
from adaptive.errors import DeadlineError, ImageError, InputError
from adaptive.images.video import VideoReader
from adaptive.video.gate import FrameGate
from adaptive.video.streams import MOST_STREAMS

RNG = np.random.default_rng(0)
SCENE = RNG.integers(40, 200, (12, 16, 3), np.uint8).repeat(20, axis=0).repeat(20, axis=1)
OTHER = RNG.integers(40, 200, (12, 16, 3), np.uint8).repeat(20, axis=0).repeat(20, axis=1)


PLAIN = FrameGate("difference", 25, 0.01)


def with_object(scene: np.ndarray, left: int) -> np.ndarray:
    frame = scene.copy()
    frame[100:160, left : left + 60] = 255
    return frame


class Means:
    """Answers with the mean of each image, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, images: List[np.ndarray]) -> np.ndarray:
        self.count += len(images)
        light = np.array([image.mean() / 255 for image in images])
        return np.stack([light, 1 - light], axis=1).astype(np.float32)


@pytest.fixture
def means() -> Means:
    return Means()


@pytest.fixture
def router(means: Means) -> Iterator[Router]:
    with Router.of({"means": means}, ["light", "dark"], check=False) as made:
        yield made


def test_a_grey_camera_is_answered_as_the_router_answers(router: Router, means: Means) -> None:
    camera, grey = router.stream(gate=PLAIN), np.ascontiguousarray(SCENE[:, :, 0])
    for frame in (grey, grey.copy(), SCENE):
        answer = camera.classify(frame)
        assert answer.score == router.classify(frame).score
    assert dict(camera.counts) == {"first": 1, "still": 1, "cut": 1}


def test_a_still_frame_is_answered_by_the_last_computed_one(router: Router, means: Means) -> None:
    camera = router.stream(gate=PLAIN)
    first = camera.classify(SCENE, time_s=0.0)
    noisy = SCENE + RNG.integers(0, 10, SCENE.shape, np.uint8)
    again = camera.classify(noisy, time_s=0.5)
    assert first.reused is None
    assert again.reused == (1, 1, 0.5)
    assert (again.label, again.score, again.path) == (first.label, first.score, ())
    assert again.to_json()["reused"] == {"frame": 1, "frames": 1, "age_s": 0.5}
    assert set(again.ms) == {"gate", "total"}
    assert means.count == 1
    assert camera.reused == 0.5


@pytest.mark.parametrize("gate", [PLAIN, FrameGate("histogram", 0.01, 0.0)], ids=str)
def test_why_a_frame_is_computed(router: Router, gate: FrameGate) -> None:
    camera = router.stream("door", gate)
    brighter = (SCENE.astype(int) + 50).clip(0, 255).astype(np.uint8)
    frames = [
        (SCENE, 0.0, "first"),
        (SCENE, 0.9, "still"),
        (with_object(SCENE, 20), 1.0, "moved"),
        (SCENE, 1.1, "moved"),
        (brighter, 1.2, "light"),
        (OTHER, 1.3, "cut"),
        (OTHER, 2.2, "still"),
        (OTHER, 2.4, "old"),
        (OTHER, 0.4, "cut"),  # sought back
        (OTHER[:200], 0.5, "cut"),  # another size
        (OTHER[:200], 0.6, "still"),
    ]
    for frame, time_s, what in frames:
        before = camera.counts[what]
        answer = camera.classify(frame, time_s=time_s)
        assert camera.counts[what] == before + 1, (time_s, what, camera.counts)
        assert (answer.reused is not None) == (what == "still")
        if what != "still":
            assert answer.score == router.classify(frame).score


def leads(*answers: Tuple[float, float]) -> Router:
    """A router whose answers are told beforehand, one a computed image; for what is told."""
    left = list(answers)

    def told(images: List[np.ndarray]) -> np.ndarray:
        return np.array([left.pop(0) for _ in images], np.float32)

    return Router.of({"told": told}, ["a", "b"], check=False)


def lit(by: int) -> np.ndarray:
    """The scene in another light."""
    return SCENE + np.uint8(by)


def test_the_margin_gate_spares_an_answer_that_is_clear() -> None:
    # every computed frame differs by 20 levels and moves the lead by 0.02: 0.001 a level
    leading = [(0.60 + 0.01 * (i % 2), 0.40 - 0.01 * (i % 2)) for i in range(6)]
    with leads(*leading, (0.505, 0.495), (0.505, 0.495)) as router:
        camera = router.stream(gate=FrameGate("margin", 0.25, 1.0, 10.0))
        for i in range(5):
            assert camera.classify(lit(20 * (i % 2)), time_s=i).reused is None
        # a lead of 0.2, of which a quarter may be used up: 50 levels
        assert camera.classify(lit(49), time_s=5).reused is not None
        assert camera.classify(lit(51), time_s=6).reused is None
        # now of 0.22, and then of 0.01, which a few levels use up
        assert camera.classify(OTHER, time_s=7).reused is None
        assert camera.classify(OTHER + np.uint8(1), time_s=8).reused is not None
        assert camera.classify(OTHER + np.uint8(3), time_s=9).reused is None


def test_the_margin_gate_learns_from_the_first_frames_that_differ(
    router: Router, means: Means
) -> None:
    camera = router.stream()
    noisy = [SCENE + np.uint8(i % 2) for i in range(7)]
    what = [camera.classify(f, time_s=0.1 * i).reused is None for i, f in enumerate(noisy)]
    assert what == [True] * 5 + [False] * 2
    assert camera.counts == {"first": 1, "learning": 4, "still": 2}


def test_the_margin_gate_knows_the_very_same_frame(router: Router, means: Means) -> None:
    camera = router.stream()
    for i in range(5):
        camera.classify(SCENE, time_s=0.1 * i)
    assert camera.counts == {"first": 1, "still": 4}


def test_what_is_new_wakes_the_margin_gate_however_clear_the_answer_is() -> None:
    with leads(*[(0.99, 0.01)] * 20) as router:
        camera = router.stream()
        for i in range(5):  # nothing moves the answer
            assert camera.classify(lit(20 * (i % 2)), time_s=0.1 * i).reused is None
        assert camera.classify(lit(20), time_s=0.6).reused is not None
        new = lit(0)
        new[:80] = 220
        assert camera.classify(new, time_s=0.7).reused is None
        assert camera.counts["moved"] == 1


def test_slow_drift_adds_up_against_the_computed_frame(router: Router) -> None:
    camera = router.stream(gate=PLAIN)
    dark = np.full((240, 320, 3), 60, np.uint8)
    answers = [camera.classify(dark + 2 * i, time_s=i / 100) for i in range(40)]
    computed = [i for i, answer in enumerate(answers) if answer.reused is None]
    assert computed == [0, 13, 26, 39]  # each 26 levels from the last


@pytest.mark.parametrize("gate", [PLAIN, FrameGate()], ids=str)
def test_two_interleaved_streams_equal_two_alone(router: Router, gate: FrameGate) -> None:
    seen = [[with_object(s, 10 * (i // 4)) for i in range(16)] for s in (SCENE, OTHER)]

    def told(answer):
        return answer.label, answer.score, answer.reused

    alone = []
    for place, frames in enumerate(seen):
        camera = router.stream(f"alone-{place}", gate)
        alone.append([told(camera.classify(f, time_s=i / 25)) for i, f in enumerate(frames)])
    cameras = [router.stream(name, gate) for name in "ab"]
    both = [
        [told(camera.classify(frames[i], time_s=i / 25)) for camera, frames in zip(cameras, seen)]
        for i in range(16)
    ]
    assert [list(answers) for answers in zip(*both)] == alone
    assert cameras[0].counts["still"] == 12


def test_other_limits_and_explanations_are_computed(router: Router, means: Means) -> None:
    camera = router.stream()
    camera.classify(SCENE, time_s=0.0)
    camera.classify(SCENE, Limits(preference=0.5), time_s=0.1)
    told = camera.classify(SCENE, Limits(preference=0.5), True, time_s=0.2)
    assert told.explanation is not None
    assert camera.classify(SCENE, Limits(preference=0.5), True, time_s=0.3).reused is not None
    assert means.count == 3


def test_only_computed_answers_are_shown_to_observers(tiny_bundle: Path) -> None:
    shown: List[object] = []
    with Router.load(tiny_bundle, observers=[SimpleNamespace(observe=shown.append)]) as router:
        camera = router.stream()
        for i in range(5):
            camera.classify(SCENE, time_s=i / 25)
    assert len(shown) == 1


def test_a_frame_that_fails_leaves_nothing_behind() -> None:
    def fails(images: List[np.ndarray]) -> np.ndarray:
        raise RuntimeError("no memory")

    with Router.of({"fails": fails}, ["a", "b"], check=False) as router:
        camera = router.stream()
        for _ in range(2):  # a second, equal frame must not get an answer that never was
            with pytest.raises(Exception, match="no memory"):
                camera.classify(SCENE, time_s=0.0)
        assert camera.frames == 0


def test_streams_are_bounded_and_given_back(router: Router) -> None:
    for i in range(MOST_STREAMS):
        router.stream(str(i))
    with pytest.raises(InputError, match=f"{MOST_STREAMS} streams are open"):
        router.stream("one more")
    router.stream("0").close()
    router.stream("one more")
    with pytest.raises(InputError, match=r"with the gate margin:0\.4:0\.1:1; close"):
        router.stream("1", FrameGate(age_s=3))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (np.zeros((4, 4, 1), np.uint8), r"or \(height, width\), not \(4, 4, 1\)"),
        (np.zeros((0, 4, 3), np.uint8), r"or \(height, width\), not \(0, 4, 3\)"),
        (np.zeros((4, 4, 3)), "is uint8 in 0..255, not float64"),
    ],
)
def test_what_is_no_frame_is_refused(router: Router, frame: np.ndarray, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        router.classify(frame)
    with pytest.raises(ImageError, match=says):
        router.stream().classify(frame)
    with pytest.raises(ImageError, match="is not a JPEG"):
        router.stream().classify(b"frame")


def encoded(frame: np.ndarray) -> bytes:
    made = io.BytesIO()
    Image.fromarray(frame).save(made, "PNG")
    return made.getvalue()


def test_encoded_frames_are_decoded_once_and_answered_alike(router: Router, means: Means) -> None:
    camera = router.stream()
    first = camera.classify(encoded(SCENE), time_s=0.0)
    assert first.score == router.classify(encoded(SCENE)).score
    again = camera.classify(encoded(SCENE), time_s=0.1)
    assert again.reused == (1, 1, 0.1)
    assert set(again.ms) == {"decode", "gate", "total"}
    assert again.ms["total"] == pytest.approx(again.ms["decode"] + again.ms["gate"])
    assert camera.classify(SCENE, time_s=0.2).reused is not None  # the same pixels
    assert means.count == 2


def test_a_deadline_that_is_a_little_longer_is_answered_alike(router: Router) -> None:
    camera = router.stream()

    def reused(ms: float) -> bool:
        return camera.classify(SCENE, Limits(ms), time_s=0.0).reused is not None

    assert [reused(ms) for ms in (80, 99, 101, 50, 150)] == [False, True, False, True, False]


def test_who_waits_for_a_stream_does_not_wait_past_the_deadline(router: Router) -> None:
    camera = router.stream()
    with camera._held(), pytest.raises(DeadlineError, match="'camera' was answering earlier"):
        camera.classify(SCENE, Limits(10.0))


def test_frames_of_several_streams_are_computed_in_one_batch(tmp_path: Path) -> None:
    batches: List[int] = []

    def light(images: List[np.ndarray]) -> np.ndarray:
        batches.append(len(images))
        found = np.array([image.mean() / 255 for image in images])
        return np.stack([found, 1 - found], axis=1).astype(np.float32)

    with Router.of({"light": light}, ["light", "dark"], check=False) as router:
        cameras = [router.stream(name, PLAIN) for name in "abc"]
        first = router.classify_streams(
            [(cameras[0], SCENE), (cameras[1], OTHER), (cameras[2], SCENE)], times_s=[0, 0, 0]
        )
        moved = with_object(OTHER, 40)
        second = router.classify_streams(
            [(cameras[2], SCENE), (cameras[1], moved), (cameras[0], OTHER)], times_s=[1, 1, 1]
        )
        assert batches == [3, 2]
        assert [answer.reused for answer in first] == [None] * 3
        assert [answer.reused for answer in second] == [(1, 1, 1), None, None]
        assert second[1].score == router.classify(moved).score
        assert second[2].score == first[1].score
        assert [camera.frames for camera in cameras] == [2, 2, 2]
        with pytest.raises(InputError, match="'a' is there twice"):
            router.classify_streams([(cameras[0], SCENE), (cameras[0], SCENE)])
        with pytest.raises(InputError, match="1 frames have 2 times"):
            router.classify_streams([(cameras[0], SCENE)], times_s=[0, 1])
        with pytest.raises(InputError, match="is no stream"):
            router.classify_streams([("a", SCENE)])  # type: ignore[list-item]


def test_ten_thousand_frames_need_no_more_memory(router: Router) -> None:
    camera = router.stream()
    frames = [np.full((24, 32, 3), grey, np.uint8) for grey in (0, 0, 60, 120)]

    def run(count: int) -> int:
        for i in range(count):
            camera.classify(frames[i % 4], time_s=float(camera.frames))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = run(200)
        after = run(10_000)
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
    assert camera.frames == 10_200


def test_a_real_street_is_answered_as_without_a_stream(data: Path, means: Means) -> None:
    with Router.of({"means": means}, ["light", "dark"], check=False) as router:
        camera = router.stream()
        with VideoReader(data / "video" / "highway_video.avi") as reader:
            for frame in islice(reader, 100):
                answer = camera.classify(frame.image, time_s=frame.time_s)
                if answer.reused is None:
                    assert answer.score == router.classify(frame.image).score
                assert answer.reused is None or answer.reused.age_s <= 1
    assert 0.2 < camera.reused < 0.8
