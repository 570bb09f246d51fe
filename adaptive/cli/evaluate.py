"""`adaptive evaluate`: what a bundle's policy does on an outcome table's images."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

import click

from adaptive.bundle.bundle import Bundle
from adaptive.cli.engines import engine_options
from adaptive.cli.extractor import extractor_option
from adaptive.engines.choose import EngineOptions
from adaptive.errors import BundleError, InputError
from adaptive.evaluation.evaluation import evaluate, text_table
from adaptive.files import (
    Fields,
    read_json,
    refuse_existing,
    refuse_folder,
    write_json,
    written_aside,
)
from adaptive.outcomes.parts import PARTS, Split, taught_split
from adaptive.outcomes.quality import quality_words
from adaptive.outcomes.table import OutcomeTable, table_hash
from adaptive.policy.base import Policy
from adaptive.policy.files import policy_class, read_policy
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.base import Premodel
from adaptive.premodel.registry import load_premodel

if TYPE_CHECKING:
    from adaptive.box_output import BoxMerge
    from adaptive.evaluation.boxes import BoxRow
    from adaptive.outcomes.boxes import TableBoxes
    from adaptive.routing.extractors import Extractor
    from adaptive.tasks.learnt import Learnt


@click.command(name="evaluate")
@click.argument("bundle", metavar="BUNDLE|POLICY.json", type=click.Path(path_type=Path))
@click.argument("table", metavar="X.csv", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    help="A policy file, fixed:NAME, random, or premodel, in place of the bundle's policy.",
)
@click.option(
    "--premodel",
    "premodel_path",
    type=click.Path(path_type=Path),
    help="With POLICY.json: the premodel that it reads. A bundle carries its own.",
)
@click.option(
    "--certificate",
    "certificate_path",
    type=click.Path(path_type=Path),
    help="With POLICY.json: what `adaptive tune` promised of it. A bundle carries its own.",
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
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path),
    help="Also write one self-contained HTML page; with --images it shows thumbnails.",
)
@click.option("--force", is_flag=True, help="Replace an existing JSON file or page.")
@extractor_option("For --live: what computes the features of your own that the premodel reads.")
@engine_options
def command(
    bundle: Path,
    table: Path,
    policy: str | None,
    premodel_path: Path | None,
    certificate_path: Path | None,
    live: bool,
    images: Path | None,
    part: str | None,
    limit: int | None,
    json_path: Path | None,
    report_path: Path | None,
    force: bool,
    extractor: Extractor | None,
    engines: EngineOptions,
) -> None:
    """Replay BUNDLE's policy over the outcome table X.csv, beside every baseline.

    Where what answers is no network of a bundle, as in a table of your own, the policy file that
    `adaptive tune` wrote stands in the bundle's place.

    The baselines: each candidate for all images, the random mix at the same mean cost, and the
    oracle that knows the fastest candidate that is right. Intervals are 95%, over images.
    """
    for path in (json_path, report_path):
        if path is not None:
            refuse_existing(path, force)
            refuse_folder(path)
    if json_path is not None and json_path.resolve() == table.resolve().with_suffix(".json"):
        raise InputError(f"--json {json_path} would replace what belongs to {table.name}")
    if live and images is None:
        raise InputError("--live needs --images, the folder that the table's images lie in")
    if not live and engines != EngineOptions():
        raise InputError(
            "a replay runs no networks, so it takes no engine; give --live and --images too"
        )
    if extractor is not None and not live:
        raise InputError("a replay reads features from the table; --extractor goes with --live")
    if images is not None and not images.is_dir():
        raise InputError(f"{images} is no folder; --images names the one that the images lie in")
    whole = OutcomeTable.read(table)
    if bundle.is_file():
        if live:
            raise InputError(f"--live runs a bundle's networks, and {bundle} is a policy file")
        read = of_policy_file(bundle, whole, premodel_path, certificate_path)
    else:
        for option, given in (("premodel", premodel_path), ("certificate", certificate_path)):
            if given is not None:
                raise InputError(
                    f"--{option} goes with a policy file, and {bundle} is none; a bundle carries "
                    "its own"
                )
        read = Bundle.read(bundle)
    check_same_networks(read, whole)
    if live and read.task != "detect" and not whole.of_classes:
        raise InputError(
            "--live holds classes or boxes against the table's, and the quality of this one is "
            f"{quality_words(whole.quality_name)}; without --live its policy is replayed"
        )
    learnt: dict[str, Learnt] = {}
    if read.task == "detect":
        learnt = _read_as(whole, read)
        whole = _as_the_bundle_reads(whole, table, read, learnt)
        if read.merge is not None:
            from adaptive.outcomes.merged import with_merged

            whole = with_merged(whole, table, read.merge, learnt)
    chosen = policy_named(policy, read)
    outcomes, name = chosen_part(whole, table, part, read)
    click.echo(f"images: {name}")
    if limit is not None:
        import numpy as np

        outcomes = outcomes.select(np.arange(min(limit, len(outcomes))))
    from adaptive.evaluation.verdict import verdict
    from adaptive.premodel.cost import predict_ms

    premodel = chosen.premodel or read.premodel
    cautions: list[str] = []
    if premodel is not None and not set(premodel.features) <= set(outcomes.features):
        premodel = chosen.premodel
        cautions.append("The table lacks features that the premodel reads, so it is not judged.")
    charged = predict_ms(premodel) if premodel is not None else 0.0
    result = evaluate(replace(chosen), outcomes, read.reference, charged)
    click.echo(text_table(result))
    precisions: tuple[BoxRow, ...] = ()
    others = other_part(whole, table, name, read)
    if read.task == "detect":
        precisions = _precisions(chosen, outcomes, others, table, learnt, read.merge, charged)
    cascades: tuple[Policy, ...] = ()
    if premodel is not None or report_path is not None:
        from adaptive.report.cascades import best_cascades

        cascades = best_cascades(outcomes if others is None else others)
        cautions += _cautions(bool(cascades), others is None, name, table, premodel)
    if policy is None and part is None and name == "all" and chosen.always is None:
        cautions.append(
            "Nothing says which images tuned this policy. If some of these did, they "
            "flatter it; --part test leaves them out where the table was split as usual."
        )
    found = verdict(chosen, outcomes, charged, cascades, cautions, premodel)
    click.echo("\n".join(["", *found.words()]))
    report = {"table": table.name, "part": name, "sha256": table_hash(table), **result.to_json()}
    report["verdict"] = found.to_json()
    if precisions:
        report["boxes"] = [row.to_json() for row in precisions]
    report["board"] = outcomes.meta.get("board")
    omitted = False
    if live and images is not None:
        from adaptive.routing.live import compare_live

        true = None
        if read.task == "detect":
            true = _boxes_of(outcomes, table).true
        comparison = compare_live(
            replace(read, policy=chosen), outcomes, images, engines, extractor, true
        )
        click.echo(comparison.text())
        report["live"] = comparison.to_json()
        omitted = bool(comparison.unreadable)
    if report_path is not None:
        from adaptive.premodel.shares import known_shares
        from adaptive.report.content import Origin, gather
        from adaptive.report.page import page

        claim, note = promise(read, chosen)
        origin = Origin(
            bundle.resolve().name,
            table.name,
            "all images" if name == "all" else f"the {name} part",
            _command_line(click.get_current_context()),
            str(report["sha256"]),
            claim,
            note,
        )
        content = gather(
            chosen,
            outcomes,
            read.labels,
            result,
            found,
            origin,
            charged,
            cascades,
            others,
            images,
            premodel,
            known_shares(premodel, read.certificate if chosen == read.policy else None),
        )
        with written_aside(report_path) as aside:
            aside.write_text(page(content), encoding="utf-8")
        click.echo(f"wrote {report_path}")
        for unread in content.unreadable:
            click.echo(f"  cannot be read: {unread}")
        report["signals"] = content.signals.to_json()
        omitted = omitted or bool(content.unreadable)
    if json_path is not None:
        write_json(json_path, report)
    sys.exit(1 if omitted else 0)


def _precisions(
    policy: Policy,
    outcomes: OutcomeTable,
    others: OutcomeTable | None,
    path: Path,
    learnt: Mapping[str, Learnt],
    merge: BoxMerge | None,
    premodel_ms: float,
) -> tuple[BoxRow, ...]:
    """Average precisions of what boxes lie beside the table; printed."""
    from adaptive.evaluation.boxes import box_rows, text_lines
    from adaptive.outcomes.boxes import boxes_folder

    folder = boxes_folder(path)
    if not folder.is_dir():
        click.echo(f"note: without {folder.name} beside it, the table tells no average precision")
        return ()
    boxes = _boxes_of(outcomes, path)
    tuning = None if others is None else _boxes_of(others, path)
    rows = box_rows(policy, outcomes, boxes, learnt, premodel_ms, merge, tuning)
    click.echo("\n".join(["", *text_lines(rows)]))
    return rows


def _boxes_of(outcomes: OutcomeTable, path: Path) -> TableBoxes:
    """The boxes beside a table, of the images that are looked at."""
    from adaptive.outcomes.boxes import TableBoxes, boxes_folder

    boxes = TableBoxes.read(boxes_folder(path), outcomes.candidates, len(OutcomeTable.read(path)))
    return boxes if outcomes.row is None else boxes.select(outcomes.row)


def _read_as(outcomes: OutcomeTable, bundle: Bundle) -> dict[str, Learnt]:
    """By candidate, how its boxes are read: as the bundle says, else as the table does."""
    from adaptive.box_output import BoxOutput
    from adaptive.outcomes.merged import told_of
    from adaptive.tasks.learnt import Learnt

    told, learnt = told_of(outcomes), {}
    for name in outcomes.candidates:
        output = bundle.candidate(name).output if name in bundle.names else None
        own = Learnt.of(output) if isinstance(output, BoxOutput) else None
        own = told.get(name) if own is None else own
        if own is None:
            raise InputError(
                f"nothing says how the scores of {name!r} are to be read; profile again"
            )
        learnt[name] = own
    return learnt


def _as_the_bundle_reads(
    outcomes: OutcomeTable, path: Path, bundle: Bundle, learnt: Mapping[str, Learnt]
) -> OutcomeTable:
    """The table with the qualities that boxes have as the bundle reads them; told where they
    differ from the table's own."""
    from adaptive.box_output import BoxOutput
    from adaptive.outcomes.boxes import boxes_folder
    from adaptive.outcomes.merged import told_of
    from adaptive.outcomes.reread import read_otherwise, reread

    told = told_of(outcomes)
    for candidate in bundle.candidates:
        output, name = candidate.output, candidate.name
        if name in told and isinstance(output, BoxOutput) and output.shown is None:
            click.echo(
                f"note: the bundle does not say from which score on boxes of {name} are its "
                f"answer, and serves all of {output.least:g} or more; {path.name} takes those of "
                f"{told[name].shown:.3g} or more, and so do these figures. Make the bundle with "
                f"--table {path.name}"
            )
    others = read_otherwise(outcomes, learnt)
    if not others:
        return outcomes
    told_so = f"note: the bundle reads boxes of {', '.join(others)} otherwise than {path.name}"
    if not boxes_folder(path).is_dir():
        click.echo(
            f"{told_so}, and {boxes_folder(path).name} is not beside it; these figures are as the "
            "table reads them"
        )
        return outcomes
    click.echo(f"{told_so}; these figures are as the bundle reads them")
    return reread(outcomes, path, learnt, others)


def check_same_networks(bundle: Bundle, table: OutcomeTable) -> None:
    """Refuse a table that was measured with other networks of the same names."""
    for entry in table.meta.get("candidates") or []:
        if entry["name"] not in bundle.names or "sha256" not in entry:
            continue
        own = bundle.candidate(entry["name"]).sha256
        if entry["sha256"] != own:
            raise InputError(
                f"the table was measured with another {entry['name']!r}: its SHA-256 is "
                f"{entry['sha256'][:12]}…, that of the bundle's is {own[:12]}…; profile again"
            )


def chosen_part(
    outcomes: OutcomeTable, path: Path, part: str | None, bundle: Bundle
) -> tuple[OutcomeTable, str]:
    """The images to evaluate on, and which part of the table they are.

    Images that the premodel or the thresholds were learned from flatter a policy, so where the
    bundle was made from this very table only those are taken that were kept for reporting.
    """
    parts = _split(path, bundle, outcomes)
    if part == "all" or (part is None and parts is None):
        return outcomes, "all"
    rows = (parts or Split()).rows(outcomes.images, part or "test")
    if not len(rows):
        raise InputError(
            f"no image of {path.name} is in the {part or 'test'} part; --part all takes every one"
        )
    return outcomes.select(rows), part or "test"


def other_part(
    outcomes: OutcomeTable, path: Path, part: str, bundle: Bundle
) -> OutcomeTable | None:
    """The table's images that tune, where those evaluated are others; else None."""
    if part not in ("calibrate", "test"):
        return None
    parts = _split(path, bundle, outcomes) or Split()
    return outcomes.select(parts.rows(outcomes.images, "tune"))


def promise(bundle: Bundle, policy: Policy) -> tuple[str | None, str]:
    """The certificate in words, or None, and what must be said with it."""
    claim = None if bundle.certificate is None else bundle.certificate.get("claim")
    if claim is None:
        return None, ""
    if policy != bundle.policy:
        return None, (
            "The bundle's certificate speaks of the bundle's own policy, not of the one that is "
            "evaluated here."
        )
    return str(
        claim
    ), "It was tested on the calibration images, which are others than those of the test part."


def _split(path: Path, bundle: Bundle, outcomes: OutcomeTable) -> Split | None:
    """How this table was divided when the bundle was made from it, or when its own images taught
    how its boxes are read; None when they did neither."""
    seen = table_hash(path)
    split: Any = None
    if bundle.certificate and dict(bundle.certificate.get("hashes", {})).get("table") == seen:
        split = bundle.certificate.get("split")
    trained = {} if bundle.premodel is None else bundle.premodel.training_
    if split is None and trained.get("sha256") == seen:
        split = trained.get("split")
    return Split.from_json(split) if split else taught_split(outcomes.meta)


def _cautions(
    built: bool, same: bool, part: str, path: Path, premodel: Premodel | None
) -> list[str]:
    found = []
    if not built:
        found.append(
            "No cascade could be built to compare with: that takes two candidates and at least "
            "50 images to choose on."
        )
    elif same:
        found.append(
            "The cascades were chosen on the same images that they are judged on, which flatters "
            "them a little."
        )
    trained = {} if premodel is None else premodel.training_
    if part in ("all", "tune") and trained.get("sha256") == table_hash(path):
        found.append(
            "The premodel learned from some of these images, which flatters it; --part test "
            "leaves them out."
        )
    return found


def _command_line(context: click.Context) -> str:
    """The command as it could be typed again."""
    words = ["adaptive", "evaluate"]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if value is None or value is False:
            continue
        if isinstance(parameter, click.Option):
            words.append(max(parameter.opts, key=len))
        if value is not True:
            words.append(shlex.quote(str(value)))
    return " ".join(words)


def of_policy_file(
    path: Path, table: OutcomeTable, premodel: Path | None, certificate: Path | None
) -> Bundle:
    """A policy and what belongs to it, where nothing is there that could run.

    Raises
    ------
    InputError
        when the policy reads a premodel and none is given.
    """
    judge = None if premodel is None else load_premodel(premodel)
    kind = Fields(read_json(path, "policy"), path.name).get("kind", str)
    shape = policy_class(kind)
    if judge is None and shape is not None and shape.premodel_role is not None:
        raise InputError(
            f"{path} is a {kind} policy, which reads a premodel; give the one that it was tuned "
            "with as --premodel"
        )
    promised = None if certificate is None else read_json(certificate, "certificate")
    if promised is not None and not isinstance(promised, dict):
        raise BundleError(f"{certificate} is no certificate of `adaptive tune`")
    return Bundle(
        path.parent,
        (),
        (),
        read_policy(path, judge),
        premodel=judge,
        certificate=promised,
        task=str(table.meta.get("task", "classify")),
    )


def policy_named(name: str | None, bundle: Bundle) -> Policy:
    """The policy that an option names; the bundle's own when it names none."""
    if name is None:
        return bundle.policy
    if name.startswith("fixed:"):
        wanted = name[len("fixed:") :]
        return Fixed((bundle.candidate(wanted).name if bundle.candidates else wanted,))
    if name == "random":
        return Random(bundle.policy.candidates)
    if name == "premodel":
        if bundle.premodel is None:
            raise InputError("the bundle holds no premodel")
        return ByPremodel(bundle.premodel.candidates, bundle.premodel)
    if Path(name).exists():
        return read_policy(Path(name), bundle.premodel)
    raise InputError(f"--policy {name!r} is neither a file nor one of fixed:NAME, random, premodel")
