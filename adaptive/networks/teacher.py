"""A trained network's answers, as goals for a smaller one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from tqdm import tqdm

from adaptive.errors import InputError
from adaptive.networks.images import ImageArrays


def teacher_logits(path: Path, data: ImageArrays, batch: int = 250) -> np.ndarray:
    """Logits of the network in an ONNX file for all images and their mirror images, averaged.

    The network must read what the one that learns reads: uint8 images of shape
    (n, size, size, 3), and answer one number for each class.

    Returns
    -------
    ndarray of shape (n, classes), float32

    Raises
    ------
    InputError
        when the file is no such network.
    """
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise InputError(f"teacher {path} cannot be read: {str(exc).splitlines()[0]}") from exc
    source = session.get_inputs()[0]
    answers = []
    for start in tqdm(range(0, len(data.labels), batch), desc="teacher", leave=False):
        images = data.images[start : start + batch]
        total = np.zeros((len(images), len(data.classes)), np.float32)
        for seen in (images, np.ascontiguousarray(images[:, :, ::-1])):
            try:
                (logits,) = session.run(None, {source.name: seen})[:1]
            except Exception as exc:
                shape, first = images.shape[1:], str(exc).splitlines()[0]
                raise InputError(
                    f"teacher {path} does not take uint8 images of shape {shape}: {first}"
                ) from exc
            if np.shape(logits) != total.shape:
                raise InputError(
                    f"teacher {path} answers {np.shape(logits)} for {len(images)} images, "
                    f"not {total.shape}"
                )
            total += logits / 2
        answers.append(total)
    return np.concatenate(answers)
