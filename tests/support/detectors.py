"""The three shared detectors, fed and read by what a manifest entry would say of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adaptive.tasks.decoding import BoxSpec, detections
from adaptive.tasks.detections import Detections
from adaptive.tasks.placement import Placement, fitted, stretched


@dataclass(frozen=True)
class Detector:
    """One detector: its file, how an image is put in, and what comes out."""

    file: str
    side: int
    spec: BoxSpec
    place: str | None = None  # None: stretched
    padding: float = 0.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # BGR
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def placement(self, image: np.ndarray) -> Placement:
        size = self.side, self.side
        if self.place is None:
            return stretched(image.shape[:2], size)
        return fitted(image.shape[:2], size, self.place)

    def tensor(self, image: np.ndarray, placement: Placement) -> np.ndarray:
        """A BGR image as (1, 3, side, side) float32."""
        target = placement.target
        canvas = np.full((self.side, self.side, 3), self.padding, np.float32)
        rows = slice(target.top, target.top + target.height)
        columns = slice(target.left, target.left + target.width)
        canvas[rows, columns] = cv2.resize(image, (target.width, target.height))
        canvas = (canvas - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[np.newaxis], np.float32)

    def find(self, session: Any, image: np.ndarray) -> Detections:
        placement = self.placement(image)
        arrays = session.run(None, {session.get_inputs()[0].name: self.tensor(image, placement)})
        outputs = dict(zip([entry.name for entry in session.get_outputs()], arrays))
        return detections(outputs, self.spec, (self.side, self.side), placement)


def open_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def shared(threshold: float = 0.01) -> dict[str, Detector]:
    return {
        "fastestdet_352": Detector(
            "fastestdet_352.onnx", 352, BoxSpec("fastest", 80, threshold), std=(255.0,) * 3
        ),
        "nanodet_m_320": Detector(
            "nanodet_m_320.onnx",
            320,
            BoxSpec("gfl", 80, threshold),
            "centre",
            0.0,
            (103.53, 116.28, 123.675),
            (57.375, 57.12, 58.395),
        ),
        "yolox_nano_416": Detector(
            "yolox_nano_416.onnx", 416, BoxSpec("yolox", 80, threshold), "top-left", 114.0
        ),
    }
