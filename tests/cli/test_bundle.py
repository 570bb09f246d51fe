"""What `adaptive bundle` leaves out, it names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from adaptive import Bundle
from adaptive.bundle.bundle import write_bundle
from adaptive.cli.bundle import command
from adaptive.policy.files import write_policy
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.knn_chain import KNNChain
from adaptive.premodel.scaling import Scaling


@pytest.fixture
def premodel() -> KNNChain:
    scaling = Scaling("standard", np.ones(1), np.zeros(1))
    table = scaling.grid(np.arange(20.0)[:, None])
    outcomes = np.random.default_rng(1).integers(0, 2, (20, 2))
    return KNNChain.from_arrays(["sharpness"], ["cheap", "strong"], scaling, table, outcomes, 5)


def lines(*arguments: Any) -> list[str]:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return [line for line in done.output.splitlines() if line.startswith(("left out", "note"))]


def test_what_the_policy_does_not_need_is_named(
    tiny_candidates: Path, tmp_path: Path, premodel: KNNChain
) -> None:
    premodel.save(tmp_path / "premodel")
    policy = tmp_path / "policy.json"
    policy.write_text('{"format": 1, "kind": "fixed", "candidates": ["cheap"]}')
    given = ("--candidates", tiny_candidates, "--premodel", tmp_path / "premodel")
    assert lines(*given, "--policy", policy, "-o", tmp_path / "a") == [
        f"left out: the premodel {tmp_path / 'premodel'}: a fixed policy does not ask it",
        "left out: net@1, net@2: the policy never asks them and they are not the reference; "
        "--all-candidates carries them",
    ]
    assert lines(*given, "--policy", policy, "--all-candidates", "-o", tmp_path / "b") == [
        f"left out: the premodel {tmp_path / 'premodel'}: a fixed policy does not ask it",
    ]


def test_one_candidate_alone_needs_no_policy_file(tiny_candidates: Path, tmp_path: Path) -> None:
    given = ("--candidates", tiny_candidates, "-o", tmp_path / "a", "--policy")
    assert lines(*given, "fixed:cheap")[0].startswith("left out: ")
    bundle = Bundle.read(tmp_path / "a")
    assert (bundle.policy.kind, bundle.policy.candidates) == ("fixed", ("cheap",))
    (tmp_path / "certificate.json").write_text("{}")
    for arguments, sentence in (
        (("fixed:chap",), "candidate 'chap' is not in the bundle; it has ['cheap'"),
        (("fixed:cheap", "--certificate", tmp_path / "certificate.json"), "speaks of a policy"),
    ):
        done = CliRunner().invoke(command, [str(a) for a in (*given, *arguments, "--force")])
        assert sentence in str(done.exception)


def test_a_premodel_is_kept_for_explanations(
    tiny_candidates: Path, tmp_path: Path, premodel: KNNChain
) -> None:
    premodel.save(tmp_path / "premodel")
    policy = tmp_path / "policy.json"
    policy.write_text('{"format": 1, "kind": "fixed", "candidates": ["cheap"]}')
    given = ("--candidates", tiny_candidates, "--policy", policy, "--all-candidates")
    kept = (*given, "--premodel", tmp_path / "premodel", "--keep-premodel")
    assert lines(*kept, "-o", tmp_path / "a") == []
    bundle = Bundle.read(tmp_path / "a")
    assert bundle.policy.premodel is None
    assert bundle.premodel is not None
    assert bundle.premodel.candidates == ("cheap", "strong")
    done = CliRunner().invoke(
        command, [str(a) for a in (*given, "--keep-premodel", "-o", tmp_path / "b")]
    )
    assert "--keep-premodel keeps the one that --premodel names" in str(done.exception)
    assert not (tmp_path / "b").exists()


def test_nothing_is_named_where_nothing_is_left_out(tiny_candidates: Path, tmp_path: Path) -> None:
    assert lines("--candidates", tiny_candidates, "--all-candidates", "-o", tmp_path / "a") == []


def test_own_columns_need_an_extractor(
    tiny_candidates: Path, tmp_path: Path, premodel: KNNChain
) -> None:
    premodel.save(tmp_path / "premodel")
    given = ("--candidates", tiny_candidates, "--premodel", tmp_path / "premodel")
    assert lines(*given, "--all-candidates", "-o", tmp_path / "a") == [
        "note: the premodel reads columns of your own (sharpness); Router.load needs an "
        "extractor that computes them; serve, classify and detect have --extractor"
    ]


def test_what_another_bundle_held_is_named(
    tiny_candidates: Path, tiny_table_path: Path, tmp_path: Path, premodel: KNNChain
) -> None:
    other = tmp_path / "other"
    policy = ByPremodel(("cheap", "strong"), premodel)
    write_bundle(other, Bundle.read(tiny_candidates), policy, {"claim": "something"})
    write_policy(Bundle.read(tiny_candidates).policy, tmp_path / "policy.json")
    short = tmp_path / "short.csv"
    header, *rows = tiny_table_path.read_text().splitlines()
    kept = [i for i, name in enumerate(header.split(",")) if not name.startswith("net@")]
    short.write_text(
        "\n".join(",".join(row.split(",")[i] for i in kept) for row in (header, *rows)) + "\n"
    )
    about = json.loads(tiny_table_path.with_suffix(".json").read_text())
    short.with_suffix(".json").write_text(json.dumps(about))
    given = ("--candidates", other, "--policy", tmp_path / "policy.json", "--all-candidates")
    assert lines(*given, "--table", short, "-o", tmp_path / "a") == [
        f"left out: the premodel in {other}: name it with --premodel to carry it",
        f"left out: the certificate in {other}: it speaks of another bundle; name one with "
        "--certificate",
        f"note: {short} has no times of net@1, net@2",
    ]


def test_the_reference_is_the_certificate_s_where_the_candidates_name_none(
    tiny_candidates: Path, tmp_path: Path
) -> None:
    source = tmp_path / "candidates"
    shutil.copytree(tiny_candidates, source)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["reference"] = None
    (source / "manifest.json").write_text(json.dumps(manifest))
    policy, promise = tmp_path / "policy.json", tmp_path / "certificate.json"
    policy.write_text('{"format": 1, "kind": "fixed", "candidates": ["cheap"]}')
    promise.write_text('{"reference": "strong"}')
    given = ("--policy", policy, "--certificate", promise, "-o", tmp_path / "bundle")
    lines("--candidates", source, *given)
    assert Bundle.read(tmp_path / "bundle").reference == "strong"
    assert Bundle.read(tmp_path / "bundle").names == ("cheap", "strong")
