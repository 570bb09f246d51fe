"""What a server's own cameras saw, as an outcome table to tune on again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from lights import DAY, EVENING, candidates, frames
from served import in_a_thread

from adaptive import Bundle, InputError, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.cli import group
from adaptive.client.client import Client
from adaptive.evaluation.replay import replay
from adaptive.features.schema import SCHEMA
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.audited_table import AuditedTable
from adaptive.monitoring.decisions import DecisionLog
from adaptive.monitoring.logged import Logged
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.routing.generation import Settings
from adaptive.serving.assembly import Endpoint, assemble
from adaptive.serving.service import Service

ALL = ("cheap", "strong", "net@1", "net@2")
NAMES = SCHEMA.names[:2]


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(group, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def logged_images(tiny_candidates, tiny_images, tiny_table, tmp_path_factory) -> Path:
    """Every tiny image in a log, audited with every candidate and two features."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    draw = np.random.default_rng(0)
    grid, outcomes = scaling.grid(draw.normal(size=(20, 2))), draw.integers(0, 2, (20, 2))
    names = ("cheap", "strong")
    premodel = KNNChain.from_arrays(NAMES, names, scaling, grid, outcomes, 5, SCHEMA.version)
    policy = ByPremodel(names, premodel)
    audit = Audit(1.0, "all")
    with Router.load(tiny_candidates, policy=policy, audit=audit, log=path) as router:
        for name in tiny_table.images:
            router.classify(tiny_images / name)
    return path


def changed(log: Path, target: Path, change) -> Path:
    """The log with every line changed by `change(number, line)`; None takes a line out."""
    values = [json.loads(line) for line in log.read_text().splitlines()]
    kept = [change(number, line) for number, line in enumerate(values)]
    target.write_text("".join(json.dumps(line) + "\n" for line in kept if line is not None))
    return target


def test_table_is_the_profile_with_the_reference_as_the_label(
    logged_images: Path, tiny_candidates: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    """The same images, once profiled on a disk and once served: the same answers."""
    said = run("outcomes", logged_images, "-o", tmp_path / "x.csv", "--bundle", tiny_candidates)
    assert "90 audited requests, 4 candidates" in said
    table = OutcomeTable.read(tmp_path / "x.csv")
    assert table.quality_name == "agreement"
    assert table.candidates == ALL
    assert table.features == NAMES
    reference = tiny_table.probabilities_of("strong").argmax(axis=1)
    assert np.array_equal(table.label, reference)
    for name in ALL:
        said_there = tiny_table.probabilities_of(name)
        assert np.array_equal(table.quality(name), said_there.argmax(axis=1) == reference)
        assert np.array_equal(table.probabilities_of(name), said_there)
        assert np.allclose(table.of(name).confidence, tiny_table.of(name).confidence, atol=1e-6)
        assert (table.of(name).ms > 0).all()
    assert np.allclose(table.X, tiny_table.feature_columns(NAMES), rtol=1e-6)
    assert (table.decode_ms > 0).all()
    assert (table.features_ms > 0).all()
    assert table.segments.steps(("net@2",)) == tiny_table.segments.steps(("net@2",))
    # An average of answers is judged by its class.
    average = Cascade(("cheap", "strong"), thresholds=(1.0,), combine="arithmetic")
    mean = sum(tiny_table.probabilities_of(n).astype(float) for n in ("cheap", "strong"))
    agrees = mean.argmax(axis=1) == reference
    assert replay(average, table).quality.mean() == pytest.approx(agrees.mean(), abs=0.03)


def test_premodel_is_trained_on_what_was_seen(logged_images: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training needs scikit-learn")

    def timed(_: int, line: dict) -> dict:  # as networks of different size would be
        for name, ms in (("cheap", 1.0), ("strong", 9.0), ("net@1", 2.0), ("net@2", 3.0)):
            line["outcomes"][name]["ms"] = ms
        return line

    log = changed(logged_images, tmp_path / "log", timed)
    run("outcomes", log, "-o", tmp_path / "x.csv")
    run("train", tmp_path / "x.csv", "-o", tmp_path / "premodel", "--features", ",".join(NAMES))
    about = json.loads((tmp_path / "premodel" / "premodel.json").read_text())
    assert about["schema_version"] == SCHEMA.version


def test_lines_that_are_there_twice_count_once(logged_images: Path, tmp_path: Path) -> None:
    """A shell's log* names LOG and LOG.1, and LOG alone reads both."""
    older, newer = tmp_path / "log.1", tmp_path / "log"
    changed(logged_images, older, lambda number, line: line if number < 40 else None)
    changed(logged_images, newer, lambda number, line: line if number >= 40 else None)
    said = run("outcomes", newer, older, "-o", tmp_path / "x.csv")
    assert "90 audited requests" in said
    assert "40 lines that are there twice count once" in said


def test_newest_requests_alone(logged_images: Path, tmp_path: Path) -> None:
    log = changed(logged_images, tmp_path / "log", lambda n, line: {**line, "time": 1000.0 - n})
    whole = AuditedTable.of(Logged.read(log)).table
    few = AuditedTable.of(Logged.read(log), newest=10)
    assert few.table.images == whole.images[-10:]
    assert few.table.meta["requests"] == {"audited": 10, "first": 991.0, "last": 1000.0}
    assert few.notes == ("the newest 10 of 90 audited requests are taken",)


def test_what_lacks_something_is_left_out_and_listed(logged_images: Path, tmp_path: Path) -> None:
    def damage(number: int, line: dict) -> dict:
        if number == 3:
            del line["outcomes"]["net@2"]
        if number in (4, 5):
            line["features"] = None
        if number == 6:
            line["outcomes"]["cheap"]["ms"] = 0.0
        if number == 7:
            line["audit"] = "reference"
        if number == 8:
            line["outcomes"]["cheap"]["together"] = 4
        return line

    log = changed(logged_images, tmp_path / "log", damage)
    log.write_text(log.read_text() + '{"cut": ')
    said = run("outcomes", log, "-o", tmp_path / "x.csv", code=1)
    for line in (
        "85 audited requests",
        "left out: 1 lines that cannot be read",
        "left out: 1 audits that ran only the reference",
        "left out: 1 requests that lack the answer of a candidate",
        "left out: 1 requests that lack the time of a candidate",
        "left out: 2 requests that lack features that the newest request has",
        "note: 1 of 85 requests ran together with others, and their times are shares",
    ):
        assert line in said
    assert len(OutcomeTable.read(tmp_path / "x.csv")) == 85


def test_features_of_another_schema_are_not_taken(logged_images: Path, tmp_path: Path) -> None:
    log = changed(logged_images, tmp_path / "log", lambda _, line: {**line, "schema": 999})
    made = AuditedTable.of(Logged.read(log))
    assert made.table.features == ()
    assert "under schema 999" in made.notes[0]


def test_log_without_probabilities_serves_confidence_alone(
    logged_images: Path, tmp_path: Path
) -> None:
    def without(_: int, line: dict) -> dict:
        for outcome in line["outcomes"].values():
            del outcome["probabilities"]
        return line

    (tmp_path / "x.probs").mkdir()
    (tmp_path / "x.probs" / "cheap.npy").write_bytes(b"of the table that was here before")
    log = changed(logged_images, tmp_path / "log", without)
    run("outcomes", log, "-o", tmp_path / "x.csv")
    table = OutcomeTable.read(tmp_path / "x.csv")
    assert not table.probabilities
    assert table.of("cheap").top5 is None


def test_audits_of_the_reference_alone_make_no_table(
    tiny_bundle: Path, tiny_images: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with Router.load(tiny_bundle, audit=Audit(1.0), log=log) as router:
        router.classify(tiny_images / "003.png")
    done = CliRunner().invoke(group, ["outcomes", str(log), "-o", str(tmp_path / "x.csv")])
    assert isinstance(done.exception, InputError)
    assert "serve with --audit all" in str(done.exception)
    assert not (tmp_path / "x.csv").exists()


# A camera whose light changes


@pytest.mark.slow
def test_camera_whose_light_changes_is_tuned_again_on_what_it_saw(tmp_path: Path) -> None:
    """Serve with audits, outcomes, tune, bundle, reload: twice, by day and in the evening."""
    folder, log, bundle = candidates(tmp_path / "candidates"), tmp_path / "log", tmp_path / "bundle"
    write_bundle(bundle, Bundle.read(folder), Fixed(("slow",)))  # nothing is known yet

    def tuned_again(name: str, newest: int) -> Path:
        table, policy = tmp_path / f"{name}.csv", tmp_path / f"{name}-policy.json"
        promise = tmp_path / f"{name}-promise.json"
        run("outcomes", log, "-o", table, "--bundle", bundle, "--newest", newest)
        said = run(
            *("tune", table, "-o", policy, "--certificate", promise),
            *("--max-accuracy-drop", "0.05", "--split", "0.5,0.5,0"),
        )
        assert "the answer differs from slow's on at most 5% of images like them" in said
        run(
            *("bundle", "--candidates", folder, "--policy", policy, "--certificate", promise),
            *("--table", table, "-o", bundle, "--all-candidates", "--force"),
        )
        return policy

    with DecisionLog(log) as decisions, Service(
        bundle, Settings(audit=Audit(1.0, "all"), observers=(decisions,))
    ) as service:
        service.warm_up()
        service.ready.problem = None
        with in_a_thread(assemble(service, Endpoint(port=0))) as server, Client(
            f"http://127.0.0.1:{server.port}"
        ) as client:

            def served(light: tuple[float, float, float], count: int, seed: int) -> list[dict]:
                for image in frames(light, count, seed)[0]:
                    client.classify(image)
                lines = log.read_text().splitlines()[-count:]
                return [json.loads(line) for line in lines]

            served(DAY, 800, 1)
            by_day = tuned_again("day", 800)
            client.reload()
            day = served(DAY, 300, 2)
            assert differing(day) <= 0.05
            assert slow_share(day) < 0.5
            monitor = service.generation.router.drift
            assert not monitor.alarm

            evening = served(EVENING, 500, 3)
            assert differing(evening) > 0.08
            for seed in range(5, 9):  # how soon is a matter of the policy, and that of the times
                if not monitor.alarm:
                    served(EVENING, 300, seed)
            assert monitor.alarm

            in_the_evening = tuned_again("evening", 500)
            assert in_the_evening.read_text() != by_day.read_text()
            client.reload()
            later = served(EVENING, 300, 4)
            assert differing(later) <= 0.05
            assert slow_share(later) < 1
            assert not service.generation.router.drift.alarm


def differing(lines: list[dict]) -> float:
    """Share of the answers that are not the reference's."""
    return float(np.mean([line["index"] != line["reference"]["index"] for line in lines]))


def slow_share(lines: list[dict]) -> float:
    """Share of the answers for which the slow network was asked."""
    return float(np.mean(["slow" in line["path"] for line in lines]))
