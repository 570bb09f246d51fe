"""Policies as JSON files: {"format": 1, "kind": ..., "candidates": [...], settings}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptive.errors import BundleError, InputError
from adaptive.files import Fields, check_format, read_json, write_json
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade, Hybrid
from adaptive.policy.exponents import Exponents
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.gain import Gain
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.base import Premodel

FORMAT = 1

POLICIES: dict[str, type[Policy]] = {
    kind.kind: kind for kind in (Fixed, Random, ByPremodel, Cascade, Hybrid)
}


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """The policy without its premodel, which has files of its own."""
    return {
        "format": FORMAT,
        "kind": policy.kind,
        "candidates": list(policy.candidates),
        "upper_ms": None if policy.upper_ms is None else list(policy.upper_ms),
        **{name: list(costs) for name, costs in _known_costs(policy).items()},
        **({"exponents": [e.to_json() for e in policy.exponents]} if policy.exponents else {}),
        **({} if policy.abstain_below is None else {"abstain_below": policy.abstain_below}),
        **policy.settings(),
    }


def _known_costs(policy: Policy) -> dict[str, tuple[float, ...]]:
    costs = {"costs_ms": policy.costs_ms, "costs_mj": policy.costs_mj}
    return {name: values for name, values in costs.items() if values is not None}


def policy_from_json(
    values: object, premodel: Premodel | None = None, where: str = "policy"
) -> Policy:
    """Build a policy after checking every value.

    Raises
    ------
    BundleError
        for an unknown kind or setting, a wrong type, a number that is not finite, or settings
        that do not fit together.
    """
    fields = Fields(values, where)
    check_format(fields, FORMAT)
    kind = fields.get("kind", str)
    if kind not in POLICIES:
        raise BundleError(f"{where} has kind {kind!r}, which is not one of {list(POLICIES)}")
    shape = POLICIES[kind]
    common: dict[str, Any] = {
        "candidates": fields.texts("candidates"),
        "upper_ms": fields.numbers("upper_ms", default=None),
        "costs_ms": fields.numbers("costs_ms", default=None),
        "costs_mj": fields.numbers("costs_mj", default=None),
        "abstain_below": fields.get("abstain_below", float, default=None),
    }
    fitted = fields.get("exponents", list, default=[])
    if issubclass(shape, (ByPremodel, Hybrid)):
        common["premodel"] = premodel
    try:
        common["exponents"] = tuple(
            Exponents.from_json(entry, f"entry {number} of the {where}'s exponents")
            for number, entry in enumerate(fitted)
        )
        policy = shape(**common, **_settings(shape, fields))
    except BundleError:
        raise
    except InputError as exc:
        raise BundleError(f"{where}: {exc}") from exc
    known = list(dict.fromkeys([*policy_to_json(policy), "exponents", "abstain_below"]))
    for name in fields.values:
        if name not in known:
            raise BundleError(
                f"{where} has {name!r}, which a {kind} policy has not; it has {known}"
            )
    return policy


def _settings(shape: type[Policy], fields: Fields) -> dict[str, Any]:
    if shape is Random:
        return {
            "shares": fields.numbers("shares", default=None),
            "seed": fields.get("seed", int, default=0),
        }
    if shape is ByPremodel:
        return {
            "on_abstain": fields.get("on_abstain", str, default="strongest"),
            "rule": fields.get("rule", str, default="first-yes"),
            "price": fields.get("price", float, default=0.0),
        }
    settings: dict[str, Any] = {}
    if issubclass(shape, Cascade):
        settings = {
            "thresholds": fields.numbers("thresholds"),
            "signal": fields.get("signal", str, default="top"),
            "temperatures": fields.numbers("temperatures", default=None),
            "combine": fields.get("combine", str, default=None),
            "weights": fields.numbers("weights", default=None),
            "gains": tuple(
                Gain.from_json(entry, f"gain {number} of the policy")
                for number, entry in enumerate(fields.get("gains", list, default=[]))
            ),
        }
    if issubclass(shape, Hybrid):
        settings.update(
            shift=fields.get("shift", float, default=0.0),
            start_gain=fields.get("start_gain", float, default=None),
            typical_gain=fields.numbers("typical_gain", default=None),
        )
    return settings


def read_policy(path: Path, premodel: Premodel | None = None) -> Policy:
    """Read a policy file; see `policy_from_json`."""
    return policy_from_json(read_json(path, "policy"), premodel, str(path.name))


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy file."""
    write_json(path, policy_to_json(policy))
