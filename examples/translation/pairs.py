"""Sentence pairs, and the subword pieces that both languages share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import sentencepiece

PAD, UNKNOWN, BEGIN, END = range(4)
LONGEST = 120  # pieces of a sentence, both ways; what goes beyond is cut off


def read_pairs(folder: Path, part: str, source: str = "en", target: str = "de") -> list:
    """Read the pairs of `part`: PART.en and PART.de, line by line, as (source, target)."""
    sides = []
    for language in (source, target):
        text = (folder / f"{part}.{language}").read_text(encoding="utf-8")
        sides.append([line.strip() for line in text.splitlines()])
    if len(sides[0]) != len(sides[1]):
        raise SystemExit(
            f"{part}.{source} has {len(sides[0])} lines and {part}.{target} {len(sides[1])};"
            " line n of one must be the translation of line n of the other"
        )
    return list(zip(*sides))


def learn_pieces(sentences: Sequence[str], path: Path, size: int) -> None:
    """Learn at most `size` pieces (byte-pair encoding) from `sentences`, into `path`."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=PAD,
        unk_id=UNKNOWN,
        bos_id=BEGIN,
        eos_id=END,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


def read_pieces(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Open what `learn_pieces` wrote."""
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def encode(pieces: sentencepiece.SentencePieceProcessor, sentence: str) -> list:
    """Turn a sentence into numbers of pieces, with the end that every source carries."""
    return [*pieces.encode(sentence)[: LONGEST - 1], END]


def batches(
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    size: int,
    draw: np.random.Generator,
) -> Iterator[tuple]:
    """Shuffled batches (source, target) of at most `size` pairs, int64, (n, pieces).

    The sources of a batch are all of one length, so that nothing has to be masked in an
    encoder; targets are padded behind their end, where a decoder that looks back alone never
    sees it.
    """
    by_length: dict = {}
    for row in draw.permutation(len(sources)):
        by_length.setdefault(len(sources[row]), []).append(row)
    groups = [
        rows[first : first + size]
        for rows in by_length.values()
        for first in range(0, len(rows), size)
    ]
    for group in draw.permutation(len(groups)):
        rows = groups[group]
        target = np.full((len(rows), max(len(targets[row]) for row in rows) + 1), PAD)
        target[:, 0] = BEGIN
        for place, row in enumerate(rows):
            target[place, 1 : len(targets[row]) + 1] = targets[row]
        yield np.array([sources[row] for row in rows]), target
