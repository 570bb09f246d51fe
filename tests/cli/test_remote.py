"""A candidate on another server through every command: add, check, profile, tune, bundle, serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from inference_server import Behaviour, inference_server
from served import served, whole_bundle

from adaptive import Bundle, Client
from adaptive.cli import group
from adaptive.errors import AdaptiveError
from adaptive.outcomes.table import OutcomeTable


class Said(NamedTuple):
    exit_code: int
    output: str


def run(*arguments: Any) -> Said:
    found = CliRunner().invoke(group, [str(argument) for argument in arguments])
    if isinstance(found.exception, AdaptiveError):  # as `main` does
        return Said(2, f"{found.output}{found.exception}")
    assert isinstance(found.exception, (SystemExit, type(None))), found.exception
    return Said(found.exit_code, found.output)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    return tmp_path / "labels.txt"


def test_model_that_reads_tensors_is_added_with_its_own_labels(tmp_path: Path) -> None:
    nets = tmp_path / "nets"
    with inference_server(Behaviour()) as url:
        address = f"{url}/v2/models/colours"
        said = run("candidates", "add", address, "-o", nets, "--like", "0..1", "--mj", "2.5")
        assert said.exit_code == 0, said.output
        assert "float32 NCHW 8x8 RGB (/255), crop -> 3 logits" in said.output
        assert f"model 'colours' at {url}" in said.output
        assert "the labels are those that the server tells" in said.output
        assert "add /versions/3 to the address" in said.output
        assert run("candidates", "check", nets).output == "colours: runs\n"
    bundle = Bundle.read(nets)
    assert bundle.labels == ("red", "green", "blue")
    remote = bundle.candidate("colours").remote
    assert remote is not None
    assert remote.mj == 2.5
    assert {path.name for path in nets.iterdir()} == {"labels.txt", "manifest.json"}
    gone = run("candidates", "check", nets)
    assert gone.exit_code == 1
    assert "cannot be reached" in gone.output


def test_server_with_other_labels_than_the_folder_is_refused(tmp_path: Path, labels: Path) -> None:
    nets = tmp_path / "nets"
    with inference_server(Behaviour(labels=("red", "blue", "green"))) as url:
        address = f"{url}/v2/models/colours"
        said = run("candidates", "add", address, "-o", nets, "--like", "0..1", "--labels", labels)
    assert said.exit_code == 2
    assert "calls class 1 'blue', and here it is 'green'" in said.output
    assert not nets.exists()


def test_server_that_tells_no_labels_is_taken_with_a_note(tmp_path: Path, labels: Path) -> None:
    with inference_server(Behaviour(labels=None)) as url:
        address = f"{url}/v2/models/colours/versions/3"
        said = run(
            *("candidates", "add", address, "-o", tmp_path / "nets"),
            *("--like", "0..1", "--labels", labels),
        )
    assert said.exit_code == 0, said.output
    assert "nobody checks" in said.output


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("{url}", "is no model's address"),
        ("{url}/v2/models/shapes", "HTTP status 404"),
        ("http://127.0.0.1:1/v2/models/colours", "cannot be reached"),
    ],
)
def test_address_of_no_model_is_refused(tmp_path: Path, address: str, sentence: str) -> None:
    with inference_server(Behaviour()) as url:
        said = run("candidates", "add", address.format(url=url), "-o", tmp_path / "nets")
    assert said.exit_code == 2
    assert sentence in said.output
    assert not (tmp_path / "nets").exists()


def test_size_of_a_model_that_reads_files_is_asked_for(
    tiny_candidates: Path, tmp_path: Path
) -> None:
    with served(whole_bundle(tiny_candidates, tmp_path / "s")) as server:
        address = f"http://127.0.0.1:{server.port}/v2/models/strong"
        said = run("candidates", "add", address, "-o", tmp_path / "nets")
    assert said.exit_code == 2
    assert "give --size" in said.output


def test_doctor_tells_a_server_that_is_away_from_one_with_another_model(tmp_path: Path) -> None:
    nets, behaviour = tmp_path / "nets", Behaviour()
    with inference_server(behaviour) as url:
        address = f"{url}/v2/models/colours"
        added = run("candidates", "add", address, "-o", nets, "--like", "0..1")
        assert added.exit_code == 0, added.output
        behaviour.labels = ("rot", "grün", "blau")  # and such a bundle is not served
        said = run("doctor", "--bundle", nets)
        assert said.exit_code == 1
        assert "wrong   candidate colours" in said.output
        assert "its labels begin with ['rot'" in said.output
        assert "or it is added again" in said.output
        behaviour.labels, behaviour.status = None, 500
    said = run("doctor", "--bundle", nets)
    assert said.exit_code == 0
    assert "absent  candidate colours" in said.output


@pytest.mark.slow
def test_whole_way_from_an_address_to_a_server_that_goes_on_alone(
    tiny_candidates: Path, tiny_images: Path, tmp_path: Path
) -> None:
    nets, table = tmp_path / "nets", tmp_path / "t.csv"
    cheap = tiny_candidates / "cheap.onnx"
    names = tmp_path / "names.txt"
    names.write_text("blue\ngreen\nred\n")
    policy, bundle = tmp_path / "policy.json", tmp_path / "bundle"
    with served(whole_bundle(tiny_candidates, tmp_path / "s")) as server:
        address = f"http://127.0.0.1:{server.port}/v2/models/strong/versions/1"
        steps = [
            ("candidates", "add", cheap, "-o", nets, "--labels", names, "--resize", "stretch"),
            ("candidates", "add", address, "-o", nets, "--name", "cloud", "--size", "16"),
            (
                *("profile", "--candidates", nets, "--images", tiny_images),
                *("--labels", tiny_images / "labels.csv", "-o", table),
            ),
            ("tune", table, "-o", policy, "--budget-ms", "1000", "--split", "0.8,0.1,0.1"),
            (
                *("bundle", "--candidates", nets, "--policy", policy, "--table", table),
                *("-o", bundle, "--all-candidates"),
            ),
            ("evaluate", bundle, table, "--live", "--images", tiny_images, "--part", "all"),
            ("doctor", "--bundle", bundle),
        ]
        for step in steps:
            said = run(*step)
            assert said.exit_code == 0, (step, said.output)
        assert "candidate cloud" in said.output
        assert "answers in" in said.output
    measured = OutcomeTable.read(table)
    entry = next(c for c in measured.meta["candidates"] if c["name"] == "cloud")
    assert entry["sha256"] == Bundle.read(bundle).candidate("cloud").sha256
    assert entry["remote"]["bytes_sent"] > 100
    assert entry["remote"]["bytes_received"] > 10
    assert measured.of("cloud").ms.mean() > measured.of("cheap").ms.mean()
    manifest = json.loads((bundle / "manifest.json").read_text())
    told = next(c for c in manifest["candidates"] if c["name"] == "cloud")
    assert "file" not in told
    assert told["ms"] > 0
    # Its server is gone by now.
    with served(bundle) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        answers = [client.classify(tiny_images / f"{n:03}.png") for n in range(8)]
    assert all(answer.label is not None for answer in answers)
    absent = run("doctor", "--bundle", bundle)
    assert absent.exit_code == 0
    assert "cannot be reached" in absent.output


def test_experiment_names_a_model_on_another_server_by_its_url(tmp_path: Path) -> None:
    from adaptive.experiments.assembled import assemble_candidates
    from adaptive.experiments.declared import read_experiment

    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text("image,label\n")
    file = tmp_path / "far.toml"
    with inference_server(Behaviour()) as url:
        file.write_text(
            'name = "far"\n[data]\nimages = "images"\nlabels = "labels.csv"\n'
            f'[[candidates.network]]\nurl = "{url}/v2/models/colours"\nlike = "0..1"\n'
            '[[policy]]\nfixed = "colours"\n'
        )
        experiment = read_experiment(file)
        assembled = assemble_candidates(experiment, experiment.candidates, tmp_path / "made")
    assert assembled.omitted == ()
    remote = assembled.bundle.candidate("colours").remote
    assert remote is not None
    assert remote.url == url
