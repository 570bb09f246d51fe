"""The decision log, audits, and replays of other policies on what was logged."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from adaptive import Bundle, InputError, Limits, Router
from adaptive.bundle.bundle import write_bundle
from adaptive.cli import group
from adaptive.errors import EngineError
from adaptive.features.schema import SCHEMA
from adaptive.monitoring.audit import Audit
from adaptive.monitoring.counterfactual import counterfactual
from adaptive.monitoring.decisions import Decision, DecisionLog, Outcome, bundle_hash, policy_hash
from adaptive.monitoring.drift import Monitor
from adaptive.monitoring.logged import Logged
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.files import write_policy
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.prediction import Prediction
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling
from adaptive.routing.bucket import Bucket
from adaptive.routing.running import Networks
from adaptive.serving.assembly import Endpoint
from adaptive.serving.service import Service

ALL = ("cheap", "strong", "net@1", "net@2")
AVERAGE = Cascade(("cheap", "strong"), thresholds=(0.6,), signal="margin", combine="geometric")


def decision(number: int = 0, audit: str | None = None, agree: bool = True) -> Decision:
    """A made-up decision between ten classes."""
    sure = np.full(10, 0.01, np.float32)
    sure[number % 10] = 0.91
    other = np.roll(sure, 0 if agree else 1)
    answer = Prediction(
        "x", number % 10, 0.91, (("x", 0.91),), "a", ("a",), {"decode": 1.0, "a": 2.0, "total": 3.0}
    )
    return Decision(
        answer, {"a": Outcome(sure, 2.0), "b": Outcome(other, 9.0)}, audit=audit, reference="b"
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


class Seen:
    """An observer that keeps what it is shown."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def observe(self, decision: Decision) -> None:
        self.decisions.append(decision)


def serve_all(bundle: Path, images: Path, table: OutcomeTable, log: Path, **options) -> list:
    with Router.load(bundle, log=log, **options) as router:
        return [router.classify(images / name) for name in table.images]


# The log


def test_line_says_what_was_decided(tiny_bundle: Path, tiny_images: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Router.load(tiny_bundle, audit=Audit(1.0), log=path) as router:
        answer = router.classify(
            tiny_images / "003.png", Limits(remaining_ms=1e6), request_id="r-1"
        )
        expected = (policy_hash(router.policy), bundle_hash(router.bundle))
        assert router.status()["log"] == {"path": str(path), "written": 1, "failures": 0}
    (line,) = lines(path)
    assert line["time"] > 1.6e9
    assert line["request"] == "r-1"
    assert (line["policy"], line["bundle"]) == expected
    assert (line["label"], line["index"]) == (answer.label, answer.index)
    assert line["path"] == list(answer.path)
    assert set(line["outcomes"]) == {"cheap", "strong"}
    assert line["outcomes"]["strong"].get("audit", False) == ("strong" not in answer.path)
    assert line["reference"]["name"] == "strong"
    assert line["reference"]["index"] == line["outcomes"]["strong"]["index"]
    assert line["audit"] == "reference"
    assert line["limits"] == {"remaining_ms": 1e6}
    assert set(line["ms"]) == {"decode", *answer.path, "total", "audit"}


def test_probabilities_are_kept_of_audited_requests_only(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log", clock=lambda: 12.3456) as log:
        log.observe(decision(1))
        log.observe(decision(2, "all"))
    plain, audited = lines(tmp_path / "log")
    assert plain["time"] == 12.346
    assert "probabilities" not in plain["outcomes"]["a"]
    assert "probabilities" in audited["outcomes"]["b"]


def test_threads_never_mix_lines(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log") as log, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.observe(decision(n, "all")), range(400)))
        assert log.written == 400
    assert sorted(line["index"] for line in lines(tmp_path / "log")) == sorted(
        n % 10 for n in range(400)
    )


def test_rotation_keeps_so_many_files_of_that_size(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with DecisionLog(path, max_bytes=2000, keep=3) as log:
        for number in range(60):
            log.observe(replace(decision(number), request_id=str(number)))
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["log", "log.1", "log.2"]
    assert all(p.stat().st_size <= 2000 for p in tmp_path.iterdir())
    kept = [int(d["request"]) for name in ("log.2", "log.1", "log") for d in lines(tmp_path / name)]
    assert kept == list(range(kept[0], 60))


def test_one_file_is_kept_when_asked(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log", max_bytes=900, keep=1) as log:
        for number in range(10):
            log.observe(decision(number))
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
    assert lines(tmp_path / "log")[-1]["index"] == 9


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_full_disk_is_counted_and_logged_once(
    tiny_bundle: Path, tiny_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DecisionLog("/dev/full") as log, Router.load(tiny_bundle, observers=[log]) as router:
        for _ in range(3):
            assert router.classify(tiny_images / "000.png").label is not None
        assert (log.written, log.failures) == (0, 3)
    assert caplog.text.count("cannot be written") == 1
    assert "No space left" in caplog.text


def test_half_a_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"format": 1, "ti')
    with DecisionLog(path) as log:
        log.observe(decision(3, "reference"))
    logged = Logged.read(path)
    assert (logged.decisions, logged.unreadable) == (1, 1)


def test_second_writer_is_refused(tmp_path: Path) -> None:
    first = DecisionLog(tmp_path / "log")
    with pytest.raises(InputError, match="another process writes to it"):
        DecisionLog(tmp_path / "log")
    first.close()
    with pytest.raises(InputError, match="cannot be opened: No such file"):
        DecisionLog(tmp_path / "no" / "log")


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    odd = decision(1)
    odd = replace(odd, outcomes={"a": Outcome(np.array([np.nan, 0.5]), 1.0)})
    with DecisionLog(tmp_path / "log") as log:
        log.observe(odd)
    assert lines(tmp_path / "log")[0]["outcomes"]["a"]["confidence"] is None


def test_failing_observer_does_not_hurt_the_answer(
    tiny_bundle: Path, tiny_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def observe(self, decision: Decision) -> None:
            raise RuntimeError("broken")

    seen = Seen()
    with Router.load(tiny_bundle, observers=[Broken(), seen]) as router:
        for _ in range(2):
            assert router.classify(tiny_images / "000.png").label is not None
    assert len(seen.decisions) == 2
    assert caplog.text.count("failed on a decision") == 1


# Audits


def test_audits_change_no_answer(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    def answers(audit: Audit | None) -> list:
        with Router.load(tiny_bundle, audit=audit) as router:
            return [router.classify(tiny_images / name) for name in tiny_table.images]

    plain, audited = answers(None), answers(Audit(0.5, "all"))
    assert [(a.label, a.path, a.top5) for a in plain] == [
        (a.label, a.path, a.top5) for a in audited
    ]
    times = [a.ms for a in audited if "audit" in a.ms]
    assert 25 <= len(times) <= 65
    for ms in times:
        parts = {step: v for step, v in ms.items() if step not in ("audit", "total")}
        assert ms["total"] >= sum(parts.values()) * 0.999


def test_audit_counts_what_the_reference_answers(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    audit, seen, monitor = Audit(1.0), Seen(), Monitor(0.5)
    with Router.load(tiny_bundle, audit=audit, observers=[seen, monitor]) as router:
        for name in tiny_table.images:
            router.classify(tiny_images / name)
        router.classify_batch([tiny_images / n for n in tiny_table.images[:10]], batch=4)
        assert router.drift is monitor
        assert router.status()["drift"]["audits"] == 100
    served = [d.prediction.index for d in seen.decisions]
    with Router.load(tiny_bundle, policy=Fixed(("strong",))) as router:
        strong = [router.classify(tiny_images / n).index for n in tiny_table.images]
    strong += strong[:10]
    expected = sum(a != b for a, b in zip(served, strong))
    assert expected > 0
    assert audit.status()["disagreements"] == monitor.disagreements == expected
    assert audit.status()["audited"] == 100


def test_unaudited_requests_tell_nothing_about_disagreement(
    tiny_bundle: Path, tiny_images: Path
) -> None:
    seen, monitor = Seen(), Monitor(0.5)
    policy = Fixed(("strong",))
    with Router.load(tiny_bundle, policy=policy, observers=[seen, monitor]) as router:
        router.classify(tiny_images / "000.png")
    assert "strong" in seen.decisions[0].outcomes
    assert seen.decisions[0].disagrees is None
    assert monitor.audits == 0


def test_audit_runs_a_reference_that_the_policy_never_asks(
    tiny_bundle: Path, tiny_images: Path
) -> None:
    seen = Seen()
    with Router.load(
        tiny_bundle, policy=Fixed(("cheap",)), audit=Audit(1.0), observers=[seen]
    ) as router:
        router.warm_up()
        assert router.classify(tiny_images / "000.png").path == ("cheap",)
    assert seen.decisions[0].outcomes["strong"].audit
    assert not seen.decisions[0].outcomes["cheap"].audit


def test_chosen_requests_follow_from_seed_and_number_alone() -> None:
    def chosen(seed: int, share: float) -> list[bool]:
        audit = Audit(share, seed=seed)
        return [audit.wants() for _ in range(4000)]

    assert chosen(1, 0.1) == chosen(1, 0.1)
    assert chosen(1, 0.1) != chosen(2, 0.1)
    assert abs(sum(chosen(1, 0.1)) - 400) < 80
    assert sum(chosen(0, 0.0)) == 0
    assert sum(chosen(0, 1.0)) == 4000


def test_failing_audit_does_not_hurt_the_answer(
    tiny_bundle: Path, tiny_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit, seen = Audit(1.0), Seen()
    bundle = Bundle.read(tiny_bundle)
    with Router.load(tiny_bundle, policy=Fixed(("cheap",))) as working:
        engines = {**working._networks.engines, "strong": Failing()}
        router = Router(bundle, engines, Fixed(("cheap",)), audit=audit, observers=[seen])
        for _ in range(2):
            assert router.classify(tiny_images / "000.png").label is not None
    assert audit.status()["failures"] == 2
    assert audit.status()["audited"] == 0
    assert seen.decisions[0].disagrees is None
    assert caplog.text.count("an audit failed") == 1


class Failing:
    """An engine that refuses images whose first pixel it does not like; all when left out."""

    def __init__(self, engine=None, disliked=None) -> None:
        self.engine, self.disliked = engine, disliked

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        if self.disliked is None or (inputs[0][:, 0, 0, 0] == self.disliked).any():
            raise EngineError("out of memory")
        return self.engine.run(*inputs)

    def close(self) -> None: ...


def plain(value: int) -> np.ndarray:
    return np.full((40, 48, 3), value, np.uint8)


@pytest.mark.parametrize("batch", [False, True])
def test_audit_that_fails_counts_nothing_where_the_reference_had_run(
    batch: bool, tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    # The reference runs where the image is hard, and then the audit's other networks fail.
    policy = Cascade(("cheap", "strong"), thresholds=(0.9,))
    audit, seen, monitor = Audit(1.0, "all"), Seen(), Monitor(0.5)
    opened = Networks.open(Bundle.read(tiny_candidates), ALL, 1)
    engines = {**opened.engines, "net@2": Failing()}
    images = [tiny_images / name for name in tiny_table.images]
    with Router(opened.bundle, engines, policy, audit=audit, observers=[seen, monitor]) as router:
        if batch:
            answers = router.classify_batch(images)
        else:
            answers = [router.classify(image) for image in images]
    assert {a.path for a in answers} == {("cheap",), ("cheap", "strong")}
    status = audit.status()
    assert (status["audited"], status["disagreements"]) == (0, 0)
    assert status["failures"] == status["requests"] == len(images)
    assert monitor.audits == 0
    for decision in seen.decisions:
        assert decision.audit is None
        assert decision.disagrees is None
        assert tuple(decision.outcomes) == decision.prediction.path
        assert decision.to_json()["reference"] is None


def test_image_that_breaks_an_audit_breaks_no_other_one(tiny_candidates: Path) -> None:
    audit, seen = Audit(1.0, "all"), Seen()
    opened = Networks.open(Bundle.read(tiny_candidates), ALL, 1)
    engines = {**opened.engines, "net@1": Failing(opened.engines["net@1"], 13)}
    with Router(opened.bundle, engines, Fixed(("cheap",)), audit=audit, observers=[seen]) as router:
        router.classify_batch([plain(11), plain(12), plain(13), plain(14)])
    assert (audit.status()["audited"], audit.status()["failures"]) == (3, 1)
    assert [d.audit for d in seen.decisions] == ["all", "all", None, "all"]
    assert all("audit" in d.prediction.ms for d in seen.decisions)


# Drift is about the policy as it was calibrated, and not about what requests allow

CHECKED = {
    "cascade": lambda: Cascade(
        ("cheap", "strong"), None, (1e-6, 1e6), (1e-6, 50.0), thresholds=(0.9,)
    ),
    "averages": lambda: replace(AVERAGE, upper_ms=(1e-6, 1e6), costs_ms=(1e-6, 50.0)),
    "utility": lambda: ByPremodel(
        ("cheap", "strong"),
        two_chances(),
        (1e-6, 1e6),
        (1e-6, 50.0),
        rule="utility",
        price=0.004,
    ),
    "may abstain": lambda: ByPremodel(
        ("cheap", "strong"), two_chances(), (1e-6, 1e6), on_abstain="abstain"
    ),
    "hybrid": lambda: Hybrid(
        ("cheap", "strong"),
        two_chances(),
        (1e-6, 1e6),
        (1e-6, 50.0),
        thresholds=(0.8,),
        shift=0.5,
        start_gain=0.2,
    ),
}


def two_chances() -> KNNChain:
    draw = np.random.default_rng(2)
    scaling = Scaling("standard", np.ones(2), np.array([60.0, 0.1]))
    table = scaling.grid(draw.normal(size=(40, 2)) + np.array([60.0, 0.1]))
    names = ["cheap", "strong"]
    outcomes = draw.integers(0, 2, (40, 2))
    features = ["contrast", "avg_perceived_brightness"]
    return KNNChain.from_arrays(features, names, scaling, table, outcomes, 3, SCHEMA.version)


@pytest.mark.parametrize("how", ["fast", "accurate", "deadline", "bucket", "batch", "energy"])
@pytest.mark.parametrize("kind", CHECKED)
def test_limits_neither_raise_nor_silence_the_alarm(
    kind: str, how: str, tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    limits = {
        "fast": Limits(preference=-1.0),
        "accurate": Limits(preference=1.0),
        "deadline": Limits(remaining_ms=5e5),
        "batch": Limits(np.where(np.arange(90) % 2, 5e5, 0.0), preference=-0.5),
        "energy": Limits(remaining_mj=3.0),
    }.get(how, Limits())
    images = [tiny_images / name for name in tiny_table.images]
    policy = replace(CHECKED[kind](), costs_mj=(1.0, 9.0))
    with Router.load(tiny_bundle, policy=policy) as router:
        own = [router.classify(image).index for image in images]
    with Router.load(tiny_bundle, policy=Fixed(("strong",))) as router:
        strong = [router.classify(image).index for image in images]
    bucket = None
    if how == "bucket":
        bucket = Bucket(3.0, 4.0, unit="mj")  # which never pays for the strong one
    audit, seen, monitor = Audit(1.0), Seen(), Monitor(0.5)
    with Router.load(
        tiny_bundle, policy=policy, audit=audit, observers=[seen, monitor], bucket=bucket
    ) as router:
        if how == "batch":
            served = [a.index for a in router.classify_batch(images, limits, batch=16)]
        else:
            served = [router.classify(image, limits).index for image in images]
    assert monitor.audits == len(images)
    assert monitor.disagreements == sum(a != b for a, b in zip(own, strong))
    # What was served is still told as it was.
    assert audit.status()["disagreements"] == sum(a != b for a, b in zip(served, strong))
    assert [d.prediction.index for d in seen.decisions] == served


def test_limits_do_change_what_is_served_there(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    """Else the test before would hold of a monitor that looks at what is served."""
    images = [tiny_images / name for name in tiny_table.images]
    with Router.load(tiny_bundle, policy=CHECKED["cascade"]()) as router:
        own = [router.classify(image).index for image in images]
        fast = [router.classify(image, Limits(preference=-1.0)).index for image in images]
        late = [router.classify(image, Limits(remaining_ms=5e5)).index for image in images]
    assert own != fast
    assert own != late


def test_limits_that_change_nothing_cost_an_audit_nothing(
    tiny_candidates: Path, tiny_images: Path
) -> None:
    seen = Seen()
    policy = Cascade(("cheap", "net@1", "strong"), None, (1e-6, 1e6, 1e6), thresholds=(1.0, 1.0))
    with Router.load(tiny_candidates, policy=policy, audit=Audit(1.0), observers=[seen]) as router:
        router.classify(tiny_images / "000.png", Limits(remaining_ms=1e9))
        router.classify(tiny_images / "000.png", Limits(remaining_ms=5e5))
    whole, cut = seen.decisions
    assert not whole.limited
    assert not any(outcome.audit for outcome in whole.outcomes.values())
    assert cut.limited
    assert cut.prediction.path == ("cheap",)
    assert {n for n, outcome in cut.outcomes.items() if outcome.audit} == {"net@1", "strong"}


def test_draw_that_a_deadline_overruled_is_the_one_that_counts(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    policy = Random(("cheap", "strong"), seed=4, upper_ms=(1e-6, 1e6))
    draws = Random(("cheap", "strong"), seed=4).start(None, 40, Limits())
    seen = Seen()
    with Router.load(tiny_bundle, policy=policy, audit=Audit(1.0), observers=[seen]) as router:
        images = [tiny_images / name for name in tiny_table.images[:40]]
        for image in images:
            router.classify(image, Limits(remaining_ms=5e5))
        every = {}
        for name in ("cheap", "strong"):
            with Router.load(tiny_bundle, policy=Fixed((name,))) as alone:
                every[name] = [alone.classify(image).index for image in images]
    assert {d.prediction.candidate for d in seen.decisions} == {"cheap"}
    expected = [every[("cheap", "strong")[draw]][i] for i, draw in enumerate(draws)]
    assert [d.departs for d in seen.decisions] == [
        own != strong for own, strong in zip(expected, every["strong"])
    ]


def test_bad_audits_are_refused(tiny_candidates: Path) -> None:
    with pytest.raises(InputError, match="not between 0 and 1"):
        Audit(1.5)
    with pytest.raises(InputError, match="not one of"):
        Audit(0.5, "some")
    with pytest.raises(InputError, match="names no reference"):
        Audit(0.5).names(replace(Bundle.read(tiny_candidates), reference=None))


def test_certificate_that_counts_disagreements_is_watched(
    tiny_candidates: Path, tmp_path: Path
) -> None:
    write_bundle(
        tmp_path / "b",
        Bundle.read(tiny_candidates),
        Fixed(("cheap",)),
        {"images": 500, "disagreements": 50},
        names=["cheap", "strong"],
    )
    with Router.load(tmp_path / "b", audit=Audit(0.1)) as router:
        assert router.drift is not None
        assert 0.1 < router.drift.bound < 0.15
    with Router.load(tmp_path / "b", policy=Fixed(("strong",)), audit=Audit(0.1)) as router:
        assert router.drift is None  # the certificate is about another policy


# Replays on a log


@pytest.fixture(scope="module")
def full_log(tiny_candidates, tiny_images, tiny_table, tmp_path_factory) -> Path:
    """Everything audited with every candidate, exits among them."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    policy = Cascade(("cheap", "strong"), thresholds=(0.9,))
    serve_all(
        tiny_candidates, tiny_images, tiny_table, path, policy=policy, audit=Audit(1.0, "all")
    )
    return path


@pytest.mark.parametrize(
    "policy",
    [
        Fixed(("cheap",)),
        AVERAGE,
        Cascade(("strong", "cheap"), thresholds=(0.99,)),
        Cascade(("net@1", "net@2", "strong"), thresholds=(0.8, 0.8), combine="arithmetic"),
    ],
)
def test_replay_on_a_log_is_what_serving_would_have_done(
    policy: Cascade,
    full_log: Path,
    tiny_candidates: Path,
    tiny_images: Path,
    tiny_table: OutcomeTable,
) -> None:
    found = counterfactual(policy, Logged.read(full_log))
    assert found.complete
    assert found.rows == found.usable == len(tiny_table)
    with Router.load(tiny_candidates, policy=policy) as router:
        live = [router.classify(tiny_images / name) for name in tiny_table.images]
    strong = [line["reference"]["index"] for line in lines(full_log)]
    # The log keeps probabilities in 16 bits, so one near-tie may fall the other way.
    agreement = np.mean([a.index == s for a, s in zip(live, strong)])
    assert found.agreement.value == pytest.approx(agreement, abs=0.012)
    for name, share in found.shares.items():
        assert share.value == pytest.approx(np.mean([a.candidate == name for a in live]), abs=0.012)
    assert found.agreement.low <= found.agreement.value <= found.agreement.high
    assert found.ms is not None
    assert found.ms.value > 0


def test_replay_of_what_was_served_agrees_with_it(full_log: Path) -> None:
    found = counterfactual(Cascade(("cheap", "strong"), thresholds=(0.9,)), Logged.read(full_log))
    assert found.agreement.value == found.served_agreement.value
    assert found.gain is not None
    assert found.gain.value == 0
    assert found.ms is not None
    assert found.ms.value == pytest.approx(found.served_ms.value, abs=1e-3)


def test_reference_audits_give_bounds_that_hold(
    tiny_candidates: Path,
    tiny_images: Path,
    tiny_table: OutcomeTable,
    full_log: Path,
    tmp_path: Path,
) -> None:
    # The served policy seldom asks the candidates that the other one needs.
    path = tmp_path / "log.jsonl"
    served = Cascade(("net@1", "cheap"), thresholds=(0.5,))
    serve_all(tiny_candidates, tiny_images, tiny_table, path, policy=served, audit=Audit(1.0))
    other = Cascade(("cheap", "strong"), thresholds=(0.9,))
    found = counterfactual(other, Logged.read(path))
    truth = counterfactual(other, Logged.read(full_log))
    assert 0 < found.usable < found.rows
    assert found.gain is None
    assert found.agreement.low <= truth.agreement.value <= found.agreement.high
    for name, share in truth.shares.items():
        assert found.shares[name].low <= share.value <= found.shares[name].high
    assert "No single number would be unbiased" in found.text()


def test_unaudited_rows_are_left_out(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    serve_all(tiny_bundle, tiny_images, tiny_table, path, audit=Audit(0.3, "all", seed=4))
    logged = Logged.read(path)
    assert logged.decisions == 90
    assert logged.audited == {"all": len(logged.rows)}
    assert 10 < len(logged.rows) < 50
    found = counterfactual(Fixed(("strong",)), logged)
    assert found.complete
    assert found.agreement.value == 1.0


def test_audits_of_all_are_preferred_to_a_mixture(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log") as log:
        for number in range(6):
            log.observe(decision(number, "all" if number < 2 else "reference"))
    logged = Logged.read(tmp_path / "log")
    assert (logged.scope, len(logged.rows)) == ("all", 2)
    assert "left out: 4 audits" in counterfactual(Fixed(("a",)), logged).text()


def test_failed_audits_widen_the_bounds(tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log") as log:
        for number in range(8):
            made = decision(number, "all")
            if number == 0:
                made = replace(made, outcomes={"a": made.outcomes["a"]})
            log.observe(made)
    found = counterfactual(Fixed(("a",)), Logged.read(tmp_path / "log"))
    assert (found.usable, found.rows) == (7, 8)
    assert (found.agreement.low, found.agreement.high) == (7 / 8, 1.0)


def test_replaying_a_policy_that_abstains_counts_its_best_guesses(
    tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    plain = Cascade(("cheap", "strong"), thresholds=(0.9,))
    unsure = Cascade(("cheap", "strong"), thresholds=(0.9,), abstain_below=1.0)
    bundle = tmp_path / "bundle"
    write_bundle(bundle, Bundle.read(tiny_candidates), unsure)
    log = tmp_path / "log.jsonl"
    serve_all(bundle, tiny_images, tiny_table, log, audit=Audit(1.0, "all"))
    unanswered = [line for line in lines(log) if line["index"] is None]
    assert unanswered
    assert all(line["guess"] is not None for line in unanswered)
    logged = Logged.read(log, Bundle.read(bundle))
    found, expected = counterfactual(unsure, logged), counterfactual(plain, logged)
    assert found.shares["no answer"].value == len(unanswered) / found.rows
    assert found.agreement == expected.agreement
    assert found.served_agreement == expected.agreement
    assert 0 < found.agreement.value < 1


def test_hybrid_is_replayed_where_features_were_logged(
    tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    names = SCHEMA.names[:2]
    scaling = Scaling("standard", np.ones(2), np.zeros(2))
    grid = scaling.grid(np.random.default_rng(0).normal(size=(20, 2)))
    outcomes = np.random.default_rng(1).integers(0, 2, (20, 2))
    premodel = KNNChain.from_arrays(
        names, ("cheap", "strong"), scaling, grid, outcomes, 5, SCHEMA.version
    )
    hybrid = Hybrid(("cheap", "strong"), premodel, thresholds=(0.9,), shift=0.2)
    bundle = tmp_path / "bundle"
    write_bundle(bundle, Bundle.read(tiny_candidates), hybrid, names=["cheap", "strong"])
    log = tmp_path / "log.jsonl"
    plain = Cascade(("cheap", "strong"), thresholds=(0.9,))
    serve_all(bundle, tiny_images, tiny_table, log, policy=plain, audit=Audit(1.0, "all"))
    read = Bundle.read(bundle)
    found = counterfactual(read.policy, Logged.read(log, read))
    assert found.complete
    line = lines(log)[0]
    assert set(line["features"]) == set(names)
    assert "features" not in line["ms"]
    assert line["features_ms"] > 0

    bare = tmp_path / "bare.jsonl"
    serve_all(bundle, tiny_images, tiny_table, bare, policy=plain, audit=Audit(1.0))
    with pytest.raises(InputError, match="no audited decision holds the features"):
        counterfactual(read.policy, Logged.read(bare, read))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no audited decision"),
        ("[1]\nnull\n{}\n\x00\n", "4 lines that cannot be read"),
        ('{"format": 7}\n', "reads up to 1"),
    ],
)
def test_bad_log_is_one_sentence(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(InputError, match=says):
        Logged.read(tmp_path / "log")


def test_damaged_rows_are_left_out_and_counted(full_log: Path, tmp_path: Path) -> None:
    good = full_log.read_text().splitlines()
    row = json.loads(good[0])
    bad = [
        {**row, "outcomes": {"cheap": {"index": -1, "confidence": 0.5, "ms": 1}}},
        {**row, "outcomes": {"cheap": {"index": 1, "confidence": "x", "ms": 1}}},
        {**row, "outcomes": 3},
        {**row, "reference": {"name": "strong"}},
        {**row, "ms": {"cheap": "fast"}},
        {**row, "features": {"a": []}},
    ]
    text = "\n".join([*good, *map(json.dumps, bad), '{"format":1,"index":NaN', good[0][:100]])
    (tmp_path / "log").write_text(text)
    logged = Logged.read(tmp_path / "log")
    assert (len(logged.rows), logged.unreadable) == (90, 8)


def test_log_of_several_bundles_asks_which(full_log: Path, tmp_path: Path) -> None:
    good = full_log.read_text().splitlines()
    other = json.dumps({**json.loads(good[0]), "bundle": "0" * 16})
    (tmp_path / "log").write_text("\n".join([*good, other]))
    with pytest.raises(InputError, match="name the one that you mean with --bundle"):
        Logged.read(tmp_path / "log")


# The commands


def test_replay_command(full_log: Path, tiny_candidates: Path, tmp_path: Path) -> None:
    write_policy(AVERAGE, tmp_path / "policy.json")
    arguments = ["replay", str(full_log), "--policy", str(tmp_path / "policy.json")]
    done = CliRunner().invoke(group, [*arguments, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    assert "usable: 90 of 90 audited rows (100.00 %)" in done.output
    assert "agrees with strong" in done.output
    assert json.loads((tmp_path / "out.json").read_text())["unbiased"] is True
    again = CliRunner().invoke(group, [*arguments, "--json", str(tmp_path / "out.json")])
    assert isinstance(again.exception, InputError)
    named = CliRunner().invoke(
        group,
        ["replay", str(full_log), "--policy", "fixed:net@2", "--bundle", str(tiny_candidates)],
    )
    assert named.exit_code == 0, named.output


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("fixed:resnet", "'resnet' is not in the log's audited decisions; it has"),
        ("nothing.json", "neither a file nor fixed:NAME"),
    ],
)
def test_replay_command_names_what_is_missing(policy: str, says: str, full_log: Path) -> None:
    done = CliRunner().invoke(group, ["replay", str(full_log), "--policy", policy])
    assert isinstance(done.exception, InputError)
    assert says in str(done.exception)


def test_replay_command_ends_with_1_on_omissions(full_log: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(full_log.read_text() + '{"cut": ')
    done = CliRunner().invoke(group, ["replay", str(tmp_path / "log"), "--policy", "fixed:cheap"])
    assert done.exit_code == 1
    assert "left out: 1 lines that cannot be read" in done.output


def test_serve_command_hands_its_flags_on(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Cascade(("cheap", "strong"), thresholds=(0.9,), costs_ms=(0.1, 1.0))
    certificate = {"images": 100, "disagreements": 5}
    write_bundle(tmp_path / "b", Bundle.read(tiny_candidates), own, certificate)
    log = tmp_path / "log.jsonl"

    def serve(service: Service, endpoint: Endpoint, name: str) -> None:
        for row in range(5):
            assert service.classify((tiny_images / f"{row:03}.png").read_bytes()).label

    monkeypatch.setattr("adaptive.serving.assembly.serve_service", serve)
    arguments = ["serve", str(tmp_path / "b"), "--log", str(log), "--budget-ms", "5"]
    done = CliRunner().invoke(group, [*arguments, "--audit-share", "1", "--audit", "all"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert [line["audit"] for line in lines(log)] == ["all"] * 5
    assert json.loads((tmp_path / "log.jsonl.drift.json").read_text())["audits"] == 5
    both = CliRunner().invoke(group, [*arguments, "--budget-mj", "5"])
    assert "give one of" in str(both.exception)
