"""A model on another server, as an engine: a stand-in that reads tensors, and what goes wrong."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from inference_server import Behaviour, inference_server

from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.engines.breaker import Breaker
from adaptive.engines.inference import read_answer, read_labels
from adaptive.engines.remote import RemoteEngine, open_remote, within
from adaptive.engines.remote_keys import read_keys
from adaptive.errors import EngineError, InputError, UnreachableError
from adaptive.remote import Remote, labels_hash

SPEC = InputSpec(8, "float32", "NCHW", scale=255.0)
LABELS = labels_hash(("red", "green", "blue"))


def engine_of(url: str, **more: object) -> RemoteEngine:
    remote = Remote(url, "colours", **{"labels": LABELS, "timeout_ms": 5000.0, **more})
    return RemoteEngine(remote, SPEC, OutputSpec(3), breaker=Breaker(failures=3, first_s=60))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 8, 8), np.float32)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 40])
def test_answers_are_those_of_the_server(binary, count):
    behaviour = Behaviour(binary=binary)
    with inference_server(behaviour) as url:
        engine = engine_of(url, version="3")
        (found,) = engine.run(images(count))
        engine.close()
    expected = images(count).mean(axis=(2, 3)) * 10
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert behaviour.asked == 1 + -(-count // 16)  # one for the labels, and no more than 16 each
    assert engine.requests == behaviour.asked
    assert engine.sent > images(count).nbytes or not binary
    assert engine.received > 0


def test_network_that_takes_one_image_is_asked_one_by_one():
    behaviour = Behaviour(shape=(1, 3, 8, 8))
    with inference_server(behaviour) as url:
        (found,) = engine_of(url).run(images(3))
    assert found.shape == (3, 3)
    assert behaviour.asked == 1 + 3


def numbers(row: list[float]) -> Behaviour:
    """A server that answers with this row, whatever it is asked."""
    told = {"name": "scores", "datatype": "FP32", "shape": [1, len(row)], "data": row}
    return Behaviour(binary=False, answer={"outputs": [told]})


WRONG = {
    "another name": (Behaviour(answer={"model_name": "shapes"}), "calls it 'shapes'"),
    "another version": (Behaviour(answer={"model_version": "4"}), "has versions"),
    "no numbers": (Behaviour(answer={"outputs": []}), "lacks numbers"),
    "no JSON": (Behaviour(body=b"<html>"), "not JSON"),
    "a list": (Behaviour(body=b"[]"), "not the protocol's"),
    "too long": (Behaviour(body=b" " * 200_000), "longer than"),
    "not well": (Behaviour(status=500), "HTTP status 500: the server is not well"),
    "busy": (Behaviour(status=503), "HTTP status 503"),
    "redirect": (Behaviour(redirect="http://127.0.0.1:1/elsewhere"), "are not followed"),
    "wrong size": (
        Behaviour(
            binary=False,
            answer={
                "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [1]}]
            },
        ),
        "has 1 values",
    ),
    "not finite": (numbers([1, float("nan"), 0]), "not finite ones"),
    "too few classes": (numbers([1, 2]), "answered with 2 numbers an image"),
}


@pytest.mark.parametrize("what", WRONG)
def test_answer_that_is_not_as_it_should_counts_as_unreachable(what):
    wrong, sentence = WRONG[what]
    wrong.labels = None
    with inference_server(wrong) as url:
        engine = engine_of(url, labels=None, version="3")
        with pytest.raises(UnreachableError, match=sentence):
            engine.run(images(1))
        assert engine.status()["failures"] == 1


def test_server_that_fails_its_trial_is_asked_again_what_it_is():
    behaviour = Behaviour()
    with inference_server(behaviour) as url:
        remote = Remote(url, "colours", labels=LABELS)
        engine = RemoteEngine(remote, SPEC, OutputSpec(3), breaker=Breaker(1, 0.01, 0.01))
        engine.run(images(1))
        behaviour.body = b"[]"
        with pytest.raises(UnreachableError):  # this opens the breaker
            engine.run(images(1))
        behaviour.body, behaviour.fails_after = None, 1
        time.sleep(0.02)
        with pytest.raises(UnreachableError, match="HTTP status 500"):  # greeted, and then it fails
            engine.run(images(1))
        behaviour.fails_after, behaviour.labels = None, ("rot", "grün", "blau")
        time.sleep(0.03)
        with pytest.raises(UnreachableError, match="labels begin with \\['rot'"):
            engine.run(images(1))


def test_server_that_is_gone_is_left_alone_after_three_failures():
    behaviour = Behaviour()
    with inference_server(behaviour) as url:
        engine = engine_of(url)
        engine.run(images(1))
        behaviour.status = 500
        for _ in range(3):
            with pytest.raises(UnreachableError, match="HTTP status 500"):
                engine.run(images(1))
        asked = behaviour.asked
        with pytest.raises(UnreachableError, match="left alone") as refused:
            engine.run(images(1))
        assert behaviour.asked == asked
        assert 0 < refused.value.retry_after_s <= 60
        assert engine.status()["state"] == "open"


def test_server_that_comes_back_is_asked_what_it_is():
    behaviour = Behaviour(status=500)
    with inference_server(behaviour) as url:
        remote = Remote(url, "colours", labels=LABELS)
        engine = RemoteEngine(remote, SPEC, OutputSpec(3), breaker=Breaker(1, 0.05, 0.05))
        with pytest.raises(UnreachableError):
            engine.run(images(1))
        behaviour.status = 200
        time.sleep(0.06)
        engine.run(images(1))
        assert engine.status()["state"] == "closed"
        behaviour.status = 500
        with pytest.raises(UnreachableError):
            engine.run(images(1))
        behaviour.status, behaviour.labels = 200, ("rot", "grün", "blau")
        time.sleep(0.06)
        with pytest.raises(UnreachableError, match="labels begin with \\['rot'"):
            engine.run(images(1))


def test_timeout_and_what_is_left_of_a_deadline_end_a_request():
    behaviour = Behaviour(labels=None)
    with inference_server(behaviour) as url:
        engine = engine_of(url, labels=None, timeout_ms=200.0)
        engine.run(images(1))
        behaviour.wait_s = 1.0
        began = monotonic()
        with pytest.raises(UnreachableError, match="in time"):
            engine.run(images(1))
        assert 0.15 < monotonic() - began < 0.9
        began = monotonic()
        with within(20.0), pytest.raises(UnreachableError, match="in time"):
            engine.run(images(1))
        assert monotonic() - began < 0.19


REFUSED = {
    "model": ({"model": "shapes"}, Behaviour(), "status 404"),
    "version": ({"version": "7"}, Behaviour(), "status 404"),
    "labels": ({}, Behaviour(labels=("a", "b", "c")), "labels begin with"),
    "untold labels": ({}, Behaviour(labels=None), "does not tell them any more"),
    "width": ({}, Behaviour(width=5), "5 numbers an image"),
    "size": ({}, Behaviour(shape=(-1, 3, 16, 16)), "NCHW of size 8"),
    "layout": ({}, Behaviour(shape=(-1, 8, 8, 3)), "NCHW of size 8"),
    "input": ({"input": "image"}, Behaviour(), "called 'image'"),
    "output": ({"output": "boxes"}, Behaviour(), "called 'boxes'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_model_than_the_manifest_means_is_refused(what):
    more, behaviour, sentence = REFUSED[what]
    with inference_server(behaviour) as url:
        values = {"labels": LABELS, "model": "colours", **more}
        remote = Remote(url, **values)
        candidate = Candidate("c", "", remote.identity, SPEC, OutputSpec(3), remote=remote)
        if "404" in sentence:  # that may be mended there, so it is no reason not to begin
            engine = open_remote(candidate, {})
            with pytest.raises(UnreachableError, match=sentence):
                engine.run(images(1))
            return
        with pytest.raises(EngineError, match=sentence):
            open_remote(candidate, {})


def test_server_that_is_not_there_is_opened_all_the_same(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    remote = Remote(f"http://127.0.0.1:{port}", "colours")
    candidate = Candidate("c", "", remote.identity, SPEC, OutputSpec(3), remote=remote)
    engine = open_remote(candidate, {})
    assert "answers go without it" in caplog.text
    with pytest.raises(UnreachableError, match="cannot be reached"):
        engine.run(images(1))


def test_key_goes_to_its_own_server_alone(tmp_path: Path):
    behaviour = Behaviour(labels=None)
    with inference_server(behaviour) as url:
        file = tmp_path / "keys"
        file.write_text(f"# cloud\n{url} secret\nhttps://other.example other\n")
        keys = read_keys(file)
        assert keys == {url: "secret", "https://other.example:443": "other"}
        remote = Remote(url, "colours")
        candidate = Candidate("c", "", remote.identity, SPEC, OutputSpec(3), remote=remote)
        open_remote(candidate, keys).run(images(1))
        assert {h.get("Authorization") for _, _, h in behaviour.requests} == {"Bearer secret"}
        behaviour.requests.clear()
        open_remote(candidate, {"https://other.example:443": "other"}).run(images(1))
        assert {h.get("Authorization") for _, _, h in behaviour.requests} == {None}


@pytest.mark.parametrize("line", ["http://a.example", "ftp://a.example key", "a b c"])
def test_line_that_is_no_key_is_refused(tmp_path: Path, line: str):
    file = tmp_path / "keys"
    file.write_text(line)
    with pytest.raises(InputError):
        read_keys(file)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://a.example",
        "http://",
        "http://user:word@a.example",
        "http://a.example?x=1",
        "http://a.example#x",
        "http://a b",
        "http://a.example:99999",
        "a.example:8080",
        "",
    ],
)
def test_address_that_may_not_be_asked_is_refused(url):
    with pytest.raises(InputError, match="address"):
        Remote(url, "colours")


@pytest.mark.parametrize(
    "values",
    [
        {"model": "../secrets"},
        {"model": "a model"},
        {"labels": "abc"},
        {"timeout_ms": 0.0},
        {"timeout_ms": 1e9},
        {"encoding": "bmp"},
        {"quality": 0},
        {"mj": -1.0},
        {"mj_per_byte": float("nan")},
    ],
)
def test_remote_that_cannot_be_is_refused(values):
    with pytest.raises(InputError, match="remote"):
        Remote(**{"url": "http://a.example", "model": "colours", **values})


def test_identity_changes_with_the_model_and_not_with_its_address():
    one = Remote("http://a.example", "colours", "1")
    assert one.identity == Remote("https://b.example/x", "colours", "1", timeout_ms=5.0).identity
    others = [
        Remote("http://a.example", "shapes", "1"),
        Remote("http://a.example", "colours", "2"),
        Remote("http://a.example", "colours", "1", LABELS),
        Remote("http://a.example", "colours", "1", quality=50),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 5


def test_network_energy_is_a_constant_and_a_share_for_each_byte():
    remote = Remote("http://a.example", "colours", mj=3.0, mj_per_byte=0.001)
    assert remote.network_mj(20_000, 4_000) == pytest.approx(27.0)
    assert Remote("http://a.example", "colours").network_mj(20_000, 4_000) == 0


def test_texts_of_a_binary_answer_that_end_early_are_refused():
    head = {
        "model_name": "m",
        "outputs": [
            {
                "name": "x",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"binary_data_size": 6},
            }
        ],
    }
    text = json.dumps(head).encode()
    with pytest.raises(EngineError, match="end before"):
        read_answer(text + b"\xff\x00\x00\x00ab", str(len(text)))


def test_labels_come_in_the_order_of_their_numbers():
    texts = [b"0.5:2:blue:ish", b"0.3:0:red", b"0.2:1:green"]
    assert read_labels(texts, 3) == ("red", "green", "blue:ish")
    assert read_labels(texts[:2], 3) is None
    assert read_labels(texts, 2, skip=1) == ("green", "blue:ish")
