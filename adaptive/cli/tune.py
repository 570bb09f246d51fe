"""`adaptive tune`: the policy that serves a stated objective, and what can be promised of it."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import click

from adaptive.errors import InputError
from adaptive.files import refuse_existing, sha256, write_json, written_aside
from adaptive.jetson.board import board_profile
from adaptive.jetson.mode import check_modes
from adaptive.measuring.times import Times, with_times
from adaptive.outcomes.parts import Split, digest, taught_split
from adaptive.outcomes.quality import quality_words
from adaptive.outcomes.table import OutcomeTable, table_hash
from adaptive.policy.files import write_policy

if TYPE_CHECKING:
    from adaptive.tuning.hypotheses import Tuned


@click.command(name="tune")
@click.argument("table", type=click.Path(path_type=Path), metavar="X.csv")
@click.option("--premodel", "premodel_path", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option(
    "--max-accuracy-drop",
    "max_accuracy_drops",
    metavar="DROP[,DROP...]",
    callback=lambda _context, _option, text: None if text is None else _drops(text),
    help="The cheapest policy promised to be at most this far below the reference; 0.01 is one "
    "point of top-1. Several are tested as one family, so that their promises hold together; "
    "the smallest that is certified is taken.",
)
@click.option(
    "--take", type=float, metavar="DROP", help="Of several drops, the one to take instead."
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the promise.")
@click.option("--budget-ms", type=float, help="The most accurate policy within this mean time.")
@click.option(
    "--deadline-ms",
    type=float,
    help="The most accurate policy with which 99% of new images end within this time, decoding "
    "included; with --budget-ms also within that mean.",
)
@click.option("--budget-mj", type=float, help="The most accurate policy within this mean energy.")
@click.option(
    "--abstain-below",
    type=float,
    metavar="SCORE",
    help="Give no answer where its score is below this, 0 to 1; a person looks there.",
)
@click.option(
    "--kind",
    type=click.Choice(["fixed", "premodel", "cascade", "hybrid"]),
    help="Only policies of this kind; default whichever is best.",
)
@click.option(
    "--reference",
    help="What a drop is measured against; default the most accurate, or whom answers agree with.",
)
@click.option(
    "--bound",
    type=click.Choice(["betting", "exact", "score"]),
    help="Default exact, or betting where quality lies between 0 and 1 too, which the others are "
    "not for. betting and exact hold for every number of images, exact only where they are drawn "
    "independently, with far fewer of them; score (Tango 1998) is asymptotic.",
)
@click.option(
    "--calibrate",
    "calibration_path",
    type=click.Path(path_type=Path),
    help="An outcome table of other images to test the promise on; X.csv then only tunes.",
)
@click.option(
    "--merge",
    type=click.FloatRange(0, 1),
    metavar="CHANCE",
    help="Of detectors: where several ran for an image, the answer is their boxes merged, of this "
    "chance or more, as `adaptive bundle --merge` serves it.",
)
@click.option("--split", help="Shares that tune, calibrate and test; default the premodel's.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--certificate", "certificate_path", type=click.Path(path_type=Path))
@click.option(
    "--times",
    "times_path",
    type=click.Path(path_type=Path),
    metavar="T.csv",
    help="Times from the board that will serve (adaptive profile --latency-only -o T.csv), in "
    "place of the tables' own.",
)
@click.option(
    "--any-power-mode",
    is_flag=True,
    help="Take times even where they come from different power modes, or from another one than "
    "this board is in.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
def command(
    table: Path,
    premodel_path: Path | None,
    output: Path,
    max_accuracy_drops: tuple[float, ...] | None,
    take: float | None,
    confidence: float,
    budget_ms: float | None,
    deadline_ms: float | None,
    budget_mj: float | None,
    abstain_below: float | None,
    kind: str | None,
    reference: str | None,
    bound: str | None,
    calibration_path: Path | None,
    merge: float | None,
    split: str | None,
    seed: int,
    certificate_path: Path | None,
    times_path: Path | None,
    any_power_mode: bool,
    force: bool,
) -> None:
    """Search policies over the outcome table X.csv for one objective.

    Premodel and thresholds see only the tuning part of the images, a promise is tested on the
    calibration part, and the test part is left for `adaptive evaluate`. When nothing can be
    promised, it says why and about how many more images would be needed, writes nothing but the
    note of its look (X.looks.json), and ends with exit code 1.
    """
    from adaptive.premodel.cost import predict_ms
    from adaptive.premodel.registry import load_premodel
    from adaptive.tuning.objectives import Tuner

    budgets = [v for v in (budget_ms, budget_mj) if v is not None]
    asked = len(budgets) + (max_accuracy_drops is not None)
    if asked + (deadline_ms is not None and budget_ms is None) != 1:
        raise InputError(
            "give one of --max-accuracy-drop, --budget-ms, --deadline-ms (which may go with "
            "--budget-ms) and --budget-mj"
        )
    if take is not None and max_accuracy_drops is None:
        raise InputError("--take chooses one of the drops that --max-accuracy-drop names")
    for value in (budget_ms, budget_mj, deadline_ms):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"a budget or deadline of {value:g} is not a finite number above 0")
    if not 0 < confidence < 1:
        raise InputError(
            f"--confidence {confidence:g} is not above 0 and below 1; 0.95 is the usual, 0.99 asks "
            "for more images"
        )
    if abstain_below is not None and not 0 <= abstain_below <= 1:
        raise InputError(f"--abstain-below {abstain_below:g} is not between 0 and 1")
    if certificate_path is None:
        certificate_path = output.with_name("certificate.json")
    refuse_existing(output, force)
    if max_accuracy_drops is not None:
        refuse_existing(certificate_path, force)
    outcomes = OutcomeTable.read(table)
    premodel = None if premodel_path is None else load_premodel(premodel_path)
    trained: dict[str, Any] = {} if premodel is None else dict(premodel.training_)
    parts = Split.parse(split, seed) if split else None
    own: Split | None = None
    if trained.get("split"):
        # Only the parts that the premodel was trained with keep calibration apart from it.
        own = Split.from_json(trained["split"])
        if parts is not None and parts != own:
            raise InputError(
                f"--split {split} is not the split that the premodel was trained with, "
                f"{own.to_json()}; leave it out, or train again with it"
            )
        parts = own
    calibration = None if calibration_path is None else OutcomeTable.read(calibration_path)
    if calibration is not None:
        if trained.get("sha256") == table_hash(calibration_path):  # type: ignore[arg-type]
            raise InputError(
                f"the premodel was trained on {calibration_path}; a promise needs other images"
            )
        if taught_split(calibration.meta) is not None:
            raise InputError(
                f"{calibration_path} tells what boxes are worth as its own images taught to read "
                "them; profile those with a bundle made with --table, which says how"
            )
        parts = Split(1.0, 0.0, 0.0, seed)
    elif (taught := taught_split(outcomes.meta)) is not None:
        parts = taught if parts is None else parts
        if parts != taught and max_accuracy_drops is not None:
            raise InputError(
                f"the split {parts.to_json()} is not that of {table}, whose tuning part taught how "
                f"boxes are read, {taught.to_json()}; a promise needs other images, so leave "
                "--split out, or profile again with it"
            )
    if times_path is not None:
        times = Times.read(times_path)
        outcomes = with_times(outcomes, times, times_path.name)
        if calibration is not None:
            calibration = with_times(calibration, times, times_path.name)
    if merge is not None:
        from adaptive.box_output import BoxMerge
        from adaptive.outcomes.merged import told_of, with_merged

        if outcomes.meta.get("task") != "detect":
            raise InputError(f"--merge is for detectors, and {table} tells nothing of boxes")
        known = told_of(outcomes)  # boxes of other images are read as these have taught
        outcomes = with_merged(outcomes, table, BoxMerge(merge), known)
        if calibration is not None and calibration_path is not None:
            calibration = with_merged(calibration, calibration_path, BoxMerge(merge), known)
    if not any_power_mode:
        measured = [(str(times_path or table), outcomes.meta.get("board"))]
        if calibration is not None:
            measured.append((str(times_path or calibration_path), calibration.meta.get("board")))
        check_modes(measured, board_profile())
    # A premodel from these very images must be cross-fitted on them; one from others judges
    # them as it judges any.
    learned_here = trained.get("sha256") == table_hash(table) or trained.get("images") in (
        digest(outcomes.images),
        digest([outcomes.images[r] for r in (own or Split()).rows(outcomes.images, "tune")]),
    )
    tuner = Tuner(
        outcomes,
        parts,
        calibration,
        premodel,
        learned_here,
        reference,
        "mj" if budget_mj is not None else "ms",
        predict_ms(premodel) if premodel is not None else 0.0,
        seed,
        kind,
    )
    if kind in ("hybrid", "premodel") and premodel is None:
        raise InputError(f"a {kind} policy needs --premodel")
    click.echo(
        f"{len(tuner.tune)} images tune, {len(tuner.calibration)} calibrate; reference "
        f"{tuner.reference}"
    )
    if max_accuracy_drops is not None:
        bound = bound or tuner.default_bound
        tuned = tuner.certified(max_accuracy_drops, 1 - confidence, bound, take)
    elif deadline_ms is not None:
        tuned = tuner.by_deadline(deadline_ms, budget_ms or math.inf)
    else:
        tuned = tuner.within(budgets[0])
    if tuned.policy is not None and abstain_below is not None:
        tuned = tuner.abstaining(tuned, abstain_below)
    if tuned.choice is not None:
        words = quality_words(tuner.tune.quality_name)
        for family, value in tuned.choice.families.items():
            click.echo(f"  {family:20} {100 * value:6.2f} % {words}, cross-validated")
    click.echo(tuned.reason)
    if max_accuracy_drops is not None:
        question = {
            "drops": sorted(max_accuracy_drops),
            "delta": 1 - confidence,
            "bound": bound,
            "kind": kind,
            "reference": tuner.reference,
            "seed": seed,
            "split": tuner.split.to_json(),
            "tables": [table_hash(p) for p in (table, calibration_path, times_path) if p],
            "premodel": {} if premodel_path is None else _hashes(premodel_path),
            **({} if merge is None else {"merge": merge}),
        }
        tuned = _looked(calibration_path or table, tuner.calibration.images, question, tuned)
    if tuned.policy is None:
        sys.exit(1)
    # Both or neither: a policy without the promise that was asked for would look like one with it.
    with written_aside(output) as aside:
        write_policy(tuned.policy, aside)
        if tuned.certificate is not None:
            content = {
                **tuned.certificate.to_json(),
                "split": tuner.split.to_json(),
                "hashes": {"table": table_hash(table)},
                "details": dict(tuned.details),
                **({} if merge is None else {"merge": merge}),
            }
            write_json(certificate_path, content)
    click.echo(f"wrote {output}: {tuned.policy.words()}")
    if merge is not None and len(tuned.policy.candidates) > 1:
        click.echo(
            f"it was chosen for merged boxes: serve it so with adaptive bundle --merge {merge:g}"
        )
    if tuned.certificate is not None:
        click.echo(f"wrote {certificate_path}: {tuned.certificate.words()}")


def _drops(text: str) -> tuple[float, ...]:
    """The accuracy drops that an option names."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--max-accuracy-drop {text!r} is neither a number nor several like 0.01,0.02"
        ) from None


def _looked(table: Path, images: Sequence[str], question: Mapping[str, Any], tuned: Tuned) -> Tuned:
    """Note this look at the calibration images; with earlier ones a promise is less certain."""
    from adaptive.tuning.looks import Look, earlier_looks, looks_words, note_look, read_looks

    drops, delta = question["drops"], question["delta"]
    came = "infeasible" if tuned.certificate is None else f"{tuned.certificate.epsilon:g} certified"
    words = f"{', '.join(f'{d:g}' for d in drops)} at {100 * (1 - delta):.6g}%: {came}"
    now = Look.of(images, question, delta, words)
    try:
        looks = read_looks(table)
        note_look(table, looks, now)
    except InputError as exc:
        click.echo(f"{exc}; other looks at these calibration images are not known, or not noted")
        return tuned
    earlier = earlier_looks(looks, images, now)
    if not earlier:
        return tuned
    click.echo(looks_words(earlier, now))
    if tuned.certificate is None:
        return tuned
    spent = sum(look.delta for look in earlier)
    return replace(tuned, certificate=replace(tuned.certificate, earlier=spent))


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
