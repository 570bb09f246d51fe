"""What things cost as the work grows, one part at a time.

    python benchmarks/scale.py premodel --table X.csv --json premodel.json
    python benchmarks/scale.py candidates --json candidates.json
    python benchmarks/scale.py tables --work /tmp/scale --json tables.json
    python benchmarks/scale.py images --json images.json
    python benchmarks/plot_scale.py *.json -o docs/images/scale.svg

* premodel: outcome neighbours of 100 to 100,000 images. Rows come from the outcome table X.csv;
  beyond what it holds its rows are drawn again, with noise of 0.3 standard deviations on each
  feature and the outcomes of one of the 50 nearest images. Without --table they are drawn.
  Above 10,000 rows and 10 features the premodel is condensed, and what that costs in accuracy
  is measured.
* candidates: tuning and deciding with 2 to 64 candidates, of 2,000 drawn images, without
  networks.
* tables: `adaptive tune` and `adaptive evaluate` as a user calls them, each a process of its own,
  on drawn tables of 1,000 to 1,000,000 images, three candidates and ten features: wall clock and
  peak resident memory of the process. The files go to --work and are removed afterwards.
* images: decoding and features of square images of 64 pixels to 50 megapixels, JPEG and PNG.

Times are the processor's, which other programs on the machine disturb less than the clock's; set
OPENBLAS_NUM_THREADS=1, so that they are of one core. The clock's of `tables` stand beside.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Callable

import numpy as np
from machine import envelope, result, save, show

from adaptive.outcomes.table import Outcomes, OutcomeTable

ROWS = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
CANDIDATES = (2, 4, 8, 16, 32, 64)
TABLES = (1000, 10_000, 100_000, 1_000_000)
SIDES = (64, 128, 256, 512, 1024, 2048, 4096, 7071)

#: Candidates of the embedded default, which drawn tables take their names from.
NAMES = ("mobilenet", "inception", "resnet")


class Found:
    """Results by name, and the series that a plot is made from."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.series: dict[str, list[tuple[float, float]]] = {}

    def add(
        self, name: str, size: float, samples: list[float], unit: str = "ms", drawn: bool = True
    ) -> None:
        """Samples of one quantity at one size of the work, and whether a plot has them."""
        self.results[f"{name}, {size:,}"] = one = result(samples, unit)
        if drawn:
            self.series.setdefault(f"{name} ({unit})", []).append((size, one["median"]))
        print(f"{name}, {size:,}: {one['median']:.4g} {unit}", flush=True)


def timed(run: Callable[[], object], seconds: float = 1.0, most: int = 200) -> list[float]:
    """Processor milliseconds of at least three runs after one to warm up, for about so long."""
    run()
    samples: list[float] = []
    until = perf_counter() + seconds
    while len(samples) < 3 or (len(samples) < most and perf_counter() < until):
        began = process_time()
        run()
        samples.append((process_time() - began) * 1e3)
    return samples


def premodel(options: argparse.Namespace) -> dict[str, Any]:
    """Premodels of more and more rows."""
    from adaptive.premodel.condense import condensed_words, cost_of_condensing
    from adaptive.premodel.neighbours import condensed_rows
    from adaptive.premodel.outcome_knn import OutcomeKNN

    generator = np.random.default_rng(0)
    if options.table:
        table = OutcomeTable.read(options.table)
    else:
        table = drawn(2000, 3, generator, 31)
    names, order = table.features, table.candidates
    outcomes = np.column_stack([table.quality(name) for name in order]).astype(np.uint8)
    spread = table.X.std(axis=0)
    whole = OutcomeKNN(names, order, k=50).fit(table.X, outcomes)
    found, condensed = Found(), []
    for rows in ROWS:
        if rows <= len(table):
            X, right = table.X[:rows], outcomes[:rows]
        else:
            chosen = generator.integers(0, len(table), rows)
            X = table.X[chosen] + 0.3 * spread * generator.standard_normal((rows, len(names)))
            # Outcomes of a neighbour, for those of the same row would make the task too easy.
            near = whole.nearest(X)
            right = outcomes[near[np.arange(rows), generator.integers(0, near.shape[1], rows)]]
        fitted = OutcomeKNN(names, order, k=min(50, rows - 1)).fit(X, right)
        one = table.X[:1]
        found.add("one prediction", rows, timed(lambda m=fitted, x=one: m.predict(x), 0.5))
        fit = timed(lambda m=fitted, x=X, y=right: m.unfitted().fit(x, y), 0.5, 20)
        found.add("fit", rows, fit)
        if condensed_rows(*X.shape) is not None:
            cost = cost_of_condensing(fitted, X, right)
            condensed.append(cost)
            print(condensed_words(cost), flush=True)
    origin = f"{options.table.name}, {len(table)} images" if options.table else "drawn"
    settings = {"part": "premodel", "rows from": origin, "features": len(names)}
    return envelope("scale", found.results, settings, series=found.series, condensed=condensed)


def candidates(options: argparse.Namespace) -> dict[str, Any]:
    """Tuning and deciding among more and more candidates."""
    from adaptive.policy.cascade import Cascade
    from adaptive.policy.history import Output
    from adaptive.policy.premodel import ByPremodel
    from adaptive.policy.walk import Walk
    from adaptive.premodel.outcome_knn import OutcomeKNN
    from adaptive.tuning.objectives import Tuner

    found = Found()
    for count in CANDIDATES:
        generator = np.random.default_rng(count)
        table = drawn(2000, count, generator, 7)
        names = table.candidates
        cost = tuple(float(table.ms(name).mean()) for name in names)
        outcomes = np.column_stack([table.quality(name) for name in names]).astype(np.uint8)
        premodel = OutcomeKNN(table.features, names).fit(table.X, outcomes)
        by_premodel = ByPremodel(names, premodel, rule="utility", price=0.01, costs_ms=cost)
        x = table.X[:1]

        def direct(policy: ByPremodel = by_premodel, x: np.ndarray = x) -> None:
            Walk(policy, 1, policy.chances(x))

        cascade = Cascade(names, thresholds=(1.0,) * (count - 1), costs_ms=cost)
        said = Output(np.array([0.5]), None)

        def to_the_end(policy: Cascade = cascade, said: Output = said) -> None:
            walk = Walk(policy, 1)
            while (step := walk.wanted) is not None:
                walk.feed(step, said)

        found.add("premodel and decision, one image", count, timed(direct, 0.3))
        found.add("cascade that asks all, one image", count, timed(to_the_end, 0.3))
        budget = float(np.median(cost))
        began = process_time()
        Tuner(table, premodel=premodel, premodel_ms=0.02).within(budget)
        found.add("tune", count, [(process_time() - began) * 1e3])
    settings = {"part": "candidates", "images": 2000, "networks": "none, answers are drawn"}
    return envelope("scale", found.results, settings, series=found.series)


def tables(options: argparse.Namespace) -> dict[str, Any]:
    """`adaptive tune` and `adaptive evaluate` on larger and larger tables."""
    from adaptive.bundle.bundle import default_bundle

    options.work.mkdir(parents=True, exist_ok=True)
    found = Found()
    for rows in TABLES:
        if rows > options.most:
            continue
        table, policy = options.work / f"table{rows}.csv", options.work / f"policy{rows}.json"
        try:
            write_drawn(table, rows)
            size = table.stat().st_size / 1e6
            print(f"{rows:,} rows: {size:.0f} MB of text", flush=True)
            tune = ["tune", table, "-o", policy, "--force"]
            evaluate = ["evaluate", default_bundle(), table, "--policy", policy, "--part", "all"]
            commands = {
                "tune to a promise": [*tune, "--max-accuracy-drop", "0.02"],
                "tune to a budget": [*tune, "--budget-ms", "1.5"],
                "evaluate": evaluate,
            }
            for name, words in commands.items():
                seconds, spent, peak = measured(
                    [sys.executable, "-m", "adaptive.cli", *map(str, words)]
                )
                found.add(f"adaptive {name}", rows, [seconds], "s", drawn=False)
                found.add(f"adaptive {name}, processor", rows, [spent], "s")
                found.add(f"adaptive {name}, peak", rows, [peak], "MB")
        finally:
            for path in (table, policy, options.work / "certificate.json"):
                if path.exists():
                    path.unlink()
    settings = {"part": "tables", "candidates": 3, "features": 10, "probabilities": "none"}
    return envelope("scale", found.results, settings, series=found.series)


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and peak resident memory in MB."""
    began = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status  # it has been waited for
    if os.WEXITSTATUS(status) not in (0, 1):  # 1: nothing can be promised of so few images
        sys.exit(f"{' '.join(command)} failed: {said.decode(errors='replace')}")
    spent = usage.ru_utime + usage.ru_stime
    return perf_counter() - began, spent, usage.ru_maxrss * 1024 / 1e6


def images(options: argparse.Namespace) -> dict[str, Any]:
    """Decoding and features of larger and larger images."""
    import cv2
    from PIL import Image

    from adaptive.features.extract import extract
    from adaptive.features.schema import SCHEMA
    from adaptive.images.decode import decode

    cv2.setNumThreads(1)
    found = Found()
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (48, 48, 3), np.uint8))
    for side in SIDES:
        pixels = np.asarray(coarse.resize((side, side), Image.BICUBIC))
        noise = generator.integers(-8, 9, (side, side, 1), np.int16)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        for kind, more in (("JPEG", {"quality": 90}), ("PNG", {"compress_level": 1})):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, kind, **more)
            data = file.getvalue()
            found.add(f"decode {kind}", side * side, timed(lambda d=data: decode(d), 1.0))
        crop = SCHEMA.crop(SCHEMA.working(decode(data)))
        found.add("features", side * side, timed(lambda c=crop: extract(c, "all+extra"), 0.5))
    settings = {"part": "images", "features": "all+extra", "networks' scale": SCHEMA.short_side}
    return envelope("scale", found.results, settings, series=found.series)


def drawn(rows: int, count: int, generator: np.random.Generator, width: int) -> OutcomeTable:
    """A table of `count` candidates, each dearer and mostly better than the one before."""
    hard = generator.random(rows)
    X = generator.standard_normal((rows, width))
    X[:, 0] += 2 * hard
    outcomes = {}
    for place, name in enumerate(f"network{i}" for i in range(count)):
        skill = 0.6 + 0.3 * (place + 1) / count + generator.normal(0, 0.02)
        sure = np.clip(skill + 0.25 - 0.5 * hard + generator.normal(0, 0.15, rows), 0.02, 0.98)
        right = generator.random(rows) < sure
        ms = (1 + 9 * place / max(1, count - 1)) * np.exp(generator.normal(0, 0.05, rows))
        outcomes[name] = Outcomes(right, right, sure, ms)
    return OutcomeTable(
        tuple(f"{i:07d}.jpg" for i in range(rows)),
        np.zeros(rows, np.int64),
        tuple(f"f{i}" for i in range(width)),
        X,
        outcomes,
        np.full(rows, 0.2),
        np.full(rows, 0.1),
    )


def write_drawn(path: Path, rows: int, width: int = 10) -> None:
    """The CSV of a drawn table with the default's candidates, a part at a time."""
    header = ["image", "label", "decode:ms", "features:ms", *(f"f{i}" for i in range(width))]
    header += [f"{n}:{part}" for n in NAMES for part in ("top1", "top5", "confidence", "ms")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for begin in range(0, rows, 20_000):
            part = drawn(min(20_000, rows - begin), 3, np.random.default_rng(begin), width)
            columns: list[Any] = [
                [f"{begin + i:07d}.jpg" for i in range(len(part))],
                part.label.tolist(),
                part.decode_ms.tolist(),
                part.features_ms.tolist(),
            ]
            columns += [part.X[:, i].round(6).tolist() for i in range(width)]
            for scale, one in zip((0.4, 0.2, 0.3), part.outcomes.values()):
                flags = one.quality.astype(int).tolist()
                ms = (one.ms * scale).round(5).tolist()
                columns += [flags, flags, one.confidence.round(6).tolist(), ms]
            writer.writerows(zip(*columns))


PARTS = {f.__name__: f for f in (premodel, candidates, tables, images)}


def main() -> None:
    """Measure one part, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--table", type=Path, help="of premodel: an outcome table")
    parser.add_argument("--work", type=Path, default=Path("scale-work"), help="of tables")
    parser.add_argument("--most", type=int, default=TABLES[-1], help="of tables: rows at most")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    content = PARTS[options.part](options)
    print()
    show(content)
    save(content, options.json)


if __name__ == "__main__":
    main()
