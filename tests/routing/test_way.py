"""How many functions one image passes through, from `Router.classify` to its prediction."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Callable, NamedTuple

import pytest

import adaptive
from adaptive import Router
from adaptive.policy.cascade import Cascade

PACKAGE = Path(adaptive.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"


class Stay(NamedTuple):
    """One function that the image passes through."""

    file: str
    name: str


def stays(call: Callable[[], object]) -> list[Stay]:
    """The distinct functions that `call` passes through, in the order in which it enters them.

    Counted is every function written in a file of the package, each once. Whatever routing and the
    step machine (`policy/walk.py`) call is counted. Of every other room, such as images, engines
    and policies, what is called from there is counted, and not what that calls inside its own
    room. Not counted are properties, comprehensions, and what dataclasses and named tuples
    generate.
    """
    properties = _properties()
    found: dict[Stay, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        own = event == "call" and not code.co_name.startswith("<") and code not in properties
        if own and _file(code) and _followed(frame.f_back):
            found[Stay(_file(code), code.co_name)] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return list(found)


def _file(code: CodeType) -> str:
    """The file in the package that a function is written in, or nothing."""
    path = Path(code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if PACKAGE in path.parents else ""


def _followed(frame: FrameType | None) -> bool:
    """Whether what the innermost function of ours calls is counted; so is what the test calls."""
    while frame is not None and not _file(frame.f_code):
        frame = frame.f_back
    file = "" if frame is None else _file(frame.f_code)
    return not file or file.startswith("routing/") or file == "policy/walk.py"


def _properties() -> set[CodeType]:
    modules = [module for name, module in sys.modules.items() if name.startswith("adaptive.")]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    attributes = [a for kind in kinds for a in vars(kind).values()]
    getters = [a.fget for a in attributes if isinstance(a, property)]
    return {getter.__code__ for getter in getters if hasattr(getter, "__code__")}


@pytest.fixture(scope="module")
def image(tiny_images: Path) -> bytes:
    return (tiny_images / "000.png").read_bytes()


@pytest.fixture(scope="module")
def router(tiny_candidates: Path) -> Any:
    """Its policy lets the first network answer."""
    policy = Cascade(("cheap", "strong"), thresholds=(0.0,))
    with Router.load(tiny_candidates, policy=policy) as router:
        router.warm_up()
        yield router


def test_an_image_takes_at_most_fifteen_stays_in_eight_files(router: Router, image: bytes) -> None:
    assert router.classify(image).path == ("cheap",)
    way = stays(lambda: router.classify(image))
    assert way[0] == ("routing/router.py", "classify")
    assert {"run_checked", "next", "prediction"} <= {stay.name for stay in way}
    assert len(way) <= 15, way
    assert len({stay.file for stay in way}) <= 8, way


def test_the_page_lists_the_stays_in_their_order(router: Router, image: bytes) -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^ *\d+\. `(?:\w+\.)*(\w+)` \(`([\w/]+\.py)`\)", page, re.MULTILINE)
    way = stays(lambda: router.classify(image))
    assert listed == [(stay.name, stay.file) for stay in way]


def test_whatever_more_is_asked_for_is_counted(router: Router, image: bytes) -> None:
    plain = stays(lambda: router.classify(image))
    explained = stays(lambda: router.classify(image, explain=True))
    assert set(plain) < set(explained)
    assert ("routing/explanation.py", "explanation_of") in explained


def test_what_another_room_does_inside_is_not_counted(router: Router, image: bytes) -> None:
    names = {stay.name for stay in stays(lambda: router.classify(image))}
    assert "decode_image" in names
    assert not names & {"decode_scales", "normalised", "probabilities", "score"}
