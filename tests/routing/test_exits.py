"""Exits that are run through without their heads: in the table, the replay, live and on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from exit_candidates import COLOURS, EXITS, exit_candidates, segment
from hypothesis import given, settings
from hypothesis import strategies as st
from outcome_tables import NAMES, chain, table_of

from adaptive import Bundle, BundleError, EngineError, InputError, Router
from adaptive.bundle.bundle import candidate_to_json, write_bundle
from adaptive.candidate import InputSpec, Through
from adaptive.evaluation.evaluation import evaluate
from adaptive.evaluation.replay import replay
from adaptive.evaluation.signals_quality import signal_table
from adaptive.evaluation.verdict import verdict
from adaptive.images import decoded
from adaptive.measuring.profiling import Profiler
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.decisions import bundle_hash
from adaptive.outcomes.labelled import list_images
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.routing.live import compare_live
from adaptive.routing.running import Networks, ways_of

POLICIES: dict[str, Callable[[], Policy]] = {
    "every exit": lambda: Cascade(EXITS, thresholds=(0.85, 0.8)),
    "straight to the last": lambda: Fixed(("deep@3",)),
    "one is skipped": lambda: Cascade(("deep@1", "deep@3"), thresholds=(0.85,)),
    "from the second": lambda: Cascade(("deep@2", "deep@3"), thresholds=(0.9,)),
    "downwards": lambda: Cascade(("deep@3", "deep@1"), thresholds=(0.95,)),
    "on agreement, averaged": lambda: Cascade(
        EXITS, thresholds=(0.85, 0.75), signal="agreement", combine="geometric"
    ),
    "among other networks": lambda: Cascade(
        ("cheap", "deep@2", "strong"), thresholds=(0.8, 0.9), signal="agreement"
    ),
}


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exit_candidates(tmp_path_factory.mktemp("exits"))


@pytest.fixture(scope="module")
def table_path(
    candidates: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("table") / "exits.csv"
    profiler = Profiler(Bundle.read(candidates))
    images = list_images(tiny_images, COLOURS, tiny_images / "labels.csv", limit=60)
    assert profiler.profile(images, output) == []
    profiler.close()
    return output


@pytest.fixture(scope="module")
def table(table_path: Path) -> OutcomeTable:
    return OutcomeTable.read(table_path)


# The cost of a path


def cost_plainly(table: OutcomeTable, path: list[str], row: int) -> float:
    """Milliseconds by the words of the documentation."""
    spent, states, answered = 0.0, set(), set()
    for name in path:
        if name in answered:
            continue
        above, way = table.of(name).after, []
        while above is not None and above not in states:
            way.append(above)
            above = table.of(above).after
        for passed in way:
            states.add(passed)
            through = table.of(passed).through
            if through is None:
                answered.add(passed)
                spent += table.of(passed).ms[row]
            else:
                spent += through[row]
        states.add(name)
        answered.add(name)
        spent += table.of(name).ms[row]
    return spent


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    st.sets(st.sampled_from(["net@1", "net@2"])),
    st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_costs_add_up_however_exits_are_asked(
    path: list[str], through: set[str], seed: int
) -> None:
    table = table_of(4, seed, energy=True, through=through)
    expected = [cost_plainly(table, path, row) for row in range(4)]
    np.testing.assert_allclose(table.path_ms(path), expected)
    asked = replay(Cascade(tuple(path), thresholds=(1.0,) * (len(path) - 1)), table)
    np.testing.assert_allclose(asked.ms, expected)
    assert asked.ran.all()
    spent = table.path_mj(path)
    assert spent is not None
    np.testing.assert_allclose(asked.mj, spent)
    # Once its state is there, going on costs the next segment alone.
    np.testing.assert_allclose(
        table.path_ms(("net@1", "net@2")), table.of("net@1").ms + table.of("net@2").ms
    )


def test_what_a_path_costs_by_hand() -> None:
    table = table_of(3, through={"net@1", "net@2"})
    own = {n: table.of(n) for n in NAMES}
    first, second = own["net@1"].through, own["net@2"].through
    np.testing.assert_allclose(table.ms("net@3"), first + second + own["net@3"].ms)
    np.testing.assert_allclose(
        table.path_ms(("net@1", "net@3")), own["net@1"].ms + second + own["net@3"].ms
    )
    np.testing.assert_allclose(
        table.path_ms(("net@3", "net@1")), table.ms("net@3") + own["net@1"].ms
    )
    assert table.path_mj(("net@3",)) is None
    with pytest.raises(InputError, match="'net@4' is not in the outcome table"):
        table.path_ms(("net@4",))


def test_some_of_the_rows_and_a_file_keep_the_times(tmp_path: Path) -> None:
    table = table_of(6, through={"net@1"})
    some = table.select(np.array([4, 1]))
    assert some.of("net@1").through.tolist() == table.of("net@1").through[[4, 1]].tolist()
    assert some.of("net@2").through is None
    meta = {**table.meta, "candidates": [{"name": n, "after": table.of(n).after} for n in NAMES]}
    replace(table, meta=meta, probabilities={}).write(tmp_path / "x.csv")
    read = OutcomeTable.read(tmp_path / "x.csv")
    np.testing.assert_allclose(read.path_ms(("net@3",)), table.path_ms(("net@3",)), atol=1e-4)
    text = (tmp_path / "x.csv").read_text()
    (tmp_path / "x.csv").write_text(text.replace("net@1:through", "net@9:through"))
    with pytest.raises(InputError, match="'net@9:through' belongs to no candidate"):
        OutcomeTable.read(tmp_path / "x.csv")


# Replay and live


def test_profile_measures_the_way_through(table: OutcomeTable, candidates: Path) -> None:
    assert [table.of(n).through is not None for n in table.candidates] == [
        False, False, True, True, False
    ]  # fmt: skip
    assert (table.of("deep@1").through > 0).all()
    entries = {e["name"]: e for e in table.meta["candidates"]}
    by_name = {c.name: c for c in Bundle.read(candidates).candidates}
    assert entries["deep@1"]["through"] == by_name["deep@1"].through.sha256
    assert "through" not in entries["deep@3"]


@pytest.mark.parametrize("name", POLICIES)
def test_live_equals_replay_and_runs_what_it_charges(
    name: str,
    candidates: Path,
    table: OutcomeTable,
    tiny_images: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = POLICIES[name]()
    done = replay(policy, table)
    # A table whose times name the work: each piece has its own power of two.
    specs = {c.name: c.input for c in Bundle.read(candidates).candidates if c.after is None}
    inputs = [*dict.fromkeys(specs.values())]
    pixels = [*dict.fromkeys((spec.size, spec.resize) for spec in inputs)]
    work: list[object] = [*_runs(table), *inputs, *pixels]
    marks: dict[object, float] = {piece: 2.0**i for i, piece in enumerate(work)}
    marked = replay(policy, _marked(table, marks, specs))
    made: list[object] = []
    noted(monkeypatch, "scaled", lambda spec: made.append((spec.size, spec.resize)))
    noted(monkeypatch, "normalised", made.append)
    with Router.load(candidates, policy=policy) as router:
        for row, image in enumerate(table.images):
            made.clear()
            answer = router.classify(tiny_images / image)
            position = int(done.candidate[row])
            assert answer.candidate == policy.candidates[position]
            assert (answer.index == table.label[row]) == done.quality[row]
            ran = set(answer.ms) - {"decode", "total"}
            assert sum(marks[piece] for piece in [*ran, *made]) == marked.ms[row]


def noted(monkeypatch: pytest.MonkeyPatch, name: str, note: Callable[[InputSpec], object]) -> None:
    """Have a step of preprocessing told of."""
    plain = getattr(decoded, name)

    def told(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
        note(spec)
        found: np.ndarray = plain(pixels, spec)
        return found

    monkeypatch.setattr(decoded, name, told)


def _runs(table: OutcomeTable) -> list[str]:
    return [*table.candidates, *(f"{n}:through" for n in table.segments.through)]


def _marked(
    table: OutcomeTable, marks: dict[object, float], specs: dict[str, InputSpec]
) -> OutcomeTable:
    """The table with marks for times; of a network that reads images they are in `ms` too."""
    ones = np.ones(len(table))
    outcomes = {}
    for name, o in table.outcomes.items():
        spec = specs.get(name)
        assert (o.scale is None) == (o.normalise is None) == (spec is None)
        scale = 0.0 if spec is None else marks[spec.size, spec.resize]
        normalise = 0.0 if spec is None else marks[spec]
        outcomes[name] = replace(
            o,
            ms=ones * (marks[name] + scale + normalise),
            through=None
            if o.through is None
            else ones * (marks[f"{name}:through"] + scale + normalise),
            scale=None if spec is None else ones * scale,
            normalise=None if spec is None else ones * normalise,
        )
    return replace(table, outcomes=outcomes)


def test_a_bundle_of_exits_holds_what_it_promises(
    candidates: Path, table: OutcomeTable, tiny_images: Path, tmp_path: Path
) -> None:
    source = Bundle.read(candidates)
    policy = POLICIES["one is skipped"]()
    means = {n: float(o.ms.mean()) for n, o in table.outcomes.items()}
    write_bundle(
        tmp_path / "bundle",
        source,
        policy,
        times=means,
        names=[*EXITS, "strong"],
        through_times={"deep@1": 0.5, "deep@2": 0.25, "strong": 9.0},
    )
    bundle = Bundle.read(tmp_path / "bundle")
    assert bundle.candidate("deep@2").through == replace(
        source.candidate("deep@2").through, ms=0.25
    )
    assert bundle.candidate("deep@3").through is None
    assert compare_live(bundle, table, tiny_images).differences == ()
    networks = Networks.open(bundle, ("deep@3",), 1, ways_of(Fixed(("deep@3",))))
    assert networks.cost("deep@3", "ms") == pytest.approx(0.75 + means["deep@3"], abs=1e-4)
    assert networks.cost("deep@3", "mj") == 6.0
    networks.close()
    whole = Networks(bundle, {})
    assert whole.cost("deep@2", "ms") == pytest.approx(means["deep@1"] + means["deep@2"], abs=1e-4)


# What is opened


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("every exit", {*EXITS}),
        ("straight to the last", {"deep@3", "deep@1:through", "deep@2:through"}),
        ("one is skipped", {"deep@1", "deep@3", "deep@2:through"}),
        ("from the second", {"deep@2", "deep@3", "deep@1:through"}),
        ("downwards", {"deep@1", "deep@3", "deep@1:through", "deep@2:through"}),
        ("among other networks", {"cheap", "strong", "deep@2", "deep@1:through"}),
    ],
)
def test_only_what_the_policy_may_run_is_opened(
    name: str, opened: set[str], candidates: Path
) -> None:
    with Router.load(candidates, policy=POLICIES[name]()) as router:
        assert set(router._networks.engines) == opened
        router.warm_up()


def test_an_audit_has_every_head(candidates: Path, tiny_images: Path) -> None:
    seen: list[Any] = []

    class Observer:
        def observe(self, decision: Any) -> None:
            seen.append(decision)

    policy = Fixed(("deep@3",))
    audit = Audit(1.0)
    with Router.load(candidates, policy=policy, audit=audit, observers=[Observer()]) as router:
        answer = router.classify(tiny_images / "000.png")
    assert {"deep@1:through", "deep@2:through", "deep@3"} < set(answer.ms)
    assert audit.failures == 0
    # The increments of all exits, so that the log can be replayed.
    outcomes = {n: (o.after, o.audit) for n, o in seen[0].outcomes.items()}
    assert outcomes == {
        "deep@1": (None, True),
        "deep@2": ("deep@1", True),
        "deep@3": ("deep@2", False),
        "strong": (None, True),
    }


# Files


def test_bundles_and_tables_from_before_still_work(tiny_images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    exit_candidates(folder, through=False)
    assert "through" not in (folder / "manifest.json").read_text()
    with Router.load(folder, policy=Fixed(("deep@3",))) as router:
        answer = router.classify(tiny_images / "000.png")
    assert set(answer.ms) == {"decode", *EXITS, "total"}


def test_the_manifest_says_what_runs_through(candidates: Path) -> None:
    bundle = Bundle.read(candidates)
    entry = candidate_to_json(bundle.candidate("deep@1"))
    assert set(entry["through"]) == {"file", "sha256", "ms"}
    assert "through" not in candidate_to_json(bundle.candidate("deep@3"))
    # Neither their presence nor their times change what is answered.
    without = tuple(replace(c, through=None) for c in bundle.candidates)
    assert bundle_hash(bundle) == bundle_hash(replace(bundle, candidates=without))
    with pytest.raises(InputError, match=r"through: ms 0 is not above 0"):
        Through("x", "y", 0)


def edited(candidates: Path, folder: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    import shutil

    shutil.copytree(candidates, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(next(e for e in manifest["candidates"] if e["name"] == "deep@1")["through"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": "0" * 64}, "'deep@1.through.onnx' was altered"),
        ({"file": "gone.onnx"}, "'gone.onnx' is not in"),
        ({"file": "../x.onnx"}, "leaves its folder"),
        ({"file": None}, "through has no 'file'"),
        ({"ms": -1.0}, "through: ms -1.0 is not above 0"),
        ({"ms": "fast"}, "'ms' is str 'fast', not a number"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(
    change: dict[str, Any], says: str, candidates: Path, tmp_path: Path
) -> None:
    folder = edited(candidates, tmp_path / "x", lambda through: through.update(change))
    with pytest.raises(BundleError, match=says) as caught:
        Bundle.read(folder)
    assert "\n" not in str(caught.value)


def test_a_way_through_that_reads_something_else_is_refused(
    candidates: Path, tmp_path: Path
) -> None:
    from adaptive.files import sha256

    folder = edited(candidates, tmp_path / "x", lambda through: None)
    segment(folder / "odd.onnx", False, False, True, np.eye(3))
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(e for e in manifest["candidates"] if e["name"] == "deep@1")
    entry["through"] = {"file": "odd.onnx", "sha256": sha256(folder / "odd.onnx")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match=r"odd\.onnx reads inputs of shape"):
        Router.load(folder, policy=Fixed(("deep@2",)))


# Exits among all that is judged


def test_exits_and_networks_are_judged_together() -> None:
    table = table_of(300, through={"net@1", "net@2"})
    judge = chain()
    policies: list[Policy] = [
        Cascade(("net@1", "net@3", "big"), thresholds=(0.6, 0.6), signal="agreement"),
        Cascade(("small", "net@2"), thresholds=(0.6,), combine="geometric"),
        Hybrid(("net@1", "net@2", "big"), judge, thresholds=(0.5, 0.5), start_gain=0.0),
        ByPremodel(("net@1", "net@3"), judge),
    ]
    cascades = (Cascade(("net@1", "net@2"), thresholds=(0.7,)), Fixed(("big",)))
    for policy in policies:
        found = evaluate(policy, table)
        fixed = {row.name: row.ms.value for row in found.fixed}
        assert fixed["always net@3"] == pytest.approx(float(table.ms("net@3").mean()))
        judged = verdict(policy, table, cascades=cascades)
        assert all("\n" not in line for line in judged.words())
        if policy.kind == "premodel":
            # What only runs through the small exit has run it, so nothing is saved.
            assert [(b.small, b.kept, b.saving) for b in judged.break_even] == [("net@1", 1, 0)]


def test_agreement_is_ranked_for_exits(table: OutcomeTable) -> None:
    ranked = signal_table(table)
    with_agreement = {r.candidate for r in ranked.rows if r.signal == "agreement"}
    assert with_agreement == {"deep@2", "deep@3"}
    from adaptive.evaluation.ranking import auc
    from adaptive.policy.signals import agreement

    two = [table.probabilities_of(n).astype(np.float32) for n in ("deep@1", "deep@2")]
    expected = auc(agreement(*two), table.quality("deep@2"))
    row = next(r for r in ranked.rows if (r.candidate, r.signal) == ("deep@2", "agreement"))
    assert row.area == expected
