"""Requests and answers as bytes: whatever comes is read or refused, and nothing grows."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive.errors import InputError
from adaptive.serving.compression import CODINGS, TooLong, accepted, compress, decompress
from adaptive.serving.tensors import Tensor, read_request, write_answer

IMAGES = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


@settings(deadline=None)
@given(IMAGES, st.booleans(), st.booleans())
def test_images_arrive_as_they_were_sent(images, binary, column):
    shape = [len(images), 1] if column else [len(images)]
    own = {"name": "image", "datatype": "BYTES", "shape": shape}
    blob = b"".join(struct.pack("<I", len(image)) + image for image in images)
    if binary:
        own["parameters"] = {"binary_data_size": len(blob)}
    else:
        data = [base64.b64encode(image).decode() for image in images]
        own["data"] = [[text] for text in data] if column else data
    text = json.dumps({"inputs": [own]}).encode()
    request = read_request(text + blob if binary else text, len(text) if binary else None, 5)
    assert request.images == tuple(images)
    assert request.shape == tuple(shape)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
KNOWN = ("name", "datatype", "shape", "data", "parameters", "inputs", "outputs", "id", "image")


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(KNOWN), JSON),
    st.dictionaries(st.sampled_from(KNOWN), JSON),
    st.binary(max_size=20),
    st.none() | st.integers(0, 80),
)
def test_whatever_comes_is_read_or_refused(tensor, request_, rest, length):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AA=="], **tensor}
    body = json.dumps({"inputs": [tensor], **request_}).encode() + rest
    refused = ""
    try:
        read_request(body, length, 3)
    except InputError as error:
        refused = str(error)
    assert len(refused) < 300


@settings(deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(0, 250))
def test_bytes_that_are_no_request_are_refused(body, length):
    if length == 0:
        assert read_request(body, 0, 3).images == (body,)
        return
    with pytest.raises(InputError):
        read_request(body, length, 3)


@pytest.mark.parametrize(
    "json_text",
    [
        b'{"inputs": [' + b"{}," * 60_000 + b"{}]}",
        b'{"inputs": [' + b"[]," * 60_000 + b"[]]}",
        b'{"inputs": [' + b"1," * 110_000 + b"1]}",
    ],
)
def test_millions_of_values_are_refused_before_they_are_read(json_text, monkeypatch):
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("they were read"))
    with pytest.raises(InputError, match="more than the 100000 values"):
        read_request(json_text, None, 3)


def test_sentences_stay_short_whatever_the_number():
    huge = 10**4000
    bare = {"name": "image", "datatype": "BYTES", "shape": [1]}
    image = {**bare, "data": ["AA=="]}
    for request in (
        {"inputs": [{**image, "shape": [huge]}]},
        {"inputs": [{**image, "shape": [huge, huge]}]},
        {"inputs": [{**bare, "parameters": {"binary_data_size": huge}}]},
        {
            "inputs": [image],
            "outputs": [{"name": "label", "parameters": {"classification": -huge}}],
        },
    ):
        with pytest.raises(InputError) as refused:
            read_request(json.dumps(request).encode(), None, 3)
        assert len(str(refused.value)) < 300


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=9), min_size=1, max_size=4),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_answers_hold_what_was_put_in(words, numbers, binary_words, binary_numbers):
    texts = Tensor("label", (len(words),), [word.encode("utf-8", "replace") for word in words])
    values = Tensor("scores", (1, len(numbers)), np.array([numbers], np.float32))
    body, length = write_answer({}, [(texts, binary_words), (values, binary_numbers)])
    assert (length is None) == (not binary_words and not binary_numbers)
    first, second = json.loads(body if length is None else body[:length])["outputs"]
    rest = b"" if length is None else body[length:]
    if binary_words:
        size = first["parameters"]["binary_data_size"]
        blob, rest = rest[:size], rest[size:]
        assert blob == b"".join(struct.pack("<I", len(t)) + t for t in texts.values)
    else:
        assert first["data"] == [text.decode() for text in texts.values]
    found = np.frombuffer(rest, "<f4") if binary_numbers else np.float32(second["data"])
    assert np.array_equal(found, values.values[0])


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(CODINGS))
def test_packed_bodies_come_back(data, coding):
    packed = compress(data, coding)
    assert decompress(packed, coding, len(data)) == data
    assert {"gzip": gzip.decompress, "deflate": zlib.decompress}[coding](packed) == data
    if data:
        with pytest.raises(TooLong):
            decompress(packed, coding, len(data) - 1)
    for damaged in (packed[:-1], packed + b"x", b"", b"x" + packed):
        with pytest.raises(InputError):
            decompress(damaged, coding, 1000)


@pytest.mark.parametrize("coding", CODINGS)
def test_bomb_takes_no_more_memory_than_is_allowed(coding):
    bomb = {"gzip": gzip.compress, "deflate": zlib.compress}[coding](bytes(30_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLong):
            decompress(bomb, coding, 100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0", None),
        ("br", None),
        ("identity", None),
        ("*", None),
        ("", None),
        ("gzip;q=x", None),
        ("gzip;q=nan", None),
        (";;,=,q", None),
    ],
)
def test_accept_encoding_is_read(header, coding):
    assert accepted(header) == coding
