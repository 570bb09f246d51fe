"""What can be told of a sentence before anything translates it (Marco et al. 2020)."""

from __future__ import annotations

import re
from collections import Counter
from typing import Iterable, Sequence

import numpy as np

_WORD = re.compile(r"\w+(?:['’-]\w+)*")

#: Numbers of words and pieces, their mean lengths in characters, and the share of characters
#: that are neither letters, digits nor blanks.
PLAIN = ("words", "pieces", "word_length", "piece_length", "punctuation")


def words_of(sentence: str) -> list:
    """The words of a sentence, small."""
    return _WORD.findall(sentence.lower())


def common_words(sentences: Iterable[str], count: int) -> list:
    """The `count` words that the most sentences have, for a bag of words; ASCII letters alone."""
    seen: Counter = Counter()
    for sentence in sentences:
        seen.update({word for word in words_of(sentence) if word.isascii() and word.isalpha()})
    ranked = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, _ in ranked[:count]]


def names_of(bag: Sequence[str]) -> tuple:
    """The columns that `features_of` fills."""
    return (*PLAIN, *(f"word_{word}" for word in bag))


def features_of(sentence: str, pieces: Sequence[str], bag: Sequence[str]) -> np.ndarray:
    """The features of a sentence that was cut into `pieces`, (5 + len(bag),), float64."""
    words = words_of(sentence)
    marks = sum(not (letter.isalnum() or letter.isspace()) for letter in sentence)
    counts = Counter(words)
    plain = [
        len(words),
        len(pieces),
        sum(map(len, words)) / max(1, len(words)),
        sum(len(piece.lstrip("▁")) for piece in pieces) / max(1, len(pieces)),
        marks / max(1, len(sentence)),
    ]
    return np.array([*plain, *(counts[word] for word in bag)], float)
