"""`adaptive replay`: another policy on the audited requests of a decision log."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adaptive.bundle.bundle import Bundle
from adaptive.errors import InputError
from adaptive.files import refuse_existing, refuse_folder, write_json
from adaptive.monitoring.conditions import conditions_in_log
from adaptive.monitoring.counterfactual import counterfactual
from adaptive.monitoring.logged import Logged
from adaptive.policy.base import Policy
from adaptive.policy.files import read_policy
from adaptive.policy.fixed import Fixed


@click.command(name="replay")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    required=True,
    help="A policy file, or fixed:NAME; with --bundle also random, premodel, and bundle.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="The bundle that was served: gives the premodel, and which decisions are meant.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write JSON.")
@click.option("--force", is_flag=True, help="Replace an existing JSON file.")
def command(
    log: Path, policy: str, bundle: Path | None, json_path: Path | None, force: bool
) -> None:
    """Ask what another policy would have done with the requests of a decision LOG.

    Where the --bundle says how common each condition was among its images, it is told first
    whether the logged ones were taken under others. For the rest, only audited requests are used,
    since only there the outcomes do not depend on the route that was taken; LOG.1, LOG.2 and so on
    are read too. Agreement is with the reference's answers: a log holds no labels. Exit code 1
    when rows or lines had to be left out, which are then listed.
    """
    if json_path is not None:
        refuse_existing(json_path, force)
        refuse_folder(json_path)
    served = None if bundle is None else Bundle.read(bundle)
    chosen = _policy(policy, served)
    charged = 0.0
    if chosen.premodel is not None:
        from adaptive.premodel.cost import predict_ms

        charged = predict_ms(chosen.premodel)
    watched = None if served is None else conditions_in_log(log, served)
    if watched is not None:  # also of decisions that nobody audited
        click.echo(f"conditions: {watched.words()}")
    result = counterfactual(chosen, Logged.read(log, served), charged)
    click.echo(result.text())
    if served is not None and served.merge is not None and len(chosen.candidates) > 1:
        click.echo(
            "note: the bundle merges the boxes of all that ran, and a log tells of each alone: "
            "what the policy would have answered is valued by the boxes of the last"
        )
    if json_path is not None:
        told = {"log": log.name, "policy": policy, **result.to_json()}
        told["conditions"] = None if watched is None else watched.status()
        write_json(json_path, told)
    sys.exit(0 if result.complete and not result.logged.unreadable else 1)


def _policy(name: str, bundle: Bundle | None) -> Policy:
    if bundle is not None:
        from adaptive.cli.evaluate import policy_named

        return bundle.policy if name == "bundle" else policy_named(name, bundle)
    if name.startswith("fixed:"):
        return Fixed((name[len("fixed:") :],))
    if not Path(name).is_file():
        raise InputError(
            f"--policy {name!r} is neither a file nor fixed:NAME; others need --bundle"
        )
    try:
        return read_policy(Path(name))
    except InputError as exc:
        if "needs a premodel" in str(exc):
            raise InputError(f"{exc}: give the --bundle that was served") from exc
        raise
