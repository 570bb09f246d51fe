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

    def search(self, source: Sequence[int], beam: int = 4) -> Translation:
        """Beam search: of `beam` translations that ended, the one with the best mean logarithm."""
        memory, state = self.encoder.run(None, {"source": np.array([source], np.int64)})
        memory = np.repeat(memory, beam, axis=0)
        lines, sums, ended = [[]], np.zeros(1), []
        token = np.array([BEGIN], np.int64)
        for length in range(1, min(2 * len(source) + 10, LONGEST) + 1):
            given = {"token": token, "memory": memory[: len(lines)], "state": state}
            log_chances, state = self.step.run(None, given)
            total = sums[:, None] + log_chances
            best = np.argpartition(-total, beam, axis=None)[:beam]
            rows, pieces = np.divmod(best[np.argsort(-total.flat[best])], total.shape[1])
            going = []
            for place, (row, piece) in enumerate(zip(rows, pieces)):
                if piece == END:
                    ended.append((total[row, piece] / length, lines[row]))
                else:
                    going.append(place)
            if len(ended) >= beam or not going:
                break
            rows, token = rows[going], pieces[going]
            lines = [[*lines[row], int(piece)] for row, piece in zip(rows, token)]
            sums, state = total[rows, token], state[rows]
        score, said = max(ended) if ended else (sums[0] / length, lines[0])
        return Translation(said, float(np.exp(score)))


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
