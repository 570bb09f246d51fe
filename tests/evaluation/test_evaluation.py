from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome_tables import NAMES, chain, table_of

from adaptive import Bundle, InputError
from adaptive.bundle.bundle import write_bundle
from adaptive.evaluation.evaluation import evaluate, oracle_row, text_table
from adaptive.evaluation.replay import replay
from adaptive.intervals import mean, quantile, share
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.cascade import Cascade
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.premodel import ByPremodel
from adaptive.routing.live import compare_live

CASCADE = Cascade(("small", "net@2", "big"), thresholds=(0.5, 0.5))


def test_numbers_against_direct_computation() -> None:
    table = table_of(300)
    found = evaluate(CASCADE, table)
    done = replay(CASCADE, table)
    row = found.policy
    assert row.quality == share(done.quality)
    assert row.top5 == share(done.top5)
    assert row.ms.value == pytest.approx(done.ms.mean())
    assert row.p95_ms.value == pytest.approx(np.quantile(done.ms, 0.95))
    assert row.shares == done.shares()
    assert row.abstained == 0
    assert found.images == 300
    assert found.decode_ms == 3.0
    assert [r.name for r in found.fixed] == [f"always {name}" for name in NAMES]
    for name, fixed in zip(NAMES, found.fixed):
        assert fixed.quality == share(table.quality(name))
        assert fixed.ms == mean(table.ms(name))
        assert fixed.p95_ms == quantile(table.ms(name), 0.95)
        assert fixed.shares == {name: 1.0}


def test_differences_are_paired() -> None:
    table = table_of(300)
    found = evaluate(CASCADE, table, reference="big")
    done = replay(CASCADE, table)
    difference = done.quality.astype(float) - table.quality("big").astype(float)
    plain = mean(difference)
    assert found.over_reference.value == plain.value
    assert found.over_reference.low <= plain.low < plain.high <= found.over_reference.high
    independent = np.sqrt(done.quality.var(ddof=1) + table.quality("big").var(ddof=1)) / np.sqrt(
        300
    )
    assert found.over_reference.high - found.over_reference.low < 2 * 1.96 * independent
    same = evaluate(Fixed(("big",)), table, reference="big").over_reference
    assert same.value == 0
    assert same.low <= 0 <= same.high < 0.02


def test_reference_is_the_most_accurate_when_none_is_named() -> None:
    table = table_of(300)
    best = max(NAMES, key=lambda n: table.quality(n).mean())
    assert evaluate(CASCADE, table).reference == best
    with pytest.raises(InputError, match="'vgg' is not in the outcome table"):
        evaluate(CASCADE, table, reference="vgg")


def test_random_mix_costs_what_the_policy_costs() -> None:
    table = table_of(300)
    found = evaluate(Cascade(("small", "net@2"), thresholds=(0.4,)), table)
    assert found.mix.ms.value == pytest.approx(found.policy.ms.value)
    assert len(found.mix.shares) == 2
    assert found.over_mix.value == pytest.approx(
        found.policy.quality.value - found.mix.quality.value, abs=1e-12
    )
    # Really drawing by these shares gives the same accuracy, time and p95.
    names, shares = zip(*found.mix.shares.items())
    big = table.select(np.tile(np.arange(300), 200))
    drawn = replay(Random(names, shares=shares, seed=1), big)
    assert drawn.quality.mean() == pytest.approx(found.mix.quality.value, abs=0.01)
    assert drawn.ms.mean() == pytest.approx(found.mix.ms.value, rel=0.01)
    assert np.quantile(drawn.ms, 0.95) == pytest.approx(found.mix.p95_ms.value, rel=0.02)


def test_a_fixed_policy_is_no_better_than_the_mix() -> None:
    """On the hull it is the mix itself."""
    table = table_of(300)
    found = evaluate(Fixed(("small",)), table)
    assert found.over_mix.value <= 1e-9


def test_oracle_is_the_fastest_that_is_right() -> None:
    table = table_of(200)
    order = sorted(NAMES, key=lambda n: table.ms(n).mean())
    right, spent, answered = [], [], []
    for row in range(200):
        chosen = next((n for n in order if table.quality(n)[row]), None)
        right.append(chosen is not None)
        answered.append(chosen or order[0])
        spent.append(table.ms(chosen or order[0])[row])
    found = oracle_row(table)
    assert found.quality == share(np.array(right))
    assert found.ms.value == pytest.approx(np.mean(spent))
    assert found.p95_ms.value == pytest.approx(np.quantile(spent, 0.95))
    assert found.shares == {name: answered.count(name) / 200 for name in NAMES}
    for name in NAMES:
        assert found.quality.value >= table.quality(name).mean()


def test_abstentions_are_wrong_and_counted() -> None:
    table = table_of(300)
    policy = ByPremodel(("small", "big"), chain(), on_abstain="abstain")
    found = evaluate(policy, table, premodel_ms=0.25)
    done = replay(policy, table)
    assert 0 < found.policy.abstained == done.abstained.mean() < 1
    assert found.policy.abstained + sum(found.policy.shares.values()) == pytest.approx(1)
    answered = ~done.abstained
    assert found.policy.quality.value == pytest.approx(done.quality[answered].sum() / 300)
    assert found.policy.ms.value == pytest.approx(done.ms.mean() + 0.25)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_json_is_valid_and_the_text_has_every_row(count: int) -> None:
    found = evaluate(CASCADE, table_of(count))
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert again["images"] == count
    assert [r["name"] for r in again["fixed"]] == [f"always {name}" for name in NAMES]
    assert set(again["policy"]) == {
        "name", "top1", "top5", "ms", "p95_ms", "shares", "abstained", "answered_top1"
    }  # fmt: skip
    text = text_table(found)
    for name in [f"always {n}" for n in NAMES] + ["random mix", "policy: cascade", "oracle"]:
        assert name in text


# Live, and the command


@pytest.fixture
def adaptive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    from adaptive.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["adaptive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_live_agrees_for_a_policy_that_draws(
    tiny_candidates: Path, tiny_images: Path, tiny_table: OutcomeTable, tmp_path: Path
) -> None:
    write_bundle(
        tmp_path / "drawn", Bundle.read(tiny_candidates), Random(("cheap", "strong"), seed=4)
    )
    bundle = Bundle.read(tmp_path / "drawn")
    replay(bundle.policy, tiny_table)  # its generator has moved on
    found = compare_live(bundle, tiny_table, tiny_images)
    assert found.differences == ()
    assert found.images == len(tiny_table)


def test_live_finds_a_table_of_other_networks(
    tiny_bundle: Path, tiny_images: Path, tiny_table: OutcomeTable
) -> None:
    from dataclasses import replace

    outcomes = {
        name: replace(o, quality=~o.quality) if name == "strong" else o
        for name, o in tiny_table.outcomes.items()
    }
    wrong = replace(tiny_table, outcomes=outcomes)
    found = compare_live(Bundle.read(tiny_bundle), wrong, tiny_images)
    expected = replay(Bundle.read(tiny_bundle).policy, tiny_table).candidate == 1
    assert len(found.differences) == expected.sum() > 0
    assert f"agree on {90 - expected.sum()} of 90" in found.text()
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["images"] == 90


def test_evaluate_command(
    tiny_bundle: Path, tiny_table_path: Path, tiny_images: Path, tmp_path: Path, adaptive: Any
) -> None:
    output = tmp_path / "out.json"
    arguments = ("evaluate", tiny_bundle, tiny_table_path, "--json", output)
    code, out, _ = adaptive(*arguments, "--live", "--images", tiny_images)
    assert code == 0
    assert "live and replay agree on 90 of 90" in out
    report = json.loads(output.read_text())
    done = replay(Bundle.read(tiny_bundle).policy, OutcomeTable.read(tiny_table_path))
    assert report["policy"]["top1"]["value"] == done.quality.mean()
    assert report["live"]["differences"] == []
    before = output.read_text()
    code, _, err = adaptive(*arguments)
    assert code == 2
    assert err == f"adaptive: {output} exists; give --force to replace it\n"
    assert output.read_text() == before
    code, out, _ = adaptive(*arguments, "--force", "--policy", "fixed:cheap", "--limit", 1)
    assert code == 0
    assert json.loads(output.read_text())["images"] == 1


def test_evaluate_says_where_nothing_tells_what_a_policy_was_tuned_on(
    tiny_bundle: Path, tiny_table_path: Path, adaptive: Any
) -> None:
    said = "Nothing says which images tuned this policy."
    assert said in adaptive("evaluate", tiny_bundle, tiny_table_path)[1]
    for known in (("--part", "all"), ("--policy", "fixed:cheap")):
        assert said not in adaptive("evaluate", tiny_bundle, tiny_table_path, *known)[1]


def test_evaluate_lists_unreadable_images_with_code_1(
    tiny_bundle: Path, tiny_table_path: Path, tmp_path: Path, adaptive: Any
) -> None:
    code, out, _ = adaptive(
        "evaluate", tiny_bundle, tiny_table_path, "--live", "--images", tmp_path, "--limit", 2
    )
    assert code == 1
    assert "cannot be read: 000.png" in out
    assert "cannot be read: 001.png" in out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--live"], "--live needs --images"),
        (["--engine", "onnx"], "give --live and --images too"),
        (["--policy", "fixed:vgg"], "candidate 'vgg' is not in the bundle; it has ['cheap', 's"),
        (["--policy", "premodel"], "the bundle holds no premodel"),
        (["--policy", "best"], "'best' is neither a file nor one of fixed:NAME, random, premodel"),
        (["--policy", "bad.json"], "policy bad.json is not JSON"),
        (["--json", "no/x.json"], "that x.json goes into does not exist"),
        (["--json", ".", "--force"], ". is a folder; name a file to write"),
    ],
)
def test_evaluate_refuses_with_a_sentence(
    more: list[str],
    says: str,
    tiny_bundle: Path,
    tiny_table_path: Path,
    tmp_path: Path,
    adaptive: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("{")
    code, out, err = adaptive("evaluate", tiny_bundle, tiny_table_path, *more)
    assert code == 2
    assert err.startswith("adaptive: ")
    assert says in err
    assert err.count("\n") == 1
    assert "top-1" not in out
    assert [p.name for p in tmp_path.iterdir()] == ["bad.json"]
