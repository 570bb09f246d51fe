"""How an index of a detector's boxes is to be made, so that queries find what they should.

Precision and recall are on frames, as Focus has them (Hsieh et al. 2018): of the frames that a
query gives, those in which the strong network sees the class; and of the frames in which it does,
those that the query gives. The truth is the strong network on every frame.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from time import perf_counter
from typing import Callable, Dict, Iterable, List, NamedTuple, Sequence, Set, Tuple

import numpy as np

from adaptive.errors import InputError
from adaptive.images.video import VideoFrame
from adaptive.opencv import cv2
from adaptive.tasks.boxes import ious
from adaptive.tasks.detections import Detections
from adaptive.video.clusters import Cluster, Clusters
from adaptive.video.gate import FrameGate
from adaptive.video.ingest import LastPassed
from adaptive.video.lookers import BoxLooker, Detected, box_features, united

#: Overlap from which a strong box is of an object; as `routing.crops.judging` has it.
JUDGED = 0.3

#: What tuning tries.
LEASTS = (0.1, 0.2)
THRESHOLDS = (0.1, 0.2, 0.4)
KS = (2,)
EVERYS = (1, 2, 4)


class ObservedFrame(NamedTuple):
    """What every network says of one frame.

    passes : whether the gate lets it through
    cheap : of each cheap detector, all its boxes, and their features
    strong : the strong network's answer
    """

    passes: bool
    cheap: Tuple[Tuple[Detections, np.ndarray], ...]
    strong: Detections


@dataclass(frozen=True)
class ObservedClip:
    """A clip of which every frame was computed by every network.

    candidates : names of the cheap detectors
    cheap_ms : of each, mean time of a frame
    strong_ms : mean time of a frame
    """

    name: str
    candidates: Tuple[str, ...]
    frames: Sequence[ObservedFrame]
    cheap_ms: Tuple[float, ...]
    strong_ms: float

    def truth(self, kind: int) -> np.ndarray:
        """For each frame, whether the strong network sees the class."""
        return np.array([bool((frame.strong.classes == kind).any()) for frame in self.frames])


class IndexChoice(NamedTuple):
    """One way to make an index.

    candidates : which of the cheap detectors are united, by their places
    k, least, threshold, every : as in `IndexSettings`
    """

    candidates: Tuple[int, ...]
    k: int
    least: float
    threshold: float
    every: int = 1


class QueryCounts(NamedTuple):
    """What a query comes to on a clip.

    returned, true, both : frames that it gives, that hold the class, that do both
    frames : of the clip
    clusters, pictures : that are filed under the class; pictures that the strong network judges
    """

    returned: int
    true: int
    both: int
    frames: int
    clusters: int
    pictures: int

    @property
    def precision(self) -> float:
        """Of the frames that are given, those that hold the class; 1 where none is given."""
        return self.both / self.returned if self.returned else 1.0

    @property
    def recall(self) -> float:
        """Of the frames that hold the class, those that are given; 1 where none holds it."""
        return self.both / self.true if self.true else 1.0


def observed(
    name: str,
    frames: Iterable[VideoFrame],
    candidates: Sequence[str],
    detected: Sequence[Detected],
    strong: Callable[[np.ndarray], Detections],
    gate: FrameGate | None,
) -> ObservedClip:
    """Have every network look at every frame of a clip.

    Parameters
    ----------
    detected : for each candidate, a function that gives its boxes alone

    Raises
    ------
    InputError
        when there are no frames.
    """
    newest, found = LastPassed(gate), []
    spent = np.zeros(len(candidates) + 1)
    for frame in frames:
        passes = newest.passes(frame.image, frame.time_s)
        grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        cheap: List[Tuple[Detections, np.ndarray]] = []
        for place, ask in enumerate(detected):
            began = perf_counter()
            (boxes,) = ask(frame.image)
            spent[place] += perf_counter() - began
            cheap.append((boxes, box_features(grey, boxes.boxes, boxes.scores)))
        began = perf_counter()
        answer = strong(frame.image)
        spent[-1] += perf_counter() - began
        found.append(ObservedFrame(passes, tuple(cheap), answer))
    if not found:
        raise InputError(f"{name} has no frames")
    ms = (1e3 * spent / len(found)).tolist()
    return ObservedClip(name, tuple(candidates), found, tuple(ms[:-1]), ms[-1])


def queried(
    clip: ObservedClip, choice: IndexChoice, kinds: Sequence[int]
) -> Dict[int, QueryCounts]:
    """What queries for classes come to on a clip that is indexed in this way.

    The index is that of `Ingest` with a `BoxLooker`, kept in memory; pictures are judged as they
    are, without what JPEG loses.
    """
    clusters = Clusters(BoxLooker.width, choice.threshold)
    about: Dict[int, Tuple[int, int, bool]] = {}
    members: Dict[int, Set[int]] = defaultdict(set)
    current: List[int] = []
    wanted = set(kinds)
    used = passed = 0
    for number, frame in enumerate(clip.frames):
        passed += frame.passes
        if frame.passes and (passed - 1) % choice.every == 0:
            own = [frame.cheap[place] for place in choice.candidates]
            kept = [boxes.scores >= choice.least for boxes, _ in own]
            boxes = [boxes.only(keep) for (boxes, _), keep in zip(own, kept)]
            features = np.concatenate([rows[keep] for (_, rows), keep in zip(own, kept)])
            places, classes = united(boxes, choice.k)
            corners = np.concatenate([one.boxes for one in boxes])
            alike = ious(corners, frame.strong.boxes) >= JUDGED
            current = []
            for place, of in zip(places.tolist(), classes):
                for kind in of:
                    if kind not in wanted:
                        continue
                    cluster = clusters.nearest(kind, features[place])
                    if cluster is None:
                        cluster = Cluster(len(about), kind, len(about), used)
                        clusters.add(cluster, features[place])
                        right = bool((frame.strong.classes[alike[place]] == kind).any())
                        about[cluster.number] = kind, number, right
                    cluster.used = used
                    current.append(cluster.number)
                used += 1
        for cluster_number in current:
            members[cluster_number].add(number)
    answer: Dict[int, QueryCounts] = {}
    for kind in kinds:
        own_clusters = [n for n, (of, _, _) in about.items() if of == kind]
        given: Set[int] = set()
        for n in own_clusters:
            if about[n][2]:
                given |= members[n]
        true = set(np.flatnonzero(clip.truth(kind)).tolist())
        pictures = len({about[n][1] for n in own_clusters})
        counts = len(given), len(true), len(given & true), len(clip.frames)
        answer[kind] = QueryCounts(*counts, len(own_clusters), pictures)
    return answer


#: What `queried` is.
Query = Callable[[ObservedClip, IndexChoice, Sequence[int]], Dict[int, QueryCounts]]


def choices(
    candidates: int, ks: Sequence[int] = KS, everys: Sequence[int] = EVERYS
) -> List[IndexChoice]:
    """All that tuning tries with so many cheap detectors, each alone and in sets."""
    sets = [
        own
        for size in range(1, candidates + 1)
        for own in itertools.combinations(range(candidates), size)
    ]
    return [IndexChoice(*one) for one in itertools.product(sets, ks, LEASTS, THRESHOLDS, everys)]


def tuned(
    clips: Sequence[ObservedClip],
    kinds: Sequence[int],
    level: float = 0.99,
    tried: Sequence[IndexChoice] | None = None,
    queries: int = 1,
    query: Query = queried,
) -> IndexChoice | None:
    """The cheapest way whose precision and recall reach a level on the clips, or None.

    Both are over the clips' frames together, and each class must reach them. Cheap is the time of
    networks: ingest, and so many queries for each class.

    Parameters
    ----------
    tried : the ways; all of `choices` when left out
    query : gives what `queried` does, such as one that remembers it

    Raises
    ------
    InputError
        when no clip holds one of the classes.
    """
    for kind in kinds:
        if not any(clip.truth(kind).any() for clip in clips):
            raise InputError(f"the strong network sees class {kind} in none of the clips")
    best: Tuple[float, IndexChoice] | None = None
    ways = choices(len(clips[0].candidates)) if tried is None else tried
    costs = [sum(ingest_ms(clip, choice) for clip in clips) for choice in ways]
    for place in np.argsort(costs, kind="stable").tolist():
        choice, ms = ways[place], costs[place]
        if best is not None and ms >= best[0]:
            break
        found = [query(clip, choice, kinds) for clip in clips]
        ms += queries * sum(
            clip.strong_ms * own[kind].pictures for clip, own in zip(clips, found) for kind in kinds
        )
        if best is not None and ms >= best[0]:
            continue
        if all(min(pooled([own[kind] for own in found])[:2]) >= level for kind in kinds):
            best = ms, choice
    return None if best is None else best[1]


def ingest_ms(clip: ObservedClip, choice: IndexChoice) -> float:
    """Time of the cheap networks on the frames that they look at."""
    looked = -(-sum(frame.passes for frame in clip.frames) // choice.every)
    return looked * sum(clip.cheap_ms[place] for place in choice.candidates)


def pooled(found: Sequence[QueryCounts]) -> Tuple[float, float, int]:
    """Precision and recall over several clips' frames, and the frames that hold the class."""
    total = QueryCounts(*(sum(column) for column in zip(*found)))
    return total.precision, total.recall, total.true
