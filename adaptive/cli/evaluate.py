"""`adaptive evaluate`: what a bundle's policy does on an outcome table's images."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from adaptive.bundle import Bundle
from adaptive.errors import InputError
from adaptive.evaluation import evaluate, text_table
from adaptive.files import refuse_existing, refuse_folder, write_json
from adaptive.parts import PARTS, Split
from adaptive.policy.base import Policy
from adaptive.policy.files import read_policy
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.premodel import ByPremodel
from adaptive.table import OutcomeTable, table_hash


@click.command(name="evaluate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("table", metavar="X.csv", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    help="A policy file, fixed:NAME, random, or premodel, in place of the bundle's policy.",
)
@click.option("--live", is_flag=True, help="Run the networks too, and compare with the replay.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the table's images.")
@click.option(
    "--part",
    type=click.Choice([*PARTS, "all"]),
    help="Which images of the table; default the test part where the bundle's premodel or "
    "certificate was made from this table, else all.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the table's first so many images.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write JSON.")
@click.option("--force", is_flag=True, help="Replace an existing JSON file.")
def command(
    bundle: Path,
    table: Path,
    policy: str | None,
    live: bool,
    images: Path | None,
    part: str | None,
    limit: int | None,
    json_path: Path | None,
    force: bool,
) -> None:
    """Replay BUNDLE's policy over the outcome table X.csv, beside every baseline.

    The baselines: each candidate for all images, the random mix at the same mean cost, and the
    oracle that knows the fastest candidate that is right. Intervals are 95%, over images.
    """
    if json_path is not None:
        refuse_existing(json_path, force)
        refuse_folder(json_path)
    if live and images is None:
        raise InputError("--live needs --images, the folder that the table's images lie in")
    read = Bundle.read(bundle)
    outcomes, part = chosen_part(OutcomeTable.read(table), table, part, read)
    click.echo(f"images: {part}")
    if limit is not None:
        import numpy as np

        outcomes = outcomes.select(np.arange(min(limit, len(outcomes))))
    chosen = policy_named(policy, read)
    from adaptive.premodel.cost import predict_ms

    charged = predict_ms(chosen.premodel) if chosen.premodel is not None else 0.0
    result = evaluate(chosen, outcomes, read.reference, charged)
    click.echo(text_table(result))
    report = {"table": table.name, "part": part, "sha256": table_hash(table), **result.to_json()}
    omitted = False
    if live and images is not None:
        from adaptive.live import compare_live

        comparison = compare_live(replace(read, policy=chosen), outcomes, images)
        click.echo(comparison.text())
        report["live"] = comparison.to_json()
        omitted = bool(comparison.unreadable)
    if json_path is not None:
        write_json(json_path, report)
    sys.exit(1 if omitted else 0)


def chosen_part(
    outcomes: OutcomeTable, path: Path, part: str | None, bundle: Bundle
) -> tuple[OutcomeTable, str]:
    """The images to evaluate on, and which part of the table they are.

    Images that the premodel or the thresholds were learned from flatter a policy, so where the
    bundle was made from this very table only those are taken that were kept for reporting.
    """
    seen = table_hash(path)
    split: Any = None
    if bundle.certificate and dict(bundle.certificate.get("hashes", {})).get("table") == seen:
        split = bundle.certificate.get("split")
    trained = {} if bundle.premodel is None else bundle.premodel.training_
    if split is None and trained.get("sha256") == seen:
        split = trained.get("split")
    if part == "all" or (part is None and split is None):
        return outcomes, "all"
    parts = Split() if split is None else Split.from_json(split)
    rows = parts.rows(outcomes.images, part or "test")
    if not len(rows):
        raise InputError(
            f"no image of {path.name} is in the {part or 'test'} part; --part all takes every one"
        )
    return outcomes.select(rows), part or "test"


def policy_named(name: str | None, bundle: Bundle) -> Policy:
    """The policy that an option names; the bundle's own when it names none."""
    if name is None:
        return bundle.policy
    if name.startswith("fixed:"):
        return Fixed((bundle.candidate(name[len("fixed:") :]).name,))
    if name == "random":
        return Random(bundle.policy.candidates)
    if name == "premodel":
        if bundle.premodel is None:
            raise InputError("the bundle holds no premodel")
        return ByPremodel(bundle.premodel.candidates, bundle.premodel)
    if Path(name).exists():
        return read_policy(Path(name), bundle.premodel)
    raise InputError(f"--policy {name!r} is neither a file nor one of fixed:NAME, random, premodel")
