"""Every engine that is here against ONNX Runtime on the processor, on networks that ship.

The further contract, of batches, threads, closing and refusing, is in test_engine.py, over the
same engines. `benchmarks/gpu.py` runs both on a machine with an NVIDIA device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from engines import ENGINES, HALF

from adaptive.bundle.bundle import Bundle, default_bundle
from adaptive.candidate import Candidate, InputSpec, OutputSpec
from adaptive.engines.answers import probabilities
from adaptive.engines.engine import OnnxEngine
from adaptive.images.decode import decode
from adaptive.images.preprocess import preprocess

#: Largest difference of a probability, by precision.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}

#: Real photographs, and the share of them on which two engines must name the same class.
IMAGES, AGREEMENT = 500, 0.99

CASES = [
    *(pytest.param(ENGINES[name], "fp32", id=name) for name in ENGINES if name != "onnxruntime"),
    *(pytest.param(HALF[name], "fp16", id=f"{name}-fp16") for name in HALF),
]

BUNDLE = Bundle.read(default_bundle())
WHOLE = [c for c in BUNDLE.candidates if c.after is None and "@" not in c.name]


@pytest.fixture(scope="module")
def small_images() -> np.ndarray:
    """Patches with edges, gradients and noise, (24, 32, 32, 3)."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 32)[None, :, None, None]
    images = 0.5 * ramp + generator.normal(100, 60, (24, 1, 1, 3))
    images = images + generator.normal(0, 25, (24, 32, 32, 3))
    images[:, 8:20, 10:26] += generator.normal(0, 80, (24, 1, 1, 3))
    return np.clip(images, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("opens", "precision"), CASES)
@pytest.mark.parametrize("candidate", WHOLE, ids=lambda c: c.name)
def test_probabilities_are_those_of_the_processor(
    opens: Any, precision: str, candidate: Candidate, small_images: np.ndarray
) -> None:
    path = BUNDLE.folder / candidate.file
    expected = run(OnnxEngine(path), candidate.output, small_images, 24)
    found = run(opens(path), candidate.output, small_images, 5)
    assert expected.std(axis=0).max() > 0.05  # the images are told apart at all
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[precision])


@pytest.mark.parametrize(("opens", "precision"), CASES)
def test_exits_hand_their_state_from_engine_to_engine(
    opens: Any, precision: str, small_images: np.ndarray
) -> None:
    """Each segment's state goes on to the next one as the processor's does."""
    exits = [c for c in BUNDLE.candidates if "@" in c.name]
    if not exits:
        pytest.skip("the embedded bundle has no multi-exit network")
    states: dict[Any, list[np.ndarray]] = {None: [small_images[:6]]}
    reference: dict[Any, list[np.ndarray]] = {None: [small_images[:6]]}
    for candidate in exits:
        path = BUNDLE.folder / candidate.file
        answer, *states[candidate.name] = opens(path).run(*states[candidate.after])
        own, *reference[candidate.name] = OnnxEngine(path).run(*reference[candidate.after])
        np.testing.assert_allclose(
            probabilities(answer, candidate.output),
            probabilities(own, candidate.output),
            atol=TOLERANCE[precision],
        )


NORMALISED = InputSpec(
    224, "float32", "NCHW", "crop", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255.0
)
REAL = {
    "mobilenet_v2_100_224": (InputSpec(224, "uint8", "NHWC"), OutputSpec(1000, "probabilities")),
    "googlenet": (NORMALISED, OutputSpec(1000)),
}


#: Engines that really are others, and one stand-in so that the way there and back is walked.
REAL_CASES = [
    *((c, name) for c in CASES if "stand-in" not in c.id for name in REAL),
    *((c, "mobilenet_v2_100_224") for c in CASES if c.id == "tensorrt-8.2.1.8-stand-in"),
]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("opens", "precision", "name"),
    [pytest.param(*case.values, name, id=f"{case.id}-{name}") for case, name in REAL_CASES],
)
def test_real_images_get_the_same_class(
    opens: Any, precision: str, name: str, data: Path, photographs: dict[str, Any]
) -> None:
    spec, output = REAL[name]
    path = data / "imagenet" / "models" / f"{name}.onnx"
    engine = opens(path)  # which skips where it is not here
    if name not in photographs:
        files = sorted((data / "imagenet" / "images").iterdir())[:IMAGES]
        assert len(files) == IMAGES
        images = np.concatenate([preprocess(decode(file, 256), spec) for file in files])
        photographs[name] = images, run(OnnxEngine(path), output, images, 16)
    images, expected = photographs[name]
    found = run(engine, output, images, 16)
    same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    assert same >= AGREEMENT
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[precision])


@pytest.fixture(scope="module")
def photographs() -> Iterator[dict[str, Any]]:
    """Inputs and the processor's answers by network, made where an engine needs them."""
    kept: dict[str, Any] = {}
    yield kept
    kept.clear()


def run(engine: Any, output: OutputSpec, images: np.ndarray, batch: int) -> np.ndarray:
    """Probabilities of all images, batch by batch; the engine is closed."""
    parts = [engine.run(images[i : i + batch])[0] for i in range(0, len(images), batch)]
    engine.close()
    return np.concatenate([probabilities(part, output) for part in parts])
