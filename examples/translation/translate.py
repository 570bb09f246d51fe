"""Translate with ONNX Runtime and numpy alone: no torch, one sentence at a time.

python examples/translation/translate.py WORK gru-128 "A man sleeps on a couch."
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np
import onnxruntime
from pairs import BEGIN, END, LONGEST, encode, read_pieces


class Translation(NamedTuple):
    """Pieces without the end, and how sure the network is of them, 0..1.

    `confidence` is the geometric mean of the chances of the pieces, the end's included: the
    mean logarithm, mapped to 0..1.
    """

    pieces: list
    confidence: float


class OnnxTranslator:
    """Encoder and decoder step of one network, NAME.encoder.onnx and NAME.step.onnx."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.encoder, self.step = (
            onnxruntime.InferenceSession(
                f"{path}.{kind}.onnx", options, providers=["CPUExecutionProvider"]
            )
            for kind in ("encoder", "step")
        )

    def translate(self, source: Sequence[int]) -> Translation:
        """Greedy decoding: always the likeliest piece, until the end or twice the source."""
        memory, state = self.encoder.run(None, {"source": np.array([source], np.int64)})
        said, logs = [], []
        token = BEGIN
        for _ in range(min(2 * len(source) + 10, LONGEST)):
            log_chances, state = self.step.run(
                None, {"token": np.array([token], np.int64), "memory": memory, "state": state}
            )
            token = int(log_chances[0].argmax())
            logs.append(float(log_chances[0, token]))
            if token == END:
                break
            said.append(token)
        return Translation(said, float(np.exp(np.mean(logs))))


def main() -> None:
    """Translate the sentences of the command line."""
    if len(sys.argv) < 4:
        raise SystemExit("usage: translate.py WORK NETWORK SENTENCE...")
    work = Path(sys.argv[1])
    pieces = read_pieces(work / "pieces.model")
    network = OnnxTranslator(work / sys.argv[2])
    for sentence in sys.argv[3:]:
        said = network.translate(encode(pieces, sentence))
        print(f"{said.confidence:.3f}  {pieces.decode(said.pieces)}")


if __name__ == "__main__":
    main()
