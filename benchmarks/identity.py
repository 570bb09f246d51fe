"""What re-identification comes to on a folder of persons, and on clips of faces.

    python benchmarks/identity.py PERSONS --networks FILE.json --detector BUNDLE [CLIP]...
        [--rate 0.01]

PERSONS holds a folder of photographs for each person. Leave-one-out: each photograph is looked for
in a store of all others (is it the right person?), and in one without its person (open set: nobody
should be found). Thresholds are chosen for each person on the others alone. On clips nobody says
who is who: what is told is how many people a store that starts empty takes them for.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import Dict, List

import numpy as np
from machine import machine, machine_line

from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.images.video import VideoReader
from adaptive.intervals import share
from adaptive.routing.crops import parts_of
from adaptive.routing.router import Router
from adaptive.video.embedding import open_embedders
from adaptive.video.identified import identify
from adaptive.video.identity import IdentityStore
from adaptive.video.identity_tuning import (
    fewest_persons,
    impostors,
    promise,
    rates,
    tune_thresholds,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("persons", type=Path)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--least", type=float, default=0.7)
    parser.add_argument("--rate", type=float, default=0.01)
    options = parser.parse_args()
    print(machine_line(machine()))
    embedders = open_embedders(options.networks)
    with Router.load(options.detector) as router:
        parts = parts_of(router, options.least)
        rows: Dict[str, List[np.ndarray]] = {e.network.name: [] for e in embedders}
        spent: Dict[str, List[float]] = {e.network.name: [] for e in embedders}
        names: List[str] = []
        missed = 0
        for path in sorted(options.persons.glob("*/*.jpg")):
            found = parts(decode(path, MAX_PIXELS))
            if not found:
                missed += 1
                continue
            for embedder in embedders:
                began = time.perf_counter()
                rows[embedder.network.name].append(embedder.run(found[0][0]))
                spent[embedder.network.name].append((time.perf_counter() - began) * 1e3)
            names.append(path.parent.name)
        every = {name: np.stack(own) for name, own in rows.items()}
        of = np.array(names)
        print(f"{len(names)} photographs of {len(set(names))} persons; no face on {missed}")
        for name, own in spent.items():
            print(f"  {name}: {np.median(own):.1f} ms")
        print(
            "| left-out person | threshold | open set: matched falsely | in the store: right "
            "| wrong |"
        )
        false: List[float] = []
        right: List[bool] = []
        wrong: List[bool] = []
        for person in sorted(set(names)):
            others = of != person
            chosen = tune_thresholds(
                {name: own[others] for name, own in every.items()},
                of[others].tolist(),
                options.rate,
            )
            mine = np.flatnonzero(~others)
            matched = np.zeros(len(of), bool)
            for name, own in every.items():
                matched |= impostors(own, names) <= chosen[name]
            hits, errors = [], []
            for place in mine.tolist():
                keep = np.arange(len(of)) != place
                store = IdentityStore([e.network for e in embedders], chosen)
                for other in np.flatnonzero(keep).tolist():
                    embeddings = {name: own[other] for name, own in every.items()}
                    who = names[other]
                    store.update(who, embeddings) if who in store else store.add(who, embeddings)
                answer = next(
                    (m for n, own in every.items() if (m := store.match(n, own[place]))), None
                )
                hits.append(answer is not None and answer.name == person)
                errors.append(answer is not None and answer.name != person)
            print(
                f"| {person} | {', '.join(f'{v:.3f}' for v in chosen.values())} | "
                f"{100 * matched[mine].mean():.0f}% | {100 * np.mean(hits):.0f}% | "
                f"{100 * np.mean(errors):.0f}% |"
            )
            false += matched[mine].tolist()
            right += hits
            wrong += errors
        for what, values in (("matched falsely", false), ("right", right), ("wrong", wrong)):
            own_share = share(np.array(values, bool))
            print(
                f"{what}: {100 * own_share.value:.1f}% ({100 * own_share.low:.1f} to "
                f"{100 * own_share.high:.1f} over photographs)"
            )
        together = tune_thresholds(every, names, options.rate)
        found_rates = rates(every, names, together)
        print(
            f"thresholds of all together: {together}, of which right {found_rates.right.value:.3f}"
        )
        half = np.isin(of, sorted(set(names))[::2])
        chosen = tune_thresholds(
            {n: own[half] for n, own in every.items()}, of[half].tolist(), options.rate
        )
        said = promise(
            {n: own[~half] for n, own in every.items()}, of[~half].tolist(), chosen, options.rate
        )
        print(said.words())
        print(f"fewest persons for 5%: {fewest_persons(0.05, 0.05)}")
        for clip in options.clips:
            store = IdentityStore([e.network for e in embedders], together)
            by: Counter[str] = Counter()
            who: Counter[str] = Counter()
            find_ms = embed_ms = 0.0
            with VideoReader(clip, live=False) as reader:
                for frame in reader:
                    began = time.perf_counter()
                    cut = parts(frame.image)
                    find_ms += (time.perf_counter() - began) * 1e3
                    began = time.perf_counter()
                    for crop, _ in cut:
                        answer_now = identify(store, embedders, crop, learn=True)
                        by[answer_now.by or "new"] += 1
                        who[str(answer_now.name)] += 1
                    embed_ms += (time.perf_counter() - began) * 1e3
                frames = frame.number
            faces = max(1, sum(by.values()))
            shares = ", ".join(f"{n} {100 * c / faces:.1f}%" for n, c in by.most_common())
            print(
                f"{clip.name}: {frames} frames, {faces} faces, {len(store)} people, {shares}; "
                f"finding {find_ms / frames:.1f} ms a frame, identifying {embed_ms / faces:.1f} ms "
                f"a face; the most seen: {who.most_common(4)}"
            )


if __name__ == "__main__":
    main()
