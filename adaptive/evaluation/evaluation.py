"""What a policy does on a table's images, beside every baseline that it must be held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence

import numpy as np

from adaptive.evaluation.replay import Replay, replay
from adaptive.intervals import Z95, Estimate, Mix, mean, quantile, random_mix, share
from adaptive.outcomes.quality import TOP1, mean_quality, quality_words
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy


@dataclass(frozen=True)
class Row:
    """One line of an evaluation.

    Attributes
    ----------
    quality : mean over the images; where a policy abstains its best guess counts, and where it
        has none it is worth nothing
    top5 : share of the images; None where answers are no classes
    ms, p95_ms : after decoding, in milliseconds
    shares : share of the images that each candidate answered, by name
    abstained : share of the images without an answer
    answered : quality among the images with an answer; None where there is no such image
    """

    name: str
    quality: Estimate
    top5: Estimate | None
    ms: Estimate
    p95_ms: Estimate
    shares: dict[str, float]
    abstained: float = 0.0
    answered: Estimate | None = None

    def to_json(self, quality: str = TOP1) -> dict[str, Any]:
        """As plain JSON values; the key of the quality is its name."""
        return {
            "name": self.name,
            quality: self.quality.to_json(),
            **({} if self.top5 is None else {"top5": self.top5.to_json()}),
            "ms": self.ms.to_json(),
            "p95_ms": self.p95_ms.to_json(),
            "shares": self.shares,
            "abstained": self.abstained,
            f"answered_{quality}": None if self.answered is None else self.answered.to_json(),
        }


@dataclass(frozen=True)
class Evaluation:
    """A policy beside the fixed candidates, the random mix at equal cost, and the oracle.

    Attributes
    ----------
    policy, mix, oracle : Row
    fixed : one Row a candidate of the table, in the table's order
    over_mix : quality of the policy minus that of the mix, paired over images
    over_reference : quality of the policy minus that of `reference`, paired; None without one
    decode_ms : mean time of decoding, which every line has on top
    quality : what it is called
    """

    images: int
    policy: Row
    fixed: tuple[Row, ...]
    mix: Row
    oracle: Row
    over_mix: Estimate
    reference: str | None
    over_reference: Estimate | None
    decode_ms: float
    quality: str = TOP1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        over = self.over_reference
        return {
            "images": self.images,
            "quality": self.quality,
            "policy": self.policy.to_json(self.quality),
            "fixed": [row.to_json(self.quality) for row in self.fixed],
            "random_mix": self.mix.to_json(self.quality),
            "oracle": self.oracle.to_json(self.quality),
            "policy_minus_random_mix": self.over_mix.to_json(),
            "reference": self.reference,
            "policy_minus_reference": None if over is None else over.to_json(),
            "decode_ms": self.decode_ms,
        }


def evaluate(
    policy: Policy, table: OutcomeTable, reference: str | None = None, premodel_ms: float = 0.0
) -> Evaluation:
    """Replay `policy` over `table` and hold it against the baselines.

    Parameters
    ----------
    reference : name of the candidate that differences are taken to; the most accurate fixed
        one when left out
    premodel_ms : what one prediction of the premodel is charged with
    """
    done = replay(policy, table, premodel_ms=premodel_ms)
    # The baselines answer every image. Held against them is what the policy would say to each.
    told = done
    if policy.abstain_below is not None:
        told = replay(replace(policy, abstain_below=None), table, premodel_ms=premodel_ms)
    names = table.candidates
    right = [table.quality(n).astype(float) for n in names]
    costs = [table.ms(n) for n in names]
    if reference is None:
        reference = names[int(np.argmax([r.mean() for r in right]))]
    cost = float(done.ms.mean())
    mix = random_mix([float(c.mean()) for c in costs], [float(r.mean()) for r in right], cost)
    return Evaluation(
        images=len(table),
        policy=replace(
            policy_row(done), quality=mean_quality(told.quality), top5=_share(told.top5)
        ),
        fixed=tuple(_fixed_row(table, name) for name in names),
        mix=_mix_row(table, mix, names),
        oracle=oracle_row(table),
        over_mix=paired(told.quality - mix.apply(right)),
        reference=reference,
        over_reference=paired(told.quality - table.quality(reference).astype(float)),
        decode_ms=float(table.decode_ms.mean()),
        quality=table.quality_name,
    )


def paired(difference: np.ndarray) -> Estimate:
    """The mean of paired differences of quality, each in -1..1, with its 95% interval.

    The normal interval, but no narrower than what n images without a single event leave open:
    by Wilson's interval an event may then still have a rate of z^2 / (n + z^2). So two policies
    that agree on all of a few images are not taken for equal.
    """
    plain = mean(difference)
    least = Z95**2 / (len(difference) + Z95**2)
    half = max(plain.high - plain.value, least)
    return Estimate(plain.value, max(-1.0, plain.value - half), min(1.0, plain.value + half))


def policy_row(done: Replay) -> Row:
    """What a replay came to, as one line."""
    return Row(
        done.policy.kind,
        mean_quality(done.quality),
        _share(done.top5),
        mean(done.ms),
        quantile(done.ms, 0.95),
        done.shares(),
        float(done.abstained.mean()),
        None if done.abstained.all() else mean_quality(done.quality[~done.abstained]),
    )


def _fixed_row(table: OutcomeTable, name: str) -> Row:
    ms = table.ms(name)
    outcomes = table.of(name)
    return Row(
        f"always {name}",
        mean_quality(outcomes.quality),
        _share(outcomes.top5),
        mean(ms),
        quantile(ms, 0.95),
        {name: 1.0},
    )


def _mix_row(table: OutcomeTable, mix: Mix, names: Sequence[str]) -> Row:
    first, second = names[mix.first], names[mix.second]
    shares = {first: mix.share_first}
    if second != first:
        shares[second] = 1 - mix.share_first
    ms = [table.ms(n) for n in names]
    # The p95 of a mix is that of both candidates' times pooled by their shares.
    pooled = np.concatenate([ms[mix.first], ms[mix.second]])
    weight = np.repeat([mix.share_first, 1 - mix.share_first], len(table))
    order = np.argsort(pooled)
    reached = np.searchsorted(np.cumsum(weight[order]), 0.95 * weight.sum())
    p95 = float(pooled[order[min(int(reached), len(order) - 1)]])
    return Row(
        "random mix at equal cost",
        mean(mix.apply([table.quality(n).astype(float) for n in names])),
        _mixed([table.of(n).top5 for n in names], mix),
        mean(mix.apply(ms)),
        Estimate(p95, p95, p95),
        shares,
    )


def _mixed(right: Sequence[np.ndarray | None], mix: Mix) -> Estimate | None:
    known = [each.astype(float) for each in right if each is not None]
    return mean(mix.apply(known)) if len(known) == len(right) else None


def oracle_row(table: OutcomeTable) -> Row:
    """The fastest of the best answers: where all are worth nothing, the fastest is charged."""
    names = table.candidates
    cost = np.stack([table.ms(n) for n in names])
    quality = np.stack([table.quality(n) for n in names])
    top5 = [table.of(n).top5 for n in names]
    mean_cost = cost.mean(axis=1)
    order = np.argsort(mean_cost, kind="stable")
    first = np.argmax(quality[order], axis=0)
    chosen = order[first]
    columns = np.arange(len(table))
    return Row(
        "oracle",
        mean_quality(quality.max(axis=0)),
        None if any(t is None for t in top5) else share(np.any(np.stack(top5), axis=0)),  # type: ignore[arg-type]
        mean(cost[chosen, columns]),
        quantile(cost[chosen, columns], 0.95),
        {name: float(np.mean(chosen == i)) for i, name in enumerate(names)},
    )


def _share(right: np.ndarray | None) -> Estimate | None:
    return None if right is None else share(right)


def text_table(evaluation: Evaluation) -> str:
    """The evaluation as lines for a terminal."""
    words = quality_words(evaluation.quality)
    classes = evaluation.policy.top5 is not None
    top5 = f"{'top-5 %':>9}" if classes else ""
    lines = [
        f"{evaluation.images} images; times are after decoding, "
        f"which takes {evaluation.decode_ms:.2f} ms more",
        f"{'':32}{words + ' %':>9}{'95% interval':>16}{top5}{'mean ms':>9}{'p95 ms':>9}",
    ]
    rows = [*evaluation.fixed, evaluation.mix, evaluation.policy, evaluation.oracle]
    for row in rows:
        span = f"{100 * row.quality.low:.1f} to {100 * row.quality.high:.1f}"
        name = f"policy: {row.name}" if row is evaluation.policy else row.name
        five = "" if row.top5 is None else f"{100 * row.top5.value:>9.2f}"
        lines.append(
            f"{name:32}{100 * row.quality.value:>9.2f}{span:>16}{five}"
            f"{row.ms.value:>9.3f}{row.p95_ms.value:>9.3f}"
        )
    chosen = evaluation.policy
    answered = ", ".join(f"{n} {100 * s:.1f}%" for n, s in chosen.shares.items())
    lines.append(f"answered by: {answered}; abstained {100 * chosen.abstained:.1f}%")
    if chosen.abstained:
        lines.append(_coverage(chosen, evaluation.quality))
    lines.append(f"policy minus random mix at equal cost: {_points(evaluation.over_mix, words)}")
    if evaluation.over_reference is not None:
        lines.append(
            f"policy minus always {evaluation.reference}: "
            f"{_points(evaluation.over_reference, words)}"
        )
    return "\n".join(lines)


def _coverage(row: Row, quality: str) -> str:
    """How many images get an answer, and what those answers are worth."""
    if row.answered is None:
        return "no image gets an answer"
    own = row.answered
    worth = f"{100 * own.value:.2f}% are right"
    if quality != TOP1:
        worth = f"the mean {quality_words(quality)} is {100 * own.value:.2f}%"
    return (
        f"{100 * (1 - row.abstained):.1f}% of the images get an answer, and of these answers "
        f"{worth} (95% interval {100 * own.low:.1f} to "
        f"{100 * own.high:.1f}); elsewhere a best guess counts where there is one"
    )


def _points(e: Estimate, words: str) -> str:
    return (
        f"{100 * e.value:+.2f} points of {words} "
        f"(95% interval {100 * e.low:+.2f} to {100 * e.high:+.2f})"
    )
