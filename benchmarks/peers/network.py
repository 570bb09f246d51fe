"""What the peers have in common: the image decoded with Pillow, the network run by ONNX Runtime."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

LABELS = [f"class {k}" for k in range(10)]


class Network:
    """One network, ready to be asked.

    Parameters
    ----------
    path : the ONNX file
    """

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        declared = self.session.get_inputs()[0]
        self.name, self.side = declared.name, declared.shape[1]

    def classify(self, jpeg: bytes) -> dict[str, Any]:
        """The best class and the five best, as JSON values."""
        image = Image.open(io.BytesIO(jpeg)).convert("RGB").resize((self.side, self.side))
        pixels = np.asarray(image, np.uint8)[None]
        logits = self.session.run(None, {self.name: pixels})[0][0]
        exponents = np.exp(logits - logits.max())
        chances = exponents / exponents.sum()
        best = np.argsort(-chances)[:5]
        top5 = [{"label": LABELS[k], "score": float(chances[k])} for k in best]
        return {**top5[0], "top5": top5}
