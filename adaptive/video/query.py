"""Where and when something of a class was seen: a strong network judges centroids only."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Callable, Collection, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from adaptive.checks import texts
from adaptive.errors import InputError
from adaptive.video.index import Clip, Sightings, VideoIndex

#: Says what objects of pictures are: pictures and the objects' boxes in each, ndarray (k, 4), to
#: the names of the classes that each object is of.
Judge = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Sequence[Sequence[Collection[str]]]]

#: Pictures that are judged together.
TOGETHER = 16


class Interval(NamedTuple):
    """Frames one after the other in which something of the class was seen.

    from_s, to_s : with the clip's start; the end is where the next frame begins
    box : around all that was seen of it, x1 y1 x2 y2, pixels of the frame
    """

    clip: Clip
    first_frame: int
    last_frame: int
    from_s: float
    to_s: float
    box: Tuple[int, int, int, int]

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values."""
        return {
            "camera": self.clip.camera,
            "clip": self.clip.name,
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "from_s": round(self.from_s, 3),
            "to_s": round(self.to_s, 3),
            "box": list(self.box),
        }


@dataclass(frozen=True)
class QueryAnswer:
    """The answer to a query.

    Attributes
    ----------
    labels : what was asked for; any of them counts
    intervals : in the order of clips and times
    clusters : that are filed under the classes
    judged : centroids that the strong network judged
    pictures : that it saw for that
    right : of these, how many are of the classes
    ms : milliseconds by step: index, network, total
    """

    labels: Tuple[str, ...]
    intervals: Tuple[Interval, ...]
    clusters: int
    judged: int
    pictures: int
    right: int
    ms: Dict[str, float] = field(compare=False)

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values."""
        return {
            "labels": list(self.labels),
            "intervals": [interval.to_json() for interval in self.intervals],
            "clusters": self.clusters,
            "judged": self.judged,
            "pictures": self.pictures,
            "right": self.right,
            "ms": {step: round(value, 3) for step, value in self.ms.items()},
        }


def ask(
    index: VideoIndex,
    wanted: Sequence[str],
    judge: Judge,
    *,
    cameras: Sequence[str] = (),
    from_s: float = -math.inf,
    to_s: float = math.inf,
    gap_s: float = 0.0,
) -> QueryAnswer:
    """When and where something of these classes was seen.

    Parameters
    ----------
    index : open
    wanted : names of classes, as the networks' labels have them; see `kinds_of`
    judge : the strong network
    cameras : only theirs; all when left out
    from_s, to_s : only what was seen then: seconds in a clip, or since 1970 where clips and
        cameras have a start
    gap_s : intervals that are no further apart become one; with 0 the frames are those of the
        right clusters' members and no others

    Raises
    ------
    InputError
        when the index is empty, does not know a class or a camera, or the time ends before it
        begins.
    """
    if from_s >= to_s:
        raise InputError(f"the time to look at ends at {to_s:g} s, before {from_s:g} s; swap them")
    began = perf_counter()
    kinds = kinds_of(wanted, index.settings.labels)
    spent_ms = 0.0
    with index.moment():
        clips = index.clips()
        if not any(clip.objects for clip in clips):
            raise InputError(
                f"{index.folder} has no objects: "
                + ("nothing moved in its clips" if clips else "nothing is indexed yet")
            )
        known = sorted({clip.camera for clip in clips})
        for camera in cameras:
            if camera not in known:
                raise InputError(f"{index.folder} has no camera {camera!r}; it has {known}")
        chosen = [clip for clip in clips if not cameras or clip.camera in cameras]
        ids = [clip.id for clip in chosen] if cameras else None
        clusters = index.clusters(kinds, ids, from_s, to_s)
        centroids = sorted({centroid for _, centroid in clusters})
        right: set[int] = set()
        names = {index.settings.labels[kind] for kind in kinds}
        shown = index.pictures(centroids)
        for first in range(0, len(shown), TOGETHER):
            part = shown[first : first + TOGETHER]
            pixels = [index.picture(number) for number, _, _ in part]
            then = perf_counter()
            said = judge(pixels, [boxes for _, _, boxes in part])
            spent_ms += (perf_counter() - then) * 1e3
            for (_, own, _), of in zip(part, said):
                right |= {centroid for centroid, found in zip(own, of) if names & set(found)}
        members = [cluster for cluster, centroid in clusters if centroid in right]
        found = index.sightings(members, ids, from_s, to_s)
    intervals = joined(found, {clip.id: clip for clip in chosen}, gap_s, from_s, to_s)
    total_ms = (perf_counter() - began) * 1e3
    ms = {"index": total_ms - spent_ms, "network": spent_ms, "total": total_ms}
    counts = len(clusters), len(centroids), len(shown), len(right)
    return QueryAnswer(tuple(wanted), tuple(intervals), *counts, ms)


def joined(
    found: Sightings,
    clips: Dict[int, Clip],
    gap_s: float = 0.0,
    from_s: float = -math.inf,
    to_s: float = math.inf,
) -> List[Interval]:
    """Sightings whose frames touch or overlap, or that are at most `gap_s` apart, as intervals.

    found : ordered by clip and frame
    """
    intervals: List[Interval] = []
    edges = np.flatnonzero(np.diff(found.clips)) + 1
    for part in np.split(np.arange(len(found)), edges):
        if not len(part):
            continue
        own = Sightings(*(column[part] for column in found))
        clip = clips[int(own.clips[0])]
        ends, ends_s = np.maximum.accumulate(own.last_frames), np.maximum.accumulate(own.to_s)
        apart = (own.first_frames[1:] > ends[:-1] + 1) & (own.from_s[1:] > ends_s[:-1] + gap_s)
        firsts = np.flatnonzero(np.concatenate([[True], apart]))
        low = np.minimum.reduceat(own.boxes[:, :2], firsts).tolist()
        high = np.maximum.reduceat(own.boxes[:, 2:], firsts).tolist()
        lasts = np.maximum.reduceat(own.last_frames, firsts).tolist()
        until_s = np.maximum.reduceat(own.to_s, firsts).tolist()
        for place, first in enumerate(firsts.tolist()):
            intervals.append(
                Interval(
                    clip,
                    int(own.first_frames[first]),
                    lasts[place],
                    max(float(own.from_s[first]) + clip.start_s, from_s),
                    min(until_s[place] + clip.start_s, to_s),
                    (low[place][0], low[place][1], high[place][0], high[place][1]),
                )
            )
    return intervals


#: WordNet's number of a class, which some label files put before its name.
_NUMBER = re.compile(r"n\d{8} ")


def kinds_of(wanted: Sequence[str], labels: Sequence[str]) -> List[int]:
    """Indices of the classes that are asked for.

    A class is named by its whole label, or by one of the names in it, as "minivan" of
    "n03770679 minivan" or "cab" of "cab, hack, taxi, taxicab"; large and small letters are the
    same.

    Raises
    ------
    InputError
        when there is no such class; close ones are named.
    """
    names: Dict[str, List[int]] = {}
    for kind, label in enumerate(labels):
        whole = _NUMBER.sub("", label.strip()).lower()
        for name in dict.fromkeys(
            [label.lower(), whole, *(part.strip() for part in whole.split(","))]
        ):
            names.setdefault(name, []).append(kind)
    found: List[int] = []
    for name in texts(wanted, "the classes"):
        kinds = names.get(name.strip().lower())
        if kinds is None:
            close = difflib.get_close_matches(name.lower(), names, 4, 0.6)
            close += [n for n in names if name.lower() in n.split() and n not in close][:4]
            like = f"; close are {close}" if close else ""
            raise InputError(
                f"the networks of this index know no class {name!r}{like}; --classes lists what "
                "it has"
            )
        found += kinds
    if not found:
        raise InputError("name a class to look for")
    return list(dict.fromkeys(found))
