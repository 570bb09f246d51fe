"""What a policy does on a table's images, beside every baseline that it must be held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence

import numpy as np

from adaptive.evaluation.replay import Replay, replay
from adaptive.intervals import Z95, Estimate, Mix, mean, quantile, random_mix, share
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy


@dataclass(frozen=True)
class Row:
    """One line of an evaluation.

    Attributes
    ----------
    top1, top5 : share of the images; where a policy abstains its best guess counts, and where it
        has none it is wrong
    ms, p95_ms : after decoding, in milliseconds
    shares : share of the images that each candidate answered, by name
    abstained : share of the images without an answer
    answered : top-1 among the images with an answer; None where there is no such image
    """

    name: str
    top1: Estimate
    top5: Estimate
    ms: Estimate
    p95_ms: Estimate
    shares: dict[str, float]
    abstained: float = 0.0
    answered: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "top1": self.top1.to_json(),
            "top5": self.top5.to_json(),
            "ms": self.ms.to_json(),
            "p95_ms": self.p95_ms.to_json(),
            "shares": self.shares,
            "abstained": self.abstained,
            "answered_top1": None if self.answered is None else self.answered.to_json(),
        }


@dataclass(frozen=True)
class Evaluation:
    """A policy beside the fixed candidates, the random mix at equal cost, and the oracle.

    Attributes
    ----------
    policy, mix, oracle : Row
    fixed : one Row a candidate of the table, in the table's order
    over_mix : top-1 of the policy minus that of the mix, paired over images
    over_reference : top-1 of the policy minus that of `reference`, paired; None without one
    decode_ms : mean time of decoding, which every line has on top
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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        over = self.over_reference
        return {
            "images": self.images,
            "policy": self.policy.to_json(),
            "fixed": [row.to_json() for row in self.fixed],
            "random_mix": self.mix.to_json(),
            "oracle": self.oracle.to_json(),
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
    right = [table.top1(n).astype(float) for n in names]
    costs = [table.ms(n) for n in names]
    if reference is None:
        reference = names[int(np.argmax([r.mean() for r in right]))]
    cost = float(done.ms.mean())
    mix = random_mix([float(c.mean()) for c in costs], [float(r.mean()) for r in right], cost)
    return Evaluation(
        images=len(table),
        policy=replace(policy_row(done), top1=share(told.top1), top5=share(told.top5)),
        fixed=tuple(_fixed_row(table, name) for name in names),
        mix=_mix_row(table, mix, names),
        oracle=oracle_row(table),
        over_mix=paired(told.top1 - mix.apply(right)),
        reference=reference,
        over_reference=paired(told.top1 - table.top1(reference).astype(float)),
        decode_ms=float(table.decode_ms.mean()),
    )


def paired(difference: np.ndarray) -> Estimate:
    """The mean of paired differences of top-1, each in -1..1, with its 95% interval.

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
        share(done.top1),
        share(done.top5),
        mean(done.ms),
        quantile(done.ms, 0.95),
        done.shares(),
        float(done.abstained.mean()),
        None if done.abstained.all() else share(done.top1[~done.abstained]),
    )


def _fixed_row(table: OutcomeTable, name: str) -> Row:
    ms = table.ms(name)
    outcomes = table.of(name)
    return Row(
        f"always {name}",
        share(outcomes.top1),
        share(outcomes.top5),
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
        mean(mix.apply([table.top1(n).astype(float) for n in names])),
        mean(mix.apply([table.of(n).top5.astype(float) for n in names])),
        mean(mix.apply(ms)),
        Estimate(p95, p95, p95),
        shares,
    )


def oracle_row(table: OutcomeTable) -> Row:
    """The fastest candidate that is right; where none is, the fastest of all is charged."""
    names = table.candidates
    cost = np.stack([table.ms(n) for n in names])
    right = np.stack([table.top1(n) for n in names])
    top5 = np.stack([table.of(n).top5 for n in names])
    mean_cost = cost.mean(axis=1)
    order = np.argsort(mean_cost, kind="stable")
    first = np.argmax(right[order], axis=0)
    chosen = order[first]
    columns = np.arange(len(table))
    return Row(
        "oracle",
        share(np.any(right, axis=0)),
        share(np.any(top5, axis=0)),
        mean(cost[chosen, columns]),
        quantile(cost[chosen, columns], 0.95),
        {name: float(np.mean(chosen == i)) for i, name in enumerate(names)},
    )


def text_table(evaluation: Evaluation) -> str:
    """The evaluation as lines for a terminal."""
    lines = [
        f"{evaluation.images} images; times are after decoding, "
        f"which takes {evaluation.decode_ms:.2f} ms more",
        f"{'':32}{'top-1 %':>9}{'95% interval':>16}{'top-5 %':>9}{'mean ms':>9}{'p95 ms':>9}",
    ]
    rows = [*evaluation.fixed, evaluation.mix, evaluation.policy, evaluation.oracle]
    for row in rows:
        span = f"{100 * row.top1.low:.1f} to {100 * row.top1.high:.1f}"
        name = f"policy: {row.name}" if row is evaluation.policy else row.name
        lines.append(
            f"{name:32}{100 * row.top1.value:>9.2f}{span:>16}{100 * row.top5.value:>9.2f}"
            f"{row.ms.value:>9.3f}{row.p95_ms.value:>9.3f}"
        )
    chosen = evaluation.policy
    answered = ", ".join(f"{n} {100 * s:.1f}%" for n, s in chosen.shares.items())
    lines.append(f"answered by: {answered}; abstained {100 * chosen.abstained:.1f}%")
    if chosen.abstained:
        lines.append(_coverage(chosen))
    lines.append(f"policy minus random mix at equal cost: {_points(evaluation.over_mix)}")
    if evaluation.over_reference is not None:
        lines.append(
            f"policy minus always {evaluation.reference}: {_points(evaluation.over_reference)}"
        )
    return "\n".join(lines)


def _coverage(row: Row) -> str:
    """How many images get an answer, and how many of those answers are right."""
    if row.answered is None:
        return "no image gets an answer"
    own = row.answered
    return (
        f"{100 * (1 - row.abstained):.1f}% of the images get an answer, and of these answers "
        f"{100 * own.value:.2f}% are right (95% interval {100 * own.low:.1f} to "
        f"{100 * own.high:.1f}); elsewhere a best guess counts where there is one"
    )


def _points(e: Estimate) -> str:
    return (
        f"{100 * e.value:+.2f} points of top-1 "
        f"(95% interval {100 * e.low:+.2f} to {100 * e.high:+.2f})"
    )
