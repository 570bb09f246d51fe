from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptive import Bundle, ImageError, InputError, Limits, Router
from adaptive.evaluation.replay import replay
from adaptive.monitoring.audit import Audit
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.routing.live import compare_live
from adaptive.routing.running import Networks

POLICIES = {
    "fixed": lambda: Fixed(("strong",)),
    "random": lambda: Random(("cheap", "strong"), shares=(0.3, 0.7), seed=3),
    "cascade": lambda: Cascade(("cheap", "strong"), thresholds=(0.9,)),
    "cascade on margin, averaged": lambda: Cascade(
        ("cheap", "strong"), thresholds=(0.7,), signal="margin", combine="geometric"
    ),
    "cascade through exits": lambda: Cascade(
        ("net@1", "net@2", "strong"), thresholds=(0.8, 0.8), combine="arithmetic"
    ),
    "last exit alone": lambda: Fixed(("net@2",)),
    "cascade against the order of cost": lambda: Cascade(("strong", "cheap"), thresholds=(0.99,)),
}


def test_classify_takes_bytes_path_and_array(tiny_bundle: Path, tiny_images: Path) -> None:
    path = tiny_images / "004.png"
    with Router.load(tiny_bundle) as router:
        answers = [
            router.classify(path),
            router.classify(str(path)),
            router.classify(path.read_bytes()),
            router.classify(np.asarray(Image.open(path))),
        ]
    assert len({(a.label, a.score, a.candidate, a.path) for a in answers}) == 1
    answer = answers[0]
    assert answer.label == answer.top5[0][0]
    assert answer.score == answer.top5[0][1]
    assert len(answer.top5) == 3
    assert sum(p for _, p in answer.top5) == pytest.approx(1, abs=1e-5)
    assert set(answer.ms) == {"decode", *answer.path, "total"}
    assert answer.candidate == answer.path[-1]


@pytest.mark.parametrize("name", POLICIES)
def test_live_equals_replay(
    name: str, tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    bundle = Bundle.read(tiny_candidates)
    expected = replay(POLICIES[name](), tiny_table)
    policy = POLICIES[name]()
    with Router.load(tiny_candidates, policy=policy) as router:
        answers = [router.classify(tiny_images / image) for image in tiny_table.images]
    assert [a.candidate for a in answers] == [
        policy.candidates[c] for c in expected.candidate.tolist()
    ]
    right = [a.index == label for a, label in zip(answers, tiny_table.label)]
    assert right == expected.quality.tolist()
    assert (
        len({a.candidate for a in answers}) == min(2, len(policy.candidates))
        or len(policy.candidates) > 2
    )
    assert bundle.names == tiny_table.candidates


@pytest.mark.parametrize("name", POLICIES)
def test_batch_equals_single(
    name: str, tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    def answers(batch: int | None) -> list[tuple[str | None, tuple[str, ...]]]:
        images = [tiny_images / image for image in tiny_table.images]
        with Router.load(tiny_candidates, policy=POLICIES[name]()) as router:
            if batch is None:
                found = [router.classify(image) for image in images]
            else:
                found = router.classify_batch(images, batch=batch)
        return [(a.label, a.path) for a in found]

    assert answers(7) == answers(None)
    assert answers(100) == answers(None)


def test_compare_live_reports_agreement(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    found = compare_live(Bundle.read(tiny_bundle), tiny_table, tiny_images)
    assert found.images == len(tiny_table)
    assert found.differences == ()
    assert found.top1 == replay(Bundle.read(tiny_bundle).policy, tiny_table).quality.mean()


def test_an_exit_asked_for_first_runs_what_it_continues_from(
    tiny_candidates: Path, tiny_images: Path
) -> None:
    with Router.load(tiny_candidates, policy=Fixed(("net@2",))) as router:
        answer = router.classify(tiny_images / "000.png")
    assert answer.candidate == "net@2"
    assert {"net@1", "net@2"} < set(answer.ms)


def test_choose_decides_without_running(tiny_bundle: Path, tiny_images: Path) -> None:
    with Router.load(tiny_bundle) as router:
        router.close()  # no engine is needed to decide
        assert router.choose(tiny_images / "000.png") == "cheap"


def test_deadline_keeps_what_cannot_finish_from_starting(
    tiny_candidates: Path, tiny_images: Path
) -> None:
    policy = Cascade(("cheap", "strong"), thresholds=(1.0,), upper_ms=(1.0, 1e6))
    with Router.load(tiny_candidates, policy=policy) as router:
        router.warm_up()
        assert router.classify(tiny_images / "000.png").path == ("cheap", "strong")
        cut = router.classify(tiny_images / "000.png", Limits(1e5))
        assert cut.path == ("cheap",)
        assert cut.reason == (
            "cheap was not sure enough, but the deadline leaves no time for strong"
        )
        late = router.classify(tiny_images / "000.png", Limits(0.0))
    assert late.label is None
    assert late.path == ()
    assert late.reason == (
        "cheap comes first, but the deadline leaves no time for it or any other, so there is no "
        "answer"
    )


def test_preference_moves_the_threshold(tiny_bundle: Path, tiny_images: Path) -> None:
    with Router.load(tiny_bundle) as router:
        images = [tiny_images / f"{row:03}.png" for row in range(30)]
        plain = [len(router.classify(i).path) for i in images]
        fast = [len(router.classify(i, Limits(preference=-1)).path) for i in images]
        accurate = [len(router.classify(i, Limits(preference=1)).path) for i in images]
    assert set(fast) == {1}
    assert set(accurate) == {2}
    assert set(plain) == {1, 2}


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"", "empty"),
        (b"no image at all", "not a JPEG"),
        ("/no/such/image.png", "cannot be read"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 4), np.uint8), "shape"),
        (3, "bytes, a path, an open file, a Pillow image or a uint8 array"),
    ],
)
def test_bad_image_is_one_sentence(image: object, says: str, tiny_bundle: Path) -> None:
    with Router.load(tiny_bundle) as router, pytest.raises(ImageError, match=says) as caught:
        router.classify(image)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_unknown_candidate_in_policy_is_named(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="'resnet5' is not in the bundle; it has"):
        Router.load(tiny_bundle, policy=Fixed(("resnet5",)))


def test_describe_is_what_the_bundle_says(tiny_bundle: Path) -> None:
    with Router.load(tiny_bundle) as router:
        told = router.describe()
    assert [c["name"] for c in told["candidates"]] == ["cheap", "strong"]
    assert told["policy"]["kind"] == "cascade"
    assert told["certificate"] is None


def test_router_is_safe_for_threads(tiny_bundle: Path, tiny_images: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    images = [tiny_images / f"{row:03}.png" for row in range(40)] * 5
    with Router.load(tiny_bundle) as router:
        alone = [router.classify(i).label for i in images]
        with ThreadPoolExecutor(8) as pool:
            together = [a.label for a in pool.map(router.classify, images)]
    assert together == alone


def test_policies_here_are_policies() -> None:
    assert all(isinstance(make(), Policy) for make in POLICIES.values())


class Plain:
    """The least that is an engine."""

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return [np.full((len(inputs[0]), 3), 1 / 3, np.float32)]

    def close(self) -> None:
        pass


ALL = ("cheap", "strong", "net@1", "net@2")


@pytest.mark.parametrize(
    ("policy", "audit", "missing"),
    [
        (Fixed(("strong",)), None, ["strong"]),
        (Cascade(("cheap", "strong"), thresholds=(0.5,)), None, ["strong"]),
        (Cascade(("cheap", "net@2"), thresholds=(0.5,)), None, ["net@2"]),
        (Cascade(("cheap", "net@2"), thresholds=(0.5,)), None, ["net@1", "net@2"]),
        (Fixed(("net@2",)), None, ["net@1"]),
        (Fixed(("cheap",)), Audit(0.1), ["strong"]),
        (Fixed(("strong",)), Audit(0.1, scope="all"), ["cheap"]),
    ],
)
def test_engine_that_is_missing_is_named_at_once(
    policy: Policy, audit: Audit | None, missing: list[str], tiny_candidates: Path
) -> None:
    bundle = Bundle.read(tiny_candidates)
    engines = {name: Plain() for name in ALL}
    Router(bundle, engines, policy, audit=audit).close()
    for name in missing:
        del engines[name]
    with pytest.raises(InputError, match="there is no engine for") as caught:
        Router(bundle, engines, policy, audit=audit)
    assert str(missing) in str(caught.value)


def test_engine_that_nobody_asks_may_be_missing(tiny_candidates: Path, tiny_images: Path) -> None:
    bundle = Bundle.read(tiny_candidates)
    with Router(bundle, {"cheap": Plain()}, Fixed(("cheap",))) as router:
        assert router.classify(tiny_images / "000.png").candidate == "cheap"


@pytest.mark.parametrize(
    ("engines", "says"),
    [
        ({"cheap": lambda images: images}, "the engine for 'cheap'.* has no run and no close"),
        ({"cheap": object()}, "has no run and no close; an engine is an object with"),
        ({"cheap": None}, "the engine for 'cheap', None, has no run"),
        ([Plain()], "is no mapping from a candidate to its engine"),
        (None, "engines None is no mapping"),
        ({}, r"there is no engine for \['cheap'\]"),
    ],
)
def test_engines_that_are_none_are_refused(
    engines: object, says: str, tiny_candidates: Path
) -> None:
    with pytest.raises(InputError, match=says):
        Router(Bundle.read(tiny_candidates), engines, Fixed(("cheap",)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"policy": "cascade"}, "policy 'cascade' is no Policy"),
        ({"policy": {}}, "policy {} is no Policy"),
        ({"bucket": 15.0}, "bucket 15.0 is no Bucket"),
        ({"audit": 0.1}, "audit 0.1 is no Audit"),
        ({"extractor": 7}, "extractor 7 cannot be called with an image"),
        ({"observers": 7}, "observers 7 is no list of observers"),
        ({"observers": [7]}, r"observer 7 has no method observe\(decision\)"),
        ({"threads": 0}, "threads 0 is not a whole number >= 1"),
        ({"max_pixels": "many"}, "max_pixels 'many' is not a whole number >= 1"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: dict[str, Any], says: str, tiny_bundle: Path
) -> None:
    with pytest.raises(InputError, match=says):
        Router.load(tiny_bundle, **arguments)


def test_bundle_that_is_only_a_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"is no Bundle; Bundle.read\(FOLDER\) makes one"):
        Router("bundle", {})  # type: ignore[arg-type]


def test_limits_that_are_none_are_refused(tiny_bundle: Path, tiny_images: Path) -> None:
    image = tiny_images / "000.png"
    with Router.load(tiny_bundle) as router:
        for limits in (40, 40.0, None, {"remaining_ms": 40}):
            with pytest.raises(InputError, match=r"is no Limits; Limits\(remaining_ms=40\) is one"):
                router.classify(image, limits)  # type: ignore[arg-type]
            with pytest.raises(InputError, match="is no Limits"):
                router.classify_batch([image], limits)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="remaining_ms has 2 numbers for 1 images"):
            router.classify(image, Limits([40, 50]))
        with pytest.raises(InputError, match="allowance_ms has 1 numbers for 2 images"):
            router.classify_batch([image, image], Limits(allowance_ms=[40]))
        with pytest.raises(InputError, match="5 is no list of images"):
            router.classify_batch(5)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"an array of shape \(9, 9, 3\) is one image"):
            router.classify_batch(np.zeros((9, 9, 3), np.uint8))
        for factors in ({"cheap": "x"}, {"cheap": 0}, 5):
            with pytest.raises(InputError, match=r"not a finite number|is not above 0|no mapping"):
                router.rescale(factors)  # type: ignore[arg-type,dict-item]
        for batch in (0, -1, 2.5, "8", True, None):
            with pytest.raises(InputError, match="is not a whole number >= 1"):
                router.classify_batch([image], batch=batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), InputError("bad")])
def test_load_that_fails_closes_its_networks(
    error: BaseException, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Networks] = []
    own_open = Networks.open.__func__  # type: ignore[attr-defined]

    def spying(cls: type[Networks], *given: Any) -> Networks:
        opened.append(own_open(cls, *given))
        return opened[-1]

    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Networks, "open", classmethod(spying))
    monkeypatch.setattr(Router, "__init__", failing)
    with pytest.raises(type(error)):
        Router.load(tiny_bundle)
    (networks,) = opened
    assert all(engine._session is None for engine in networks.engines.values())
