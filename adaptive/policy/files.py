"""Policies as JSON files: {"format": 1, "kind": ..., "candidates": [...], settings}."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Type, TypeVar

from adaptive.errors import BundleError, InputError
from adaptive.files import Fields, check_format, read_json, write_json
from adaptive.plugins import POLICIES as GROUP
from adaptive.plugins import add, find, names
from adaptive.policy.base import Policy
from adaptive.policy.cascade import Cascade
from adaptive.policy.exponents import Exponents
from adaptive.policy.fixed import Fixed, Random
from adaptive.policy.hybrid import Hybrid
from adaptive.policy.premodel import ByPremodel
from adaptive.premodel.base import Premodel

FORMAT = 1

Own = TypeVar("Own", bound=Type[Policy])

#: The kinds that this library brings, and those that were registered.
POLICIES: dict[str, type[Policy]] = {
    kind.kind: kind for kind in (Fixed, Random, ByPremodel, Cascade, Hybrid)
}


def register(kind: Own) -> Own:
    """Make files that name the `kind` of a class build it; for use as a decorator.

    Raises
    ------
    InputError
        when another class has that name.
    """
    add(POLICIES, kind.kind, kind, "a policy of kind")
    return kind


def policy_class(name: str) -> type[Policy] | None:
    """The class of a kind, of this library or of another installed package; None without.

    Raises
    ------
    InputError
        when the other package's class cannot be imported, or is no policy of that kind.
    """
    return find(POLICIES, GROUP, name, lambda found: getattr(found, "kind", None) == name)


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
    try:
        shape = policy_class(kind)
    except InputError as exc:
        raise BundleError(f"{where}: {exc}") from exc
    if shape is None:
        known = [*POLICIES, *names(GROUP)]
        raise BundleError(f"{where} has kind {kind!r}, which is not one of {known}")
    common: dict[str, Any] = {
        "candidates": fields.texts("candidates"),
        "upper_ms": fields.numbers("upper_ms", default=None),
        "costs_ms": fields.numbers("costs_ms", default=None),
        "costs_mj": fields.numbers("costs_mj", default=None),
        "abstain_below": fields.get("abstain_below", float, default=None),
    }
    fitted = fields.get("exponents", list, default=[])
    if shape.premodel_role is not None:
        common["premodel"] = premodel
    try:
        common["exponents"] = tuple(
            Exponents.from_json(entry, f"entry {number} of the {where}'s exponents")
            for number, entry in enumerate(fitted)
        )
        policy = shape.from_settings(fields, common)
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


def read_policy(path: Path, premodel: Premodel | None = None) -> Policy:
    """Read a policy file; see `policy_from_json`."""
    return policy_from_json(read_json(path, "policy"), premodel, str(path.name))


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy file."""
    write_json(path, policy_to_json(policy))
