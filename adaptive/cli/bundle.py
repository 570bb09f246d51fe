"""`adaptive bundle`: put candidates, premodel and policy together for a board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

import click
import numpy as np

from adaptive.box_output import BoxMerge, BoxOutput
from adaptive.bundle.bundle import Bundle, check_output, write_bundle
from adaptive.candidate import positions
from adaptive.errors import InputError
from adaptive.files import read_json
from adaptive.measuring.times import Times
from adaptive.outcomes.table import OutcomeTable, table_hash
from adaptive.policy.base import Policy
from adaptive.policy.files import read_policy
from adaptive.policy.fixed import Fixed
from adaptive.policy.premodel import ByPremodel


@click.command(name="bundle")
@click.option("--candidates", type=click.Path(path_type=Path), required=True)
@click.option("--premodel", "premodel_path", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path),
    metavar="FILE|fixed:NAME",
    help="A policy file, or fixed:NAME for one candidate alone; without it the premodel decides, "
    "or else the reference answers all.",
)
@click.option("--certificate", "certificate_path", type=click.Path(path_type=Path))
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="Outcome table whose mean times and energies go into the manifest.",
)
@click.option(
    "--times",
    "times_path",
    type=click.Path(path_type=Path),
    metavar="T.csv",
    help="Times from the board that will serve, in place of the table's.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--all-candidates", is_flag=True, help="Carry those that the policy never asks too.")
@click.option(
    "--keep-premodel",
    is_flag=True,
    help="Carry the premodel where the policy does not ask it too: explanations then show what it "
    "says. It costs nothing where nobody asks for one.",
)
@click.option(
    "--merge",
    type=click.FloatRange(0, 1),
    metavar="CHANCE",
    help="Of detectors: where several ran for an image, merge their boxes (weighted box fusion of "
    "scores as chances) and answer with those of this chance or more.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def command(
    candidates: Path,
    premodel_path: Path | None,
    policy_path: Path | None,
    certificate_path: Path | None,
    table: Path | None,
    times_path: Path | None,
    output: Path,
    all_candidates: bool,
    keep_premodel: bool,
    merge: float | None,
    force: bool,
) -> None:
    """Make a folder that `adaptive serve` and `Router.load` can use on a board.

    It carries what the policy needs and the reference; what is left out is listed, with why.
    """
    from adaptive.premodel.registry import load_premodel

    check_output(output, force)
    source = Bundle.read(candidates)
    premodel = None if premodel_path is None else load_premodel(premodel_path)
    policy: Policy
    alone = None if policy_path is None else _alone(policy_path)
    if alone is not None:
        policy = _always(source, source.candidate(alone).name)
    elif policy_path is not None:
        policy = read_policy(policy_path, premodel)
    elif premodel is not None:
        policy = ByPremodel(premodel.candidates, premodel)
    else:
        policy = _always(source, source.reference or source.names[-1])
    if keep_premodel and premodel is None:
        raise InputError("--keep-premodel keeps the one that --premodel names; give that too")
    if certificate_path is not None and (policy_path is None or alone is not None):
        raise InputError("--certificate speaks of a policy; give that with --policy, as a file")
    certificate = (
        None if certificate_path is None else read_json(certificate_path, "the certificate")
    )
    if certificate is not None and source.reference is None:
        # What was promised is a distance from it, and audits compare with it.
        told = certificate.get("reference")
        if told in source.names:
            source = replace(source, reference=told)
    times, through_times, energies, board = None, None, None, None
    outcomes = None if table is None else OutcomeTable.read(table)
    taught = outcomes
    if times_path is not None:
        outcomes = Times.read(times_path).table
    if outcomes is not None:
        times = {name: float(np.mean(outcomes.of(name).ms)) for name in outcomes.candidates}
        through_times = {
            name: float(np.mean(o.through))
            for name, o in outcomes.outcomes.items()
            if o.through is not None
        }
        energies = {
            name: float(np.mean(o.mj)) for name, o in outcomes.outcomes.items() if o.mj is not None
        }
        board = outcomes.meta.get("board")
    if source.task == "detect":
        if certificate is not None and table is not None:
            _check_taught(certificate, table)
        source = with_learnt(source, taught, policy)
        unread = _unread(source, policy)
        if certificate is not None and unread:
            raise InputError(
                "the certificate speaks of boxes as the outcome table taught to read them, and "
                f"nothing says it of {list(unread)}; name the table that was tuned on with --table"
            )
    if merge is not None and source.task != "detect":
        raise InputError("--merge is for detectors, and these candidates classify")
    source = replace(source, merge=_merge_of(certificate, policy, merge, source.merge))
    names = None
    positions(policy.candidates, source.names, f"the candidates of {candidates}")
    if not all_candidates:
        kept = {*policy.candidates, *([source.reference] if source.reference else [])}
        after = {c.name: c.after for c in source.candidates}
        for name in list(kept):
            while (name := after[name]) is not None:  # type: ignore[assignment]
                kept.add(name)
        names = sorted(kept)
    shown = premodel if keep_premodel else None
    write_bundle(
        output,
        source,
        policy,
        certificate,
        times,
        board,
        names,
        force,
        through_times,
        energies,
        shown,
    )
    size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
    asked = ", ".join(policy.candidates)
    click.echo(f"{output}: {policy.kind} policy over {asked}, {size:,} bytes")
    asked_for = None if keep_premodel else premodel_path
    for line in left_out(source, policy, asked_for, names, certificate_path):
        click.echo(f"left out: {line}")
    if outcomes is not None:
        carried = source.names if names is None else names
        untimed = [name for name in carried if name not in outcomes.candidates]
        if untimed:
            click.echo(f"note: {times_path or table} has no times of {', '.join(untimed)}")
    for name, least in _unread(source, policy).items():
        click.echo(
            f"note: nothing says from which score on boxes of {name} are its answer, so all of "
            f"{least:g} or more are; --table X.csv, of a profile, says what is best"
        )
    own = () if policy.premodel is None else policy.premodel.own_features
    if own and policy.needs_features:
        click.echo(
            f"note: the premodel reads columns of your own ({', '.join(own)}); Router.load needs "
            "an extractor that computes them; serve, classify and detect have --extractor"
        )


def _always(source: Bundle, name: str) -> Policy:
    """One candidate for every image; where that is on another server, one from here stands by."""
    here = [c.name for c in source.candidates if c.remote is None]
    if name in here or not here:
        return Fixed((name,))
    return Fixed((name, source.reference if source.reference in here else here[-1]))


def _check_taught(certificate: Mapping[str, Any], table: Path) -> None:
    """Refuse boxes that are read as another table taught than the one a promise was made from."""
    promised = dict(certificate.get("hashes") or {}).get("table")
    if promised is not None and promised != table_hash(table):
        raise InputError(
            f"the certificate was not made from {table}, and boxes are read as the table taught "
            "that was tuned on; name that one with --table, and a board's times with --times"
        )


def _unread(source: Bundle, policy: Policy) -> dict[str, float]:
    """The detectors that a policy asks, and of which nothing says which boxes are the answer; and
    from which score on they are then."""
    return {
        c.name: c.output.least
        for c in source.candidates
        if c.name in policy.candidates
        and isinstance(c.output, BoxOutput)
        and c.output.shown is None
    }


def _merge_of(
    certificate: Mapping[str, Any] | None,
    policy: Policy,
    asked: float | None,
    known: BoxMerge | None,
) -> BoxMerge | None:
    """How boxes are merged: as was asked, and never otherwise than a promise speaks of.

    known : what the manifest says already; it gives way to both

    Raises
    ------
    InputError
        when the promise is of other answers.
    """
    if certificate is None or len(policy.candidates) < 2:
        return known if asked is None else BoxMerge(asked)
    promised = certificate.get("merge")
    if asked is not None and asked != promised:
        told = "not merged" if promised is None else f"merged at {promised:g}"
        raise InputError(
            f"the certificate speaks of boxes that are {told}, and --merge is {asked:g}; tune with "
            f"--merge {asked:g} too"
        )
    return None if promised is None else BoxMerge(promised)


def _alone(policy: Path) -> str | None:
    """The candidate that `fixed:NAME` names, or None where it is a file."""
    kind, colon, name = str(policy).partition(":")
    return name if kind == "fixed" and colon and not policy.exists() else None


def with_learnt(source: Bundle, table: OutcomeTable | None, policy: Policy) -> Bundle:
    """Detectors whose entries say what an outcome table taught of their boxes.

    Raises
    ------
    InputError
        when a policy goes by how sure boxes are, and nothing says it.
    """
    from adaptive.outcomes.merged import told_of

    learnt = {} if table is None else told_of(table)
    candidates = []
    for candidate in source.candidates:
        output = candidate.output
        if isinstance(output, BoxOutput) and candidate.name in learnt:
            output = learnt[candidate.name].output(output)
        candidates.append(replace(candidate, output=output))
    untold = [
        c.name
        for c in candidates
        if c.name in policy.candidates
        and isinstance(c.output, BoxOutput)
        and c.output.sureness is None
    ]
    if untold and len(policy.candidates) > 1:
        raise InputError(
            f"the policy goes by how sure boxes are, and nothing says it of {untold}; name the "
            "outcome table that it was tuned on with --table, and times with `adaptive profile "
            "--latency-only`"
        )
    return replace(source, candidates=tuple(candidates))


def left_out(
    source: Bundle,
    policy: Policy,
    premodel: Path | None,
    carried: Sequence[str] | None,
    certificate: Path | None,
) -> list[str]:
    """What was handed over and is not in the bundle, and why.

    Parameters
    ----------
    source : the folder of candidates, which may be a bundle itself
    policy : what the bundle serves
    premodel, certificate : as they were named on the command line
    carried : names of the candidates in the bundle; None means all
    """
    found = []
    if premodel is not None and policy.premodel is None:
        found.append(f"the premodel {premodel}: a {policy.kind} policy does not ask it")
    elif premodel is None and source.premodel is not None:
        found.append(f"the premodel in {source.folder}: name it with --premodel to carry it")
    if certificate is None and source.certificate is not None:
        found.append(
            f"the certificate in {source.folder}: it speaks of another bundle; name one with "
            "--certificate"
        )
    unasked = [] if carried is None else [name for name in source.names if name not in carried]
    if unasked:
        them, they = ("it", "it is") if len(unasked) == 1 else ("them", "they are")
        found.append(
            f"{', '.join(unasked)}: the policy never asks {them} and {they} not the reference; "
            f"--all-candidates carries {them}"
        )
    return found
