from __future__ import annotations

import re

import pytest

from adaptive.causes import MOST, reason, without_signatures

#: Lines as libraries have printed them, without what came before, and what is left of each.
SAID = {
    "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model("
    "onnx::ModelProto&&, const onnxruntime::PathString&, const onnxruntime::"
    "IOnnxRuntimeOpSchemaRegistryList*, const onnxruntime::logging::Logger&, const "
    "onnxruntime::ModelOptions&) Unsupported model IR version: 99": "Unsupported model IR "
    "version: 99",
    "while running Reshape node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/"
    "providers/cpu/tensor/reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper(const "
    "onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) input_shape_size == "
    "requested_shape_size was false. (They differ.)": "while running Reshape node. Name:'' Status "
    "Message: input_shape_size == requested_shape_size was false. (They differ.)",
    "/src/cuda_call.cc:129 std::conditional_t<THRW, void, common::Status> onnxruntime::CudaCall("
    "ERRTYPE, const char*, int) [with ERRTYPE = cudaError; bool THRW = true] CUDA failure 100: "
    "no CUDA-capable device is detected ; GPU=-1 ; file=/src/cuda.cc ; line=282": "CUDA failure "
    "100: no CUDA-capable device is detected ; GPU=-1 ; file=/src/cuda.cc ; line=282",
    "/src/a.cpp:3 virtual bool ns::{anonymous}::F::operator()(int, char (*)[3]) const No way": (
        "No way"
    ),
    "D:\\a\\_work\\1\\s\\core\\session\\bridge.cc:12 A::B(int) Wrong (very)": "Wrong (very)",
    "/src/a.cc:5 The value is wrong, (1, 2)": "The value is wrong, (1, 2)",
    "/src/a.cc:5 size(x) == 3 was false": "size(x) == 3 was false",
    "/src/a.cc:5: error: (1 is not 2": "error: (1 is not 2",
    "no source (file.cc) at all": "no source (file.cc) at all",
    "": "",
}


@pytest.mark.parametrize("line", SAID)
def test_signatures_are_left_out(line: str) -> None:
    assert without_signatures(line) == SAID[line]


def test_a_reason_is_the_first_line() -> None:
    assert reason(ValueError("\n a b \nc")) == "a b"
    assert reason(ValueError()) == "ValueError"
    assert reason(ValueError("head: b"), re.compile("head: ")) == "b"
    assert reason(ValueError("head: "), re.compile("head:")) == "ValueError"


def test_a_long_reason_keeps_both_ends() -> None:
    text = reason(ValueError("begin" + "x" * 1000 + "end"))
    assert len(text) <= MOST
    assert text.startswith("beginx")
    assert text.endswith("xend")
    assert "x...x" in text
