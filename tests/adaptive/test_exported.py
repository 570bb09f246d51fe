from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import adaptive


def test_exported_names() -> None:
    assert adaptive.__all__ == [
        "STOP",
        "AdaptiveError",
        "Audit",
        "Bucket",
        "Bundle",
        "BundleError",
        "BusyError",
        "ByPremodel",
        "Cascade",
        "Client",
        "DeadlineError",
        "EngineError",
        "EngineOptions",
        "Fixed",
        "History",
        "Hybrid",
        "ImageError",
        "InputError",
        "InputSpec",
        "Limits",
        "MissingExtra",
        "MissingOpenCV",
        "Model",
        "OnnxEngine",
        "OutcomeKNN",
        "OutcomeTable",
        "Pixels",
        "Policy",
        "Prediction",
        "Premodel",
        "Random",
        "Router",
        "ServiceError",
        "Split",
        "TableError",
        "Tuner",
        "UnreachableError",
        "VideoReader",
        "evaluate",
        "load_premodel",
        "profile",
        "read_policy",
        "write_policy",
    ]
    assert all(hasattr(adaptive, name) for name in adaptive.__all__)


def test_every_error_has_one_root() -> None:
    errors = importlib.import_module("adaptive.errors")
    own = [
        e for e in vars(errors).values() if isinstance(e, type) and e.__module__ == errors.__name__
    ]
    assert len(own) == 12
    assert all(issubclass(error, adaptive.AdaptiveError) for error in own)
    assert {error.__name__ for error in own} <= set(adaptive.__all__)


@pytest.mark.parametrize("module", ["adaptive", "adaptive.cli"])
def test_import_loads_no_heavy_stack_and_is_silent(module: str) -> None:
    heavy = (
        "torch torchvision onnxruntime onnx tensorrt cv2 PIL flask uvicorn uvloop httptools "
        "prometheus_client urllib3 sklearn scipy tqdm"
    )
    program = (
        f"import sys; sys.argv = ['x', '--no-such-option']; import {module}; "
        f"print(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["adaptive.routing.router", "adaptive.cli.classify"])
def test_who_asks_no_server_pays_for_no_client(module: str) -> None:
    program = f"import sys, {module}; print('urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_names_are_loaded_when_they_are_used() -> None:
    program = (
        "import sys; import adaptive; "
        "print([n for n in sys.modules if n.startswith('adaptive.')]); "
        "print(adaptive.Limits.__module__, 'Limits' in vars(adaptive)); "
        "print('adaptive.routing.router' in sys.modules); "
        "from adaptive import *; print(Router.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "[]",
        "adaptive.limits True",
        "False",
        "adaptive.routing.router",
    ]


def test_unknown_names_are_told() -> None:
    with pytest.raises(AttributeError, match="module 'adaptive' has no attribute 'Rooter'"):
        adaptive.Rooter  # noqa: B018
    assert set(adaptive.__all__) <= set(dir(adaptive))
