"""Every network translates every sentence of some parts: an outcome table of the user's own kind.

    python examples/translation/table.py DATA WORK --parts val test_2016_flickr -o tuning.csv

WORK/tuning.csv has a row a sentence: NAME:chrf (sentence chrF / 100), NAME:ms, NAME:confidence,
and the features. WORK/tuning.NAME.txt has the translations, line by line, and
WORK/tuning.reference.txt what they are held against.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Sequence

from pairs import encode, read_pairs, read_pieces
from sacrebleu.metrics import CHRF
from sentences import common_words, features_of, names_of
from tqdm import tqdm
from translate import OnnxTranslator


def main() -> None:
    """Write the table that the command line asks for."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("data", type=Path)
    ask.add_argument("work", type=Path)
    ask.add_argument("--parts", nargs="+", required=True)
    ask.add_argument("-o", "--output", required=True, help="a name in WORK, such as tuning.csv")
    ask.add_argument(
        "--search",
        nargs="*",
        default=[],
        metavar="NETWORK",
        help="networks that are also asked with a beam of four, as candidates NETWORK.beam4",
    )
    ask.add_argument("--bag", type=int, default=100, help="words that have columns")
    ask.add_argument("--repeats", type=int, default=3, help="runs, of which the fastest counts")
    told = ask.parse_args()
    write_table(told.data, told.work, told.parts, told.output, told.bag, told.repeats, told.search)


def write_table(
    data: Path,
    work: Path,
    parts: list,
    output: str,
    bag: int = 100,
    repeats: int = 3,
    search: Sequence[str] = (),
) -> None:
    """Translate `parts` of DATA with every network in WORK and write WORK/OUTPUT."""
    names = sorted(path.name[: -len(".step.onnx")] for path in work.glob("*.step.onnx"))
    if not names:
        raise SystemExit(f"{work} has no NAME.step.onnx; train.py writes them")
    pieces = read_pieces(work / "pieces.model")
    words = common_words((source for source, _ in read_pairs(data, "train")), bag)
    networks = {name: OnnxTranslator(work / name) for name in names}
    ask = {name: network.translate for name, network in networks.items()}
    for name in search:
        if name not in networks:
            raise SystemExit(f"{name!r} is not in {work}; it has {names}")
        ask[f"{name}.beam4"] = networks[name].search
    names = list(ask)
    judge = CHRF()
    rows, said_by, references = [], {name: [] for name in names}, []
    todo = [
        (f"{part}-{number:04d}", *pair)
        for part in parts
        for number, pair in enumerate(read_pairs(data, part), 1)
    ]
    for translate in ask.values():
        for _ in range(5):  # so that no sentence pays for what is made once
            translate(encode(pieces, todo[0][1]))
    for name, source, reference in tqdm(todo, unit=" sentences", disable=None):
        began = time.perf_counter()
        numbers = encode(pieces, source)
        cut = time.perf_counter()
        features = features_of(source, pieces.id_to_piece(numbers[:-1]), words)
        ended = time.perf_counter()
        row = [name, 1e3 * (cut - began), 1e3 * (ended - cut), *features]
        taken = dict.fromkeys(names, float("inf"))
        said = {}
        for _ in range(repeats):
            for each, translate in ask.items():
                began = time.perf_counter()
                said[each] = translate(numbers)
                taken[each] = min(taken[each], 1e3 * (time.perf_counter() - began))
        for each in names:
            text = pieces.decode(said[each].pieces)
            said_by[each].append(text)
            worth = judge.sentence_score(text, [reference]).score / 100
            row += [min(1.0, worth), taken[each], said[each].confidence]
        rows.append([name, *(f"{value:.6g}" for value in row[1:])])
        references.append(reference)
    header = ["image", "decode:ms", "features:ms", *names_of(words)]
    header += [f"{name}:{what}" for name in names for what in ("chrf", "ms", "confidence")]
    with open(work / output, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    stem = (work / output).with_suffix("")
    for name, texts in [*said_by.items(), ("reference", references)]:
        Path(f"{stem}.{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(f"wrote {work / output}: {len(rows)} sentences, {len(names)} candidates, {bag} words")


if __name__ == "__main__":
    main()
