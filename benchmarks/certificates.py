"""Do certificates hold, and how often are they given? `python benchmarks/certificates.py`.

Three parts, each of which can be left out:

* counts: losses and gains of known probabilities, drawn with replacement; how often each bound
  certifies a drop that is not below epsilon (violations: the boundary is the worst case), and
  how often one that is (power). Two bounds that the library does not offer stand beside its own
  as negative controls: Wald's, which promises too much, and Clopper and Pearson's on the losses
  alone, which promises hardly anything.
* tuner: the whole procedure (ladder of policies, order by the tuning images, fixed sequence,
  cheapest certified) on tables drawn with replacement from populations whose truth is known.
* table: with --table X.csv, how often the policies at 2.3, 2.6 and 2.9 times less time than the
  reference are certified on a real outcome table, resplit many times.

A violation rate may lie above delta by chance; beside each stands the 99.9% binomial quantile
that it must not exceed.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from adaptive.errors import InputError
from adaptive.evaluation.replay import replay
from adaptive.outcomes.table import Outcomes, OutcomeTable
from adaptive.tuning.certificate import P_VALUES, Counts
from adaptive.tuning.objectives import Tuner

DROPS = (0.0, 0.005, 0.01, 0.02, 0.05)
DISCORDANCES = (0.02, 0.05, 0.1, 0.2, 0.3)
IMAGES = (100, 200, 500, 1000, 2000, 5000)
#: True drops below epsilon for the power table.
MARGINS = (0.005, 0.01, 0.02)
SPEEDS = (2.3, 2.6, 2.9)


def wald(counts: Counts, epsilon: float) -> float:
    """The normal test with the observed variance: too bold when few images are discordant."""
    n, share = counts.images, (counts.losses + counts.gains) / counts.images
    variance = (share - counts.drop**2) / n
    if variance == 0:
        return float(counts.drop >= epsilon)
    return 0.5 * math.erfc((epsilon - counts.drop) / math.sqrt(2 * variance))


def clopper_pearson_losses(counts: Counts, epsilon: float) -> float:
    """P(at most so many losses) when P(loss) = epsilon: valid, but blind to the gains."""
    if epsilon <= 0:
        return 1.0
    return binomial_tail(counts.images, epsilon, counts.losses)


CONTROLS: dict[str, Callable[[Counts, float], float]] = {
    "NOT OFFERED wald": wald,
    "NOT OFFERED clopper-pearson": clopper_pearson_losses,
}
TESTS = {**P_VALUES, **CONTROLS}


def binomial_tail(n: int, p: float, most: int) -> float:
    """P(at most `most` of n)."""
    return float(_binomial(n, p)[: most + 1].sum())


def binomial_quantile(n: int, p: float, level: float = 0.999) -> int:
    """The smallest count that a binomial exceeds with probability at most 1 - level."""
    return int(np.searchsorted(np.cumsum(_binomial(n, p)), level))


@functools.lru_cache(maxsize=64)
def _binomial(n: int, p: float) -> np.ndarray:
    k = np.arange(n + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    logs = factorial[n] - factorial[k] - factorial[n - k]
    return np.asarray(np.exp(logs + k * math.log(p) + (n - k) * math.log1p(-p)))


def certified_rates(
    images: int,
    discordance: float,
    drop: float,
    epsilon: float,
    delta: float,
    draws: int,
    seed: int,
    tests: dict[str, Callable[[Counts, float], float]] = TESTS,
) -> dict[str, int]:
    """How many of `draws` calibration sets each bound certifies."""
    loss, gain = (discordance + drop) / 2, (discordance - drop) / 2
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(images, [loss, gain, 1 - loss - gain], draws)[:, :2]
    different, often = np.unique(drawn, axis=0, return_counts=True)
    found = dict.fromkeys(tests, 0)
    for (losses, gains), count in zip(different.tolist(), often.tolist()):
        # No bound certifies a drop that the images do not show.
        if losses - gains >= epsilon * images:
            continue
        for name, test in tests.items():
            if test(Counts(images, losses, gains), epsilon) <= delta:
                found[name] += count
    return found


def count_settings() -> Iterator[tuple[int, float, float, float]]:
    """(images, discordance, true drop, epsilon): first on the boundary, then below it."""
    for margin in (0.0, *MARGINS):
        for epsilon in DROPS:
            for discordance in DISCORDANCES:
                if discordance < max(epsilon, abs(epsilon - margin)):
                    continue
                for images in IMAGES:
                    yield images, discordance, epsilon - margin, epsilon


def counts_part(draws: int, delta: float, seed: int, every: int) -> list[dict[str, Any]]:
    """Violation rates on the boundary and power below it."""
    rows = []
    settings = list(count_settings())[::every]
    for number, (images, discordance, drop, epsilon) in enumerate(settings):
        progress("counts", number, len(settings))
        found = certified_rates(images, discordance, drop, epsilon, delta, draws, seed + number)
        rows.append(
            {
                "images": images,
                "discordance": discordance,
                "true_drop": drop,
                "epsilon": epsilon,
                "violation": drop >= epsilon,
                "rates": {name: count / draws for name, count in found.items()},
            }
        )
    return rows


def population(kind: str, size: int, seed: int = 0) -> OutcomeTable:
    """A table that stands for all images.

    kind : "uninformative" confidences, so that a cascade's drop falls in proportion to the
        share that goes on; "informative" ones; "boundary", where the cheap candidate is worse
        than the reference by exactly one point; "averaging", with probabilities of 8 classes
    """
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 8, size)
    outcomes, probabilities = {}, {}
    hard = generator.normal(0, 1, size)
    for name, skill, ms in (("small", 0.62, 1.0), ("medium", 0.75, 3.0), ("large", 1.0, 8.0)):
        if kind == "boundary":
            if name == "medium":
                continue
            # Exactly one point of the images between them, scattered with many gains.
            right = np.zeros(size, bool)
            right[: round(size * (0.7 if name == "small" else 0.71))] = True
            right = right[generator.permutation(size)]
            confidence = generator.uniform(0.2, 1, size)
        elif kind == "averaging":
            signal = np.zeros((size, 8))
            signal[np.arange(size), label] = 2.2 * skill - 0.9 * hard
            logits = signal + generator.normal(0, 1, (size, 8))
            values = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            probabilities[name] = values.astype(np.float16)
            right = probabilities[name].argmax(axis=1) == label
            confidence = probabilities[name].max(axis=1).astype(np.float64)
        else:
            clear = 1.2 * skill - 0.6 * hard + generator.normal(0, 0.6, size)
            right = clear > 0
            blind = generator.normal(0, 1, size)
            confidence = 1 / (1 + np.exp(-(np.abs(clear) if kind == "informative" else blind)))
        # A network's time varies a little.
        times = ms * generator.uniform(0.95, 1.05, size)
        outcomes[name] = Outcomes(right, right, confidence, times)
    nothing = np.zeros(size)
    return OutcomeTable(
        tuple(f"{row}.jpg" for row in range(size)),
        label,
        (),
        np.zeros((size, 0)),
        outcomes,
        nothing,
        nothing,
        probabilities,
    )


def drawn(table: OutcomeTable, count: int, generator: np.random.Generator) -> OutcomeTable:
    """Images drawn with replacement, each under a name of its own."""
    chosen = table.select(generator.integers(0, len(table), count))
    names = tuple(f"{generator.integers(2**62)}-{row}.jpg" for row in range(count))
    return replace(chosen, images=names)


#: population, reference, epsilon
POPULATIONS = (
    ("uninformative", "large", 0.02),
    ("informative", "large", 0.01),
    ("informative", "medium", 0.0),
    ("boundary", "large", 0.01),
    ("averaging", "large", 0.01),
)


def violations_of_the_tuner(
    kind: str,
    reference: str,
    epsilon: float,
    delta: float,
    bound: str,
    draws: int,
    seed: int,
    tune: int = 150,
    calibrate: int = 400,
    size: int = 20_000,
) -> dict[str, Any]:
    """How often the policy that was certified is in truth further below the reference."""
    whole = population(kind, size)
    best = whole.quality(reference)
    generator = np.random.default_rng(seed)
    wrong, given, shares = 0, 0, []
    for number in range(draws):
        progress(f"tuner, {kind}, {bound}", number, draws)
        tuner = Tuner(
            drawn(whole, tune, generator),
            calibration=drawn(whole, calibrate, generator),
            reference=reference,
        )
        tuned = tuner.certified(epsilon, delta, bound)
        if tuned.policy is None:
            continue
        given += 1
        done = replay(tuned.policy, whole)
        # The boundary itself counts as a violation: it is the closest case of the null.
        wrong += bool(np.mean(best) - np.mean(done.quality) >= epsilon - 1e-12)
        shares.append(float(done.ms.mean()) / float(whole.ms(reference).mean()))
    return {
        "population": kind,
        "reference": reference,
        "epsilon": epsilon,
        "bound": bound,
        "draws": draws,
        "certified": given / draws,
        "violations": wrong / draws,
        "limit": binomial_quantile(draws, delta) / draws,
        "cost_share": float(np.mean(shares)) if shares else None,
    }


def table_part(
    path: Path, epsilon: float, delta: float, calibrate: int, splits: int, seed: int
) -> dict[str, Any]:
    """Rates of certified and infeasible on a real table."""
    table = OutcomeTable.read(path)
    if not 0 < calibrate < len(table):
        raise InputError(f"{calibrate} calibration images of {len(table)} leave none to tune on")
    alone = {bound: dict.fromkeys(SPEEDS, 0) for bound in P_VALUES}
    whole = {bound: dict.fromkeys((0.0, *SPEEDS), 0) for bound in P_VALUES}
    generator = np.random.default_rng(seed)
    drops: dict[float, list[float]] = {speed: [] for speed in SPEEDS}
    for number in range(splits):
        progress("table", number, splits)
        order = generator.permutation(len(table))
        other = table.select(np.sort(order[:calibrate]))
        tuner = Tuner(table.select(np.sort(order[calibrate:])), calibration=other)
        most = tuner.cost[tuner.reference]
        for speed in SPEEDS:
            policy = tuner.within(most / speed).policy
            assert policy is not None
            right = replay(policy, other).quality
            counts = Counts.of(other.quality(tuner.reference), right)
            drops[speed].append(counts.drop)
            for bound, test in P_VALUES.items():
                alone[bound][speed] += test(counts, epsilon) <= delta
        for bound in P_VALUES:
            tuned = tuner.certified(epsilon, delta, bound)
            if tuned.choice is not None and tuned.policy is not None:
                for speed in whole[bound]:
                    whole[bound][speed] += most / tuned.choice.trial.cost >= speed
    return {
        "table": path.name,
        "images": len(table),
        "calibrate": calibrate,
        "splits": splits,
        "epsilon": epsilon,
        "delta": delta,
        "policy_at_speed": _rates(alone, splits),
        "ladder_at_least": _rates(whole, splits),
        "drop_on_calibration": {str(s): float(np.mean(d)) for s, d in drops.items()},
    }


def _rates(found: dict[str, dict[float, int]], splits: int) -> dict[str, dict[str, float]]:
    return {bound: {str(s): n / splits for s, n in by.items()} for bound, by in found.items()}


def print_counts(rows: list[dict[str, Any]], draws: int, delta: float) -> None:
    """The violation rates at the boundary by bound, then the power."""
    limit = binomial_quantile(draws, delta) / draws
    print(f"\nViolations at the boundary, {draws} draws; delta {delta:g}, must be <= {limit:.4f}")
    print(f"{'':30}{'mean':>9}{'highest':>9}{'above':>9}   at (images, discordance, epsilon)")
    edge = [row for row in rows if row["violation"]]
    for name in TESTS if edge else ():
        rates = [row["rates"][name] for row in edge]
        worst = edge[int(np.argmax(rates))]
        above = f"{sum(r > limit for r in rates)}/{len(rates)}"
        where = (worst["images"], worst["discordance"], worst["epsilon"])
        print(f"{name:30}{np.mean(rates):9.4f}{max(rates):9.4f}{above:>9}   {where}")
    print("\nPower: share of the draws in which a true drop below epsilon was certified")
    names = "".join(f"{name.replace('NOT OFFERED ', 'not:')[:12]:>13}" for name in TESTS)
    print(f"{'images':>7}{'discord.':>9}{'epsilon':>9}{'drop':>8}{names}")
    for row in rows:
        if not row["violation"]:
            rates_text = "".join(f"{row['rates'][name]:13.3f}" for name in TESTS)
            print(
                f"{row['images']:7}{row['discordance']:9.2f}{row['epsilon']:9.3f}"
                f"{row['true_drop']:8.3f}{rates_text}"
            )


def print_tuner(rows: list[dict[str, Any]]) -> None:
    """One line a population and bound."""
    print("\nThe whole procedure; a violation: the certified policy's true drop is epsilon or more")
    print(
        f"{'population':15}{'reference':>10}{'epsilon':>9}{'bound':>9}{'draws':>7}"
        f"{'certified':>11}{'violations':>12}{'limit':>8}{'cost':>7}"
    )
    for row in rows:
        cost = "" if row["cost_share"] is None else f"{row['cost_share']:.2f}"
        print(
            f"{row['population']:15}{row['reference']:>10}{row['epsilon']:9.3f}{row['bound']:>9}"
            f"{row['draws']:7}{row['certified']:11.3f}{row['violations']:12.4f}"
            f"{row['limit']:8.4f}{cost:>7}"
        )


def print_table(found: dict[str, Any]) -> None:
    """Rates by bound and speed."""
    print(
        f"\n{found['table']}: {found['images']} images, {found['calibrate']} calibrate, "
        f"{found['splits']} splits; a drop of at most {100 * found['epsilon']:g} points at "
        f"{100 * (1 - found['delta']):g}%"
    )
    for key, title in (
        ("policy_at_speed", "the one policy tuned for that speed is certified (else infeasible)"),
        ("ladder_at_least", "`tune` certifies something at least so fast (0.0: at all)"),
    ):
        speeds = list(next(iter(found[key].values())))
        print(f"{title}\n{'':12}" + "".join(f"{s + 'x':>9}" for s in speeds))
        for bound, rates in found[key].items():
            print(f"{bound:12}" + "".join(f"{rates[s]:9.3f}" for s in speeds))
    drops = "".join(f"{100 * d:9.2f}" for d in found["drop_on_calibration"].values())
    print(f"{'mean drop':12}{drops} points on the calibration images")


def progress(what: str, number: int, total: int) -> None:
    """One line that rewrites itself, where someone watches."""
    if sys.stderr.isatty():
        print(f"\r{what}: {number + 1}/{total}   ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Run the parts, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="for each setting (default 2000)")
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="only every such setting of counts")
    parser.add_argument("--parts", default="counts,tuner", help="default counts,tuner")
    parser.add_argument("--bounds", default=",".join(P_VALUES), help="for the tuner part")
    parser.add_argument("--table", type=Path, help="an outcome table, for the third part")
    parser.add_argument("--epsilon", type=float, default=0.01, help="for the table (default 0.01)")
    parser.add_argument("--calibrate", type=int, default=1000, help="images of the table")
    parser.add_argument("--splits", type=int, default=100, help="of the table (default 100)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    parts = [part for part in options.parts.split(",") if part]
    if min(options.draws, options.every, options.splits) < 1 or not set(parts) <= {
        "counts",
        "tuner",
    }:
        parser.error("counts must be at least 1, and --parts of 'counts' and 'tuner'")
    report: dict[str, Any] = {"draws": options.draws, "delta": options.delta}
    if "counts" in parts:
        report["counts"] = counts_part(options.draws, options.delta, options.seed, options.every)
        print_counts(report["counts"], options.draws, options.delta)
    if "tuner" in parts:
        report["tuner"] = [
            violations_of_the_tuner(*case, options.delta, bound, options.draws, options.seed)
            for bound in options.bounds.split(",")
            for case in POPULATIONS
        ]
        print_tuner(report["tuner"])
    if options.table is not None:
        report["table"] = table_part(
            options.table,
            options.epsilon,
            options.delta,
            options.calibrate,
            options.splits,
            options.seed,
        )
        print_table(report["table"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
