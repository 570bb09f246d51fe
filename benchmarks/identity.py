"""What re-identification comes to on a folder of persons, and on clips of faces or persons.

    python benchmarks/identity.py PERSONS [CLIP]... --networks FILE.json --detector BUNDLE
        [--others DIR]... [--whole FILE.json] [--class NAME] [--rate 0.05] [--size 12]
        [--smallest 32]

PERSONS holds a folder of photographs for each person. Leave-one-out: each photograph is looked for
in a store of all others (is it the right person?), and in one without its person (open set: nobody
should be found). Thresholds are chosen for each person on the others alone.

--others are photographs of other people, everybody on them somebody else. Thresholds for clips come
from PERSONS, all together, and once from every second of the others, in stores of so many people;
the rest of the others say how many are matched falsely. On clips nobody says who is who, but boxes
that overlap from frame to frame are one person, a track, and two in one frame are two people. So
it is told how many get their track's most frequent name, and how many a name that somebody else in
the same frame has; with all exits, and with the last one alone. --whole is the network without
exits, for its time.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from machine import machine, machine_line

from adaptive.imagefiles import files_below
from adaptive.images.decode import MAX_PIXELS, decode
from adaptive.images.video import VideoReader
from adaptive.intervals import share
from adaptive.routing.crops import parts_of
from adaptive.routing.router import Router
from adaptive.tasks.boxes import ious
from adaptive.video.embedding import open_embedders
from adaptive.video.identified import Embedder, embeddings_of, identify
from adaptive.video.identity import IdentityStore
from adaptive.video.identity_tuning import impostors, promise, tune_thresholds

Parts = Callable[[np.ndarray], List[Tuple[np.ndarray, Tuple[int, int, int, int]]]]

#: Overlap from which a box goes on with a track.
SAME = 0.4


class Seen(NamedTuple):
    """Crops with their embeddings.

    rows : by network, ndarray (n, width)
    names : of each crop, who or which track it is
    frames : of each crop, which image or frame it is on
    """

    rows: Dict[str, np.ndarray]
    names: np.ndarray
    frames: np.ndarray

    def only(self, rows: np.ndarray) -> Seen:
        every = {name: own[rows] for name, own in self.rows.items()}
        return Seen(every, self.names[rows], self.frames[rows])


class Timed:
    """Networks, and how long each takes."""

    def __init__(self, embedders: Sequence[Embedder], whole: Embedder | None) -> None:
        self.embedders = embedders
        self.whole = whole
        self._ms: Dict[str, List[float]] = defaultdict(list)

    def embeddings(self, crop: np.ndarray) -> Dict[str, np.ndarray]:
        found = {}
        began = time.perf_counter()
        for name, embedding in embeddings_of(self.embedders, crop):
            now = time.perf_counter()
            self._ms[name].append((now - began) * 1e3)
            found[name] = embedding
            began = now
        if self.whole is not None:
            began = time.perf_counter()
            self.whole.run(crop)
            self._ms["whole"].append((time.perf_counter() - began) * 1e3)
        return found

    @property
    def ms(self) -> Dict[str, float]:
        """Medians."""
        return {name: float(np.median(own)) for name, own in self._ms.items()}

    @property
    def whole_ms(self) -> float:
        """Of the network without exits; all parts one after the other where there is none."""
        ms = self.ms
        return ms.get("whole", sum(ms.values()))


def gathered(found: Iterator[Tuple[str, int, Dict[str, np.ndarray]]]) -> Seen:
    names, frames = [], []
    rows: Dict[str, List[np.ndarray]] = defaultdict(list)
    for name, frame, embeddings in found:
        names.append(name)
        frames.append(frame)
        for network, embedding in embeddings.items():
            rows[network].append(embedding)
    every = {name: np.stack(own) for name, own in rows.items()}
    return Seen(every, np.array(names), np.array(frames))


def of_persons(
    folder: Path, parts: Parts, timed: Timed
) -> Iterator[Tuple[str, int, Dict[str, np.ndarray]]]:
    """The surest of each photograph, by the folder that it is in."""
    for number, path in enumerate(sorted(folder.glob("*/*.jpg"))):
        cut = parts(decode(path, MAX_PIXELS))
        if cut:
            yield path.parent.name, number, timed.embeddings(cut[0][0])


def of_others(
    folders: Sequence[Path], parts: Parts, timed: Timed
) -> Iterator[Tuple[str, int, Dict[str, np.ndarray]]]:
    """Everybody on photographs, each somebody else."""
    number = 0
    for folder in folders:
        for name in files_below(folder).images:
            for crop, _ in parts(decode(folder / name, MAX_PIXELS)):
                yield f"{number:05}", number, timed.embeddings(crop)
                number += 1


def of_clip(
    clip: Path, parts: Parts, timed: Timed
) -> Iterator[Tuple[str, int, Dict[str, np.ndarray]]]:
    """Everybody in every frame of a clip, by the track that he or she is of."""
    boxes, names = np.zeros((0, 4), np.float32), []
    count = 0
    with VideoReader(clip, live=False) as reader:
        for frame in reader:
            cut = parts(frame.image)
            now = np.array([box for _, box in cut], np.float32).reshape(-1, 4)
            alike = ious(now, boxes)
            own = []
            for place, (crop, _) in enumerate(cut):
                best = int(alike[place].argmax()) if names else -1
                if best >= 0 and alike[place, best] >= SAME:
                    own.append(names[best])
                    alike[:, best] = 0
                else:
                    count += 1
                    own.append(f"track-{count}")
                yield own[-1], frame.number, timed.embeddings(crop)
            boxes, names = now, own


def chosen_for(seen: Seen, names: Sequence[str], rate: float, size: int) -> Dict[str, float]:
    """For each network, the largest distance that keeps false matches at a rate.

    Each is looked for in stores of `size` others, by chance; the networks share the rate.
    """
    generator = np.random.default_rng(0)
    found: Dict[str, List[np.ndarray]] = {name: [] for name in names}
    for _ in range(20):
        order = generator.permutation(len(seen.names))
        for group in np.array_split(order, max(1, len(order) // (size + 1))):
            for name in names:
                found[name].append(impostors(seen.rows[name][group], seen.names[group].tolist()))
    return {
        name: float(np.quantile(np.concatenate(own), rate / len(names), method="lower"))
        for name, own in found.items()
    }


def percent(values: Sequence[bool], groups: np.ndarray) -> str:
    """A share with what 95% of draws of whole groups lie between."""
    own = np.asarray(values, float)
    _, place = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(place, own), np.bincount(place)
    drawn = np.random.default_rng(0).integers(0, len(sums), (2000, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), (0.025, 0.975))
    return f"{100 * own.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def leave_one_out(seen: Seen, embedders: Sequence[Embedder], rate: float) -> None:
    """Each person's photographs, by thresholds of the others."""
    networks = [e.network for e in embedders]
    print("| left out | thresholds | found falsely | right | another's name |")
    print("|---|---|---|---|---|")
    false: List[bool] = []
    right: List[bool] = []
    wrong: List[bool] = []
    by: List[str] = []
    for person in sorted(set(seen.names.tolist())):
        others = seen.names != person
        rest = seen.only(others)
        chosen = tune_thresholds(rest.rows, rest.names.tolist(), rate)
        mine = np.flatnonzero(~others)
        matched = np.zeros(len(others), bool)
        for name, own in seen.rows.items():
            matched |= impostors(own, seen.names.tolist()) <= chosen[name]
        hits, errors = [], []
        for place in mine.tolist():
            store = IdentityStore(networks, chosen)
            for other in np.flatnonzero(np.arange(len(others)) != place).tolist():
                embeddings = {name: own[other] for name, own in seen.rows.items()}
                who = str(seen.names[other])
                store.update(who, embeddings) if who in store else store.add(who, embeddings)
            answer = identify(store, remembered(seen, embedders), np.array(place))
            by.append(answer.by or "nobody")
            hits.append(answer.name == person)
            errors.append(answer.name not in (None, person))
        values = ", ".join(f"{value:.3f}" for value in chosen.values())
        print(
            f"| {person} | {values} | {100 * matched[mine].mean():.0f}% | "
            f"{100 * np.mean(hits):.0f}% | {100 * np.mean(errors):.0f}% |"
        )
        false += matched[mine].tolist()
        right += hits
        wrong += errors
    shown = []
    for values_of in (false, right, wrong):
        own = share(np.array(values_of, bool))
        shown.append(f"{100 * own.value:.1f}% ({100 * own.low:.1f} to {100 * own.high:.1f})")
    print(f"| all | | {' | '.join(shown)} |")
    print("answered by " + shares(by))


def shares(by: Sequence[str]) -> str:
    return ", ".join(f"{n} {100 * c / len(by):.1f}%" for n, c in Counter(by).most_common())


def remembered(seen: Seen, embedders: Sequence[Embedder]) -> List[Embedder]:
    """Networks that answer for a crop's place what they said of it."""

    def answering(rows: np.ndarray) -> Callable[[np.ndarray], Tuple[np.ndarray]]:
        return lambda place: (rows[int(place)],)

    return [Embedder(e.network, answering(seen.rows[e.network.name])) for e in embedders]


def through(
    seen: Seen, timed: Timed, chosen: Dict[str, float], what: str, alone: bool = False
) -> None:
    """A clip through a store that begins empty and learns."""
    embedders = remembered(seen, timed.embedders[-1:] if alone else timed.embedders)
    store = IdentityStore([e.network for e in embedders], chosen)
    by, given, spent, ms = [], [], 0.0, timed.ms
    for place in range(len(seen.names)):
        answer = identify(store, embedders, np.array(place), learn=True)
        by.append(answer.by or "new")
        given.append(str(answer.name))
        spent += timed.whole_ms if alone else sum(ms[name] for name in answer.path)
    per_track: Dict[str, Counter[str]] = defaultdict(Counter)
    per_frame: Dict[int, Counter[str]] = defaultdict(Counter)
    for track, frame, name in zip(seen.names.tolist(), seen.frames.tolist(), given):
        per_track[track][name] += 1
        per_frame[frame][name] += 1
    alike = [
        name == per_track[track].most_common(1)[0][0]
        for track, name in zip(seen.names.tolist(), given)
    ]
    twice = [per_frame[f][name] > 1 for f, name in zip(seen.frames.tolist(), given)]
    each = spent / len(by)
    print(
        f"| {what} | {shares(by)} | {len(store)} | {percent(alike, seen.names)} | "
        f"{percent(twice, seen.names)} | {each:.2f} | {timed.whole_ms / each:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("persons", type=Path)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--whole", type=Path)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--others", type=Path, action="append", default=[])
    parser.add_argument("--class", dest="label")
    parser.add_argument("--least", type=float, default=0.7)
    parser.add_argument("--smallest", type=int, default=2, help="side of a box, pixels")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--size", type=int, default=12)
    options = parser.parse_args()
    print(machine_line(machine()))
    whole = None if options.whole is None else open_embedders(options.whole)[0]
    timed = Timed(open_embedders(options.networks), whole)
    names = [e.network.name for e in timed.embedders]
    with Router.load(options.detector) as router:
        every = parts_of(router, options.least, options.label)

        def parts(image: np.ndarray) -> List[Tuple[np.ndarray, Tuple[int, int, int, int]]]:
            return [one for one in every(image) if min(one[0].shape[:2]) >= options.smallest]

        limits: List[Tuple[str, Dict[str, float], Dict[str, float]]] = []
        if options.persons.name != "none":
            seen = gathered(of_persons(options.persons, parts, timed))
            whom = seen.names.tolist()
            print(f"{len(whom)} photographs of {len(set(whom))} persons")
            leave_one_out(seen, timed.embedders, options.rate)
            print("the last alone:")
            last = Seen({names[-1]: seen.rows[names[-1]]}, *seen[1:])
            leave_one_out(last, timed.embedders[-1:], options.rate)
            of_all = tune_thresholds(seen.rows, whom, options.rate)
            limits.append(("persons", of_all, tune_thresholds(last.rows, whom, options.rate)))
        if not options.others:
            return
        others = gathered(of_others(options.others, parts, timed))
        even = np.arange(len(others.names)) % 2 == 0
        chosen = chosen_for(others.only(even), names, options.rate, options.size)
        alone = chosen_for(others.only(even), names[-1:], options.rate, options.size)
        limits.append(("others", chosen, alone))
        print(
            f"{len(others.names)} others; stores of {options.size}; {100 * options.rate:g}% stated"
        )
        rest = others.only(~even)
        order = np.random.default_rng(1).permutation(len(rest.names))
        for source, *both in limits:
            for what, thresholds in zip(("all exits", "the last alone"), both):
                falsely = []
                for group in np.array_split(order, max(1, len(order) // (options.size + 1))):
                    matched = np.zeros(len(group), bool)
                    for name, limit in thresholds.items():
                        own = rest.rows[name][group]
                        matched |= impostors(own, rest.names[group].tolist()) <= limit
                    falsely += matched.tolist()
                said = share(np.array(falsely))
                print(
                    f"thresholds of the {source}, {what} "
                    f"({', '.join(f'{value:.3f}' for value in thresholds.values())}): of "
                    f"{len(falsely)} others {100 * said.value:.1f}% ({100 * said.low:.1f} to "
                    f"{100 * said.high:.1f}) are matched falsely"
                )
        few = rest.only(order[: options.size + 1])
        print(promise(few.rows, few.names.tolist(), chosen, options.rate).words())
        clips = [gathered(of_clip(clip, parts, timed)) for clip in options.clips]
        print(", ".join(f"{name} {ms:.2f} ms" for name, ms in timed.ms.items()))
        print(
            "| clip, thresholds | answered by | names | track's most frequent name, % | a name "
            "twice in a frame, % | ms each | times less than the whole network |"
        )
        print("|---|---|---|---|---|---|---|")
        for path, own in zip(options.clips, clips):
            count = f"{len(own.names)} in {len(set(own.names.tolist()))} tracks"
            print(f"| {path.name}: {count} | | | | | | |")
            for source, together, one in limits:
                through(own, timed, together, f"of the {source}")
                through(own, timed, one, f"of the {source}, the last alone", True)


if __name__ == "__main__":
    main()
