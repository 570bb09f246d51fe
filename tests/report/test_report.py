from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import pytest
from bright_and_dark import mixture
from click.testing import CliRunner
from markupsafe import escape
from PIL import Image

from adaptive.bundle.bundle import Bundle
from adaptive.cli.evaluate import chosen_part, command, other_part, promise
from adaptive.errors import InputError
from adaptive.evaluation.evaluation import evaluate
from adaptive.evaluation.replay import replay
from adaptive.evaluation.verdict import verdict
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.premodel.shares import ConditionShares
from adaptive.report.cascades import best_cascades
from adaptive.report.content import Content, Origin, gather
from adaptive.report.gallery import Thumbnails, needed_by_answered
from adaptive.report.page import page
from adaptive.report.svg import Labels, Scale, figure, round_ticks, text
from adaptive.report.use import feature_use

HOSTILE = "<script>alert('\"&')</script>"
NAMES = ("small", "big")
VOID = {"meta", "img", "br", "wbr", "hr", "input", "link"}


class Checked(HTMLParser):
    """Balanced tags, unique ids, references that lead somewhere, and the text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.named: list[str] = []
        self.sources: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self.feed(document)
        self.close()
        self.text = " ".join(self.text.split())
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)
        assert set(self.named) <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            assert not key.startswith("on")
            if key in ("title", "alt"):
                self.titles.append(str(value))
            if key == "id":
                self.ids.append(str(value))
            if key == "aria-labelledby":
                self.named += str(value).split()
            if key in ("src", "href", "xlink:href", "srcset", "action"):
                self.sources.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def made(count: int = 200, probabilities: bool = True, seed: int = 0, **more: Any) -> OutcomeTable:
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, count)
    outcomes, found = {}, {}
    for position, name in enumerate(NAMES):
        values = draw.dirichlet(np.full(3, 0.6), count)
        values[np.arange(count), label] += draw.random(count) * (0.3 + position)
        values = (values / values.sum(axis=1, keepdims=True)).astype(np.float16)
        top1 = values.argmax(axis=1) == label
        confidence = values.max(axis=1).astype(float)
        ms = draw.uniform(1, 2, count) * (1 + 9 * position)
        outcomes[name] = Outcomes(top1, np.ones(count, bool), confidence, ms)
        found[name] = values
    X = np.column_stack(
        [outcomes["small"].quality + draw.normal(0, 0.3, count), draw.random(count)]
    )
    table = OutcomeTable(
        tuple(f"{i}.jpg" for i in range(count)),
        label,
        ("telling", "idle"),
        X,
        outcomes,
        np.full(count, 3.25),
        np.full(count, 0.2),
        found if probabilities else {},
        {"feature_ms": {"telling": 0.1, "idle": 0.1}, "board": {"model": "a board"}},
    )
    return replace(table, **more)


def learned(table: OutcomeTable) -> KNNChain:
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    outcomes = np.column_stack([table.quality(n) for n in NAMES]).astype(np.uint8)
    grid = scaling.grid(table.X * [1.0, 0.01])
    return KNNChain.from_arrays(table.features, NAMES, scaling, grid, outcomes, 7)


def content(
    table: OutcomeTable,
    policy: Policy,
    labels: Sequence[str] = ("ant", "bee", "cat"),
    images: Path | None = None,
    shares: ConditionShares | None = None,
    **origin: Any,
) -> Content:
    cascades = best_cascades(table, points=4)
    return gather(
        policy,
        table,
        labels,
        evaluate(policy, table, premodel_ms=0.05),
        verdict(policy, table, 0.05, cascades),
        Origin(
            **{
                "bundle": "my-bundle",
                "table": "X.csv",
                "part": "the test part",
                "command": "adaptive evaluate my-bundle X.csv --report r.html",
                "sha256": "0123",
                **origin,
            }
        ),
        0.05,
        cascades,
        images=images,
        premodel=policy.premodel,
        shares=shares,
    )


@pytest.fixture(scope="module")
def whole() -> Content:
    policy = ByPremodel(NAMES, learned(made(seed=1)))
    return content(made(), policy, certificate="With probability at least 95% & more.")


def test_page_is_sound_and_needs_nothing_else(whole: Content) -> None:
    document = page(whole)
    checked = Checked(document)
    assert checked.sources == []
    assert "script" not in checked.tags
    assert "://" not in document
    assert "url(" not in document
    assert "@import" not in document
    assert len(document) < 300_000
    assert document.count('role="img"') == checked.tags.count("title") - 1 == 4
    assert "nan" not in document.lower().replace("tenant", "")


def test_numbers_are_the_evaluations(whole: Content) -> None:
    text = Checked(page(whole)).text
    evaluation = whole.evaluation
    for row in [*evaluation.fixed, evaluation.mix, evaluation.policy, evaluation.oracle]:
        assert f"{100 * row.quality.value:.2f}" in text
        assert f"{row.ms.value:.3f}" in text
        assert f"{row.p95_ms.value:.3f}" in text
    assert f"{100 * evaluation.over_mix.value:+.2f}" in text
    for sentence in whole.verdict.words():
        assert sentence in text
    for row in whole.signals.rows:
        assert f"{row.area.value:.3f}" in text
    assert "With probability at least 95% & more." in text
    assert "a board" in text
    assert "the table does not say when" in text


def test_whatever_comes_from_files_is_escaped() -> None:
    table = made()
    hostile = replace(
        table,
        images=tuple(f"{HOSTILE}{i}.jpg" for i in range(len(table))),
        features=(HOSTILE, "idle"),
        meta={"board": {HOSTILE: HOSTILE}, "threads": [HOSTILE], "date": HOSTILE},
    )
    policy = ByPremodel(NAMES, learned(hostile))
    document = page(
        content(
            hostile,
            policy,
            [HOSTILE] * 3,
            **dict.fromkeys(("bundle", "part", "command", "sha256"), HOSTILE),
            certificate=HOSTILE,
            promise_note=HOSTILE,
        )
    )
    assert "<script" not in document
    assert Checked(document).text.count(HOSTILE) > 20


def renamed(value: Any, names: Sequence[str]) -> Any:
    """The same value with HOSTILE before each of these names, wherever it is said."""
    if isinstance(value, str):
        return re.sub("|".join(names), lambda found: HOSTILE + found[0], value)
    if isinstance(value, (list, tuple)):
        return type(value)(renamed(v, names) for v in value)
    if isinstance(value, dict):
        return {renamed(k, names): renamed(v, names) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: renamed(getattr(value, f.name), names) for f in fields(value) if f.init}
        return replace(value, **own)
    return value


def test_names_of_candidates_features_and_groups_are_escaped(whole: Content) -> None:
    document = page(renamed(whole, (*NAMES, "telling", "idle")))
    assert "<script" not in document
    text = Checked(document).text
    for name, count in (("small", 20), ("big", 20), ("telling", 1), ("idle", 1)):
        assert text.count(HOSTILE + name) >= count


def test_copies_say_how_they_were_made(whole: Content) -> None:
    how = "Tucker and SVD of big: 0.8 of the weights' variance kept"
    entries = [{"name": "small", "made": HOSTILE + how}, {"name": "big"}]
    text = Checked(page(replace(whole, meta={**whole.meta, "candidates": entries}))).text
    assert "How copies of other networks were made" in text
    assert text.count(HOSTILE + how) == 1
    assert "How copies" not in Checked(page(whole)).text


def test_names_of_images_and_classes_are_escaped_beside_their_pictures(tmp_path: Path) -> None:
    table = made(60)
    table = replace(table, images=tuple(f"<b>'\"&{i}.jpg" for i in range(60)))
    for name in table.images[1:]:
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    plain = content(table, Cascade(NAMES, thresholds=(0.6,)), [HOSTILE] * 3, images=tmp_path)
    document = page(plain)
    checked = Checked(document)
    assert "<script" not in document
    assert not re.search(r"<b>['&]", document)
    assert HOSTILE in checked.titles
    assert set(checked.titles) <= {HOSTILE, *table.images}


def test_only_drawings_are_called_safe() -> None:
    folder = Path(page.__code__.co_filename).parent
    for template in (folder / "templates").glob("*.html"):
        words = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape", words), template.name
    drawing = figure("name", HOSTILE, HOSTILE, (10, 10), text(0, 0, HOSTILE))
    assert "<script" not in drawing
    assert escape(drawing) == drawing


def test_without_probabilities_the_page_says_what_is_missing() -> None:
    table = made(probabilities=False)
    text = Checked(page(content(table, Cascade(NAMES, thresholds=(0.6,))))).text
    assert "the table holds no probabilities of small, big" in text
    assert "margin, scaled" not in text


def test_without_premodel_certificate_and_board_the_page_says_so() -> None:
    table = made(meta={})
    text = Checked(page(content(table, Fixed(("big",))))).text
    assert "There is no certificate" in text
    assert "This fixed policy reads no features" in text
    assert "does not say on which machine" in text
    assert "Whether the premodel" not in text


@pytest.mark.parametrize("count", [1, 2, 30])
def test_few_images_make_a_page_too(count: int) -> None:
    table = made().select(np.arange(count))
    document = page(content(table, ByPremodel(NAMES, learned(made(seed=1)))))
    assert "images are too few" in Checked(document).text or count >= 20


def test_one_candidate_makes_a_page_too() -> None:
    table = made()
    table = replace(table, outcomes={"small": table.of("small")})
    Checked(page(content(table, Fixed(("small",)))))


def test_thumbnails_are_shown_and_the_unreadable_listed(tmp_path: Path) -> None:
    table = made(60)
    draw = np.random.default_rng(0)
    for name in table.images:
        Image.fromarray(draw.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / name)
    plain = content(table, Cascade(NAMES, thresholds=(0.6,)), images=tmp_path)
    shown = [p for g in plain.groups for p in g.pictures]
    assert plain.unreadable == ()
    assert shown
    assert all(str(p.data).startswith("data:image/jpeg;base64,") for p in shown)
    document = page(plain)
    assert Checked(document).sources == [p.data for p in shown]
    broken = shown[0].name
    (tmp_path / broken).write_bytes(b"no image")
    damaged = content(table, Cascade(NAMES, thresholds=(0.6,)), images=tmp_path)
    assert set(damaged.unreadable) == {broken}
    assert f"cannot be read: {broken}" in Checked(page(damaged)).text


def test_thumbnails_stay_in_their_folder(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "secret.png")
    (tmp_path / "images").mkdir()
    thumbnails = Thumbnails(tmp_path / "images")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "\0"):
        assert thumbnails.of(name) is None
    assert len(thumbnails.unreadable) == 3


def test_groups_are_what_their_sentences_say(whole: Content) -> None:
    table = made()
    right = np.stack([table.quality(n) for n in NAMES])
    done = replay(ByPremodel(NAMES, learned(made(seed=1))), table)
    counts = [g.count for g in whole.groups]
    assert counts == [
        right.all(axis=0).sum(),
        (~right.any(axis=0)).sum(),
        (right.any(axis=0) & ~done.quality).sum(),
    ]
    index = [table.images.index(p.name) for p in whole.groups[2].pictures]
    sure = done.confidence[index]
    assert (np.diff(sure) <= 0).all()


def test_needed_and_answered_count_every_image_once() -> None:
    table = made()
    done = replay(Cascade(("big", "small"), thresholds=(0.6,)), table)
    names, counts = needed_by_answered(done, table)
    assert names == ["small", "big", "none"]
    assert counts.sum() == len(table)
    assert counts[0].sum() == table.quality("small").sum()
    assert counts[:, 1].sum() == (done.candidate == 0).sum()


def test_feature_that_decides_is_used_and_an_idle_one_is_not() -> None:
    used = feature_use(ByPremodel(NAMES, learned(made(seed=1))), made(800))
    assert [u.name for u in used] == ["telling", "idle"]
    assert used[0].changed > 0.2 > 10 * used[1].changed
    assert used[0].worth.low > 0
    assert used[0].cost_ms == 0.1
    assert feature_use(Fixed(("small",)), made()) == ()


def test_cascades_rise_in_time_on_the_images_that_they_were_chosen_on() -> None:
    table = made(400)
    found = best_cascades(table, points=6)
    assert len(found) >= 2
    times = [replay(c, table).ms.mean() for c in found]
    assert (np.diff(times) > 0).all()
    assert best_cascades(table.select(np.arange(20))) == ()


def test_round_ticks_are_round() -> None:
    assert round_ticks(0.31, 0.86, 6) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8])
    assert Scale(0.7, 60, 0, 100, True).ticks() == [1, 2, 5, 10, 20, 50]


def test_labels_keep_apart() -> None:
    labels = Labels((0, 0, 400, 300))
    for _ in range(6):
        labels.put(200, 150, "candidate", "name")
    boxes = labels.taken
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_command_writes_the_page(
    tiny_bundle: Path, tiny_table_path: Path, tiny_images: Path, tmp_path: Path
) -> None:
    output, beside = tmp_path / "r.html", tmp_path / "r.json"
    wanted = ("--images", tiny_images, "--report", output, "--json", beside)
    result = run(tiny_bundle, tiny_table_path, *wanted)
    assert result.exit_code == 0, result.output
    values = json.loads(beside.read_text())
    document = output.read_text(encoding="utf-8")
    checked = Checked(document)
    assert f"{100 * values['policy']['top1']['value']:.2f}%" in checked.text
    assert values["verdict"]["overall"] in checked.text
    assert values["verdict"]["overall"] in result.output
    assert f"adaptive evaluate {tiny_bundle}" in checked.text
    assert "data:image/jpeg" in document
    assert any("were chosen on the same images" in c for c in values["verdict"]["cautions"])
    before = document
    again = run(tiny_bundle, tiny_table_path, *wanted)
    assert isinstance(again.exception, InputError)
    assert "--force" in str(again.exception)
    assert output.read_text(encoding="utf-8") == before
    assert run(tiny_bundle, tiny_table_path, *wanted, "--force").exit_code == 0


def test_command_lists_images_that_cannot_be_read(
    tiny_bundle: Path, tiny_table_path: Path, tmp_path: Path
) -> None:
    output = tmp_path / "r.html"
    (tmp_path / "empty").mkdir()
    result = run(tiny_bundle, tiny_table_path, "--images", tmp_path / "empty", "--report", output)
    assert result.exit_code == 1
    assert "cannot be read: " in result.output
    assert output.exists()
    missing = run(tiny_bundle, tiny_table_path, "--images", tmp_path / "none", "--report", output)
    assert isinstance(missing.exception, InputError)


def test_cascades_are_chosen_on_images_that_are_not_evaluated(
    tiny_bundle: Path, tiny_table_path: Path, tiny_table: OutcomeTable
) -> None:
    bundle = Bundle.read(tiny_bundle)
    tested, part = chosen_part(tiny_table, tiny_table_path, "test", bundle)
    others = other_part(tiny_table, tiny_table_path, part, bundle)
    assert others is not None
    assert set(others.images).isdisjoint(tested.images)
    assert other_part(tiny_table, tiny_table_path, "all", bundle) is None


def test_promise_speaks_only_of_the_bundles_own_policy(tiny_bundle: Path) -> None:
    bundle = Bundle.read(tiny_bundle)
    assert promise(bundle, bundle.policy) == (None, "")
    bundle = replace(bundle, certificate={"claim": "At most one point."})
    assert promise(bundle, bundle.policy)[0] == "At most one point."
    claim, note = promise(bundle, Fixed(("strong",)))
    assert claim is None
    assert "own policy" in note


@pytest.mark.parametrize("known", [True, False])
def test_conditions_have_shares_rates_and_examples(tmp_path: Path, known: bool) -> None:
    table = made(count=40)
    dark = np.arange(40) % 4 == 1
    X = np.column_stack([np.where(dark, 8.0, 150.0) + np.arange(40) / 100, np.full(40, 3.0)])
    premodel = mixture((30, 10), told=False)
    premodel.candidates = NAMES
    table = replace(table, features=premodel.features, X=X)
    for name in table.images[:20]:
        Image.new("RGB", (40, 30), (90, 120, 30)).save(tmp_path / name)
    looks = premodel.descriptions()
    shares = ConditionShares(looks, (30, 10)) if known else None
    found = content(table, ByPremodel(NAMES, premodel), images=tmp_path, shares=shares)
    bright, own = found.conditions
    assert (own.looks, own.images, own.share) == (looks[1], 10, 0.25)
    assert bright.images == 30
    assert own.quality["big"] == table.quality("big")[dark].mean()
    assert own.before == (0.25 if known else None)
    assert len(own.examples) == 4
    assert {example.name for example in own.examples} <= {
        name for name, is_dark in zip(table.images, dark) if is_dark
    }
    text = Checked(page(found)).text
    assert f"{looks[1]}25.0%" in text  # two cells
    assert ("its share of the calibration images" in text) == known
    assert ("does not say how common" in text) != known
    assert "The images that are most surely so, of 10." in text
    bare = Checked(page(content(table, ByPremodel(NAMES, premodel)))).text
    assert "--images DIR adds examples of each." in bare


def test_without_conditions_nothing_is_said_of_them(whole: Content) -> None:
    assert whole.conditions == ()
    assert "Conditions" not in Checked(page(whole)).text
