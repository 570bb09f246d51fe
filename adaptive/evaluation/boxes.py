"""Average precision of a policy's answers in boxes, beside every baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from adaptive.box_output import BoxMerge
from adaptive.evaluation.replay import Replay, replay
from adaptive.intervals import random_mix
from adaptive.outcomes.boxes import TableBoxes
from adaptive.outcomes.merged import MergedBoxes
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.tasks.average_precision import Precision, Ranking
from adaptive.tasks.detections import Detections
from adaptive.tasks.learnt import Learnt
from adaptive.tasks.matching import match

#: Draws of the random mix whose average precisions are averaged.
DRAWS = 20


@dataclass(frozen=True)
class BoxRow:
    """One line: F1, and COCO's average precision with scores as they are and mapped.

    Attributes
    ----------
    f1, ms : means over the images; ms are after decoding
    plain, mapped : scores as the detectors give them, and as chances; None for an average of
        draws, of which only `ap` and `ap_mapped` are known
    """

    name: str
    f1: float
    ms: float
    ap: float
    ap_mapped: float
    plain: Precision | None = None
    mapped: Precision | None = None

    def to_json(self) -> Dict[str, Any]:
        """As plain JSON values."""
        found: Dict[str, Any] = {
            "name": self.name,
            "f1": self.f1,
            "ms": self.ms,
            "ap": self.ap,
            "ap_mapped": self.ap_mapped,
        }
        for name, own in (("coco", self.plain), ("coco_mapped", self.mapped)):
            found[name] = None if own is None else vars(own)
        return found


def box_rows(
    policy: Policy,
    table: OutcomeTable,
    boxes: TableBoxes,
    learnt: Mapping[str, Learnt],
    premodel_ms: float = 0.0,
    merge: BoxMerge | None = None,
    tuning: TableBoxes | None = None,
) -> Tuple[BoxRow, ...]:
    """Each candidate for all images, the random mix at equal cost, the policy, the oracle by F1,
    and the boxes of all candidates merged.

    Parameters
    ----------
    boxes : of the table's images
    learnt : by candidate, the map of its scores; of images that are not among these
    merge : how the policy's boxes are merged where several ran; None where the last one answers
    tuning : of other images; where nothing is said of merging, they tell from which chance on a
        box of all merged is shown, and without them that is 0.3
    """
    names = list(table.candidates)
    plain = boxes.ranking(names)
    mapped = boxes.ranking(names, {name: learnt[name].score_map for name in names})
    quality = np.stack([table.quality(name).astype(float) for name in names])
    costs = np.stack([table.ms(name) for name in names])
    rows = np.arange(len(table))

    def line(name: str, choice: NDArray[np.int64], f1: float, ms: float) -> BoxRow:
        own, other = plain.summary(choice), mapped.summary(choice)
        return BoxRow(name, f1, ms, own.ap, other.ap, own, other)

    found = [
        line(f"always {n}", np.full(len(rows), i), quality[i].mean(), costs[i].mean())
        for i, n in enumerate(names)
    ]
    done = replay(policy.afresh(), table, premodel_ms=premodel_ms)
    found.append(_mix_line(plain, mapped, quality, costs, float(done.ms.mean())))
    places = np.array([*(names.index(n) for n in policy.candidates), -1])  # the last: no answer
    chosen = places[done.candidate]
    f1, ms = float(done.quality.mean()), float(done.ms.mean())
    own = line(f"policy: {policy.kind}", chosen, f1, ms)
    if merge is not None and (done.ran.sum(axis=1) > 1).any():
        own = _merging_line(done, boxes, learnt, merge, own)
    found.append(own)
    order = np.argsort(costs.mean(axis=1), kind="stable")
    best = order[quality[order].argmax(axis=0)]
    f1, ms = quality[best, rows].mean(), costs[best, rows].mean()
    found.append(line("oracle by F1", best, float(f1), float(ms)))
    if len(names) > 1:
        how = BoxMerge(MERGED_LEAST) if merge is None else merge
        if merge is None and tuning is not None and len(tuning):
            how = MergedBoxes(tuning, learnt, how).best(names)
        both = MergedBoxes(boxes, learnt, how)
        found.append(_merged_line(names, both, float(costs.sum(axis=0).mean())))
    return tuple(found)


def percent(precision: float) -> str:
    """An average precision for a terminal; "-" where no object counts."""
    return "-" if precision < 0 else f"{100 * precision:.1f}"


def text_lines(rows: Sequence[BoxRow]) -> List[str]:
    """The lines for a terminal."""
    lines = [f"{'':32}{'F1':>8}{'AP':>8}{'AP50':>8}{'AP mapped':>11}{'AP s/m/l':>17}{'ms':>10}"]
    for row in rows:
        sizes, fifty = "", ""
        if row.mapped is not None and row.plain is not None:
            own = row.mapped
            values = (own.ap_small, own.ap_medium, own.ap_large)
            sizes = "/".join(map(percent, values))
            fifty = percent(row.plain.ap50)
        lines.append(
            f"{row.name:32}{100 * row.f1:>8.1f}{percent(row.ap):>8}{fifty:>8}"
            f"{percent(row.ap_mapped):>11}{sizes:>17}{row.ms:>10.2f}"
        )
    return lines


def _mix_line(
    plain: Ranking,
    mapped: Ranking,
    quality: NDArray[np.float64],
    costs: NDArray[np.float64],
    cost: float,
) -> BoxRow:
    """The two candidates between whose costs this one lies, drawn image by image."""
    mix = random_mix(costs.mean(axis=1).tolist(), quality.mean(axis=1).tolist(), cost)
    draw = np.random.default_rng(0)
    aps = []
    for _ in range(DRAWS):
        first = draw.random(quality.shape[1]) < mix.share_first
        choice = np.where(first, mix.first, mix.second)
        aps.append((plain.ap(choice), mapped.ap(choice)))
    ap, ap_mapped = np.mean(aps, axis=0).tolist()
    f1 = float(np.mean(mix.apply(list(quality))))
    ms = float(np.mean(mix.apply(list(costs))))
    return BoxRow("random mix at equal cost", f1, ms, ap, ap_mapped)


def _merged_line(names: Sequence[str], merged: MergedBoxes, ms: float) -> BoxRow:
    """All candidates' boxes merged."""
    own, f1 = _precision(merged.boxes, merged.found(names)), float(merged.quality(names).mean())
    name = f"all merged at {merged.merge.least:.2g}"
    return BoxRow(name, f1, ms, own.ap, own.ap, own, own)


def _merging_line(
    done: Replay,
    boxes: TableBoxes,
    learnt: Mapping[str, Learnt],
    merge: BoxMerge,
    last: BoxRow,
) -> BoxRow:
    """The policy's line where what ran is merged; scores are chances then.

    last : of the boxes of what ran last alone
    """
    names, merged = done.policy.candidates, MergedBoxes(boxes, learnt, merge)
    found = []
    for row in range(len(boxes)):
        path = [name for name, ran in zip(names, done.ran[row]) if ran]
        if done.candidate[row] < 0:
            found.append(Detections.none())
        elif len(path) == 1:
            found.append(learnt[path[0]].score_map.detections(boxes.found[path[0]][row]))
        else:
            found.append(merged.found(path)[row])
    own = _precision(boxes, found)
    return replace(
        last, name=f"{last.name}, merged", ap=own.ap, ap_mapped=own.ap, plain=own, mapped=own
    )


def _precision(boxes: TableBoxes, found: Sequence[Detections]) -> Precision:
    """COCO's numbers for one answer an image."""
    ranking = Ranking(boxes.truth, [match(boxes.true, found)])
    return ranking.summary(np.zeros(len(found), np.int64))


#: Chance from which a merged box is shown where no image tells a better one.
MERGED_LEAST = 0.3
