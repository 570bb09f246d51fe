"""What a declared policy comes to on a table: tuned on some images, held against others."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from adaptive.errors import InputError
from adaptive.evaluation.evaluation import evaluate, oracle_row, paired
from adaptive.evaluation.replay import replay
from adaptive.experiments.declared import Experiment
from adaptive.files import write_json
from adaptive.intervals import mean, quantile, random_mix
from adaptive.outcomes.parts import Split
from adaptive.outcomes.quality import mean_quality
from adaptive.outcomes.table import OutcomeTable
from adaptive.policy.base import Policy
from adaptive.policy.files import read_policy, write_policy
from adaptive.policy.fixed import Fixed
from adaptive.premodel.base import Premodel
from adaptive.premodel.cost import predict_ms
from adaptive.premodel.fit import trainer
from adaptive.premodel.mixture import FEATURES

#: Features that a premodel reads unless the file says.
DEFAULT_FEATURES = "paper7"


def baselines(table: OutcomeTable, reference: str) -> list[dict[str, Any]]:
    """Every candidate for all images, and the oracle, as lines of a report."""
    slowest = float(table.ms(reference).mean())
    lines = []
    for name in table.candidates:
        ms = table.ms(name)
        lines.append(_line(name, mean_quality(table.quality(name)).to_json(), ms, slowest))
    best = oracle_row(table)
    oracle = _line("oracle", best.quality.to_json(), np.array([best.ms.value]), slowest)
    return [*lines, {**oracle, "p95_ms": best.p95_ms.value}]


def _line(name: str, quality: Any, ms: np.ndarray, slowest: float) -> dict[str, Any]:
    spent = float(ms.mean())
    return {
        "name": name,
        "quality": quality,
        "ms": spent,
        "p95_ms": quantile(ms, 0.95).value if len(ms) > 1 else spent,
        "faster": slowest / spent,
    }


def reference_of(table: OutcomeTable) -> str:
    """What differences are taken to: the manifest's reference, else the most accurate."""
    told = table.meta.get("reference")
    if told in table.outcomes:
        return str(told)
    return max(table.candidates, key=lambda name: float(table.quality(name).mean()))


def judged_policy(
    experiment: Experiment,
    name: str,
    wanted: Mapping[str, Any],
    table: OutcomeTable,
    folder: Path,
) -> dict[str, Any]:
    """Tune a policy and hold it against the baselines on images that it was not tuned on.

    Parameters
    ----------
    wanted : of a table [[policy]], with one value each
    folder : where the policy is written, with its premodel and certificate

    Raises
    ------
    InputError
        when it cannot be tuned on this table.
    """
    folds = experiment.report.get("folds")
    seed = int(wanted.get("seed", 0))
    if folds is not None and "file" not in wanted and "fixed" not in wanted:
        return _on_folds(name, wanted, table, int(folds), seed)
    split = Split.parse(str(experiment.report.get("split", "0.5,0.3,0.2")), seed)
    test = table.select(split.rows(table.images, "test"))
    if folds is not None or not len(test):
        test = table
    reference = reference_of(table)
    told: dict[str, Any] = {"name": name, "wanted": dict(wanted), "images": len(test)}
    policy, charged, words, certificate = _made(experiment, wanted, table, split, seed)
    told["words"] = words
    if policy is None:
        return {**told, "infeasible": words}
    folder.mkdir(parents=True, exist_ok=True)
    write_policy(policy, folder / "policy.json")
    if policy.premodel is not None and not (folder / "premodel").exists():
        policy.premodel.save(folder / "premodel")
    if certificate is not None:
        write_json(folder / "certificate.json", certificate)
        told["claim"] = certificate.get("claim")
    found = evaluate(policy, test, reference, charged)
    slowest = float(test.ms(reference).mean())
    assert found.over_reference is not None
    return {
        **told,
        "kind": policy.kind,
        "policy": policy.words(),
        "quality": found.policy.quality.to_json(),
        "ms": found.policy.ms.value,
        "p95_ms": found.policy.p95_ms.value,
        "faster": slowest / found.policy.ms.value,
        "over_reference": found.over_reference.to_json(),
        "over_mix": found.over_mix.to_json(),
        "shares": found.policy.shares,
    }


def _made(
    experiment: Experiment,
    wanted: Mapping[str, Any],
    table: OutcomeTable,
    split: Split,
    seed: int,
) -> tuple[Policy | None, float, str, Mapping[str, Any] | None]:
    """A policy, what its premodel costs, why it is this one, and its certificate."""
    from adaptive.tuning.objectives import Tuner

    if "fixed" in wanted:
        table.of(wanted["fixed"])
        return Fixed((wanted["fixed"],)), 0.0, "named in the file", None
    if "file" in wanted:
        path = experiment.path(wanted["file"])
        premodel = None
        if (path.parent / "premodel").is_dir():
            from adaptive.premodel.registry import load_premodel

            premodel = load_premodel(path.parent / "premodel")
        policy = read_policy(path, premodel)
        charged = 0.0 if policy.premodel is None else predict_ms(policy.premodel)
        return policy, charged, f"read from {path.name}", None
    premodel = _premodel(wanted, table.select(split.rows(table.images, "tune")))
    charged = 0.0 if premodel is None else predict_ms(premodel)
    reference = reference_of(table)
    tuner = Tuner(
        table,
        split,
        premodel=premodel,
        reference=reference,
        cost="mj" if "budget_mj" in wanted else "ms",
        premodel_ms=charged,
        seed=seed,
        kind=wanted.get("kind"),
    )
    if "max_accuracy_drop" in wanted:
        delta = 1 - float(wanted.get("confidence", 0.95))
        drops = (float(wanted["max_accuracy_drop"]),)
        tuned = tuner.certified(drops, delta, tuner.default_bound, None)
    elif "deadline_ms" in wanted:
        tuned = tuner.by_deadline(wanted["deadline_ms"], wanted.get("budget_ms", math.inf))
    else:
        tuned = tuner.within(_budget(wanted, tuner.cost[reference]))
    certificate = None
    if tuned.certificate is not None:
        certificate = {**tuned.certificate.to_json(), "split": tuner.split.to_json()}
    return tuned.policy, charged, tuned.reason, certificate


def _budget(wanted: Mapping[str, Any], reference_cost: float) -> float:
    if "faster" in wanted:
        return reference_cost / float(wanted["faster"])
    return float(wanted.get("budget_ms", wanted.get("budget_mj", math.inf)))


def _premodel(wanted: Mapping[str, Any], tuning: OutcomeTable) -> Premodel | None:
    """A premodel that learned from the tuning images; None where none is wanted."""
    classifier = wanted.get("premodel", "none")
    if classifier == "none":
        return None
    from adaptive.features.schema import SCHEMA, resolve_names

    asked = wanted.get("features")
    if asked is not None:
        names = resolve_names(str(asked))
    elif classifier == "mixture":
        names = tuple(FEATURES)
    else:
        names = resolve_names(DEFAULT_FEATURES)
    order = tuple(sorted(tuning.candidates, key=lambda c: float(tuning.ms(c).mean())))
    outcomes = tuning.right_or_wrong(order)
    found = trainer(classifier)(
        tuning.feature_columns(names), outcomes, names, order, schema_version=SCHEMA.version
    )
    premodel: Premodel = found.premodel
    return premodel


def _on_folds(
    name: str, wanted: Mapping[str, Any], table: OutcomeTable, folds: int, seed: int
) -> dict[str, Any]:
    """Tune on all folds but one and answer that one, so that each image is answered once."""
    from adaptive.tuning.objectives import Tuner

    if "max_accuracy_drop" in wanted:
        raise InputError(
            f"policy {name} asks for a certificate, which needs a calibration part; leave folds "
            "out of [report]"
        )
    count = len(table)
    fold = np.random.default_rng(seed).permutation(count) % folds
    quality, ms = np.zeros(count), np.zeros(count)
    kinds: list[str] = []
    reference = reference_of(table)
    for part in range(folds):
        tuning, rows = table.select(fold != part), np.flatnonzero(fold == part)
        premodel = _premodel(wanted, tuning)
        charged = 0.0 if premodel is None else predict_ms(premodel)
        tuner = Tuner(
            tuning,
            Split(1.0, 0.0, 0.0),
            premodel=premodel,
            reference=reference,
            cost="mj" if "budget_mj" in wanted else "ms",
            premodel_ms=charged,
            seed=seed,
            kind=wanted.get("kind"),
        )
        if "deadline_ms" in wanted:
            tuned = tuner.by_deadline(wanted["deadline_ms"], wanted.get("budget_ms", math.inf))
        else:
            tuned = tuner.within(_budget(wanted, tuner.cost[reference]))
        if tuned.policy is None:
            return {"name": name, "wanted": dict(wanted), "images": count,
                    "infeasible": tuned.reason}  # fmt: skip
        done = replay(tuned.policy, table.select(rows), premodel_ms=charged)
        quality[rows], ms[rows] = done.quality, done.ms
        kinds.append(tuned.policy.kind)
    right = [table.quality(n).astype(float) for n in table.candidates]
    costs = [float(table.ms(n).mean()) for n in table.candidates]
    mix = random_mix(costs, [float(r.mean()) for r in right], float(ms.mean()))
    slowest = float(table.ms(reference).mean())
    most = max(set(kinds), key=kinds.count)
    return {
        "name": name,
        "wanted": dict(wanted),
        "images": count,
        "kind": most,
        "policy": f"{most} in {kinds.count(most)} of {folds} folds",
        "quality": mean(quality).to_json(),
        "ms": float(ms.mean()),
        "p95_ms": quantile(ms, 0.95).value,
        "faster": slowest / float(ms.mean()),
        "over_reference": paired(quality - table.quality(reference).astype(float)).to_json(),
        "over_mix": paired(quality - mix.apply(right)).to_json(),
    }


def judged_all(
    experiment: Experiment,
    policies: Sequence[tuple[str, Mapping[str, Any]]],
    table: OutcomeTable,
    folder: Path,
    known: Callable[[str], dict[str, Any] | None],
    keep: Callable[[str, dict[str, Any]], None],
    key_of: Callable[[str, Mapping[str, Any]], str],
) -> list[dict[str, Any]]:
    """What every policy comes to; one whose key is known is not tuned again.

    A policy that cannot be tuned is told of in its place, and the others go on.
    """
    found = []
    for name, wanted in policies:
        key = key_of(name, wanted)
        told = known(key)
        if told is None:
            try:
                told = judged_policy(experiment, name, wanted, table, folder / name)
            except InputError as error:
                found.append({"name": name, "wanted": dict(wanted), "failed": str(error)})
                continue
            keep(key, told)
        found.append(told)
    return found


def to_plain(value: object) -> Any:
    """As JSON values, without numpy's."""
    return json.loads(json.dumps(value, default=float))
