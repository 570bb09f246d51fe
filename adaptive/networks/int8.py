"""Eight-bit copies of ONNX networks, by ONNX Runtime's post-training quantiser.

Weights become int8 with a scale for each channel; the ranges of the tensors between come from a
run over calibration images. The last layer with weights stays in 32 bits: in eight, answers
would come in steps of 1/256 of their range, and confidence, which policies decide by, with them.
(https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html)
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np
import onnx
from onnx import ModelProto

from adaptive.causes import reason
from adaptive.errors import EngineError, InputError, MissingExtra
from adaptive.files import written_aside

#: Who runs the copy. On processors tensors are uint8 with a zero point, so that an activation
#: function disappears in the range. Those with AVX2 or AVX-512 but without VNNI add products of
#: eight bits in sixteen, which overflow, so for "cpu" weights have seven bits and are right on
#: all of them; "arm" has eight, for ARM and for x86 with VNNI. TensorRT wants int8 around zero,
#: and fuses a convolution with its activation by itself when only the inputs of convolutions
#: are quantised.
TARGETS = ("cpu", "arm", "tensorrt")

#: Operators whose inputs and results are quantised for a CPU; Softmax, whose result is the
#: answer, is not among them.
_CPU_OPERATORS = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Gemm",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Relu",
)
_TENSORRT_OPERATORS = ("Add", "Conv", "Gemm", "MatMul")

_WEIGHTED = ("Conv", "Gemm", "MatMul")


def quantize(
    source: Path,
    target: Path,
    images: Sequence[np.ndarray],
    runs_on: str = "cpu",
    averaged: bool = False,
) -> None:
    """Write an eight-bit copy of a network, whole or not at all.

    Parameters
    ----------
    source, target : the ONNX files
    images : calibration inputs, one array (1, ...) an image
    runs_on : one of TARGETS
    averaged : take each tensor's range as the mean over images of its extremes there, not as
        the extremes over all; outliers are then cut off

    Raises
    ------
    InputError
        when there are no images, or the network's opset is below 13, which knows no scale for
        each channel.
    EngineError
        when the quantiser cannot do it.
    """
    if runs_on not in TARGETS:
        raise InputError(f"networks are quantised for {list(TARGETS)}, not for {runs_on!r}")
    if not len(images):
        raise InputError("no images to calibrate on; give at least one, better a hundred")
    opset = opset_of(onnx.load(str(source), load_external_data=False))
    if opset < 13:
        raise InputError(f"{source.name} is of opset {opset}; a scale for each channel needs 13")
    quantization = _quantization()
    symmetric = runs_on == "tensorrt"
    kind = quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8
    operators = _TENSORRT_OPERATORS if symmetric else _CPU_OPERATORS
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "CalibMovingAverage": averaged,
        "CalibMovingAverageConstant": _SMOOTHING,
    }
    if symmetric:
        options["OpTypesToExcludeOutputQuantization"] = list(operators)
        options["QuantizeBias"] = False  # TensorRT adds it in 32 bits
    with tempfile.TemporaryDirectory() as work, written_aside(target) as aside, _quietly():
        prepared = Path(work) / source.name
        try:
            last = _prepare(source, prepared)
            quantization.quantize_static(
                str(prepared),
                str(aside),
                _reader(_first_input(prepared), images),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(operators),
                per_channel=True,
                reduce_range=runs_on == "cpu",
                activation_type=kind,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=[last],
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options=options,
            )
        except Exception as exc:  # the quantiser's errors share no base class
            raise EngineError(f"{source.name} cannot be quantised: {reason(exc)}") from exc
        result = onnx.load(str(aside))
        _forget_unused_domains(result)
        onnx.save(result, str(aside))
        if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
            raise InputError(f"{source.name} has nothing to quantise before its last layer")
        written = opset_of(result)
        if written > 16:
            raise EngineError(
                f"the quantiser made {source.name} one of opset {written}; a board's ONNX Runtime "
                "1.11 reads up to 16"
            )


def _forget_unused_domains(model: ModelProto) -> None:
    """Name only the sets of operators that the network has operators of.

    Preparing it names all that this ONNX Runtime knows, and an older one refuses a network for
    the mere name of a version that it does not know.
    """
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def calibration_table(source: Path, target: Path, images: Sequence[np.ndarray]) -> None:
    """Write the ranges of a network's tensors as ONNX Runtime's TensorRT provider reads them.

    The network itself stays as it is: `adaptive build --precision int8 --calibration` hands
    the table to the provider (`trt_int8_calibration_table_name`), which TensorRT from 11 on no
    longer takes. It holds, for each tensor, the largest magnitude that was seen.
    """
    from onnxruntime.quantization import calibrate, quant_utils

    with tempfile.TemporaryDirectory() as work, _quietly():
        try:
            calibrator = calibrate.create_calibrator(
                str(source),
                augmented_model_path=str(Path(work) / "augmented.onnx"),
                extra_options={"symmetric": True},
            )
            calibrator.collect_data(_reader(_first_input(source), images))
            ranges = calibrator.compute_data()
            quant_utils.write_calibration_table(dict(ranges.items()), work)
        except Exception as exc:  # the calibrator's errors share no base class
            raise EngineError(f"{source.name} cannot be calibrated: {reason(exc)}") from exc
        with written_aside(target) as aside:
            aside.write_bytes((Path(work) / "calibration.flatbuffers").read_bytes())


#: What one image counts in the moving mean of a tensor's extremes.
_SMOOTHING = 0.05


def _prepare(source: Path, target: Path) -> str:
    """Fold what can be folded, infer shapes, name every node; return the last weighted one."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    model = onnx.load(str(target))
    last = ""
    for position, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
        if node.op_type in _WEIGHTED:
            last = node.name
    if not last:
        raise InputError("it has no convolution and no matrix product to quantise")
    onnx.save(model, str(target))
    return last


def _reader(name: str, images: Sequence[np.ndarray]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the images one by one."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next image under the input's name, or None."""
            image = next(self._left, None)
            return None if image is None else {name: image}

    return Reader()


def _first_input(path: Path) -> str:
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {i.name for i in graph.initializer}
    return str(next(i.name for i in graph.input if i.name not in weights))


def opset_of(model: ModelProto) -> int:
    """The opset of the default domain."""
    return int(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def _quantization() -> Any:
    try:
        import onnxruntime.quantization
    except ImportError as exc:
        raise MissingExtra("quantising a network", "onnxruntime", "cpu") from exc
    return onnxruntime.quantization


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the quantiser's progress on standard output and its advice in the root log."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)
